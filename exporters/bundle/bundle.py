"""The bundle: how a compiled model becomes a folder, and how that is opened again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from tm_export.exporters.bundle.requirements import require_parity, require_regions
from tm_export.exporters.bundle.staging import Staging, staged
from tm_export.exporters.errors import BudgetExceeded, ParityFailed
from tm_export.exporters.record.records import ExportReport
from tm_export.exporters.report.files import PARITY, read_reports, write_reports
from tm_export.exporters.targets.base import find_target
from tm_export.exporters.targets.tool_versions import tool_versions
from tm_export.runtime.engines import Session, open_session
from tm_export.runtime.manifest import (
    BlockRef,
    BundleError,
    Component,
    ComponentVariant,
    FileEntry,
    Manifest,
    file_sha256,
    read_manifest,
    verify_files,
    write_manifest,
)

if TYPE_CHECKING:
    from tm_export.exporters.bundle.compiled import Compiled
    from tm_export.exporters.source.model_source import ModelSource

REPORTS: Final = "reports"


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk."""

    path: Path
    manifest: Manifest

    @classmethod
    def read(cls, path: Path) -> Bundle:
        """The bundle in this folder, every file of it proved whole; raises `BundleError`."""
        manifest = read_manifest(path)
        verify_files(path, manifest)
        return cls(path, manifest)

    def open(self, component: str | None = None, variant: str | None = None) -> Session:
        """Open one variant of one component on the target's engine; each may be left out where there is one.

        Raises:
            BundleError: there is no such component or variant, a choice between several is needed, or the
                component is in blocks, for the loader to run.
            EngineError: the engine refuses the artifact.
        """
        found = _choose(f"component of {self.path}", component, self.manifest.components)
        chosen = _choose(f"variant of {self.path}, component {found.name!r}", variant, found.variants)
        if len(found.blocks) > 1:
            raise BundleError(
                f"component {found.name!r} of {self.path} is in {len(found.blocks)} blocks: run it with "
                "tm_export.runtime.loading.loader.Loader, or tm-run"
            )
        return open_session(self.path, self.manifest, found.name, found.blocks[0].name, chosen.name)

    def report(self) -> ExportReport:
        """What the export found out."""
        return read_reports(self.path / REPORTS)


def bundle_path(out: Path, model: str, target: str) -> Path:
    """Where the bundle of a model for a target goes."""
    return out / f"{model}-{target}"


def write_bundle(
    out: Path,
    source: ModelSource,
    target: str,
    build: Callable[[Staging], Compiled],
    *,
    force: bool = False,
    resume: bool = True,
    max_regions: int | None = None,
) -> Bundle:
    """Write `<out>/<model>-<target>/`, or nothing.

    `build` fills a folder; reports and manifest are added, and it moves into place as a whole. The same input gives
    the same bytes, interrupted and resumed or not, but for what holds times: `reports/export.json` and
    `reports/index.html`. The manifest lists all files outside `reports/`, so it is the same as well.

    Raises:
        UsageError: the folder holds something else (and not `force`), cannot be written, or the disk is full.
        ParityFailed: an artifact does not compute what PyTorch computes.
        BudgetExceeded: an artifact is in more than `max_regions` regions.
            After either, the reports alone are in `<out>/<model>-<target>.failed/`.
    """
    place = bundle_path(out, source.name, target)
    failed = place.with_name(f"{place.name}.failed")
    with staged(place, force=force, resume=resume) as staging:
        compiled = build(staging)
        _keep_only(staging.bundle, compiled)
        try:
            require_parity(compiled.report.parity)
            if max_regions is not None:
                require_regions(compiled.report.placement, max_regions)
        except (ParityFailed, BudgetExceeded) as error:
            write_reports(compiled.report, failed, compiled.pictures)
            raise type(error)(f"{error}. The reports are in {failed}") from None
        if source.host is not None:
            _write_host_file(staging.bundle / source.host.contract.tokenizer, source.host.tokenizer)
        manifest = Manifest(
            model=source.name,
            target=target,
            weights=source.weights,
            tool_versions=tool_versions(find_target(target)),
            components=compiled.components,
            files=_files(staging.bundle),
            golden=compiled.golden,
            load_schedule=tuple(
                BlockRef(component=component.name, block=block.name)
                for component in compiled.components
                for block in component.blocks
            ),
            host=source.host.contract.as_host() if source.host is not None else None,
        )
        write_reports(compiled.report, staging.bundle / REPORTS, compiled.pictures)
        write_manifest(staging.bundle, manifest)
    if (failed / PARITY).is_file():  # of an earlier try
        shutil.rmtree(failed)
    return Bundle(place, manifest)


def _write_host_file(path: Path, text: str) -> None:
    """Write a file of the bundle that no engine reads, but the program that runs it does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")


def _files(folder: Path) -> tuple[FileEntry, ...]:
    return tuple(
        FileEntry(path=path.relative_to(folder).as_posix(), bytes=path.stat().st_size, sha256=file_sha256(path))
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    )


def _keep_only(folder: Path, compiled: Compiled) -> None:
    """Remove what an earlier try left that is no part of this bundle."""
    wanted = {path for component in compiled.components for block in component.blocks for path in block.files}
    wanted |= {path for record in compiled.golden for path in (record.inputs, record.outputs)}
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_file() and path.relative_to(folder).as_posix() not in wanted:
            path.unlink()
        elif path.is_dir() and not any(path.iterdir()):
            path.rmdir()


_Named = TypeVar("_Named", Component, ComponentVariant)


def _choose(what: str, name: str | None, candidates: tuple[_Named, ...]) -> _Named:
    """The candidate of that name, or the only one there is."""
    found = [each for each in candidates if name is None or each.name == name]
    if len(found) == 1:
        return found[0]
    names = ", ".join(each.name for each in candidates)
    problem = f"there is more than one {what}" if name is None else f"no {what} is called {name!r}"
    raise BundleError(f"{problem}: choose one of {names}")
