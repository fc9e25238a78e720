"""What `ondevice-sora-tiny` is trained on and how: synthetic videos, a detector that reads them, the stages of training."""
