"""The zoo: every way of writing a merge, rewritten for every target, computes what it did before."""

from functools import cache

import pytest
from torch import Tensor
from torch.export import ExportedProgram

from tests.zoo import ZOO
from tm_export.exporters.capture.capture import capture
from tm_export.exporters.graph.dialect import DECISIONS, GATHER_ROWS, PAIR_MEAN, PAIR_REPEAT, SCATTER_ROWS
from tm_export.exporters.lowering.choose import lower_merges
from tm_export.exporters.merging.expose import expose_decisions
from tm_export.exporters.merging.raise_merges import Raised, raise_merges
from tm_export.exporters.options import ExportOptions
from tm_export.exporters.reference.gates import FP32
from tm_export.exporters.reference.parity import Subject, check_parity
from tm_export.exporters.reference.replay import reference_of, replay, run_lowered
from tm_export.exporters.targets.base import find_target
from tm_export.runtime.run.closeness import difference

DIALECT = {*DECISIONS, GATHER_ROWS, SCATTER_ROWS, PAIR_MEAN, PAIR_REPEAT}
OPTIONS = ExportOptions()


@cache
def captured(name: str) -> tuple[ExportedProgram, tuple[Tensor, ...]]:
    module, inputs = ZOO[name]()
    return capture(module, inputs), inputs


@cache
def raised(name: str) -> Raised:
    return raise_merges(captured(name)[0], OPTIONS.seed)


@pytest.mark.parametrize("name", ZOO)
def test_the_rewrite_keeps_decisions_and_outputs(name: str) -> None:
    """Raising, then on from there for every target: forms chosen by its own cost model, its own legal operators."""
    (program, inputs), dialect_program = captured(name), raised(name).program
    expected = replay(program, inputs).outputs
    reference = reference_of(lambda: dialect_program, inputs)
    for got, wanted in zip(reference.run.outputs, expected, strict=True):
        assert difference(got.numpy(), wanted.numpy()).relative_error <= 1e-5

    subject = Subject("zoo", "00", name, "rewrite", tuple(f"output_{i}" for i in range(len(expected))))
    for target in map(find_target, ("onnx", "executorch", "coreml")):
        exposed = lower_merges(expose_decisions(dialect_program), target.costs(OPTIONS), OPTIONS, half=False)
        legal = target.legalize(exposed, OPTIONS).program
        assert not DIALECT & {node.target for node in legal.graph.nodes}
        outputs = run_lowered(legal, inputs)
        records = check_parity(subject, "example", reference, outputs[: len(expected)], outputs, FP32)
        assert [record for record in records if not record.passed] == [], target.name


SITES = {
    # kind, tokens before, tokens after, in the order of the graph
    "tome_mean": [("merge", 65, 57), ("merge", 57, 49), ("merge", 49, 41)],
    "tome_sizes": [("merge", 65, 57), ("merge", 57, 49), ("merge", 49, 41)],
    "tome_amax": [("merge", 64, 52), ("merge", 52, 40)],
    "tome_exclusive": [("merge", 64, 54)],
    "vit_tome": [("merge", 65, 57), ("merge", 57, 49), ("merge", 49, 41), ("merge", 41, 33)],
    "boolean_checkerboard": [("merge", 64, 32)],
    "tome_index_put": [("merge", 64, 54), ("merge", 54, 44)],
    "tome_unmerge": [("merge", 64, 44), ("unmerge", 44, 64)] * 2,
    "vidtome": [("merge", 128, 71), ("unmerge", 71, 128)] * 2,
    "tomesd_unet": [("merge", 256, 128), ("unmerge", 128, 256)] * 3,
    "kmeans_scatter": [("cluster", 64, 16)] * 3,
    "kmeans_index_add": [("cluster", 64, 16)] * 3,
    "kmeans_one_hot": [("merge", 64, 16)],  # by products with a one-hot matrix
    "tome_matmul": [("merge", 65, 57), ("merge", 57, 49)],  # the same, with rows of the unit matrix
    "dpc_knn": [("cluster", 64, 16), ("unmerge", 16, 64)],
    "tome_scatter_add": [("merge", 64, 54), ("merge", 54, 44)],
    "tome_index_add": [("merge", 64, 48)],
    "tome_source": [("merge", 64, 52), ("merge", 52, 40)],
    "threshold_capacity": [("merge", 64, 56)],
    "pair_mean": [("merge", 6, 3), ("unmerge", 3, 6)],
}


@pytest.mark.parametrize("name", SITES)
def test_sites_are_found_with_their_tokens(name: str) -> None:
    assert [(site.kind, site.tokens_before, site.tokens_after) for site in raised(name).sites] == SITES[name]


@pytest.mark.parametrize("name", ["tome_mean", "prune_topk", "kmeans_scatter", "vidtome"])
def test_a_site_names_the_users_line(name: str) -> None:
    file = {"kmeans_scatter": "kmeans"}.get(name, name)
    assert all(site.source.startswith(f"{file}.py:") for site in raised(name).sites)
    assert len(raised(name).sites) > 0


def test_rules_say_what_they_did_where() -> None:
    firings = raised("tome_mean").firings
    assert {firing.rule for firing in firings if firing.fired} == {
        "merge::raise_best",
        "merge::raise_gather",
        "merge::raise_order",
        "merge::raise_scatter",
    }
    assert all(firing.source.startswith("tome_mean.py:") for firing in firings if firing.fired)
    assert all(firing.reason for firing in firings if not firing.fired)
