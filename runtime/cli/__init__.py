"""`tm-run` and `tm-bench`, the commands."""
