"""Calls of operators that reduce, normalise, order or accumulate along dimensions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import torch
from calls import Call, Draw, apart, call, floats, that_run, truths, whole

_KINDS: Final = (floats(2, 3, 4), whole(2, 3, 4), truths(2, 3, 4), whole(2, 3, 4, low=0, high=255, dtype=torch.uint8))
_DIMS: Final = ("-1", "0, keepdim=True", "-2", "1, keepdim=True")
_SEVERAL: Final = ("(0, 2)", "(-1, 1), keepdim=True", "(-3, -1)")


def _along(template: str, arguments: Iterable[str], kinds: Iterable[Draw] = _KINDS) -> tuple[Call, ...]:
    """Of these kinds, and of a row, whose reduction is a single number."""
    return that_run(call(template.format(argument), a=a) for argument in arguments for a in (*kinds, floats(5)))


_NUMBERS: Final = (floats(), floats(1), floats(5, 1))
_DISTINCT: Final = (apart(2, 3, 4), apart(2, 3, 4, dtype=torch.int64), apart(2, 3, 4, dtype=torch.int32))


def _whole_tensor(template: str) -> tuple[Call, ...]:
    return that_run(call(template, a=a) for a in (*_KINDS, *_NUMBERS))


REDUCTIONS: Final = {
    f"aten.{name}": calls
    for name, calls in {
        "amax.default": (*_along("a.amax({})", (*_DIMS, *_SEVERAL, "")), call("a.amax(0)", a=floats())),
        "amin.default": (*_along("a.amin({})", (*_DIMS, *_SEVERAL, "")), call("a.amin(-1)", a=floats(3, 1))),
        "max.default": _whole_tensor("a.max()"),
        "min.default": _whole_tensor("a.min()"),
        "aminmax.default": that_run(
            [call("torch.aminmax(a, dim=-1)", a=floats(2, 3)), call("torch.aminmax(a)", a=floats(2, 3))]
        ),
        "any.default": _whole_tensor("(a > 1).any()"),
        "any.dim": (*_along("torch.any(a, {})", _DIMS),),
        "any.dims": _along("torch.any(a, {})", ("(0, 2)", "(-1, 1), keepdim=True")),
        "all.default": _whole_tensor("(a > -1).all()"),
        "all.dim": _along("torch.all(a, {})", _DIMS),
        "argmax.default": (
            *_along("a.argmax({})", (*_DIMS, ""), _DISTINCT),
            call("a.argmax()", a=floats()),
            call("a.argmax(-1)", a=floats(5, 1)),
        ),
        "argmin.default": (*_along("a.argmin({})", (*_DIMS, ""), _DISTINCT), call("a.argmin(0)", a=floats(1))),
        "max.dim": (*_along("a.max({})", _DIMS, _DISTINCT), call("a.max(0)", a=floats())),
        "min.dim": (*_along("a.min({})", _DIMS, _DISTINCT), call("a.min(0)", a=floats(1))),
        "mean.default": _whole_tensor("a.mean()"),
        "mean.dim": _along("a.mean({})", (*_DIMS, *_SEVERAL, "-1, dtype=torch.float32")),
        "sum.default": _whole_tensor("a.sum()"),
        "sum.dim_IntList": _along("a.sum({})", (*_DIMS, *_SEVERAL, "-1, dtype=torch.float32", "0, dtype=torch.int64")),
        "prod.default": that_run(
            call("a.prod()", a=a) for a in (floats(2, 3), whole(2, 3, low=1, high=3), truths(4), floats())
        ),
        "prod.dim_int": _along("a.prod({})", _DIMS, (floats(2, 3, 4), whole(2, 3, 4, low=-3, high=3), truths(2, 3, 4))),
        "var.correction": _along(
            "a.var({})",
            ("-1, correction=0", "(0, 2), correction=1", "1, correction=2, keepdim=True", "correction=0"),
            (floats(2, 3, 4), floats(3, 3, 2, low=90, high=99)),
        ),
        "var.dim": (
            call("aten.var.dim(a, [-1])", a=floats(2, 3, 4)),
            call("aten.var.dim(a, [0, 1], unbiased=False, keepdim=True)", a=floats(2, 3, 4)),
        ),
        "std.correction": _along(
            "a.std({})", ("-1, correction=0", "(0, 2)", "", "1, keepdim=True"), (floats(2, 3, 4),)
        ),
        "var_mean.correction": _along("torch.var_mean(a, {})", ("-1", "(0, 2), correction=0"), (floats(2, 3, 4),)),
        "logsumexp.default": _along(
            "a.logsumexp({})", ("-1", "(0, 2), keepdim=True"), (floats(2, 3, 4), floats(2, 3, 4, low=50, high=99))
        ),
        "linalg_vector_norm.default": _along(
            "torch.linalg.vector_norm(a, {})",
            ("2", "2, -1", "1, (0, 2), keepdim=True", "math.inf, 1", "3, -1", "0, -1"),
            (floats(2, 3, 4),),
        ),
        "norm.ScalarOpt_dim": (
            call("a.norm(dim=-1, keepdim=True)", a=floats(2, 3, 4)),
            call("a.norm(p=1, dim=1)", a=floats(2, 3, 4)),
        ),
        "median.dim": _along("a.median({})", ("-1", "0, keepdim=True"), (apart(2, 3, 5),)),
        "kthvalue.default": _along("a.kthvalue({})", ("2", "1, 1", "3, 1, keepdim=True"), (apart(2, 3, 5),)),
        "cumsum.default": (
            *_along(
                "a.cumsum({})",
                ("0", "-1", "-2", "1, dtype=torch.float32"),
                (*_KINDS, whole(1, 5, low=2**24, high=2**26)),
            ),
            call("a.cumsum(0)", a=floats()),
        ),
        "cumprod.default": _along("a.cumprod({})", ("0", "-1"), (floats(2, 3, 4), whole(2, 3, low=-3, high=3))),
        "cummax.default": _along("a.cummax({})", ("0", "-1"), (apart(2, 3, 4),)),
        "logcumsumexp.default": _along("a.logcumsumexp({})", ("-1",), (floats(2, 3, 4),)),
        "sort.default": _along("a.sort({})", ("", "0", "-2, descending=True", "-1, descending=True"), _DISTINCT),
        "sort.stable": _along(
            "torch.sort(a, stable=True{})",
            ("", ", dim=1, descending=True"),
            (apart(2, 3, 4), whole(2, 9), truths(2, 9)),
        ),
        "argsort.default": _along("a.argsort({})", ("-1", "1, descending=True"), _DISTINCT),
        "topk.default": _along("a.topk({})", ("1", "2", "2, 1", "3, -1, largest=False", "2, 0", "4"), _DISTINCT),
        "_softmax.default": (
            *_along("a.softmax({})", ("-1", "0", "1"), (floats(2, 3, 4), floats(2, 3, 4, low=-90, high=90))),
            call("a.softmax(-1)", a=floats()),
            call("a.softmax(-1, dtype=torch.float32)", a=whole(3, 4)),
            call("(a * 8).softmax(0)", a=floats(7)),
        ),
        "_log_softmax.default": _along(
            "a.log_softmax({})", ("-1", "0", "1"), (floats(2, 3, 4), floats(2, 3, 4, low=-90, high=90))
        ),
        "native_layer_norm.default": that_run(
            [
                call("F.layer_norm(a, (4,))", a=floats(2, 3, 4)),
                call("F.layer_norm(a, (4,), b, c)", a=floats(2, 3, 4), b=floats(4), c=floats(4)),
                call("F.layer_norm(a, (3, 4), b, c, 1e-3)", a=floats(2, 3, 4), b=floats(3, 4), c=floats(3, 4)),
                call("F.layer_norm(a, (4,), b)", a=floats(3, 4), b=floats(4)),
            ]
        ),
        "rms_norm.default": that_run(
            [
                call("F.rms_norm(a, (4,))", a=floats(2, 3, 4)),
                call("F.rms_norm(a, (4,), b, 1e-5)", a=floats(2, 3, 4), b=floats(4)),
                call("F.rms_norm(a, (3, 4), b)", a=floats(2, 3, 4), b=floats(3, 4)),
            ]
        ),
        "native_group_norm.default": that_run(
            [
                call("F.group_norm(a, 2)", a=floats(2, 4, 3, 3)),
                call("F.group_norm(a, 2, b, c)", a=floats(2, 4, 5), b=floats(4), c=floats(4)),
                call("F.group_norm(a, 4, b, c, 1e-3)", a=floats(1, 4, 2, 3, 3), b=floats(4), c=floats(4)),
                call("F.group_norm(a, 2)", a=floats(3, 4)),
            ]
        ),
        "_native_batch_norm_legit_no_training.default": that_run(
            [
                call(
                    "aten._native_batch_norm_legit_no_training.default(a, b, c, b, b * b + 1, 0.1, 1e-5)[0]",
                    a=floats(2, 3, 4, 4),
                    b=floats(3),
                    c=floats(3),
                ),
                call(
                    "aten._native_batch_norm_legit_no_training.default(a, None, None, b, c, 0.1, 1e-3)[0]",
                    a=floats(4, 3),
                    b=floats(3),
                    c=floats(3, low=0.5),
                ),
            ]
        ),
        "batch_norm.default": that_run(
            [
                call("F.batch_norm(a, b, c)", a=floats(2, 3, 4), b=floats(3), c=floats(3, low=0.5)),
                call("F.batch_norm(a, b, c, b, c, eps=1e-3)", a=floats(2, 3, 4, 4), b=floats(3), c=floats(3, low=0.5)),
            ]
        ),
        "_native_batch_norm_legit.no_stats": that_run(
            [
                call(
                    "aten._native_batch_norm_legit.no_stats(a, b, c, True, 0.1, 1e-5)",
                    a=floats(2, 3, 4, 4),
                    b=floats(3),
                    c=floats(3),
                ),
                call("F.instance_norm(a)", a=floats(2, 3, 4, 4)),
                call("F.instance_norm(a, weight=b, bias=c)", a=floats(2, 3, 5), b=floats(3), c=floats(3)),
            ]
        ),
        "_native_batch_norm_legit.default": that_run(
            [
                call(
                    "aten._native_batch_norm_legit.default(a, b, b, b.clone(), c.clone(), False, 0.1, 1e-5)[0]",
                    a=floats(2, 3, 4),
                    b=floats(3),
                    c=floats(3, low=0.5),
                ),
            ]
        ),
        "_weight_norm_interface.default": that_run(
            [call("torch._weight_norm(a, b, 0)", a=floats(3, 4), b=floats(3, 1))]
        ),
    }.items()
}
"""By operator, its calls."""
