"""A map: the features of a gallery in two dimensions, drawn as points and as pictures."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from contrastkit.augment.plain import plain_view
from contrastkit.bounds import MAPPED, SEED
from contrastkit.errors import UserError
from contrastkit.evaluate.subject import OnProgress
from contrastkit.explore.clustering import cluster
from contrastkit.explore.columns import write_columns
from contrastkit.explore.gallery import Gallery
from contrastkit.figures import COLOURS, DPI, GREY, SMALL, chart, legend, plain, shortened
from contrastkit.rng import permutation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NEIGHBOURS = 10  # of which the share that is kept is reported
GRID = 28  # places for thumbnails on either side
THUMBNAIL, BORDER = 40, 2  # their sides and frames, in pixels
MARKERS = ("o", "^", "s")
STYLES = len(COLOURS) * len(MARKERS)  # groups that colour and marker together tell apart

Colouring = Literal["class", "cluster"]
PLURAL = {"class": "classes", "cluster": "clusters"}


@dataclass(frozen=True)
class MapReport:
    """Result of :func:`project`.

    Attributes:
        method: "UMAP" or "t-SNE".
        rows: int64 [n], of the images on the map in the gallery.
        points: float64 [n, 2].
        colour: what the colours stand for: "class" or "cluster".
        groups: int64 [n], the class or cluster of each image; -1 for none.
        names: of the groups 0, 1, ...
        kept: mean share of the 10 nearest images that are among the 10 nearest on the map, in [0, 1].
        chance: what it is for points laid at random.
    """

    data: str
    encoder: str
    method: str
    rows: NDArray[np.int64]
    points: NDArray[np.float64]
    colour: Colouring
    groups: NDArray[np.int64]
    names: tuple[str, ...]
    kept: float
    chance: float
    notices: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {
            "data": self.data,
            "encoder": self.encoder,
            "method": self.method,
            "images": len(self.rows),
            "colour": self.colour,
            "kept": self.kept,
            "chance": self.chance,
        }


def project(
    gallery: Gallery,
    *,
    images: int = 5000,
    colour: Colouring | None = None,
    k: int | None = None,
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> MapReport:
    """Lay images out in the plane such that similar ones are near: UMAP (McInnes et al. 2018, arXiv:1802.03426; 15
    neighbours, minimal distance 0.1, by cosine), or, where umap-learn is not installed, t-SNE (van der Maaten & Hinton
    2008; perplexity 30, begun from the principal components) of the normalised features.

    Distances between groups and sizes of groups mean little on either; ``kept`` says how far neighbourhoods do.

    Args:
        images: drawn by the seed, if there are more.
        colour: None is class, if there are labels.
        k: clusters, as of :func:`contrastkit.explore.clustering.cluster`.

    Raises:
        UserError: fewer than five images, or classes asked for where there are no labels.
    """
    MAPPED.check("--images", images, whole=True)
    SEED.check("--seed", seed, whole=True)
    n = len(gallery.rows)
    if n < MAPPED.low:
        raise UserError(f"{gallery.data} has {n} readable images: a map needs at least {MAPPED.low}")
    if colour == "class" and gallery.labels is None:
        raise UserError(f"{gallery.data} has no labels to colour by: use --colour cluster")
    colour = colour or ("cluster" if gallery.labels is None else "class")
    drawn = permutation(seed, 0, n)[:images].sort()[0].numpy()
    notices = gallery.notices
    if len(drawn) < n:
        notices += (f"{len(drawn):,} of the {n:,} images are on the map, drawn by --seed (--images for more)",)
    groups, names = _groups(gallery, colour, k, seed)
    if on_progress is not None:
        on_progress("laying out the map", 0, None)
    x = gallery.unit.unit(drawn).float().numpy()
    umap = find_spec("umap") is not None
    if not umap:
        notices += ('t-SNE, because UMAP is not installed: pip install "contrastkit[umap]"',)
    if (many := len(np.unique(groups[drawn][groups[drawn] >= 0]))) > STYLES:
        notices += (f"{many} {PLURAL[colour]} on the map: the {STYLES} largest have colours, the others are grey",)
    points = _umap(x, seed) if umap else _tsne(x, seed)
    kept = _kept(x, points)
    chance = min(NEIGHBOURS, len(x) - 1) / (len(x) - 1)
    method = "UMAP" if umap else "t-SNE"
    return MapReport(
        gallery.data, gallery.encoder, method, gallery.rows[drawn], points, colour, groups[drawn], names, kept, chance,
        notices,
    )  # fmt: skip


def _groups(gallery: Gallery, colour: Colouring, k: int | None, seed: int) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """The class or cluster of each image of a gallery, and their names."""
    if colour == "cluster":
        report = cluster(gallery, k, seed=seed)
        return report.assigned, tuple(f"cluster {c + 1}" for c in range(len(report.clusters)))
    assert gallery.labels is not None
    return gallery.labels, tuple(map(gallery.class_name, range(int(gallery.labels.max()) + 1)))


def _umap(x: NDArray[np.float32], seed: int) -> NDArray[np.float64]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImportWarning)  # about TensorFlow, which only its networks need
        from umap import UMAP

    start = "spectral" if len(x) > 50 else "random"  # eigenvectors of a small graph may not exist
    reducer = UMAP(
        n_neighbors=min(15, len(x) - 1), min_dist=0.1, metric="cosine", init=start, random_state=seed % 2**32, n_jobs=1
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on numba, and on the settings that it has chosen
        return np.asarray(reducer.fit_transform(x), np.float64)


def _tsne(x: NDArray[np.float32], seed: int) -> NDArray[np.float64]:
    from sklearn.manifold import TSNE  # slow to import

    perplexity = min(30.0, (len(x) - 1) / 3)
    start = "pca" if min(x.shape) > 1 and np.ptp(x, axis=0).any() else "random"
    return np.asarray(TSNE(perplexity=perplexity, init=start, random_state=seed % 2**32).fit_transform(x), np.float64)


def _kept(x: NDArray[np.float32], points: NDArray[np.float64]) -> float:
    """The mean share of each image's nearest neighbours that are among its nearest on the map."""
    from sklearn.neighbors import NearestNeighbors

    k = min(NEIGHBOURS, len(x) - 1)
    near, on_map = (NearestNeighbors(n_neighbors=k).fit(each).kneighbors(return_distance=False) for each in (x, points))
    return float((near[:, :, None] == on_map[:, None, :]).any(2).mean())


def write_map(report: MapReport, gallery: Gallery, path: Path) -> None:
    """A .csv with a row for each image on the map: image, split, x, y, and its class or cluster."""
    rows = report.rows.tolist()
    columns: dict[str, Iterable[object]] = {
        "image": [gallery.name(row) for row in rows],
        "split": gallery.embedding.split[report.rows],
        "x": report.points[:, 0],
        "y": report.points[:, 1],
        report.colour: ["" if group < 0 else report.names[group] for group in report.groups.tolist()],
    }
    write_columns(path, columns)


def draw_map(report: MapReport, gallery: Gallery, path: Path) -> None:
    """The map twice: the images as points coloured by group, and as pictures."""
    shown, styles = _styled(report)
    title = f"{report.data}: {report.method} of {len(report.rows):,} images"
    groups = np.unique(report.groups[report.groups >= 0]).tolist()
    named = len(groups) > len(COLOURS)  # a legend of few suffices
    with chart(path, title, height=16.5, note=_note(report, len(groups))) as figure:
        above, below = figure.subplots(2, 1)
        size = float(np.clip(40_000 / len(report.rows), 8, 40))
        for group, (colour, marker, name) in styles.items():
            x, y = report.points[shown == group].T
            above.scatter(x, y, s=size, c=colour, marker=marker, linewidths=0, alpha=0.7, label=plain(name))
        below.imshow(_pictures(report, gallery, [styles[group][0] for group in shown.tolist()]), interpolation="none")
        for axes in (above, below):
            axes.set(xticks=[], yticks=[])
            axes.grid(False)
            axes.spines[:].set_visible(False)
        legend(figure)
        if named:
            _name_groups(figure, above, report, groups)


def _note(report: MapReport, groups: int) -> str:
    """What a reader of the map should know; ``groups``: their number."""
    note = (
        f"Near points: similar features by {report.encoder}. Only neighbourhoods mean something, not distances: "
        f"{100 * report.kept:.0f} % of the {NEIGHBOURS} nearest images are among the {NEIGHBOURS} nearest on the map "
        f"(at random {100 * report.chance:.1f} %). Below, at each place one of the images there, framed in the colour "
        f"of its {report.colour}."
    )
    many = PLURAL[report.colour]
    if groups > len(COLOURS):
        note += (
            f" Colours repeat: the shapes of points differ. Names stand at the middle (median) of their {many}; one "
            "that would cover a larger one's is left out."
        )
    if groups > STYLES:
        note += f" The {groups - STYLES} smallest {many} are grey."
    return note


def _name_groups(figure: "Figure", axes: "Axes", report: MapReport, groups: Sequence[int]) -> None:
    """Write the name of each group at the median of its points, from the largest on, where there is room for it."""
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.patheffects import withStroke

    figure.draw_without_rendering()  # gives the axes their places
    taken: list[Any] = []
    for group in sorted(groups, key=lambda group: -int((report.groups == group).sum())):
        x, y = np.median(report.points[report.groups == group], axis=0)
        name = plain(shortened(report.names[group], 16))
        outline = [withStroke(linewidth=2.5, foreground="white")]
        text = axes.text(x, y, name, size=SMALL, ha="center", va="center", weight="bold", path_effects=outline)
        text.set_in_layout(False)
        extent = text.get_window_extent(RendererAgg(1, 1, DPI))
        if any(extent.overlaps(other) for other in taken):
            text.remove()
        else:
            taken.append(extent)


Style = tuple[str, str, str]  # colour, marker, name


def _styled(report: MapReport) -> tuple[NDArray[np.int64], dict[int, Style]]:
    """The group of each image as it is drawn, and the style of each: -1 in grey are images without a group, and those
    of the smallest groups where there are more than colours and markers tell apart."""
    groups, counts = np.unique(report.groups[report.groups >= 0], return_counts=True)
    largest = np.sort(groups[np.argsort(-counts, kind="stable")][:STYLES])
    shown = np.where(np.isin(report.groups, largest), report.groups, -1)
    styles: dict[int, Style] = {}
    if (shown < 0).any():
        styles[-1] = GREY, ".", "others" if len(largest) < len(groups) else f"no {report.colour}"
    for n, group in enumerate(largest.tolist()):
        marker, colour = divmod(n, len(COLOURS))
        styles[group] = COLOURS[colour], MARKERS[marker], shortened(report.names[group], 30)
    return shown, styles


def _pictures(report: MapReport, gallery: Gallery, colours: Sequence[str]) -> NDArray[np.uint8]:
    """The images at their places on a grid, [H, W, 3]: at each place the one nearest to its middle, with a frame."""
    from matplotlib.colors import to_rgb

    canvas = np.full((GRID * THUMBNAIL, GRID * THUMBNAIL, 3), 255, np.uint8)
    for place, i in _placed(report.points).items():
        top, left = (THUMBNAIL * at for at in divmod(place, GRID))
        (image,) = gallery.pictures([int(report.rows[i])])
        small = plain_view([image], THUMBNAIL - 2 * BORDER, 3 if image.shape[0] == 3 else 1)[0]
        tile = np.empty((THUMBNAIL, THUMBNAIL, 3), np.float64)
        tile[:] = to_rgb(colours[i])
        tile[BORDER:-BORDER, BORDER:-BORDER] = small.expand(3, -1, -1).permute(1, 2, 0).numpy()
        canvas[top : top + THUMBNAIL, left : left + THUMBNAIL] = (tile * 255).round()
    return canvas


def _placed(points: NDArray[np.float64]) -> dict[int, int]:
    """For each place of the grid that has points, row by row from above: the point nearest to its middle."""
    low, high = points.min(0), points.max(0)
    at = (points - low) / np.where(high > low, high - low, 1)  # in [0, 1], from the left and from below
    at[:, 1] = 1 - at[:, 1]  # from above
    place = np.minimum((at * GRID).astype(int), GRID - 1)
    off = ((at * GRID - place - 0.5) ** 2).sum(1)
    best: dict[int, int] = {}
    for i in np.argsort(off, kind="stable").tolist():
        best.setdefault(int(place[i, 1] * GRID + place[i, 0]), i)
    return best
