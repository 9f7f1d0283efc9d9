"""Encoders as programs, which hold network, weights and normalisation: torch.export's archive (.pt2), and ONNX."""

import importlib.util
import io
import json
import warnings
from pathlib import Path

import torch
from torch.export import Dim, ExportedProgram

from contrastkit.checkpoint import write_with
from contrastkit.errors import UserError, explain
from contrastkit.export.trained import FILE, TrainedEncoder

OPSET = 18  # of ONNX: the first that torch's exporter writes without conversion, read by every runtime since 2023
LARGEST = 2**31 - 2**20  # bytes of weights in one ONNX file: protobuf ends at 2 GiB


def torch_code(trained: TrainedEncoder) -> str:
    """The lines that load the file of :func:`write_torch` with torch alone."""
    return "\n".join(
        [
            "import torch",
            "",
            f"encoder = torch.export.load({FILE}).module()",
            f"features = encoder({trained.input})  # {trained.input_text}",
        ]
    )


def write_torch(trained: TrainedEncoder, file: Path) -> None:
    """Write the program of :func:`torch.export.export`, with the description as its extra file ``metadata.json``."""
    buffer = io.BytesIO()
    metadata = json.dumps(trained.description.metadata())
    torch.export.save(_program(trained), buffer, extra_files={"metadata.json": metadata})
    write_with(file, lambda temporary: temporary.write_bytes(buffer.getbuffer()))


def onnx_code(trained: TrainedEncoder) -> str:
    """The lines that load the file of :func:`write_onnx` with onnxruntime.

    Raises:
        UserError: the packages that write it are not installed, or it would be too large.
    """
    if missing := [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]:
        raise UserError(f'--to onnx needs {" and ".join(missing)}: pip install "contrastkit[onnx]"')
    weights = sum(tensor.nbytes for tensor in trained.encoder.state_dict().values())
    if weights > LARGEST:
        raise UserError(f"{weights / 1e9:.1f} GB of weights do not fit into an ONNX file of 2 GB: use --to torch")
    return "\n".join(
        [
            "import onnxruntime",
            "",
            f"encoder = onnxruntime.InferenceSession({FILE})",
            f'(features,) = encoder.run(None, {{"{trained.input}": {trained.input}}})  # NumPy {trained.input_text}',
        ]
    )


def write_onnx(trained: TrainedEncoder, file: Path) -> None:
    """Write an ONNX model in one file: input ``images`` or ``sounds``, output ``features``, a dynamic number N of both,
    the description as its metadata."""
    program = torch.onnx.export(
        _program(trained),
        dynamo=True,
        opset_version=OPSET,
        input_names=[trained.input],
        output_names=["features"],
        verbose=False,
    )
    assert program is not None
    program.model.metadata_props.update(trained.description.metadata())
    write_with(file, lambda temporary: program.save(temporary, external_data=False))


def _program(trained: TrainedEncoder) -> ExportedProgram:
    """The encoder as a graph for any number of images of its size."""
    with warnings.catch_warnings():
        # A GRU keeps references to its own parameters, which are exported as such.
        warnings.filterwarnings("ignore", "The tensor attributes .*_flat_weights", UserWarning)
        try:  # two examples: a single one would be taken for a constant
            return torch.export.export(trained.encoder, (trained.examples(2),), dynamic_shapes=({0: Dim("N")},))
        except RuntimeError as error:
            if explain(error) is not None:
                raise
            first, *_ = str(error).splitlines() or [type(error).__name__]
            raise UserError(
                f"torch.export cannot make a program of {trained.record.encoder['name']}: {first}"
            ) from error
