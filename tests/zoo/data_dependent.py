"""What cannot be made static: how many tokens remain depends on the values. Exports of these are refused."""

import torch
from torch import Tensor, nn


class Tokens(nn.Module):
    """Shared weights; each subclass reduces tokens [1, 64, 32] in its own way."""

    def __init__(self) -> None:
        super().__init__()
        self.score, self.mlp = nn.Linear(32, 1), nn.Linear(32, 32)


class KeepAboveThreshold(Tokens):
    def forward(self, x: Tensor) -> Tensor:
        score = self.score(x)[0, :, 0].sigmoid()
        return self.mlp(x[:, score > 0.5])


class RateFromScores(Tokens):
    def forward(self, x: Tensor) -> Tensor:
        score = self.score(x)[..., 0].sigmoid()
        r = int(score.sum())
        kept = score.topk(r, dim=1).indices
        return self.mlp(x.gather(1, kept[..., None].expand(-1, -1, x.shape[-1])))


class UniqueLabels(Tokens):
    def forward(self, x: Tensor) -> Tensor:
        label = (self.score(x)[0, :, 0] * 10).round()
        _, place = torch.unique(label, return_inverse=True)
        clusters = int(place.max()) + 1
        return self.mlp(torch.zeros(clusters, x.shape[-1]).index_add_(0, place, x[0]))


class NonzeroKeep(Tokens):
    def forward(self, x: Tensor) -> Tensor:
        kept = torch.nonzero(self.score(x)[0, :, 0] > 0).squeeze(1)
        return self.mlp(x.index_select(1, kept))


class MaskedSelect(Tokens):
    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(torch.masked_select(x, self.score(x) > 0).view(1, -1, x.shape[-1]))


class StopWhenSimilar(Tokens):
    """Python's `if` on a tensor: whether a pair merges is decided while tracing."""

    def forward(self, x: Tensor) -> Tensor:
        if self.score(x).mean() > 0:
            x = (x[:, ::2] + x[:, 1::2]) / 2
        return self.mlp(x)


def _builder(cls: type[Tokens]):
    def build() -> tuple[nn.Module, tuple[Tensor, ...]]:
        torch.manual_seed(21)
        return cls().eval(), (torch.randn(1, 64, 32),)

    return build


build_threshold = _builder(KeepAboveThreshold)
build_rate = _builder(RateFromScores)
build_unique = _builder(UniqueLabels)
build_nonzero = _builder(NonzeroKeep)
build_masked_select = _builder(MaskedSelect)
build_branch = _builder(StopWhenSimilar)
