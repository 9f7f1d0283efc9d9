"""Faults of processes, and of the machine they run on."""

import os
import resource
import signal

from tests.campaign.box import FAST, PROGRAM, SHORT, Box, fault
from tests.campaign.kills import pictures, unreadable
from tests.campaign.trial import CODE, LEFT, LOST, UNCLEAR, Command


@fault("kill -9 of one worker")
def _one_worker(box: Box) -> None:
    command = box.running()
    os.kill(command.workers()[0], signal.SIGKILL)
    box.ended(command, {2}, "a data-loading process was killed")
    box.resumes()


@fault("kill -9 of all workers")
def _all_workers(box: Box) -> None:
    command = box.running()
    for worker in command.workers():
        os.kill(worker, signal.SIGKILL)
    box.ended(command, {2}, "a data-loading process was killed")


@fault("kill -9 of the main process: its workers go too")
def _main_process(box: Box) -> None:
    command = box.running()
    box.trial.check(len(command.workers()) == 2, CODE, f"{len(command.workers())} workers")
    command.signal(signal.SIGKILL)
    box.ended(command, {-signal.SIGKILL})
    box.resumes()


@fault("kill -9 of a worker of knn")
def _worker_of_knn(box: Box) -> None:
    box.ended(box.train(*SHORT, workers=0), {0})
    pictures(box.folder / "many", 20_000)
    command = box.command("knn", str(box.run), f"--data={box.folder / 'many'}", "--workers=2", "--val-fraction=0.5")
    box.reached(command.wait_for(lambda: len(command.workers()) == 2), command)
    os.kill(command.workers()[0], signal.SIGKILL)
    box.ended(command, {2}, "a data-loading process was killed")


@fault("stopped workers, then Ctrl-C twice")
def _stopped_workers(box: Box) -> None:
    """The first waits for the end of the step, which does not come; the second aborts."""
    command = box.running()
    for worker in command.workers():
        os.kill(worker, signal.SIGSTOP)
    for _ in range(2):
        command.wait_for(lambda: False, 5)
        command.signal(signal.SIGINT)
    box.ended(command, {128 + signal.SIGINT}, "waiting for the end of this step")


@fault("SIGTERM to the whole process group, as schedulers send it")
def _group(box: Box) -> None:
    command = box.running()
    os.killpg(command.pid, signal.SIGTERM)
    box.ended(command, {128 + signal.SIGTERM}, "resume: contrastkit train moco")
    box.resumes()


@fault("stopped and continued, as a laptop that sleeps")
def _sleep(box: Box) -> None:
    command = box.running()
    for number in (signal.SIGSTOP, signal.SIGCONT):
        os.killpg(command.pid, number)
        command.wait_for(lambda: False, 2)
    command.signal(signal.SIGINT)
    box.ended(command, {128 + signal.SIGINT})


@fault("a worker without memory")
def _worker_memory(box: Box) -> None:
    command = box.running()
    for worker in command.workers():
        resource.prlimit(worker, resource.RLIMIT_AS, (2**20, 2**20))
    box.ended(command, {2}, "memory")


@fault("a main process without memory")
def _memory(box: Box) -> None:
    command = box.running("--epochs=100000", workers=0)
    resource.prlimit(command.pid, resource.RLIMIT_AS, (2**20, 2**20))
    box.ended(command, {2}, "memory")


def exhaust(pid: int) -> None:
    """Let a process open no file besides those it has open."""
    n = len(os.listdir(f"/proc/{pid}/fd"))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (n, n))


@fault("a main process without file descriptors")
def _descriptors(box: Box) -> None:
    command = box.running()
    exhaust(command.pid)
    box.ended(command, {2}, "too many open files")


@fault("ulimit -n 24: too few file descriptors from the start")
def _few_descriptors(box: Box) -> None:
    box.ended(box.train(*SHORT, before="ulimit -n 24;"), {0, 2})


@fault("ulimit -v: too little memory from the start")
def _little_memory(box: Box) -> None:
    box.ended(box.train("--epochs=2", "--batch=200", "--size=512", before="ulimit -v 6000000;"), {2}, "memory")
    box.trial.check(not box.run.exists(), LEFT, "a run folder")


@fault("ulimit -u: no process may be started")
def _no_processes(box: Box) -> None:
    box.folder.chmod(0o777)
    box.temporary.chmod(0o777)
    before = "ulimit -u 1; HOME=/nonexistent "
    program = PROGRAM
    if os.geteuid() == 0:
        program = f"setpriv --reuid=54321 --clear-groups {program}"
    box.ended(box.train(*SHORT, before=before, program=program), {2}, "Resource temporarily unavailable")
    box.trial.check(not box.run.exists(), LEFT, "a run folder")


@fault("a folder that another process trains in")
def _locked(box: Box) -> None:
    first = box.running(workers=0)
    for words in (("--resume", str(box.run)), ("--data=digits", f"--out={box.run}", *FAST)):
        second = Command("train", "moco", *words, folder=box.temporary)
        ended = second.end()
        ended.judge(box.trial, {2})
        box.trial.check(str(first.pid) in ended.err or "already holds a run" in ended.err, UNCLEAR, ended.err)
    reader = Command("knn", str(box.run), "--val-fraction=0.2", folder=box.temporary).end()
    reader.judge(box.trial, {0, 2})
    first.signal(signal.SIGTERM)
    box.ended(first, {128 + signal.SIGTERM})


@fault("two commands that make one folder at the same moment")
def _race(box: Box) -> None:
    pictures(box.data)
    first, second = (
        Command(
            "train", "moco", *FAST, *SHORT, f"--data={box.data}", "--workers=0", f"--out={box.run}", folder=place
        )
        for place in (box.temporary, box.data)
    )  # fmt: skip
    codes = sorted(code for code in (second.end().code, first.end().code) if code is not None)
    box.trial.outcome = f"exit {codes}"
    box.trial.check(codes == [0, 2], CODE, f"{codes}")
    for what in unreadable(box.run):
        box.trial.wrong(LOST, what)


@fault("a clock that is wrong: files of 1970 and of 2100")
def _clock(box: Box) -> None:
    box.ended(box.train(*SHORT, workers=0), {0})
    for n, file in enumerate([*box.run.rglob("*"), *box.data.rglob("*")]):
        os.utime(file, (n % 2 * 4_102_444_800,) * 2)
    box.ended(box.command("train", "moco", "--resume", str(box.run)), {0})


@fault("a working folder that is deleted")
def _no_folder(box: Box) -> None:
    command = box.command("methods", "moco", before="mkdir gone; cd gone; rmdir ../gone;")
    box.ended(command, {2}, "the current folder no longer exists")


@fault("a home and a temporary folder that do not exist")
def _no_home(box: Box) -> None:
    environment = {"HOME": "/nonexistent", "TMPDIR": "/nonexistent", "MPLCONFIGDIR": "/nonexistent/matplotlib"}
    box.ended(box.train(*SHORT, environment=environment), {0})
