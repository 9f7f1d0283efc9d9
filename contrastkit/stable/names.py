"""The choices of the options, shared by library and command line; this module imports nothing heavy."""

from typing import Literal

Decorrelation = Literal["rff", "dwr", "srdo", "global"]
Kind = Literal["ridge", "logistic"]
Mode = Literal["independent", "S-to-V", "V-to-S", "collinear"]  # how spurious V depends on stable S under selection
