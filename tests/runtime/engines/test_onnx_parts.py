"""An ONNX file taken apart computes what it did whole, and blocks that are the same program share one session."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.support.chain_bundles import COMPONENT, Chain, make_chain
from tm_export.runtime.engines import EngineError, onnx_runtime
from tm_export.runtime.engines.base import Array
from tm_export.runtime.engines.onnx_parts import take_apart
from tm_export.runtime.engines.onnx_runtime import OnnxRuntimeEngine
from tm_export.runtime.loading.loader import Loader

RNG = np.random.default_rng(0)
WEIGHTS = {
    "wide": RNG.standard_normal((16, 16)).astype(np.float32),
    "narrow": RNG.standard_normal((16, 16)).astype(np.float16),
    "bias": RNG.standard_normal(16).astype(np.float32),
    "shape": np.array([1, 1, 8, 16], np.int64),
    "factors": np.array([1, 1, 2, 1], np.float32),
}
X = RNG.standard_normal((8, 16)).astype(np.float32)


def external(name: str, array: Array, place: dict[str, object]) -> TensorProto:
    tensor = TensorProto(name=name, dims=array.shape, data_type=helper.np_dtype_to_tensor_dtype(array.dtype))
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in place.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def save(folder: Path, **change: object) -> Path:
    """x @ wide @ widened(narrow) + bias, then every row twice; the matrices lie in `weights.data`, page by page."""
    content = WEIGHTS["wide"].tobytes().ljust(4096, b"\0") + WEIGHTS["narrow"].tobytes()
    (folder / "weights.data").write_bytes(content)
    places = {"wide": 0, "narrow": 4096}
    tensors = [
        external(name, WEIGHTS[name], {"location": "weights.data", "offset": offset, "length": WEIGHTS[name].nbytes})
        for name, offset in places.items()
    ]
    tensors[0] = external("wide", WEIGHTS["wide"], {"location": "weights.data", "offset": 0} | change)
    tensors += [numpy_helper.from_array(WEIGHTS[name], name) for name in ("bias", "shape", "factors")]
    nodes = [
        helper.make_node("MatMul", ["x", "wide"], ["a"]),
        helper.make_node("Cast", ["narrow"], ["widened"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["a", "widened"], ["b"]),
        helper.make_node("Add", ["b", "bias"], ["c"]),
        helper.make_node("Reshape", ["c", "shape"], ["d"]),
        helper.make_node("Resize", ["d", "", "factors"], ["y"], mode="nearest"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [8, 16])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 16, 16])
    graph = helper.make_graph(nodes, "graph", [x], [y], tensors)
    path = folder / "full.onnx"
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def test_a_graph_and_its_weights_compute_what_the_file_does(tmp_path: Path) -> None:
    path = save(tmp_path)
    parts = take_apart(path)
    assert sorted(parts.weights) == ["bias", "narrow", "wide"]  # what operators look at beforehand stays
    for name, array in parts.weights.items():
        assert array.dtype == WEIGHTS[name].dtype
        np.testing.assert_array_equal(array, WEIGHTS[name])
    (whole,) = onnxruntime.InferenceSession(str(path)).run(["y"], {"x": X})
    (apart,) = onnxruntime.InferenceSession(parts.graph).run(["y"], {"x": X, **parts.weights})
    np.testing.assert_allclose(apart, whole, rtol=1e-5, atol=1e-5)


def test_weights_are_mapped_and_not_copied(tmp_path: Path) -> None:
    parts = take_apart(save(tmp_path))
    assert not parts.weights["wide"].flags.owndata
    assert not parts.weights["wide"].flags.writeable


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"location": "../weights.data"}, "lies in '../weights.data', outside its folder: export again"),
        ({"location": "/etc/passwd"}, "outside its folder"),
        ({"offset": 4096}, "is 1024 bytes at 4096 of weights.data, which has 4608 bytes: export again"),
        ({"offset": -8}, "is 1024 bytes at -8"),
        ({"offset": -4608}, "is 1024 bytes at -4608"),
        ({"length": 1000}, "is 1024 bytes at 0"),
        ({"location": "others.data"}, "others.data"),
        ({"offset": "first"}, "first"),
    ],
)
def test_weights_that_are_not_where_the_file_says_are_refused(
    tmp_path: Path, chain: Chain, change: dict[str, object], message: str
) -> None:
    path = save(tmp_path, **change)
    variant = chain.manifest.component(COMPONENT).blocks[0].variants[0]
    with pytest.raises(EngineError, match=r"full\.onnx") as caught:
        OnnxRuntimeEngine().open(path, variant)
    assert message in str(caught.value)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str | bytes]:
    """What sessions were made of."""
    models: list[str | bytes] = []
    make: Callable[..., object] = onnx_runtime._session

    def counting(model: str | bytes, options: object) -> object:
        models.append(model)
        return make(model, options)

    monkeypatch.setattr(onnx_runtime, "_session", counting)
    return models


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    return make_chain(tmp_path_factory.mktemp("chain"))


def test_blocks_that_are_one_program_run_in_one_session(chain: Chain, made: list[str | bytes]) -> None:
    inputs = chain.inputs()
    with Loader(chain.path, chain.manifest, OnnxRuntimeEngine(threads=1)) as loader:
        loader.schedule([(COMPONENT, "full"), (COMPONENT, "merged")])
        for variant in ("full", "merged"):
            (output,) = loader.run(COMPONENT, variant, inputs).values()
            np.testing.assert_allclose(output, chain.expected(variant, inputs), rtol=1e-4, atol=1e-5)
    assert len(made) == 2  # of ten blocks: the variants are two programs


def test_only_the_programs_that_were_used_last_are_kept(
    chain: Chain, made: list[str | bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_runtime, "_KEPT_PROGRAMS", 1)
    engine = OnnxRuntimeEngine(threads=1)
    counts = []
    for i, name in ((0, "full"), (1, "full"), (1, "merged"), (2, "merged"), (2, "full")):
        (variant,) = (each for each in chain.manifest.component(COMPONENT).blocks[i].variants if each.name == name)
        engine.open(chain.path / variant.artifact, variant).close()
        counts.append(len(made))
    assert counts == [1, 1, 2, 2, 3]
