"""Decision-aware parity: ties pass, wrong decisions and wrong numbers do not, and the numbers are what they say."""

import copy
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.export import ExportedProgram

from tests.support.programs import program_of
from tests.zoo import ZOO
from tm_export.exporters.capture.capture import capture
from tm_export.exporters.graph.dialect import BEST, ORDER
from tm_export.exporters.lowering.choose import lower_merges
from tm_export.exporters.merging.expose import expose_decisions
from tm_export.exporters.merging.raise_merges import raise_merges
from tm_export.exporters.options import ExportOptions
from tm_export.exporters.record.records import ParityRecord
from tm_export.exporters.reference.decisions import Agreement, compare_decision
from tm_export.exporters.reference.gates import BF16, FP16, FP32, Gate, gate_for
from tm_export.exporters.reference.parity import Subject, check_parity
from tm_export.exporters.reference.replay import Decision, reference_of, replay
from tm_export.exporters.targets.base import find_target
from tm_export.runtime.run.closeness import difference

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
    (record,) = check_parity(SUBJECT, "example", reference_of(lambda: program, (TOKENS,)), outputs[:1], outputs, gate)
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


@pytest.mark.parametrize("gate", [FP32, FP16, BF16], ids=lambda gate: gate.name)
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
    (good,) = check_parity(SUBJECT, "example", reference, (TOKENS * 2,), None, FP32)
    (bad,) = check_parity(SUBJECT, "example", reference, (TOKENS * 2.01,), None, FP32)
    assert good.passed and not bad.passed
    assert good.decisions == 0


# Single decisions.

SCORES = torch.tensor([[3.0, 1.0, 3.0 - 1e-5, -math.inf]])


def agreement(op: object, scores: Tensor, wanted: list[list[int]], got: list[list[int]], margin: float) -> Agreement:
    gate = replace(FP32, tie_margin=margin, epsilon=0.0)
    return compare_decision(Decision(scores, torch.tensor(wanted), op, True), torch.tensor(got), gate)


def test_the_margin_is_relative_to_the_spread_of_the_row() -> None:
    assert agreement(ORDER, SCORES, [[0, 2]], [[2, 0]], 5.1e-6) == Agreement(2, 0, 2)  # 1e-5 of 2
    assert agreement(ORDER, SCORES, [[0, 2]], [[2, 0]], 4.9e-6) == Agreement(2, 0, 0)
    assert agreement(ORDER, SCORES * 1000, [[0, 2]], [[2, 0]], 5.1e-6) == Agreement(2, 0, 2)
    far = SCORES.to(torch.float64) + 1000  # the spread is the same, and the magnitude nobody's business
    assert agreement(ORDER, far, [[0, 2]], [[2, 0]], 4.9e-6) == Agreement(2, 0, 0)


@pytest.mark.parametrize(("gate", "margin"), [(FP32, 1e-4), (FP16, 2e-2), (BF16, 6.25e-2)])
def test_a_gate_excuses_what_the_documents_say_and_no_more(gate: Gate, margin: float) -> None:
    """Of a spread of 1: in bf16 eight units in the last place of the largest are more than its margin of 5e-2."""
    scores = torch.tensor([[1.0, 1.0 - 0.9 * margin, 1.0 - 1.1 * margin, 0.0]], dtype=torch.float64)
    chosen = [
        compare_decision(Decision(scores, torch.tensor([[0]]), ORDER, True), torch.tensor([[i]]), gate)
        for i in range(3)
    ]
    assert chosen == [Agreement(1, 1, 0), Agreement(1, 0, 1), Agreement(1, 0, 0)]


@pytest.mark.parametrize("mark", [-math.inf, -1e9, torch.finfo(torch.float32).min, 1e30, -65504.0])
def test_marks_among_the_scores_do_not_widen_the_margin(mark: float) -> None:
    scores = torch.tensor([[0.9, 0.8, 0.7, mark, mark]])
    assert agreement(ORDER, scores, [[0, 1]], [[1, 0]], 1e-4) == Agreement(2, 0, 0)


def test_large_scores_that_go_on_evenly_are_no_marks() -> None:
    scores = torch.tensor([[10.0, 900.0, 80_000.0, 80_001.0]])
    assert agreement(ORDER, scores, [[3, 2]], [[2, 3]], 1e-4) == Agreement(2, 0, 2)


def test_a_neighbouring_row_does_not_widen_the_margin() -> None:
    scores = torch.tensor([[[0.9, 0.8, 0.7], [9e5, 0.0, -9e5]]])
    assert agreement(BEST, scores, [[0, 0]], [[1, 0]], 1e-4) == Agreement(2, 1, 0)


def test_rounding_of_large_equal_scores_is_a_tie() -> None:
    """The spread of these says nothing: in fp32 they are one unit in the last place apart."""
    scores = torch.tensor([[1000.0, 1000.0 + 2**-14, 1000.0]])
    wanted, got = torch.tensor([[1]]), torch.tensor([[0]])
    assert compare_decision(Decision(scores, wanted, ORDER, True), got, FP32) == Agreement(1, 0, 1)
    assert compare_decision(Decision(scores * 1.01 + scores.new_tensor([0, 1, 0]), wanted, ORDER, True), got, FP32) == (
        Agreement(1, 0, 0)
    )


def test_integer_keys_are_exact() -> None:
    keys = torch.tensor([[2**53, 2**53 + 1, 5]])  # equal in float64
    assert agreement(ORDER, keys, [[1, 0]], [[0, 1]], 0.1) == Agreement(2, 0, 0)
    assert agreement(ORDER, keys * 0, [[0, 1]], [[1, 0]], 0.1) == Agreement(2, 0, 2)


@pytest.mark.parametrize(("tied", "passes"), [(10, True), (11, False)])
def test_only_so_many_decisions_may_be_excused(tied: int, passes: bool) -> None:
    assert Agreement(100, 100 - tied, tied).within(FP32) is passes
    assert FP32.max_excused == 0.1 and FP16.max_excused == BF16.max_excused == 0.5


def test_one_exchange_among_few_decisions_is_excused() -> None:
    assert Agreement(4, 2, 2).within(FP32) and not Agreement(4, 1, 3).within(FP32)
    assert not Agreement(4, 2, 1).within(FP32)


def test_a_protected_token_is_tied_with_protected_ones_only() -> None:
    scores = torch.tensor([[1.0, -math.inf, -math.inf]])
    assert agreement(ORDER, scores, [[0, 1, 2]], [[0, 2, 1]], 1e-4) == Agreement(3, 1, 2)
    assert agreement(ORDER, scores, [[0, 1, 2]], [[1, 0, 2]], 1e-4) == Agreement(3, 1, 0)


def test_best_is_judged_row_by_row() -> None:
    scores = torch.stack([SCORES, -SCORES.clamp(min=-9)], dim=1)  # [1, 2, 4]
    assert agreement(BEST, scores, [[0, 3]], [[2, 3]], 1e-4) == Agreement(2, 1, 1)
    assert agreement(BEST, scores, [[0, 3]], [[1, 3]], 1e-4) == Agreement(2, 1, 0)


def test_wrong_decisions_that_change_nothing_are_no_failure() -> None:
    """The order is of rows that come back in their own: which comes first is nobody's business."""

    def sorted_twice(x: Tensor) -> Tensor:
        index = x[..., 0].argsort(dim=1)
        return x.gather(1, index.sort(dim=1).values[..., None].expand(-1, -1, x.shape[-1]))

    program = raise_merges(program_of(sorted_twice, TOKENS), 0).program
    made = [torch.tensor([[3, 2, 1, 0]]), torch.tensor([[3, 2, 1, 0]])]
    (record,) = check_parity(
        SUBJECT, "example", reference_of(lambda: program, (TOKENS,)), (TOKENS,), (TOKENS, *made), FP32
    )
    assert record.passed and record.decisions == record.decisions_agreeing == 8


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
    assert found.relative_error == math.inf and not FP32.holds(found)


@pytest.mark.parametrize(("error", "passes"), [(0.9e-4, True), (1.1e-4, False)])
def test_the_fp32_gate_bounds_the_relative_error(error: float, passes: bool) -> None:
    reference = np.concatenate([[2.0], np.zeros(999)])
    result = reference.copy()
    result[5] = 2.0 * error
    assert FP32.holds(difference(result, reference)) is passes


def test_the_fp32_gate_bounds_psnr_as_well() -> None:
    reference = np.ones(10)
    assert difference(reference * (1 + 0.99e-4), reference).psnr_db == pytest.approx(80.09, abs=0.01)
    assert FP32.min_psnr_db == 70.0


@pytest.mark.parametrize(("db", "passes"), [(40.5, True), (39.5, False)])
def test_the_fp16_gate_is_40_db(db: float, passes: bool) -> None:
    reference = np.ones(10)
    assert FP16.holds(difference(reference + 10 ** (-db / 20), reference)) is passes
    assert (gate_for("fp16"), gate_for("fp32")) == (FP16, FP32)


def test_the_coarser_of_artifact_and_reference_says_the_gate() -> None:
    assert gate_for("fp32", torch.bfloat16) is gate_for("fp16", torch.bfloat16) is BF16
    assert gate_for("fp32", torch.float16) is FP16
    assert gate_for("fp32", torch.float64) is FP32


@pytest.mark.parametrize("gate", [FP32, FP16, BF16], ids=lambda gate: gate.name)
def test_integers_and_truth_values_have_to_be_equal(gate: Gate) -> None:
    ids = np.array([50000, 12, 7, 31])
    assert not gate.holds(difference(np.array([50000, 15, 7, 27]), ids))
    assert gate.holds(difference(ids.astype(np.int32), ids))
    assert not gate.holds(difference(np.array([2**60 + 1]), np.array([2**60])))
    assert not gate.holds(difference(np.array([True, False] * 2), np.array([True] * 4)))


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
    (record,) = check_parity(SUBJECT, "example", reference, outputs[:1], outputs, FP32)
    assert record.passed is (amount == 0.0)


def test_forced_decisions_are_what_the_program_uses() -> None:
    program = raise_merges(program_of(prune, TOKENS), 0).program
    forced = replay(program, (TOKENS,), forced=(torch.tensor([[2, 0]]),))
    assert torch.equal(forced.outputs[0], TOKENS[:, [2, 0]])
    (decision,) = forced.decisions
    assert decision.index.tolist() == [[1, 3]]  # what it would have decided
    assert torch.equal(decision.scores, TOKENS[..., 0])
