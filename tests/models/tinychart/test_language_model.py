"""TinyChart's language model against transformers' Phi, and its cache against whole sequences."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import PhiConfig, PhiForCausalLM

from tm_export.models.tinychart.config import LanguageModelConfig
from tm_export.models.tinychart.network.connector import Connector
from tm_export.models.tinychart.network.language_model import LanguageModel
from tm_export.models.tinychart.network.rotary import rotary_tables, rotate

CONFIG = LanguageModelConfig(
    vocab_size=50,
    hidden_size=40,
    intermediate_size=96,
    num_layers=3,
    num_heads=2,
    rotary_channels=8,
    token_ids=50,
    visual_size=24,
    visual_tokens=6,
    max_tokens=32,
    chunk=8,
)


def seeded_model() -> LanguageModel:
    torch.manual_seed(0)
    model = LanguageModel(CONFIG).eval()
    for parameter in model.parameters():
        parameter.data.normal_(std=0.2)  # norms and biases too, so that each counts
    return model


def phi_of(model: LanguageModel) -> PhiForCausalLM:
    """transformers' model with the same weights, its head's bias zero as TinyChart has none."""
    phi = PhiForCausalLM(
        PhiConfig(
            vocab_size=CONFIG.vocab_size,
            hidden_size=CONFIG.hidden_size,
            intermediate_size=CONFIG.intermediate_size,
            num_hidden_layers=CONFIG.num_layers,
            num_attention_heads=CONFIG.num_heads,
            max_position_embeddings=CONFIG.max_tokens,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.4},
            hidden_act="gelu_new",
            attn_implementation="eager",
        )
    ).eval()
    missing, unexpected = phi.load_state_dict(model.state_dict(), strict=False)
    assert (missing, unexpected) == (["lm_head.bias"], [])
    torch.nn.init.zeros_(phi.lm_head.bias)
    return phi


def no_cache() -> list[Tensor]:
    shape = (1, CONFIG.num_heads, CONFIG.max_tokens, CONFIG.head_size)
    return [torch.full(shape, 7.0) for _ in range(2 * CONFIG.num_layers)]  # what is not valid must not be seen


def run_in_calls(model: LanguageModel, ids: Tensor, places: Tensor, visual: Tensor, calls: list[int]) -> list[Tensor]:
    """The logits after each call of so many real tokens, filled up to one more with padding."""
    caches, cached, found = no_cache(), 0, []
    for count in calls:
        real = slice(cached, cached + count)
        pad = torch.zeros(1, 1, dtype=torch.int64)
        numbers = torch.tensor([cached]), torch.tensor([count - 1])
        inputs = torch.cat([ids[:, real], pad], 1), torch.cat([places[:, real], pad - 1], 1), visual
        logits, *made = model(*inputs, *numbers, *caches)
        for cache, new in zip(caches, made, strict=True):
            cache[:, :, real] = new[:, :, :count]
        found.append(logits)
        cached += count
    return found


@torch.no_grad()
def test_logits_equal_those_of_transformers_phi():
    model = seeded_model()
    ids = torch.randint(CONFIG.vocab_size, (2, 20), generator=torch.Generator().manual_seed(1))
    wanted = phi_of(model)(ids).logits
    torch.testing.assert_close(model.logits(model.model.embed_tokens(ids)), wanted, rtol=1e-4, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(calls=st.lists(st.integers(1, 9), min_size=1, max_size=3), seed=st.integers(0, 1000))
@torch.no_grad()
def test_calls_over_a_cache_equal_one_sequence(calls, seed):
    model, generator = seeded_model(), torch.Generator().manual_seed(seed)
    length = sum(calls)
    ids = torch.randint(CONFIG.vocab_size, (1, length), generator=generator)
    visual = torch.randn(1, CONFIG.visual_tokens, CONFIG.hidden_size, generator=generator)
    places = torch.randint(-1, CONFIG.visual_tokens, (1, length), generator=generator)
    x = model.model.embed_tokens(ids)
    for i, place in enumerate(places[0].tolist()):
        if place >= 0:
            x[0, i] = visual[0, place]
    whole = phi_of(model)(inputs_embeds=x).logits[0]
    ends = torch.tensor(calls).cumsum(0) - 1
    for end, logits in zip(ends.tolist(), run_in_calls(model, ids, places, visual, calls), strict=True):
        torch.testing.assert_close(logits[0], whole[end], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_last_chunk_may_be_padded_beyond_the_cache():
    model = seeded_model()
    ids = torch.randint(CONFIG.vocab_size, (1, CONFIG.max_tokens), generator=torch.Generator().manual_seed(2))
    places = torch.full_like(ids, -1)
    visual = torch.zeros(1, CONFIG.visual_tokens, CONFIG.hidden_size)
    logits = run_in_calls(model, ids, places, visual, [CONFIG.max_tokens - 3, 3])[-1]
    torch.testing.assert_close(logits, phi_of(model)(ids).logits[:, -1], rtol=1e-4, atol=1e-5)


def test_only_the_first_channels_turn_and_by_their_own_position():
    cos, sin = rotary_tables(10, 4)
    x = torch.randn(1, 1, 3, 6)
    turned = rotate(x, cos[4:7], sin[4:7])
    assert torch.equal(turned[..., 4:], x[..., 4:])
    pairs = torch.complex(x[..., :2], x[..., 2:4])
    angles = torch.tensor([4.0, 5.0, 6.0])[:, None] * torch.tensor([1.0, 0.01])
    torch.testing.assert_close(
        torch.complex(turned[..., :2], turned[..., 2:4]), pairs * torch.polar(torch.ones(3, 2), angles)
    )


def test_parameters_are_those_of_the_published_checkpoint():
    full = LanguageModelConfig()
    with torch.device("meta"):
        model, connector = LanguageModel(full), Connector(full)
    # models.md G.4: language model and projector.
    assert sum(p.numel() for p in model.parameters()) == 2_779_632_640
    assert sum(p.numel() for p in connector.parameters()) == 9_507_840
    assert "lm_head.bias" not in model.state_dict()


@pytest.mark.parametrize("wrong", ["tanh", "none"])
def test_the_connector_has_the_exact_gelu(wrong):
    connector = Connector(CONFIG)
    x = 3 * torch.randn(1, 5, CONFIG.visual_size)
    by_error_function = connector[0](x) * 0.5 * (1 + torch.erf(connector[0](x) / 2**0.5))
    assert torch.allclose(connector(x), connector[2](by_error_function), atol=1e-6)
    other = torch.nn.functional.gelu(connector[0](x), approximate=wrong) if wrong == "tanh" else connector[0](x)
    assert not torch.allclose(connector(x), connector[2](other), atol=1e-6)
