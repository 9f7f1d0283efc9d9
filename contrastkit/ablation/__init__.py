"""Ablations: one training repeated with one change at a time, with published results beside measured ones.

:data:`ABLATIONS` is the table of what papers changed and what they report; :func:`ablate` trains and measures the rows
of one, :func:`draw` plots them.
"""

from contrastkit.ablation.chart import CHART, draw
from contrastkit.ablation.engine import REPORT, AblationReport, AblationRow, ablate
from contrastkit.ablation.table import ABLATIONS, Ablation, Variant

__all__ = ["ABLATIONS", "CHART", "REPORT", "Ablation", "AblationReport", "AblationRow", "Variant", "ablate", "draw"]
