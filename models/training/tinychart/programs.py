"""The program of thoughts that answers each kind of question."""

from dataclasses import dataclass, replace

Answer = int | float | str


@dataclass(frozen=True)
class Item:
    """One value of a chart and what a question calls it."""

    name: str
    value: int


@dataclass(frozen=True)
class Row:
    """The values of one series.

    Attributes:
        names: its categories, left to right or clockwise.
        values: a number for each.
        part: what a question calls one of them, such as "bar".
        parts: what a question calls them all.
    """

    names: tuple[str, ...]
    values: tuple[int, ...]
    part: str
    parts: str


@dataclass(frozen=True)
class Operands:
    """What a question may be about: a whole row, two single values, and a number to compare with."""

    row: Row
    first: Item
    second: Item
    limit: int

    def larger_first(self) -> "Operands":
        """Return the operands with the larger of the two single values first."""
        if self.first.value >= self.second.value:
            return self
        return replace(self, first=self.second, second=self.first)


def write_program(kind: str, operands: Operands) -> tuple[str, Answer]:
    """Return the program for a kind of question, a tagged line for each step, and what it computes.

    It first copies the values that it needs from the chart: a row's in order, single ones as the question names them.
    """
    lines, answer = steps(kind, operands)
    return "\n".join(line if line.startswith("<") else f"<step>{line}</step>" for line in lines), answer


def steps(kind: str, operands: Operands) -> tuple[tuple[str, ...], Answer]:
    """Return the lines of the program, without tags, and what it computes."""
    names, values = operands.row.names, operands.row.values
    a, b, limit = operands.first.value, operands.second.value, operands.limit
    quoted = ", ".join(f"'{name}'" for name in names)
    named = (f"X=[{quoted}]", f"Y=[{', '.join(map(str, values))}]")
    row, pair = named[1:], (f"Y=[{a}, {b}]",)
    match kind:
        case "lookup":
            return (f"Answer={a}",), a
        case "max_name":
            return (*named, "Answer=X[np.argmax(Y)]"), names[values.index(max(values))]
        case "max_value":
            return (*row, "Answer=np.max(Y)"), max(values)
        case "min_name":
            return (*named, "Answer=X[np.argmin(Y)]"), names[values.index(min(values))]
        case "min_value":
            return (*row, "Answer=np.min(Y)"), min(values)
        case "sum_two":
            return (*pair, "Answer=np.sum(Y)"), a + b
        case "sum_all":
            return (*row, "Answer=np.sum(Y)"), sum(values)
        case "sum_largest":
            comment = "<comment>#Sum the two largest</comment>"
            return (*row, comment, "Answer=np.sum(np.sort(Y)[-2:])"), sum(sorted(values)[-2:])
        case "difference":
            return (*pair, "Answer=Y[0]-Y[1]"), a - b
        case "range":
            return (*row, "Answer=np.max(Y)-np.min(Y)"), max(values) - min(values)
        case "mean":
            return (*row, "Answer=np.mean(Y)"), sum(values) / len(values)
        case "ratio":
            return (*pair, "Answer=Y[0]/Y[1]"), a / b
        case "count":
            return (*row, f"Answer=np.sum(np.array(Y)>{limit})"), sum(value > limit for value in values)
        case "compare":
            return (*pair, "Answer=Y[0]>Y[1]"), a > b
    raise ValueError(f"no program for questions of kind {kind!r}")


def answer_text(answer: Answer) -> str:
    """Return a computed answer as text: Yes or No, and at most four digits after the point."""
    if isinstance(answer, bool):
        return "Yes" if answer else "No"
    if isinstance(answer, float):
        return f"{answer:.4f}".rstrip("0").rstrip(".")
    return str(answer)
