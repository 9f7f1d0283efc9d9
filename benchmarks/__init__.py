"""Experiments. Their results are committed in results/; `python -m benchmarks.sections` writes them into the docs.

Measurements that are commands of contrastkit have no file here: byol-norm-cifar10.json is the ablation.json of
`contrastkit ablate byol-norm`, and *-paper.json come from `contrastkit bench-kernels --preset paper --json`.

    learning      what each method learns on the same budget
    ablations     what the papers' ablations say, on a small budget
    captions      retrieval and zero-shot by towers that are trained on captions, beside a list of words
    masked        MAE and fine-tuning beside the same transformer from scratch
    distillation  what a teacher adds, and SimCLR v2's three steps on few labels
    clip_memory   memory of CLIP's and SigLIP's losses against the number of pairs
    draws         time that drawing CRD's negatives takes
    confounders   images as confounders of a treatment: what is left of the bias of four things that they show
    causal        weights and matches compared with other packages
    nonlinear     aipw with linear models and with boosting where no line is right
    coverage      how often intervals hold the truth, and designs and survival: the same of other designs
    stable        weighted least squares in environments unlike the training one
    stable_images what holds on images of another environment: probes, ERM, IRM, GroupDRO, StableNet
    photos        ten labels a class, with and without photographs without labels, with and without published weights
    photo_sets    its sets as folders, among them blood cells cut out of photographs
    fsdd          convert the Free Spoken Digit Dataset to one folder per class
    scaling       time of the ops against size, compared with official code
    ptxas         registers and spills of the CUDA kernels
    copies        precision and recall of `contrastkit duplicates` on planted copies
    fingerprint   every number that a refactoring must not change
    gpu           builds, tests and benchmarks on a machine with a GPU (`make gpu`)
"""

from pathlib import Path

RESULTS = Path(__file__).parent / "results"
