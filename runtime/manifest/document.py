"""The bundle contract: what `manifest.json` says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Annotated, Final, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from tm_export.runtime.errors import UserError

SCHEMA_VERSION: Final = 5
DType = Literal["float16", "float32", "float64", "int8", "uint8", "int16", "int32", "int64", "bool"]


class BundleError(UserError):
    """A bundle that cannot be used; the message names the file and says what to do."""


def _path_inside_bundle(path: str) -> str:
    pure = PurePosixPath(path)
    if {"\\", ":", "\0"} & set(path) or pure.is_absolute() or ".." in pure.parts or str(pure) != path or path == ".":
        raise ValueError(f"path {path!r} must be relative, normalised, and stay inside the bundle")
    return path


Name = Annotated[str, Field(min_length=1)]
BundlePath = Annotated[str, Field(min_length=1), AfterValidator(_path_inside_bundle)]
Bytes = Annotated[int, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TensorSpec(_Record):
    """A named input or output: its NumPy dtype name and its static shape."""

    name: Name
    dtype: DType
    shape: tuple[Annotated[int, Field(ge=0)], ...]


class Variant(_Record):
    """One function of a block: which artifact holds it, what it is called there, what goes in and comes out.

    `inputs` and `outputs` stand in the order of the artifact's own signature: ExecuTorch knows no names. Blocks
    that are the same program have the same names here; a component's `Call` says which values they stand for.
    `activation_bytes` is the most that its intermediate tensors, inputs and outputs take at one time, with the wider
    copies of weights that are not computed with as they are stored.
    """

    name: Name
    artifact: BundlePath
    function: Name
    inputs: tuple[TensorSpec, ...]
    outputs: Annotated[tuple[TensorSpec, ...], Field(min_length=1)]
    activation_bytes: Bytes

    @model_validator(mode="after")
    def _names_are_unique(self) -> Variant:
        refuse_duplicates(f"input of variant {self.name!r}", (spec.name for spec in self.inputs))
        refuse_duplicates(f"output of variant {self.name!r}", (spec.name for spec in self.outputs))
        return self


class Block(_Record):
    """The unit that is loaded and run: one or more variants over the same weights.

    `weight_bytes` is what the weights of all its variants take together, as they are stored; `files` are all
    that is read to open any of its variants.
    """

    name: Name
    variants: Annotated[tuple[Variant, ...], Field(min_length=1)]
    weight_bytes: Bytes
    files: Annotated[tuple[BundlePath, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_are_unique(self) -> Block:
        refuse_duplicates(f"variant of block {self.name!r}", (variant.name for variant in self.variants))
        return self


class Call(_Record):
    """A run of one block: the values that go in and come out, in the order of the block's inputs and outputs.

    Values are named across the component: its inputs, and what earlier calls wrote.
    """

    block: Name
    reads: tuple[Name, ...]
    writes: Annotated[tuple[Name, ...], Field(min_length=1)]


class State(_Record):
    """An input, and the output that holds what it has to be in the next call; it begins as in the golden inputs."""

    input: Name
    output: Name


class ComponentVariant(_Record):
    """One way to run a component from its inputs to its outputs: the same variant of its blocks, call by call.

    `state` is what a call leaves for the next one, such as a cache.
    """

    name: Name
    inputs: tuple[TensorSpec, ...]
    outputs: Annotated[tuple[TensorSpec, ...], Field(min_length=1)]
    calls: Annotated[tuple[Call, ...], Field(min_length=1)]
    state: tuple[State, ...] = ()


class Component(_Record):
    """One network of the model, cut into blocks that run one after another."""

    name: Name
    blocks: Annotated[tuple[Block, ...], Field(min_length=1)]
    variants: Annotated[tuple[ComponentVariant, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _is_consistent(self) -> Component:
        refuse_duplicates(f"block of component {self.name!r}", (block.name for block in self.blocks))
        refuse_duplicates(f"variant of component {self.name!r}", (variant.name for variant in self.variants))
        for variant in self.variants:
            self._check_calls(variant)
        return self

    def _check_calls(self, variant: ComponentVariant) -> None:
        """Follow every value from where it is written to where it is read."""
        where = f"variant {variant.name!r} of component {self.name!r}"
        known = {spec.name: (spec.dtype, spec.shape) for spec in variant.inputs}
        refuse_duplicates(f"input of {where}", (spec.name for spec in variant.inputs))
        for call in variant.calls:
            function = _named(f"variant of block {call.block!r}", variant.name, self.block(call.block).variants)
            if (len(call.reads), len(call.writes)) != (len(function.inputs), len(function.outputs)):
                raise ValueError(
                    f"{where} calls block {call.block!r} with {len(call.reads)} inputs and {len(call.writes)} outputs, "
                    f"it has {len(function.inputs)} and {len(function.outputs)}"
                )
            for value, spec in zip(call.reads, function.inputs, strict=True):
                self._check_value(f"{where}: block {call.block!r} reads", known, value, spec)
            for value, spec in zip(call.writes, function.outputs, strict=True):
                if value in known:
                    raise ValueError(f"{where}: value {value!r} is written twice")
                known[value] = (spec.dtype, spec.shape)
        for spec in variant.outputs:
            self._check_value(f"{where} returns", known, spec.name, spec)
        outputs = {spec.name: spec for spec in variant.outputs}
        for state in variant.state:
            if state.output not in outputs or state.input not in {spec.name for spec in variant.inputs}:
                raise ValueError(f"{where} keeps {state.input!r} as {state.output!r}: not an input and an output of it")
            self._check_value(f"{where} keeps", known, state.input, outputs[state.output])

    @staticmethod
    def _check_value(
        what: str, known: Mapping[str, tuple[DType, tuple[int, ...]]], value: str, spec: TensorSpec
    ) -> None:
        if value not in known:
            raise ValueError(f"{what} value {value!r} before anything writes it")
        if known[value] != (spec.dtype, spec.shape):
            dtype, shape = known[value]
            raise ValueError(f"{what} {value!r} as {spec.dtype}{list(spec.shape)}, it is {dtype}{list(shape)}")

    def block(self, name: str) -> Block:
        """The block of that name; raises BundleError naming the ones there are."""
        return _named(f"block of component {self.name!r}", name, self.blocks)

    def variant(self, name: str) -> ComponentVariant:
        """The variant of that name; raises BundleError naming the ones there are."""
        return _named(f"variant of component {self.name!r}", name, self.variants)


class FileEntry(_Record):
    """One file of the bundle (a directory artifact lists each file inside it)."""

    path: BundlePath
    bytes: Bytes
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class BlockRef(_Record):
    """Names one block of one component."""

    component: Name
    block: Name


class VariantRef(_Record):
    """Names one variant of one component."""

    component: Name
    variant: Name


class Golden(VariantRef):
    """A recorded run of one variant: two safetensors files, keyed by input and output names."""

    inputs: BundlePath
    outputs: BundlePath


class Host(BaseModel):
    """What the app that a bundle is made for needs beside the components: a contract of its own.

    `kind` says which, such as "video", and `version` which version of it; `files` are those that it names, by what they
    are. What else is here is the contract's (see `tm_export.runtime.apps.contract`); a new kind needs no new field.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    kind: Name
    version: Count
    files: dict[Name, BundlePath] = {}


class Manifest(_Record):
    """The contract of a bundle: one model, one target.

    `load_schedule` is the order in which blocks are loaded; `host_program` the components' variants that the host
    calls, in order (empty for a bare model, whose components are called one after another); `host` what else the app
    needs that the model is made for.
    """

    schema_version: Literal[5] = SCHEMA_VERSION
    model: Name
    target: Name
    weights: Literal["seeded", "trained", "checkpoint", "module", "none"]
    tool_versions: dict[Name, Name]
    components: Annotated[tuple[Component, ...], Field(min_length=1)]
    files: Annotated[tuple[FileEntry, ...], Field(min_length=1)]
    golden: tuple[Golden, ...] = ()
    load_schedule: tuple[BlockRef, ...]
    host_program: tuple[VariantRef, ...] = ()
    host: Host | None = None

    @model_validator(mode="after")
    def _is_consistent(self) -> Manifest:
        refuse_duplicates("component", (component.name for component in self.components))
        refuse_duplicates("file", (entry.path for entry in self.files))
        refuse_duplicates("load schedule entry", (f"{ref.component}/{ref.block}" for ref in self.load_schedule))
        for ref in self.load_schedule:
            self.component(ref.component).block(ref.block)
        for call in (*self.host_program, *self.golden):
            self.component(call.component).variant(call.variant)
        paths = {entry.path for entry in self.files}
        folders = {str(folder) for path in paths for folder in PurePosixPath(path).parents}
        for component in self.components:
            for block in component.blocks:
                for path in block.files:
                    if path not in paths:
                        raise ValueError(f"file {path!r} of block {block.name!r} is not among the files")
                for variant in block.variants:
                    if variant.artifact not in paths | folders:
                        raise ValueError(
                            f"artifact {variant.artifact!r} of block {block.name!r} is not among the files"
                        )
        for record in self.golden:
            for path in (record.inputs, record.outputs):
                if path not in paths:
                    raise ValueError(f"golden file {path!r} is not among the files")
        for what, path in self.host.files.items() if self.host is not None else ():
            if path not in paths:
                raise ValueError(f"{what} {path!r} is not among the files")
        return self

    def component(self, name: str) -> Component:
        """The component of that name; raises BundleError naming the ones there are."""
        return _named("component", name, self.components)

    def variant(self, component: str, block: str, variant: str) -> Variant:
        """The function of that block; raises BundleError naming the ones there are."""
        return _named(f"variant of block {block!r}", variant, self.component(component).block(block).variants)


_Named = TypeVar("_Named", Component, Block, Variant, ComponentVariant)


def _named(kind: str, name: str, candidates: tuple[_Named, ...]) -> _Named:
    for candidate in candidates:
        if candidate.name == name:
            return candidate
    raise BundleError(f"no {kind} is called {name!r}; there are: {', '.join(c.name for c in candidates)}")


def refuse_duplicates(kind: str, names: Iterable[str]) -> None:
    """Raise `ValueError` for names of which one is there twice."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{kind} given twice: {', '.join(map(repr, twice))}")
