"""The names that options take, in one place that imports nothing heavy: the command line offers these very lists."""

from typing import Literal

Decorrelation = Literal["rff", "dwr", "srdo", "global"]
Kind = Literal["ridge", "logistic"]
Mode = Literal["independent", "S-to-V", "V-to-S", "collinear"]  # how V goes with S under selection
