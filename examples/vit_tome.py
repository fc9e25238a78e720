"""A transformers ViT with ToMe (arXiv 2210.09461) patched in the ordinary way, as its authors' users do it.

Nothing here knows of tm-export, which compiles it as it is:

    tm-export -m examples/vit_tome.py:build --target onnx

`patch_with_tome(model, r)` works on any transformers `ViTModel`, with your own checkpoint as well.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import ViTConfig, ViTModel
from transformers.models.vit.modeling_vit import ViTLayer


@dataclass(eq=False)
class MergeState:
    """What the patched layers of one model share: how many to merge, and the sizes so far in this pass."""

    r: int
    size: Tensor | None = None


def merge_tokens(x: Tensor, size: Tensor, metric: Tensor, r: int) -> tuple[Tensor, Tensor]:
    """Merge the r most similar pairs of even and odd tokens, weighted by size; the class token stays first.

    x [B, N, C], size [B, N, 1], metric [B, N, D] to tokens [B, N - r, C] and sizes [B, N - r, 1].
    """
    metric = metric / metric.norm(dim=-1, keepdim=True)
    scores = metric[:, ::2] @ metric[:, 1::2].transpose(-1, -2)
    scores[:, 0] = -torch.inf
    best, partner = scores.max(dim=-1)
    order = best.argsort(dim=-1, descending=True)[..., None]
    gone = order[:, :r]
    kept = order[:, r:].sort(dim=1).values
    into = partner[..., None].gather(dim=1, index=gone)

    def merged_sum(values: Tensor) -> Tensor:
        src, dst = values[:, ::2], values[:, 1::2]
        c = values.shape[-1]
        moved = src.gather(dim=1, index=gone.expand(-1, -1, c))
        dst = dst.scatter_reduce(1, into.expand(-1, -1, c), moved, reduce="sum")
        return torch.cat([src.gather(dim=1, index=kept.expand(-1, -1, c)), dst], dim=1)

    new_size = merged_sum(size)
    return merged_sum(x * size) / new_size, new_size


class TomeLayer(ViTLayer):
    """A ViT layer that merges between attention and MLP; `patch_with_tome` turns layers into it."""

    tome: MergeState

    def forward(self, hidden_states: Tensor, *args: object, **kwargs: object) -> Tensor:
        """Attention in proportion to size, then the merge, then the MLP."""
        attention, state = self.attention, self.tome
        b, n, c = hidden_states.shape
        normed = self.layernorm_before(hidden_states)
        q, k, v = (
            projection(normed).view(b, n, -1, attention.head_dim).transpose(1, 2)
            for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        bias = None if state.size is None else state.size.log().view(b, 1, 1, n)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=attention.scaling)
        x = hidden_states + attention.o_proj(mixed.transpose(1, 2).reshape(b, n, c))

        size = torch.ones_like(x[..., :1]) if state.size is None else state.size
        x, state.size = merge_tokens(x, size, k.mean(dim=1), state.r)
        return x + self.mlp(self.layernorm_after(x))


def patch_with_tome(model: ViTModel, r: int) -> None:
    """Make every layer of `model` merge r tokens, in place."""
    state = MergeState(r)
    for layer in model.layers:
        layer.__class__ = TomeLayer
        layer.tome = state

    def start_pass(*_: object) -> None:
        state.size = None

    model.register_forward_pre_hook(start_pass)


def build() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """A small ViT with seeded weights, 65 tokens of which each of its 4 layers merges 8, and two images."""
    torch.manual_seed(0)
    config = ViTConfig(
        image_size=64,
        patch_size=8,
        hidden_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=128,
        initializer_range=0.2,
    )
    model = ViTModel(config, add_pooling_layer=False).eval()
    patch_with_tome(model, r=8)
    return model, (torch.randn(2, 3, 64, 64),)
