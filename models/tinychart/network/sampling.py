"""From logits to the next token: greedy, or by chance among the likeliest.

Source: Holtzman et al., "The Curious Case of Neural Text Degeneration", arXiv 1904.09751, section 3.1 (top-p).
"""

import torch
from torch import Tensor, nn

LOWEST_TEMPERATURE = 1e-3


class Sampling(nn.Module):
    """Pick one of the first `token_ids` tokens: a vocabulary may have rows that no token is for."""

    def __init__(self, token_ids: int) -> None:
        super().__init__()
        self.token_ids = token_ids

    def forward(self, logits_1V: Tensor, temperature_1: Tensor, top_p_1: Tensor, noise_1: Tensor) -> Tensor:
        """Return the token [1], int64.

        Args:
            logits_1V: of every token of the vocabulary.
            temperature_1: by which they are divided; 0 takes the likeliest token.
            top_p_1: the likeliest tokens are taken into account until their probabilities sum to so much.
            noise_1: uniform in 0..1: which of them it is.
        """
        sorted_1V, order_1V = logits_1V[:, : self.token_ids].topk(self.token_ids)
        probability_1V = (sorted_1V / temperature_1.clamp(min=LOWEST_TEMPERATURE)).softmax(dim=1)
        before_1V = probability_1V.cumsum(dim=1) - probability_1V
        kept_1V = probability_1V * (before_1V < top_p_1).float()
        reached_1V = kept_1V.cumsum(dim=1) <= noise_1 * kept_1V.sum(dim=1)
        # Rounding may leave the last of them unreached; a token of no probability never is picked.
        place_1 = torch.minimum(reached_1V.float().sum(dim=1), (kept_1V > 0).float().sum(dim=1) - 1)
        place_1 = place_1 * (temperature_1 > 0).float()
        return order_1V[0].index_select(0, place_1.long())
