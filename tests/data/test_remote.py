"""Shards behind a URL are those of the folder that was uploaded, whoever reads them and whatever the network does."""

import json
import os
import shutil
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from contrastkit.augment import named_views
from contrastkit.cli.main import main
from contrastkit.data import (
    FileSource,
    Loader,
    ShardSource,
    Source,
    encoded,
    open_data,
    plain_batches,
    shards,
    store,
)
from contrastkit.data.extents import Extent, LocalTars
from contrastkit.data.pack import make_shards
from contrastkit.data.remote import BLOCK, GAP, RemoteTars, joined
from contrastkit.errors import UserError
from contrastkit.training.plan import absolute
from tests.data.server import Request, Server, serving
from tests.data.test_shards import all_images, batches, equal, same

pytest.importorskip("fsspec")
pytest.importorskip("aiohttp")

CASES = {"train": 40, "val": 9}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training and a test part of two classes, in files."""
    g, root = np.random.default_rng(0), tmp_path_factory.mktemp("files")
    for part, n in CASES.items():
        for k in range(n):
            place = root / part / "ab"[k % 2]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(g.integers(0, 256, (32, 20 + k, 3), np.uint8)).save(place / f"{k:02} x#?.png")
    return root


@pytest.fixture(scope="module")
def uploaded(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its shards: ten tars of four images, and three."""
    root = tmp_path_factory.mktemp("shards")
    make_shards(open_data(str(pictures)), root, per_shard=4)
    return root


@pytest.fixture
def server(uploaded: Path, tmp_path: Path) -> Iterator[Server]:
    shutil.copytree(uploaded, tmp_path / "served")
    with serving(tmp_path / "served") as server:
        yield server


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "PAUSES", (0, 0.01, 0.01))
    monkeypatch.setattr(store, "WAIT", 5)
    monkeypatch.setattr(encoded, "PEEK", 4)  # images that are read when a set is opened, and kept


def training(url: str) -> ShardSource:
    source = open_data(url).train
    assert isinstance(source, ShardSource)
    return source


def forget(source: ShardSource) -> None:
    """What was read or opened when the set was opened."""
    if isinstance(source.tars, LocalTars):
        source.tars._open.clear()
    else:
        assert isinstance(source.tars, RemoteTars)
        source.tars._ahead.clear()


def gets(server: Server) -> list[Request]:
    return [request for request in server.requests if request.method == "GET"]


# -------------------------------------------------------------------------------------------------------- the same set


def test_a_url_is_the_folder_bit_for_bit(pictures: Path, uploaded: Path, server: Server) -> None:
    files, local, remote = open_data(str(pictures)), open_data(str(uploaded)), open_data(server.url + "/")
    assert remote.notices == local.notices == ("train/ -> training (40 images), test/ -> test (9)",)
    assert remote.name == "a%20set"
    for part in ("train", "test"):
        mine, theirs, plain = (getattr(each, part) for each in (remote, local, files))
        assert isinstance(plain, FileSource)
        assert equal(all_images(mine), all_images(theirs)) and equal(all_images(mine), all_images(plain))
        assert mine.fingerprint() == theirs.fingerprint() == plain.fingerprint()
        assert torch.equal(mine.labels, theirs.labels) and mine.classes == theirs.classes == ("a", "b")
        assert (mine.channels, mine.size, list(mine.paths)) == (theirs.channels, theirs.size, list(theirs.paths))
        assert torch.equal(mine.order(3, 1), theirs.order(3, 1)) and torch.equal(mine.order(3, 1), plain.order(3, 1))


def test_a_url_with_an_equals_sign_is_none_of_sensors(uploaded: Path) -> None:
    import fsspec

    fsspec.filesystem("memory").put(f"{uploaded}/test/", "/day=1,hour=2/", recursive=True)
    assert absolute("memory://day=1,hour=2/") == "memory://day=1,hour=2/"
    assert len(open_data("memory://day=1,hour=2/").train) == 9


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_other_file_systems(kind: str, uploaded: Path) -> None:
    import fsspec

    url = f"file://{uploaded}"
    if kind == "memory":
        url = "memory://some/shards"
        fsspec.filesystem("memory").put(f"{uploaded}/", "/some/shards/", recursive=True)
    assert same(batches(training(url), 0, 3), batches(training(str(uploaded)), 0, 3))


def test_batches_depend_on_nobody_who_loads_them(
    uploaded: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processes have file systems of their own: fsspec's thread does not survive a fork, and the connections of this
    process are its own afterwards, too."""
    monkeypatch.setattr(shards, "WINDOW", 3)
    whole, source = batches(training(str(uploaded)), 0, 5), training(server.url)
    assert same(whole, batches(source, 0, 5))
    for workers in (1, 2):
        forget(source)
        assert same(whole, batches(source, 0, 5, workers=workers))
    assert same(whole[3:], batches(source, 3, 5, workers=1)), "after a resume in mid-epoch"
    halves = [batches(training(server.url), 0, 5, rank=rank, world=2, workers=1) for rank in range(2)]
    for batch, first, second in zip(whole, *halves, strict=True):
        assert torch.equal(batch.index, torch.cat([first.index, second.index]))


def test_a_process_has_read_before_it_forks_and_reads_on(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "PAUSES", (0,))  # one try is enough
    source = training(server.url)
    first = source.fetch(torch.arange(5))
    forget(source)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if equal(first, source.fetch(torch.arange(20))[:5]) else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert len(source.fetch(torch.arange(20, 40))) == 20


def test_a_held_out_part(uploaded: Path, server: Server) -> None:
    local, remote = (open_data(url, val_fraction=0.25, seed=3) for url in (f"{uploaded}/train", f"{server.url}/train"))
    assert equal(all_images(local.train), all_images(remote.train))
    assert equal(all_images(local.test), all_images(remote.test))


def test_parts(server: Server) -> None:
    os.rename(server.folder / "test", server.folder / "Mine")
    assert open_data(server.url).test is None
    asked = open_data(server.url, test_part="Mine")
    assert asked.notices == ("train/ -> training (40 images), Mine/ -> test (9)",)
    with pytest.raises(UserError, match=r"--test-part no: .*/a%20set has no such folder \(it has none\)"):
        open_data(server.url, test_part="no")
    assert open_data(f"{server.url}/Mine").test is None
    os.rename(server.folder / "train", server.folder / "val")
    with pytest.raises(UserError, match="has val, but no training part: rename .* or give .*/a%20set/val itself"):
        open_data(server.url)


def test_tars_of_any_name(uploaded: Path, tmp_path: Path) -> None:
    shutil.copytree(uploaded / "test", tmp_path / "set")
    for k, name in enumerate(("a b#1.tar", "%41.tar", "ü?.tar")):
        os.rename(tmp_path / "set" / f"{k:05}.tar", tmp_path / "set" / name)
    (tmp_path / "set" / "index.npz").unlink()
    assert main(["shards", "index", str(tmp_path / "set")]) == 0
    with serving(tmp_path / "set") as server:
        assert equal(all_images(training(server.url)), all_images(open_data(str(tmp_path / "set")).train))


# ------------------------------------------------------------------------------------------------------------ requests


def test_a_batch_is_read_at_once_and_only_once(server: Server) -> None:
    source = training(f"{server.url}/train")
    opened = len(server.requests)
    source.fingerprint()
    assert len(server.requests) == opened, "its images have been sampled just before"
    images = source.fetch(torch.arange(40))
    asked = server.requests[opened:]
    assert len(images) == 40 and len(asked) == 10, "one for each tar, where the images lie side by side"
    source.fetch(torch.tensor([5]))
    source.fetch(torch.arange(30))
    assert len(server.requests) == opened + 10
    assert {request.range[1] - request.range[0] < GAP for request in asked} == {True}


def test_opening_asks_little(server: Server) -> None:
    """Three parts of tars of each set: never a whole one."""
    open_data(f"{server.url}/train")
    sizes = {tar.name: tar.stat().st_size for tar in (server.folder / "train").glob("*.tar")}
    for request in gets(server):
        assert request.range is not None
        assert request.range[1] - request.range[0] < sizes.get(Path(request.path).name, np.inf)
    assert len(server.requests) <= 1 + 2 + 2 * len(sizes) + len(sizes)


def test_extents_are_joined_where_they_lie_close() -> None:
    a, b, c = Extent(0, 512, 1000), Extent(0, 512 + 1000 + GAP, 10), Extent(0, 512 + 1000 + GAP + 10 + GAP + 1, 5)
    inner, other = Extent(0, 600, 10), Extent(1, 512, 5)
    assert joined({other, c, b, inner, a}) == [[a, inner, b], [c], [other]]
    big = [Extent(0, k * BLOCK // 2, BLOCK // 2) for k in range(4)]
    assert joined(set(big)) == [big[:2], big[2:]]
    assert joined({Extent(0, 0, 3 * BLOCK), Extent(0, 3 * BLOCK, 5)}) == [[(0, 0, 3 * BLOCK)], [(0, 3 * BLOCK, 5)]]


# -------------------------------------------------------------------------------------------------------------- faults


def refused(url: str, says: str, **how: Any) -> None:
    with pytest.raises(UserError, match=says) as raised:
        open_data(url, **how)
    assert "\n" not in str(raised.value)


def test_what_is_not_there(server: Server, tmp_path: Path) -> None:
    refused(
        f"{server.url}/nowhere", "has no index.npz .* before the tars are uploaded, with `contrastkit shards index`"
    )
    refused(f"{server.url}/train/00000.tar", "is one tar: put it into a folder of its own")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    refused(f"http://127.0.0.1:{port}/set", f"set/index.npz cannot be read: Cannot connect to host 127.0.0.1:{port}")
    refused("http://no-such-host.invalid/set", "cannot be read: Cannot connect to host no-such-host.invalid")
    refused("http://", "http: has no index.npz that can be read")
    refused("nothing://host/set", "nothing://host/set cannot be opened: Protocol not known: nothing")
    refused(server.url, "--layout is for the arrays of an .npz file", layout="NHWC")
    (server.folder / "train" / "index.npz").write_bytes(b"<html>not found</html>")
    refused(server.url, "train/index.npz cannot be read as an index of shards .* it is no archive of arrays")


def test_a_package_that_is_missing(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    monkeypatch.delitem(sys.modules, "fsspec.implementations.http", raising=False)
    from fsspec.registry import _registry

    monkeypatch.delitem(_registry, "http", raising=False)
    refused(server.url, r'pip install "contrastkit\[remote\]"')


def test_answers_that_are_none(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    index = "a%20set/index.npz cannot be read: "
    for fault, says, tries in (
        ("stall", f"{index}no answer in time", 3),
        ("drop", "train/index.npz cannot be read: Response payload is not completed", 3),
        (500, f"{index}HTTP 500 Internal Server Error", 3),
        (429, f"{index}HTTP 429 Too Many Requests", 3),
        (401, f"{index}HTTP 401 Unauthorized", 1),
        (403, "has no index.npz that can be read", 1),
    ):
        server.requests.clear()
        server.fault = lambda request, fault=fault: fault  # type: ignore[misc]
        monkeypatch.setattr(store, "WAIT", 0.5 if fault == "stall" else 5)
        refused(server.url, says)
        assert max(Counter(request.path for request in server.requests).values()) == tries
    server.fault = lambda request: "whole"
    refused(f"{server.url}/train", "index.npz: the server sends whole files, not parts: choose one that knows ranges")


def test_some_stores_refuse_what_they_do_not_have(server: Server) -> None:
    server.fault = lambda request: None if (server.folder / request.path).is_file() else 403
    data = open_data(server.url)
    assert len(data.train) == 40 and len(data.test) == 9


def test_an_index_of_other_tars(server: Server) -> None:
    tar = server.folder / "train" / "00003.tar"
    whole = tar.read_bytes()
    for data, says in (
        (whole[:-512], f"00003.tar has {len(whole) - 512:,} bytes, not the {len(whole):,} of index.npz"),
        (b"x" + whole[1:], "00003.tar begins otherwise than that of index.npz"),
        (None, "train/00003.tar is missing: bring the shards of the index back"),
    ):
        tar.unlink() if data is None else tar.write_bytes(data)
        refused(server.url, says)


class Once:
    """A fault of the first request for each part of a tar."""

    def __init__(self, fault: str | int) -> None:
        self.fault, self.seen = fault, set[tuple[str, Any]]()

    def __call__(self, request: Request) -> str | int | None:
        first = request.path.endswith(".tar") and (request.path, request.range) not in self.seen
        self.seen.add((request.path, request.range))
        return self.fault if first else None


@pytest.mark.parametrize("fault", ["drop", 503, 429])
def test_a_fault_that_passes_changes_nothing(fault: str | int, uploaded: Path, server: Server) -> None:
    server.fault = Once(fault)
    source = training(server.url)
    server.fault = Once(fault)
    assert same(batches(source, 0, 2, workers=1), batches(training(str(uploaded)), 0, 2))
    assert source.unreadable == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "says"), [("drop", "Response payload"), ("stall", "no answer in time"), (503, "HTTP 503 Service"),
                        (403, "HTTP 403 Forbidden"), ("whole", "whole files")]
)  # fmt: skip
@pytest.mark.parametrize("workers", [0, 1])
def test_a_fault_that_stays_ends_the_run(
    fault: str | int, says: str, workers: int, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images are not taken for unreadable because the network is away."""
    source = training(server.url)
    forget(source)
    monkeypatch.setattr(store, "WAIT", 0.5 if fault == "stall" else 5)
    server.fault = lambda request: fault
    with pytest.raises(UserError, match=rf"train/0000\d.tar.*{says}.*goes on with --resume\)$"):
        batches(source, 0, 1, workers=workers)
    assert source.unreadable == {}


def test_images_that_are_damaged_or_gone_have_the_stand_ins_of_local_ones(uploaded: Path, server: Server) -> None:
    """After opening: bytes that changed, a tar that was cut, and one that went."""
    twin = server.folder.with_name("twin")
    shutil.copytree(uploaded, twin)
    found = []
    for url, root in ((str(twin), twin), (server.url, server.folder)):
        source = training(url)
        forget(source)
        with open(root / "train" / "00002.tar", "r+b") as file:
            file.seek(700)
            file.write(b"changed")
        os.truncate(root / "train" / "00004.tar", 1500)
        (root / "train" / "00005.tar").unlink()
        with Loader(source, named_views("moco-cifar"), batch=20, seed=7, max_bad=1) as loader:
            seen = list(loader.batches(0, 4))
        plain = [batch.index for batch in plain_batches(training_again(source), size=8, max_bad=1)]
        found.append((seen, plain, source.unreadable))
    (mine, my_plain, my_reasons), (theirs, their_plain, their_reasons) = found
    assert same(mine, theirs) and all(map(torch.equal, my_plain, their_plain))
    assert my_reasons.keys() == their_reasons.keys() and 8 < len(my_reasons) < 13
    reasons = {reason.split(":")[0] for _, reason in their_reasons.values()}
    assert reasons == {
        "its bytes are not those of index.npz",
        "00004.tar ends within it",
        "there is no 00005.tar",
    }


def training_again(source: Source) -> Source:
    return source.subset(torch.arange(len(source)))


# --------------------------------------------------------------------------------------------------------- credentials


SECRETS = (
    "https://user:SECRET@host/set", "http://SECRET@host/set", "https://host/set?key=SECRET", "https://host/set#SECRET",
    "https://user:p/SECRET@host/set", "https://user:SECRET#@host/set", "https://user:SECRET@[host/set",
    "s3://key:SECRET@bucket/set", "HTTP://user:SECRET@host/set", "https://user:SEC\u2100RET@host/set",
)  # fmt: skip


@pytest.mark.parametrize("url", SECRETS)
@pytest.mark.parametrize("how", [[], ["--layout=NHWC"], ["--test-part=x", "--val-fraction=0.5"]], ids=str)
def test_a_url_with_a_secret_is_refused_without_it(
    url: str, how: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["train", "moco", f"--data={url}", f"--out={tmp_path / 'run'}", *how]) == 2
    said = "".join(capsys.readouterr())
    assert "leave user, password and query out" in said and "FSSPEC_HTTPS" in said and said.count("\n") == 1
    assert "SEC" not in said and not (tmp_path / "run").exists()


def test_names_of_accounts_and_users_are_none(tmp_path: Path) -> None:
    store.require_public("abfs://container@account.dfs.core.windows.net/set")
    store.require_public("sftp://me@host/set")
    store.require_public("s3://bucket/set?/x#y@z")
    store.require_public("https://host:8080/set/a@b:c")


def test_the_configuration_of_fsspec_is_used(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec.config

    server.fault = lambda request: None if request.headers.get("Authorization") == "Bearer x" else 401
    refused(server.url, "HTTP 401")
    read: dict[str, Any] = {}
    fsspec.config.set_conf_env(read, {"FSSPEC_HTTPS": json.dumps({"headers": {"Authorization": "Bearer x"}})})
    for name, value in read.items():
        monkeypatch.setitem(fsspec.config.conf, name, value)
    assert len(open_data(f"{server.url}/train").train) == 40


def test_the_key_of_a_redirection_is_not_told(server: Server) -> None:
    server.fault = lambda request: "redirect"
    assert len(open_data(server.url).train) == 40
    server.fault = lambda request: "redirect" if not request.path.endswith(".npz") else 500
    with pytest.raises(UserError) as raised:
        open_data(server.url)
    assert "HTTP 500" in str(raised.value) and "SECRET" not in str(raised.value)


# ------------------------------------------------------------------------------------------------------------ commands


@pytest.mark.slow
def test_a_run_keeps_its_url(uploaded: Path, server: Server, tmp_path: Path) -> None:
    """A run that began on the folder goes on behind the URL, and the other way round, bit for bit."""
    features = []
    for name, first, second in (("a", str(uploaded), server.url), ("b", server.url + "/", str(uploaded))):
        run = tmp_path / name
        train = ["train", "simclr", "--encoder=tiny", "--size=16", "--batch=8", "--monitor-every=0", "--epochs=2"]
        assert main([*train, f"--data={first}", f"--out={run}", "--workers=1", "--stop-after=3"]) == 0
        assert json.loads((run / "recipe.json").read_text())["options"]["data"] == first
        assert main(["train", "simclr", f"--resume={run}", f"--data={second}", "--workers=0"]) == 0
        assert main(["embed", str(run), "--workers=1", f"--out={tmp_path / 'x.npz'}"]) == 0
        with np.load(tmp_path / "x.npz") as file:
            features.append(file["features"])
    assert np.array_equal(*features)


def test_check(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["shards", "check", server.url]) == 0
    assert capsys.readouterr().out == f"{server.url}: 49 images are as the index says\n"
    assert main(["shards", "check", f"{server.url}/test/"]) == 0
    source = training(server.url)
    with open(server.folder / "train" / "00001.tar", "r+b") as file:
        file.seek(int(source.offset[source.shard == 1].max()) + 100)
        file.write(b"changed")
    (server.folder / "test" / "00001.tar").unlink()
    capsys.readouterr()
    assert main(["shards", "check", server.url]) == 2
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert len(lines) == 2 and "train/00001.tar: the bytes of " in lines[0] and "test/00001.tar is missing" in lines[1]
    assert main(["shards", "check", f"{server.url}/nowhere"]) == 2
    assert "nowhere has no index.npz that can be read" in capsys.readouterr().err


def test_what_is_made_is_made_locally(
    pictures: Path, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(os.listdir(tmp_path))
    for command in (["index", server.url], ["make", f"--data={pictures}", f"--out={server.url}/new"]):
        assert main(["shards", *command]) == 2
        assert "is a URL, but must be a path on this machine" in capsys.readouterr().err
    assert sorted(os.listdir(tmp_path)) == before
