"""What can go wrong for a user, and the exit code that says which kind it was."""

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of `tm-export`."""

    OK = 0
    USAGE = 2
    REFUSED = 3
    PARITY = 4
    BUDGET = 5


class ExportError(ValueError):
    """An error with a message for the user: what, which value, what to do."""

    exit_code: ExitCode = ExitCode.REFUSED


class UsageError(ExportError):
    """The request itself is wrong: an unknown name, a bad option, an unusable file or folder."""

    exit_code = ExitCode.USAGE


class ConversionRefused(ExportError):
    """The model cannot be expressed on the target."""

    exit_code = ExitCode.REFUSED


class ParityFailed(ExportError):
    """An artifact ran, and did not compute what PyTorch computes."""

    exit_code = ExitCode.PARITY


class BudgetExceeded(ExportError):
    """A memory, size or placement budget does not hold."""

    exit_code = ExitCode.BUDGET
