"""The numbers of an encoder as rows of a table."""

import math

# Title, range, and which values are better.
ROWS: dict[str, tuple[str, str, str]] = {
    "dimensions": ("dimensions D", "", ""),
    "rankme": ("RankMe", "1 to min(N, D) directions", "higher"),
    "lidar": ("LiDAR", "1 to min(n - 1, D) directions", "higher"),
    "alpha": ("alpha-ReQ", "above 0", "near 1"),
    "alpha_r2": ("R2 of its fit", "at most 1", "near 1"),
    "uniformity": ("uniformity", "-8 to 0", "lower"),
    "alignment": ("alignment", "0 to 4", "lower"),
    "nmi": ("NMI of k-means", "0 to 1", "higher"),
    "nmi_chance": ("NMI by chance", "0 to 1", ""),
    "ari": ("ARI of k-means", "chance 0, at most 1", "higher"),
}


def written(key: str, value: float) -> str:
    """A number as it is shown; a dash for NaN, where it is not defined."""
    if math.isnan(value):
        return "-"
    if key == "dimensions":
        return f"{value:,.0f}"
    return f"{value:.1f}" if key in ("rankme", "lidar") else f"{value:.3f}"
