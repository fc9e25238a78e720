"""Open-Sora 1.2's temporal decoder with loops over places, for one video of a few numbers."""

import numpy as np

from tm_export.models.ondevice_sora.config import TemporalVaeConfig

Array = np.ndarray


class TemporalVaeReference:
    """The network on arrays [C, T, H, W], in float64, from published keys."""

    def __init__(self, weights: dict[str, Array], config: TemporalVaeConfig) -> None:
        self.weights = {key: value.astype(np.float64) for key, value in weights.items()}
        self.config = config

    def __call__(self, z: Array) -> Array:
        z = z * self.weights["scale"][0] + self.weights["shift"][0]
        x = self.conv("temporal_vae.post_quant_conv", z)
        x = self.conv("temporal_vae.decoder.conv1", x)
        for j in range(self.config.blocks_per_stage):
            x = self.block(f"temporal_vae.decoder.res_blocks.{j}", x)
        for i in (3, 2, 1, 0):
            for j in range(self.config.blocks_per_stage):
                x = self.block(f"temporal_vae.decoder.block_res_blocks.{i}.{j}", x)
            if i in (3, 2):
                x = self.double(self.conv(f"temporal_vae.decoder.conv_blocks.{i - 1}", x))
        x = self.conv("temporal_vae.decoder.conv_out", self.silu(self.norm("temporal_vae.decoder.norm1", x)))
        return self.drop(x)

    def block(self, name: str, x: Array) -> Array:
        h = self.conv(f"{name}.conv1", self.silu(self.norm(f"{name}.norm1", x)))
        h = self.conv(f"{name}.conv2", self.silu(self.norm(f"{name}.norm2", h)))
        return h + (self.conv(f"{name}.conv3", x) if f"{name}.conv3.conv.weight" in self.weights else x)

    def first_frame_seen(self, t: int, kernel: int) -> int:
        return t - (kernel - 1)

    def conv(self, name: str, x: Array) -> Array:
        """Sum, for each place, over those of the k×k×k places around it that exist."""
        weight = self.weights[f"{name}.conv.weight"]
        bias = self.weights.get(f"{name}.conv.bias", np.zeros(len(weight)))
        kernel = weight.shape[-1]
        _, frames, height, width = x.shape
        out = np.zeros((len(weight), frames, height, width))
        for t, i, j in np.ndindex(frames, height, width):
            out[:, t, i, j] = bias
            for a, b, c in np.ndindex(kernel, kernel, kernel):
                s, k, m = self.first_frame_seen(t, kernel) + a, i + b - kernel // 2, j + c - kernel // 2
                if 0 <= s < frames and 0 <= k < height and 0 <= m < width:
                    out[:, t, i, j] += weight[:, :, a, b, c] @ x[:, s, k, m]
        return out

    def norm(self, name: str, x: Array) -> Array:
        size = len(x) // self.config.groups
        out = np.empty_like(x)
        for first in range(0, len(x), size):
            group = x[first : first + size]
            out[first : first + size] = self.normed(group)
        scale, shift = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return out * scale[:, None, None, None] + shift[:, None, None, None]

    def normed(self, group: Array) -> Array:
        return (group - group.mean()) / np.sqrt(group.var() + 1e-5)

    def silu(self, x: Array) -> Array:
        return x / (1 + np.exp(-x))

    def double(self, x: Array) -> Array:
        channels, frames, height, width = x.shape
        out = np.empty((channels // 2, 2 * frames, height, width))
        for c in range(channels // 2):
            for t in range(frames):
                for s in (0, 1):
                    out[c, 2 * t + s] = x[self.source_channel(c, s, channels // 2), t]
        return out

    def source_channel(self, c: int, s: int, channels: int) -> int:
        return 2 * c + s

    def drop(self, x: Array) -> Array:
        return x[:, 3:]
