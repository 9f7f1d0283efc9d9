"""The types passed between data, methods and the loop."""

import pickle

from contrastkit.types import Modality


def test_a_modality_is_its_name_and_knows_its_words() -> None:
    words = {str(kind): (kind.plural, kind.unit, kind.has_pixels) for kind in Modality}
    images = "images", "px", True
    assert words == {"image": images, "aligned": images, "sound": ("sounds", "samples", False)}
    for kind in Modality:
        assert f"{kind}" == kind == kind.value
        assert pickle.loads(pickle.dumps(kind)) is kind  # a worker process of a loader gets it so
