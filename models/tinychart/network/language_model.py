"""TinyChart's language model: Phi-2 without a bias in its head, over a cache of fixed length.

Source: checkpoint mPLUG/TinyChart-3B-768, whose keys and shapes the module has; Javaheripi and Bubeck, "Phi-2".
MLPs are transformers' own. A call takes some tokens, that follow those in the cache, and returns their keys and
values; who calls puts them into the cache. So no shape depends on how much has been read, and no step copies the
cache. Keys and values of padding may stand behind the real ones: later calls overwrite them, and a mask hides them.

Legend: N tokens of a call, M rows of the cache, P visual tokens, C channels, H heads, K channels of one head, R of
them rotated, V vocabulary. The batch is one picture and one question.
"""

import torch
from torch import Tensor, nn
from transformers import PhiConfig
from transformers.models.phi.modeling_phi import PhiMLP

from tm_export.models.layers.attention import split_heads
from tm_export.models.tinychart.config import LanguageModelConfig
from tm_export.models.tinychart.network.rotary import rotary_tables, rotate

MASKED = -30000.0
"""Added to the logit of a key that must not be seen; inside the range of fp16."""

LAYER_NORM_EPS = 1e-5

Cache = tuple[Tensor, Tensor]
"""Keys and values [1, H, M, K] of one layer."""


def causal_bias(places_N: Tensor) -> Tensor:
    """Return what is added to the logits of keys [N, N], so that no token sees a later one."""
    return MASKED * (places_N[None, :] > places_N[:, None]).float()


class Attention(nn.Module):
    """Causal attention to the cache and to the call's own tokens."""

    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.k_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.v_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(
        self, x_BNC: Tensor, rotary: tuple[Tensor, Tensor], bias_NX: Tensor, cache: Cache | None
    ) -> tuple[Tensor, Cache]:
        """Return [B, N, C], and the keys and values [B, H, N, K] of these tokens.

        Args:
            x_BNC: the tokens, normalised.
            rotary: cosines and sines [N, R] of their positions.
            bias_NX: what is added to the logits of the M keys in the cache and then of the N own ones.
            cache: of this layer; None for none.
        """
        q, k, v = (split_heads(project(x_BNC), self.num_heads) for project in (self.q_proj, self.k_proj, self.v_proj))
        q, k = rotate(q, *rotary), rotate(k, *rotary)
        # In float32, since Phi-2's logits outgrow float16.
        q = q.float() * q.shape[-1] ** -0.5
        logits = q @ k.float().transpose(-2, -1)
        if cache is None:
            out = (logits + bias_NX).softmax(dim=-1).to(v.dtype) @ v
        else:
            kept = cache[0].shape[2]
            weights = (torch.cat([q @ cache[0].float().transpose(-2, -1), logits], dim=-1) + bias_NX).softmax(dim=-1)
            weights = weights.to(v.dtype)
            out = weights[..., :kept] @ cache[1] + weights[..., kept:] @ v
        y_BNC: Tensor = self.dense(out.transpose(1, 2).flatten(2))
        return y_BNC, (k, v)


class Layer(nn.Module):
    """Attention and MLP side by side, over one norm."""

    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__()
        self.input_layernorm = nn.LayerNorm(config.hidden_size, eps=LAYER_NORM_EPS)
        self.self_attn = Attention(config)
        sizes = {"hidden_size": config.hidden_size, "intermediate_size": config.intermediate_size}
        self.mlp = PhiMLP(PhiConfig(**sizes, hidden_act="gelu_pytorch_tanh"))

    def forward(
        self, x_BNC: Tensor, rotary: tuple[Tensor, Tensor], bias_NX: Tensor, cache: Cache | None
    ) -> tuple[Tensor, Cache]:
        """Return the residual stream, and the keys and values of these tokens; see `Attention`."""
        h_BNC = self.input_layernorm(x_BNC)
        attention_BNC, made = self.self_attn(h_BNC, rotary, bias_NX, cache)
        return x_BNC + attention_BNC + self.mlp(h_BNC), made


class Decoder(nn.Module):
    """Embedding, layers and the norm after them."""

    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_layers))
        self.final_layernorm = nn.LayerNorm(config.hidden_size, eps=LAYER_NORM_EPS)

    def forward(
        self, x_BNC: Tensor, positions_N: Tensor, bias_NX: Tensor, caches: list[Cache]
    ) -> tuple[Tensor, list[Cache]]:
        """Return the last layer's states [B, N, C], normalised, and the keys and values of each layer.

        Args:
            x_BNC: embedded tokens.
            positions_N: of them, int64.
            bias_NX: see `Attention`.
            caches: of the layers; none, if these tokens are the first.
        """
        # Looked up and not computed: an angle of some thousands has no precision left in fp16.
        cos_MR, sin_MR = rotary_tables(self.config.max_tokens, self.config.rotary_channels, x_BNC.device)
        rotary = cos_MR.index_select(0, positions_N), sin_MR.index_select(0, positions_N)
        made = []
        for i, layer in enumerate(self.layers):
            x_BNC, own = layer(x_BNC, rotary, bias_NX, caches[i] if caches else None)
            made.append(own)
        states: Tensor = self.final_layernorm(x_BNC)
        return states, made


class LanguageModel(nn.Module):
    """Some tokens of text and picture to the logits of the next one."""

    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Decoder(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def forward(
        self,
        input_ids_1N: Tensor,
        visual_places_1N: Tensor,
        visual_1PC: Tensor,
        cached_1: Tensor,
        last_1: Tensor,
        *caches: Tensor,
    ) -> tuple[Tensor, ...]:
        """Return the logits [1, V] after one of the tokens, then keys and values [1, H, N, K] of each layer in turn.

        Args:
            input_ids_1N: int64, the text's tokens; anything where a visual one stands.
            visual_places_1N: int64, which visual token stands in a place; −1 for text.
            visual_1PC: the connector's output.
            cached_1: int64, how many tokens the cache holds, which is also the first token's position.
            last_1: int64, after which of the N tokens the logits are wanted.
            caches: keys and values [1, H, M, K] of each layer in turn.
        """
        places_N = visual_places_1N[0]
        pictured_NC = visual_1PC[0].index_select(0, places_N.clamp(min=0))
        x_NC = torch.where((places_N >= 0)[:, None], pictured_NC, self.model.embed_tokens(input_ids_1N[0]))
        own = torch.arange(places_N.shape[0], device=places_N.device)
        kept = torch.arange(caches[0].shape[2], device=places_N.device)
        hidden_NM = (kept[None, :] >= cached_1[:, None]).expand(len(own), -1)
        bias_NX = torch.cat([MASKED * hidden_NM.float(), causal_bias(own)], dim=1)
        # Padding in the last chunk may lie beyond the tables' end; nobody sees where.
        positions_N = (cached_1 + own).clamp(max=self.config.max_tokens - 1)
        pairs = list(zip(caches[::2], caches[1::2], strict=True))
        states_1NC, made = self.model(x_NC[None], positions_N, bias_NX, pairs)
        logits_1V = self.lm_head(states_1NC[0].index_select(0, last_1))
        return logits_1V, *(tensor for pair in made for tensor in pair)

    def logits(self, x_BNC: Tensor) -> Tensor:
        """Return the logits [B, N, V] after every one of whole sequences of embedded tokens, as in training."""
        own = torch.arange(x_BNC.shape[1], device=x_BNC.device)
        states_BNC, _ = self.model(x_BNC, own, causal_bias(own), [])
        out: Tensor = self.lm_head(states_BNC)
        return out
