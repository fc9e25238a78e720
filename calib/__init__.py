"""The calib package."""
