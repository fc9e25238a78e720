"""What a kind of app states in a manifest, under `host`.

A kind is a class below `HostContract`, registered under the entry point group `tm_export.hosts` by its name, so that a
manifest of that kind is checked when it is read, whatever package the class is from.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict

from tm_export.runtime.manifest import BundleError, Host, Manifest
from tm_export.runtime.manifest.document import BundlePath, Name


def _has_a_tokenizer(files: dict[str, str]) -> dict[str, str]:
    if set(files) != {"tokenizer"}:
        raise ValueError(f"the host's files are {', '.join(files) or 'none'}, and one is needed: tokenizer")
    return files


TokenizerFile = Annotated[dict[Name, BundlePath], AfterValidator(_has_a_tokenizer)]
"""The files of a host that has a tokenizer, and no other."""


class HostContract(BaseModel):
    """What all kinds have: a name, a version, and the bundle's files that are theirs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    version: int
    files: dict[str, str]

    @property
    def tokenizer(self) -> str:
        """The path of the tokenizer's file."""
        return self.files["tokenizer"]

    def as_host(self) -> Host:
        """As the manifest has it."""
        return Host.model_validate(self.model_dump(mode="json"))


_C = TypeVar("_C", bound=HostContract)


def contract_in(manifest: Manifest, contract: type[_C], otherwise: str) -> _C:
    """The contract of this kind; raises `BundleError` saying `otherwise` if the bundle has none of it."""
    if manifest.host is None or manifest.host.kind != contract.model_fields["kind"].default:
        raise BundleError(otherwise)
    return contract.model_validate(manifest.host.model_dump())
