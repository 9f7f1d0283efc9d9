"""Pictures of a study: its graph, and the estimates beside each other."""

from pathlib import Path

import networkx as nx
import numpy as np

from contrastkit.causal.drawing import draw_graph
from contrastkit.causal.effects import Effects
from contrastkit.figures import COLOURS, GREY, INK, chart


def graph_chart(graph: nx.DiGraph, given: dict[str, str], path: Path) -> None:
    """Plot a causal graph to a .png, causes left of their effects.

    Args:
        given: variable -> its role: ``treatment``, ``outcome``, ``adjusted`` or ``unobserved``.
    """
    layers = list(nx.topological_generations(graph))
    at = {
        name: (k / max(1, len(layers) - 1), (j + 1 + 0.25 * (k % 2)) / (len(layer) + 1.25))
        for k, layer in enumerate(layers)
        for j, name in enumerate(sorted(layer))
    }
    note = "Blue: treatment and outcome; green: adjusted for; dashed: not observed."
    height = 1.6 + 0.55 * max(map(len, layers))
    with chart(path, "What is assumed to cause what", height=height, note=note) as figure:
        draw_graph(figure.subplots(), graph.edges, at, given, bend=0.08)


def forest_chart(effects: Effects, chosen: str, path: Path) -> None:
    """Plot every estimate with its 95 % interval to a .png, that of the estimator ``chosen`` in its own colour."""
    rows = effects.estimates
    null = 0.0 if effects.measure == "difference" else 1.0
    note = "Bars: 95 % intervals; an estimate without one has no standard error. Line: no effect. Dotted: the truth."
    note = note if effects.truth is not None else note.removesuffix(" Dotted: the truth.")
    title = f"Effect of {effects.treatment} on {effects.outcome}, by every estimator"
    with chart(path, title, height=1.5 + 0.28 * len(rows), note=note) as figure:
        axes = figure.subplots()
        axes.axvline(null, color=INK, linewidth=0.8)
        if effects.truth is not None:
            axes.axvline(effects.truth, color=INK, linestyle=":")
        for k, row in enumerate(rows):
            colour = COLOURS[0] if row.name == chosen else GREY
            if np.isfinite([row.low, row.high]).all():
                axes.plot((row.low, row.high), (-k, -k), color=colour)
            axes.plot(row.effect, -k, "o", color=colour)
        axes.set_yticks(range(0, -len(rows), -1), [f"{row.name}, {row.estimand}" for row in rows])
        axes.set(xlabel="effect" if effects.measure == "difference" else effects.measure)
        if effects.measure != "difference":
            axes.set_xscale("log")
