"""STDiT3 in NumPy, float64 and loops, written from the paper and the checkpoint's description.

It shares nothing with the model under test but the weights. Text is packed: only the real tokens are there at
all. Each method can be overridden to do one thing the wrong way.
"""

import math

import numpy as np

Array = np.ndarray


def silu(x: Array) -> Array:
    return x / (1 + np.exp(-x))


def layer_norm(x: Array) -> Array:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


class STDiT3Reference:
    def __init__(self, weights: dict[str, Array], config, variant: str) -> None:
        self.w = {key: value.astype(np.float64) for key, value in weights.items()}
        self.c = config
        self.variant = variant

    def __call__(self, x: Array, timestep: Array, y: Array, mask: Array, fps: Array) -> Array:
        real = mask[0].astype(bool)
        texts = [self.y_proj(row) for row in self.pack(y[:, 0], real)]
        return np.stack([self.one_row(x[b], timestep[b], texts[b], fps[0]) for b in range(len(x))])

    def one_row(self, x: Array, timestep: float, text: Array, fps: float) -> Array:
        c = self.c
        h = self.patches(x) + self.positions()[None]
        t_emb = self.scalar("t_embedder", timestep) + self.scalar("fps_embedder", fps)
        t_mlp = self.linear("t_block.1", silu(t_emb))
        for i in range(c.depth):
            for kind in ("spatial", "temporal"):
                h = self.block(f"{kind}_blocks.{i}.", kind, h, text, t_mlp.reshape(6, -1))
        shift, scale = self.final_modulation(t_emb, t_mlp)
        out = self.linear("final_layer.linear", layer_norm(h) * (1 + scale) + shift)
        return self.unpatchify(out)

    def linear(self, name: str, x: Array) -> Array:
        return x @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]

    def gelu(self, x: Array) -> Array:
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))

    def mlp(self, name: str, x: Array) -> Array:
        return self.linear(f"{name}.fc2", self.gelu(self.linear(f"{name}.fc1", x)))

    def y_proj(self, y: Array) -> Array:
        return self.mlp("y_embedder.y_proj", y)

    def pack(self, y: Array, real: Array) -> list[Array]:
        return [row[real] for row in y]

    def scalar(self, name: str, value: float) -> Array:
        freqs = np.array([math.exp(-math.log(10000) * k / 128) for k in range(128)])
        h = self.linear(f"{name}.mlp.0", self.waves(value * freqs))
        return self.linear(f"{name}.mlp.2", silu(h))

    def waves(self, angles: Array) -> Array:
        return np.concatenate([np.cos(angles), np.sin(angles)])

    def patches(self, x: Array) -> Array:
        c = self.c
        rows, columns = math.ceil(c.height / 2), math.ceil(c.width / 2)
        padded = np.zeros((c.in_channels, c.frames, 2 * rows, 2 * columns))
        padded[:, :, : c.height, : c.width] = x
        kernel = self.w["x_embedder.proj.weight"][:, :, 0]
        out = np.zeros((c.frames, rows * columns, c.hidden_size))
        for t in range(c.frames):
            for i in range(rows):
                for j in range(columns):
                    patch = padded[:, t, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
                    out[t, i * columns + j] = np.einsum("ocij,cij->o", kernel, patch)
        return out + self.w["x_embedder.proj.bias"]

    def position_scale(self) -> tuple[float, float]:
        rows, columns = math.ceil(self.c.height / 2), math.ceil(self.c.width / 2)
        return round(math.sqrt(rows * columns)), math.sqrt(self.c.pixel_height * self.c.pixel_width) / 512

    def positions(self) -> Array:
        c = self.c
        rows, columns = math.ceil(c.height / 2), math.ceil(c.width / 2)
        base, scale = self.position_scale()
        half = c.hidden_size // 2

        def embed(coordinate: float) -> list[float]:
            angles = [coordinate * 10000 ** (-2 * k / half) for k in range(half // 2)]
            return [math.sin(a) for a in angles] + [math.cos(a) for a in angles]

        return np.array(
            [
                self.join_axes(embed(j / scale * base / columns), embed(i / scale * base / rows))
                for i in range(rows)
                for j in range(columns)
            ]
        )

    def join_axes(self, column: list[float], row: list[float]) -> list[float]:
        return column + row

    def block(self, name: str, kind: str, x: Array, text: Array, modulation: Array) -> Array:
        table = self.w[name + "scale_shift_table"] + modulation
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = table
        h = layer_norm(x) * (1 + scale_a) + shift_a
        x = x + gate_a * self.over_frames(lambda h: self.self_attend(name, kind, h), h)
        x = x + self.cross(lambda h: self.over_frames(lambda f: self.cross_attend(name, f, text), h), x, table)
        h = layer_norm(x) * (1 + scale_m) + shift_m
        return x + gate_m * self.over_mlp(lambda h: self.mlp(name + "mlp", h), h)

    def over_frames(self, function, x: Array) -> Array:
        if self.variant == "full":
            return function(x)
        groups = [list(range(t, min(t + 2, len(x)))) for t in range(0, len(x), 2)]
        out = function(np.stack([x[group].mean(0) for group in groups]))
        return np.stack([out[t // 2] for t in range(len(x))])

    def over_mlp(self, function, x: Array) -> Array:
        return function(x)

    def cross(self, function, x: Array, table: Array) -> Array:
        return function(x)

    def self_attend(self, name: str, kind: str, h: Array) -> Array:
        out = np.empty_like(h)
        if kind == "spatial":
            for t in range(h.shape[0]):
                out[t] = self.attend_sequence(name + "attn", h[t], None)
        else:
            for s in range(h.shape[1]):
                out[:, s] = self.attend_sequence(name + "attn", h[:, s], self.frame_positions(h.shape[0]))
        return out

    def frame_positions(self, count: int) -> list[float]:
        return list(range(count))

    def attend_sequence(self, name: str, h: Array, positions: list[float] | None) -> Array:
        c = self.c
        k_dim = c.hidden_size // c.num_heads
        qkv = self.linear(f"{name}.qkv", h).reshape(len(h), 3, c.num_heads, k_dim)
        out = np.empty((len(h), c.num_heads, k_dim))
        for head in range(c.num_heads):
            q = self.place(f"{name}.q_norm", qkv[:, 0, head], positions)
            k = self.place(f"{name}.k_norm", qkv[:, 1, head], positions)
            out[:, head] = softmax(q @ k.T / math.sqrt(k_dim)) @ qkv[:, 2, head]
        return self.linear(f"{name}.proj", out.reshape(len(h), -1))

    def place(self, norm: str, q: Array, positions: list[float] | None) -> Array:
        q = self.rms_norm(norm, q)
        return q if positions is None else self.rotate(q, positions)

    def rms_norm(self, name: str, q: Array) -> Array:
        return q / np.sqrt((q**2).mean(-1, keepdims=True) + 1e-6) * self.w[f"{name}.weight"]

    def rope_freqs(self) -> Array:
        return self.w["rope.freqs"]

    def pair(self, i: int, half: int) -> tuple[int, int]:
        return 2 * i, 2 * i + 1

    def rotate(self, q: Array, positions: list[float]) -> Array:
        freqs = self.rope_freqs()
        out = np.empty_like(q)
        for row, position in enumerate(positions):
            for i, freq in enumerate(freqs):
                a, b = self.pair(i, len(freqs))
                cos, sin = math.cos(position * freq), math.sin(position * freq)
                out[row, a] = q[row, a] * cos - q[row, b] * sin
                out[row, b] = q[row, a] * sin + q[row, b] * cos
        return out

    def cross_attend(self, name: str, x: Array, text: Array) -> Array:
        c = self.c
        k_dim = c.hidden_size // c.num_heads
        tokens = x.reshape(-1, c.hidden_size)
        q = self.linear(name + "cross_attn.q_linear", tokens).reshape(-1, c.num_heads, k_dim)
        kv = self.linear(name + "cross_attn.kv_linear", text).reshape(-1, 2, c.num_heads, k_dim)
        out = np.empty_like(q)
        for head in range(c.num_heads):
            weights = softmax(q[:, head] @ kv[:, 0, head].T / math.sqrt(k_dim))
            out[:, head] = weights @ kv[:, 1, head]
        return self.linear(name + "cross_attn.proj", out.reshape(tokens.shape)).reshape(x.shape)

    def final_modulation(self, t_emb: Array, t_mlp: Array) -> Array:
        return self.w["final_layer.scale_shift_table"] + t_emb

    def split_patch(self, patch: Array) -> Array:
        return patch.reshape(2, 2, -1)

    def unpatchify(self, out: Array) -> Array:
        c = self.c
        rows, columns = math.ceil(c.height / 2), math.ceil(c.width / 2)
        video = np.zeros((2 * c.in_channels, c.frames, 2 * rows, 2 * columns))
        for t in range(c.frames):
            for i in range(rows):
                for j in range(columns):
                    patch = self.split_patch(out[t, i * columns + j])
                    video[:, t, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2] = patch.transpose(2, 0, 1)
        return video[:, :, : c.height, : c.width]
