"""Verify: run every artifact on its target's engine and compare it with PyTorch."""
