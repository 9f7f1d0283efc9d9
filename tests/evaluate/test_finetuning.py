"""Fine-tuning compared with plain loops: one training, what is trained at which rate, the choice of the rate, going on
after a kill, the classifier's file."""

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from PIL import Image
from torch import nn

from contrastkit import checkpoint, load_classifier
from contrastkit.augment import View
from contrastkit.data import ArraySource, DataSet, Loader, open_data, plain_batches
from contrastkit.errors import UserError
from contrastkit.evaluate import EvaluationSubject, FewLabels, FinetuneReport, finetune, finetuning, journal
from contrastkit.evaluate.classifier import neck_of
from contrastkit.evaluate.finetune_report import FineTuned
from contrastkit.evaluate.finetune_starts import starts_of
from contrastkit.evaluate.finetune_trial import even_batch, param_groups, training_view
from contrastkit.evaluate.supervised import LinearClassifier
from contrastkit.parts.build import build_encoder
from contrastkit.parts.encoder import Encoder
from contrastkit.parts.heads import mlp
from contrastkit.protocols import PROTOCOLS, FinetuneProtocol

KIND: dict[str, Any] = {"name": "tiny", "channels": 3, "size": 8}
QUICK: dict[str, Any] = {"epochs": 3, "lr": (0.05,), "train_batch": 10}
HOW: dict[str, Any] = {"few": FewLabels(labels_per_class=8), "precision": "float32"}


def shades(n: int, seed: int) -> ArraySource:
    """Noise on three levels of brightness, the classes."""
    g = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 3
    x = 15 * y[:, None, None, None] + torch.randint(0, 220, (n, 3, 8, 8), generator=g)
    return ArraySource("shades", x.byte(), y, classes=["dim", "mid", "light"])


def subject(kind: dict[str, Any] = KIND, **how: Any) -> EvaluationSubject:
    torch.manual_seed(11)
    encoder = build_encoder(**kind)
    encoder(torch.rand(16, 3, kind["size"], kind["size"]))  # statistics of batch norm
    train, test = shades(60, 1), shades(30, 2)
    data = DataSet("shades", train=train, test=test, pretrain=train)
    return EvaluationSubject(data=data, encoders={"f": encoder.eval()}, size=8, kind=kind, **how)


def tuned(report: FinetuneReport, name: str = "f, fine-tuned") -> FineTuned:
    result = report.results[name]
    assert isinstance(result, FineTuned)
    return result


# ------------------------------------------------------------------------------------------------------ one training


def test_a_training_is_that_of_a_plain_loop() -> None:
    """24 images in batches of 8: SGD with Nesterov's momentum on everything, the rate along half a cosine."""
    s = subject()
    encoder = copy.deepcopy(s.encoders["f"])
    report = finetune(s, numbers=QUICK | {"lr": (0.005,)}, seeds=1, seed=4, **HOW)
    train, _ = finetuning.choose(s.data.train, HOW["few"], 4)
    fc = nn.Linear(128, 3)
    with torch.no_grad():
        fc.weight.copy_(0.01 * torch.randn(3, 128, generator=torch.Generator().manual_seed(4)))
        fc.bias.zero_()
    assert isinstance(encoder, nn.Module)
    net = nn.Sequential(encoder, fc).train()
    view = View(size=8, crop_min=0.3, flip_p=0.5, jitter_p=0.0, gray_p=0.0)
    loader, velocity = Loader(train, (view,), batch=8, seed=4), [torch.zeros_like(p) for p in net.parameters()]
    losses, names = list[float](), [name for name, _ in net.named_parameters()]
    for step, batch in enumerate(loader.batches(0, 9)):
        lr = 0.005 * (1 + math.cos(math.pi * step / 9)) / 2
        loss = F.cross_entropy(net(batch.views[0]), batch.label)
        grads = torch.autograd.grad(loss, list(net.parameters()))
        with torch.no_grad():
            for name, p, v, g in zip(names, net.parameters(), velocity, grads, strict=True):
                g = g + (1e-4 * p if p.ndim > 1 else 0)
                v.mul_(0.9).add_(g)
                p.sub_(lr * (g + 0.9 * v))
                assert p.isfinite().all(), name
        losses.append(loss.item())
    result = tuned(report)
    assert result.losses == pytest.approx([sum(losses[i : i + 3]) / 3 for i in (0, 3, 6)], rel=1e-3)
    net.eval()
    with torch.no_grad():
        guesses = torch.cat([net(b.views[0]).argmax(1) for b in plain_batches(shades(30, 2), size=8)])
    top1 = (guesses == shades(30, 2).labels).float().mean().item()
    assert result.accuracy.top1 == pytest.approx(top1) and result.seeds == (result.accuracy.top1,)
    assert result.accuracy.n == 30 and result.rate == 0.005 and result.validation == ()
    assert (report.labels.images, report.labels.least, report.labels.most, report.labels.held_out) == (24, 8, 8, 0)


@pytest.mark.slow
def test_per_class_is_of_all_seeds(tmp_path: Path) -> None:
    """The first seed's answers are those of its file; what the others add is what a call of one seed less has not."""
    how: dict[str, Any] = HOW | {"numbers": QUICK, "out": tmp_path}
    reports = [finetune(subject(), seeds=1, seed=seed, **how | {"few": FewLabels()}) for seed in (0, 1)]
    both = finetune(subject(), seeds=2, **how | {"few": FewLabels()})
    test = shades(30, 2)
    classify = load_classifier(tmp_path / "model.safetensors")
    guesses = torch.cat([classify(batch.views[0]).argmax(1) for batch in plain_batches(test, size=8)]).tolist()
    expected: dict[str, dict[str, int]] = {name: {} for name in ("dim", "mid", "light")}
    for label, guess in zip(test.labels.tolist() if test.labels is not None else [], guesses, strict=True):
        row = expected[("dim", "mid", "light")[label]]
        row[("dim", "mid", "light")[guess]] = row.get(("dim", "mid", "light")[guess], 0) + 1
    assert {name: each.answers for name, each in tuned(reports[0]).per_class.items()} == expected
    for name, result in tuned(both).per_class.items():
        one, two = (tuned(report).per_class[name].answers for report in reports)
        assert result.answers == {c: n for c in expected if (n := one.get(c, 0) + two.get(c, 0))}
        assert result.n == 10 and result.top1 == result.answers.get(name, 0) / 20
    probe = both.results["f, linear probe"]
    assert list(probe.per_class) == list(expected) and sum(probe.per_class["dim"].answers.values()) == 20


def test_test_images_that_cannot_be_read_have_no_part(tmp_path: Path) -> None:
    for i in range(30):
        path = tmp_path / "ab"[i % 2] / f"{i:02d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (200 * (i % 2), i, 0)).save(path)
    train = open_data(str(tmp_path)).train
    for name in ("a/00.png", "b/29.png"):
        (tmp_path / name).write_bytes(b"torn")
    test = open_data(str(tmp_path)).train
    s = replace(subject(max_bad=0.2), data=DataSet("torn", train.subset(torch.arange(1, 29)), test, train))
    report = finetune(s, numbers=QUICK, seeds=2, few=FewLabels(), precision="float32")
    result, probe = tuned(report), report.results["f, linear probe"]
    assert result.accuracy.n == probe.accuracy.n == 28
    for each in (result, probe):
        assert [c.n for c in each.per_class.values()] == [14, 14]
        right = sum(c.answers.get(name, 0) for name, c in each.per_class.items())
        assert each.accuracy.top1 == pytest.approx(right / 56)


@pytest.mark.slow
def test_a_class_without_chosen_images_keeps_its_output(tmp_path: Path) -> None:
    """The linear layer has it, so it may be an answer."""
    s = subject()
    (tmp_path / "list").write_text("".join(f"{i}.png\n" for i in range(60) if i % 3 < 2))
    train, test = s.data.train, s.data.test
    assert isinstance(train, ArraySource) and test is not None and test.labels is not None
    train.paths = [f"{i}.png" for i in range(60)]
    s = replace(s, data=replace(s.data, test=test.subset((test.labels < 2).nonzero()[:, 0])))
    # at a rate of almost nothing and weights of 1, the answers are those of the random linear layer
    how: dict[str, Any] = {"numbers": QUICK | {"lr": (1e-9,), "head_std": 1.0}, "precision": "float32", "seeds": 3}
    result = tuned(finetune(s, few=FewLabels(label_list=tmp_path / "list"), **how))
    answers = {name: each.answers for name, each in result.per_class.items()}
    assert sum(sum(each.values()) for each in answers.values()) == 60 and answers["light"] == {}
    assert any("light" in each for each in answers.values())


def test_the_encoder_of_the_subject_stays_as_it_is() -> None:
    s = subject()
    before = copy.deepcopy(s.encoders["f"])
    finetune(s, numbers=QUICK, seeds=2, **HOW)
    assert before is not None and s.encoders["f"] is not None
    for value, old in zip(s.encoders["f"].state_dict().values(), before.state_dict().values(), strict=True):
        assert torch.equal(value, old)


def test_seeds_give_mean_and_deviation() -> None:
    result = tuned(finetune(subject(), numbers=QUICK, seeds=3, **HOW))
    mean = sum(result.seeds) / 3
    assert len(set(result.seeds)) > 1
    assert result.accuracy.top1 == pytest.approx(mean)
    assert result.std == pytest.approx(math.sqrt(sum((s - mean) ** 2 for s in result.seeds) / 2))


def test_batches_are_even() -> None:
    assert [even_batch(n, 64) for n in (1, 63, 64, 65, 100, 128, 129)] == [1, 63, 64, 32, 50, 64, 43]


def test_digits_are_not_flipped() -> None:
    source, tiny = shades(6, 0), PROTOCOLS["tiny"]
    assert training_view(tiny, source, 8).flip_p == 0.5
    source.orientation_matters = True
    assert training_view(tiny, source, 8).flip_p == 0
    assert training_view(replace(tiny, flip_p=0.2), source, 8).flip_p == 0.2


# ----------------------------------------------------------------------------------------- what is trained, how fast


def rates(classifier: LinearClassifier, row: FinetuneProtocol) -> dict[str, float]:
    """The factor on the rate of each trained parameter, by name."""
    names = {id(p): name for name, p in classifier.named_parameters()}
    return {
        names[id(p)]: group.lr_scale for group in param_groups(classifier, row) for p in group.params if p.requires_grad
    }


@pytest.mark.parametrize(
    ("layers", "parts"),
    [
        (None, {"conv1", "bn1", "blocks.0", "blocks.1", "blocks.2"}),
        (3, {"blocks.0", "blocks.1", "blocks.2"}),
        (1, {"blocks.2"}),
        (0, set()),
    ],
)
def test_the_last_layers_are_trained(layers: int | None, parts: set[str]) -> None:
    row = replace(PROTOCOLS["tiny"], layers=layers)
    trained = rates(LinearClassifier(build_encoder(**KIND), 3), row)
    found = {".".join(name.split(".")[2 : 4 if "blocks" in name else 3]) for name in trained if "trunk" in name}
    assert found == parts
    assert {"fc.weight", "fc.bias"} <= trained.keys() and set(trained.values()) == {1.0}


def test_layers_below_stay_as_they_are_with_their_statistics(tmp_path: Path) -> None:
    s = subject()
    finetune(s, numbers=QUICK | {"layers": 1}, seeds=1, out=tmp_path, **HOW)
    after, before = load_classifier(tmp_path / "model.safetensors").encoder.state_dict(), s.encoders["f"]
    assert before is not None
    changed = {name for name, value in before.state_dict().items() if not torch.equal(value, after[name])}
    assert changed and all(name.startswith("trunk.blocks.2.") for name in changed)


def test_more_layers_than_there_are() -> None:
    with pytest.raises(UserError, match="--layers 4: this encoder has 3"):
        finetune(subject(), numbers=QUICK | {"layers": 4}, **HOW)


def test_swavs_rates() -> None:
    """eval_semisup.py: the trunk at 0.01, the last layer at 0.2; 0.02 and 5 with 1 % of the labels."""
    for name, trunk, head in (("swav-10%", 0.01, 0.2), ("swav-1%", 0.02, 5.0)):
        row = PROTOCOLS[name]
        scale = rates(LinearClassifier(build_encoder(**KIND), 3), row)
        assert row.lr[0] * scale["fc.weight"] == pytest.approx(head)
        assert row.lr[0] * scale["encoder.trunk.conv1.weight"] == pytest.approx(trunk)


def test_maes_rates_and_decay() -> None:
    """Layer decay 0.65; no weight decay of biases, norms, positions and class token (lr_decay.py, no_weight_decay)."""
    encoder = build_encoder("timm:vit_tiny_patch16_224", channels=3, size=32)
    classifier, row = LinearClassifier(encoder, 3), PROTOCOLS["mae-b"]
    scale = rates(classifier, row)
    assert scale["encoder.trunk.pos_embed"] == pytest.approx(0.65**13)
    assert scale["encoder.trunk.blocks.11.mlp.fc1.weight"] == pytest.approx(0.65) and scale["fc.weight"] == 1
    names = {id(p): name for name, p in classifier.named_parameters()}
    decayed = {names[id(p)] for group in param_groups(classifier, row) if group.decay for p in group.params}
    free = {"encoder.trunk.pos_embed", "encoder.trunk.cls_token"}
    assert decayed == {name for name, p in classifier.named_parameters() if p.ndim > 1 and name not in free}


def test_published_numbers() -> None:
    """Typed in from the READMEs and scripts of the papers."""
    simclr, mae = PROTOCOLS["simclr-1%"], PROTOCOLS["mae-b"]
    assert (simclr.optimizer, simclr.lr, simclr.weight_decay) == ("lars", (pytest.approx(0.16),), 0)
    assert (simclr.epochs, simclr.train_batch, simclr.warmup_epochs, simclr.head_std) == (60, 1024, 0, 0)
    assert PROTOCOLS["simclr-10%"] == replace(simclr, epochs=30)
    swav = PROTOCOLS["swav-10%"]
    assert (swav.epochs, swav.train_batch, swav.gamma, swav.weight_decay) == (20, 256, 0.2, 0)
    assert [round(20 * m) for m in swav.milestones] == [12, 16]
    assert (mae.optimizer, mae.lr, mae.weight_decay, mae.warmup_epochs) == ("adamw", (pytest.approx(2e-3),), 0.05, 5)
    assert (mae.epochs, mae.mixup, mae.smoothing, mae.drop_path, mae.head_std) == (100, 0.8, 0.1, 0.1, 2e-5)


@pytest.mark.slow
def test_drop_path_reaches_a_transformer() -> None:
    kind = {"name": "timm:vit_tiny_patch16_224", "channels": 3, "size": 16}
    s = replace(subject(kind), size=16)
    one, two = (
        tuned(finetune(s, numbers=QUICK | {"epochs": 1, "drop_path": share}, seeds=1, **HOW)) for share in (0.0, 0.5)
    )
    assert one.losses != two.losses
    report = finetune(subject(), numbers=QUICK | {"drop_path": 0.5}, seeds=1, **HOW)
    assert report.notices[0] == "--drop-path 0.5 has no effect on this encoder"


# ------------------------------------------------------------------------------------------- choosing a learning rate


def test_the_rate_is_chosen_on_training_images() -> None:
    """The same rates score the same, and the same is chosen, whatever the test images are."""
    numbers = QUICK | {"lr": (1e-6, 0.05, 0.1)}
    s = subject()
    shuffled = shades(30, 3)
    shuffled.labels = shuffled.labels.flip(0) if shuffled.labels is not None else None
    other = replace(s, data=replace(s.data, test=shuffled))
    one, two = (tuned(finetune(each, numbers=numbers, seeds=1, **HOW)) for each in (s, other))
    assert one.validation == two.validation and one.rate == two.rate and one.accuracy != two.accuracy
    assert len(one.validation) == 3 and one.validation[one.rates.index(one.rate)] == max(v or 0 for v in one.validation)


@pytest.mark.slow
def test_a_rate_that_diverges_is_not_chosen() -> None:
    report = finetune(subject(), numbers=QUICK | {"lr": (0.05, 9e3), "epochs": 40}, seeds=1, **HOW)
    assert tuned(report).rate == 0.05
    with pytest.raises(UserError, match="diverged at every learning rate: give lower ones with --lr"):
        finetune(subject(), numbers=QUICK | {"lr": (8e3, 9e3), "epochs": 40}, seeds=1, **HOW)


def test_a_training_that_diverges_leaves_an_earlier_model(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"of an earlier call")
    with pytest.raises(UserError, match="fine-tuned diverged at learning rate 9000: give lower ones with --lr"):
        finetune(subject(), numbers=QUICK | {"lr": (9e3,), "epochs": 40}, seeds=1, out=tmp_path, **HOW)
    assert (tmp_path / "model.safetensors").read_bytes() == b"of an earlier call"


@pytest.mark.parametrize("lr", [(9e3,), (8e3, 9e3)])
def test_lower_rates_can_follow_those_that_diverged(lr: tuple[float, ...], tmp_path: Path) -> None:
    """As the message advises, with no word of an unfinished call."""
    with pytest.raises(UserError, match="give lower ones with --lr"):
        finetune(subject(), numbers=QUICK | {"lr": lr, "epochs": 40}, seeds=1, out=tmp_path, **HOW)
    assert finetune(subject(), numbers=QUICK, seeds=1, out=tmp_path, **HOW).numbers.lr == (0.05,)


def test_one_image_a_class_leaves_none_to_choose_on() -> None:
    how = HOW | {"few": FewLabels(labels_per_class=1)}
    report = finetune(subject(), numbers=QUICK | {"lr": (0.01, 0.02, 0.05)}, seeds=1, **how)
    assert tuned(report).rate == 0.02 and tuned(report).validation == ()
    assert report.notices[0] == "no image is left to choose a learning rate on: it is 0.02, unchecked"
    assert "f, linear probe: no image is left to choose a learning rate on: it is 0.3, unchecked" in report.notices


# ---------------------------------------------------------------------------------------------------------- baselines


def test_the_rows_of_the_table() -> None:
    report = finetune(subject(), numbers=QUICK, seeds=3, baselines=True, **HOW)
    assert list(report.results) == ["f, fine-tuned", "f, linear probe", "tiny, from scratch"]
    assert "no row of published weights: there are none of tiny" in report.notices
    scratch = tuned(report, "tiny, from scratch")
    assert len(scratch.losses) == 3 and scratch.losses != tuned(report).losses
    assert len(set(scratch.seeds)) > 1


def test_published_weights_of_an_encoder_with_the_usual_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of SimCLR, in whose record they stand, have a row too."""
    monkeypatch.setattr(torchvision.models, "get_model", lambda name, weights: torchvision.models.resnet18())
    s = subject({"name": "resnet18", "channels": 3, "size": 8, "width": 1.0, "projector_width": 64})
    encoder = s.encoders["f"]
    assert isinstance(encoder, Encoder)
    starts, notices = starts_of(s, encoder, PROTOCOLS["tiny"], baselines=True)
    assert [start.key for start in starts] == ["fine-tuned", "from scratch", "published weights"] and notices == ()


def test_from_scratch_nothing_is_frozen() -> None:
    numbers = QUICK | {"layers": 0, "batch_norm": "eval"}
    report = finetune(subject(), numbers=numbers, seeds=1, baselines=True, **HOW)
    free = finetune(subject(), numbers=QUICK, seeds=1, baselines=True, **HOW)
    assert tuned(report, "tiny, from scratch").losses == tuned(free, "tiny, from scratch").losses
    assert tuned(report).losses != tuned(free).losses


def test_from_scratch_all_layers_have_one_rate() -> None:
    """Also where the protocol gives the encoder a lower one, as SwAV's."""
    s = subject()
    encoder = s.encoders["f"]
    assert isinstance(encoder, Encoder)
    starts = {start.key: start for start in starts_of(s, encoder, PROTOCOLS["swav-1%"], baselines=True)[0]}
    found = {key: set(rates(start.classifier(0), start.protocol).values()) for key, start in starts.items()}
    assert found == {"fine-tuned": {0.02 / 5, 1.0}, "from scratch": {1.0}}


# ---------------------------------------------------------------------------------------------------- killed, repeated


class Killed(BaseException):
    pass


@pytest.mark.parametrize("kill", [9, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 8, 13, 30))])
def test_a_call_that_is_killed_goes_on_bit_for_bit(kill: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the kill-th time that the state is written: within a choice of the rate, between trainings, in a seed's."""
    monkeypatch.setattr(journal, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(journal, "SAVING", 1.0)
    how: dict[str, Any] = HOW | {"numbers": QUICK | {"lr": (0.02, 0.05), "mixup": 0.4}, "seeds": 2}
    whole = finetune(subject(), out=tmp_path / "whole", **how)
    save, n = checkpoint.save, 0

    def dying(path: Path, state: dict[str, Any]) -> None:
        nonlocal n
        save(path, state)
        n += 1
        if n == kill:
            raise Killed

    monkeypatch.setattr(checkpoint, "save", dying)
    with pytest.raises(Killed):
        finetune(subject(), out=tmp_path / "killed", **how)
    monkeypatch.setattr(checkpoint, "save", save)
    lines: list[str] = []
    report = finetune(subject(), out=tmp_path / "killed", on_line=lines.append, **how)
    assert "going on with what an earlier start has done" in lines
    assert report.results == whole.results
    models = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "killed")]
    assert models[0] == models[1]
    assert not (tmp_path / "killed" / "state.pt").exists()


def test_an_unfinished_call_keeps_its_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finetuning, "linear_probe", lambda *args, **how: (_ for _ in ()).throw(Killed()))
    with pytest.raises(Killed):
        finetune(subject(), numbers=QUICK, seeds=1, out=tmp_path, **HOW)
    monkeypatch.undo()
    before = (tmp_path / "state.pt").read_bytes()
    changes: list[dict[str, Any]] = [
        {"numbers": QUICK | {"lr": (0.06,)}},
        {"seeds": 2},
        {"seed": 1},
        {"few": FewLabels()},
    ]
    for change in changes:
        with pytest.raises(UserError, match="holds an unfinished training with .*, not .*: repeat its command"):
            finetune(subject(), **(HOW | {"numbers": QUICK, "seeds": 1, "out": tmp_path} | change))
    other = replace(subject(), data=replace(subject().data, test=shades(30, 3)))
    with pytest.raises(UserError, match='holds an unfinished training with test images "[0-9a-f]{16}", not "'):
        finetune(other, numbers=QUICK, seeds=1, out=tmp_path, **HOW)
    with pytest.raises(UserError, match=r"training with lr \[0.05\], not \[0.06\]: repeat"):
        finetune(subject(), numbers=QUICK | {"lr": (0.06,)}, seeds=1, out=tmp_path, **HOW)
    assert (tmp_path / "state.pt").read_bytes() == before
    finetune(subject(), numbers=QUICK, seeds=2, out=tmp_path, restart=True, **HOW)
    assert not (tmp_path / "state.pt").exists()


def test_an_unfinished_call_keeps_its_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the weights are the same, and see other patches."""
    coarse, fine = (subject(KIND | {"patch": 4, "stride": stride}) for stride in (4, 2))
    encoders = coarse.encoders["f"], fine.encoders["f"]
    assert encoders[0] is not None and encoders[1] is not None
    encoders[1].load_state_dict(encoders[0].state_dict())
    monkeypatch.setattr(finetuning, "linear_probe", lambda *args, **how: (_ for _ in ()).throw(Killed()))
    how: dict[str, Any] = HOW | {"numbers": QUICK | {"epochs": 1}, "seeds": 1, "out": tmp_path}
    with pytest.raises(Killed):
        finetune(coarse, **how)
    with pytest.raises(UserError, match='with encoder "[0-9a-f]{16}", not "[0-9a-f]{16}"'):
        finetune(fine, **how)


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state.pt").write_bytes(b"PK\x03\x04")
    with pytest.raises(UserError, match="state.pt is not a readable checkpoint"):
        finetune(subject(), numbers=QUICK, out=tmp_path, **HOW)


# ------------------------------------------------------------------------------------------------------------ the file


def test_the_classifier_is_loaded_again(tmp_path: Path) -> None:
    report = finetune(subject(), numbers=QUICK, seeds=2, out=tmp_path, **HOW)
    assert report.model == str(tmp_path / "model.safetensors")
    classify = load_classifier(report.model)
    assert classify.classes == ("dim", "mid", "light") and classify.size == 8 and not classify.training
    test = shades(30, 2)
    right = [classify(b.views[0]).argmax(1) == b.label for b in plain_batches(test, size=8)]
    assert torch.cat(right).double().mean().item() == pytest.approx(tuned(report).seeds[0])


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        load_classifier(tmp_path / "nowhere.safetensors")
    (tmp_path / "cut").write_bytes(b"abc")
    with pytest.raises(UserError, match="cut is damaged"):
        load_classifier(tmp_path / "cut")
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(2)}, tmp_path / "other")
    with pytest.raises(UserError, match="other holds no classifier"):
        load_classifier(tmp_path / "other")


def test_a_custom_encoder_is_given_back(tmp_path: Path) -> None:
    s = replace(subject(), kind=None)
    report = finetune(s, numbers=QUICK, seeds=1, out=tmp_path, baselines=True, **HOW)
    assert "no baselines: how this encoder was built is not known" in report.notices
    with pytest.raises(UserError, match="custom module as encoder: add encoder="):
        load_classifier(tmp_path / "model.safetensors")
    load_classifier(tmp_path / "model.safetensors", encoder=build_encoder(**KIND))


@pytest.mark.parametrize("norm", ["batch", "none", "layer"])
def test_the_first_layers_of_a_head(norm: Any) -> None:
    """SimCLR v2's middle layer: linear, norm, ReLU."""
    head = mlp(8, 6, 5, 3, norm=norm, bias=norm == "none", last_norm="scale").eval()
    x = torch.randn(4, 8)
    for n, modules in ((1, 2 + (norm != "none")), (2, 2 * (2 + (norm != "none")))):
        neck = neck_of(head, n).eval()
        assert torch.equal(neck(x), head[:modules](x)) and neck.dim == (6, 5)[n - 1]
    with pytest.raises(UserError, match="has 2 hidden layers to keep: --head-layers at most 2"):
        neck_of(head, 3)


# ---------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"protocol": "simclr"}, "unknown protocol 'simclr', did you mean"),
        ({"numbers": {"epochs": 0}}, "--epochs must be at least 1"),
        ({"numbers": {"lr": ()}}, "--lr needs at least one"),
        ({"numbers": {"optimizer": "adam"}}, "--optimizer must be one of sgd, lars, adamw"),
        ({"numbers": {"nesterov": True, "optimizer": "adamw"}}, "--nesterov applies to --optimizer sgd"),
        ({"numbers": {"crop_min": 0.0}}, "--crop-min must be above 0"),
        ({"seeds": 0}, "--seeds must be at least 1"),
        ({"numbers": {"head_layers": 1}}, "--head-layers keeps layers of a method's head: give a run"),
        ({"few": FewLabels(labels_per_class=99)}, "--labels-per-class 99 is more than"),
    ],
)
def test_bad_arguments(how: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        finetune(subject(), **(HOW | how))


def test_raw_pixels_cannot_be_trained() -> None:
    with pytest.raises(UserError, match="raw pixels have none"):
        finetune(replace(subject(), encoders={"raw pixels": None}), **HOW)


def test_a_class_that_only_the_test_part_has_is_told() -> None:
    s = subject()
    assert s.data.train.labels is not None
    train = s.data.train.subset((s.data.train.labels < 2).nonzero()[:, 0])
    report = finetune(replace(s, data=replace(s.data, train=train)), numbers=QUICK, seeds=1, **HOW)
    assert "no training image of light: its test images cannot be right" in report.notices
