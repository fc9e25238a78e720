"""`ondevice-sora-tiny`: synthetic videos, a detector that reads them, the stages of training."""
