"""The engines for ONNX and ExecuTorch, what all engines refuse, and how they are found."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import EdgeCompileConfig, to_edge, to_edge_transform_and_lower
from executorch.extension.pybindings import portable_lib
from onnx import TensorProto, helper
from torch import Tensor, nn

from tm_export.runtime.engines import Engine, EngineError, Session, choose_engine, engines_for, open_session
from tm_export.runtime.engines.onnx_runtime import OnnxRuntimeDefaultEngine, OnnxRuntimeEngine
from tm_export.runtime.manifest import (
    Block,
    BlockRef,
    BundleError,
    Call,
    Component,
    ComponentVariant,
    FileEntry,
    Manifest,
    TensorSpec,
    Variant,
)


class TwoOutputs(nn.Module):
    """A product with weights and a comparison: two dtypes in, two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        y = self.linear(x)
        return y + shift.to(y.dtype), y * 2


ARGS = (torch.arange(8.0).reshape(2, 4), torch.tensor([1, 2, 3], dtype=torch.int32))
INPUTS = {"x": ARGS[0].numpy(), "shift": ARGS[1].numpy()}


def module() -> nn.Module:
    torch.manual_seed(0)
    return TwoOutputs().eval()


def variant(path: Path, function: str = "forward") -> Variant:
    return Variant(
        name="full",
        artifact=path.name,
        function=function,
        inputs=(
            TensorSpec(name="x", dtype="float32", shape=(2, 4)),
            TensorSpec(name="shift", dtype="int32", shape=(3,)),
        ),
        outputs=tuple(TensorSpec(name=n, dtype="float32", shape=(2, 3)) for n in ("moved", "doubled")),
        activation_bytes=4 * (8 + 3 + 6 + 6),
    )


def save_pte(path: Path) -> Path:
    exported = torch.export.export(module(), ARGS)
    lowered = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
    path.write_bytes(lowered.to_executorch().buffer)
    return path


def save_onnx(path: Path) -> Path:
    linear = module().linear
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1),
            helper.make_node("Cast", ["shift"], ["s"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["y", "s"], ["moved"]),
            helper.make_node("Add", ["y", "y"], ["doubled"]),
        ],
        "block",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 4]),
            helper.make_tensor_value_info("shift", TensorProto.INT32, [3]),
        ],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, [2, 3]) for n in ("moved", "doubled")],
        [
            onnx.numpy_helper.from_array(linear.weight.detach().numpy(), "w"),
            onnx.numpy_helper.from_array(linear.bias.detach().numpy(), "b"),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


SAVERS: dict[str, Callable[[Path], Path]] = {"onnx": save_onnx, "executorch": save_pte}


@pytest.fixture(scope="module", params=sorted(SAVERS))
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Engine, Path]:
    (engine,) = engines_for(request.param)
    return engine, SAVERS[request.param](tmp_path_factory.mktemp("artifact") / "block")


def test_outputs_agree_with_eager_and_belong_to_the_caller(opened: tuple[Engine, Path]) -> None:
    engine, path = opened
    with torch.no_grad():
        expected = module()(*ARGS)
    with engine.open(path, variant(path)) as session:
        first = session.run(INPUTS)
        second = session.run(INPUTS | {"x": np.zeros((2, 4), np.float32)})
    for name, want in zip(("moved", "doubled"), expected, strict=True):
        np.testing.assert_allclose(first[name], want.numpy(), rtol=1e-6, atol=1e-6)
        assert not np.allclose(first[name], second[name])
        first[name] += 1  # writable, and after close


def test_strided_and_read_only_inputs_are_taken(opened: tuple[Engine, Path]) -> None:
    engine, path = opened
    x = np.asfortranarray(INPUTS["x"])
    x.flags.writeable = False
    with engine.open(path, variant(path)) as session:
        np.testing.assert_array_equal(session.run(INPUTS | {"x": x})["moved"], session.run(INPUTS)["moved"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"x": np.zeros((4, 2), np.float32)},
            r"input 'x' of block \(forward\) must be float32\[2, 4\], got float32\[4, 2\]",
        ),
        ({"x": np.zeros((2, 4), np.float64)}, r"must be float32\[2, 4\], got float64\[2, 4\]"),
        ({"x": [[0.0] * 4] * 2}, "must be a NumPy array, got list"),
        ({"z": np.zeros(1)}, r"missing \[\], unknown \['z'\]"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(opened: tuple[Engine, Path], change: dict, message: str) -> None:
    engine, path = opened
    with engine.open(path, variant(path)) as session, pytest.raises(EngineError, match=message):
        session.run(INPUTS | change)


def test_a_missing_input_is_refused(opened: tuple[Engine, Path]) -> None:
    engine, path = opened
    with (
        engine.open(path, variant(path)) as session,
        pytest.raises(EngineError, match=r"missing \['shift'\]"),
    ):
        session.run({"x": INPUTS["x"]})


def test_outputs_that_the_manifest_does_not_promise_are_refused(opened: tuple[Engine, Path]) -> None:
    engine, path = opened
    promised = variant(path)
    wrong = promised.outputs[0].model_copy(update={"shape": (3, 2)})
    other = promised.model_copy(update={"outputs": (wrong, promised.outputs[1])})
    with (
        engine.open(path, other) as session,
        pytest.raises(EngineError, match=r"output 'moved'.*\[3, 2\], got"),
    ):
        session.run(INPUTS)


def test_a_closed_session_is_refused(opened: tuple[Engine, Path]) -> None:
    engine, path = opened
    session: Session = engine.open(path, variant(path))
    session.close()
    session.close()
    with pytest.raises(EngineError, match="closed"):
        session.run(INPUTS)


def test_a_missing_or_broken_artifact_is_refused(opened: tuple[Engine, Path], tmp_path: Path) -> None:
    engine, path = opened
    with pytest.raises(EngineError, match="none does not exist"):
        engine.open(tmp_path / "none", variant(path))
    broken = tmp_path / "broken"
    broken.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(EngineError, match=r"refuses .*broken"):
        engine.open(broken, variant(broken))


def test_an_unknown_method_is_refused(tmp_path: Path) -> None:
    path = save_pte(tmp_path / "block.pte")
    with pytest.raises(EngineError, match=r"no method 'merged'; it has \['forward'\]"):
        engines_for("executorch")[0].open(path, variant(path, "merged"))


def test_missing_kernels_are_named(tmp_path: Path) -> None:
    class Sorted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.sort(dim=-1).values + 1

    exported = torch.export.export(Sorted(), (torch.rand(4),))
    program = to_edge(exported, compile_config=EdgeCompileConfig(_check_ir_validity=False))
    path = tmp_path / "block.pte"
    path.write_bytes(program.to_executorch().buffer)
    spec = TensorSpec(name="x", dtype="float32", shape=(4,))
    wanted = Variant(
        name="full", artifact=path.name, function="forward", inputs=(spec,), outputs=(spec,), activation_bytes=32
    )
    with pytest.raises(EngineError, match=r"no kernel for aten::sort\.values.*another lowering"):
        engines_for("executorch")[0].open(path, wanted)


def test_engines_are_found_by_target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Linux")
    assert [engine.name for engine in engines_for("coreml")] == ["coreml-reference"]
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    assert [engine.name for engine in engines_for("coreml")] == ["coreml", "coreml-reference"]
    assert all(engine.version for target in ("onnx", "executorch") for engine in engines_for(target))
    with pytest.raises(EngineError, match="'tflite'; targets are coreml, executorch, onnx"):
        engines_for("tflite")


def test_a_session_opens_from_a_bundle(tmp_path: Path) -> None:
    path = save_onnx(tmp_path / "block.onnx")
    function = variant(path)
    block = Block(name="a", variants=(function,), weight_bytes=60, files=(path.name,))
    whole = ComponentVariant(
        name="full",
        inputs=function.inputs,
        outputs=function.outputs,
        calls=(Call(block="a", reads=("x", "shift"), writes=("moved", "doubled")),),
    )
    manifest = Manifest(
        model="two",
        target="onnx",
        weights="module",
        tool_versions={},
        components=(Component(name="net", blocks=(block,), variants=(whole,)),),
        files=(FileEntry(path=path.name, bytes=path.stat().st_size, sha256="0" * 64),),
        load_schedule=(BlockRef(component="net", block="a"),),
    )
    with open_session(tmp_path, manifest, "net", "a", "full") as session:
        assert session.run(INPUTS)["moved"].shape == (2, 3)
    with pytest.raises(BundleError, match="'half'; there are: full"):
        open_session(tmp_path, manifest, "net", "a", "half")


def test_an_engine_is_chosen_by_name_and_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    assert choose_engine("coreml").name == "coreml"
    assert choose_engine("coreml", "coreml-reference").name == "coreml-reference"
    assert choose_engine("onnx", threads=2) == OnnxRuntimeEngine(threads=2)
    monkeypatch.setattr("platform.system", lambda: "Linux")
    with pytest.raises(EngineError, match=r"no engine 'coreml' runs target 'coreml' .*; there are: coreml-ref"):
        choose_engine("coreml", "coreml")
    with pytest.raises(EngineError, match="threads of engine coreml-reference cannot be chosen"):
        choose_engine("coreml", threads=2)


def test_executorch_runs_in_as_many_threads_as_it_is_told(tmp_path: Path) -> None:
    path = save_pte(tmp_path / "block.pte")
    before = portable_lib._threadpool_get_thread_count()
    try:
        results = []
        for threads in (1, 3):
            with choose_engine("executorch", threads=threads).open(path, variant(path)) as session:
                assert portable_lib._threadpool_get_thread_count() == threads
                results.append(session.run(INPUTS)["moved"])
        np.testing.assert_allclose(results[0], results[1], rtol=1e-6)
    finally:
        portable_lib._unsafe_reset_threadpool(before)


def test_mapped_and_packed_weights_compute_the_same(tmp_path: Path) -> None:
    path = save_onnx(tmp_path / "block.onnx")
    mapped, packed = OnnxRuntimeEngine(1), OnnxRuntimeDefaultEngine(1)
    assert (mapped.weights, packed.weights, packed.name) == ("mapped", "packed", "onnxruntime-default")
    with mapped.open(path, variant(path)) as one, packed.open(path, variant(path)) as other:
        for name, array in one.run(INPUTS).items():
            np.testing.assert_allclose(array, other.run(INPUTS)[name], rtol=1e-6)
