"""Numbers of a representation that need no labels, and its accuracy where the test images change::

    report = measure(EvaluationSubject.open("runs/demo"), shift=True)
    report.numbers["runs/demo"].rankme, report.shift.clean["runs/demo"].knn.top1

The formulas behind them (:mod:`contrastkit.measure.formulas`, :mod:`contrastkit.measure.similarity`) take features, and
the corruptions (:mod:`contrastkit.measure.corruptions`) images.
"""

from contrastkit.measure.measuring import MeasureReport, measure

__all__ = ["MeasureReport", "measure"]
