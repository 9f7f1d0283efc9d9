"""Pictures of a study: its graph, and the estimates beside each other."""

from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np

from contrastkit.causal.effects import Effects
from contrastkit.figures import COLOURS, GREY, INK, chart, plain, shortened

NAME = 22  # letters of a variable in a graph


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
        axes = figure.subplots()
        axes.set(xlim=(-0.15, 1.15), ylim=(0, 1))
        axes.axis("off")
        faces = {"treatment": "#dceaf7", "outcome": "#dceaf7", "adjusted": "#dff0d8"}
        boxes: dict[str, Any] = {}
        for name, (x, y) in at.items():
            role = given.get(name, "")
            hidden = role == "unobserved"
            box = {"boxstyle": "round,pad=0.4", "fc": faces.get(role, "white"), "ls": "--" if hidden else "-"}
            box["ec"] = GREY if hidden else INK
            text = axes.text(x, y, plain(shortened(name, NAME)), ha="center", va="center", bbox=box)
            boxes[name] = text.get_bbox_patch()
        for cause, effect in graph.edges:
            arrow = {"arrowstyle": "-|>", "color": INK, "patchA": boxes[cause], "patchB": boxes[effect], "shrinkB": 2}
            arrow["connectionstyle"] = "arc3,rad=0.08"  # past what stands between
            axes.annotate("", at[effect], at[cause], arrowprops=arrow)


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
