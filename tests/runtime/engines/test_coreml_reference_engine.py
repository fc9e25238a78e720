"""The Core ML reference engine as a whole: precision, refusals, memory, functions, a merging ViT."""

import gc
import weakref
from pathlib import Path

import coremltools as ct
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from coremltools.converters.mil.mil import Builder as mb
from torch import Tensor, nn

from tests.support.coreml_programs import FunctionModule, op_types, run_reference, save_mil, save_torch, variant_of
from tm_export.runtime.engines import EngineError, EngineUnavailable
from tm_export.runtime.engines.coreml import CoreMLEngine
from tm_export.runtime.engines.coreml_reference import CoreMLReferenceEngine, UnknownOp
from tm_export.runtime.engines.coreml_reference.evaluator import evaluate, plan
from tm_export.runtime.engines.coreml_reference.ops import ARITHMETIC
from tm_export.runtime.engines.coreml_reference.program import load_program


def test_fp16_results_are_rounded_to_fp16(tmp_path: Path) -> None:
    one, limit = torch.tensor([2048.0]).half(), torch.tensor([65504.0]).half()
    package = save_mil(
        lambda x, y: (
            mb.add(x=x, y=np.float16(1)),
            mb.add(x=x, y=np.float16(3)),
            mb.add(x=y, y=y),
            mb.sub(x=mb.add(x=y, y=y), y=y),
        ),
        [one, limit],
        tmp_path / "block.mlpackage",
    )
    even, up, over, back = run_reference(package, [one, limit])
    assert even.dtype == np.float16
    assert even[0] == 2048  # 2049 is not representable: ties to even
    assert up[0] == 2052  # nor is 2051
    assert np.isposinf(over[0])  # 131008 > 65504
    assert np.isposinf(back[0])  # infinity was stored in between


def test_fp32_results_are_not_rounded_to_fp16(tmp_path: Path) -> None:
    x = torch.tensor([2048.0])
    package = save_mil(lambda x: mb.add(x=x, y=np.float32(1)), [x], tmp_path / "block.mlpackage")
    assert run_reference(package, [x])[0][0] == 2049


def test_fp16_matmul_accumulates_wide_and_rounds_once(tmp_path: Path) -> None:
    x = torch.tensor([[2048.0, 1.0, 1.0, 1.0]]).half()
    package = save_mil(lambda x: mb.matmul(x=x, y=np.ones((4, 1), np.float16)), [x], tmp_path / "block.mlpackage")
    # Rounding after each addition would stay at 2048; 2051 rounds to 2052.
    assert run_reference(package, [x])[0].item() == 2052


def test_unknown_op_is_refused_by_name(tmp_path: Path) -> None:
    x = torch.ones(2, 3)
    package = save_mil(lambda x: mb.non_zero(x=mb.relu(x=x), name="where_not_zero"), [x], tmp_path / "b.mlpackage")
    with pytest.raises(EngineError, match="dynamic shape"):
        load_program(package, "main")

    package = save_mil(
        lambda x: mb.reverse_sequence(x=x, lengths=np.array([1, 2], np.int32), seq_axis=1, name="turned"),
        [x],
        tmp_path / "c.mlpackage",
    )
    with pytest.raises(UnknownOp, match=r"'reverse_sequence' \(operation 'turned'\).*other operators"):
        CoreMLReferenceEngine().open(package, variant_of(package))


def test_control_flow_is_refused_by_name(tmp_path: Path) -> None:
    x = torch.ones(1)
    package = save_mil(
        lambda x: mb.cond(
            pred=mb.squeeze(x=mb.greater(x=x, y=np.float32(0))),
            _true_fn=lambda: mb.add(x=x, y=np.float32(1)),
            _false_fn=lambda: mb.sub(x=x, y=np.float32(1)),
            name="branch",
        ),
        [x],
        tmp_path / "block.mlpackage",
    )
    with pytest.raises(UnknownOp, match=r"'cond' \(operation 'branch'\)"):
        plan(load_program(package, "main"))


def test_unknown_form_of_a_known_op_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.ones(2)
    package = save_mil(lambda x: mb.clip(x=x, alpha=0.0, beta=1.0, name="cut"), [x], tmp_path / "block.mlpackage")
    monkeypatch.setitem(ARITHMETIC, "clip", lambda x, alpha: x)
    with pytest.raises(UnknownOp, match=r"form of 'clip' with beta \(operation 'cut'\)"):
        plan(load_program(package, "main"))


@pytest.mark.parametrize("index", [-1, 4])
def test_index_out_of_range_is_an_error_not_a_guess(index: int, tmp_path: Path) -> None:
    x, i = torch.ones(4, 2), torch.tensor([0, index], dtype=torch.int32)
    package = save_mil(lambda x, i: mb.gather(x=x, indices=i, axis=0, name="pick"), [x, i], tmp_path / "b.mlpackage")
    with pytest.raises(EngineError, match=rf"'gather' \('pick'\) fails: index {index} is out of range \[0, 4\)"):
        run_reference(package, [x, i])


def test_values_are_freed_after_their_last_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[weakref.ref[Tensor]] = []
    most = 0

    def counted(x: Tensor) -> Tensor:
        nonlocal most
        result = x + 1
        alive.append(weakref.ref(result))
        most = max(most, sum(ref() is not None for ref in alive))
        return result

    def chain(x: object) -> object:
        for _ in range(20):
            x = mb.exp(x=x)
        return x

    x = torch.zeros(4)
    package = save_mil(chain, [x], tmp_path / "block.mlpackage")
    monkeypatch.setitem(ARITHMETIC, "exp", counted)
    program = load_program(package, "main")
    (result,) = evaluate(plan(program), {"x0": x}).values()
    assert result.tolist() == [20.0] * 4
    assert most <= 2


def test_what_a_program_was_read_from_is_freed_at_once(tmp_path: Path) -> None:
    """coremltools' own objects refer to each other in circles, and hold the weights."""
    path = save_torch(nn.Linear(4, 3), (torch.ones(2, 4),), "fp32", tmp_path / "linear.mlpackage")
    gc.collect()
    gc.disable()
    try:
        program = load_program(path, "main")
        left = [each for each in gc.get_objects() if isinstance(each, ct.converters.mil.mil.Operation)]
    finally:
        gc.enable()
    assert program.steps
    assert left == []


def test_output_may_be_an_input_or_shared_and_belongs_to_the_caller(tmp_path: Path) -> None:
    x = torch.arange(3.0)
    package = save_mil(lambda x: (mb.identity(x=x), mb.add(x=x, y=np.float32(1))), [x], tmp_path / "b.mlpackage")
    variant = variant_of(package)
    given = x.numpy()
    with CoreMLReferenceEngine().open(package, variant) as session:
        first = session.run({"x0": given})
        same, more = (first[spec.name] for spec in variant.outputs)
        same += 100
        assert given.tolist() == [0, 1, 2]
        assert more.tolist() == [1, 2, 3]
        assert session.run({"x0": given})[variant.outputs[0].name].tolist() == [0, 1, 2]


def test_each_function_of_a_multifunction_package_runs(tmp_path: Path) -> None:
    x = torch.arange(6.0).reshape(2, 3)
    descriptor = ct.utils.MultiFunctionDescriptor()
    for name, sign in (("full", 1.0), ("merged", -1.0)):
        package = save_torch(FunctionModule(lambda x, s=sign: x * s + 1), (x,), "fp32", tmp_path / f"{name}.mlpackage")
        descriptor.add_function(str(package), src_function_name="main", target_function_name=name)
    descriptor.default_function_name = "full"
    both = tmp_path / "both.mlpackage"
    ct.utils.save_multifunction(descriptor, str(both))
    np.testing.assert_array_equal(run_reference(both, [x], "full")[0], x.numpy() + 1)
    np.testing.assert_array_equal(run_reference(both, [x], "merged")[0], 1 - x.numpy())
    with pytest.raises(EngineError, match=r"no function 'other'; it has \['full', 'merged'\]"):
        load_program(both, "other")


def test_package_that_is_not_the_variants_is_refused(tmp_path: Path) -> None:
    x = torch.ones(2, 3)
    package = save_mil(lambda x: mb.relu(x=x, name="y"), [x], tmp_path / "block.mlpackage")
    variant = variant_of(package)
    other = variant.model_copy(update={"inputs": (variant.inputs[0].model_copy(update={"shape": (3, 2)}),)})
    with pytest.raises(EngineError, match=r"declares the inputs .*\(2, 3\).* the manifest .*\(3, 2\)"):
        CoreMLReferenceEngine().open(package, other)
    with pytest.raises(EngineError, match="does not exist"):
        CoreMLReferenceEngine().open(tmp_path / "none.mlpackage", variant)
    broken = tmp_path / "broken.mlpackage"
    broken.mkdir()
    with pytest.raises(EngineError, match=r"broken.mlpackage cannot be read as a Core ML package"):
        CoreMLReferenceEngine().open(broken, variant)


def test_core_ml_itself_is_unavailable_off_macos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.ones(1)
    package = save_mil(lambda x: mb.relu(x=x), [x], tmp_path / "block.mlpackage")
    monkeypatch.setattr("platform.system", lambda: "Linux")
    with pytest.raises(EngineUnavailable, match="macOS only"):
        CoreMLEngine().open(package, variant_of(package))


class MergingLayer(nn.Module):
    """A transformer layer that merges r tokens between attention and MLP: topk, gather, one-hot product."""

    def __init__(self, width: int, heads: int, r: int) -> None:
        super().__init__()
        self.heads, self.r = heads, r
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x_BNC: Tensor) -> Tensor:
        b, n, c = x_BNC.shape
        q, k, v = self.qkv(self.norm1(x_BNC)).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c)
        x_BNC = x_BNC + self.out(attended)
        if self.r:
            x_BNC = self.merge(x_BNC, k.mean(1))
        return x_BNC + self.mlp(self.norm2(x_BNC))

    def merge(self, x_BNC: Tensor, key_BNK: Tensor) -> Tensor:
        key_BNK = key_BNK / key_BNK.norm(dim=-1, keepdim=True)
        scores = key_BNK[:, ::2] @ key_BNK[:, 1::2].mT
        best, partner = scores.max(-1)
        order = best.topk(best.shape[1]).indices
        merged, kept = order[:, : self.r], order[:, self.r :]
        sources, targets = x_BNC[:, ::2], x_BNC[:, 1::2]
        c = x_BNC.shape[-1]
        moved = sources.gather(1, merged[..., None].expand(-1, -1, c))
        into = partner.gather(1, merged)
        one_hot = (into[:, None, :] == torch.arange(targets.shape[1])[:, None]).to(x_BNC.dtype)
        mean = (targets + one_hot @ moved) / (1 + one_hot.sum(-1, keepdim=True))
        return torch.cat([sources.gather(1, kept[..., None].expand(-1, -1, c)), mean], 1)


class MergingViT(nn.Module):
    def __init__(self, r: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 4, stride=4)
        self.position = nn.Parameter(torch.randn(1, 64, 32) * 0.1)
        self.layers = nn.Sequential(*(MergingLayer(32, 4, r) for _ in range(3)))
        self.norm, self.head = nn.LayerNorm(32), nn.Linear(32, 10)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        x_BNC = self.patches(image_BCHW).flatten(2).transpose(1, 2) + self.position
        return self.head(self.norm(self.layers(x_BNC)).mean(1))


# In fp16 a near tie may be decided otherwise, which no element-wise bound can judge: there, without merging.
@pytest.mark.parametrize(("precision", "r", "bound"), [("fp32", 6, 1e-5), ("fp16", 0, 5e-3)])
def test_a_whole_vit_agrees_with_eager(precision: str, r: int, bound: float, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, image = MergingViT(r).eval(), torch.randn(2, 3, 32, 32)
    package = save_torch(model, (image,), precision, tmp_path / "vit.mlpackage")
    assert r == 0 or {"topk", "gather_along_axis", "equal", "matmul"} <= op_types(package)
    with torch.no_grad():
        expected = model(image).numpy()
    np.testing.assert_allclose(run_reference(package, [image])[0], expected, atol=bound * np.abs(expected).max())


def test_a_merging_vit_runs_in_fp16_with_its_short_index_types(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, image = MergingViT(6).eval(), torch.randn(2, 3, 32, 32)
    package = save_torch(model, (image,), "fp16", tmp_path / "vit.mlpackage")
    dtypes = {result.dtype for step in load_program(package, "main").steps for result in step.results}
    assert torch.uint16 in dtypes or torch.int16 in dtypes
    with torch.no_grad():
        expected = model(image).numpy()
    # A flipped decision changes which tokens are averaged, not what the image shows.
    got = run_reference(package, [image])[0]
    assert np.corrcoef(got.ravel().astype(np.float64), expected.ravel())[0, 1] > 0.99
