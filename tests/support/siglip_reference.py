"""TinyChart's vision tower in float64, its merging in plain loops, written from its description.

It shares nothing with the model under test but the weights. Each method can be overridden to do one thing the
wrong way.
"""

import math

import torch
from torch import Tensor

from tests.support.naive_tome import groups_after_merging


class TowerReference:
    def __init__(self, weights: dict[str, Tensor], config) -> None:
        self.w = {key.removeprefix("vision_model."): value.double() for key, value in weights.items()}
        self.c = config

    def __call__(self, pixels: Tensor) -> Tensor:
        return torch.stack([self.one_image(image.double()) for image in pixels])

    def one_image(self, image: Tensor) -> Tensor:
        x = self.patches(image) + self.w["embeddings.position_embedding.weight"]
        sizes = [1] * len(x)
        for i in range(self.c.num_layers):
            x, sizes = self.layer(f"encoder.layers.{i}.", i, x, sizes)
        return self.finish(x)

    def finish(self, x: Tensor) -> Tensor:
        return x

    def patches(self, image: Tensor) -> Tensor:
        p, side = self.c.patch_size, self.c.image_size // self.c.patch_size
        kernel = self.w["embeddings.patch_embedding.weight"].flatten(1)
        cut = [image[:, p * i : p * i + p, p * j : p * j + p] for i in range(side) for j in range(side)]
        return torch.stack([kernel @ patch.flatten() for patch in cut]) + self.w["embeddings.patch_embedding.bias"]

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]

    def norm(self, name: str, x: Tensor) -> Tensor:
        x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, unbiased=False) + 1e-6).sqrt()
        return x * self.w[f"{name}.weight"] + self.w[f"{name}.bias"]

    def gelu(self, x: Tensor) -> Tensor:
        return 0.5 * x * (1 + (math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)).tanh())

    def mlp(self, name: str, x: Tensor) -> Tensor:
        h = self.gelu(self.linear(name + "mlp.fc1", self.norm(name + "layer_norm2", x)))
        return x + self.linear(name + "mlp.fc2", h)

    def layer(self, name: str, index: int, x: Tensor, sizes: list[int]) -> tuple[Tensor, list[int]]:
        h = self.norm(name + "layer_norm1", x)
        keys = self.linear(name + "self_attn.k_proj", h)
        x = x + self.attend(name, h, keys, self.key_bias(index, sizes))
        groups = self.order(groups_after_merging(self.metric(name, h, keys), self.c.tome_r))
        x = torch.stack([self.merge(x[group], [sizes[i] for i in group]) for group in groups])
        return self.mlp(name, x), [sum(sizes[i] for i in group) for group in groups]

    def key_bias(self, index: int, sizes: list[int]) -> Tensor:
        return torch.tensor(sizes).double().log()

    def order(self, groups: list[list[int]]) -> list[list[int]]:
        return groups

    def merge(self, parts: Tensor, sizes: list[int]) -> Tensor:
        weights = torch.tensor(sizes).double()
        return (parts * weights[:, None]).sum(0) / weights.sum()

    def metric(self, name: str, h: Tensor, keys: Tensor) -> Tensor:
        return keys.view(len(keys), self.c.num_heads, -1).mean(1)

    def attend(self, name: str, h: Tensor, keys: Tensor, key_bias: Tensor) -> Tensor:
        heads, k_dim = self.c.num_heads, self.c.hidden_size // self.c.num_heads
        q = self.linear(name + "self_attn.q_proj", h).view(-1, heads, k_dim)
        v = self.linear(name + "self_attn.v_proj", h).view(-1, heads, k_dim)
        k = keys.view(-1, heads, k_dim)
        out = [(q[:, i] @ k[:, i].T / math.sqrt(k_dim) + key_bias).softmax(-1) @ v[:, i] for i in range(heads)]
        return self.linear(name + "self_attn.out_proj", torch.cat(out, dim=-1))
