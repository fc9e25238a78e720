"""Wilson's interval for a share (E. B. Wilson, "Probable inference", JASA 22, 1927)."""


def wilson(right: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """Both ends of the interval, of 95 % unless another z is given."""
    share, scale = right / count, 1 + z**2 / count
    centre = (share + z**2 / (2 * count)) / scale
    half = z * (share * (1 - share) / count + z**2 / (4 * count**2)) ** 0.5 / scale
    return centre - half, centre + half
