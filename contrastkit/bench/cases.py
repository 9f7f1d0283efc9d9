"""What is measured: for each op its shapes, and every way to do the work."""

import functools
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from contrastkit import ops
from contrastkit.bench.measure import Missing, Way, fastest

Loss = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Case:
    """One piece of work: the ways to do it, and how much there is to do at the least."""

    shape: str
    direction: str
    ways: dict[str, Way]
    notes: dict[str, str]
    bytes: float = 0.0
    flop: float = 0.0


@dataclass
class Losses:
    """Ways to compute the mean loss of x, each differentiable, and whole ways that return loss and gradient at once."""

    x: Tensor
    losses: dict[str, Loss]
    whole: dict[str, Way] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def cases(self, shape: str, forward: dict[str, float], backward: dict[str, float]) -> Iterator[Case]:
        """Forward alone, then forward and backward together, with the bytes and FLOP of each."""
        apart: dict[str, Way] = {name: functools.partial(loss, self.x) for name, loss in self.losses.items()}
        yield Case(shape, "forward", apart, self.notes, **forward)
        both: dict[str, Way] = {name: functools.partial(self.gradient, loss) for name, loss in self.losses.items()}
        yield Case(shape, "forward+backward", both | self.whole, self.notes, **backward)

    def gradient(self, loss: Loss) -> tuple[Tensor, ...]:
        leaf = self.x.detach().requires_grad_()
        return torch.autograd.grad(loss(leaf), leaf)


def compiled(eager: Callable) -> Callable:
    """torch.compile of it, done at the first call."""
    made: dict[str, Callable] = {}

    def way(*args: Tensor) -> object:
        if not made:
            torch._dynamo.reset()
            logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it misses a GPU, loudly
            made["it"] = torch.compile(eager, dynamic=False)
            try:
                return made["it"](*args)
            except Exception as error:
                reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
                made["it"] = _raiser(f"torch.compile: {reason}")
        return made["it"](*args)

    return way


def _raiser(why: str) -> Callable:
    def way(*args: object) -> None:
        raise Missing(why)

    return way


def reference(op: str) -> Callable:
    """An op's reference, whatever kernel there may be."""
    overload = getattr(torch.ops.contrastkit, op).default
    return lambda *args: overload._op_dk(torch._C.DispatchKey.CompositeExplicitAutograd, *args)


def unit(*shape: int, device: str, dtype: torch.dtype = torch.float32) -> Tensor:
    return F.normalize(torch.randn(*shape, device=device), dim=-1).to(dtype)


def linear_cross_entropy(x: Tensor, weight: Callable[[Tensor], Tensor], target: Tensor, scale: float) -> Loss:
    """torch's loss of x over the rows of weight(x), with those of its options that are fastest here."""
    if not hasattr(F, "linear_cross_entropy"):
        return _raiser("F.linear_cross_entropy came with torch 2.13")
    options = torch.nn.LinearCrossEntropyOptions
    choices: dict[str, Any] = {
        "none": None,
        "auto": options(),
        "256": options(batch_chunk_size=256),
        "1024": options(batch_chunk_size=1024),
    }
    chosen: list[Any] = []

    def loss(x: Tensor, options: Any) -> Tensor:
        return F.linear_cross_entropy(x * scale, weight(x), target, options=options)

    def trial(options: Any) -> tuple[Tensor, ...]:
        leaf = x.detach().requires_grad_()
        return torch.autograd.grad(loss(leaf, options), leaf)

    def way(x: Tensor) -> Tensor:
        if not chosen:
            trials: dict[str, Way] = {name: functools.partial(trial, choice) for name, choice in choices.items()}
            chosen.append(choices[fastest(trials, x.device.type)])
        return loss(x, chosen[0])

    return way


def infonce_cases(device: str, dtype: torch.dtype, preset: str) -> Iterator[Case]:
    """MoCo's loss against its queue, and the gradient of the query."""
    tau = 0.2
    for N, K, C in [(256, 4096, 128)] if preset == "quick" else [(256, 4096, 128), (256, 65536, 128)]:
        q, p, keys = (unit(n, C, device=device, dtype=dtype) for n in (N, N, K))
        queue = keys.T.contiguous()  # the official code keeps [C, K]
        labels = torch.zeros(N, dtype=torch.int64, device=device)

        def eager(q: Tensor, p: Tensor = p, queue: Tensor = queue, labels: Tensor = labels) -> Tensor:
            """moco/builder.py and main_moco.py."""
            positive = torch.einsum("nc,nc->n", [q, p]).unsqueeze(-1)
            negative = torch.einsum("nc,ck->nk", [q, queue.clone().detach()])
            return F.cross_entropy(torch.cat([positive, negative], dim=1) / tau, labels)

        def ours(q: Tensor, p: Tensor = p, keys: Tensor = keys) -> Tensor:
            return ops.infonce(q, p, keys, tau=tau)[0].mean()

        def plain(q: Tensor = q, p: Tensor = p, keys: Tensor = keys) -> object:
            loss, *_, dq = reference("infonce")(q, p, keys, torch.tensor(tau), None, None, None, None, True)
            return loss.mean(), dq / len(q)

        def sdpa(q: Tensor = q, p: Tensor = p, keys: Tensor = keys) -> tuple[Tensor, Tensor]:
            O, L = _attention(q, keys, 1 / tau)  # noqa: E741
            s = (q.float() * p.float()).sum(1) / tau
            w = torch.sigmoid(L - s)
            return F.softplus(L - s).mean(), (w / (tau * len(q)))[:, None] * (O.float() - p.float())

        classes = torch.cat([p, keys])  # its only way to a positive for each row: the other rows' positives join
        target = torch.arange(N, device=device)
        yield from Losses(
            q,
            {
                "eager": eager,
                "compile": compiled(eager),
                "linear_cross_entropy": linear_cross_entropy(q, lambda q, w=classes: w, target, 1 / tau),  # type: ignore[misc]
                "lightly": _lightly_infonce(p, keys, tau),
                "ours": ours,
            },
            {"sdpa": sdpa, "reference": plain},
            {
                "eager": "einsum, clone, cat, cross_entropy",
                "linear_cross_entropy": "positives of other rows are negatives too",
                "lightly": "NTXentLoss with a memory bank, which it also writes",
            },
        ).cases(
            f"N={N} K={K} C={C}",
            # Each key is read once; scores and the weighted sum of keys are 2NKC each.
            {"bytes": (K + 2 * N) * C * q.element_size(), "flop": 2.0 * N * K * C},
            {"bytes": (K + 3 * N) * C * q.element_size(), "flop": 4.0 * N * K * C},
        )


def _attention(q: Tensor, keys: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """softmax(scale q keys^T) keys and the log-sum-exp, by torch's fused attention."""
    Q, K = q[None, None], keys[None, None]
    aten = torch.ops.aten
    if q.device.type == "cpu":
        O, L, *_ = aten._scaled_dot_product_flash_attention_for_cpu(Q, K, K, scale=scale)  # noqa: E741
    elif q.dtype == torch.float32:
        O, L, *_ = aten._scaled_dot_product_efficient_attention(Q, K, K, None, True, scale=scale)  # noqa: E741
    else:
        O, L, *_ = aten._scaled_dot_product_flash_attention(Q, K, K, scale=scale)  # noqa: E741
    return O[0, 0], L[0, 0, : len(q)]


def _lightly_infonce(p: Tensor, keys: Tensor, tau: float) -> Loss:
    try:
        from lightly.loss import NTXentLoss
    except ImportError:
        return _raiser("lightly is not installed")
    module = NTXentLoss(temperature=tau, memory_bank_size=tuple(keys.shape)).to(keys.device)
    module.memory_bank.bank.copy_(keys.T if module.memory_bank.bank.shape != keys.shape else keys)
    return lambda q: module(q.float(), p.float())


def ntxent_cases(device: str, dtype: torch.dtype, preset: str) -> Iterator[Case]:
    """SimCLR's loss over a batch of N rows, two views of N / 2 images, and its gradient."""
    tau, C = 0.1, 128
    for N in (1024,) if preset == "quick" else (4096, 8192):
        z = unit(N, C, device=device, dtype=dtype)
        target = (torch.arange(N, device=device) + N // 2) % N
        own = torch.eye(N // 2, device=device)

        def eager(z: Tensor, own: Tensor = own) -> Tensor:
            """simclr/objective.py."""
            (a, b), n = z.chunk(2), len(own)
            labels = torch.arange(n, device=z.device)
            aa, bb = (x @ x.T / tau - own * 1e9 for x in (a, b))
            ab, ba = a @ b.T / tau, b @ a.T / tau
            one = F.cross_entropy(torch.cat([ab, aa], dim=1), labels)
            return (one + F.cross_entropy(torch.cat([ba, bb], dim=1), labels)) / 2

        def plain(z: Tensor = z, N: int = N) -> object:
            loss, lse, _ = reference("ntxent")(z, torch.tensor(tau), N // 2, 0, N)
            g = torch.full_like(loss, 1 / N)
            return reference("ntxent_dz")(g, loss, lse, z, torch.tensor(tau), N // 2, 0, N)

        yield from Losses(
            z,
            {
                "eager": eager,
                "compile": compiled(eager),
                "linear_cross_entropy": linear_cross_entropy(z, lambda z: z, target, 1 / tau),
                "lightly": _lightly_ntxent(tau),
                "ours": lambda z: ops.ntxent(z, tau=tau)[0].mean(),
            },
            {"reference": plain},
            {
                "eager": "four products, cat, cross_entropy",
                "linear_cross_entropy": "rows are classes, a row's own too",
                "lightly": "NTXentLoss",
            },
        ).cases(
            f"N={N} C={C}",
            # Half of the symmetric scores forward; backward that half again, and the weighted sum of rows.
            {"bytes": 2 * N * C * z.element_size(), "flop": 1.0 * N * N * C},
            {"bytes": 4 * N * C * z.element_size(), "flop": 4.0 * N * N * C},
        )


def _lightly_ntxent(tau: float) -> Loss:
    try:
        from lightly.loss import NTXentLoss
    except ImportError:
        return _raiser("lightly is not installed")
    module = NTXentLoss(temperature=tau)
    return lambda z: module(*z.float().chunk(2))


def bank_cases(device: str, dtype: torch.dtype, preset: str) -> Iterator[Case]:
    """InstDisc's NCE against rows drawn from a bank of dtype, and the gradient of the float32 query."""
    tau, C = 0.07, 128
    N, m, M = (64, 1024, 50_000) if preset == "quick" else (64, 4096, 640_000)
    bank, query = unit(M, C, device=device, dtype=dtype), unit(N, C, device=device)
    index, Z = torch.randint(0, M, (N, 1 + m), device=device), torch.tensor(float(M), device=device)

    def eager(query: Tensor) -> Tensor:
        """lib/NCEAverage.py and lib/NCECriterion.py."""
        weight = torch.index_select(bank, 0, index.view(-1)).view(N, 1 + m, C)
        out = torch.bmm(weight.to(query.dtype), query.view(N, C, 1)).squeeze(2)
        P, noise = out.div(tau).exp() / Z, m / M + 1e-7
        positive = (P[:, 0] / (P[:, 0] + noise)).log()
        return -(positive.sum() + (m / M / (P[:, 1:] + noise)).log().sum()) / N

    def plain() -> object:
        tau_ = torch.tensor(tau)
        return reference("bank_loss")(query[:, None], bank[:, None], index, tau_, Z[None], True)

    weights = torch.rand(N, 1 + m, device=device).to(dtype)
    # A row of the bank is read once, of 512 bytes in float32 and at a random place.
    work = {"bytes": float(index.numel() * (C * bank.element_size() + 8)), "flop": 2.0 * index.numel() * C}
    yield from Losses(
        query,
        {
            "eager": eager,
            "compile": compiled(eager),
            "ours": lambda query: ops.bank_loss(query, bank, index, tau=tau, Z=Z)[0].mean(),
        },
        {
            "embedding_bag": lambda: F.embedding_bag(index, bank, per_sample_weights=weights, mode="sum"),
            "reference": plain,
        },
        {
            "eager": "index_select, bmm, exp, NCE",
            "embedding_bag": "the weighted sum of the rows alone, its weights given",
        },
    ).cases(f"N={N} draws={1 + m} M={M} C={C}", work, work | {"flop": 2 * work["flop"]})


def bank_update_cases(device: str, dtype: torch.dtype, preset: str) -> Iterator[Case]:
    """A batch of float32 features moves its rows of the bank."""
    N, M, C, momentum = 256, 50_000 if preset == "quick" else 640_000, 128, 0.5
    bank, x = unit(M, C, device=device, dtype=dtype), unit(N, C, device=device)
    y = torch.randperm(M, device=device)[:N]

    def eager() -> None:
        """lib/NCEAverage.py, the end of its backward."""
        row = bank.index_select(0, y)
        row = row.mul_(momentum).add_(x.to(dtype) * (1 - momentum))
        bank.index_copy_(0, y, row.div(row.pow(2).sum(1, keepdim=True).pow(0.5)))

    ways: dict[str, Way] = {
        "eager": eager,
        "reference": lambda: reference("bank_update_")(bank, y, x, momentum),
        "ours": lambda: ops.bank_update_(bank, y, x, m=momentum),
    }
    notes = {"eager": "index_select, mul_, add_, norm, div, index_copy_"}
    work = N * C * (x.element_size() + 2 * bank.element_size()) + 8 * N
    yield Case(f"N={N} M={M} C={C}", "forward", ways, notes, bytes=work)


def queue_cases(device: str, dtype: torch.dtype, preset: str) -> Iterator[Case]:
    """A batch of float32 features becomes keys of the queue: normalise, cast, write, move on."""
    N, K, C = (256, 4096, 128) if preset == "quick" else (256, 65536, 128)
    x = torch.randn(N, C, device=device)
    keys, pointer = torch.zeros(K, C, dtype=dtype, device=device), torch.tensor(0, device=device)

    def eager() -> None:
        """moco/builder.py, on rows instead of columns; it reads the pointer on the host."""
        at = int(pointer)
        keys[at : at + N] = F.normalize(x, dim=1)
        pointer[...] = (at + N) % K

    ways: dict[str, Way] = {
        "eager": eager,
        "reference": lambda: reference("queue_push_")(keys, pointer, x, None, True),
        "ours": lambda: ops.queue_push_(keys, pointer, x, normalize=True),
    }
    notes = {"eager": "normalize, int(pointer), slice"}
    yield Case(f"N={N} K={K} C={C}", "forward", ways, notes, bytes=N * C * (x.element_size() + keys.element_size()))


def ema_cases(device: str, dtype: torch.dtype, preset: str) -> Iterator[Case]:
    """float32 averages of a network's tensors, which are of `dtype`: its parameters, and its whole state."""
    import torchvision

    m = 0.999
    names = (
        [("resnet18", False)] if preset == "quick" else [("resnet50", False), ("resnet50", True), ("vit_b_16", False)]
    )
    for name, whole in names:
        with torch.device("meta"):
            model = torchvision.models.get_model(name)
        tensors = list(model.state_dict().values() if whole else model.parameters())
        shapes, counters = (
            [t.shape for t in tensors if t.is_floating_point()],
            len([t for t in tensors if not t.is_floating_point()]),
        )
        averages = [torch.randn(s, device=device) for s in shapes]
        params = [torch.randn(s, device=device).to(dtype) for s in shapes]
        counts, news = ([torch.tensor(7, device=device) for _ in range(counters)] for _ in range(2))

        def eager(
            averages: list[Tensor] = averages,
            params: list[Tensor] = params,
            counts: list[Tensor] = counts,
            news: list[Tensor] = news,
        ) -> None:
            """main_dino.py; for a whole state the counters of batch norm are copied, as in timm's ModelEma."""
            for a, p in zip(averages, params, strict=True):
                a.mul_(m).add_((1 - m) * p)
            for a, p in zip(counts, news, strict=True):
                a.copy_(p)

        def with_counts(
            update: Callable[[list[Tensor], list[Tensor]], object],
            averages: list[Tensor] = averages,
            params: list[Tensor] = params,
            counts: list[Tensor] = counts,
            news: list[Tensor] = news,
        ) -> Way:
            def way() -> None:
                update(averages, params)
                if counts:
                    torch._foreach_copy_(counts, news)

            return way

        ways: dict[str, Way] = {"eager": eager, "ours": with_counts(lambda a, p: ops.ema_(a, p, m))}
        ways["foreach"] = (
            with_counts(lambda a, p: torch._foreach_lerp_(a, p, 1 - m))
            if dtype == torch.float32
            else _raiser("_foreach_lerp_ wants one dtype")
        )
        numel = sum(p.numel() for p in params)
        yield Case(
            f"{name} {'state' if whole else 'parameters'} {numel / 1e6:.1f}M",
            "forward",
            ways,
            {"eager": "loop of mul_, mul, add_", "foreach": "_foreach_lerp_"},
            bytes=numel * (8 + params[0].element_size()),
        )


def sinkhorn_cases(device: str, dtype: torch.dtype, preset: str) -> Iterator[Case]:
    """SwAV's codes in three iterations; scores are of `dtype`."""
    epsilon = 0.05
    for N, K in [(256, 3000)] if preset == "quick" else [(256, 3000), (2048, 3000)]:
        scores = (unit(N, 128, device=device) @ unit(K, 128, device=device).T).to(dtype)

        def eager(scores: Tensor) -> Tensor:
            """main_swav.py."""
            Q = torch.exp(scores.float() / epsilon).t()
            B, K = Q.shape[1], Q.shape[0]
            Q = Q / Q.sum()
            for _ in range(3):
                Q /= Q.sum(dim=1, keepdim=True)
                Q /= K
                Q /= Q.sum(dim=0, keepdim=True)
                Q /= B
            Q *= B
            return Q.t()

        yield Case(
            f"N={N} K={K}",
            "forward",
            {
                "eager": functools.partial(eager, scores),
                "compile": functools.partial(compiled(eager), scores),
                "lightly": functools.partial(_lightly_sinkhorn(epsilon), scores),
                "reference": functools.partial(reference("sinkhorn"), scores, epsilon, 3),
                "ours": functools.partial(ops.sinkhorn, scores, epsilon=epsilon, iterations=3),
            },
            {"eager": "exp, then divide the whole matrix seven times"},
            # Read the scores and write E, read E twice, read E and write the codes: each pass needs the one before.
            bytes=N * K * (scores.element_size() + 5 * 4),
        )


def _lightly_sinkhorn(epsilon: float) -> Callable[[Tensor], Tensor]:
    try:
        from lightly.loss.swav_loss import sinkhorn
    except ImportError:
        return _raiser("lightly is not installed")
    return lambda scores: sinkhorn(scores.float(), iterations=3, epsilon=epsilon)


CASES: dict[str, Callable[[str, torch.dtype, str], Iterator[Case]]] = {
    "infonce": infonce_cases,
    "ntxent": ntxent_cases,
    "bank": bank_cases,
    "bank_update": bank_update_cases,
    "queue": queue_cases,
    "ema": ema_cases,
    "sinkhorn": sinkhorn_cases,
}
