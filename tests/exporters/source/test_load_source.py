import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tm_export.exporters.errors import UsageError
from tm_export.exporters.source import named
from tm_export.exporters.source.module_source import source_of_module
from tm_export.exporters.source.named import source_of
from tm_export.models.spec.model_size import ModelSize
from tm_export.models.spec.registry import ComponentSpec, find_model
from tm_export.runtime.apps.charts.contract import ChartQa

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(text: str) -> Path:
        path = tmp_path / "my_model.py"
        path.write_text(text)
        return path

    return write_file


def message(model: str, checkpoint: Path | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        source_of(model, seed=0, checkpoint=checkpoint)
    assert "\n" not in str(caught.value)
    return str(caught.value)


GOOD = """
import torch
from torch import nn

def build():
    return nn.Linear(3, 2), torch.arange(3.0)
"""


def test_user_function_gives_one_component_named_after_file_and_function(write: Write) -> None:
    source = source_of(f"{write(GOOD)}:build", seed=0)
    (component,) = source.components
    assert (source.name, source.weights) == ("my_model-build", "module")
    assert (component.name, list(component.variants), component.input_names) == (
        "model",
        ["full"],
        ("input",),
    )
    assert component.output_names is None
    torch.testing.assert_close(component.example_inputs, (torch.arange(3.0),))
    assert isinstance(component.variants["full"](), nn.Linear)


def test_user_function_may_give_a_list_of_inputs_and_a_dict_of_variants(write: Write) -> None:
    path = write(
        """
import torch
from torch import nn

class Add(nn.Module):
    def forward(self, tokens, *rest):
        return tokens + rest[0] + rest[1]

def build():
    return {"full": Add(), "merged": Add()}, [torch.ones(1), torch.ones(1), torch.ones(1)]
"""
    )
    (component,) = source_of(f"{path}:build", seed=0).components
    assert list(component.variants) == ["full", "merged"]
    assert component.variants["full"]() is not component.variants["merged"]()
    assert component.input_names == ("tokens", "rest_0", "rest_1")


def test_user_file_imports_its_neighbours_and_leaves_the_path_as_it_was(write: Write) -> None:
    path = write("def build():\n    import my_neighbour\n    return my_neighbour.pair()\n")
    (path.parent / "my_neighbour.py").write_text(
        "import torch\ndef pair():\n    return torch.nn.Linear(2, 2), torch.ones(2)\n"
    )
    before = list(sys.path)
    try:
        assert source_of(f"{path}:build", seed=0).components[0].input_names == ("input",)
    finally:
        sys.modules.pop("my_neighbour", None)
    assert sys.path == before


def test_user_file_may_be_named_like_a_module_of_python_and_hold_dataclasses(tmp_path: Path) -> None:
    path = tmp_path / "types.py"
    path.write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\nimport torch\n"
        "@dataclass\nclass Size:\n    n: int\n"
        "def build():\n    return torch.nn.Linear(Size(2).n, 2), torch.ones(2)\n"
    )
    assert source_of(f"{path}:build", seed=0).name == "types-build"
    assert not hasattr(sys.modules["types"], "build")


def test_two_files_of_one_name_do_not_share_a_module(tmp_path: Path) -> None:
    widths = []
    for width in (2, 3):
        folder = tmp_path / str(width)
        folder.mkdir()
        path = folder / "same.py"
        path.write_text(f"import torch\ndef build():\n    return torch.nn.Identity(), torch.ones({width})\n")
        widths.append(source_of(f"{path}:build", seed=0).components[0].example_inputs[0].numel())
    assert widths == [2, 3]


@pytest.mark.parametrize(
    ("text", "function", "said"),
    [
        ("def build(:\n    pass\n", "build", ["cannot be imported", "SyntaxError", "my_model.py, line 1"]),
        ("x = 1\nimport no_such_thing\n", "build", ["ModuleNotFoundError", "no_such_thing", "my_model.py:2"]),
        ("import sys\nsys.exit(3)\n", "build", ["cannot be imported", "SystemExit", "my_model.py:2"]),
        (GOOD, "biuld", ["'biuld'", "did you mean 'build'", "has build"]),
        (GOOD, "", ["names no function", "has build"]),
        ("x = 1\n", "build", ["'build'", "defines no function"]),
        ("build = 3\ndef other(): ...\n", "build", ["'build' is of type int, not a function", "has other"]),
        (
            "def build():\n    raise KeyError('depth')\n",
            "build",
            ["KeyError: 'depth'", "my_model.py:2: raise"],
        ),
        ("def build():\n    exit()\n", "build", ["SystemExit", "my_model.py:2"]),
        ("def build(width): ...\n", "build", ["without arguments", "TypeError", "'width'"]),
        (
            "def build(): ...\n",
            "build",
            ["my_model.py:build returned is None", "return (module, example_inputs)"],
        ),
        ("def build():\n    return 1, 2, 3\n", "build", ["a tuple of 3 (int, int, int)"]),
        ("def build():\n    return 'a', 2\n", "build", ["of type str", "give an nn.Module"]),
        ("import torch\ndef build():\n    return {}, torch.ones(1)\n", "build", ["no variants"]),
        (
            "import torch\ndef build():\n    return {'a/b': torch.nn.Identity()}, torch.ones(1)\n",
            "build",
            ["variant name 'a/b'", "use letters"],
        ),
        (
            "import torch\ndef build():\n    return torch.nn.Linear(2, 2), {'x': torch.ones(1), 'y': torch.ones(1)}\n",
            "build",
            ["Linear does not run on its example inputs: TypeError: linear()"],
        ),
        (
            "import torch\ndef build():\n    return torch.nn.Identity(), (torch.ones(1), 3)\n",
            "build",
            ["Identity.forward", "does not take 2 example inputs"],
        ),
        (
            "import torch\ndef build():\n    return torch.nn.Identity(), ()\n",
            "build",
            ["no example inputs"],
        ),
        (
            "import torch\ndef build():\n    return torch.nn.Identity(), (torch.ones(1), torch.ones(1))\n",
            "build",
            ["Identity.forward", "does not take 2 example inputs"],
        ),
        (
            "import torch\ndef build():\n    return torch.nn.Identity(), torch.tensor([1.0, float('nan')])\n",
            "build",
            ["example input 'input'", "NaN"],
        ),
        (
            "import torch\ndef build():\n    m = torch.nn.Linear(2, 2)\n"
            "    m.weight.data[1, 0] = float('nan')\n    return m, torch.ones(2)\n",
            "build",
            ["parameter 'weight'", "NaN", "give finite weights"],
        ),
        (
            "import torch\ndef build():\n    m = torch.nn.BatchNorm1d(2)\n"
            "    m.running_mean[1] = float('nan')\n    return m, torch.ones(1, 2)\n",
            "build",
            ["buffer 'running_mean'", "NaN"],
        ),
    ],
)
def test_user_function_is_refused_in_one_line(write: Write, text: str, function: str, said: list[str]) -> None:
    found = message(f"{write(text)}:{function}" if function else str(write(text)))
    for part in said:
        assert part in found


def test_error_deep_inside_torch_names_the_users_own_line(write: Write) -> None:
    path = write("import torch\ndef build():\n    return torch.ones(2) @ torch.ones(3), None\n")
    assert "my_model.py:3: return torch.ones(2) @ torch.ones(3)" in message(f"{path}:build")


def test_missing_and_non_python_files_are_refused(tmp_path: Path) -> None:
    assert "does not exist" in message(f"{tmp_path / 'gone.py'}:build")
    assert "names no Python file" in message(f"{tmp_path / 'model.onnx'}:build")


def test_infinity_in_a_buffer_is_a_mask_and_allowed() -> None:
    module = nn.Identity()
    module.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
    assert source_of_module(module, torch.ones(1), "masked").name == "masked"


def test_infinite_parameter_is_refused() -> None:
    module = nn.Linear(1, 1)
    module.bias.data[0] = torch.inf
    with pytest.raises(UsageError, match="'bias' of variant 'full'"):
        source_of_module(module, torch.ones(1), "model")


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "a:b"])
def test_module_name_that_is_no_file_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cannot name a file"):
        source_of_module(nn.Identity(), torch.ones(1), name)


def tower() -> ComponentSpec:
    return next(each for each in find_model("tinychart-tiny").components if each.name == "vision_tower")


def test_registry_model_has_its_own_weights_and_inputs() -> None:
    source = source_of("tinychart-tiny", seed=3, components=["vision_tower"])
    (component,) = source.components
    spec = tower()
    assert (source.name, source.weights) == ("tinychart-tiny", "trained")
    assert list(component.variants) == ["full", "merged"]
    assert component.output_names == spec.output_names
    torch.testing.assert_close(component.example_inputs, spec.example_inputs(3))


def test_a_variant_with_another_number_of_inputs_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = tower()
    fewer = replace(spec, own_inputs={"merged": lambda seed: spec.example_inputs(seed) * 2})
    model = replace(find_model("tinychart-tiny"), components=(fewer,), chart_qa=None)
    monkeypatch.setattr(named, "find_model", lambda _: model)
    assert "variant 'merged' of component 'vision_tower' is given 2 example inputs, and its 1 inputs" in message("m")


def test_a_file_that_would_be_unpickled_is_refused() -> None:
    assert "model.pt2 is opened by unpickling, which may run code" in message("models/model.pt2")


def test_unknown_model_is_refused_with_close_match_and_all_names() -> None:
    found = message("tinychart-tinny")
    assert "did you mean 'tinychart-tiny'" in found
    assert "ondevice-sora-tiny" in found
    assert "FILE.py:FUNC" in found


def test_model_without_weights_of_its_own_asks_for_a_checkpoint() -> None:
    found = message("tinychart-3b")
    assert "'tinychart-3b'" in found
    assert "--checkpoint" in found


def test_component_without_weights_needs_no_checkpoint() -> None:
    source = source_of("ondevice-sora", seed=0, components=("sampler",))
    assert (source.weights, source.components[0].weights) == ("none", None)


def test_checkpoint_is_refused_for_a_users_file(write: Write, tmp_path: Path) -> None:
    assert "--checkpoint is for registry models" in message(f"{write(GOOD)}:build", checkpoint=tmp_path)


def test_checkpoint_replaces_a_models_own_weights(tmp_path: Path) -> None:
    spec = tower()
    state = {key: value + 1 for key, value in spec.variants["full"]().state_dict().items()}
    save_file(state, tmp_path / "model.safetensors")
    source = source_of("tinychart-tiny", seed=0, checkpoint=tmp_path, components=["vision_tower"])
    assert source.weights == "checkpoint"
    (component,) = source.components
    assert component.weights is not None
    for variant in component.variants.values():
        assert {key: tuple(value.shape) for key, value in variant().state_dict().items()} == {
            key: tuple(value.shape) for key, value in state.items()
        }
    torch.testing.assert_close({key: component.weights.read(key) for key in state}, state)


@pytest.mark.parametrize(
    ("frames", "pixels", "latent", "shape"),
    [
        (None, None, (1, 4, 20, 32, 32), (68, 256, 256)),
        (17, None, (1, 4, 5, 32, 32), (17, 256, 256)),
        (51, (192, 192), (1, 4, 15, 24, 24), (51, 192, 192)),
        (34, (166, 221), (1, 4, 10, 20, 27), (34, 160, 216)),
    ],
)
def test_a_video_size_changes_every_network(
    frames: int | None, pixels: tuple[int, int] | None, latent: tuple[int, ...], shape: tuple[int, int, int]
) -> None:
    model = find_model("ondevice-sora")
    assert model.resized is not None
    model = model.resized(ModelSize(frames, pixels))
    video = model.text_to_video
    assert video is not None and video.latent_shape == latent and (video.frames, video.height, video.width) == shape
    # The published figures: models.md, C.1.
    if (frames, pixels) in ((None, None), (51, (192, 192))):
        assert round(video.time_shift, 4) == {None: 2.2361, 51: 1.4524}[frames]
    assert round(video.app_time_shift / video.time_shift, 6) == round((15 / latent[2]) ** 0.5, 6)
    inputs = {component.name: component.example_inputs(0) for component in model.components}
    assert inputs["denoiser"][0].shape == latent and inputs["sampler"][0].shape == latent
    assert inputs["vae_temporal"][0].shape == (1, 4, 5, *latent[3:])
    assert inputs["vae_spatial"][0].shape == (4, 4, *latent[3:])


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (ModelSize(frames=16), "a video of 16 frames is none of whole windows of 17: choose one of 17, 34, 51, 68"),
        (ModelSize(frames=0), "choose one of 17"),
        (ModelSize(pixels=(20, 256)), "20x256 pixels is too small or too large: choose sides of 64 to 1280"),
    ],
)
def test_a_video_size_that_no_network_makes_is_refused(size: ModelSize, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        source_of("ondevice-sora", 0, size=size)
    with pytest.raises(UsageError, match="has one size alone"):
        source_of("ondevice-sora-tiny", 0, size=size)
    with pytest.raises(UsageError, match="tinychart-3b makes no videos: leave out --frames and --frame-size"):
        source_of("tinychart-3b", 0, size=size)
    with pytest.raises(UsageError, match="is for registry models"):
        source_of("model.py:build", 0, size=size)


def test_a_cache_may_have_another_length() -> None:
    source = source_of("tinychart-tiny", 0, size=ModelSize(max_tokens=300))
    llm = next(each for each in source.components if each.name == "llm")
    assert {tensor.shape[2] for tensor in llm.inputs_of("decode")[5:]} == {300}
    assert source.host is not None and isinstance(source.host.contract, ChartQa)
    assert source.host.contract.max_tokens == 300


@pytest.mark.parametrize("tokens", [0, 160, 2049])
def test_a_cache_that_no_answer_fits_in_or_no_position_is_for_is_refused(tokens: int) -> None:
    with pytest.raises(UsageError, match=f"a cache of {tokens} tokens is too short or too long: choose 161 to 2048"):
        source_of("tinychart-tiny", 0, size=ModelSize(max_tokens=tokens))
    with pytest.raises(UsageError, match="ondevice-sora answers no questions: leave out --max-tokens"):
        source_of("ondevice-sora", 0, size=ModelSize(max_tokens=tokens))
