"""ToMe's bipartite soft matching in plain Python loops, for one batch row: what the tests compare with."""

import math

from torch import Tensor


def cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))


def groups_after_merging(metric_NK: Tensor, r: int, class_token: bool = False) -> list[list[int]]:
    """Return, for each token after merging and in its order, the positions of the tokens it is made of."""
    metric = metric_NK.double()
    n = metric.shape[0]
    r = min(r, (n - int(class_token)) // 2)
    if r == 0:
        return [[i] for i in range(n)]
    half_a, half_b = list(range(0, n, 2)), list(range(1, n, 2))
    best: dict[int, tuple[float, int]] = {}
    for a in half_a:
        if class_token and a == 0:
            best[a] = (-math.inf, half_b[0])
        else:
            best[a] = max((cosine(metric[a], metric[b]), -b) for b in half_b)
            best[a] = (best[a][0], -best[a][1])
    ranked = sorted(half_a, key=lambda a: (-best[a][0], a))
    merged, kept = ranked[:r], ranked[r:]
    if class_token:
        kept = sorted(kept)
    groups = [[a] for a in kept] + [[b] for b in half_b]
    for a in merged:
        groups[len(kept) + half_b.index(best[a][1])].append(a)
    return groups


def join_members(members: list[list[int]], groups: list[list[int]]) -> list[list[int]]:
    """Return the original tokens of each group, given those of each token before the merge."""
    return [[original for token in group for original in members[token]] for group in groups]
