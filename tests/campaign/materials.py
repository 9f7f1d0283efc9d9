"""The files that bad inputs name: good ones, and the same ones damaged, of every format that is read."""

import gzip
import io
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from scipy.io import wavfile

from tests.campaign.kills import pictures
from tests.campaign.materials_runs import models, runs
from tests.campaign.materials_shards import tars
from tests.campaign.materials_transfer import annotated

CAPTIONS = {  # a folder of images each: its captions.token
    "captioned": "".join(f"{i}.png#0\tnumber {i}\n" for i in range(4)),
    "lostimages": "x.png#0\tnumber 1\ny.png#0\tnumber 2\n",
    "emptycaptions": "".join(f"{i}.png#0\t \n" for i in range(4)),
    "samecaptions": "".join(f"{i}.png#0\tnothing\n" for i in range(4)),
    "onepair": "0.png#0\tone\n0.png#1\ttwo\n",
    "badlines": "0.png#0\tone\n1.png two\n",
}


def build(folder: Path) -> None:
    """Fill a folder with materials; the working folder of every bad input is a copy of it."""
    for make in (
        _images,
        _arrays,
        _sounds,
        _tables,
        _graphs,
        _embeddings,
        _methods,
        models,
        runs,
        tars,
        annotated,
        _forbidden,
    ):
        make(folder)


def _images(folder: Path) -> None:
    pictures(folder / "pictures", 80)
    g = np.random.default_rng(1)
    environments = [f"places/{place}/{name}" for place in ("north", "south") for name in "ab"]
    for n, place in enumerate(["flat", "split/train/a", "split/train/b", "split/test/c", "one", *environments]):
        (folder / place).mkdir(parents=True)
        for i in range(1 if place == "one" else 6):
            Image.fromarray(g.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(folder / place / f"{n}{i}.png")
    for place, text in {"noise": None, "emptyfiles": b"", "text": b"no image"}.items():
        for i in range(8):
            file = folder / place / "ab"[i % 2] / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(g.bytes(300) if text is None else text)
    (folder / "empty").mkdir()
    (folder / "documents").mkdir()
    (folder / "documents" / "letter.txt").write_text("dear all")
    (folder / "links").mkdir()
    (folder / "links" / "round").symlink_to("..//links")
    (folder / "broken").symlink_to("nowhere")
    (folder / "twotrain/train").mkdir(parents=True)
    (folder / "twotrain/training").mkdir()
    for side in ("rgb", "depth", "other"):
        (folder / side).mkdir()
        for i in range(8):
            name = f"{i}.png" if side != "other" else f"x{i}.png"
            Image.fromarray(g.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(folder / side / name)
    for name, captions in CAPTIONS.items():
        (folder / name).mkdir()
        (folder / name / "captions.token").write_text(captions)
        for i in range(1 if name == "onepair" else 4):
            shutil.copy(folder / "flat" / f"0{i}.png", folder / name / f"{i}.png")
    (folder / "captioned" / "test.txt").write_text("3.png\n")
    (folder / "captioned" / "list.csv").write_text("path,text\n0.png,one\n")
    (folder / "idx").mkdir()
    for part in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            (folder / "idx" / f"{part}-{kind}-ubyte").write_bytes(g.bytes(100))
    shutil.copytree(folder / "idx", folder / "idxgz")
    for file in list((folder / "idxgz").iterdir()):
        file.unlink()
        file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(b"\0\0\x08\x03")[:-6])
    (folder / "tree.png").mkdir()
    for name in ("pipe", "pipe.npz", "pipe.csv", "pipe.parquet", "pipe.dot", "pipe.gml", "pipe.json"):
        os.mkfifo(folder / name)


def _arrays(folder: Path) -> None:
    g = np.random.default_rng(2)
    n = 640  # the largest batch of a recipe is 512
    images, labels = g.integers(0, 256, (n, 12, 12, 3), dtype=np.uint8), np.arange(n) % 4
    many: dict[str, dict[str, Any]] = {
        "good": {"images": images, "labels": labels, "test_images": images[:32], "test_labels": labels[:32]},
        "unlabelled": {"images": images},
        "noimages": {"pictures": images},
        "rows": {"images": images.reshape(n, -1)},
        "fewlabels": {"images": images, "labels": labels[:10]},
        "floatlabels": {"images": images, "labels": labels + 0.5},
        "complex": {"images": images.astype(np.complex64)},
        "objects": {"images": np.array([{}, []], dtype=object)},
        "range": {"images": images.astype(np.float32)},
        "nan": {"images": np.full((8, 12, 12, 3), np.nan, np.float32)},
        "int32": {"images": images.astype(np.int32)},
        "noone": {"images": images[:0], "labels": labels[:0]},
        "single": {"images": images[:1], "labels": labels[:1]},
        "pair": {"images": images[:2], "labels": labels[:2]},
        "oneclass": {"images": images, "labels": np.zeros(n, int), "test_images": images, "test_labels": labels * 0},
        "ambiguous": {"images": images.reshape(n, 3, 12, 12)[:, :, :3, :3]},
        "channels": {"images": g.integers(0, 256, (n, 12, 12, 5), dtype=np.uint8)},
        "hugelabels": {"images": images, "labels": np.full(n, 2**62) + np.arange(n)},
        "environments": {"images": images, "labels": labels, "environment": labels[:3]},
        "mixed": {"images": images, "labels": labels, "test_images": images, "test_labels": labels.astype(str)},
        "otherside": {"images": images, "labels": labels, "test_images": images[:, :, :, :1], "test_labels": labels},
        "structured": {"images": np.zeros(8, dtype=[("a", "u1")])},
    }  # fmt: skip
    for name, arrays in many.items():
        np.savez(folder / f"{name}.npz", **arrays)
    whole = (folder / "good.npz").read_bytes()
    damaged = {"cut": whole[:-300], "front": whole[:2000], "nothing": b"", "words": b"no zip", "zeros": bytes(500)}
    middle = bytearray(whole)
    middle[3000:3100] = bytes(100)
    damaged["middle"] = bytes(middle)
    for name, data in damaged.items():
        (folder / f"{name}.npz").write_bytes(data)
    np.save(folder / "array.npy", images)
    shutil.copy(folder / "array.npy", folder / "renamed.npz")
    with zipfile.ZipFile(folder / "zip.npz", "w") as archive:
        archive.writestr("images.npy", "text")
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (10**9, 1000, 1000, 3)}
    )
    with zipfile.ZipFile(folder / "claims.npz", "w") as archive:
        archive.writestr("images.npy", header.getvalue())


def _sounds(folder: Path) -> None:
    g = np.random.default_rng(3)
    for i in range(8):
        for place in ("sounds", "soundsand"):
            (folder / place).mkdir(exist_ok=True)
            wavfile.write(folder / place / f"{i}.wav", 8000, g.normal(0, 9000, 4000).astype(np.int16))
        (folder / "badsounds").mkdir(exist_ok=True)
        (folder / "badsounds" / f"{i}.wav").write_bytes(b"RIFF" + g.bytes(50))
        (folder / "cutsounds").mkdir(exist_ok=True)
        (folder / "cutsounds" / f"{i}.wav").write_bytes((folder / "sounds" / f"{i}.wav").read_bytes()[:44])
    shutil.copy(folder / "one" / "40.png", folder / "soundsand" / "a.png")


def _tables(folder: Path) -> None:
    g = np.random.default_rng(4)
    n = 120
    x, z = g.normal(size=n), g.normal(size=n)
    t = (g.random(n) < 1 / (1 + np.exp(-x))).astype(int)
    y = x + t + g.normal(size=n)
    table = pd.DataFrame({"x": x, "z": z, "t": t, "y": y, "e": np.arange(n) % 3, "label": np.where(y > 0, "hi", "lo")})
    changes: dict[str, Callable[[pd.DataFrame], Any]] = {
        "table": lambda d: d,
        "missing": lambda d: d.assign(x=d.x.where(d.index > 3), y=d.y.where(d.index > 3)),
        "times": lambda d: d.assign(
            months=10 * d.x.abs() + 0.1,
            early=10 * d.x,
            never=0,
            gaps=d.x.abs().where(d.index > 3),
            day=[f"2020-01-{i % 28 + 1:02d}" for i in d.index],
            died=(d.index % 3 > 0).astype(int),
            spared=((d.index % 3 > 0) & (d.t == 0)).astype(int),
        ),
        "infinite": lambda d: d.assign(x=d.x.where(d.index > 3, np.inf), y=d.y.where(d.index > 3, np.inf)),
        "alltreated": lambda d: d.assign(t=1),
        "nonetreated": lambda d: d.assign(t=0),
        "onetreated": lambda d: d.assign(t=(d.index == 0).astype(int)),
        "three": lambda d: d.assign(t=d.index % 3),
        "constant": lambda d: d.assign(x=1.0, y=1.0),
        "copies": lambda d: d.assign(z=d.x),
        "separated": lambda d: d.assign(x=d.t * 10 + d.x / 100),
        "words": lambda d: d.assign(x=[f"w{i}" for i in d.index], y="text"),
        "somewords": lambda d: d.assign(x=d.x.astype(object).where(d.index > 0, "n/k")),
        "dates": lambda d: d.assign(x="2020-01-01", y=pd.date_range("2020", periods=n)),
        "huge": lambda d: d.assign(x=d.x * 1e200, y=d.y * 1e200),
        "onerow": lambda d: d[:1],
        "tworows": lambda d: d[:2],
        "norows": lambda d: d[:0],
        "onlytext": lambda d: d[["label"]],
        "onelabel": lambda d: d.assign(label="hi"),
        "manylabels": lambda d: d.assign(label=[f"c{i}" for i in d.index]),
    }
    for name, change in changes.items():
        change(table).to_csv(folder / f"{name}.csv", index=False)
    table.to_parquet(folder / "table.parquet")
    whole = (folder / "table.parquet").read_bytes()
    (folder / "cut.parquet").write_bytes(whole[:-100])
    (folder / "text.parquet").write_text("x,y\n1,2\n")
    text = (folder / "table.csv").read_text()
    lines = text.splitlines()
    other = {
        "ragged.csv": "\n".join([*lines[:5], "1,2,3,4,5,6,7,8,9", *lines[5:]]).encode(),
        "empty.csv": b"",
        "binary.csv": g.bytes(3000),
        "latin.csv": text.replace("hi", "\xfc").encode("latin-1"),
        "quote.csv": b'x,y,t\n"1,2,0\n3,4,1\n',
        "twice.csv": b"x,x,t,y\n" + b"1,2,0,3\n2,1,1,4\n" * 20,
        "digits.csv": b"x,t,y\n" + b"9" * 400 + b",0,1\n1,1,2\n",
        "nul.csv": b"x,t,y\n1,0,\0\n2,1,3\n",
        "semicolons.csv": text.replace(",", ";").encode(),
        "weights.csv": b"weight\n" + b"1\n" * 10,
        "negative.csv": b"weight\n" + b"-1\n" * 120,
        "zero.csv": b"weight\n" + b"0\n" * 120,
        "noweight.csv": b"w\n" + b"1\n" * 120,
        "nanweight.csv": b"weight\n" + b"nan\n" * 120,
        "goodweight.csv": b"weight\n" + b"1\n" * 120,
        "table.xlsx": b"PK\3\4",
    }  # fmt: skip
    for name, data in other.items():
        (folder / name).write_bytes(data)


def _graphs(folder: Path) -> None:
    graphs = {
        "good.dot": "digraph { z -> t; z -> y; t -> y }",
        "open.dot": "digraph { z -> t; z -> y",
        "undirected.dot": "graph { z -- t; t -- y }",
        "brackets.dot": "digraph " + "{" * 50_000,
        "attributes.dot": "digraph { a [label=\"x }",
        "cycle.dot": "digraph { a -> b; b -> a; a -> y }",
        "empty.dot": "",
        "prose.dot": "this is no graph",
        "undirected.gml": "graph [ node [ id 0 label \"t\" ] node [ id 1 label \"y\" ] edge [ source 0 target 1 ] ]",
        "double.gml": "graph [ directed 1 node [ id 0 label \"t\" ] node [ id 1 label \"t\" ] ]",
        "unknown.gml": "graph [ directed 1 node [ id 0 label \"t\" ] edge [ source 0 target 9 ] ]",
        "deep.gml": "graph [ " + "a [ " * 5000,
        "cut.gml": "graph [ directed 1 node [ id 0 lab",
        "number.gml": "graph [ directed 1 node [ id " + "9" * 400 + " label \"t\" ] ]",
        "graph.txt": "z -> t",
    }  # fmt: skip
    for name, text in graphs.items():
        (folder / name).write_text(text)
    (folder / "binary.dot").write_bytes(bytes(range(256)))


def _embeddings(folder: Path) -> None:
    g = np.random.default_rng(5)
    x = g.normal(size=(120, 6)).astype(np.float32)
    holed = x.copy()
    holed[3] = np.nan
    many: dict[str, dict[str, Any]] = {
        "e-good": {"features": x, "labels": np.arange(120) % 3},
        "e-few": {"features": x[:7]},
        "e-none": {"labels": np.arange(120)},
        "e-flat": {"features": x[:, 0]},
        "e-nan": {"features": holed, "labels": np.arange(120) % 3},
        "e-unread": {"features": holed, "labels": np.arange(120) % 3, "readable": np.arange(120) != 3},
        "e-text": {"features": x.astype(str)},
        "e-complex": {"features": x.astype(complex)},
        "e-objects": {"features": x.astype(object)},
        "e-constant": {"features": np.ones_like(x), "labels": np.arange(120) % 3},
        "e-unlabelled": {"features": x, "labels": np.full(120, -1)},
    }  # fmt: skip
    for name, arrays in many.items():
        np.savez(folder / f"{name}.npz", **arrays)
    (folder / "e-cut.npz").write_bytes((folder / "e-good.npz").read_bytes()[:700])


def _methods(folder: Path) -> None:
    files = {
        "raises.py": "raise RuntimeError('as it is read')\n",
        "syntax.py": "def f(:\n",
        "norecipes.py": "x = 1\n",
        "wrongrecipes.py": "RECIPES = 3\n",
        "exits.py": "import sys; sys.exit(3)\n",
        "imports.py": "import a_package_that_is_not_there\n",
    }
    for name, text in files.items():
        (folder / name).write_text(text)


def _forbidden(folder: Path) -> None:
    """What may not be read or written: rows on it run without root's privileges."""
    for name in ("table.csv", "good.npz", "model.json", "good.dot"):
        shutil.copy(folder / name, folder / f"secret-{name}")
        (folder / f"secret-{name}").chmod(0)
    for name in ("pictures", "run"):
        shutil.copytree(folder / name, folder / f"secret-{name}")
        (folder / f"secret-{name}").chmod(0)
    (folder / "closed").mkdir()
    (folder / "closed").chmod(0o555)
