"""Rules that put a program into the operators that XNNPACK's partitioner takes."""
