"""A program in pieces, run one after another, is the program: to the bit."""

import copy
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.export import ExportedProgram

from tests.zoo import ZOO
from tm_export.exporters.capture.capture import capture
from tm_export.exporters.graph.liveness import liveness_of
from tm_export.exporters.graph.tensors import tensors_of, with_tensors
from tm_export.exporters.merging.raise_merges import raise_merges
from tm_export.exporters.partition.cut import BlockPieces, cut, whole, with_own_outputs
from tm_export.exporters.reference.replay import replay


def places(program: ExportedProgram) -> list[int]:
    """Where a partition may cut, both ends among them."""
    live = liveness_of(program)
    count = len(live.operators)
    return [0, *(at for at in range(1, count) if live.may_cut(at)), count]


def in_pieces(program: ExportedProgram, cuts: Sequence[int], inputs: int, outputs: int) -> tuple[BlockPieces, ...]:
    names = [f"in_{i}" for i in range(inputs)], [f"out_{i}" for i in range(outputs)]
    return cut({"full": program}, [[at] for at in cuts], *names)


HandOver = Callable[[Tensor], Tensor]


def as_it_is(value: Tensor) -> Tensor:
    return value


def run_pieces(
    blocks: Sequence[BlockPieces], weights: dict[str, Tensor], inputs: Sequence[Tensor], hand_over: HandOver
) -> list[Tensor]:
    """Run the blocks as a loader does: each on named values that earlier ones wrote."""
    values = {f"in_{i}": tensor for i, tensor in enumerate(inputs)}
    for block in blocks:
        piece = block.pieces["full"]
        own = {name: weights[key] for name, key in block.weights.items()}
        outputs = replay(with_tensors(piece.program, own), [values[name] for name in piece.reads]).outputs
        for name, output in zip(piece.writes, outputs, strict=True):
            assert name not in values
            values[name] = hand_over(output)
    count = sum(name.startswith("out_") for name in values)
    return [values[f"out_{i}"] for i in range(count)]


def check(
    program: ExportedProgram,
    inputs: Sequence[Tensor],
    wanted: Sequence[Tensor],
    cuts: Sequence[int],
    hand_over: HandOver = Tensor.contiguous,
) -> None:
    """Cut the program (which has own outputs), run it in pieces, and compare."""
    blocks = in_pieces(program, cuts, len(inputs), len(wanted))
    assert len(blocks) == len(cuts) - 1
    got = run_pieces(blocks, tensors_of(program), inputs, hand_over)
    for one, other in zip(got, wanted, strict=True):
        # A piece gets contiguous values, of which some processors' products round otherwise than of a transposed view.
        assert one.dtype == other.dtype
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


DIFFERENT = ("vit_tome", "tomesd_unet", "vidtome", "prune_topk", "dpc_knn", "boolean_checkerboard", "pooled_kv")
"""Of the zoo: the others are the same networks with merges that are spelled otherwise, which are raised before."""


@pytest.mark.parametrize("name", DIFFERENT)
def test_pieces_of_the_zoo_are_the_whole(name: str) -> None:
    torch.manual_seed(0)
    module, inputs = ZOO[name]()
    raised = raise_merges(capture(module, inputs), 0).program
    program = with_own_outputs(copy.deepcopy(raised))
    allowed = places(program)
    # A convolution rounds otherwise on a tensor that is laid out otherwise, as tomesd's are: they keep their strides.
    # Without gradients, as the pieces are: PyTorch chooses the kernel of a product by whether there are any.
    wanted = replay(with_tensors(raised, {}), inputs).outputs
    check(program, inputs, wanted, [*allowed[:-1:7], allowed[-1]], as_it_is)


SIZE = 4


class Drawn(nn.Module):
    """Steps on values [4, 4], each of which reads any earlier ones; several values are returned."""

    def __init__(self, steps: Sequence[tuple[str, int, int]], returned: Sequence[int]) -> None:
        super().__init__()
        self.steps, self.returned = steps, returned
        self.layers = nn.ModuleList(nn.Linear(SIZE, SIZE) for _ in steps)

    def forward(self, x: Tensor, late: Tensor) -> tuple[Tensor, ...]:
        values = [x, late]
        for (kind, i, j), layer in zip(self.steps, self.layers, strict=True):
            values.append(STEPS[kind](values[i % len(values)], values[j % len(values)], layer))
        return tuple(values[i % len(values)] for i in self.returned)


Step = Callable[[Tensor, Tensor, nn.Module], Tensor]
STEPS: dict[str, Step] = {
    "linear": lambda a, _b, layer: layer(a),
    "add": lambda a, b, _layer: a + b,
    "product": lambda a, b, _layer: a @ b,
    "relu": lambda a, _b, _layer: torch.relu(a),
    "turned": lambda a, _b, _layer: a.transpose(0, 1),
    "reshaped": lambda a, _b, _layer: a.transpose(0, 1).reshape(2, 8).reshape(SIZE, SIZE),
    "halves": lambda a, _b, _layer: torch.cat(tuple(reversed(a.split(2, dim=1))), dim=1),
    "expanded": lambda a, _b, _layer: a[:1].expand(SIZE, SIZE),
    "sorted": lambda a, b, _layer: b.gather(0, a.argsort(dim=0)),
    "constant": lambda a, _b, _layer: a + torch.arange(SIZE),
}


@settings(max_examples=15)
@given(st.data())
def test_pieces_of_any_module_are_the_whole(data: st.DataObject) -> None:
    index = st.integers(0, 20)
    steps = data.draw(st.lists(st.tuples(st.sampled_from(sorted(STEPS)), index, index), min_size=1, max_size=8))
    returned = data.draw(st.lists(index, min_size=1, max_size=4))
    torch.manual_seed(0)
    module, inputs = Drawn(steps, returned), (torch.randn(SIZE, SIZE), torch.randn(SIZE, SIZE))
    with torch.no_grad():
        wanted = module(*inputs)
    program = with_own_outputs(capture(module, inputs))
    start, *between, end = places(program)
    chosen = data.draw(st.sets(st.sampled_from(between)) if between else st.just(set()))
    check(program, inputs, wanted, [start, *sorted(chosen), end])


class Corners(nn.Module):
    """All that makes cutting hard, at once."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(SIZE, SIZE) for _ in range(4))

    def forward(self, x: Tensor, late: Tensor) -> tuple[Tensor, ...]:
        early = self.layers[0](x)
        turned = self.layers[1](early).transpose(0, 1)
        skipped = self.layers[2](turned) + early
        last = self.layers[3](skipped).view(2, 2 * SIZE) + late.view(2, 2 * SIZE) + turned.reshape(2, 2 * SIZE)
        return early, x, last, last, self.layers[0].bias


def test_each_corner_is_cut_at_every_place() -> None:
    torch.manual_seed(0)
    module, inputs = Corners(), (torch.randn(SIZE, SIZE), torch.randn(SIZE, SIZE))
    with torch.no_grad():
        wanted = module(*inputs)
    program = with_own_outputs(capture(module, inputs))
    check(program, inputs, wanted, places(program))
    for at in places(program)[1:-1]:
        check(program, inputs, wanted, [0, at, places(program)[-1]])
    one = whole({"full": program}, ["in_0", "in_1"], [f"out_{i}" for i in range(5)])
    assert one.pieces["full"].program is program
    assert set(one.weights) == {f"layers.{i}.{kind}" for i in range(4) for kind in ("weight", "bias")}


def test_values_that_are_read_later_are_named_once_and_others_not_at_all() -> None:
    torch.manual_seed(0)
    program = with_own_outputs(capture(Corners(), (torch.randn(SIZE, SIZE), torch.randn(SIZE, SIZE))))
    first, second, third = in_pieces(program, [0, 1, 3, places(program)[-1]], 2, 5)
    assert first.pieces["full"].reads == ("in_0",)
    assert first.pieces["full"].writes == ("out_0",)  # the early output, which others read as well
    assert second.pieces["full"].reads == ("out_0",)
    assert second.pieces["full"].writes == ("value_0",)
    assert set(third.pieces["full"].reads) == {"value_0", "out_0", "in_0", "in_1"}
    assert set(third.pieces["full"].writes) == {"out_1", "out_2", "out_3", "out_4"}


class Layer(nn.Module):
    def __init__(self, width: int = 8, scale: float = 2.0, table: float = 1.0, operator: str = "relu") -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, width), nn.Linear(width, 8)
        self.scale, self.table, self.operator = scale, table, operator

    def forward(self, x: Tensor) -> Tensor:
        table = torch.arange(8.0) * self.table
        return x + self.second(getattr(torch, self.operator)(self.first(x + table))) * self.scale


def structures(*layers: nn.Module) -> list[str]:
    """The structure of each layer, cut where one ends and the next begins."""
    torch.manual_seed(0)
    program = with_own_outputs(capture(nn.Sequential(*layers), (torch.randn(2, 8),)))
    (last,) = (i for i, node in enumerate(program.graph.nodes) if node.op == "output")
    operators = [node for node in list(program.graph.nodes)[:last] if node.op == "call_function"]
    count = len(operators) // len(layers)
    assert len(operators) == count * len(layers)
    return [block.structure for block in in_pieces(program, range(0, len(operators) + 1, count), 1, 1)]


def test_blocks_that_differ_in_weights_alone_have_one_structure() -> None:
    assert len(set(structures(Layer(), Layer(), Layer()))) == 1


@pytest.mark.parametrize(
    "other",
    [Layer(scale=3.0), Layer(table=2.0), Layer(width=9), Layer(operator="sigmoid")],
    ids=["number", "constant", "shape", "operator"],
)
def test_blocks_that_differ_in_anything_else_have_another_structure(other: nn.Module) -> None:
    one, changed, same = structures(Layer(), other, Layer())
    assert one == same != changed


def test_structure_is_the_same_in_another_capture() -> None:
    assert structures(Layer(), Layer()) == structures(Layer(), Layer())


class Chooses(nn.Module):
    """A layer that reads its two weights in one order or the other."""

    def __init__(self, turned: bool) -> None:
        super().__init__()
        self.one, self.other = nn.Parameter(torch.randn(8, 8)), nn.Parameter(torch.randn(8, 8))
        self.turned = turned

    def forward(self, x: Tensor) -> Tensor:
        first, second = (self.other, self.one) if self.turned else (self.one, self.other)
        return torch.relu(x @ first) @ second


def test_weights_are_told_by_their_use_and_not_by_their_names() -> None:
    assert len(set(structures(Chooses(False), Chooses(True)))) == 1
    torch.manual_seed(0)
    module, x = nn.Sequential(Chooses(False), Chooses(True)), torch.randn(2, 8)
    program = with_own_outputs(capture(module, (x,)))
    with torch.no_grad():
        check(program, (x,), (module(x),), [0, 3, 6])


class Twice(nn.Module):
    """The same layers on the tokens themselves, or on twice of them."""

    def __init__(self, layers: nn.Module, doubles: bool) -> None:
        super().__init__()
        self.layers, self.doubles = layers, doubles

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x * 2.0 if self.doubles else x)


def test_two_variants_of_a_block_hold_each_weight_under_one_name() -> None:
    torch.manual_seed(0)
    layers, x = nn.Sequential(Layer(), Layer()), torch.randn(2, 8)
    programs = {name: with_own_outputs(capture(Twice(layers, name == "twice"), (x,))) for name in ("once", "twice")}
    one, two = (len(liveness_of(program).operators) for program in programs.values())
    assert two == one + 1
    blocks = cut(programs, [(0, 0), (one // 2, one // 2 + 1), (one, two)], ["x"], ["y"])
    for i, block in enumerate(blocks):
        keys = {f"layers.{i}.{part}.{kind}" for part in ("first", "second") for kind in ("weight", "bias")}
        assert set(block.weights.values()) == keys and len(block.weights) == len(keys)
        for variant, piece in block.pieces.items():
            held = tensors_of(piece.program)
            for name, key in block.weights.items():
                assert torch.equal(held[name], tensors_of(programs[variant])[key])
