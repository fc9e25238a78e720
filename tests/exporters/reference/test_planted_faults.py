"""Faults of ours, planted on purpose: an export must find each, whichever stage it is in."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tm_export
from tm_export.exporters.api import export_source
from tm_export.exporters.errors import ParityFailed
from tm_export.exporters.graph import constants, simplify
from tm_export.exporters.graph.dialect import pair_mean
from tm_export.exporters.graph.nodes import arguments, value_of
from tm_export.exporters.graph.retrace import KEEP
from tm_export.exporters.lowering.gather_form import GatherForm
from tm_export.exporters.lowering.onehot_form import OneHotForm
from tm_export.exporters.merging.raising.raise_order import RaiseOrder, Sorting
from tm_export.exporters.merging.raising.raise_pairs import Pairs, RaisePairMean
from tm_export.exporters.options import ExportOptions
from tm_export.exporters.record.records import ExportReport
from tm_export.exporters.reference.fresh import fresh_inputs
from tm_export.exporters.source.model_source import ComponentSource, ModelSource
from tm_export.exporters.weights.fake_module import fake_module
from tm_export.exporters.weights.readers import ModuleWeights


class Of(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def keep_best(x: Tensor) -> Tensor:
    """Keeps 4 of 16 tokens by their first channel; two are protected as many write it."""
    score = x[..., 0].clone()
    score[:, :2] = -1e9
    index = score.topk(4, dim=1).indices
    return x.gather(1, index[..., None].expand(-1, -1, x.shape[-1]))


def pairs(x: Tensor) -> Tensor:
    return (x[:, 0::2] + x[:, 1::2]) / 2


def shifted(x: Tensor) -> Tensor:
    return x * (torch.arange(16)[:, None] + 1.0)


X = torch.randn(1, 16, 4, generator=torch.Generator().manual_seed(3))


def refused_for(function: Callable[[Tensor], Tensor], engine: str, out: Path, target: str = "onnx") -> None:
    """The export fails, and says at which stage."""
    with pytest.raises(ParityFailed, match=f" on {engine} differs from PyTorch"):
        tm_export.export(Of(function), X, target=target, out=out, precision="fp32")


def test_without_a_fault_the_exports_pass(tmp_path: Path) -> None:
    """All three, in one module: what follows fails for the fault alone."""
    tm_export.export(
        Of(lambda x: torch.cat([keep_best(x), pairs(x), shifted(x)], 1)), X, out=tmp_path, precision="fp32"
    )


def test_a_rule_that_misreads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def rewrite(self: RaisePairMean, node: Any, match: Pairs, values: Any) -> Tensor:
        x = values(match.source)
        return pair_mean(torch.cat([x[:, :1], x[:, :-1]], 1))

    monkeypatch.setattr(RaisePairMean, "rewrite", rewrite)
    refused_for(pairs, "raised", tmp_path)


def test_a_rule_that_is_right_for_the_example_inputs_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    original = RaiseOrder.rewrite
    score = X[..., 0].clone()
    score[:, :2] = -1e9
    chosen = score.topk(4, dim=1).indices[0].tolist()

    def rewrite(self: RaiseOrder, node: Any, match: Sorting, values: Any) -> Any:
        if node.target is not torch.ops.aten.topk.default:
            return original(self, node, match, values)
        index = torch.cat([torch.full((1, 1), number) for number in chosen], 1)
        return values(arguments(node)[0]).gather(1, index), index

    monkeypatch.setattr(RaiseOrder, "rewrite", rewrite)
    refused_for(keep_best, "raised", tmp_path)


@pytest.mark.parametrize("form", [GatherForm, OneHotForm])
def test_a_lowering_that_takes_the_next_best(form: type, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One of four decisions is right; the protected tokens' -1e9 must not excuse the other three."""
    original = form.order

    def order(self: Any, keys_BN: Tensor, k: int, descending: bool) -> Any:
        selection = original(self, keys_BN, k + 1, descending)
        return selection.cut(1, k + 1)

    monkeypatch.setattr(form, "order", order)
    with pytest.raises(ParityFailed, match=" on rewrite differs from PyTorch"):
        tm_export.export(Of(keep_best), X, out=tmp_path, precision="fp32", merge_lowering=form.name)


def test_a_fold_that_is_off_by_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    original = constants.add_constants
    monkeypatch.setattr(
        constants, "add_constants", lambda program, tensors: original(program, [tensor + 1 for tensor in tensors])
    )
    refused_for(shifted, "captured", tmp_path)


def test_a_simplification_that_goes_too_far(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A slice of all but the last is taken for one of all."""
    original = simplify.simplified

    def simplified(node: Any, values: Any) -> Any:
        if node.target is torch.ops.aten.mul.Tensor and value_of(node).shape == value_of(arguments(node)[0]).shape:
            return values(arguments(node)[0])
        return original(node, values) if node.target is not KEEP else KEEP

    monkeypatch.setattr("tm_export.exporters.graph.rule.simplified", simplified)
    refused_for(lambda x: pairs(x) * 1.5, "raised", tmp_path)


# Fresh inputs.


def test_fresh_floats_have_the_scale_and_the_range_of_the_example() -> None:
    example = torch.rand(4, 500) * 3 + 2
    (drawn,) = fresh_inputs((example,), 1, lambda _: True) or ()
    assert drawn.shape == example.shape and drawn.dtype == example.dtype
    assert example.min() <= drawn.min() and drawn.max() <= example.max()
    assert drawn.mean() == pytest.approx(float(example.mean()), abs=0.1)
    assert drawn.std() == pytest.approx(float(example.std()), rel=0.2)
    assert not torch.isclose(drawn, example).float().mean() > 0.1


def test_fresh_integers_and_truth_values_stay_within_the_range() -> None:
    ids, mask = torch.tensor([[3, 9, 4, 4] * 50]), torch.tensor([True] * 7 + [False])
    always = torch.ones(9, dtype=torch.bool)
    drawn_ids, drawn_mask, drawn_always = fresh_inputs((ids, mask, always), 1, lambda _: True) or ()
    assert set(drawn_ids.flatten().tolist()) == set(range(3, 10)) and drawn_ids.dtype == torch.int64
    assert drawn_mask.dtype == torch.bool and drawn_always.all()


def test_numbers_that_ascend_are_drawn_ascending_and_positions_in_any_order() -> None:
    bounds, offsets = torch.tensor([[-1.0, 0.0, 0.5, 2.0]] * 3), torch.tensor([0, 3, 3, 9, 12])
    mixed, positions = torch.cat([bounds, bounds.flip(-1)]), torch.arange(40)
    drawn = fresh_inputs((bounds, offsets, mixed, positions), 1, lambda _: True) or ()
    assert [torch.equal(each, each.sort(-1).values) for each in drawn] == [True, True, False, False]


def test_a_seed_says_what_is_drawn() -> None:
    one, same, other = (fresh_inputs((X,), seed, lambda _: True) for seed in (1, 1, 2))
    assert one and same and other
    assert torch.equal(one[0], same[0]) and not torch.equal(one[0], other[0])


def test_inputs_that_the_model_refuses_are_drawn_again() -> None:
    """It takes permutations alone, as the positions of tokens are."""
    example = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    drawn = fresh_inputs((example, X), 1, lambda given: len(set(given[0].tolist())) == 9)
    assert drawn is not None and sorted(drawn[0].tolist()) == list(range(9))
    assert fresh_inputs((example, X), 1, lambda _: False) is None


@pytest.mark.parametrize("example", [torch.zeros(3, 4), torch.full((), 7.0), torch.zeros(0, 3), torch.empty(0).long()])
def test_examples_that_say_nothing_of_a_scale(example: Tensor) -> None:
    (drawn,) = fresh_inputs((example,), 1, lambda _: True) or ()
    assert drawn.shape == example.shape and drawn.dtype == example.dtype and drawn.isfinite().all()
    assert example.numel() == 0 or not torch.equal(drawn, example)


# A model whose weights do not fit into memory.


class Layer(nn.Linear):
    """Returns what it computes and nothing else that was asked for, as layers with attention do."""

    def forward(self, x: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return super().forward(x), None


class Stack(nn.Module):
    """Layers with a mean of neighbours between any two: 64 tokens become 16. The table's weight is read without it."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(1, 32)
        self.layers = nn.ModuleList(Layer(32, 32) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.table.weight
        for i, layer in enumerate(self.layers):
            x = layer(x)[0].relu()
            x = pairs(x) if i < 2 else x
        return x


def streamed() -> ModelSource:
    torch.manual_seed(0)
    weights = {name: tensor.detach() for name, tensor in Stack().named_parameters()}
    component = ComponentSource(
        "stack", {"full": partial(fake_module, Stack)}, (torch.randn(1, 64, 32),), ("x",), None, ModuleWeights(weights)
    )
    return ModelSource("stack", (component,), "checkpoint")


def export_streamed(out: Path) -> ExportReport:
    options = ExportOptions(precision="fp32", block_budget=21_000)
    return export_source(streamed(), "onnx", options, out).report()


def test_blocks_of_a_streamed_model_are_held_against_the_captured_program(tmp_path: Path) -> None:
    report = export_streamed(tmp_path)
    blocks = {record.block for record in report.parity if record.engine == "onnxruntime"} - {"all"}
    assert len(blocks) > 1
    assert {record.block for record in report.parity if record.engine == "rewrite"} == blocks
    (reference,) = report.references
    assert (reference.reference, reference.inputs, reference.unheld_blocks) == ("captured", ("example",), ())
    assert reference.first_layers == "layers.1"
    first = [record for record in report.parity if record.block == "up to layers.1"]
    assert [(record.engine, record.passed) for record in first] == [("captured", True)]
    assert first[0].output == "layers.1"


def test_a_streamed_model_that_is_captured_as_something_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its first layers in eager show it."""
    build = Stack.forward

    def forward(self: Stack, x: Tensor) -> Tensor:
        return build(self, x * 1.5 if torch.compiler.is_exporting() else x)

    monkeypatch.setattr(Stack, "forward", forward)
    with pytest.raises(ParityFailed, match=r"up to layers\.1/full on captured differs from PyTorch"):
        export_streamed(tmp_path)


def test_a_rule_that_misreads_in_a_streamed_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def rewrite(self: RaisePairMean, node: Any, match: Pairs, values: Any) -> Tensor:
        x = values(match.source)
        return pair_mean(torch.cat([x[:, :1], x[:, :-1]], 1))

    monkeypatch.setattr(RaisePairMean, "rewrite", rewrite)
    with pytest.raises(ParityFailed, match=" on raised differs from PyTorch"):
        export_streamed(tmp_path)
