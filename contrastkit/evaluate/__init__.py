"""Evaluation of encoders, each call the library's form of the command of that name::

    subject = EvaluationSubject.open("runs/demo", baselines=True)        # or EvaluationSubject(data=..., encoders=...)
    knn(subject, k=20).accuracy["runs/demo"].top1

What a call is made of works on :class:`contrastkit.evaluate.features.Features` and knows no subject: ``knn_accuracy``,
``linear_probe``, ``moco_protocol``, ``recall_at_k``.
"""

from contrastkit.evaluate.embedding import Embedding, embed
from contrastkit.evaluate.neighbours import KnnReport, knn
from contrastkit.evaluate.probing import ProbeReport, probe
from contrastkit.evaluate.retrieval import RetrievalReport, retrieve
from contrastkit.evaluate.subject import EvaluationSubject

__all__ = [
    "Embedding",
    "EvaluationSubject",
    "KnnReport",
    "ProbeReport",
    "RetrievalReport",
    "embed",
    "knn",
    "probe",
    "retrieve",
]
