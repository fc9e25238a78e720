"""Calls of operators that view, copy, index and write, and of those that make tensors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import torch
from calls import Call, Draw, call, floats, that_run, truths, whole

_KINDS: Final = (floats(2, 3, 4), whole(2, 3, 4), truths(2, 3, 4))


def _each(texts: Iterable[str], kinds: Iterable[Draw] = _KINDS) -> tuple[Call, ...]:
    return that_run(call(text, a=a) for text in texts for a in kinds)


_INDEX: Final = whole(2, 2, 4, low=0, high=1)

MOVEMENTS: Final = {
    f"aten.{name}": calls
    for name, calls in {
        "alias.default": _each(("aten.alias.default(a)",)),
        "as_strided.default": _each(("a.as_strided((2, 3), (1, 4))", "a.as_strided((2, 2, 2), (12, 1, 1), 3)")),
        "resize_.default": _each(("a.clone().resize_(2, 3)", "(a + 1).resize_(24)")),
        "cat.default": (
            *_each(
                (
                    "torch.cat([a, a + a], 0)",
                    "torch.cat([a, a, a[:, :1]], 1)",
                    "torch.cat([a], -1)",
                    "torch.cat([a[..., :0], a], -1)",
                )
            ),
            call("torch.cat([a, b], -1)", a=floats(2, 3), b=whole(2, 2)),
            call("torch.cat([a, b])", a=whole(3, dtype=torch.int32), b=whole(2)),
            call("torch.cat([a, b])", a=truths(3), b=whole(2)),
        ),
        "stack.default": (
            *_each(("torch.stack([a, a + a], 0)", "torch.stack([a, a], -1)", "torch.stack([a], 1)")),
            call("torch.stack([a, b])", a=floats(), b=floats()),
        ),
        "clone.default": (*_each(("a.clone()",)), call("a.clone()", a=floats())),
        "contiguous.default": _each(("a.transpose(0, 1).contiguous()",)),
        "copy.default": _each(
            ("aten.copy.default(a, a * 2)", "aten.copy.default(a, a[:1])"), (floats(2, 3), whole(2, 3))
        ),
        "diagonal.default": _each(("a.diagonal()", "a.diagonal(1, -1, 0)", "a.diagonal(-1, 1, 2)")),
        "diagonal_scatter.default": _each(("torch.diagonal_scatter(a[0], a[0, 0, :3])",)),
        "diag_embed.default": _each(("torch.diag_embed(a)",), (floats(2, 3),)),
        "expand.default": (
            *_each(("a[:, :1].expand(2, 5, 4)", "a.expand(2, -1, -1, 4)", "a[..., :1].expand(-1, -1, 3)")),
            call("a.expand(3, 2)", a=floats()),
        ),
        "expand_copy.default": _each(("aten.expand_copy.default(a, [2, 2, 3, 4])",)),
        "fill.Scalar": _each(("aten.fill.Scalar(a, 2) + a",), (floats(2, 3), whole(2, 3))),
        "flip.default": _each(("a.flip(0)", "a.flip(-1, 1)", "a.flip((0, 1, 2))")),
        "roll.default": _each(("a.roll(1, 0)", "a.roll((-1, 2), (1, -1))", "a.roll(3)")),
        "rot90.default": _each(("torch.rot90(a, 1, (1, 2))",), (floats(2, 3, 4),)),
        "gather.default": (
            *that_run(
                call(f"a.gather({dim}, b)", a=a, b=b)
                for dim, b in (
                    ("0", whole(2, 3, 4, low=0, high=1)),
                    ("1", whole(2, 5, 4, low=0, high=2)),
                    ("-1", whole(1, 2, 3, low=0, high=3)),
                )
                for a in _KINDS
            ),
            call("a.gather(0, b)", a=floats(), b=whole(low=0, high=0)),
            call("a.gather(0, b)", a=floats(5), b=whole(7, low=0, high=4)),
        ),
        "take_along_dim.default": (
            call("torch.take_along_dim(a, b, 1)", a=floats(2, 3, 4), b=whole(2, 1, 4, low=0, high=2)),
        ),
        "take.default": (call("torch.take(a, b)", a=floats(2, 3), b=whole(4, low=0, high=5)),),
        "index.Tensor": that_run(
            call(text, a=a, b=b)
            for text, b in (
                ("a[b]", whole(3, low=-2, high=1)),
                ("a[:, b]", whole(2, 2, low=0, high=2)),
                ("a[..., b]", whole(5, low=-4, high=3)),
                ("a[b, :, b]", whole(3, low=0, high=1)),
                ("a[b, b]", whole(3, low=0, high=1)),
                ("a[b]", whole(low=0, high=1)),
                ("a[b[:, None], b]", whole(2, low=0, high=1)),
                ("a[b[:, None], :, b]", whole(2, low=0, high=1)),
                ("a[:, b]", whole(3, low=0, high=2, dtype=torch.int32)),
                ("a[torch.tensor([1, 0]), b]", whole(2, low=0, high=2)),
            )
            for a in _KINDS
        ),
        "index_select.default": (
            *that_run(
                call(f"a.index_select({dim}, b)", a=a, b=whole(5, low=0, high=1))
                for dim in ("0", "1", "-1")
                for a in _KINDS
            ),
            call("a.index_select(0, b)", a=floats(4), b=whole(1, low=0, high=3)),
        ),
        "index_put.default": that_run(
            [
                *(
                    call("a.index_put((b,), c)", a=a, b=whole(1, low=-2, high=1), c=c)
                    for a, c in ((floats(2, 3), floats(1, 3)), (whole(2, 3), whole(1, 3)), (truths(2, 3), truths(1, 3)))
                ),
                call(
                    "a.index_put((b,), c, accumulate=True)", a=floats(4, 3), b=whole(6, low=0, high=3), c=floats(6, 3)
                ),
                call("a.index_put((b,), c, accumulate=True)", a=whole(4, 3), b=whole(6, low=0, high=3), c=whole(6, 3)),
                call("a.index_put((b, b), c, accumulate=True)", a=floats(4, 3), b=whole(6, low=0, high=2), c=floats(6)),
                call("a.index_put((None, b), c)", a=floats(2, 3, 4), b=whole(1, low=0, high=2), c=floats(2, 1, 4)),
                call("a.index_put((b,), torch.tensor(0.5))", a=floats(4, 3), b=truths(4, 3)),
                call("a.index_put((b,), c)", a=floats(4, 3), b=truths(4), c=floats(3)),
            ]
        ),
        "index_add.default": that_run(
            [
                call("a.index_add(0, b, c)", a=floats(4, 3), b=whole(6, low=0, high=3), c=floats(6, 3)),
                call("a.index_add(1, b, c, alpha=2)", a=floats(2, 3, 4), b=whole(2, low=0, high=2), c=floats(2, 2, 4)),
                call("a.index_add(-1, b, c)", a=whole(4, 3), b=whole(2, low=0, high=2), c=whole(4, 2)),
            ]
        ),
        "index_copy.default": that_run(
            [
                call("a.index_copy(0, torch.tensor([2, 0]), b)", a=floats(4, 3), b=floats(2, 3)),
                call("a.index_copy(1, b, c)", a=floats(2, 3, 4), b=whole(1, low=0, high=2), c=floats(2, 1, 4)),
            ]
        ),
        "index_fill.int_Scalar": (call("a.index_fill(1, b, 2.0)", a=floats(2, 3), b=whole(2, low=0, high=2)),),
        "masked_scatter.default": that_run(
            [
                call("a.masked_scatter(b, c)", a=floats(3, 4), b=truths(3, 4), c=floats(12)),
                call("a.masked_scatter(b, c)", a=floats(3, 4), b=truths(3, 1), c=floats(4, 4)),
                call("a.masked_scatter(b, c)", a=whole(3, 4), b=truths(3, 4), c=whole(3, 4)),
            ]
        ),
        "permute.default": _each(("a.permute(2, 0, 1)", "a.permute(-1, 0, -2)", "a.permute(0, 1, 2)")),
        "transpose.int": _each(("a.transpose(0, -1)", "a.transpose(1, 2)")),
        "t.default": _each(("a[0].t()",)),
        "repeat.default": (
            *_each(("a.repeat(2, 1, 3)", "a.repeat(2, 1, 1, 2)", "a.repeat(1, 1, 1)")),
            call("a.repeat(3)", a=floats()),
        ),
        "repeat_interleave.self_int": _each(
            ("a.repeat_interleave(2, 1)", "a.repeat_interleave(3, -1)", "a.repeat_interleave(2)")
        ),
        "tile.default": _each(("a.tile(2)", "a.tile((2, 1, 1, 2))")),
        "scatter.src": that_run(
            [
                call("a.scatter(1, b, c)", a=floats(2, 3, 4), b=whole(2, 1, 4, low=0, high=2), c=floats(2, 1, 4)),
                call("a.scatter(-1, b.argsort(-1), c)", a=floats(2, 3), b=floats(2, 3), c=floats(2, 3)),
                call("a.scatter(0, b, c)", a=whole(4), b=whole(1, low=0, high=3), c=whole(1)),
                call("a.scatter(1, b.argsort(-1), c)", a=truths(2, 3), b=floats(2, 3), c=truths(2, 3)),
            ]
        ),
        "scatter.value": that_run(
            [
                call("a.scatter(1, b, 1.5)", a=floats(2, 3, 4), b=whole(2, 2, 4, low=0, high=2)),
                call("a.scatter(-1, b, 7)", a=whole(2, 3), b=whole(2, 2, low=0, high=2)),
                call("a.scatter(0, b, True)", a=truths(4), b=whole(2, low=0, high=3)),
                call("torch.zeros(2, 5).scatter(1, a, 1.0)", a=whole(2, 3, low=0, high=4)),
            ]
        ),
        "scatter_add.default": that_run(
            call(f"a.scatter_add({dim}, b, c)", a=a, b=_INDEX, c=c)
            for dim in ("0", "1", "-1")
            for a, c in ((floats(2, 3, 4), floats(2, 2, 4)), (whole(2, 3, 4), whole(2, 2, 4)))
        ),
        "scatter_reduce.two": that_run(
            call(f"a.scatter_reduce({dim}, b, c, '{how}', include_self={own})", a=a, b=_INDEX, c=c)
            for dim, own in (("1", True), ("1", False), ("-1", True))
            for how in ("sum", "mean", "amax", "amin", "prod")
            for a, c in ((floats(2, 3, 4), floats(2, 2, 4)), (whole(2, 3, 4), whole(2, 2, 4)))
        ),
        "select.int": _each(("a.select(0, 1)", "a.select(-1, -2)", "a[:, 1]", "a[0, 1, 2]")),
        "select_scatter.default": _each(
            ("torch.select_scatter(a, a[0] * 1, 0, 1)", "torch.select_scatter(a, a[..., 0] * 1, -1, -1)")
        ),
        "slice.Tensor": _each(
            ("a[1:]", "a[:, -2:]", "a[..., ::2]", "a[:, :, 1:-1]", "a[:, 0:99]", "a[..., 3:]", "a[:, ::3, 1::2]")
        ),
        "slice_scatter.default": _each(
            ("torch.slice_scatter(a, a[:, :2] * 1, 1, 1, 3)", "torch.slice_scatter(a, a[..., :2] * 1, -1, 0, 4, 2)")
        ),
        "split_with_sizes.default": _each(("a.split((1, 2), 1)", "a.split([3, 1], -1)", "torch.split(a, 3, -1)")),
        "split.Tensor": _each(("a.split(2, 1)", "a.split(3, -1)")),
        "chunk.default": _each(("a.chunk(2, 1)", "a.chunk(2, -1)", "a.chunk(3)")),
        "unbind.int": _each(("a.unbind()", "a.unbind(-1)")),
        "squeeze.dim": _each(("a[:, :1].squeeze(1)", "a[..., :1].squeeze(-1)", "a.squeeze(0)")),
        "squeeze.dims": _each(("a[:1, :1].squeeze((0, 1))", "a[:1, :1].squeeze((0, 2))")),
        "squeeze.default": _each(("a[:1, :, :1].squeeze()",)),
        "unsqueeze.default": (
            *_each(("a.unsqueeze(0)", "a.unsqueeze(-1)", "a[:, None]")),
            call("a.unsqueeze(0)", a=floats()),
        ),
        "view.default": (
            *_each(("a.view(6, 4)", "a.view(2, -1)", "a.view(-1)", "a.view(1, 2, 3, 2, 2)")),
            call("a.view(1, 1)", a=floats()),
            call("a.view(())", a=floats(1, 1)),
        ),
        "reshape.default": _each(("a.transpose(0, 1).reshape(3, -1)",)),
        "flatten.using_ints": (
            *_each(("a.flatten()", "a.flatten(1)", "a.flatten(0, -2)")),
            call("a.flatten()", a=floats()),
        ),
        "unflatten.int": _each(("a.unflatten(-1, (2, 2))",)),
        "unfold.default": _each(("a.unfold(-1, 2, 1)", "a.unfold(1, 2, 2)"), (floats(2, 3, 6), whole(2, 3, 6))),
        "movedim.int": _each(("a.movedim(0, -1)",)),
        "tril.default": _each(("a.tril()", "a.tril(-1)", "a.tril(1)")),
        "triu.default": _each(("a.triu()", "a.triu(2)")),
        "meshgrid.indexing": (
            call("torch.meshgrid(a, b, indexing='ij')", a=floats(3), b=floats(4)),
            call("torch.meshgrid(a, b, indexing='xy')", a=whole(3), b=whole(4)),
        ),
        "one_hot.default": (
            call("F.one_hot(a, 5)", a=whole(2, 3, low=0, high=4)),
            call("F.one_hot(a, 5).float()", a=whole(low=0, high=4)),
        ),
        "embedding.default": (
            call("F.embedding(a, b)", a=whole(2, 3, low=0, high=4), b=floats(5, 4)),
            call("F.embedding(a, b)", a=whole(low=0, high=4), b=floats(5, 4)),
            call("F.embedding(a, b, padding_idx=0)", a=whole(2, low=0, high=4, dtype=torch.int32), b=floats(5, 4)),
        ),
        "_embedding_bag.default": (
            call("F.embedding_bag(a, b)", a=whole(2, 3, low=0, high=4), b=floats(5, 4)),
            call("F.embedding_bag(a, b, mode='sum')", a=whole(2, 3, low=0, high=4), b=floats(5, 4)),
        ),
        "nonzero.default": (
            call("(torch.arange(6) % 2).nonzero().squeeze(-1) + a", a=whole(3)),
            call("a.nonzero()", a=truths(5)),
        ),
        "arange.start_step": (
            call("torch.arange(0, 6, 2) + a", a=whole(3)),
            call("torch.arange(5.0) * a", a=floats(5)),
        ),
        "full.default": (
            call("torch.full((2, 3), 1.5) * a", a=floats(3)),
            call("torch.full((2,), 7) + a", a=whole(2)),
            call("torch.full((), True) & a", a=truths(2)),
        ),
        "full_like.default": _each(
            ("torch.full_like(a, 2) + a", "torch.zeros_like(a) + a", "torch.ones_like(a, dtype=torch.float32) * 3 + a")
        ),
        "empty.memory_format": (call("torch.empty(2, 3).fill_(1.5) + a", a=floats(3)),),
        "empty_strided.default": (call("torch.empty_strided((2, 3), (3, 1)).fill_(1.5) + a", a=floats(3)),),
        "scalar_tensor.default": (call("torch.scalar_tensor(2.5) * a", a=floats(3)),),
        "eye.default": (call("torch.eye(3) * a", a=floats(3)),),
        "linspace.default": (call("torch.linspace(0, 1, 5) * a", a=floats(5)),),
        "rand.default": (call("torch.rand(2, 3, generator=torch.Generator().manual_seed(3)) * 0 + a", a=floats(3)),),
        "randn.default": (call("torch.randn(2, 3) * 0 + a", a=floats(3)),),
        "randperm.default": (call("torch.randperm(3) * 0 + a", a=whole(3)),),
        "native_dropout.default": (
            call("F.dropout(a, 0.5, training=False)", a=floats(3)),
            call("aten.native_dropout.default(a, 0.5, False)[0]", a=floats(3)),
        ),
        "sym_size.int": (call("a * a.shape[0]", a=floats(3)),),
        "sym_numel.default": (call("a * a.numel()", a=floats(3)),),
        "sym_stride.int": (call("a * a.stride(0)", a=floats(3)),),
        "sym_storage_offset.default": (call("a * a.storage_offset()", a=floats(3)),),
        "_local_scalar_dense.default": (
            call("a * torch.tensor([2.0]).item()", a=floats(3)),
            call("a * b.item()", a=floats(3), b=floats(1)),
        ),
        "isin.Tensor_Tensor": (call("torch.isin(a, b)", a=whole(3, 4), b=whole(2)),),
        "searchsorted.Tensor": (call("torch.searchsorted(torch.tensor([-1.0, 0.0, 0.5]), a)", a=floats(3, 4)),),
    }.items()
}
"""By operator, its calls."""
