"""However a module is called, its source computes what the module does, on flat tensors with telling names."""

import dataclasses
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tm_export.exporters.capture.capture import capture
from tm_export.exporters.errors import ConversionRefused, ExportError, UsageError
from tm_export.exporters.source.flat_call import FlatCall
from tm_export.exporters.source.model_source import ComponentSource
from tm_export.exporters.source.module_source import source_of_module
from tm_export.exporters.source.nested import leaves_of, rebuilt


class Calls(nn.Module):
    """A module whose forward is the function that it is given."""

    def __init__(self, forward: Callable[..., Any]) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(3.0))
        self.forward = forward


@dataclasses.dataclass
class Pair:
    left: Tensor
    right: Tensor | None = None


class Output(OrderedDict):  # type: ignore[type-arg]
    """As a library's own output class: no pytree node."""


Named = namedtuple("Named", ["a", "b"])

X, Y = torch.arange(6.0).reshape(2, 3), torch.ones(2, 3)


def only_by_keyword(x: Tensor, *, scale: Tensor) -> Tensor:
    return x * scale


def with_rest(x: Tensor, *rest: Tensor, **more: Tensor) -> Tensor:
    return x + rest[0] - more["bias"]


def add(x: Tensor, y: Tensor) -> Tensor:
    return x + 2 * y


INPUTS: dict[str, tuple[Callable[..., Tensor], Any, list[str], Tensor]] = {
    "dict by position": (
        lambda batch: batch["pixels"] * batch["sizes"][1],
        ({"pixels": X, "sizes": [Y, Y + 1]},),
        ["batch_pixels", "batch_sizes_0", "batch_sizes_1"],
        2 * X,
    ),
    "dict beside the module": (add, {"y": Y, "x": X}, ["y", "x"], X + 2),
    "dict beside a module that takes one": (lambda batch: batch["p"] + 1, {"p": X}, ["batch_p"], X + 1),
    "keywords after positions": (only_by_keyword, (X, {"scale": Y + 1}), ["x", "scale"], 2 * X),
    "rest": (with_rest, (X, Y, {"bias": 3 * Y}), ["x", "rest_0", "bias"], X - 2),
    "keyword of a parameter that has a position": (
        lambda x, mask=None: x if mask is None else x * mask,
        (X, {"mask": Y + 2}),
        ["x", "mask"],
        3 * X,
    ),
    "dataclass": (lambda pair: pair.left * 2, (Pair(X, Y),), ["pair_left", "pair_right"], 2 * X),
    "named tuple": (lambda pair: pair.a - pair.b, (Named(X, Y),), ["pair_a", "pair_b"], X - 1),
    "constants": (lambda x, k, mode, mask=None: x[:, :k] if mask is None else x, (X, 2, "up", None), ["x"], X[:, :2]),
    "one tensor twice": (add, (X, X), ["x", "y"], 3 * X),
    "transposed, expanded, with a gradient": (
        add,
        (torch.arange(6.0).reshape(3, 2).T.requires_grad_(), torch.ones(1, 3).expand(2, 3)),
        ["x", "y"],
        torch.tensor([[2.0, 4.0, 6.0], [3.0, 5.0, 7.0]]),
    ),
    "names that are used elsewhere": (lambda float, output_0: float + output_0, (X, Y), ["float", "output_0"], X + 1),
}


def component(module: Any, inputs: Any) -> ComponentSource:
    (only,) = source_of_module(module, inputs, "model").components
    return only


def one(made: ComponentSource) -> nn.Module:
    return next(iter(made.variants.values()))()


@pytest.mark.parametrize("case", INPUTS)
def test_inputs_in_any_nesting(case: str) -> None:
    forward, inputs, names, wanted = INPUTS[case]
    made = component(Calls(forward), inputs)
    assert made.input_names == tuple(names)
    assert len({tensor.data_ptr() for tensor in made.example_inputs}) == len(names)
    assert all(each.is_contiguous() and not each.requires_grad for each in made.example_inputs)
    captured = capture(one(made), made.example_inputs).module()(*made.example_inputs)
    for found in (one(made)(*made.example_inputs), captured):
        torch.testing.assert_close([leaf for _, leaf in leaves_of(found)], [wanted])


OUTPUTS = {
    "tensor": (lambda x: x + 1, None, 0),
    "nested tuples": (lambda x: (x + 1, [x + 2, (x + 3,)]), None, 0),
    "dict": (lambda x: {"tokens": x + 1, "mean": x.mean()}, ("tokens", "mean"), 0),
    "dict in a tuple": (lambda x: (x + 1, {"mean": x.mean()}), ("output_0", "output_1_mean"), 0),
    "dataclass": (lambda x: Pair(x + 1), ("left",), 1),
    "ordered dict of its own class": (lambda x: Output(last=x + 1, all=(x, x + 2)), ("last", "all_0", "all_1"), 0),
    "named tuple": (lambda x: Named(x + 1, [x + 2]), ("a", "b_0"), 0),
    "numbers and None": (lambda x: (x + 1, None, 7, 0.5, "s", x + 2), None, 4),
    "the name of an input": (lambda x: {"x": x + 1, "x_out": x + 2}, ("x_out", "x_out_2"), 0),
}


@pytest.mark.parametrize("case", OUTPUTS)
def test_outputs_in_any_nesting(case: str) -> None:
    forward, names, left_out = OUTPUTS[case]
    source = source_of_module(Calls(forward), X, "model")
    (made,) = source.components
    wanted = [leaf for _, leaf in leaves_of(forward(X)) if isinstance(leaf, Tensor)]
    assert made.output_names == names
    assert bool(source.notes) == bool(left_out)
    captured = capture(one(made), made.example_inputs).module()(*made.example_inputs)
    for found in (one(made)(X), captured):
        torch.testing.assert_close([leaf for _, leaf in leaves_of(found)], wanted)


def test_a_module_of_flat_tensors_is_exported_as_it_is() -> None:
    module = nn.Linear(3, 3)
    assert one(component(module, X)) is module
    assert not isinstance(one(component({"full": module}, (X,))), FlatCall)


@pytest.mark.parametrize("value", [{"a": X, "b": [1, (X, None)]}, Pair(X), Named(X, 2), Output(z=X)])
def test_nesting_is_rebuilt_around_its_own_leaves(value: Any) -> None:
    again = rebuilt(value, (leaf for _, leaf in leaves_of(value)))
    assert type(again) is type(value) and again is not value
    assert [path for path, _ in leaves_of(again)] == [path for path, _ in leaves_of(value)]
    assert all(mine is its for (_, mine), (_, its) in zip(leaves_of(again), leaves_of(value), strict=True))


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.dropout = nn.Linear(3, 3), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.linear(x)).relu()


WRAPPED = {
    "compiled": torch.compile,
    "data parallel": nn.DataParallel,
    "exported": lambda module: torch.export.export(module, (X,)),
    "module of an exported one": lambda module: torch.export.export(module, (X,)).module(),
    "traced": lambda module: torch.jit.trace(module, X),
    "scripted": torch.jit.script,
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_wrappers_are_taken_off(kind: str) -> None:
    module = Gated().eval()
    made = component(WRAPPED[kind](module), (X,))
    assert made.input_names == ("x",)
    (found,) = leaves_of(capture(one(made), made.example_inputs).module()(*made.example_inputs))
    torch.testing.assert_close(found[1], module(X))


def test_a_compiled_part_is_not_compiled_for_it() -> None:
    def never(*_: object) -> None:
        raise AssertionError("compiled")

    module = nn.Sequential(torch.compile(nn.Linear(3, 3), backend=never))
    assert component(module, X).output_names is None


def test_a_module_is_left_as_it_was_given() -> None:
    module = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5)).train()
    module[1].eval()
    counts = nn.Module()
    counts.register_buffer("calls", torch.zeros(()))
    counts.forward = lambda x: x + counts.calls.add_(1)
    module.append(counts)
    state = {key: value.clone() for key, value in module.state_dict().items()}
    before = torch.random.get_rng_state()
    component(module, X)
    assert [part.training for part in module] == [True, False, True]
    torch.testing.assert_close(module.state_dict(), state)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_variants_may_take_other_shapes_under_the_same_names() -> None:
    modules = {"prefill": Calls(lambda x, cache: x + cache[:, :1]), "decode": Calls(lambda x, cache: x * 2)}
    made = component(modules, {"prefill": (X, Y), "decode": (X[:1], Y)})
    assert made.input_names == ("x", "cache")
    assert [made.inputs_of(variant)[0].shape[0] for variant in modules] == [2, 1]


def quantized() -> nn.Module:
    return torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(3, 3)), {nn.Linear}, torch.qint8)


REFUSED: dict[str, tuple[Callable[[], Any], Any, type[ExportError], str]] = {
    "quantised": (quantized, X, ConversionRefused, "part '0' of variant 'full' is quantised"),
    "lazy": (lambda: nn.LazyLinear(3), X, UsageError, "'weight' of variant 'full' has no shape yet"),
    "meta": (lambda: nn.Linear(3, 3, device="meta"), X, UsageError, "'weight' of variant 'full' is on the meta device"),
    "scripted part": (
        lambda: nn.Sequential(torch.jit.script(nn.Linear(3, 3))),
        X,
        ConversionRefused,
        "part '0' of variant 'full' is a TorchScript module",
    ),
    "object in": (lambda: Calls(lambda x, y: x), (X, object()), UsageError, "example input 'y' is of type object"),
    "object out": (lambda: Calls(lambda x: object()), X, UsageError, "forward returns an object of type object"),
    "nothing out": (lambda: Calls(lambda x: None), X, UsageError, "forward returns no tensor"),
    "meta in": (lambda: Calls(lambda x: x), X.to("meta"), UsageError, "example input 'x' is on the meta device"),
    "sparse in": (lambda: Calls(lambda x: x), X.to_sparse(), UsageError, "example input 'x' is sparse"),
    "raises": (lambda: Calls(lambda x: x @ x), X, UsageError, r"does not run .* at test_module_source.py:\d+: .*x @ x"),
    "other inputs": (
        lambda: {"a": Calls(add), "b": Calls(lambda x, z: x)},
        (X, Y),
        UsageError,
        "variant 'a' takes x, y, and variant 'b' takes x, z: give forward the same parameters",
    ),
    "other outputs": (
        lambda: {"a": Calls(lambda x: x), "b": Calls(lambda x: (x, x))},
        X,
        UsageError,
        "variant 'a' returns output_0, and variant 'b' returns output_0, output_1",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_exported_is_refused_by_name(case: str) -> None:
    build, inputs, kind, said = REFUSED[case]
    with pytest.raises(kind, match=said) as refusal:
        component(build(), inputs)
    assert "\n" not in str(refusal.value)
    assert type(refusal.value) is kind
