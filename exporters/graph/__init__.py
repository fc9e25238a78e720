"""Programs as graphs of operators: read, rewritten, counted; what all stages stand on."""
