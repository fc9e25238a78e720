"""Every model goes through torch.export with static shapes."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from tm_export.models.merging.bipartite import match_bipartite, merge, unmerge
from tm_export.models.ondevice_sora.components import (
    build_denoiser,
    denoiser_inputs,
    text_encoder_component,
    vae_spatial_component,
    vae_temporal_component,
)
from tm_export.models.ondevice_sora.config import SpatialVaeConfig, TemporalVaeConfig, TextEncoderConfig
from tm_export.models.ondevice_sora.network.block import BlockPair
from tm_export.models.ondevice_sora.presets import FULL, FULL_144P
from tm_export.models.ondevice_sora.tiny.sizes import SPATIAL_VAE, TEMPORAL_VAE, TEXT_ENCODER
from tm_export.models.spec.registry import ComponentSpec, find_model


def assert_exports_and_computes_the_same(component: ComponentSpec, variant: str) -> None:
    module, inputs = component.variants[variant](), component.example_inputs(0)
    exported = torch.export.export(module, inputs, strict=False)
    fresh = component.example_inputs(1)
    with torch.no_grad():
        torch.testing.assert_close(exported.module()(*fresh), module(*fresh))
    assert not exported.range_constraints


@pytest.mark.parametrize("variant", ["full", "merged"])
@pytest.mark.parametrize("model", ["ondevice-sora-tiny", "tinychart-tiny"])
def test_tiny_models_export_and_compute_the_same(model, variant):
    component = next(each for each in find_model(model).components if "merged" in each.variants)
    assert_exports_and_computes_the_same(component, variant)


@pytest.mark.parametrize(
    "component",
    [
        text_encoder_component(TEXT_ENCODER),
        vae_temporal_component(TEMPORAL_VAE),
        vae_spatial_component(SPATIAL_VAE),
    ],
    ids=lambda component: component.name,
)
def test_tiny_networks_around_the_denoiser_export_and_compute_the_same(component):
    assert_exports_and_computes_the_same(component, "full")


def assert_captured_on_meta(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
    on_meta = tuple(tensor.to("meta") for tensor in inputs)
    exported = torch.export.export(module, on_meta, strict=False)
    assert all(tensor.is_meta for tensor in exported.state_dict.values())
    assert not exported.constants


def test_the_full_size_tower_is_captured_without_any_weights():
    component = next(each for each in find_model("tinychart-3b").components if each.name == "vision_tower")
    with torch.device("meta"):
        tower = component.variants["merged"]()
    assert_captured_on_meta(tower, component.example_inputs(0))


def test_the_full_width_denoiser_is_captured_without_any_weights():
    # Two of its 28 equal pairs of blocks: all of them take a quarter of a minute.
    config = replace(FULL, depth=2)
    with torch.device("meta"):
        denoiser = build_denoiser(config, "merged")
    assert_captured_on_meta(denoiser, denoiser_inputs(config, 0))


# Two of T5's 24 equal layers.
@pytest.mark.parametrize(
    "component",
    [
        text_encoder_component(TextEncoderConfig(num_layers=2)),
        vae_temporal_component(TemporalVaeConfig(height=20, width=27)),
        vae_spatial_component(SpatialVaeConfig(height=20, width=27)),
    ],
    ids=lambda component: component.name,
)
def test_the_full_width_networks_around_the_denoiser_are_captured_without_any_weights(component):
    with torch.device("meta"):
        module = component.variants["full"]()
    assert_captured_on_meta(module, component.example_inputs(0))


@pytest.mark.parametrize("variant", ["full", "merged"])
def test_the_published_block_pair_is_captured_at_2800_tokens(variant):
    with torch.device("meta"):
        pair = BlockPair(FULL_144P, variant).eval()
        inputs = (
            torch.empty(2, 2800, 1152),
            torch.empty(2, 35, 1152),
            torch.empty(2, 6912),
            torch.ones(1, 35),
        )
    exported = torch.export.export(pair, inputs, strict=False)
    output = exported.graph.output_node().args[0][0]
    assert output.meta["val"].shape == (2, 2800, 1152)


class MergeAndUnmerge(nn.Module):
    def __init__(self, class_token: bool, reduce: str) -> None:
        super().__init__()
        self.class_token = class_token
        self.reduce = reduce

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        match = match_bipartite(x, 5, class_token=self.class_token)
        merged = merge(x, match, self.reduce)
        return merged, unmerge(merged, match)


@pytest.mark.parametrize("class_token", [False, True])
@pytest.mark.parametrize("reduce", ["mean", "sum", "amax"])
def test_the_operators_export_and_compute_the_same(class_token, reduce):
    module = MergeAndUnmerge(class_token, reduce)
    exported = torch.export.export(module, (torch.randn(2, 17, 8),), strict=False).run_decompositions()
    x = torch.randn(2, 17, 8)
    torch.testing.assert_close(exported.module()(x), module(x))
