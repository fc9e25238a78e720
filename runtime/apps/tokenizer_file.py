"""The tokenizer that a bundle brings."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer

from tm_export.runtime.apps.contract import HostContract
from tm_export.runtime.manifest import BundleError


def read_tokenizer(bundle_dir: Path, contract: HostContract) -> Tokenizer:
    """The bundle's tokenizer; raises BundleError if its file is none."""
    path = bundle_dir / contract.tokenizer
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing more special
        raise BundleError(f"{path} is no tokenizer ({error}); export again") from None
