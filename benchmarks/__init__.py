"""Experiments, whose results are committed in results/, and `python -m benchmarks.sections`, which shows them.

What a command of contrastkit measures needs no file here: byol-norm-cifar10.json is `contrastkit ablate byol-norm`'s
ablation.json, and *-paper.json are of `contrastkit bench-kernels --preset paper --json`.

    learning      what each method learns on one budget
    confounders   images as confounders of a treatment
    causal        weights and matches beside other packages
    stable        least squares under weights, in places of another kind
    fsdd          the Free Spoken Digit Dataset as folders of classes
    scaling       time against size of the ops, beside official code
    ptxas         registers and spills of the CUDA kernels
    numbers       every number that a refactoring must leave alone
    gpu           what there is to do on a machine with a GPU (`make gpu`)
"""

from pathlib import Path

RESULTS = Path(__file__).parent / "results"
