"""The files below a folder, each once, whatever links lead to it."""

import os
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

KINDS_NAMED = 4  # kinds of files left out that a notice names


class Listing(NamedTuple):
    """
    Attributes:
        paths: relative to the root, sorted part by part.
        left_out: what else is there, kind -> number of it.
    """

    paths: list[str]
    left_out: Counter[str]

    @property
    def omissions(self) -> str:
        """What is left out, in a few words; "" if nothing is."""
        kinds = [f"{kind} ({count:,})" for kind, count in self.left_out.most_common(KINDS_NAMED)]
        if others := len(self.left_out) - len(kinds):
            kinds.append(f"other kinds ({others})")
        return ", ".join(kinds)


class _File(NamedTuple):
    linked: bool  # whether a link leads to it: the file's own name is preferred
    parts: tuple[str, ...]
    node: tuple[int, int]  # device and inode


def walk(root: Path, suffixes: Collection[str]) -> Listing:
    """The regular files below ``root`` whose names end in one of ``suffixes`` (lower case), in any case of letters.

    Links are followed, but not to a file or folder that is there already, nor to a folder that contains ``root``: links
    that go round would multiply the files, and one from a training part to the folder above it would bring in the test
    part. Pipes and devices are left out, because reading them may never end. Hidden files and folders are left out.
    """
    found: list[_File] = []
    left_out: Counter[str] = Counter()
    seen = {_node(os.stat(folder)) for folder in root.resolve().parents}
    waiting: list[tuple[bool, tuple[str, ...]]] = [(False, ())]
    links: list[tuple[str, ...]] = []  # to folders: looked at after all real folders
    while waiting or links:
        linked, parts = waiting.pop() if waiting else (True, links.pop(0))
        folder = os.path.join(root, *parts)
        try:
            node = _node(os.stat(folder))
            known = linked and node in seen
            entries = [] if known else sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            left_out["folders that cannot be read"] += 1
            continue
        left_out["links to folders that are there already"] += known
        seen.add(node)
        for entry in entries:
            place = (*parts, entry.name)
            if entry.name.startswith((".", "__MACOSX")):
                left_out["hidden files"] += not entry.is_dir(follow_symlinks=False)
            elif entry.is_dir(follow_symlinks=False):
                waiting.append((linked, place))
            elif _is_dir(entry):
                links.append(place)
            elif (kind := _kind(entry, suffixes)) is not None:
                left_out[kind] += 1
            else:
                status = entry.stat() if entry.is_symlink() else None
                own = (node[0], entry.inode()) if status is None else _node(status)
                found.append(_File(linked or status is not None, place, own))
    kept: list[tuple[str, ...]] = []
    nodes: set[tuple[int, int]] = set()
    for file in sorted(found):
        if not (file.linked and file.node in nodes):  # hard links are files of their own: inodes may be made up
            kept.append(file.parts)
            nodes.add(file.node)
    left_out["links to files that are there already"] = len(found) - len(kept)
    return Listing([os.path.join(*parts) for parts in sorted(kept)], +left_out)


def _node(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _is_dir(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _kind(entry: "os.DirEntry[str]", suffixes: Collection[str]) -> str | None:
    """What a file is that does not count; None for one that does."""
    suffix = os.path.splitext(entry.name)[1].lower()
    if suffix not in suffixes:
        return suffix or "without an ending"
    try:
        if entry.is_file():  # asks the file system for links only
            return None
        entry.stat()
    except OSError:
        return "links that lead nowhere"
    return "pipes, sockets and devices"
