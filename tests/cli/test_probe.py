"""probe as a command: its two protocols, the plot, printed table and written files."""

from pathlib import Path

import pytest

from contrastkit.cli.main import main
from tests.schemas import read_report


def test_many_rates(moco_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", str(moco_run), "--epochs=2", "--seeds=2"]) == 0
    printed = capsys.readouterr().out
    assert "linear probe on hard, protocol rates, 210 training and 70 test images of 16 px" in printed
    report = read_report("probe", moco_run / "probe.json")
    probe = report["probe"][str(moco_run)]
    assert sum(sum(c["answers"].values()) for c in probe["per_class"].values()) == 2 * probe["accuracy"]["n"]
    assert len(probe["seeds"]) == 2 and probe["rate"] in probe["rates"]
    assert f"{100 * probe['accuracy']['top1']:.2f} % +- {100 * probe['std']:.2f}" in printed


def test_the_rates_are_drawn_in_the_run_or_where_asked(
    moco_run: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = ["--epochs=1", "--seeds=1"]
    (moco_run / "probe.png").unlink(missing_ok=True)
    assert main(["probe", str(moco_run), *quick, f"--plot={tmp_path / 'here'}"]) == 0
    assert (tmp_path / "here").read_bytes().startswith(b"\x89PNG") and not (moco_run / "probe.png").exists()
    assert main(["probe", str(moco_run), *quick]) == 0
    assert (moco_run / "probe.png").read_bytes().startswith(b"\x89PNG")
    capsys.readouterr()
    assert main(["probe", "--encoder=pixels", f"--data={images}", "--val-fraction=0.2", *quick]) == 0
    assert ".png" not in capsys.readouterr().out


def test_the_papers_protocol(moco_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", str(moco_run), "--baselines", "--protocol=moco", "--epochs=2", "--lr=1"]) == 0
    printed = capsys.readouterr().out
    assert "protocol moco" in printed and "raw pixels: skipped, protocol 'moco' probes encoders only" in printed
    epochs = [line.split("  ")[0] for line in printed.splitlines() if line.startswith("epoch")]
    assert epochs == ["epoch 1/2", "epoch 2/2"] * 2
    report = read_report("probe", moco_run / "probe.json")
    assert report["protocol"] == "moco" and list(report["probe"]) == [str(moco_run), "untrained tiny"]
    probe = report["probe"][str(moco_run)]
    assert probe["rate"] == 1 and len(probe["losses"]) == 2


def test_pixels_have_no_crops(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [f"--data={images}", "--val-fraction=0.2", "--protocol=moco"]
    assert main(["probe", "--encoder=pixels", *options]) == 2
    assert "not raw pixels: use --protocol rates" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--protocol=moco", "--plot=rates.png"], "--plot does not apply to --protocol moco"),
        (["--protocol=moco", "--seeds=3"], "--seeds does not apply to --protocol moco"),
        (["--lr=30"], "--lr applies to --protocol moco only"),
    ],
)
def test_options_of_the_other_protocol_are_refused(
    options: list[str], message: str, moco_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also when the value is the default."""
    assert main(["probe", str(moco_run), "--epochs=1", *options]) == 2
    printed = capsys.readouterr()
    assert message in printed.err and printed.err.count("\n") == 1 and printed.out == ""
