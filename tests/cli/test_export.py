"""export as a command: what is printed, the report, and what is refused before the work."""

from pathlib import Path

import pytest

from contrastkit.cli.main import main
from tests.schemas import read_report


def test_the_lines_are_printed_as_they_run(moco_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, report = tmp_path / "x.pt2", tmp_path / "x.json"
    words = ["export", str(moco_run), "--to=torch", f"--out={out}", "--size=20", f"--json={report}"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    code = f"""
import torch

encoder = torch.export.load({str(out)!r}).module()
features = encoder(images)  # float32 [N, 3, 20, 20] in [0, 1]
"""
    assert printed.endswith(code)
    assert "moco-v2/tiny" in printed and "4 x 4 stem" in printed and "model card" in printed
    values = read_report("export", report)
    assert values["code"] == code.strip() and values["description"]["size"] == 20 and values["difference"] < 1e-5
    assert Path(values["card"]).read_text().startswith("# x.pt2")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--to=torchvision"], "tiny is a network of contrastkit; --to torch and --to onnx take any encoder"),
        (["--to=tensorflow"], "'--to'"),
        ([], "Missing option '--to'"),
        (["--to=torch", "--out=nowhere/x.pt2"], "nowhere/x.pt2 cannot be written: no such folder: nowhere"),
        (["--to=torch", "--size=1"], "--size must be at least 2, not 1"),
    ],
)
def test_bad_input(words: list[str], says: str, moco_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(moco_run.iterdir())
    assert main(["export", str(moco_run), *words]) == 2
    printed = capsys.readouterr().err
    assert says in printed and printed.count("\n") == 1
    assert sorted(moco_run.iterdir()) == before
