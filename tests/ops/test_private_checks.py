"""Operators called past their public functions: each argument, made wrong, is refused before its memory is read."""

import math
import multiprocessing
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

import pytest
import torch

from contrastkit.compat import op_names

# Dtypes and sizes of each tensor, and its values where not any will do. Sizes with the same letter are equal; a small
# letter's size may be any but 0.
F = "float16, bfloat16, float32 or float64"
W = "float32 or float64"
A = "the dtype of arithmetic"
I = "int64"  # noqa: E741
U8, B, F32, F64 = "uint8", "bool", "float32", "float64"
MASKS = {"exclude": (I, "NE"), "n_valid": (I, ""), "query_ids": (I, "N"), "key_ids": (I, "K")}
PAIRS = {"x": (F, "NC"), "y": (F, "NC")}
PART = {"ids": (I, "N"), "first": 1, "last": 5}
SIGNATURES: dict[str, dict[str, Any]] = {
    "infonce": {
        "query": (F, "NC"), "positive": (F, "NC"), "keys": (F, "KC"), "tau": (F, ""), **MASKS, "with_dquery": True,
    },
    "infonce_dkeys": {"g": (F, "N"), "lse": (W, "N"), "query": (F, "NC"), "keys": (F, "KC"), "tau": (F, ""), **MASKS},
    "ntxent": {"z": (F, "NC"), "tau": (F, ""), "n": 3, "first": 1, "last": 5},
    "ntxent_dz": {
        "g": (F, "N"), "loss": (A, "N"), "lse": (A, "N"), "z": (F, "NC"), "tau": (F, ""),
        "n": 3, "first": 1, "last": 5,
    },
    "clip_loss": {**PAIRS, "tau": (F, ""), **PART},
    "clip_loss_dxy": {"g": (F, "2N"), "loss": (A, "2N"), "lse": (A, "2N"), **PAIRS, "tau": (F, ""), **PART},
    "siglip_loss": {**PAIRS, "t": (F, ""), "b": (F, ""), **PART},
    "siglip_loss_dxy": {"g": (F, "N"), **PAIRS, "t": (F, ""), "b": (F, ""), **PART},
    "bank_loss": {
        "query": (F, "NVC"), "bank": (F, "MVC"), "index": (I, "Nd"), "tau": (F, ""), "Z": (F, "V"), "with_dquery": True,
    },
    "bank_update_": {"bank": (F, "MVC"), "index": (I, "N"), "x": (F, "NVC"), "m": 0.5},
    "queue_push_": {"keys": (F, "kC"), "pointer": (I, ""), "x": (F, "NC"), "n_valid": (I, ""), "normalize": True},
    "ema_": {"averages": [(F, "NC"), (F, "K")], "params": [(F, "NC"), (F, "K")], "m": 0.9},
    "sinkhorn": {"scores": (F, "NK"), "epsilon": 0.05, "iterations": 3},
    "sinkhorn_begin": {"scores": (F, "NK"), "tops": (A, "K"), "epsilon": 0.05},
    "sinkhorn_sums": {"E": (A, "NK"), "t": (A, "K"), "scale": 1.0},
    "sinkhorn_end_": {"E": (A, "NK"), "t": (A, "K")},
    "augment": {
        "pixels": (U8, "P"), "places": (I, "Q6", [[0, 3, 4, 12, 4, 1]] * 2), "image": (I, "R", [0, 1, 0]),
        "box": (I, "R4", [[0, 0, 3, 4], [1, 1, 2, 2], [0, 0, 1, 1]]), "flip": (B, "R"), "pose": (F32, "R23"),
        "jitter": (I, "R4", [[3, 1, 0, 2], [-1] * 4, [2, -1, -1, -1]]), "factors": (F32, "R4"), "gray": (B, "R"),
        "sigma": (F64, "R"), "solarize": (B, "R"), "mean": (F32, "L"), "std": (F32, "L"), "channels": 3, "size": 5,
        "radius": 2, "gray_first": False, "dtype": torch.float32, "channels_last": False,
        "interpolation": "bicubic", "antialias": True, "border": "zero",
    },
}  # fmt: skip
SIZES = {
    "P": 36,
    "Q": 2,
    "R": 3,
    "L": 3,
    "2": 2,
    "3": 3,
    "4": 4,
    "6": 6,
    "N": 6,
    "C": 4,
    "K": 10,
    "k": 10,
    "E": 2,
    "V": 2,
    "M": 9,
    "d": 3,
}
NOT_FLOATING = [torch.int64, torch.bool, torch.complex64, torch.float8_e4m3fn]
WRONG_DTYPES = {
    F: NOT_FLOATING,
    W: [*NOT_FLOATING, torch.float16, torch.bfloat16],
    A: [*NOT_FLOATING, torch.float16, torch.bfloat16, torch.float64],  # float64 is another's dtype here
    I: [torch.int32, torch.float32],
    U8: [torch.int8, torch.float32],
    B: [torch.uint8, torch.float32],
    F32: [torch.float64, torch.bfloat16, torch.int64],
    F64: [torch.float32, torch.int64],
}
NUMBERS = {"tau", "t", "b"}  # 0-dim tensors that may stay on the CPU
MOST, LEAST = 2**63 - 1, -(2**63)
WRONG_NUMBERS: dict[str, list[Any]] = {
    "n": [0, -1, -3, 2, 4, 2**62, MOST, MOST - 2, LEAST],  # 2 (MOST - 2) is -6 in 64 bits, a divisor of N
    "first": [-1, 6, MOST, LEAST],
    "last": [0, 7, -1, MOST, LEAST],
    "m": [-0.1, 1.1, math.nan],
    "epsilon": [0.0, -1.0, math.nan],
    "iterations": [0, -1, LEAST],
    "channels": [0, -1, 2, MOST, LEAST],
    "size": [0, -1, 2, MOST, LEAST],
    "radius": [-1, 5, MOST, LEAST],
    "dtype": [torch.float64, torch.float16, torch.int64],
}
OPS = tuple(SIGNATURES)
fork = multiprocessing.get_context("fork")


def test_the_signatures_are_those_of_all_ops():
    arguments = {op: [a.name for a in getattr(torch.ops.contrastkit, op).default._schema.arguments] for op in OPS}
    assert {op: list(signature) for op, signature in SIGNATURES.items()} == arguments
    assert sorted(OPS) == op_names("contrastkit")


def made(spec: Any, device: str) -> Any:
    if isinstance(spec, list):
        return [made(s, device) for s in spec]
    if not isinstance(spec, tuple):
        return spec
    if len(spec) == 3:
        return torch.tensor(spec[2], device=device)
    shape = [SIZES[letter] for letter in spec[1]]
    dtypes = {I: torch.int64, U8: torch.uint8, B: torch.bool, F64: torch.float64}
    if spec[0] in (I, U8, B):
        return torch.randint(0, 3, shape, device=device).to(dtypes[spec[0]])
    return torch.rand(shape, device=device, dtype=dtypes.get(spec[0]))


def wrong_tensors(op: str, name: str, spec: Any, right: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    tensors = [s for value in SIGNATURES[op].values() for s in (value if isinstance(value, list) else [value])]
    tensors = [s for s in tensors if isinstance(s, tuple)]
    letters = "".join(s[1] for s in tensors)
    for dtype in WRONG_DTYPES[spec[0]]:
        yield str(dtype), right.to(dtype)
    for dim, letter in enumerate(spec[1]):
        others = [right.shape[dim] // 2, right.shape[dim] - 1, right.shape[dim] + 1]
        fixed = letters.count(letter) > 1 or letter.isdigit()
        for size in [0, *others] if fixed else [0] if letter.islower() else []:
            shape = [*right.shape[:dim], size, *right.shape[dim + 1 :]]
            yield str(shape), right.new_ones(shape)
    yield "a dimension in front", right[None]
    yield "a dimension behind", right[..., None]
    if right.ndim:
        yield "a dimension less", right.select(-1, 0)
    elsewhere = ["meta", "cpu"] if right.is_cuda and name not in NUMBERS else ["meta"]
    if name in NUMBERS or len(tensors) - len(NUMBERS & SIGNATURES[op].keys()) > 1:
        for device in elsewhere:
            yield f"on {device}", right.to(device)


def wrong(op: str, name: str, spec: Any, right: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(spec, list):
        yield "one less", right[:-1]
        for i, one in enumerate(spec):
            for what, x in wrong_tensors(op, name, one, right[i]):
                yield f"{i} {what}", [*right[:i], x, *right[i + 1 :]]
    elif isinstance(spec, tuple):
        yield from wrong_tensors(op, name, spec, right)
    else:
        yield from ((str(number), number) for number in WRONG_NUMBERS.get(name, []))


def wrong_calls(op: str, device: str) -> dict[str, Callable[[], object]]:
    def call(changed: str, value: object) -> Callable[[], object]:
        def called() -> object:
            arguments = {name: made(spec, device) for name, spec in SIGNATURES[op].items()}
            return getattr(torch.ops.contrastkit, op)(**arguments | {changed: value})

        return called

    calls = {}
    for name, spec in SIGNATURES[op].items():
        for what, value in wrong(op, name, spec, made(spec, device)):
            calls[f"{name}: {what}"] = call(name, value)
    for name in {"query_ids", "key_ids", "mean", "std"} & SIGNATURES[op].keys():
        calls[f"no {name}"] = call(name, None)
    return calls


def outcome(call: Callable[[], object]) -> str:
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "accepted"


def in_a_child(calls: dict[str, Callable[[], object]]) -> dict[str, str]:
    """The outcome of each call; a call that kills the process is one, and a new process takes the calls after it."""

    def child(sender: Connection, labels: list[str]) -> None:
        torch.set_num_threads(1)
        for label in labels:
            sender.send(outcome(calls[label]))

    found: dict[str, str] = {}
    while left := [label for label in calls if label not in found]:
        receiver, sender = fork.Pipe(duplex=False)
        process = fork.Process(target=child, args=(sender, left))
        process.start()
        sender.close()
        for label in left:
            try:
                found[label] = receiver.recv()
            except EOFError:
                process.join()
                found[label] = f"the process ended with {process.exitcode}"
                break
        process.join()
    return found


@pytest.mark.parametrize("op", OPS)
def test_a_wrong_argument_is_refused_and_no_process_dies(device, op):
    arguments = {name: made(spec, device) for name, spec in SIGNATURES[op].items()}
    getattr(torch.ops.contrastkit, op)(**arguments)
    calls = wrong_calls(op, device)
    outcomes = {label: outcome(call) for label, call in calls.items()} if device == "cuda" else in_a_child(calls)
    assert {label: found for label, found in outcomes.items() if not found.startswith(f"ValueError: {op}: ")} == {}


def strided(x: Any) -> Any:
    """The same numbers, every other one in memory."""
    if isinstance(x, list):
        return [strided(one) for one in x]
    return torch.stack([x, (x + 1).to(x.dtype)], dim=-1)[..., 0] if isinstance(x, torch.Tensor) else x


@pytest.mark.parametrize("op", OPS)
def test_tensors_may_have_any_strides(device, op):
    dense = {name: made(spec, device) for name, spec in SIGNATURES[op].items()}
    apart = {name: strided(value) for name, value in dense.items()}
    results = [getattr(torch.ops.contrastkit, op)(**arguments) for arguments in (dense, apart)]
    torch.testing.assert_close(results[1], results[0])
    unchanged = [
        [x for x in arguments.values() if not isinstance(x, torch.dtype | str)] for arguments in (apart, dense)
    ]
    torch.testing.assert_close(*unchanged)
