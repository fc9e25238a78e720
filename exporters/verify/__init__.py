"""Verify: hold every stage and every artifact against the user's own module, run by PyTorch."""
