from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from safetensors.torch import save_file
from torch import nn

from tests.support.temporal_vae_reference import TemporalVaeReference
from tm_export.models.checkpoints.checkpoint import assign_weights
from tm_export.models.ondevice_sora.config import SpatialVaeConfig, TemporalVaeConfig
from tm_export.models.ondevice_sora.network.spatial_vae import VaeSpatial
from tm_export.models.ondevice_sora.network.temporal_vae import VaeTemporal
from tm_export.models.ondevice_sora.weights import open_vae_spatial, open_vae_temporal

TEMPORAL = TemporalVaeConfig(channels=(2, 4, 4, 6), blocks_per_stage=2, groups=2, frames=2, height=3, width=2)
SPATIAL = SpatialVaeConfig(channels=(8, 16, 24, 24), groups=4, frames=2, height=5, width=6)
PREFIX = "spatial_vae.module."


def randomised(module: nn.Module) -> nn.Module:
    """Every parameter and buffer is random, so that none can be left out unseen."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for tensor in module.state_dict().values():
            noise = torch.randn(tensor.shape, generator=generator)
            tensor.copy_(noise / tensor[0].numel() ** 0.5 if tensor.dim() > 1 else 0.5 + noise)
    return module.eval()


def temporal_error(reference: type[TemporalVaeReference], config: TemporalVaeConfig = TEMPORAL) -> float:
    module = randomised(VaeTemporal(config))
    size = (1, 4, config.frames, config.height, config.width)
    z = torch.randn(size, generator=torch.Generator().manual_seed(6))
    with torch.no_grad():
        actual = module(z)[0].numpy()
    expected = reference({key: value.numpy() for key, value in module.state_dict().items()}, config)(z[0].numpy())
    assert actual.shape == expected.shape == (4, config.frames_out, config.height, config.width)
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_temporal_decoder_equals_the_loop_reference(frames):
    assert temporal_error(TemporalVaeReference, replace(TEMPORAL, frames=frames)) < 1e-5


# Each of these does one thing the wrong way; the comparison above must notice.


class SeesLaterFrames(TemporalVaeReference):
    def first_frame_seen(self, t, kernel):
        return t - kernel // 2


class ChannelsInHalves(TemporalVaeReference):
    def source_channel(self, c, s, channels):
        return s * channels + c


class DropsTheLastFrames(TemporalVaeReference):
    def drop(self, x):
        return x[:, :-3]


class NormsEachFrame(TemporalVaeReference):
    def normed(self, group):
        return np.stack([super(NormsEachFrame, self).normed(group[:, t]) for t in range(group.shape[1])], axis=1)


class NoScaleOfTheLatent(TemporalVaeReference):
    def __call__(self, z):
        return super().__call__((z - self.weights["shift"][0]) / self.weights["scale"][0])


@pytest.mark.parametrize(
    "wrong", [SeesLaterFrames, ChannelsInHalves, DropsTheLastFrames, NormsEachFrame, NoScaleOfTheLatent]
)
def test_a_wrong_temporal_decoder_is_told_apart(wrong):
    assert temporal_error(wrong) > 1e-2


def test_a_window_of_five_latent_frames_decodes_to_seventeen():
    config = TemporalVaeConfig()
    assert (config.frames, config.frames_dropped, config.frames_out) == (5, 3, 17)


def test_the_temporal_decoder_has_the_published_number_of_parameters_and_keys():
    with torch.device("meta"):
        state = VaeTemporal(TemporalVaeConfig()).state_dict()
    assert round(sum(tensor.numel() for tensor in state.values()) / 1e6, 1) == 165.3
    shapes = {key: tuple(tensor.shape) for key, tensor in state.items()}
    assert shapes["scale"] == shapes["shift"] == (1, 4, 1, 1, 1)
    decoder = "temporal_vae.decoder"
    assert shapes["temporal_vae.post_quant_conv.conv.weight"] == (4, 4, 1, 1, 1)
    assert shapes[f"{decoder}.conv1.conv.weight"] == (512, 4, 3, 3, 3)
    assert shapes[f"{decoder}.conv_blocks.2.conv.weight"] == (1024, 512, 3, 3, 3)
    assert shapes[f"{decoder}.conv_blocks.1.conv.weight"] == (512, 256, 3, 3, 3)
    assert shapes[f"{decoder}.block_res_blocks.2.0.conv3.conv.weight"] == (256, 512, 1, 1, 1)
    assert shapes[f"{decoder}.block_res_blocks.0.0.conv1.conv.weight"] == (128, 256, 3, 3, 3)
    assert f"{decoder}.block_res_blocks.1.0.conv3.conv.weight" not in shapes
    assert f"{decoder}.res_blocks.3.conv2.conv.bias" not in shapes
    assert not any(key.startswith(f"{decoder}.conv_blocks.0") for key in shapes)


def diffusers_vae(config: SpatialVaeConfig) -> AutoencoderKL:
    stages = len(config.channels)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * stages,
        up_block_types=("UpDecoderBlock2D",) * stages,
        block_out_channels=config.channels,
        layers_per_block=config.blocks_per_stage - 1,
        latent_channels=config.latent_channels,
        norm_num_groups=config.groups,
    ).eval()


def decoder_part(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: value for key, value in state.items() if key.startswith(("decoder.", "post_quant_conv."))}


def test_spatial_decoder_equals_diffusers():
    module, reference = randomised(VaeSpatial(SPATIAL)), diffusers_vae(SPATIAL)
    state = {key.removeprefix(PREFIX): value for key, value in module.state_dict().items()}
    reference.load_state_dict({**reference.state_dict(), **state})
    frames = torch.randn(2, 4, 5, 6, generator=torch.Generator().manual_seed(6))
    with torch.no_grad():
        actual, expected = module(frames), reference.decode(frames / 0.18215).sample
    assert actual.shape == (2, 3, 40, 48)
    assert (actual - expected).abs().max() / expected.abs().max() < 1e-5


def test_the_published_spatial_decoder_has_diffusers_keys_and_shapes():
    with torch.device("meta"):
        state = VaeSpatial(SpatialVaeConfig()).state_dict()
        published = decoder_part(diffusers_vae(SpatialVaeConfig()).state_dict())
    assert {key: value.shape for key, value in state.items()} == {
        PREFIX + key: value.shape for key, value in published.items()
    }
    assert round(sum(tensor.numel() for tensor in state.values()) / 1e6, 1) == 49.5


def test_both_halves_take_their_part_of_one_checkpoint(tmp_path):
    temporal, spatial = randomised(VaeTemporal(TEMPORAL)), randomised(VaeSpatial(SPATIAL))
    encoders = {
        "spatial_vae.module.encoder.conv_in.weight": torch.ones(2),
        "spatial_vae.module.quant_conv.weight": torch.ones(2),
        "temporal_vae.encoder.conv_in.conv.weight": torch.ones(2),
        "temporal_vae.quant_conv.conv.weight": torch.ones(2),
    }
    save_file({**temporal.state_dict(), **spatial.state_dict(), **encoders}, tmp_path / "model.safetensors")
    with torch.device("meta"):
        others = VaeTemporal(TEMPORAL), VaeSpatial(SPATIAL)
    for other, module, open_part in zip(
        others, (temporal, spatial), (open_vae_temporal, open_vae_spatial), strict=True
    ):
        assign_weights(other, open_part(other, tmp_path))
        for key, tensor in other.state_dict().items():
            assert torch.equal(tensor, module.state_dict()[key])
