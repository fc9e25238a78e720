"""How the tiny models were trained; not in the wheel."""
