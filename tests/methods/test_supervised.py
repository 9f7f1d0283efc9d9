"""ERM, IRM, GroupDRO and StableNet against their equations, written out as loops in float64; the weights of StableNet;
what they are trained on, and what is refused."""

import copy
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from contrastkit import load_classifier
from contrastkit.cli.main import main
from contrastkit.data import open_data, plain_batches
from contrastkit.errors import UserError
from contrastkit.loading import load_method
from contrastkit.methods import SUPERVISED, BuildContext
from contrastkit.methods.irm import slope
from contrastkit.methods.stablenet import StableNet, StableNetRecipe, cosines, learnt_logits
from contrastkit.methods.supervised import Supervised
from contrastkit.stable.reweight import rff
from contrastkit.tables.embeddings import principal_components
from contrastkit.types import Batch, Step
from tests.methods import small
from tests.methods.small import gradients
from tests.schemas import read_report

N, M, C, E = 8, 40, 3, 4
INDEX = torch.tensor([3, 39, 0, 17, 22, 8, 11, 30])
LABELS = torch.tensor([(i * i + i // 7) % C for i in range(M)])
PLACES = torch.tensor([(i // 3 + i % 2) % E for i in range(M)])


def build(name: str, **numbers: Any) -> Any:
    torch.manual_seed(0)
    recipe = replace(SUPERVISED[name], **{"batch": N, **numbers})
    context = BuildContext(
        channels=3, size=16, images=M, seed=3, labels=LABELS, n_classes=C, environments=PLACES, n_environments=E
    )
    return recipe.build(context).train()


def batch(seed: int = 1) -> Batch:
    return small.batch(N, (16,), seed=seed, index=INDEX)


def logits_of(method: Supervised[Any], b: Batch) -> Tensor:
    return method.online.head(method.online.encoder(b.views[0])).double()


def entropy(z: Tensor, y: int) -> Tensor:
    """-log softmax(z)_y of one image."""
    return -torch.log(torch.exp(z[y]) / sum(torch.exp(each) for each in z))


def check(method: Supervised[Any], step: Step[Any], truth: Tensor) -> None:
    """The loss of a step and its gradients."""
    assert step.loss.item() == pytest.approx(truth.item(), rel=1e-4)
    for g, h in zip(gradients(step.loss, method), gradients(truth, method), strict=True):
        torch.testing.assert_close(g, h, rtol=2e-3, atol=1e-6 + 1e-3 * float(h.abs().max()))


# ----------------------------------------------------------------------------------------------------------- losses


def test_erm_is_the_mean_over_all_images() -> None:
    method, b = build("erm/tiny"), batch()
    z = logits_of(method, b)
    truth = sum((entropy(z[i], int(LABELS[INDEX[i]])) for i in range(N)), start=z.new_zeros(())) / N
    check(method, method(b, 0.3), truth)
    assert method.chance_loss == pytest.approx(math.log(C))


def risk(z: Tensor, e: int, w: Tensor | float = 1.0) -> Tensor | None:
    """The mean of H(y, w z) over the images of environment e; None if the batch has none."""
    own = [i for i in range(N) if int(PLACES[INDEX[i]]) == e]
    return (
        sum((entropy(w * z[i], int(LABELS[INDEX[i]])) for i in own), start=z.new_zeros(())) / len(own) if own else None
    )


@pytest.mark.parametrize(("progress", "weight"), [(0.1, 1.0), (0.6, 50.0)])
def test_irm_penalises_the_slope_of_each_environments_risk(progress: float, weight: float) -> None:
    """By autograd, as the official code has it: the derivative at w = 1, with a graph for the second one."""
    method, b = build("irm/tiny", penalty_weight=50.0, penalty_anneal=0.5), batch()
    z = logits_of(method, b)
    risks, penalties = list[Tensor](), list[Tensor]()
    for e in range(E):
        w = torch.ones((), dtype=torch.float64, requires_grad=True)
        own = risk(z, e, w)
        if own is not None:
            (d,) = torch.autograd.grad(own, w, create_graph=True)
            risks.append(own)
            penalties.append(d * d)
    mean = sum(risks) / len(risks) + weight * sum(penalties) / len(penalties)
    assert isinstance(mean, Tensor)
    check(method, method(b, progress), mean / max(1.0, weight))


def test_the_slope_is_that_of_a_difference() -> None:
    z, y = 3 * torch.randn(5, C, dtype=torch.float64), torch.tensor([0, 1, 2, 1, 0])
    step = 1e-6
    up, down = (F.cross_entropy((1 + s) * z, y, reduction="none") for s in (step, -step))
    torch.testing.assert_close(slope(z, y), (up - down) / (2 * step), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("groups", ["environment", "environment-class"])
def test_groupdro_moves_its_weights_to_the_groups_that_do_worst(groups: str) -> None:
    method, eta = build("groupdro/tiny", groups=groups, eta=0.7), 0.7
    n = E if groups == "environment" else E * C
    q = [1 / n] * n
    for seed in (1, 2, 3):
        b = batch(seed)
        z = logits_of(method, b)
        losses = [z.new_zeros(())] * n
        for g in range(n):
            place, label = (g, None) if groups == "environment" else (g // C, g % C)
            own = [i for i in INDEX.tolist() if int(PLACES[i]) == place and label in (None, int(LABELS[i]))]
            rows = [INDEX.tolist().index(i) for i in own]
            if rows:
                losses[g] = sum((entropy(z[i], int(LABELS[INDEX[i]])) for i in rows), start=losses[g]) / len(rows)
        q = [old * math.exp(eta * loss.item()) for old, loss in zip(q, losses, strict=True)]
        q = [each / sum(q) for each in q]
        truth = sum((each * loss for each, loss in zip(q, losses, strict=True)), start=z.new_zeros(()))
        out = method(b, 0.5)
        check(method, out, truth)
        method.after_step(b, out, 0.5)
        assert method.q.tolist() == pytest.approx(q, rel=1e-4)
    assert max(q) > 1.5 / n


# -------------------------------------------------------------------------------------------------------- StableNet


def fourier(z: list[list[float]], omega: list[float], b: np.ndarray) -> np.ndarray:
    """The features of the official code, [2 F, N, D], by loops: scaled to [0, pi / 2] over the units of an image."""
    Fq, n, D = len(omega), len(z), len(z[0])
    X = np.zeros((2 * Fq, n, D))
    for f in range(Fq):
        for i in range(n):
            mid = [omega[f] * z[i][d] + b[f][d] for d in range(D)]
            low, high = min(mid), max(mid)
            for d in range(D):
                t = math.pi / 2 * (mid[d] - low) / (high - low)
                X[f, i, d], X[Fq + f, i, d] = math.sqrt(2 / Fq) * math.cos(t), math.sqrt(2 / Fq) * math.sin(t)
    return X


def test_the_inner_descent_is_that_of_the_official_code() -> None:
    """In float64, with the covariances and the penalty written out and differentiated by autograd."""
    recipe = replace(SUPERVISED["stablenet/tiny"], batch=6, lambdap=0.02, num_f=2, epochb=6, decay_pow=3.0, lrbl=2.0)  # type: ignore[call-arg]
    assert isinstance(recipe, StableNetRecipe)
    g = torch.Generator().manual_seed(0)
    Z, memory, logits = torch.rand(6, 5, generator=g), torch.rand(6, 5, generator=g), torch.rand(6, generator=g)
    both = torch.cat([Z, memory]).double()
    a, v = torch.ones(6, dtype=torch.float64), torch.zeros(6, dtype=torch.float64)
    for k in range(6):
        u = small_draws(recipe.num_f * 6, step=k)
        omega = torch.special.ndtri(u[:2])
        X = torch.from_numpy(fourier(both.tolist(), omega.tolist(), 2 * math.pi * u[2:].view(2, 5).numpy()))
        torch.testing.assert_close(cosines(both, 2, seed=3, time=2**39, step=k), X, rtol=1e-9, atol=1e-9)
        a = a.detach().requires_grad_()
        w = torch.softmax(torch.cat([a, logits.double()]), 0)
        total = torch.zeros((), dtype=torch.float64)
        for x in X:
            cov = (w[:, None] * x).T @ x - torch.outer(w @ x, w @ x)
            for i in range(5):
                for j in range(5):
                    total = total + (cov[i, j] ** 2 if i != j else 0)
        loss = total / 0.02 + sum(each**3 for each in torch.softmax(a, 0))
        (grad,) = torch.autograd.grad(loss, a)
        v = 0.9 * v + grad
        a = a.detach() - 2.0 * (1.0 if k < 3 else 0.1) * v
    found = learnt_logits(Z, memory, logits, recipe, seed=3, progress=0.5)
    torch.testing.assert_close(found.double(), a, rtol=1e-4, atol=1e-4)
    assert (a - 1).abs().max() > 0.01, "it has moved"


def small_draws(n: int, step: int) -> Tensor:
    """The uniform draws of an inner step at half of the training, of seed 3: one frequency and five phases for each."""
    from contrastkit.rng import COSINES, uniform

    return uniform(3, 2**39, torch.tensor([step]), COSINES, n)[0]


def test_the_published_numbers_leave_the_weights_even() -> None:
    """Features of rank 20 under noise, as a ReLU leaves them: the effective share of the sample stays 1."""
    recipe = SUPERVISED["stablenet/imagenet"]
    assert isinstance(recipe, StableNetRecipe)
    g = torch.Generator().manual_seed(0)
    factors = torch.randn(20, 128, generator=g)
    Z, memory = (
        (torch.randn(128, 20, generator=g) @ factors / 4 + 0.3 * torch.randn(128, 128, generator=g)).relu()
        for _ in range(2)
    )
    how: dict[str, Any] = {"seed": 0, "progress": 0.25}
    w = learnt_logits(Z, memory, torch.ones(128), recipe, **how).softmax(0)
    assert (128 * w - 1).abs().max() < 0.05 and w.sum() ** 2 / (w**2).sum() / 128 > 0.999
    freed = learnt_logits(Z, memory, torch.ones(128), replace(recipe, lambdap=0.01, lrbl=10.0), **how).softmax(0)
    assert (128 * freed - 1).abs().max() > 0.2, "the numbers keep them so, not the code"


def test_stablenet_weighs_the_losses_and_saves_what_it_saw() -> None:
    method = build("stablenet/tiny", lambdap=0.01, presave_ratio=0.8)
    saved, logits = torch.zeros(N, 128), torch.ones(N)
    for k in range(12):
        b = batch(k)
        f = method.online.encoder(b.views[0]).detach()
        a = learnt_logits(f, saved, logits, method.recipe, seed=3, progress=k / 12)
        z, w = logits_of(method, b), a.double().softmax(0)
        truth = sum((w[i] * entropy(z[i], int(LABELS[INDEX[i]])) for i in range(N)), start=z.new_zeros(()))
        out = method(b, k / 12)
        check(method, out, truth)
        assert out.logs["ess"].item() == pytest.approx(float(1 / (w**2).sum() / N), rel=1e-4)
        method.after_step(b, out, k / 12)
        keep = k / (k + 1) if k < 10 else 0.8
        saved, logits = keep * saved + (1 - keep) * f, keep * logits + (1 - keep) * a
        torch.testing.assert_close(method.features, saved, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(method.logits, logits, rtol=1e-4, atol=1e-5)


def test_the_weights_of_the_whole_sample_are_those_of_stable_reweight() -> None:
    """Solved for after each epoch on the features as last seen; not even, and those never seen keep 1."""
    method = build("stablenet/tiny-whole", components=5, cosines=4)
    assert isinstance(method, StableNet) and M // N == 5
    bank = torch.zeros(M, 128)
    for k in range(5):
        index = (torch.arange(N) + 7 * k) % 37
        b = small.batch(N, (16,), seed=k, index=index)
        out = method(b, k / 10)
        assert torch.equal(method.weights, torch.ones(M))
        bank[index] = method.online.encoder(b.views[0]).detach()
        method.after_step(b, out, k / 10)
    seen = sorted({int((i + 7 * k) % 37) for k in range(5) for i in range(N)})
    z = principal_components(bank[seen].double().numpy(), 5)
    expected = rff(z, cosines=4, penalty=1e-4, seed=3).weights
    np.testing.assert_allclose(method.weights[seen], expected, rtol=1e-3, atol=1e-3)
    assert np.abs(expected - 1).max() > 0.3 and float(method.weights[37:].std()) == 0
    b = small.batch(N, (16,), seed=9, index=INDEX % 37)
    zs, w = logits_of(method, b), method.weights[INDEX % 37].double()
    truth = sum((w[i] * entropy(zs[i], int(LABELS[INDEX[i] % 37])) for i in range(N)), start=zs.new_zeros(())) / N
    check(method, method(b, 0.6), truth)


# ------------------------------------------------------------------------------------------- trained, loaded, refused


@pytest.mark.parametrize("method", ["groupdro", "stablenet"])
def test_a_run_leaves_a_classifier_and_can_be_loaded(
    method: str, environments: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    quick = ["--encoder=tiny", "--epochs=2", "--batch=32", "--size=12", "--monitor-every=0", "--device=cpu"]
    data = [f"--data={environments}", "--val-fraction=0.2"]
    assert main(["train", method, *data, *quick, f"--out={out}", f"--json={tmp_path / 'x.json'}"]) == 0
    whole = load_method(out)
    test = read_report("train", tmp_path / "x.json")["test"]
    assert test["accuracy"]["n"] == 64 and list(test["environments"]["environments"]) == ["north", "south", "west"]
    printed = " ".join(capsys.readouterr().out.split())
    assert "on 64 test images of places, by environment" in printed
    assert ("published descent hardly moves" in printed) == (method == "stablenet")
    assert isinstance(whole, Supervised)
    classifier = load_classifier(out / "classifier.safetensors")
    x = torch.rand(3, 3, 12, 12)
    torch.testing.assert_close(classifier(x), whole.online(x), rtol=1e-4, atol=1e-5)
    source = open_data(str(environments), val_fraction=0.2).test
    assert source is not None and source.labels is not None
    right = [classifier(b.views[0]).argmax(1) == b.label for b in plain_batches(source, size=12)]
    assert torch.cat(right).float().mean().item() == pytest.approx(test["accuracy"]["top1"])
    assert main(["probe", str(out), "--epochs=2", "--seeds=1", f"--json={tmp_path / 'x.json'}"]) == 0
    report = next(iter(json.loads((tmp_path / "x.json").read_text())["probe"].values()))
    assert list(report["environments"]["environments"]) == ["north", "south", "west"]


@pytest.mark.parametrize(
    ("method", "change", "says"),
    [
        ("groupdro", lambda a: a.pop("environment"), "does not say what environment an image is of"),
        ("irm", lambda a: a.update(environment=np.zeros(320)), "are of one environment: give at least two, or use erm"),
        ("erm", lambda a: a.pop("labels"), "320 of the 320 images of x have no label"),
        ("erm", lambda a: a["labels"].__setitem__(slice(5), -1), "5 of the 320 images of x have no label"),
        ("stablenet", lambda a: a["labels"].fill(2), "have the same label: give images of at least two classes"),
    ],
)
def test_what_there_is_to_learn_from_must_be_there(
    method: str, change: Any, says: str, environments: Path, tmp_path: Path
) -> None:
    with np.load(environments) as file:
        arrays = dict(copy.deepcopy(dict(file)))
    change(arrays)
    np.savez(tmp_path / "x.npz", **arrays)
    from contrastkit import train

    with pytest.raises(UserError, match=says):
        train(method, tmp_path / "x.npz", out=tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()
