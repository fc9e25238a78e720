"""Calls of operators that compute each element by itself."""

from __future__ import annotations

from typing import Final

import torch
from calls import Call, Draw, call, floats, that_run, truths, whole

BYTES: Final = whole(2, 3, 4, low=0, high=255, dtype=torch.uint8)
INT32: Final = whole(2, 3, 4, low=-(2**20), high=2**20, dtype=torch.int32)
LARGE: Final = whole(2, 3, 4, low=2**24, high=2**30)
INFINITE: Final = "torch.cat([a.flatten(), torch.tensor([math.inf, -math.inf, 0.0])])"

DOMAINS: Final = {
    "abs": (-2, 2), "acos": (-0.95, 0.95), "acosh": (1.05, 4), "asin": (-0.95, 0.95), "asinh": (-3, 3),
    "atan": (-3, 3), "atanh": (-0.9, 0.9), "ceil": (-4, 4), "cos": (-7, 7), "cosh": (-3, 3), "erf": (-3, 3),
    "exp": (-4, 4), "expm1": (-2, 2), "floor": (-4, 4), "log": (0.05, 5), "log10": (0.05, 5), "log1p": (-0.9, 5),
    "log2": (0.05, 5), "neg": (-2, 2), "reciprocal": (0.2, 3), "relu": (-2, 2), "round": (-4, 4),
    "rsqrt": (0.1, 4), "sigmoid": (-6, 6), "sign": (-2, 2), "sin": (-7, 7), "sinh": (-3, 3), "sqrt": (0, 4),
    "tan": (-1.2, 1.2), "tanh": (-3, 3), "trunc": (-4, 4), "isinf": (-2, 2), "isnan": (-2, 2),
    "logical_not": (-2, 2), "bitwise_not": (-2, 2),
}  # fmt: skip
"""Functions of one number, and where their arguments are drawn from."""


def _unary(name: str, low: float, high: float) -> tuple[Call, ...]:
    function = f"torch.{name}"
    exact = [call(f"{function}(a)", a=Draw((4, 3), torch.int64, max(0, round(low)), round(high)))]
    return that_run([
        call(f"{function}(a)", a=floats(2, 3, 4, low=low, high=high)),
        call(f"{function}(a)", a=floats(low=low, high=high)),
        call(f"{function}(a)", a=floats(1, 1, low=low, high=high)),
        call(f"{function}(torch.round(a * 2) / 2)", a=floats(40, low=low, high=high)),
        *exact,
        call(f"{function}(a)", a=whole(2, 5) if low < 0 else whole(2, 5, low=2, high=9)),
        call(f"{function}(a)", a=INT32) if name in _WHOLE else call(f"{function}(a)", a=truths(5)),
        call(f"{function}(a)", a=BYTES),
        call(f"{function}(a)", a=truths(3, 4)),
        call(f"{function}({INFINITE})", a=floats(2, 3, low=low, high=high)),
    ])  # fmt: skip


_WHOLE: Final = {"abs", "neg", "sign", "relu", "ceil", "floor", "round", "trunc", "logical_not", "bitwise_not"}

_OPERANDS: Final[dict[str, tuple[Draw, Draw]]] = {
    "floats": (floats(2, 3, 4), floats(2, 3, 4)),
    "broadcast": (floats(2, 1, 4), floats(3, 1)),
    "numbers": (floats(), floats()),
    "one": (floats(1), floats(2, 3)),
    "positive": (floats(3, 4, low=0.2, high=3), floats(3, 4, low=0.2, high=3)),
    "integers": (whole(5, 6), whole(5, 6)),
    "nonzero integers": (whole(5, 6, low=-40, high=40), whole(5, 6, low=1, high=7)),
    "negative integers": (whole(5, 6, low=-40, high=40), whole(5, 6, low=-7, high=-1)),
    "small powers": (whole(5, 6, low=-3, high=3), whole(5, 6, low=0, high=4)),
    "int32": (INT32, whole(2, 3, 4, low=1, high=9, dtype=torch.int32)),
    "bytes": (BYTES, whole(2, 3, 4, low=1, high=255, dtype=torch.uint8)),
    "large": (LARGE, whole(2, 3, 4, low=1, high=3)),
    "mixed": (floats(2, 3), whole(2, 3, low=1, high=4)),
    "mixed the other way": (whole(2, 3, low=1, high=4), floats(2, 3)),
    "truths": (truths(4, 5), truths(4, 5)),
    "truths and integers": (truths(4, 5), whole(4, 5, low=1, high=4)),
    "bits": (whole(3, 4, low=0, high=255), whole(3, 4, low=0, high=7)),
}  # fmt: skip

_NUMBERS: Final[dict[str, tuple[Draw, str]]] = {
    "float, float": (floats(2, 3, 4), "1.5"),
    "float, negative": (floats(2, 3, 4), "-0.7"),
    "float, integer": (floats(2, 3, 4, low=-9, high=9), "3"),
    "float, negative integer": (floats(2, 3, 4, low=-9, high=9), "-3"),
    "number": (floats(low=0.3), "2"),
    "integer, integer": (whole(2, 9, low=-40, high=40), "7"),
    "integer, negative": (whole(2, 9, low=-40, high=40), "-7"),
    "integer, float": (whole(2, 9, low=-40, high=40), "2.5"),
    "int32, integer": (INT32, "5"),
    "bytes, integer": (BYTES, "200"),
    "large, integer": (LARGE, "3"),
    "truth, integer": (truths(3, 4), "1"),
    "truth, truth": (truths(3, 4), "True"),
    "positive, half": (floats(2, 3, low=0.1, high=3), "0.5"),
}  # fmt: skip


def _binary(template: str, *names: str) -> tuple[Call, ...]:
    chosen = {name: pair for name, pair in _OPERANDS.items() if not names or name in names}
    return that_run(call(template, a=a, b=b) for a, b in chosen.values())


def _with_number(template: str, *names: str) -> tuple[Call, ...]:
    chosen = {name: pair for name, pair in _NUMBERS.items() if not names or name in names}
    return that_run(call(template.format(number), a=a) for a, number in chosen.values())


_ALL_BUT_ZERO: Final = (
    "floats", "numbers", "positive", "nonzero integers", "negative integers", "int32", "bytes", "large", "mixed",
    "truths and integers",
)  # fmt: skip
_TWO_NUMBERS: Final = ("floats", "broadcast", "numbers", "one", "positive", "mixed", "integers", "int32", "bytes")
_POWERS: Final = ("positive", "small powers", "mixed")
_COMPARED: Final = ("eq", "ge", "gt", "le", "lt", "ne")

TWO: Final = {
    "add.Tensor": _binary("a + b"),
    "sub.Tensor": _binary("a - b"),
    "mul.Tensor": _binary("a * b"),
    "div.Tensor": _binary("a / b", *_ALL_BUT_ZERO),
    "div.Tensor_mode": (
        *_binary("torch.div(a, b, rounding_mode='floor')", *_ALL_BUT_ZERO),
        *_binary("torch.div(a, b, rounding_mode='trunc')", *_ALL_BUT_ZERO),
    ),
    "floor_divide.default": _binary("a // b", *_ALL_BUT_ZERO),
    "fmod.Tensor": _binary("torch.fmod(a, b)", *_ALL_BUT_ZERO),
    "remainder.Tensor": _binary("a % b", *_ALL_BUT_ZERO),
    "pow.Tensor_Tensor": _binary("a ** b", *_POWERS),
    "atan2.default": (*_binary("torch.atan2(a, b)", *_TWO_NUMBERS), call("torch.atan2(a, a * 0 - 1)", a=floats(5))),
    "maximum.default": _binary("torch.maximum(a, b)"),
    "minimum.default": _binary("torch.minimum(a, b)"),
    **{f"{name}.Tensor": _binary(f"torch.{name}(a, b)") for name in _COMPARED},
    **{f"logical_{name}.default": _binary(f"torch.logical_{name}(a, b)") for name in ("and", "or", "xor")},
    **{f"bitwise_{name}.Tensor": _binary(f"torch.bitwise_{name}(a, b)") for name in ("and", "or", "xor")},
    "__lshift__.Tensor": _binary("a << b", "bits"),
    "__rshift__.Tensor": _binary("a >> b", "bits"),
}  # fmt: skip

NUMBER: Final = {
    "add.Scalar": _with_number("aten.add.Scalar(a, {})"),
    "sub.Scalar": _with_number("aten.sub.Scalar(a, {})"),
    "mul.Scalar": _with_number("aten.mul.Scalar(a, {})"),
    "div.Scalar": _with_number("aten.div.Scalar(a, {})"),
    "div.Scalar_mode": (
        *_with_number("aten.div.Scalar_mode(a, {}, rounding_mode='floor')"),
        *_with_number("aten.div.Scalar_mode(a, {}, rounding_mode='trunc')"),
    ),
    "fmod.Scalar": _with_number("torch.fmod(a, {})"),
    "remainder.Scalar": _with_number("a % {}"),
    "pow.Tensor_Scalar": _with_number("a ** {}", "float, integer", "integer, integer", "number", "positive, half"),
    "pow.Scalar": tuple(call(f"{base} ** a", a=a) for base in ("2.5", "2") for a in (floats(2, 3), floats(), whole(4))),
    **{f"{name}.Scalar": _with_number(f"torch.{name}(a, {{}})") for name in _COMPARED},
    **{f"bitwise_{name}.Scalar": _with_number(f"aten.bitwise_{name}.Scalar(a, {{}})") for name in ("and", "or", "xor")},
    "rsub.Scalar": _with_number("{} - a"),
}  # fmt: skip

_ANY: Final = (floats(2, 3, 4), floats(), whole(3, 4), truths(3))


def _activations(*texts: str) -> tuple[Call, ...]:
    shapes = (floats(2, 3, 4, low=-5, high=5), floats(), floats(1, 7, low=-5, high=5))
    return tuple(call(text, a=a) for text in texts for a in shapes)


ONE: Final = {
    **{f"{name}.default": _unary(name, *domain) for name, domain in DOMAINS.items()},
    "round.decimals": that_run(
        [
            call("torch.round(a, decimals=1)", a=floats(2, 3)),
            call("a.round(decimals=-1)", a=floats(9, low=-99, high=99)),
        ]
    ),
    "clamp.default": that_run(
        call(f"a.clamp({bounds})", a=a)
        for bounds in ("-1, 1", "min=0", "max=0.5", "-1.5, 0.5", "2, -2", "min=-3, max=math.inf")
        for a in (floats(2, 3, 4), floats(), whole(3, 4), INT32, BYTES)
    ),
    "clamp.Tensor": that_run(
        [
            call("torch.clamp(a, b, c)", a=floats(2, 3, 4), b=floats(3, 1, low=-1, high=0), c=floats(4, low=0, high=1)),
            call("torch.clamp(a, min=b)", a=floats(2, 3), b=floats(3)),
            call("torch.clamp(a, max=b)", a=whole(2, 3), b=whole(2, 3)),
            call("torch.clamp(a, b, c)", a=whole(2, 3), b=floats(3, low=-1, high=0), c=floats(3)),
        ]
    ),
    "elu.default": _activations("F.elu(a)", "F.elu(a, 0.5)", "F.selu(a)", "F.celu(a, 1.5)"),
    "gelu.default": _activations("F.gelu(a)", "F.gelu(a, approximate='tanh')"),
    "hardtanh.default": _activations("F.hardtanh(a)", "F.hardtanh(a, -2.0, 0.5)", "F.relu6(a)"),
    "leaky_relu.default": _activations("F.leaky_relu(a)", "F.leaky_relu(a, 0.3)"),
    "silu.default": _activations("F.silu(a)"),
    "mish.default": _activations("F.mish(a)"),
    "softplus.default": _activations("F.softplus(a)", "F.softplus(a, 2.0, 3.0)"),
    "hardswish.default": _activations("F.hardswish(a)"),
    "hardsigmoid.default": _activations("F.hardsigmoid(a)"),
    "log_sigmoid_forward.default": _activations("F.logsigmoid(a)"),
    "threshold.default": _activations("F.threshold(a, 0.5, -3.0)"),
    "softshrink.default": _activations("F.softshrink(a)"),
    "hardshrink.default": _activations("F.hardshrink(a, 1.0)"),
    "_prelu_kernel.default": (
        call("F.prelu(a, b)", a=floats(2, 3, 4), b=floats(3)),
        call("F.prelu(a, b)", a=floats(2, 3), b=floats(1)),
    ),
    "glu.default": (call("F.glu(a)", a=floats(2, 3, 4)), call("F.glu(a, 1)", a=floats(2, 4, 3))),
    "erfc.default": _activations("torch.erfc(a)"),
    "erfinv.default": (call("torch.erfinv(a)", a=floats(2, 5, low=-0.9, high=0.9)),),
    "exp2.default": _activations("torch.exp2(a)"),
    "frac.default": _activations("torch.frac(a)"),
    "square.default": tuple(call("torch.square(a)", a=a) for a in _ANY[:3]),
    "logit.default": (
        call("torch.logit(a)", a=floats(2, 5, low=0.1, high=0.9)),
        call("torch.logit(a, 0.2)", a=floats(2, 5, low=0, high=1)),
    ),
    "signbit.default": (call("torch.signbit(a)", a=floats(2, 5)), call("torch.signbit(a)", a=whole(2, 5))),
    "sgn.default": (call("torch.sgn(a)", a=floats(2, 5)), call("torch.sgn(a)", a=whole(2, 5))),
    "nan_to_num.default": (
        call("torch.nan_to_num(a / b)", a=whole(4, 5, low=-1, high=1), b=whole(4, 5, low=0, high=1)),
        call("torch.nan_to_num(a / b, 1.0, 5.0, -5.0)", a=whole(4, 5, low=-1, high=1), b=whole(4, 5, low=0, high=1)),
        call("torch.nan_to_num(a)", a=floats()),
    ),
    "isfinite.default": (call(f"torch.isfinite({INFINITE})", a=floats(4)), call("torch.isfinite(a)", a=whole(4))),
    "_to_copy.default": that_run(
        call(f"a.to(torch.{dtype})", a=a)
        for dtype in ("float32", "int64", "int32", "bool", "uint8", "float16", "float64")
        for a in (floats(2, 3, low=0, high=9), whole(2, 3, low=0, high=200), truths(2, 3), floats(low=0, high=9))
        if dtype not in str(a.dtype)
    ),
    "where.self": that_run(
        [
            call("torch.where(a, b, c)", a=truths(2, 3, 4), b=floats(2, 3, 4), c=floats(2, 3, 4)),
            call("torch.where(a, b, c)", a=truths(3, 1), b=floats(2, 1, 4), c=floats()),
            call("torch.where(a, b, c)", a=truths(), b=floats(), c=floats()),
            call("torch.where(a, b, c)", a=truths(3, 4), b=whole(3, 4), c=whole(4)),
            call("torch.where(a, b, c)", a=truths(3, 4), b=truths(3, 4), c=truths(3, 4)),
            call("torch.where(a, b, c)", a=truths(3, 4), b=whole(3, 4), c=floats(3, 4)),
            call("torch.where(a, b, -math.inf)", a=truths(3, 4), b=floats(3, 4)),
            call("torch.where(a, 1.0, 0.0)", a=truths(3, 4)),
            call("torch.where(a > 0, a, 0)", a=whole(3, 4)),
        ]
    ),
    "masked_fill.Scalar": (
        call("a.masked_fill(b, -math.inf).softmax(-1)", a=floats(2, 3, 4), b=truths(3, 1)),
        call("a.masked_fill(b, 2)", a=whole(3, 4), b=truths(3, 4)),
        call("a.masked_fill(b, -1e9)", a=floats(3, 4), b=truths(4)),
        call("a.masked_fill(b, True)", a=truths(3, 4), b=truths(4)),
        call("a.masked_fill(b, 1.0)", a=floats(), b=truths()),
    ),
    "masked_fill.Tensor": (call("a.masked_fill(b, c)", a=floats(3, 4), b=truths(3, 4), c=floats()),),
    "lerp.Scalar": (call("torch.lerp(a, b, 0.3)", a=floats(2, 3), b=floats(2, 3)),),
    "lerp.Tensor": (call("torch.lerp(a, b, c)", a=floats(2, 3), b=floats(2, 3), c=floats(3)),),
    "addcmul.default": (call("torch.addcmul(a, b, c, value=0.5)", a=floats(2, 3), b=floats(2, 1), c=floats(3)),),
    "addcdiv.default": (call("torch.addcdiv(a, b, c, value=-2)", a=floats(2, 3), b=floats(2, 1), c=floats(3, low=1)),),
    "xlogy.Tensor": (call("torch.xlogy(a, b)", a=floats(2, 3), b=floats(2, 3, low=0.1)),),
    "logaddexp.default": (call("torch.logaddexp(a, b)", a=floats(2, 3), b=floats(2, 3)),),
    "hypot.default": (call("torch.hypot(a, b)", a=floats(2, 3), b=floats(2, 3)),),
    "copysign.Tensor": (call("torch.copysign(a, b)", a=floats(2, 3), b=floats(2, 3)),),
    "heaviside.default": (call("torch.heaviside(a.round(), b)", a=floats(9), b=floats(9)),),
    "bucketize.Tensor": (
        call("torch.bucketize(a, torch.tensor([-1.0, 0.0, 0.5]))", a=floats(3, 4)),
        call("torch.bucketize(a, torch.tensor([-1, 0, 2]), right=True)", a=whole(3, 4)),
    ),
}

ELEMENTWISE: Final = {f"aten.{name}": calls for name, calls in {**ONE, **TWO, **NUMBER}.items()}
"""By operator, its calls."""
