"""Transfer to tasks with an answer at each place of an image, one function for each command of the same name::

subject = TransferSubject.open("runs/demo", baselines=True)
segment(subject, open_masks(Path("VOCdevkit/VOC2012"))).scores["runs/demo"].miou
detect(subject, open_boxes(Path("VOCdevkit")), detector_recipe("moco-voc")).scores["runs/demo"].ap50
"""

from contrastkit.transfer.boxes import BoxSet, open_boxes
from contrastkit.transfer.detect import DetectReport, detect
from contrastkit.transfer.detector import DetectorRecipe, detector_recipe
from contrastkit.transfer.linear import LinearRecipe, linear_recipe
from contrastkit.transfer.masks import MaskSet, open_masks
from contrastkit.transfer.patches import Retrieval
from contrastkit.transfer.segment import SegmentReport, segment
from contrastkit.transfer.subject import TransferSubject

__all__ = [
    "BoxSet",
    "DetectReport",
    "DetectorRecipe",
    "LinearRecipe",
    "MaskSet",
    "Retrieval",
    "SegmentReport",
    "TransferSubject",
    "detect",
    "detector_recipe",
    "linear_recipe",
    "open_boxes",
    "open_masks",
    "segment",
]
