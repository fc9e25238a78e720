"""The table of operators: what became of each on each target, as data and as the pages of docs that are made of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

How = Literal["native", "written out", "in part", "refused"]

DATA: Final = Path(__file__).with_name("outcomes.json")
DOCS: Final = Path(__file__).resolve().parents[2] / "docs"
TARGETS: Final = {"coreml": "Core ML", "onnx": "ONNX", "executorch": "ExecuTorch"}
FROM, TO = "<!-- operators: made by benchmarks/operators.py -->\n", "<!-- operators: end -->\n"


@dataclass(frozen=True)
class Row:
    """What became of an operator's calls on a target.

    `native` says whether the converter is given the operator itself; `refused` holds calls that are, and why;
    `limits` those whose numbers the target's own kernel has otherwise.
    """

    operator: str
    target: str
    calls: int
    native: bool
    refused: tuple[tuple[str, str], ...] = ()
    limits: tuple[tuple[str, str], ...] = ()

    @property
    def right(self) -> int:
        """How many calls compute what PyTorch does."""
        return self.calls - len(self.refused) - len(self.limits)

    @property
    def how(self) -> How:
        """In a word."""
        if len(self.refused) == self.calls:
            return "refused"
        if self.right < self.calls:
            return "in part"
        return "native" if self.native else "written out"


def read() -> tuple[Row, ...]:
    """The table as it was last made."""
    return tuple(
        Row(**{**each, **{which: tuple(map(tuple, each[which])) for which in ("refused", "limits")}})
        for each in json.loads(DATA.read_text())
    )


def write(rows: Sequence[Row]) -> None:
    """Write the data and the pages."""
    lines = ",\n".join(json.dumps(asdict(row)) for row in rows)
    DATA.write_text(f"[\n{lines}\n]\n")
    (DOCS / "operators.md").write_text(page(rows))
    lowering = DOCS / "lowering.md"
    before, _, rest = lowering.read_text().partition(FROM)
    lowering.write_text(before + section(rows) + rest.partition(TO)[2])


def section(rows: Sequence[Row]) -> str:
    """The counts by target, between the marks that docs/lowering.md has for them."""
    by_target = {target: [row for row in rows if row.target == target] for target in TARGETS}
    hows: tuple[How, ...] = ("native", "written out", "in part", "refused")
    counts = [
        [TARGETS[target], *(str(sum(row.how == how for row in own)) for how in hows), _calls(own)]
        for target, own in by_target.items()
    ]
    return "".join((FROM, *_table(("", *hows, "calls that are right"), counts), TO))


def _calls(rows: Iterable[Row]) -> str:
    rows = tuple(rows)
    tried = sum(row.calls for row in rows)
    return f"{sum(row.right for row in rows)} of {tried}"


def page(rows: Sequence[Row]) -> str:
    """All operators, and what is refused."""
    by_operator: dict[str, dict[str, Row]] = {}
    for row in rows:
        by_operator.setdefault(row.operator, {})[row.target] = row
    cells = [[f"`{name}`", *(_cell(own, target) for target in TARGETS)] for name, own in by_operator.items()]
    refused, limits = (
        [
            [f"`{row.operator}`", TARGETS[row.target], f"`{_in_a_cell(call)}`", _in_a_cell(why)]
            for row in rows
            for call, why in getattr(row, which)
        ]
        for which in ("refused", "limits")
    )
    return "".join((
        "# Operators\n\n",
        "Made by `benchmarks/operators.py`, which exports calls of each operator with drawn arguments\n",
        "to each target and holds what runs against PyTorch. *native*: the target's converter is given the operator\n",
        "itself. *written out*: in others, by the rules here or by PyTorch's own decomposition. *in part*: of the\n",
        "calls tried, so many are right; the others are refused, or meet a limit of the target, as said below.\n",
        "Nothing else is wrong, and nothing crashes.\n\n",
        *_table(("operator", *TARGETS.values()), cells),
        "\n## Refused\n\n",
        *_table(("operator", "target", "call", "what is said"), refused),
        "\n## Other numbers\n\nWhat a target's kernel computes otherwise; an export whose model meets it fails.\n\n",
        *_table(("operator", "target", "call", "what it does"), limits),
    ))  # fmt: skip


def _cell(own: Mapping[str, Row], target: str) -> str:
    row = own[target]
    return f"{row.right} of {row.calls}" if row.how == "in part" else row.how


def _in_a_cell(text: str) -> str:
    return text.replace("|", "\\|").replace("`", "'").replace("\n", " ")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = (head, ["---"] * len(head), *rows)
    return [f"| {' | '.join(line)} |\n" for line in lines]
