"""Small programs written like the pattern of each rule, and near it.

A program is the text of a `forward`, so that a failing one can be read. Hypothesis writes them: slices with bounds,
starts and steps, dimensions from either end, repeated and negative indices, partial ones, ties, infinities, integers
and truth values, no rows and all rows. What must hold for them is in `rule_oracle`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, nn

B, N, C = 2, 8, 4
"""The sizes of all inputs; small, so that many indices meet."""


@dataclass(frozen=True)
class RuleProgram:
    """The lines of a forward over `x` (distinct floats), `n` (few integers) and `w` (floats), each [B, N, C]."""

    lines: tuple[str, ...]

    @property
    def inputs(self) -> tuple[str, ...]:
        """The inputs that it reads."""
        return tuple(name for name in "xnw" if re.search(rf"\b{name}\b", "\n".join(self.lines)))

    def __repr__(self) -> str:
        return "\n    ".join((f"def forward(self, {', '.join(self.inputs)}):", *self.lines))

    def module(self) -> nn.Module:
        """A module that runs these lines."""
        scope: dict[str, Any] = {"torch": torch, "F": F, "math": math}
        exec(repr(self), scope)
        program: nn.Module = type("Program", (nn.Module,), {"forward": scope["forward"]})()
        return program

    def draw(self, seed: int) -> tuple[Tensor, ...]:
        """Inputs whose floats are far enough apart that no decision is a tie but for rounding."""
        generator = torch.Generator().manual_seed(seed)
        drawn = {
            "x": (torch.randperm(B * N * C, generator=generator).float() - 31.5).reshape(B, N, C) / 16,
            "n": torch.randint(-3, 4, (B, N, C), generator=generator),
            "w": torch.randn(B, N, C, generator=generator),
        }
        return tuple(drawn[name] for name in self.inputs)


bounds = st.one_of(st.none(), st.integers(-N - 1, N + 1))
steps = st.sampled_from([1, 2, 2, 2, 3])
dims = st.integers(-3, 2)


@st.composite
def slices(draw: st.DrawFn, near: int = 0) -> str:
    """The text of a slice; half of them those that pair up."""
    if draw(st.booleans()):
        return f"{near}::2"
    start, end, step = draw(bounds), draw(bounds), draw(steps)
    return f"{'' if start is None else start}:{'' if end is None else end}:{step}"


@st.composite
def pairs(draw: st.DrawFn) -> RuleProgram:
    """Half the sum of two slices, of one tensor or of two, that may or may not be neighbours."""
    where = draw(st.sampled_from(["", ":, ", ":, :, ", "..., "]))
    a, b = (f"{draw(st.sampled_from('xxxn'))}[{where}{draw(slices(near))}]" for near in (0, 1))
    total = draw(st.sampled_from([f"{a} + {b}", f"{b} + {a}", f"torch.add({a}, {b}, alpha=2)", f"{a} - {b}"]))
    half = draw(st.sampled_from(["({}) / 2", "({}) * 0.5", "0.5 * ({})", "({}) / 3", "({}) // 2", "({}) * 2"]))
    return RuleProgram((f"return {half.format(total)}",))


@st.composite
def repeats(draw: st.DrawFn) -> RuleProgram:
    """Rows repeated, and the gate, view and addition that may follow."""
    name = draw(st.sampled_from("xn"))
    lines = [f"y = {name}.repeat_interleave({draw(st.sampled_from([1, 2, 2, 2, 3]))}, {draw(dims)})"]
    gates = [
        "y", "y * 0.5", "y * w[:, :1]", "w[:, :1, :1] * y", "y * w[:1, :1, 0]", "y * w[0, 0]", "y.reshape(y.shape)",
        "y * torch.ones(3, 1, 1, 1)", "y.reshape(-1, y.shape[-1])", "y.unsqueeze(0)", "y * y", "y.flatten(1)",
    ]  # fmt: skip
    lines += [f"y = {draw(st.sampled_from(gates))}" for _ in range(draw(st.integers(0, 2)))]
    ends = ["y", "y + 1", "y + torch.ones_like(y)", "torch.add(y, torch.ones_like(y), alpha=2)", "y + y", "y[..., ::2]"]
    return RuleProgram((*lines, f"return {draw(st.sampled_from(ends))}"))


scores = st.sampled_from([
    "x", "x", "n", "n.float()", "(n > 0)", "n.to(torch.int32)", "x.masked_fill(n > 2, -math.inf)", "x * 0 + 1",
    "torch.cat([torch.full_like(x[:, :1], -1e9), x[:, 1:]], 1)", "(n + (1 << 25))", "x[:, 1::2]", "x[..., :1]",
    "x @ w.transpose(1, 2)", "x[:, :0:]" , "-x",
])  # fmt: skip

extremes = st.sampled_from(["max({d}, keepdim={k}).indices", "min({d}, {k}).indices", "argmax({d}, {k})",
                            "argmin(dim={d}, keepdim={k})", "max({d})[1]", "argmax()"])  # fmt: skip


@st.composite
def choices(draw: st.DrawFn) -> RuleProgram:
    """The best along a dimension, and how it is used: as an index, as a mask, as positions."""
    dim, keep = draw(dims), draw(st.booleans())
    lines = [f"s = {draw(scores)}", f"i = s.{draw(extremes).format(d=dim, k=keep)}"]
    kept = f"i if i.dim() == 3 else i.unsqueeze({dim})"
    uses = [
        "i", "i.to(torch.int32)", "i * -1", f"s.max({dim}, keepdim=True)", f"s.amin({dim}), i",
        f"s.gather({dim}, {kept})", f"torch.zeros(s.shape).scatter({dim}, {kept}, 1.0)",
        f"torch.zeros(s.shape).scatter_({dim}, {kept}, 2.0) * w[:, :s.shape[1], :s.shape[2]]",
        "torch.zeros(2, 8).scatter(1, i.reshape(2, -1), 1.0)", "x[:, i.flatten()[:3]]",
        "torch.zeros(2, 8, dtype=torch.bool).scatter(1, i.reshape(2, -1), True)",
        "torch.zeros(2, 8, dtype=torch.int64).scatter(1, i.reshape(2, -1), torch.arange(i.numel()).reshape(2, -1))",
        "x.gather(1, i.reshape(2, -1, 1).expand(-1, -1, 4))", "torch.index_select(x, 1, i[0].flatten())",
        "w.index_add(1, i[0].flatten()[:2], x[:, :2], alpha=2)", "F.one_hot(i, 8)",
    ]  # fmt: skip
    return RuleProgram((*lines, f"return {draw(st.sampled_from(uses))}"))


@st.composite
def orders(draw: st.DrawFn) -> RuleProgram:
    """A sort, however it is spelled, and what is cut out of it, put together and gathered by it."""
    dim, down, k = draw(dims), draw(st.booleans()), draw(st.integers(0, 4))
    distinct = ["x", "x", "-x", "x.double().float()", "x.exp()"]
    equal = ["n", "n.float()", "w.round()", "n > 0", "n * (1 << 25)", "n.to(torch.int32)", "(n > 0).float()", "n - 100"]
    sorts = [
        ("argsort({d}, descending={r})", distinct), ("argsort({d}, {r})", distinct),
        ("topk({k}, {d}).indices", distinct), ("topk({k}, dim={d}, largest={r}, sorted=True)[1]", distinct),
        ("sort({d}, {r}).indices", distinct),
        ("sort({d}, descending={r}).values", distinct + equal), ("msort()", distinct + equal),
        ("topk({k}, {d}, largest=False).values", distinct), ("argsort(dim={d}, descending={r}, stable=True)", equal),
        ("sort(stable=True, dim={d}, descending={r})[1]", equal), ("topk({k}, {d}).values", equal[:3:2]),
    ]  # fmt: skip
    spelled, keys = draw(st.sampled_from(sorts))
    lines = [f"s = {draw(st.sampled_from(keys))}", f"i = s.{spelled.format(d=dim, r=down, k=k)}"]
    if "values" in spelled or "msort" in spelled:
        return RuleProgram((*lines, "return i"))
    cuts = [
        "i", "i[:, 1:]", "i[:, :2]", "i[:, ::2]", "i[:, -3:]", "torch.cat([i[:, 2:], i[:, :2]], 1)", "i * -1",
        "i.flip(1)", "i[:, :3].sort(1).values", "i.to(torch.int32).to(torch.int64)", "i.transpose(1, 2)", "i[:1]",
        "i[..., :1]", "i.argsort(1)", "i[:, 5:2]", "i.gather(1, i.argsort(1)[:, :2])",
    ]  # fmt: skip
    lines += [f"j = {draw(st.sampled_from(cuts))}"]
    uses = [
        "j", "j + 0", "s.gather({d}, i)", "x.gather(1, i[..., :1].expand(-1, -1, 4).clamp(0, 7))", "x[:, j[0, :, 0]]",
        "x.gather(1, (j[:, :, :1] % 8).expand(-1, -1, 4))", "torch.zeros(2, 8, 4).scatter(1, j % 8, 1.0)",
        "torch.zeros_like(x).scatter(1, (j[:, :, :1] % 8).expand(-1, -1, 4), x[:, :j.shape[1]])",
        "torch.take_along_dim(x, j[:, :, :1] % 8, 1)", "x.index_select(1, j[0, :, 0] % 8)",
        "torch.zeros(2, 8, dtype=torch.int64).scatter(1, j[:, :, 0] % 8, torch.arange(j.shape[1]).expand(2, -1))",
        "w.index_copy(1, i[0, :2, 0] % 8, x[:, :2])", "x[torch.arange(2)[:, None], j[:, :, 0]]",
        "x[torch.zeros(1, 1, dtype=torch.int64), j[:, :, 0] % 8]",
    ]  # fmt: skip
    return RuleProgram((*lines, f"return {draw(st.sampled_from(uses)).format(d=dim)}"))


indices = st.sampled_from([
    "n[..., :1].abs()", "n[:, :3, :1].abs() % 3", "n.abs()", "x.argmax(1, keepdim=True)", "x.argsort(1)[:, :3]",
    "x[..., :1].argsort(1)", "x[..., :1].argsort(1)[:, :2]", "n[..., :1].abs() * 2", "n[:1, :, :1].abs()",
    "x.argsort(1)[:, :0, :1]", "n[..., :1].abs().to(torch.int32).long()", "torch.arange(8).flip(0)[None, :, None]",
])  # fmt: skip
spreads = st.sampled_from([".expand(-1, -1, 4)", ".expand(-1, -1, 4)", ".repeat(1, 1, 4)", "", ".expand(2, -1, 4)",
                           ".expand(-1, -1, 2)", " + torch.zeros(4, dtype=torch.int64)"])  # fmt: skip
bases = st.sampled_from([
    "w", "w", "w[:, ::2]", "w[:, 1:7:2]", "torch.zeros(2, 8, 4)", "n", "torch.zeros_like(w)", "w[:, -6:]",
    "w.masked_fill(n > 1, -math.inf)", "torch.full((2, 8, 4), math.inf)", "(n > 0)", "w.transpose(0, 1)",
    "w[:, :6:2]", "torch.full_like(w, 3.0, dtype=torch.float32)", "w.new_full((2, 8, 4), fill_value=2.0)",
])  # fmt: skip


@st.composite
def scatters(draw: st.DrawFn) -> RuleProgram:
    """Rows written, summed and reduced by an index that may repeat, and cover a part."""
    lines = [f"i = ({draw(indices)}){draw(spreads)}", f"b = {draw(bases)}"]
    sources = ["x", "x[:, :i.shape[1]]", "w.masked_fill(n > 1, -math.inf)", "x[:, :1].expand(-1, 8, -1)", "x[:, ::2]"]
    lines += [f"s = ({draw(st.sampled_from(sources))}).to(b.dtype)"]
    dim = draw(st.sampled_from([1, 1, 1, -2, 0, -1]))
    include = draw(st.booleans())
    reduce = draw(st.sampled_from(["sum", "mean", "amax", "amin", "prod"]))
    calls = [
        f"b.scatter_reduce({dim}, i, s, '{reduce}', include_self={include})",
        f"b.clone().scatter_reduce_({dim}, i, s, reduce='{reduce}', include_self={include})",
        f"b.scatter_add({dim}, i, s)", f"b.scatter({dim}, i, s)", f"b.scatter({dim}, i, 1)",
        f"b.scatter({dim}, i, s, reduce='add')", f"b.scatter({dim}, i, 2, reduce='multiply')",
        "b.index_add(1, i[0, :, 0], s[:, :i.shape[1]])", "b.index_add(1, i[0, :, 0], s[:, :i.shape[1]], alpha=3)",
        "b.index_copy(1, i[0, :, 0], s[:, :i.shape[1]])", "b.index_fill(1, i[0, :, 0], 1)",
        f"b.index_put((torch.arange(2)[:, None], i[:, :, 0]), s[:, :i.shape[1]], accumulate={include})",
        f"b.index_put((torch.arange(2)[:, None], i[:, :, 0] - 1), torch.ones((), dtype=b.dtype), {include})",
        f"torch.index_put(b.transpose(0, 1), (i[0, :, 0] - 2,), s[:, :i.shape[1]].transpose(0, 1), {include})",
    ]  # fmt: skip
    ends = ["y", "y", "torch.cat([x.to(y.dtype), y], 1)", "torch.cat([w[:, ::2].to(y.dtype), y], 1)", "y * 2"]
    return RuleProgram((*lines, f"y = {draw(st.sampled_from(calls))}", f"return {draw(st.sampled_from(ends))}"))


@st.composite
def gathers(draw: st.DrawFn) -> RuleProgram:
    """Rows copied by an index, from a tensor, a part of it, or a table."""
    lines = [f"i = ({draw(indices)}){draw(spreads)}", f"b = {draw(bases)}"]
    dim = draw(st.sampled_from([1, 1, 1, -2, 0, -1]))
    calls = [
        f"b.gather({dim}, i)", f"torch.take_along_dim(b, i, {dim})", "b[:, i[0, :, 0]]", "b[:, i[0, :, 0] * -1]",
        "b[:, i[0, :, 0] - 3]", "b.index_select(1, i[0, :, 0])", "b.index_select(-2, i[0, :, 0].to(torch.int32))",
        "b[torch.arange(2)[:, None], i[:, :, 0]]", "b[torch.arange(2)[:, None], -i[:, :, 0]]", "b[:, i[:, :, 0]]",
        "torch.tensor([3, 1, -1, 7, 0, 2, 5, 4]).expand(2, -1).gather(1, i[:, :, 0] % 8)", "b[i[:, 0, 0] % 2]",
        "b[..., i[0, :, 0] % 4]", "x[:, 1::2].gather(1, i % 4)", "x[:, -6::2].gather(1, i % 3)",
        "x[:, 2:7:3].gather(1, i % 2)",
    ]  # fmt: skip
    return RuleProgram((*lines, f"return {draw(st.sampled_from(calls))}"))


@st.composite
def merges(draw: st.DrawFn) -> RuleProgram:
    """ToMe over all tokens or some, with a protected token or none, r of 0 to all, and perhaps its unmerge."""
    part = draw(st.sampled_from(["x", "x", "x[:, :6]", "x[:, -6:]", "x[:, 1:]", "x[:, :7]"]))
    protect = draw(st.sampled_from(["", "-math.inf", "-1e9", "torch.finfo(torch.float32).min"]))
    r = draw(st.integers(0, 4))
    reduce = draw(st.sampled_from(["mean", "mean", "sum", "amax", "amin", "prod"]))
    lines = [
        f"t = {part}", f"t, rest = t, x[:, {draw(st.sampled_from(['6:', ':2', ':0']))}]",
        "a, b = t[:, ::2], t[:, 1::2]", "s = F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).transpose(1, 2)",
        "ex = lambda i: i.unsqueeze(-1).expand(-1, -1, 4)",
    ]  # fmt: skip
    if protect:
        lines += [f"s = s.clone(); s[:, 0] = {protect}"]
    lines += [
        "best, to = s.max(-1)", f"o = best.argsort(dim=-1, descending=True); src, kept = o[:, :{r}], o[:, {r}:]",
        draw(st.sampled_from(["kept = kept.sort(dim=1).values", "", "src = src.sort(dim=-1)[0]"])),
        "dst = to.gather(1, src)",
        f"m = b.scatter_reduce(1, ex(dst), a.gather(1, ex(src)), '{reduce}', include_self={draw(st.booleans())})",
        "y = torch.cat([a.gather(1, ex(kept)), m, rest], 1)",
    ]  # fmt: skip
    unmerge = [
        "out = torch.zeros_like(t)", "k = kept.shape[1]",
        "out.scatter_(1, ex(2 * kept), y[:, :k]); out[:, 1::2] = m",
        "out.scatter_(1, ex(2 * src), m.gather(1, ex(dst)))", "y = out",
    ]  # fmt: skip
    lines += unmerge if draw(st.booleans()) else []
    return RuleProgram((*filter(None, lines), "return y"))


PROGRAMS: Final[Mapping[str, st.SearchStrategy[RuleProgram]]] = {
    "raise_pairs": pairs(),
    "repeated": repeats(),
    "raise_best": choices(),
    "raise_order": orders(),
    "raise_gather": gathers(),
    "raise_scatter": scatters(),
    "whole merges": merges(),
}
"""Programs for each rule, and for all of them at once."""
