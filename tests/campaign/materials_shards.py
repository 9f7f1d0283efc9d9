"""Folders of tars, good ones and damaged ones."""

import gzip
import io
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np

from contrastkit.data import open_data
from contrastkit.data.pack import make_shards


def tars(folder: Path) -> None:
    """Shards of the pictures, the same ones damaged, and tars from elsewhere."""
    make_shards(open_data(str(folder / "pictures")), folder / "shards", per_shard=20)
    for name in ("cutshard", "lostshard", "moreshard", "exchanged", "badindex", "wordsindex", "bitrot", "noindex"):
        shutil.copytree(folder / "shards", folder / name)
    os.truncate(folder / "cutshard" / "00001.tar", 3000)
    (folder / "lostshard" / "00001.tar").unlink()
    shutil.copy(folder / "shards" / "00001.tar", folder / "moreshard" / "x.tar")
    for k, other in enumerate((1, 2, 3, 0)):
        shutil.copy(folder / "shards" / f"{other:05}.tar", folder / "exchanged" / f"{k:05}.tar")
    index = folder / "badindex" / "index.npz"
    with np.load(index) as file:
        np.savez(index, **dict(file) | {"offset": np.full(80, 10**12)})
    (folder / "wordsindex" / "index.npz").write_bytes(b"no index")
    for tar in (folder / "bitrot").glob("*.tar"):
        rotten = bytearray(tar.read_bytes())
        for start in range(4096, len(rotten) - 20480, 512):
            rotten[start + 200 : start + 220] = bytes(20)
        tar.write_bytes(rotten)
    (folder / "noindex" / "index.npz").unlink()
    for name in ("cut", "packed", "twotars"):  # without an index
        shutil.copytree(folder / "noindex", folder / f"{name}noindex")
    os.truncate(folder / "cutnoindex" / "00001.tar", 3000)
    twice = folder / "twotarsnoindex" / "00001.tar"
    twice.write_bytes(twice.read_bytes() * 2)
    packed = folder / "packednoindex" / "00001.tar"
    packed.write_bytes(gzip.compress(packed.read_bytes()))
    (folder / "tgz").mkdir()
    shutil.copy(packed, folder / "tgz" / "x.tar.gz")
    picture = (folder / "one" / "40.png").read_bytes()
    members: dict[str, list[tuple[str, bytes]]] = {
        "outside": [("../x.png", picture)],
        "absolute": [("/x.png", picture)],
        "doubled": [("x.png", picture), ("x.png", picture)],
        "twokinds": [("x.png", picture), ("x.jpg", picture)],
        "nopictures": [("x.txt", b"1"), ("x.pth", b"2")],
        "noisetar": [(f"{i}.png", bytes(range(200))) for i in range(8)],
        "onetar": [("x.png", picture)],
    }
    for name, content in members.items():
        (folder / name).mkdir()
        with tarfile.open(folder / name / "x.tar", "w") as archive:
            for member, data in content:
                header = tarfile.TarInfo(member)
                header.size = len(data)
                archive.addfile(header, io.BytesIO(data))
    for name, content_ in {"notar": b"no tar" * 900, "emptytar": b"", "zerotar": bytes(10240)}.items():
        (folder / name).mkdir()
        (folder / name / "x.tar").write_bytes(content_)
    (folder / "parttars").mkdir()
    for name in ("set-train-0.tar", "set-val-0.tar"):
        shutil.copy(folder / "onetar" / "x.tar", folder / "parttars" / name)
    (folder / "otherclass").mkdir()
    shutil.copytree(folder / "noindex", folder / "otherclass" / "train")
    (folder / "otherclass" / "val").mkdir()
    with tarfile.open(folder / "otherclass" / "val" / "x.tar", "w") as archive:
        for member, data in (("x.png", picture), ("x.cls", b"99")):
            header = tarfile.TarInfo(member)
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
