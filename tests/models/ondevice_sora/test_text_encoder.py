from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from transformers import T5Config, T5EncoderModel
from transformers.models.t5.modeling_t5 import T5Attention

from tm_export.models.checkpoints.checkpoint import MissingKeys, UnexpectedKeys, assign_weights
from tm_export.models.ondevice_sora.components import text_encoder_inputs
from tm_export.models.ondevice_sora.config import TextEncoderConfig
from tm_export.models.ondevice_sora.network.text_encoder import TextEncoder, position_buckets
from tm_export.models.ondevice_sora.weights import TIED_TO_SHARED, open_text_encoder

# Heads times head_dim is not the hidden size, and the text is longer than max_distance.
CONFIG = TextEncoderConfig(
    num_layers=3,
    hidden_size=24,
    num_heads=3,
    head_dim=7,
    intermediate_size=40,
    vocab_size=50,
    position_buckets=16,
    max_distance=40,
    text_tokens=60,
)


def transformers_config(config: TextEncoderConfig) -> T5Config:
    return T5Config(
        vocab_size=config.vocab_size,
        d_model=config.hidden_size,
        d_kv=config.head_dim,
        d_ff=config.intermediate_size,
        num_layers=config.num_layers,
        num_heads=config.num_heads,
        relative_attention_num_buckets=config.position_buckets,
        relative_attention_max_distance=config.max_distance,
        feed_forward_proj="gated-gelu",
        layer_norm_epsilon=1e-6,
    )


def random_encoder(config: TextEncoderConfig) -> TextEncoder:
    """Every parameter is random, norms too, so that none can be left out unseen."""
    generator = torch.Generator().manual_seed(5)
    module = TextEncoder(config).eval()
    with torch.no_grad():
        for tensor in module.parameters():
            noise = torch.randn(tensor.shape, generator=generator)
            tensor.copy_(1 + 0.5 * noise if tensor.dim() == 1 else noise / tensor.shape[1] ** 0.5)
    return module


@pytest.mark.parametrize("real", [1, 40, 60])
def test_text_encoder_equals_transformers(real):
    module = random_encoder(CONFIG)
    reference = T5EncoderModel(transformers_config(CONFIG)).eval()
    state = module.state_dict()
    reference.load_state_dict({**state, TIED_TO_SHARED: state["shared.weight"]})
    ids = torch.randint(CONFIG.vocab_size, (1, CONFIG.text_tokens), generator=torch.Generator().manual_seed(6))
    mask = (torch.arange(CONFIG.text_tokens) < real)[None].float()
    with torch.no_grad():
        actual = module(ids, mask)
        expected = reference(input_ids=ids, attention_mask=mask).last_hidden_state
    assert (actual - expected).abs().max() / expected.abs().max() < 1e-5


@given(st.integers(1, 16), st.integers(1, 400), st.integers(1, 200))
def test_position_buckets_equal_transformers(quarter, max_distance, length):
    config = replace(CONFIG, position_buckets=4 * quarter, max_distance=max_distance + quarter)
    positions = torch.arange(length)
    expected = T5Attention._relative_position_bucket(
        positions[None] - positions[:, None],
        num_buckets=config.position_buckets,
        max_distance=config.max_distance,
    )
    assert torch.equal(position_buckets(config, length, torch.device("cpu")), expected)


def test_published_size_has_transformers_keys_and_shapes():
    with torch.device("meta"):
        state = TextEncoder(TextEncoderConfig()).state_dict()
        published = T5EncoderModel(transformers_config(TextEncoderConfig())).state_dict()
    assert published.pop(TIED_TO_SHARED).shape == state["shared.weight"].shape
    assert {key: value.shape for key, value in state.items()} == {key: value.shape for key, value in published.items()}
    assert round(sum(tensor.numel() for tensor in state.values()) / 1e9, 3) == 4.762


def test_padding_is_not_seen():
    module = random_encoder(CONFIG)
    ids, mask = text_encoder_inputs(CONFIG, 0)
    real = int(mask.sum())
    other = ids.clone()
    other[:, real:] = 7
    with torch.no_grad():
        torch.testing.assert_close(module(ids, mask)[:, :real], module(other, mask)[:, :real])


def test_example_prompt_ends_with_the_end_token_and_padding():
    ids, mask = text_encoder_inputs(CONFIG, 0)
    assert ids.dtype == torch.int64
    assert ids[0, 39] == 1
    assert torch.equal(mask[0], (torch.arange(60) < 40).float())
    assert not ids[0, 40:].any()
    assert ids[0, :39].min() > 1


def save(state: dict[str, torch.Tensor], folder: Path) -> Path:
    save_file({key: value.clone() for key, value in state.items()}, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("names", [["shared.weight"], [TIED_TO_SHARED], ["shared.weight", TIED_TO_SHARED]])
def test_the_token_table_loads_from_either_of_its_names(names, tmp_path):
    state = random_encoder(CONFIG).state_dict()
    table = state.pop("shared.weight")
    path = save({**state, **dict.fromkeys(names, table)}, tmp_path)
    with torch.device("meta"):
        module = TextEncoder(CONFIG)
    assign_weights(module, open_text_encoder(module, path))
    assert torch.equal(module.shared.weight, table)


def test_a_whole_t5_loads_without_its_decoder(tmp_path):
    state = random_encoder(CONFIG).state_dict()
    extra = {"decoder.block.0.layer.0.SelfAttention.q.weight": torch.ones(2, 2), "lm_head.weight": torch.ones(2)}
    module = TextEncoder(CONFIG)
    assign_weights(module, open_text_encoder(module, save({**state, **extra}, tmp_path)))
    for key, tensor in module.state_dict().items():
        assert torch.equal(tensor, state[key])


def test_other_keys_of_a_checkpoint_are_refused(tmp_path):
    state = random_encoder(CONFIG).state_dict()
    more, fewer = tmp_path / "more", tmp_path / "fewer"
    for folder in (more, fewer):
        folder.mkdir()
    with pytest.raises(UnexpectedKeys, match=r"encoder\.block\.3\.x"):
        open_text_encoder(TextEncoder(CONFIG), save({**state, "encoder.block.3.x": torch.ones(1)}, more))
    del state["encoder.final_layer_norm.weight"]
    with pytest.raises(MissingKeys, match="final_layer_norm"):
        open_text_encoder(TextEncoder(CONFIG), save(state, fewer))
