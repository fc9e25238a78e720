"""Decision-aware parity: ties pass, wrong decisions and wrong numbers do not, and the numbers are what they say."""

import copy
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from programs import program_of
from torch import Tensor
from torch.export import ExportedProgram

from tests.zoo import ZOO
from tm_export.exporters.capture import capture
from tm_export.exporters.dialect import BEST, ORDER
from tm_export.exporters.options import ExportOptions
from tm_export.exporters.records import ParityRecord
from tm_export.exporters.rewrite import expose_decisions, lower_merges, raise_merges
from tm_export.exporters.targets.base import find_target
from tm_export.exporters.verify.decisions import Agreement, compare_decision
from tm_export.exporters.verify.gates import FP16, FP32, REWRITE, Gate, difference, gate_for
from tm_export.exporters.verify.parity import Subject, check_parity
from tm_export.exporters.verify.replay import Decision, reference_of, replay

SUBJECT = Subject("model", "00", "full", "some engine", ("y",))


def prune(x: Tensor) -> Tensor:
    """Keeps the 2 tokens with the largest first channel."""
    index = x[..., 0].topk(2, dim=1).indices
    return x.gather(1, index[..., None].expand(-1, -1, x.shape[-1]))


# Tokens 1 and 3 are equal but for rounding; 0 is clearly behind; what they carry besides differs much.
TOKENS = torch.tensor([[[0.5, 10.0], [1.0, 20.0], [0.25, 30.0], [1.0 - 2e-7, 40.0]]])


def rows(*index: int) -> tuple[Tensor, Tensor]:
    """What an engine gives that chose these tokens: the rows, and the decision."""
    chosen = torch.tensor([index])
    return TOKENS[:, list(index)], chosen


def checked(outputs: Sequence[Tensor], gate: Gate = FP32) -> ParityRecord:
    program = raise_merges(program_of(prune, TOKENS), 0).program
    (record,) = check_parity(
        SUBJECT, reference_of(lambda: program, (TOKENS,)), lambda: outputs[:1], lambda: outputs, gate
    )
    return record


def test_equal_outputs_agree_to_the_bit() -> None:
    record = checked(rows(1, 3))
    assert record.passed
    assert (record.max_abs_error, record.relative_error, record.psnr_db) == (0.0, 0.0, None)
    assert (record.decisions, record.decisions_agreeing, record.decisions_tied) == (2, 2, 0)


def test_a_flip_within_the_margin_passes_and_is_counted() -> None:
    """Element by element the two differ by 20; with the engine's decisions forced on PyTorch they are equal."""
    record = checked(rows(3, 1))
    assert record.passed
    assert record.psnr_db is None
    assert (record.decisions, record.decisions_agreeing, record.decisions_tied) == (2, 0, 2)


def test_a_flip_within_the_margin_does_not_excuse_wrong_numbers() -> None:
    output, decision = rows(3, 1)
    record = checked((output + 0.1, decision))
    assert not record.passed
    assert record.max_abs_error == pytest.approx(0.1, rel=1e-4)


def test_rows_that_contradict_the_decision_fail() -> None:
    assert not checked((rows(1, 3)[0], rows(3, 1)[1])).passed


@pytest.mark.parametrize("index", [(1, 0), (0, 1), (1, 2)])
def test_a_wrong_decision_beyond_the_margin_fails(index: tuple[int, int]) -> None:
    record = checked(rows(*index))
    assert not record.passed
    assert record.decisions_agreeing + record.decisions_tied < record.decisions
    assert record.psnr_db is None  # the numbers follow from the decisions: it is these that are wrong


def test_an_order_that_names_a_token_twice_fails() -> None:
    assert not checked(rows(1, 1)).passed


@pytest.mark.parametrize("index", [4, -1, 2**40])
def test_a_decision_out_of_range_fails(index: int) -> None:
    record = checked((rows(1, 3)[0], torch.tensor([[1, index]])))
    assert not record.passed
    assert record.decisions_tied == 0


@pytest.mark.parametrize("gate", [REWRITE, FP32, FP16], ids=lambda gate: gate.name)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_fails_every_gate(gate: Gate, bad: float) -> None:
    output, decision = rows(1, 3)
    spoiled = output.clone()
    spoiled[0, 0, 1] = bad
    record = checked((spoiled, decision), gate)
    assert not record.passed
    assert record.max_abs_error == math.inf


def test_decisions_may_come_as_another_integer_type() -> None:
    output, decision = rows(1, 3)
    assert checked((output, decision.to(torch.int32))).passed


def test_without_decisions_outputs_alone_are_compared() -> None:
    program = program_of(lambda x: x * 2, TOKENS)
    reference = reference_of(lambda: program, (TOKENS,))
    (good,) = check_parity(SUBJECT, reference, lambda: (TOKENS * 2,), None, FP32)
    (bad,) = check_parity(SUBJECT, reference, lambda: (TOKENS * 2.01,), None, FP32)
    assert good.passed and not bad.passed
    assert good.decisions == 0


# Single decisions.

SCORES = torch.tensor([[3.0, 1.0, 3.0 - 1e-5, -math.inf]])


def agreement(op: object, scores: Tensor, wanted: list[list[int]], got: list[list[int]], margin: float) -> Agreement:
    return compare_decision(Decision(scores, torch.tensor(wanted), op, True), torch.tensor(got), margin)


def test_the_margin_is_relative_to_the_largest_finite_score() -> None:
    assert agreement(ORDER, SCORES, [[0, 2]], [[2, 0]], 1e-4) == Agreement(2, 0, 2)
    assert agreement(ORDER, SCORES, [[0, 2]], [[2, 0]], 1e-6) == Agreement(2, 0, 0)
    assert agreement(ORDER, SCORES * 1000, [[0, 2]], [[2, 0]], 1e-4) == Agreement(2, 0, 2)


def test_a_protected_token_is_tied_with_protected_ones_only() -> None:
    scores = torch.tensor([[1.0, -math.inf, -math.inf]])
    assert agreement(ORDER, scores, [[0, 1, 2]], [[0, 2, 1]], 1e-4) == Agreement(3, 1, 2)
    assert agreement(ORDER, scores, [[0, 1, 2]], [[1, 0, 2]], 1e-4) == Agreement(3, 1, 0)


def test_best_is_judged_row_by_row() -> None:
    scores = torch.stack([SCORES, -SCORES.clamp(min=-9)], dim=1)  # [1, 2, 4]
    assert agreement(BEST, scores, [[0, 3]], [[2, 3]], 1e-4) == Agreement(2, 1, 1)
    assert agreement(BEST, scores, [[0, 3]], [[1, 3]], 1e-4) == Agreement(2, 1, 0)


def test_agreements_add_up() -> None:
    assert Agreement(4, 3, 1) + Agreement(2, 1, 0) == Agreement(6, 4, 1)
    assert Agreement(4, 3, 1).excusable and not Agreement(6, 4, 1).excusable


# Numbers.


def test_psnr_against_a_hand_computation() -> None:
    reference = np.array([4.0, -2.0, 1.0, 0.0])
    found = difference(reference + np.array([0.1, 0.0, -0.1, 0.0]), reference)
    # peak 4, mean square error (0.01 + 0.01) / 4 = 0.005
    assert found.psnr_db == pytest.approx(10 * math.log10(16 / 0.005))
    assert found.max_abs_error == pytest.approx(0.1)
    assert found.relative_error == pytest.approx(0.1 / 4)


def test_an_infinite_output_that_is_infinite_in_both_is_equal() -> None:
    reference = np.array([1.0, -np.inf])
    assert difference(reference.copy(), reference).psnr_db is None
    assert difference(np.array([1.0, 5.0]), reference).max_abs_error == math.inf


def test_anything_is_infinitely_far_from_a_reference_of_zeros() -> None:
    found = difference(np.array([1e-9]), np.zeros(1))
    assert found.relative_error == math.inf and not found.within(FP32)


@pytest.mark.parametrize(("error", "passes"), [(0.9e-4, True), (1.1e-4, False)])
def test_the_fp32_gate_bounds_the_relative_error(error: float, passes: bool) -> None:
    reference = np.concatenate([[2.0], np.zeros(999)])
    result = reference.copy()
    result[5] = 2.0 * error
    assert difference(result, reference).within(FP32) is passes


def test_the_fp32_gate_bounds_psnr_as_well() -> None:
    reference = np.ones(10)
    assert difference(reference * (1 + 0.99e-4), reference).psnr_db == pytest.approx(80.09, abs=0.01)
    assert FP32.min_psnr_db == REWRITE.min_psnr_db == 70.0


@pytest.mark.parametrize(("db", "passes"), [(40.5, True), (39.5, False)])
def test_the_fp16_gate_is_40_db(db: float, passes: bool) -> None:
    reference = np.ones(10)
    assert difference(reference + 10 ** (-db / 20), reference).within(FP16) is passes
    assert (gate_for("fp16"), gate_for("fp32")) == (FP16, FP32)


# A whole model.


def exposed_for_xnnpack(name: str) -> tuple[ExportedProgram, ExportedProgram, tuple[Tensor, ...]]:
    module, inputs = ZOO[name]()
    target, options = find_target("executorch"), ExportOptions()
    program = raise_merges(capture(module, inputs), 0).program
    lowered = lower_merges(expose_decisions(program), target.costs(options), options, half=False)
    return program, target.legalize(lowered, options).program, inputs


@pytest.mark.parametrize("amount", [0.0, 1e-2])
def test_a_corrupted_weight_fails_the_gate(amount: float) -> None:
    program, legal, inputs = exposed_for_xnnpack("tome_exclusive")
    corrupted = copy.deepcopy(legal)
    read = [corrupted.state_dict[name] for name in corrupted.graph_signature.parameters]
    largest = max(read, key=lambda tensor: tensor.numel())
    with torch.no_grad():
        largest.view(-1)[:: largest.numel() // 3] += amount
    outputs = replay(corrupted, inputs).outputs
    reference = reference_of(lambda: program, inputs)
    (record,) = check_parity(SUBJECT, reference, lambda: outputs[:1], lambda: outputs, FP32)
    assert record.passed is (amount == 0.0)


def test_forced_decisions_are_what_the_program_uses() -> None:
    program = raise_merges(program_of(prune, TOKENS), 0).program
    forced = replay(program, (TOKENS,), forced=(torch.tensor([[2, 0]]),))
    assert torch.equal(forced.outputs[0], TOKENS[:, [2, 0]])
    (decision,) = forced.decisions
    assert decision.index.tolist() == [[1, 3]]  # what it would have decided
    assert torch.equal(decision.scores, TOKENS[..., 0])
