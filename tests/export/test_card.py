"""The model card: what a reader finds in it, and what must not be there."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from contrastkit.export import export_encoder
from contrastkit.export.card import results
from contrastkit.parts.weights import Weights
from tests.export.runs import write_run


def test_the_card_says_what_was_trained_on_what_and_how_to_load_it(tmp_path: Path) -> None:
    run = tmp_path / "run"
    write_run(run, {"name": "resnet18", "channels": 3, "size": 32})
    accuracy = {str(run): {"top1": 0.4321, "n": 500, "interval": [0.389, 0.476]}, "raw pixels": {"top1": 0.25}}
    (run / "knn.json").write_text(json.dumps({"data": "photos", "k": 20, "accuracy": accuracy}))
    exported = export_encoder(run, to="torchvision")
    card = exported.card.read_text()
    assert exported.card == run / "encoder-torchvision.safetensors.md"
    assert card.startswith("# encoder-torchvision.safetensors: resnet18 trained by moco-v2 on photos\n")
    assert "| trained | by moco-v2/tiny on 1,234 images of photos, without labels |" in card
    assert "3 x 3 stem, stride 1, no max-pooling (for small images); 11.17 M parameters" in card
    assert "mean 0.485, 0.456, 0.406; std 0.229, 0.224, 0.225" in card
    assert "load_file('encoder-torchvision.safetensors')" in card, "the card lies beside the file"
    assert "| tau | 0.1 |" in card and "| views | 2 x 24 px |" in card and "| seed | 3 |" in card
    assert "https://arxiv.org/abs/2003.04297" in card
    assert "| knn | photos | this encoder | 43.21 % | 38.9 - 47.6 |" in card
    assert "| knn | photos | raw pixels | 25.00 % |  |" in card
    assert "/home/someone" not in card and str(tmp_path) not in card


def test_a_run_is_named_without_its_path(tmp_path: Path) -> None:
    run = tmp_path / "a, b"
    run.mkdir()
    names = [str(run), f"{run}, fine-tuned", "runs/a, b, linear probe", "resnet18, from scratch", "a, bc"]
    (run / "finetune.json").write_text(json.dumps({"results": {name: {"top1": 0.5} for name in names}}))
    own = ["this encoder", "this encoder, fine-tuned", "this encoder, linear probe"]
    assert [row[2] for row in results(run)[0]] == [*own, "resnet18, from scratch", "a, bc"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "says"),
    [
        (None, None),
        ("pretrained:resnet18", "published weights of resnet18, which were trained with labels"),
        (
            "pretrained:timm:vit_small_patch16_224.dino",
            "published weights of timm:vit_small_patch16_224.dino (how they were trained: see "
            "https://huggingface.co/timm/vit_small_patch16_224.dino)",
        ),
        ("/home/someone/moco.pth", "the weights in moco.pth, which may have been trained with labels"),
    ],
)
def test_labels_behind_the_starting_weights_are_not_denied(
    source: str | None, says: str | None, tmp_path: Path
) -> None:
    run, encoder = tmp_path / "run", {"name": "resnet18", "channels": 3, "size": 32}
    module = write_run(run, encoder)
    record = json.loads((run / "recipe.json").read_text())
    if source is not None:
        weights = Weights(source=source, tensors=module.state_dict(), sha256="5a" * 32).match(module).record
        record["weights"] = asdict(weights)
    record["parent"] = {"run": "/home/someone/runs/a", "epochs": 2, "step": 8}
    (run / "recipe.json").write_text(json.dumps(record))
    card = export_encoder(run, to="torchvision").card.read_text()
    assert "It went on from step 8 of the run `a`." in card and "/home/someone" not in card
    if says is None:
        assert "No label was used in training" in card and "photos, without labels |" in card
        assert "Training started from" not in card
    else:
        assert f"photos, without labels, from {says} |" in card and "No label was used in training" not in card
        assert f"Training started from {says} (SHA-256 {'5a' * 32})." in card
        assert f"The training itself used no label, but started from {says}." in card


def test_reports_of_every_kind(tmp_path: Path) -> None:
    probe = {"x/run": {"accuracy": {"top1": 0.5, "interval": [0.4, 0.6]}, "rates": [1.0]}}
    (tmp_path / "probe.json").write_text(json.dumps({"data": "a", "probe": probe}))
    tuned = {"accuracy": {"top1": 0.7}, "per_class": {"cat": {"n": 5, "top1": 0.8, "answers": {"cat": 4}}}}
    (tmp_path / "finetune.json").write_text(json.dumps({"data": "a", "results": {"tiny, from scratch": tuned}}))
    (tmp_path / "retrieval.json").write_text(json.dumps({"retrieval": {"L -> ab": {"recall": [0.1]}}}))
    (tmp_path / "knn.json").write_text('{"data": ')
    (tmp_path / "recipe.json").write_text("{}")
    rows, notices = results(tmp_path)
    assert rows == [
        ("finetune", "a", "tiny, from scratch", "70.00 %", ""),
        ("probe", "a", "x/run", "50.00 %", "40.0 - 60.0"),
    ]
    assert notices == ["knn.json is damaged and left out.", "Further results: retrieval.json."]
