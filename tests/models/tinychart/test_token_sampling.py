"""Token sampling against a brute-force version."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tm_export.models.tinychart.network.sampling import Sampling

LOGITS = st.lists(st.floats(-5, 5, width=32), min_size=2, max_size=12, unique_by=lambda x: round(x, 2))


def pick(logits: list[float], temperature: float, top_p: float, noise: float) -> int:
    numbers = (torch.tensor([value]) for value in (temperature, top_p, noise))
    return int(Sampling(len(logits))(torch.tensor([logits]), *numbers))


def by_hand(logits: list[float], temperature: float, top_p: float) -> dict[int, float]:
    """The probability of each token that may be picked."""
    weights = torch.tensor(logits, dtype=torch.float64).div(temperature).softmax(0)
    kept: dict[int, float] = {}
    for token in sorted(range(len(logits)), key=lambda i: -logits[i]):
        kept[token] = float(weights[token])
        if sum(kept.values()) >= top_p:
            break
    return {token: weight / sum(kept.values()) for token, weight in kept.items()}


@given(LOGITS, st.floats(0, 1, exclude_max=True, width=32))
def test_temperature_0_takes_the_likeliest(logits, noise):
    assert pick(logits, 0.0, 0.7, noise) == max(range(len(logits)), key=lambda i: logits[i])


@settings(deadline=None)
@given(LOGITS, st.sampled_from((0.1, 0.7, 1.0, 2.0)), st.sampled_from((0.3, 0.7, 0.95)))
def test_tokens_come_as_often_as_they_are_likely(logits, temperature, top_p):
    grid = [(i + 0.5) / 200 for i in range(200)]
    picked = [pick(logits, temperature, top_p, noise) for noise in grid]
    expected = by_hand(logits, temperature, top_p)
    assert set(picked) <= set(expected)
    for token, probability in expected.items():
        assert abs(picked.count(token) / len(grid) - probability) < 0.011


def test_rows_that_no_token_is_for_are_never_picked():
    zero = torch.zeros(1)
    assert int(Sampling(2)(torch.tensor([[0.0, 1.0, 9.0]]), zero, zero + 1, zero)) == 1


def test_noise_of_almost_1_picks_the_last_that_is_kept():
    assert pick([0.0, 1.0, 2.0], 1.0, 0.7, 0.99999994) == 1
    assert pick([0.0, -200.0], 1.0, 1.0, 0.99999994) == 0
