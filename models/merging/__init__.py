"""Token merging in plain PyTorch, written the ordinary way.

Every operator has static shapes and goes through `torch.export`. Nothing here is written for a target:
the compiler rewrites it.
"""
