"""All CPU kernels: every instruction set, forks, several threads at once."""

import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from contrastkit import ops
from contrastkit.ops import extension
from tests.ops.views import in_memory, photo, random_rows, table

BUILT = extension.info()["extension"]
needs_kernels = pytest.mark.skipif(BUILT is None, reason=f"contrastkit._C is {extension.info()['aside']}")


@needs_kernels
@pytest.mark.slow
@pytest.mark.parametrize("isa", (BUILT or {"isas": ""})["isas"].split())
def test_each_instruction_set_passes_the_tests_of_ops(isa):
    if isa == BUILT["isa"]:
        pytest.skip("the tests beside this one run on it")
    code = "from contrastkit.ops import extension; print(extension.info()['extension']['isa'])"
    environment = {**os.environ, "CONTRASTKIT_ISA": isa}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    ).stdout.strip()
    if result != isa:
        pytest.skip(f"this CPU has no {isa}")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(Path(__file__).parent)]
    command += ["-k", "cpu and not compile and not opcheck", "--deselect", __file__]
    completed = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert completed.returncode == 0, completed.stdout[-3000:]


def results(device="cpu"):
    """Every op once, from one seed."""
    torch.manual_seed(0)
    z = F.normalize(torch.randn(300, 40), dim=1).to(device).requires_grad_()
    keys = F.normalize(torch.randn(2000, 40), dim=1).to(device).requires_grad_()
    index = torch.randint(0, 2000, (300, 20)).to(device)
    losses = [
        ops.infonce(z, z.detach(), keys, tau=0.1)[0].sum(),
        ops.ntxent(z, tau=0.1)[0].sum(),
        ops.clip_loss(z, keys[:300], tau=0.1)[0].sum(),
        ops.siglip_loss(z, keys[:300], t=10.0, b=-10.0)[0].sum(),
        ops.bank_loss(z, keys.detach(), index, tau=0.1)[0].sum(),
    ]
    bank, pointer = keys.detach().clone(), torch.tensor(600, device=device)
    queue, average = torch.zeros(700, 40, device=device), torch.zeros(300, 40, device=device)
    ops.bank_update_(bank, index[:, 0], z, m=0.5)
    ops.queue_push_(queue, pointer, z, normalize=True)
    ops.ema_([average], [z], 0.9)
    codes = ops.sinkhorn(z.detach() @ keys.detach().T)
    pixels, places = in_memory([photo(3, 40, 50), photo(3, 64, 33)], "innermost")
    rows = table(random_rows(20, [photo(3, 40, 50), photo(3, 64, 33)]), device)
    views = ops.augment(pixels.to(device), places.to(device), **rows, channels=3, size=24, radius=9)
    grads = [g for loss in losses for g in torch.autograd.grad(loss, (z, keys), allow_unused=True) if g is not None]
    return [x.detach() for x in (*losses, *grads, bank, queue, pointer, average, codes, views)]


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@needs_kernels
def test_a_forked_child_computes_the_same():
    torch.set_num_threads(2)
    expected = results()  # the parent's thread pool is running; the child has none
    torch.set_num_threads(1)

    def child():
        torch.set_num_threads(1)  # as in a DataLoader's workers
        os._exit(0 if same(results(), expected) else 1)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(60)
    assert process.exitcode == 0


@needs_kernels
def test_calls_from_several_threads_do_not_meet():
    torch.manual_seed(0)
    cases = [(F.normalize(torch.randn(200, 24), dim=1), torch.rand(400, 300)) for _ in range(4)]

    def work(case):
        z, scores = case
        losses = [*ops.ntxent(z, tau=0.1), *ops.clip_loss(z, z, tau=0.1), *ops.siglip_loss(z, z, t=10.0, b=-10.0)]
        return [*losses, *ops.infonce(z, z, z, tau=0.1), ops.sinkhorn(scores)]

    alone = [work(case) for case in cases]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            assert all(same(a, b) for a, b in zip(pool.map(work, cases), alone, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_every_op_works_on_the_current_stream():
    expected = results("cuda")
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(10_000_000)  # work on another stream would run too early
        result = results("cuda")
    stream.synchronize()
    assert same(result, expected)
