from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.support.stdit3_reference import STDiT3Reference, layer_norm
from tm_export.models.ondevice_sora.config import DenoiserConfig
from tm_export.models.ondevice_sora.network.block import BlockPair
from tm_export.models.ondevice_sora.network.denoiser import Denoiser, GuidedDenoiser
from tm_export.models.ondevice_sora.presets import FULL

# Nothing here is square or equal by chance: 2×3 tokens, an odd width, text masked in its middle.
CONFIG = DenoiserConfig(
    depth=2,
    hidden_size=24,
    num_heads=2,
    caption_channels=10,
    max_text_tokens=9,
    text_tokens=6,
    frames=4,
    height=4,
    width=5,
    pixel_height=34,
    pixel_width=42,
)
MASK = torch.tensor([[1.0, 1.0, 0.0, 1.0, 1.0, 0.0]])


def random_denoiser(config: DenoiserConfig, variant: str) -> Denoiser:
    """Every parameter is random, so that none can be left out unseen."""
    generator = torch.Generator().manual_seed(5)
    module = Denoiser(config, variant).eval()
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            noise = torch.randn(tensor.shape, generator=generator)
            if name == "rope.freqs" or "_norm.weight" in name:
                tensor.mul_(1 + 0.5 * noise)
            else:
                fan_in = tensor[0].numel() if tensor.dim() > 1 else 4
                tensor.copy_(noise / fan_in**0.5)
    return module


def random_inputs(config: DenoiserConfig) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(6)
    x = torch.randn(2, 4, config.frames, config.height, config.width, generator=generator)
    y = torch.randn(2, 1, config.text_tokens, config.caption_channels, generator=generator)
    return x, torch.tensor([691.0, 137.5]), y, MASK, torch.tensor([24.0])


def relative_error(actual: torch.Tensor, expected: np.ndarray) -> float:
    return float(np.abs(actual.numpy() - expected).max() / np.abs(expected).max())


def run_both(reference: type[STDiT3Reference], variant: str, config: DenoiserConfig = CONFIG) -> float:
    module = random_denoiser(config, variant)
    inputs = random_inputs(config)
    weights = {key: value.numpy() for key, value in module.state_dict().items()}
    with torch.no_grad():
        actual = module(*inputs)
    return relative_error(actual, reference(weights, config, variant)(*(tensor.numpy() for tensor in inputs)))


@pytest.mark.parametrize("variant", ["full", "merged"])
@pytest.mark.parametrize("frames", [1, 4, 5])
def test_denoiser_equals_the_loop_reference(variant, frames):
    assert run_both(STDiT3Reference, variant, replace(CONFIG, frames=frames)) < 1e-5


# Each of these does one thing the wrong way; the comparison above must notice.


class HalfSplitRope(STDiT3Reference):
    def pair(self, i, half):
        return i, i + half


class RecomputedRope(STDiT3Reference):
    def rope_freqs(self):
        k_dim = self.c.hidden_size // self.c.num_heads
        return 10000.0 ** -(np.arange(0, k_dim, 2) / k_dim)


class RopeBeforeNorm(STDiT3Reference):
    def place(self, norm, q, positions):
        return self.rms_norm(norm, q if positions is None else self.rotate(q, positions))


class RopeInSpatialBlocks(STDiT3Reference):
    def attend_sequence(self, name, h, positions):
        return super().attend_sequence(name, h, positions or list(range(len(h))))


class NoHeadNormInSpatialBlocks(STDiT3Reference):
    def place(self, norm, q, positions):
        return q if positions is None else super().place(norm, q, positions)


class RowFirstPositions(STDiT3Reference):
    def join_axes(self, column, row):
        return row + column


class BakedPositionScale(STDiT3Reference):
    def position_scale(self):
        return 12, (166 * 221) ** 0.5 / 512


class SineFirstTimestep(STDiT3Reference):
    def waves(self, angles):
        return np.concatenate([np.sin(angles), np.cos(angles)])


class ChannelSlowestUnpatchify(STDiT3Reference):
    def split_patch(self, patch):
        return patch.reshape(-1, 2, 2).transpose(1, 2, 0)


class FinalLayerFromModulation(STDiT3Reference):
    def final_modulation(self, t_emb, t_mlp):
        return self.w["final_layer.scale_shift_table"] + t_mlp.reshape(6, -1)[:2]


class NormedCrossAttention(STDiT3Reference):
    def cross(self, function, x, table):
        return function(layer_norm(x))


class ModulatedCrossAttention(STDiT3Reference):
    def cross(self, function, x, table):
        return function(x * (1 + table[1]) + table[0])


class GatedCrossAttention(STDiT3Reference):
    def cross(self, function, x, table):
        return table[2] * function(x)


class PaddingSeen(STDiT3Reference):
    def pack(self, y, real):
        return list(y)


class FirstTokensInsteadOfMasked(STDiT3Reference):
    def pack(self, y, real):
        return [row[: real.sum()] for row in y]


class TextOfBothRows(STDiT3Reference):
    def pack(self, y, real):
        return [np.concatenate([row[real] for row in y])] * len(y)


class ExactGelu(STDiT3Reference):
    def gelu(self, x):
        return torch.nn.functional.gelu(torch.from_numpy(x)).numpy()


@pytest.mark.parametrize(
    "wrong",
    [
        HalfSplitRope,
        RecomputedRope,
        RopeBeforeNorm,
        RopeInSpatialBlocks,
        NoHeadNormInSpatialBlocks,
        RowFirstPositions,
        BakedPositionScale,
        SineFirstTimestep,
        ChannelSlowestUnpatchify,
        FinalLayerFromModulation,
        NormedCrossAttention,
        ModulatedCrossAttention,
        GatedCrossAttention,
        PaddingSeen,
        FirstTokensInsteadOfMasked,
        TextOfBothRows,
        ExactGelu,
    ],
)
def test_denoiser_differs_from_a_reference_that_is_wrong_in_one_thing(wrong):
    assert run_both(wrong, "full") > 5e-5


class OldFramePositions(STDiT3Reference):
    """A rotation sees distances alone, so that means of positions would give the same."""

    def frame_positions(self, count):
        return [2 * t for t in range(count)]


class MergedMlp(STDiT3Reference):
    def over_mlp(self, function, x):
        return self.over_frames(function, x)


class UnmergedCrossAttention(STDiT3Reference):
    def cross(self, function, x, table):
        self.variant = "full"
        out = function(x)
        self.variant = "merged"
        return out


@pytest.mark.parametrize("wrong", [OldFramePositions, MergedMlp, UnmergedCrossAttention])
def test_merged_denoiser_differs_from_a_reference_that_is_wrong_in_one_thing(wrong):
    assert run_both(wrong, "merged") > 5e-5


@pytest.mark.parametrize("padding", [0.0, 1.0, 100.0])
def test_padded_text_rows_have_no_influence(padding):
    module = random_denoiser(CONFIG, "full")
    x, timestep, y, mask, fps = random_inputs(CONFIG)
    altered = torch.where(mask.bool()[:, None, :, None], y, padding * torch.ones_like(y))
    with torch.no_grad():
        assert torch.equal(module(x, timestep, y, mask, fps), module(x, timestep, altered, mask, fps))


def test_a_mask_for_each_row_equals_running_the_rows_alone():
    module = random_denoiser(CONFIG, "full")
    x, timestep, y, _, fps = random_inputs(CONFIG)
    masks = torch.tensor([[1.0, 1, 1, 0, 0, 0], [1.0, 0, 0, 1, 0, 1]])
    with torch.no_grad():
        together = module(x, timestep, y, masks, fps)
        for row in range(2):
            one = slice(row, row + 1)
            alone = module(x[one], timestep[one], y[one], masks[one], fps)
            torch.testing.assert_close(together[one], alone, atol=1e-5, rtol=1e-4)


def test_guidance_runs_the_prompt_and_the_first_rows_of_y_embedding_on_the_same_latent():
    module = GuidedDenoiser(CONFIG, "full").eval()
    module.load_state_dict(random_denoiser(CONFIG, "full").state_dict())
    x, timestep, y, _, fps = random_inputs(CONFIG)
    x, timestep = (tensor[:1].expand_as(tensor) for tensor in (x, timestep))
    mask = torch.tensor([[1.0, 1, 1, 1, 0, 0]])
    with torch.no_grad():
        actual = module(x[:1], timestep[:1], y[0], mask, fps)

    class PackedNullText(STDiT3Reference):
        def pack(self, y, real):
            return [y[0][:4], self.w["y_embedder.y_embedding"][:4]]

    weights = {key: value.numpy() for key, value in module.state_dict().items()}
    arrays = [tensor.numpy() for tensor in (x, timestep, y, mask, fps)]
    assert relative_error(actual, PackedNullText(weights, CONFIG, "full")(*arrays)) < 1e-5


def test_variants_share_one_state_dict():
    full, merged = random_denoiser(CONFIG, "full"), Denoiser(CONFIG, "merged").eval()
    merged.load_state_dict(full.state_dict(), assign=True)
    inputs = random_inputs(CONFIG)
    assert merged.x_embedder.proj.weight.data_ptr() == full.x_embedder.proj.weight.data_ptr()
    with torch.no_grad():
        assert (full(*inputs) - merged(*inputs)).abs().max() > 1e-3


@pytest.mark.parametrize("variant", ["full", "merged"])
def test_block_pair_equals_the_reference_blocks(variant):
    module = random_denoiser(CONFIG, variant)
    pair = BlockPair(CONFIG, variant).eval()
    pair.spatial.load_state_dict(module.spatial_blocks[1].state_dict())
    pair.temporal.load_state_dict(module.temporal_blocks[1].state_dict())
    pair.rope.load_state_dict(module.rope.state_dict())
    generator = torch.Generator().manual_seed(1)
    tokens = CONFIG.frames * CONFIG.tokens_per_frame
    x = torch.randn(2, tokens, CONFIG.hidden_size, generator=generator)
    y = torch.randn(2, 6, CONFIG.hidden_size, generator=generator)
    t_mlp = torch.randn(2, 6 * CONFIG.hidden_size, generator=generator)
    with torch.no_grad():
        actual = pair(x, y, t_mlp, MASK)

    weights = {key: value.numpy() for key, value in module.state_dict().items()}
    reference = STDiT3Reference(weights, CONFIG, variant)
    rows = []
    for b in range(2):
        h = x[b].double().numpy().reshape(CONFIG.frames, -1, CONFIG.hidden_size)
        text = y[b].double().numpy()[MASK[0].bool().numpy()]
        for kind in ("spatial", "temporal"):
            h = reference.block(f"{kind}_blocks.1.", kind, h, text, t_mlp[b].double().numpy().reshape(6, -1))
        rows.append(h.reshape(tokens, -1))
    assert relative_error(actual, np.stack(rows)) < 1e-5


def published_denoiser_shapes() -> dict[str, list[int]]:
    """The checkpoint hpcai-tech/OpenSora-STDiT-v3, key by key."""
    c = 1152

    def linear(name: str, out: int, into: int) -> dict[str, list[int]]:
        return {f"{name}.weight": [out, into], f"{name}.bias": [out]}

    shapes = {
        "x_embedder.proj.weight": [c, 4, 1, 2, 2],
        "x_embedder.proj.bias": [c],
        "y_embedder.y_embedding": [300, 4096],
        "rope.freqs": [36],
        "final_layer.scale_shift_table": [2, c],
        **linear("t_embedder.mlp.0", c, 256),
        **linear("t_embedder.mlp.2", c, c),
        **linear("fps_embedder.mlp.0", c, 256),
        **linear("fps_embedder.mlp.2", c, c),
        **linear("t_block.1", 6912, c),
        **linear("y_embedder.y_proj.fc1", c, 4096),
        **linear("y_embedder.y_proj.fc2", c, c),
        **linear("final_layer.linear", 32, c),
    }
    for i in range(28):
        for block in (f"spatial_blocks.{i}", f"temporal_blocks.{i}"):
            shapes |= {
                f"{block}.scale_shift_table": [6, c],
                f"{block}.attn.q_norm.weight": [72],
                f"{block}.attn.k_norm.weight": [72],
                **linear(f"{block}.attn.qkv", 3456, c),
                **linear(f"{block}.attn.proj", c, c),
                **linear(f"{block}.cross_attn.q_linear", c, c),
                **linear(f"{block}.cross_attn.kv_linear", 2304, c),
                **linear(f"{block}.cross_attn.proj", c, c),
                **linear(f"{block}.mlp.fc1", 4608, c),
                **linear(f"{block}.mlp.fc2", c, 4608),
            }
    return shapes


@pytest.mark.parametrize("variant", ["full", "merged"])
def test_full_size_has_the_published_keys_shapes_and_parameter_count(variant):
    with torch.device("meta"):
        module = Denoiser(FULL, variant)
    shapes = {key: list(tensor.shape) for key, tensor in module.state_dict().items()}
    assert shapes == published_denoiser_shapes()
    assert sum(tensor.numel() for tensor in module.state_dict().values()) == 1_208_872_772
    pair = [*module.spatial_blocks[0].parameters(), *module.temporal_blocks[0].parameters()]
    assert sum(parameter.numel() for parameter in pair) == 42_511_392
    assert not list(module.spatial_blocks[0].buffers())


@pytest.mark.parametrize(
    ("pixels", "latent", "tokens"),
    [((256, 256), (32, 32), 5120), ((192, 192), (24, 24), 2880), ((166, 221), (20, 27), 2800)],
)
def test_token_counts_are_the_published_ones(pixels, latent, tokens):
    config = replace(FULL, height=latent[0], width=latent[1], pixel_height=pixels[0], pixel_width=pixels[1])
    assert config.frames * config.tokens_per_frame == tokens
