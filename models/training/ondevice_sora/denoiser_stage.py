"""The stage that trains text encoder, null text and denoiser together, by rectified flow on cached latents.

Source: Liu et al., "Flow Straight and Fast", arXiv 2209.03003; Esser et al., "Scaling Rectified Flow
Transformers", arXiv 2403.03206, section 3.1, for logit-normal times.

Legend: N videos, B batch, C channels, T latent frames, H rows, W columns, L text tokens, D text channels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from tm_export.models.ondevice_sora.network.denoiser import Denoiser
from tm_export.models.ondevice_sora.network.text_encoder import TextEncoder
from tm_export.models.ondevice_sora.tiny.sizes import DENOISER, FPS, TEXT_ENCODER
from tm_export.models.training.stage import Losses

BATCH = 24
CAPTION_DROPOUT = 0.12
TIME_MEAN, TIME_SPREAD = 0.2, 1.2


@dataclass(frozen=True)
class Mix:
    """How much of the training goes through the merged variant.

    Attributes:
        merged_share: of the batches.
        merged_time_mean: of the logits of their times: above `TIME_MEAN` there is more noise.
    """

    merged_share: float
    merged_time_mean: float


FROM_NOTHING = Mix(merged_share=0.3, merged_time_mean=TIME_MEAN)
# A video is merged in its first steps, where there is the most noise.
FOR_MERGING = Mix(merged_share=0.6, merged_time_mean=1.2)


@dataclass(frozen=True)
class CaptionedLatents:
    """Latent videos at unit scale [N, 4, T, H, W], with their captions' token ids and masks [N, L]."""

    latents_NCTHW: Tensor
    ids_NL: Tensor
    mask_NL: Tensor


class TextToLatent(nn.Module):
    """What the stage trains."""

    def __init__(self) -> None:
        super().__init__()
        self.text_encoder = TextEncoder(TEXT_ENCODER)
        self.denoiser = Denoiser(DENOISER, "full")
        # The denoiser holds it as a buffer, which no optimizer sees.
        self.null_text_LD = nn.Parameter(self.denoiser.y_embedder.y_embedding.clone())
        start_small(self)

    def forward(self, x_BCTHW: Tensor, time_B: Tensor, ids_BL: Tensor, mask_BL: Tensor, dropped_B: Tensor) -> Tensor:
        """Return the velocity [B, 4, T, H, W] at times 0..1, without the text where the caption is dropped."""
        return self.velocity(self.denoiser, x_BCTHW, time_B, ids_BL, mask_BL, dropped_B)

    def velocity(
        self, denoiser: nn.Module, x_BCTHW: Tensor, time_B: Tensor, ids_BL: Tensor, mask_BL: Tensor, dropped_B: Tensor
    ) -> Tensor:
        """Return the velocity of a denoiser that runs with this one's weights: either of its variants."""
        states_BLD = self.text_encoder(ids_BL, mask_BL)
        y_BLD = torch.where(dropped_B[:, None, None], self.null_text_LD, states_BLD)
        weights = dict(self.denoiser.state_dict(keep_vars=True))
        inputs = (x_BCTHW, 1000 * time_B, y_BLD[:, None], mask_BL, torch.full((1,), FPS, device=x_BCTHW.device))
        prediction: Tensor = functional_call(denoiser, weights, inputs)
        return prediction[:, : DENOISER.in_channels]


@torch.no_grad()
def start_small(model: TextToLatent) -> None:
    """Scale the first weights so that the residual streams begin calm and the prediction at 0."""
    for name, parameter in model.text_encoder.named_parameters():
        if name.endswith("SelfAttention.q.weight"):
            parameter.mul_(TEXT_ENCODER.head_dim**-0.5)  # T5 does not divide its logits
    model.denoiser.get_parameter("final_layer.linear.weight").zero_()
    model.denoiser.get_parameter("final_layer.linear.bias").zero_()


def flow_losses(
    model: TextToLatent, merged: Denoiser, data: CaptionedLatents, mix: Mix, generator: torch.Generator
) -> Losses:
    """Return the loss of the velocity at random times; a share of the batches goes through the merged variant."""
    device = data.latents_NCTHW.device
    picked = torch.randint(len(data.latents_NCTHW), (BATCH,), generator=generator)
    clean = data.latents_NCTHW[picked]
    noise = torch.randn(clean.shape, generator=generator).to(device)
    spread_B = TIME_SPREAD * torch.randn(BATCH, generator=generator)
    dropped_B = (torch.rand(BATCH, generator=generator) < CAPTION_DROPOUT).to(device)
    is_merged = float(torch.rand((), generator=generator)) < mix.merged_share
    denoiser = merged if is_merged else model.denoiser
    time_B = torch.sigmoid(spread_B + (mix.merged_time_mean if is_merged else TIME_MEAN)).to(device)
    t = time_B[:, None, None, None, None]
    x = (1 - t) * clean + t * noise
    velocity = model.velocity(denoiser, x, time_B, data.ids_NL[picked], data.mask_NL[picked], dropped_B)
    loss = (velocity - (clean - noise)).square().mean()
    return {"loss": loss, "merged": torch.tensor(float(is_merged))}
