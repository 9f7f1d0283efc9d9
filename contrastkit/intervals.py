"""The confidence interval of a share."""

import math


def wilson(p: float, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a share p of n (Wilson 1927); z = 1.96 gives 95 % coverage.

    It accounts for the sampling of the test images, not for the randomness of training. Unlike p +- z s it stays within
    [0, 1] and has a positive width at p = 1.
    """
    centre = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return (max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale))


def difference(p: float, q: float, n: int) -> tuple[float, float]:
    """The 95 % interval of the difference p - q of two shares, each of n (Newcombe 1998, "Interval estimation for the
    difference between independent proportions", method 10: from the Wilson intervals of both).

    For shares of the same n images, whose answers are positively correlated, it is wider than it need be.
    """
    (low_p, high_p), (low_q, high_q) = wilson(p, n), wilson(q, n)
    return p - q - math.hypot(p - low_p, high_q - q), p - q + math.hypot(high_p - p, q - low_q)
