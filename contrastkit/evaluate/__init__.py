"""Evaluation of encoders: one function for each command of the same name::

    subject = EvaluationSubject.open("runs/demo", baselines=True)        # or EvaluationSubject(data=..., encoders=...)
    knn(subject, k=20).accuracy["runs/demo"].top1

The algorithms behind them do not depend on a subject: ``knn_accuracy``, ``linear_probe`` and ``recall_at_k`` take
features, ``moco_protocol`` an encoder and images.
"""

from contrastkit.evaluate.embedding import Embedding, embed
from contrastkit.evaluate.few_labels import FewLabels
from contrastkit.evaluate.finetuning import FinetuneReport, finetune
from contrastkit.evaluate.held_out import HeldOut, hold_out_each
from contrastkit.evaluate.knn_report import KnnReport, knn
from contrastkit.evaluate.probing import ProbeReport, probe
from contrastkit.evaluate.retrieval import RetrievalReport, retrieve
from contrastkit.evaluate.subject import EvaluationSubject
from contrastkit.evaluate.zero_shot import ZeroShotReport, zero_shot

__all__ = [
    "Embedding",
    "EvaluationSubject",
    "FewLabels",
    "FinetuneReport",
    "HeldOut",
    "KnnReport",
    "ProbeReport",
    "RetrievalReport",
    "ZeroShotReport",
    "embed",
    "finetune",
    "hold_out_each",
    "knn",
    "probe",
    "retrieve",
    "zero_shot",
]
