"""The page: everything that a report says, laid out for reading."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tm_export.exporters.record import units
from tm_export.exporters.record.records import ExportReport, MergeSite, ParityRecord, PlacementRecord
from tm_export.exporters.report import charts

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Picture:
    """A PNG to show on the page.

    Attributes:
        title: a few words above the picture.
        caption: what there is to see, below it.
        png: the file's content.
    """

    title: str
    caption: str
    png: bytes

    @property
    def data_uri(self) -> str:
        """The picture as an address that holds it, so that the page needs no second file."""
        return "data:image/png;base64," + b64encode(self.png).decode("ascii")


def render(report: ExportReport, pictures: Sequence[Picture] = ()) -> str:
    """Return the page about an export as one HTML document that asks for nothing else.

    The same report gives the same page. Text from the report is escaped wherever it stands, so that model
    names and source lines may hold anything.
    """
    return _fill(
        "export.html",
        title=f"{report.model} for {report.target}: tm-export",
        report=report,
        pictures=pictures,
        failures=[record for record in report.parity if not record.passed],
        worst_psnr=_worst_psnr(report.parity),
        peak_rss=max((stage.peak_rss_bytes for stage in report.stages), default=0),
        networks=_by_network(report.merges),
        token_chart=charts.token_chart,
        bar=charts.bar,
    )


def render_pictures(title: str, lead: str, pictures: Sequence[Picture]) -> str:
    """Return a page of pictures, in the same style and just as self-contained; `lead` stands above them."""
    return _fill("gallery.html", title=title, lead=lead, pictures=pictures)


def _fill(template: str, **values: Any) -> str:
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "bytes": units.in_bytes,
        "macs": units.in_macs,
        "nanoseconds": units.in_nanoseconds,
        "seconds": units.in_seconds,
        "decibels": units.in_decibels,
        "option": _option,
        "inside": _inside,
        "commonest": _commonest,
    }
    style = (_HERE / "style.css").read_text(encoding="utf-8")
    return environment.get_template(template).render(style=style, **values)


def _by_network(merges: Sequence[MergeSite]) -> dict[tuple[str, str], list[MergeSite]]:
    """Group sites by component and variant, in the order in which these first occur."""
    networks: dict[tuple[str, str], list[MergeSite]] = {}
    for site in merges:
        networks.setdefault((site.component, site.variant), []).append(site)
    return networks


def _worst_psnr(parity: Sequence[ParityRecord]) -> float | None:
    """The lowest PSNR; None where every comparison found two equal tensors."""
    return min((record.psnr_db for record in parity if record.psnr_db is not None), default=None)


def _inside(record: PlacementRecord) -> dict[str, int]:
    """The operators in the regions: all but those outside."""
    counts = {name: count - record.outside.get(name, 0) for name, count in record.operators.items()}
    return {name: count for name, count in counts.items() if count}


def _commonest(operators: Mapping[str, int]) -> list[tuple[str, int]]:
    """Operators by count, and by name where counts are equal."""
    return sorted(operators.items(), key=lambda item: (-item[1], item[0]))


def _option(value: Any) -> str:
    """An option's value as one would write it."""
    if value is None:
        return "the target's default"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
