"""What can be wrong with a checkpoint."""


class CheckpointError(ValueError):
    """A checkpoint cannot be loaded."""


class CheckpointNotFound(CheckpointError):
    """There is no checkpoint at the path."""


class UnreadableCheckpoint(CheckpointError):
    """A file is truncated, damaged, or no checkpoint."""


class CodeInCheckpoint(CheckpointError):
    """A torch file holds pickled objects other than tensors, which could run code."""


class MissingKeys(CheckpointError):
    """The module has tensors that the checkpoint lacks."""


class UnexpectedKeys(CheckpointError):
    """The checkpoint has tensors that the module lacks."""


class WrongTensor(CheckpointError):
    """A tensor has another shape or kind of number than the module's."""


class NotFinite(CheckpointError):
    """A tensor holds NaN or infinity."""


class TokenizerMissing(CheckpointError):
    """The checkpoint brings no tokenizer that can be read."""
