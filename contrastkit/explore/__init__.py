"""Look at a data set through an encoder: one function for each command of the same name::

    gallery = Gallery.open(EvaluationSubject.open("runs/demo"), features=Path("features.npz"))
    search(gallery, ["query.jpg"], k=5).matches["query.jpg"][0].name

``project`` is the command ``map``. ``attend`` takes a run and images instead of a gallery.
"""

from contrastkit.explore.attending import AttendReport, attend
from contrastkit.explore.clustering import ClusterReport, cluster
from contrastkit.explore.duplication import DuplicatesReport, duplicates
from contrastkit.explore.gallery import Gallery
from contrastkit.explore.projection import MapReport, project
from contrastkit.explore.searching import SearchReport, search

__all__ = [
    "AttendReport",
    "ClusterReport",
    "DuplicatesReport",
    "Gallery",
    "MapReport",
    "SearchReport",
    "attend",
    "cluster",
    "duplicates",
    "project",
    "search",
]
