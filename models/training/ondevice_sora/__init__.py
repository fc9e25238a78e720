"""How `ondevice-sora-tiny` was trained."""
