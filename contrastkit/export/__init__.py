"""Encoders for use without contrastkit: torchvision, timm, torch and ONNX::

print(export_encoder("runs/demo", to="onnx").code)  # the lines that load encoder.onnx, which were run
"""

from contrastkit.export.exporting import TARGETS, Exported, export_encoder

__all__ = ["TARGETS", "Exported", "export_encoder"]
