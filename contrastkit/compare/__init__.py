"""Trained runs side by side: :func:`compare` reads their folders, :func:`comparison_chart` draws their curves."""

from contrastkit.compare.chart import comparison_chart
from contrastkit.compare.comparison import Comparison, Pooled, Row, compare

__all__ = ["Comparison", "Pooled", "Row", "compare", "comparison_chart"]
