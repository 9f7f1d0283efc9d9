"""The run folder's own pieces; the training tests have the rest."""

import os
from pathlib import Path

import pytest
import torch

from contrastkit import checkpoint
from contrastkit.errors import UserError
from contrastkit.run import Run


@pytest.mark.parametrize(
    "name", ["environment.json", "metrics.jsonl", "log.txt", "encoder.safetensors", "checkpoints/last.pt"]
)
def test_a_pipe_in_the_place_of_a_file_is_refused(name: str, tmp_path: Path) -> None:
    """Reading it would wait for a writer."""
    (tmp_path / "recipe.json").write_text("{}")
    (tmp_path / "checkpoints").mkdir()
    Run.open(tmp_path)
    os.mkfifo(tmp_path / name)
    with pytest.raises(UserError, match=f"{name} is no file: remove what is in its place"):
        Run.open(tmp_path)


def test_only_a_torn_last_line_is_passed_over(tmp_path: Path) -> None:
    lines = ['{"step": 1}', '{"step": 2}', '{"step"']
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    assert Run(tmp_path).metrics() == [{"step": 1}, {"step": 2}]
    torn = "\n".join([lines[0], lines[2], lines[1]])
    (tmp_path / "metrics.jsonl").write_text(torn)
    for read in (Run(tmp_path).metrics, lambda: Run(tmp_path, writes=True).rewind(1)):
        with pytest.raises(UserError, match=r"line 2 of .*metrics\.jsonl is damaged"):
            read()
    assert (tmp_path / "metrics.jsonl").read_text() == torn


def test_curves_that_cannot_be_drawn_do_not_hide_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*how: object, **more: object) -> None:
        raise OSError("no curves")

    monkeypatch.setattr("contrastkit.run.draw_curves", fail)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
    with pytest.raises(UserError, match="the loss is nan"), Run(tmp_path, writes=True):
        raise UserError("the loss is nan")
    with pytest.raises(OSError, match="no curves"), Run(tmp_path, writes=True):
        pass


def test_want_of_memory_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither of the checkpoint nor of its weights."""
    with pytest.raises(torch.OutOfMemoryError), Run(tmp_path).restoring():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
    with pytest.raises(UserError, match="do not fit its recipe"), Run(tmp_path).restoring():
        raise RuntimeError("size mismatch for conv1.weight")

    def fail(*how: object, **more: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory")

    checkpoint.save(tmp_path / "last.pt", {})
    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        checkpoint.load(tmp_path / "last.pt")
