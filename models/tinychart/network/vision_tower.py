"""TinyChart's vision tower: SigLIP that merges tokens in every layer.

Source: Zhang et al., "TinyChart", arXiv 2404.16635, section 3.2; checkpoint mPLUG/TinyChart-3B-768-siglip,
whose keys and shapes the module has. Embeddings, projections and MLPs are transformers' SigLIP modules.

Legend: B batch, N tokens before a merge, n after it, H heads, K channels of one head, C channels.
"""

import torch
from torch import Tensor, nn
from transformers import SiglipVisionConfig
from transformers.models.siglip.modeling_siglip import SiglipAttention, SiglipMLP, SiglipVisionEmbeddings

from tm_export.models.layers.attention import split_heads
from tm_export.models.merging.attention import proportional_attention
from tm_export.models.merging.bipartite import Match, match_bipartite, merge_weighted
from tm_export.models.merging.source import source_of
from tm_export.models.tinychart.config import VisionTowerConfig


class MergingLayer(nn.Module):
    """A SigLIP encoder layer that merges tokens between its attention and its MLP."""

    def __init__(self, config: SiglipVisionConfig, tome_r: int) -> None:
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.tome_r = tome_r
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.self_attn = SiglipAttention(config)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = SiglipMLP(config)

    def forward(self, x_BNC: Tensor, size_BN1: Tensor | None) -> tuple[Tensor, Tensor | None, Match]:
        """Return the tokens [B, n, C] and their sizes [B, n, 1], both merged, and how they were matched.

        Args:
            x_BNC: the residual stream.
            size_BN1: patches in each token, float32; None where nothing has been merged yet.
        """
        attention_BNC, metric_BNK = self._attend(self.layer_norm1(x_BNC), size_BN1)
        x_BNC = x_BNC + attention_BNC
        match = match_bipartite(metric_BNK, self.tome_r)
        x_BnC, size_Bn1 = merge_weighted(x_BNC, size_BN1, match)
        return x_BnC + self.mlp(self.layer_norm2(x_BnC)), size_Bn1, match

    def _attend(self, h_BNC: Tensor, size_BN1: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the attention, and the keys averaged over heads, by which tokens are matched."""
        attention = self.self_attn
        q = split_heads(attention.q_proj(h_BNC), self.num_heads)
        k = split_heads(attention.k_proj(h_BNC), self.num_heads)
        v = split_heads(attention.v_proj(h_BNC), self.num_heads)
        out: Tensor = attention.out_proj(proportional_attention(q, k, v, size_BN1))
        return out, k.mean(dim=1)


class MergingEncoder(nn.Module):
    """The encoder layers."""

    def __init__(self, config: SiglipVisionConfig, tome_r: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(MergingLayer(config, tome_r) for _ in range(config.num_hidden_layers))

    def forward(self, x_BNC: Tensor) -> tuple[Tensor, list[Match]]:
        """Return the tokens after the last layer and the match of each layer."""
        size: Tensor | None = None
        matches: list[Match] = []
        for layer in self.layers:
            x_BNC, size, match = layer(x_BNC, size)
            matches.append(match)
        return x_BNC, matches


class MergingVisionModel(nn.Module):
    """SigLIP's vision model without its pooling head, merging."""

    def __init__(self, config: VisionTowerConfig) -> None:
        super().__init__()
        siglip = SiglipVisionConfig(
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            patch_size=config.patch_size,
            image_size=config.image_size,
        )
        self.embeddings = SiglipVisionEmbeddings(siglip)
        # Positions are always 0..N−1, so that the table is added whole, and no buffer is left that a
        # checkpoint could not fill.
        del self.embeddings.position_ids
        self.encoder = MergingEncoder(siglip, config.tome_r)
        # In the checkpoint, but TinyChart takes the features from before it.
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=siglip.layer_norm_eps)

    def forward(self, pixels_BCHW: Tensor) -> tuple[Tensor, list[Match]]:
        """Return the tokens after the last layer, not normalised, and the match of each layer."""
        patches_BNC = self.embeddings.patch_embedding(pixels_BCHW).flatten(2).transpose(1, 2)
        tokens: tuple[Tensor, list[Match]] = self.encoder(patches_BNC + self.embeddings.position_embedding.weight)
        return tokens


class VisionTower(nn.Module):
    """Image to visual tokens for the language model."""

    def __init__(self, config: VisionTowerConfig) -> None:
        super().__init__()
        self.config = config
        self.vision_model = MergingVisionModel(config)

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """Return the features [B, n, C] of an image, n = 732 at 768 px.

        Their order is the one that merging leaves, and the language model's positions follow it.

        Args:
            pixels_BCHW: [B, 3, image_size, image_size], scaled to −1..1.
        """
        features: Tensor = self.vision_model(pixels_BCHW)[0]
        return features

    @torch.no_grad()
    def trace_source(self, pixels_BCHW: Tensor) -> Tensor:
        """Return which patches stand in each visual token: [B, n, N] with 1 where one does, else 0."""
        _, matches = self.vision_model(pixels_BCHW)
        return source_of(matches, pixels_BCHW.shape[0], self.config.tokens_in)
