"""Losses that have no operator: pure functions, one loss per row, in float32 and the papers' notation."""

import torch
import torch.nn.functional as F
from torch import Tensor


def swapped_prediction(scores: Tensor, q: Tensor, *, tau: float) -> Tensor:
    """Each code against the prediction of every other view of the image (SwAV, Eqs. 1 and 2; Sec. 3.2 for V > 2).

        loss = 1/A sum_i 1/(V - 1) sum_{v != i} l(z_v, q_i)      l(z, q) = -sum_k q_k log softmax(z . c / tau)_k

    Args:
        scores: [V, N, K] floating, z_v . c_k; the codes belong to the first A views.
        q: [A, N, K] codes, rows that sum to 1.

    Returns:
        [N] the loss of each image; ln K if all scores are equal.
    """
    log_p = F.log_softmax(scores.float() / tau, dim=-1)
    every = log_p.sum(0)  # [N, K]
    agreements = [(code * (every - own)).sum(-1) for code, own in zip(q, log_p, strict=False)]
    return -sum(agreements, start=every.new_zeros(())) / (len(q) * (len(scores) - 1))


def invaspread(f: Tensor, keys: Tensor, itself: Tensor, positive: Tensor, *, tau: float) -> tuple[Tensor, Tensor]:
    """Invariance and spreading (Ye et al. 2019, Eq. 7, as in the official BatchAverage.py).

        P_ij = exp(f_i.k_j/tau) / sum over l other than i of exp(f_i.k_l/tau)
        L_i  = -log P_ip - sum over j other than i and p of log(1 - P_ij)

    Args:
        f: [n, C] unit rows.
        keys: [K, C] unit rows to compare with, including f's own. Constants: pass them detached.
        itself: int64 [n], position of each row of f among the keys.
        positive: int64 [n], position of its other view p.

    Returns:
        [n] the loss of each row; bool [n], whether the positive is the nearest key.
    """
    with torch.autocast(f.device.type, enabled=False):
        s = f.float() @ keys.float().T / tau  # [n, K]
    log_p = s.scatter(1, itself[:, None], -torch.inf).log_softmax(1)
    p = log_p.exp()
    top = p.argmax(1, keepdim=True)
    # 1 - P for the largest P is computed as the sum of all others: subtraction from 1 would cancel.
    others = p.scatter(1, top, 0).sum(1, keepdim=True)
    log_not = (1 - p).scatter(1, top, others).clamp(min=torch.finfo(p.dtype).tiny).log()  # 0 for the row itself
    log_not = log_not.scatter(1, positive[:, None], 0)
    log_positive = log_p.gather(1, positive[:, None])[:, 0]
    return -log_positive - log_not.sum(1), log_positive >= log_p.amax(1)


def regression(p: Tensor, z: Tensor) -> Tensor:
    """Squared distance of the prediction to the target, both of unit length: ||p - z||^2 = 2 - 2 cos(p, z).

    Args:
        p: predictions, float [N, C]; normalised here.
        z: targets, float [N, C]; normalised here.

    Returns:
        float32 [N], in [0, 4].

    Source: BYOL, arXiv:2006.07733, Eq. 2.
    """
    return 2 + 2 * negative_cosine(p, z)


def negative_cosine(p: Tensor, z: Tensor) -> Tensor:
    """Negative cosine similarity D(p, z) = -p . z / (||p|| ||z||).

    Args:
        p: predictions, float [N, C].
        z: targets, float [N, C]; detach them for the stop-gradient.

    Returns:
        float32 [N], in [-1, 1].

    Source: SimSiam, arXiv:2011.10566, Eq. 1.
    """
    return -(F.normalize(p.float(), dim=1) * F.normalize(z.float(), dim=1)).sum(1)


def infonce_of_union(loss_a: Tensor, loss_b: Tensor) -> Tensor:
    """InfoNCE over two dictionaries together, from the losses over each with the same positive.

        loss = log(e^a + e^b - 1)

    With A and B the sums of exp(s) over the negatives of each, a = log(1 + A / e^{s+}), b = log(1 + B / e^{s+}), and
    the loss of the union is log(1 + (A + B) / e^{s+}). Gradients flow to both.

    Args:
        loss_a, loss_b: floating [N], not negative.

    Returns:
        [N], at least as large as either.
    """
    low, high = torch.minimum(loss_a, loss_b), torch.maximum(loss_a, loss_b)
    return high + torch.log1p(torch.exp(low - high) - torch.exp(-high))


def dino(student: Tensor, teacher: Tensor, centre: Tensor, *, tau_s: float, tau_t: float) -> Tensor:
    """Each output of the teacher against the student's for every other view of the image (DINO, Eqs. 1 and 3).

        loss = mean over the pairs a != v of -sum_k P_t(a)_k log P_s(v)_k      P_s = softmax(student / tau_s)

    with P_t of :func:`sharpened`. No intermediate is larger than the student's outputs, whatever the number of pairs.

    Args:
        student: [V, N, K] floating; its first A views are the teacher's.
        teacher: [A, N, K] floating; detached.
        centre: [K].

    Returns:
        float32 [N] the loss of each image; ln K where the student's output is uniform.
    """
    return swapped_prediction(student, sharpened(teacher, centre, tau_t), tau=tau_s)


def sharpened(teacher: Tensor, centre: Tensor, tau_t: float) -> Tensor:
    """P_t = softmax((teacher - centre) / tau_t), float32 in the shape of teacher (DINO, Sec. 3.1, algorithm 1)."""
    return F.softmax((teacher.float() - centre) / tau_t, dim=-1)


def soft_cross_entropy(student: Tensor, teacher: Tensor, *, T: float) -> Tensor:
    """T^2 H(P_t, P_s) with P = softmax(logits / T): the teacher's outputs as targets (SimCLR v2, Eq. 2; Hinton et al.
    2015, Sec. 2, for the factor, which keeps the size of gradients).

    Args:
        student: logits, floating [N, C].
        teacher: logits, floating [N, C]; detached.

    Returns:
        float32 [N].
    """
    return T * T * -(F.softmax(teacher.float() / T, dim=1) * F.log_softmax(student.float() / T, dim=1)).sum(1)


def knowledge_distillation(student: Tensor, teacher: Tensor, *, T: float) -> Tensor:
    """T^2 KL(P_t || P_s) with P = softmax(logits / T): :func:`soft_cross_entropy` less the entropy of its targets.

    Args: see there.
    """
    return soft_cross_entropy(student, teacher, T=T) - soft_cross_entropy(teacher, teacher, T=T)
