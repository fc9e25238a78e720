from dataclasses import replace
from importlib.metadata import EntryPoint

import pytest
import torch

from tm_export.models.spec import registry
from tm_export.models.spec.registry import BrokenModelPlugin, UnknownModel, find_model, list_models

COMPONENTS = [
    pytest.param(component, id=f"{model.name} {component.name}")
    for model in list_models()
    for component in model.components
]
TINY_COMPONENTS = [
    pytest.param(component, id=f"{model.name} {component.name}")
    for model in list_models()
    for component in model.components
    if component.weights in ("seeded", "trained")
]
VARIANTS = {"denoiser": {"full", "merged"}, "vision_tower": {"full", "merged"}, "llm": {"prefill", "decode"}}


def test_the_registry_lists_our_models():
    names = [model.name for model in list_models()]
    assert names == sorted(names)
    assert {"ondevice-sora", "ondevice-sora-tiny", "tinychart-3b", "tinychart-tiny"} <= set(names)


def test_find_model_returns_the_model_of_that_name():
    assert find_model("tinychart-tiny").name == "tinychart-tiny"


def test_an_unknown_model_gets_a_close_match_and_all_names():
    with pytest.raises(UnknownModel, match=r"did you mean 'ondevice-sora-tiny'.*tinychart-3b"):
        find_model("ondevice-sora-tny")


def test_an_unknown_model_without_a_close_match_gets_all_names():
    with pytest.raises(UnknownModel) as caught:
        find_model("qqq")
    assert "did you mean" not in str(caught.value)
    assert "ondevice-sora, ondevice-sora-144p, ondevice-sora-tiny" in str(caught.value)


def test_a_broken_entry_point_is_named(monkeypatch):
    broken = EntryPoint(name="theirs", value="no_such_package:MODELS", group=registry.ENTRY_POINT_GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [broken])
    with pytest.raises(BrokenModelPlugin, match=r"'theirs'.*no_such_package"):
        list_models()


@pytest.mark.parametrize("component", COMPONENTS)
def test_all_variants_build_on_meta_with_the_same_keys_and_shapes(component):
    with torch.device("meta"):
        modules = [build() for build in component.variants.values()]
    assert set(component.variants) == VARIANTS.get(component.name, {"full"})
    shapes = [{key: value.shape for key, value in module.state_dict().items()} for module in modules]
    assert shapes[0] == shapes[-1]
    tensors = [*modules[0].parameters(), *modules[0].buffers()]
    assert all(tensor.is_meta for tensor in tensors)
    # Nothing may be on meta that a checkpoint does not fill.
    assert len(tensors) == len(modules[0].state_dict())


@pytest.mark.parametrize("model", ["ondevice-sora", "ondevice-sora-144p"])
def test_the_text_to_video_model_has_all_its_networks(model):
    text_encoder, denoiser, sampler, temporal, spatial = components = find_model(model).components
    names = ["text_encoder", "denoiser", "sampler", "vae_temporal", "vae_spatial"]
    assert [component.name for component in components] == names
    _, text_mask = text_encoder.example_inputs(0)
    video, _, text, mask, _ = denoiser.example_inputs(0)
    (window,), (frames,) = temporal.example_inputs(0), spatial.example_inputs(0)
    assert text_mask.shape == mask.shape == (1, 300)
    assert text.shape == (1, 300, 4096)
    assert sampler.example_inputs(0)[0].shape == video.shape
    size = video.shape[-2:]
    assert size == window.shape[-2:] == frames.shape[-2:] == {"ondevice-sora": (32, 32)}.get(model, (20, 27))
    assert (window.shape[2], frames.shape[0]) == (5, 4)
    assert video.shape[2] % window.shape[2] == 0


@pytest.mark.parametrize("component", TINY_COMPONENTS)
def test_tiny_weights_are_the_same_each_time_and_leave_the_generator_alone(component):
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first = next(iter(component.variants.values()))()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(4)
    second = list(component.variants.values())[-1]()
    for key, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[key])


@pytest.mark.parametrize("component", TINY_COMPONENTS)
def test_example_inputs_follow_the_seed(component):
    first, again, other = (component.example_inputs(seed) for seed in (0, 0, 1))
    assert len(first) == len(component.input_names)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("component", TINY_COMPONENTS)
def test_a_saved_state_dict_loads_into_a_meta_module(component, tmp_path):
    last = list(component.variants.values())[-1]
    module = last()
    torch.save(module.state_dict(), tmp_path / "weights.bin")
    with torch.device("meta"):
        other = last()
    component.load_weights(other, tmp_path / "weights.bin")
    inputs = component.example_inputs(0)
    with torch.no_grad():
        torch.testing.assert_close(module(*inputs), other(*inputs), rtol=0, atol=0)


def test_a_name_that_is_input_and_output_at_once_is_refused_when_it_is_written():
    (llm,) = (each for each in find_model("tinychart-tiny").components if each.name == "llm")
    with pytest.raises(ValueError, match=f"two tensors called '{llm.input_names[-1]}': give each input and output"):
        replace(llm, output_names=(*llm.output_names[:-1], llm.input_names[-1]))


def test_inputs_for_a_variant_that_is_not_there_are_refused_when_they_are_written():
    (llm,) = (each for each in find_model("tinychart-tiny").components if each.name == "llm")
    with pytest.raises(ValueError, match="a variant 'verify' that it has not: choose one of prefill, decode"):
        replace(llm, own_inputs={"verify": llm.example_inputs})
