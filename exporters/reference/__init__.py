"""What PyTorch computes, and how what others compute is held against it."""
