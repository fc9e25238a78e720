from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from transformers import SiglipVisionConfig, SiglipVisionModel

from tests.support.naive_tome import groups_after_merging
from tests.support.siglip_reference import TowerReference
from tm_export.models.checkpoints.checkpoint import WrongTensor
from tm_export.models.merging.source import region_labels
from tm_export.models.tinychart.config import VisionTowerConfig
from tm_export.models.tinychart.network.position_table import enlarge_position_table
from tm_export.models.tinychart.network.vision_tower import VisionTower
from tm_export.models.tinychart.presets import FULL
from tm_export.models.tinychart.weights import load_vision_tower

# 5×5 patches and two pixels that fill none: 25 → 21 → 17 → 13 tokens, all odd counts.
CONFIG = VisionTowerConfig(
    hidden_size=24, intermediate_size=40, num_layers=3, num_heads=2, patch_size=4, image_size=22, tome_r=4
)


def random_tower(config: VisionTowerConfig) -> VisionTower:
    """Every parameter is random, so that none can be left out unseen."""
    generator = torch.Generator().manual_seed(11)
    tower = VisionTower(config).eval()
    with torch.no_grad():
        for name, tensor in tower.state_dict().items():
            noise = torch.randn(tensor.shape, generator=generator)
            is_norm = "norm" in name and name.endswith("weight")
            tensor.copy_(1 + 0.3 * noise if is_norm else noise / max(1, tensor[0].numel()) ** 0.5)
    return tower


def random_images(config: VisionTowerConfig, batch: int = 2) -> torch.Tensor:
    size = (batch, 3, config.image_size, config.image_size)
    return torch.randn(size, generator=torch.Generator().manual_seed(12))


def distance(reference: type[TowerReference], config: VisionTowerConfig = CONFIG) -> float:
    """Return the largest difference relative to the largest feature."""
    tower, images = random_tower(config), random_images(config)
    with torch.no_grad():
        actual = tower(images).double()
    expected = reference(tower.state_dict(), config)(images)
    assert actual.shape == expected.shape
    return ((actual - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize("r", [0, 1, 4, 12])
def test_tower_equals_the_loop_reference(r):
    assert distance(TowerReference, replace(CONFIG, tome_r=r)) < 1e-5


# Each of these does one thing the wrong way; the comparison above must notice.


class PostLayerNorm(TowerReference):
    def finish(self, x):
        return self.norm("post_layernorm", x)


class UnweightedMean(TowerReference):
    def merge(self, parts, sizes):
        return parts.mean(0)


class NoLogSize(TowerReference):
    def key_bias(self, index, sizes):
        return torch.zeros(len(sizes)).double()


class LogSizeFromThirdLayer(TowerReference):
    def key_bias(self, index, sizes):
        return super().key_bias(index, sizes if index >= 2 else [1] * len(sizes))


class SizeInsteadOfLogSize(TowerReference):
    def key_bias(self, index, sizes):
        return torch.tensor(sizes).double()


class PositionOrder(TowerReference):
    def order(self, groups):
        return sorted(groups, key=lambda group: group[0])


class HalfBFirst(TowerReference):
    def order(self, groups):
        return sorted(groups, key=lambda group: group[0] % 2 == 0)


class AscendingScoreOrder(TowerReference):
    def order(self, groups):
        unmerged = [group for group in groups if group[0] % 2 == 0]
        return unmerged[::-1] + groups[len(unmerged) :]


class MetricWithoutBias(TowerReference):
    def metric(self, name, h, keys):
        return super().metric(name, h, keys - self.w[name + "self_attn.k_proj.bias"])


class MetricOfAllHeads(TowerReference):
    def metric(self, name, h, keys):
        return keys


class MetricOfTheTokens(TowerReference):
    def metric(self, name, h, keys):
        return h


class ExactGelu(TowerReference):
    def gelu(self, x):
        return torch.nn.functional.gelu(x)


@pytest.mark.parametrize(
    "wrong",
    [
        PostLayerNorm,
        UnweightedMean,
        NoLogSize,
        LogSizeFromThirdLayer,
        SizeInsteadOfLogSize,
        PositionOrder,
        HalfBFirst,
        AscendingScoreOrder,
        MetricWithoutBias,
        MetricOfAllHeads,
        MetricOfTheTokens,
        ExactGelu,
    ],
)
def test_tower_differs_from_a_reference_that_is_wrong_in_one_thing(wrong):
    assert distance(wrong) > 1e-4


class MergeAfterMlp(TowerReference):
    def layer(self, name, index, x, sizes):
        h = self.norm(name + "layer_norm1", x)
        keys = self.linear(name + "self_attn.k_proj", h)
        x = self.mlp(name, x + self.attend(name, h, keys, self.key_bias(index, sizes)))
        groups = groups_after_merging(self.metric(name, h, keys), self.c.tome_r)
        merged = [self.merge(x[group], [sizes[i] for i in group]) for group in groups]
        return torch.stack(merged), [sum(sizes[i] for i in group) for group in groups]


def test_tower_merges_before_the_mlp():
    assert distance(MergeAfterMlp) > 1e-4


def siglip(config: VisionTowerConfig, num_layers: int, image_size: int) -> SiglipVisionModel:
    return SiglipVisionModel(
        SiglipVisionConfig(
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=num_layers,
            num_attention_heads=config.num_heads,
            patch_size=config.patch_size,
            image_size=image_size,
        )
    ).eval()


def save_plain_siglip(model: SiglipVisionModel, path) -> None:
    """With what a whole SigLIP checkpoint has besides: text model and logit scale."""
    tensors = {f"vision_model.{key}": value.contiguous() for key, value in model.state_dict().items()}
    tensors |= {
        "text_model.embeddings.token_embedding.weight": torch.zeros(3, 2),
        "logit_scale": torch.ones(1),
    }
    save_file(tensors, path)


def test_unmerged_tower_equals_transformers_features_before_its_last_layer(tmp_path):
    config = replace(CONFIG, tome_r=0)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        model = siglip(config, config.num_layers + 1, config.image_size)
    save_plain_siglip(model, tmp_path / "siglip.safetensors")
    tower = VisionTower(config).eval()
    load_vision_tower(tower, tmp_path / "siglip.safetensors")
    images = random_images(config)
    with torch.no_grad():
        states = model(images, output_hidden_states=True).hidden_states
        # hidden_states[0] are the embeddings, so [num_layers] leaves out SigLIP's last layer.
        assert len(states) == config.num_layers + 2
        torch.testing.assert_close(tower(images), states[config.num_layers], atol=1e-5, rtol=1e-5)
        assert (tower(images) - states[-1]).abs().max() > 1e-2


def cubic_weight(distance: float) -> float:
    """Keys' kernel with a = −0.75."""
    a, d = -0.75, abs(distance)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0


def enlarged_by_hand(table: torch.Tensor, side: int) -> torch.Tensor:
    old = int(len(table) ** 0.5)
    taps = torch.zeros(side, old, dtype=torch.float64)
    for i in range(side):
        centre = (i + 0.5) * old / side - 0.5
        for k in range(int(centre // 1) - 1, int(centre // 1) + 3):
            taps[i, min(max(k, 0), old - 1)] += cubic_weight(centre - k)
    grid = table.double().view(old, old, -1)
    return torch.einsum("ia,jb,abc->ijc", taps, taps, grid).flatten(0, 1)


@pytest.mark.parametrize(("old", "new"), [(3, 6), (27, 54), (4, 5)])
def test_position_table_is_enlarged_bicubically(old, new):
    table = torch.randn(old * old, 3)
    enlarged = enlarge_position_table(table, new)
    assert enlarged.shape == (new * new, 3)
    torch.testing.assert_close(enlarged.double(), enlarged_by_hand(table, new), atol=1e-5, rtol=1e-5)


def test_position_table_of_the_right_size_is_left_alone():
    table = torch.randn(9, 4)
    assert enlarge_position_table(table, 3) is table


def test_position_table_that_is_no_square_is_refused():
    with pytest.raises(ValueError, match="10 rows"):
        enlarge_position_table(torch.zeros(10, 4), 6)


def test_loader_enlarges_the_position_table_of_a_smaller_siglip(tmp_path):
    small = siglip(CONFIG, CONFIG.num_layers, image_size=12)
    save_plain_siglip(small, tmp_path / "siglip.safetensors")
    tower = VisionTower(CONFIG)
    load_vision_tower(tower, tmp_path / "siglip.safetensors")
    expected = enlarged_by_hand(small.embeddings.position_embedding.weight.detach(), 5)
    actual = tower.vision_model.embeddings.position_embedding.weight.detach()
    torch.testing.assert_close(actual.double(), expected, atol=1e-5, rtol=1e-5)


def test_loader_names_the_file_and_the_table_that_is_no_square(tmp_path):
    tensors = VisionTower(CONFIG).state_dict()
    tensors["vision_model.embeddings.position_embedding.weight"] = torch.zeros(10, 24)
    save_file(tensors, tmp_path / "tower.safetensors")
    with pytest.raises(WrongTensor, match=r"tower\.safetensors.*position_embedding.*10 rows"):
        load_vision_tower(VisionTower(CONFIG), tmp_path / "tower.safetensors")


def test_trace_source_puts_each_patch_into_one_token():
    source = random_tower(CONFIG).trace_source(random_images(CONFIG))
    assert source.shape == (2, 13, 25)
    assert torch.equal(source.sum(dim=1), torch.ones(2, 25))
    assert source.sum(dim=2).min() >= 1
    assert all(len(labels.unique()) == 13 for labels in region_labels(source))


@pytest.mark.parametrize(
    ("image_size", "r", "tokens_in", "tokens_out"),
    [(768, 84, 2916, 732), (512, 20, 1296, 776), (384, 0, 729, 729)],
)
def test_token_counts_are_the_published_ones(image_size, r, tokens_in, tokens_out):
    config = replace(FULL, image_size=image_size, tome_r=r)
    assert (config.tokens_in, config.tokens_out) == (tokens_in, tokens_out)
    with torch.device("meta"):
        assert VisionTower(config)(torch.empty(1, 3, image_size, image_size)).shape == (1, tokens_out, 1152)


def published_tower_shapes() -> dict[str, list[int]]:
    """The checkpoint mPLUG/TinyChart-3B-768-siglip, key by key."""
    c, hidden = 1152, 4304
    shapes = {
        "vision_model.embeddings.patch_embedding.weight": [c, 3, 14, 14],
        "vision_model.embeddings.patch_embedding.bias": [c],
        "vision_model.embeddings.position_embedding.weight": [2916, c],
        "vision_model.post_layernorm.weight": [c],
        "vision_model.post_layernorm.bias": [c],
    }
    for i in range(26):
        layer = f"vision_model.encoder.layers.{i}"
        for norm in ("layer_norm1", "layer_norm2"):
            shapes |= {f"{layer}.{norm}.weight": [c], f"{layer}.{norm}.bias": [c]}
        for part in ("q", "k", "v", "out"):
            shapes[f"{layer}.self_attn.{part}_proj.weight"] = [c, c]
            shapes[f"{layer}.self_attn.{part}_proj.bias"] = [c]
        shapes |= {f"{layer}.mlp.fc1.weight": [hidden, c], f"{layer}.mlp.fc1.bias": [hidden]}
        shapes |= {f"{layer}.mlp.fc2.weight": [c, hidden], f"{layer}.mlp.fc2.bias": [c]}
    return shapes


def test_full_size_has_the_published_keys_shapes_and_parameter_count():
    with torch.device("meta"):
        tower = VisionTower(FULL)
    shapes = {key: list(tensor.shape) for key, tensor in tower.state_dict().items()}
    assert shapes == published_tower_shapes()
    assert sum(tensor.numel() for tensor in tower.state_dict().values()) == 400_267_168
    assert not list(tower.buffers())
