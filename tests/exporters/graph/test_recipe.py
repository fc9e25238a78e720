"""A recipe followed on other weights gives what folding those weights gives."""

import copy
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tm_export.exporters.capture.capture import capture
from tm_export.exporters.convert.convert import lower
from tm_export.exporters.graph.constants import fold_weights
from tm_export.exporters.graph.recipe import Recipe
from tm_export.exporters.graph.tensors import tensors_of, with_tensors
from tm_export.exporters.options import ExportOptions
from tm_export.exporters.reference.replay import replay
from tm_export.exporters.targets.base import find_target

SIZE = 4

Made = Callable[[Tensor, Tensor], Tensor]
MADE: dict[str, Made] = {
    "as it is": lambda w, _v: w,
    "scaled": lambda w, _v: w * 2.0,
    "turned": lambda w, _v: w.transpose(0, 1),
    "both": lambda w, v: torch.cat((w[:2], v[2:])) @ w,
    "part": lambda w, v: w[1:3].repeat(2, 1) + v,
    "norm": lambda w, v: w / v.norm(dim=1, keepdim=True),
    "with a constant": lambda w, _v: w * torch.arange(1.0, SIZE + 1),
    "of a constant alone": lambda _w, _v: torch.arange(16.0).view(SIZE, SIZE).exp() / 1e6,
    "twice the same": lambda w, v: (w + v) * (w + v),
}


class Folding(nn.Module):
    """Products of tokens [2, C] with what is made of two weights."""

    def __init__(self, kinds: tuple[str, ...]) -> None:
        super().__init__()
        self.w, self.v = nn.Parameter(torch.randn(SIZE, SIZE)), nn.Parameter(torch.randn(SIZE, SIZE))
        self.kinds = kinds

    def forward(self, x: Tensor) -> Tensor:
        for kind in self.kinds:
            x = torch.tanh(x @ MADE[kind](self.w, self.v))
        return x


def other_weights(module: nn.Module, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(tensor.shape, generator=generator) for name, tensor in module.state_dict().items()}


def eager(module: nn.Module, weights: dict[str, Tensor], x: Tensor) -> Tensor:
    changed = copy.deepcopy(module)
    changed.load_state_dict(weights)
    with torch.no_grad():
        return changed(x)


@settings(max_examples=12)
@given(st.lists(st.sampled_from(sorted(MADE)), min_size=1, max_size=4).map(tuple), st.integers(1, 100))
def test_following_a_recipe_is_folding_anew(kinds: tuple[str, ...], seed: int) -> None:
    torch.manual_seed(0)
    module, x = Folding(kinds), torch.randn(2, SIZE)
    weights = other_weights(module, seed)
    program = capture(module, (x,))
    folded, step = fold_weights(copy.deepcopy(program))
    anew, _ = fold_weights(with_tensors(copy.deepcopy(program), weights))
    followed = Recipe(step).follow(weights)
    held = tensors_of(anew)
    assert tensors_of(folded).keys() == held.keys()
    for name, tensor in held.items():
        from_weights = name in followed
        assert torch.equal(followed[name] if from_weights else tensors_of(folded)[name], tensor)
    got = replay(with_tensors(folded, followed), (x,)).outputs[0]
    torch.testing.assert_close(got, eager(module, weights, x))


@pytest.mark.parametrize("kind", ["as it is", "of a constant alone"])
def test_what_needs_no_weights_has_no_step(kind: str) -> None:
    torch.manual_seed(0)
    _, step = fold_weights(capture(Folding((kind,)), (torch.randn(2, SIZE),)))
    assert step is None


def test_a_step_reads_only_what_it_makes_something_of() -> None:
    torch.manual_seed(0)
    module = Folding(("as it is", "scaled"))
    folded, step = fold_weights(capture(module, (torch.randn(2, SIZE),)))
    assert step is not None and step.reads == ("w",) and len(step.makes) == 1
    weights = other_weights(module, 1)
    followed = Recipe(step).follow(weights)
    assert torch.equal(followed["w"], weights["w"])
    assert torch.equal(followed[step.makes[0]], weights["w"] * 2.0)
    assert set(step.makes) < set(tensors_of(folded))


def test_a_copy_is_of_what_the_step_made_or_of_a_weight() -> None:
    torch.manual_seed(0)
    module = Folding(("scaled",))
    _, step = fold_weights(capture(module, (torch.randn(2, SIZE),)))
    assert step is not None
    weights = other_weights(module, 1)
    followed = Recipe(step, {"a": step.makes[0], "b": "v", "c": "not there"}).follow(weights)
    assert torch.equal(followed["a"], weights["w"] * 2.0)
    assert followed["b"] is weights["v"]
    assert "c" not in followed


class Layer(nn.Module):
    """What XNNPACK's rules take apart: a norm in front of a split product, attention, GELU."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.qkv, self.out = nn.LayerNorm(8), nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).view(1, -1, 3, 2, 4).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)
        return x + nn.functional.gelu(self.out(mixed))


@pytest.mark.parametrize("target", ["onnx", "coreml", "executorch"])
def test_recipe_of_each_target_gives_what_the_module_computes(target: str) -> None:
    torch.manual_seed(0)
    module, x = Layer(), torch.randn(1, 6, 8)
    weights = other_weights(module, 3)
    legalized = lower(capture(module, (x,)), find_target(target), ExportOptions(precision="fp32"))
    followed = legalized.recipe.follow(weights)
    got = replay(with_tensors(legalized.program, followed), (x,)).outputs[0]
    torch.testing.assert_close(got, eager(module, weights, x), rtol=1e-4, atol=1e-5)
