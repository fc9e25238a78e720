"""tomesd (the package on PyPI, as it is) on a small diffusers UNet.

tomesd draws one target token at random in each 2×2 square of the image, at every call anew. An exported
program has one draw, made at export from `--seed`:

    tm-export -m examples/tomesd_unet.py:build --target coreml
"""

import tomesd
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn


class FixedStepUNet(nn.Module):
    """A UNet at one timestep: latents [B, 4, H, W] and text states [B, L, D] to the predicted noise."""

    timestep: Tensor

    def __init__(self, unet: UNet2DConditionModel, timestep: int) -> None:
        super().__init__()
        self.unet = unet
        self.register_buffer("timestep", torch.tensor(timestep), persistent=False)

    def forward(self, latents: Tensor, text: Tensor) -> Tensor:
        """The UNet's prediction alone."""
        noise: Tensor = self.unet(latents, self.timestep, encoder_hidden_states=text, return_dict=False)[0]
        return noise


def build() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The UNet with seeded weights, half of its 256 tokens merged for self-attention, and its inputs."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(32, 64),
        layers_per_block=1,
        norm_num_groups=8,
        cross_attention_dim=32,
        attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )
    inputs = (torch.randn(2, 4, 16, 16), torch.randn(2, 7, 32))
    tomesd.apply_patch(unet, ratio=0.5)
    return FixedStepUNet(unet, timestep=500).eval(), inputs
