"""Parts of files behind URLs, through fsspec: many at once, with several tries and finite waits."""

import os
import re
import time
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from contrastkit.errors import UserError

PAUSES = (0, 1, 4)  # seconds before each try
WAIT = 30  # seconds for an answer, and more for its bytes:
SLOWEST = 1_000_000  # bytes a second
PARALLEL = 32  # requests of a process at once
HTTP = ("http", "https")

# (process, URL) -> file system of fsspec, path there. Its thread does not survive a fork: each process has its own. A
# child keeps those of its parent, too: to close them would take the parent's connections from the parent's thread.
# (Hence none of fsspec's cache, which a fork empties.)
_systems: dict[tuple[int, str], tuple[Any, str]] = {}


class Span(NamedTuple):
    """A part of a file."""

    url: str
    start: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.start


def is_url(data: str) -> bool:
    return re.match(r"[a-z][a-z0-9+.-]*://", data, re.IGNORECASE) is not None


class Store:
    """The file system of fsspec in which a folder is."""

    def __init__(self, url: str) -> None:
        require_public(url)
        self._url = url

    def read(
        self, spans: Sequence[Span], absent: tuple[type[OSError], ...] = (FileNotFoundError,)
    ) -> list[bytes | OSError]:
        """The bytes of each span, fewer where the file ends before, or the error where it is one of ``absent``.

        Raises:
            UserError: another error at each try, or more bytes than were asked for.
        """
        found: dict[Span, bytes | Exception] = {}
        for pause in PAUSES:
            left = [span for span in dict.fromkeys(spans) if not _is_final(span, found.get(span))]
            if not left:
                break
            time.sleep(pause)
            found |= zip(left, self._try(left), strict=True)
        parts: list[bytes | OSError] = []
        for span in spans:
            part = found[span]
            if isinstance(part, bytes) and len(part) > span.size:
                raise UserError(f"{span.url}: the server sends whole files, not parts: choose one that knows ranges")
            if isinstance(part, Exception) and not isinstance(part, absent):
                raise UserError(f"{span.url} cannot be read: {_reason(part)}") from part
            parts.append(part)
        return parts

    def sizes(self, urls: Sequence[str]) -> list[int]:
        """Of files that are there, in bytes.

        Raises:
            UserError: an error at each try, or the server does not say it.
        """
        system, paths = self._located(urls)
        limits = {"timeout": WAIT + len(urls), "batch_size": PARALLEL} if system.async_impl else {}
        trouble: Exception | None = None
        for pause in PAUSES:
            time.sleep(pause)
            try:
                sizes = system.sizes(paths, **limits)
            except Exception as error:  # each file system has its own
                trouble = error
                continue
            if None in sizes:
                raise UserError(f"{urls[sizes.index(None)]}: the server does not say how many bytes it has")
            return sizes
        assert trouble is not None
        raise UserError(f"{self._url}: the sizes of its files cannot be read: {_reason(trouble)}") from trouble

    def _try(self, spans: Sequence[Span]) -> list[bytes | Exception]:
        system, paths = self._located([span.url for span in spans])
        seconds = WAIT + sum(span.size for span in spans) / SLOWEST
        limits = {"timeout": seconds, "batch_size": PARALLEL} if system.async_impl else {}
        starts, ends = [span.start for span in spans], [span.end for span in spans]
        try:
            parts = system.cat_ranges(paths, starts, ends, on_error="return", **limits)
        except Exception as error:  # of all, such as a wait in vain
            parts = [error] * len(spans)
        return [_known(part) if isinstance(part, Exception) else bytes(part) for part in parts]

    def _located(self, urls: Sequence[str]) -> tuple[Any, list[str]]:
        """This process's file system, and the paths of files there."""
        key = os.getpid(), self._url
        if key not in _systems:
            _systems[key] = _connected(self._url)
        system, folder = _systems[key]
        within = [url.removeprefix(self._url) for url in urls]
        if urlsplit(self._url).scheme.lower() in HTTP:
            within = [quote(name.encode("utf-8", "surrogateescape")) for name in within]
        return system, [folder.rstrip("/") + name for name in within]


def _connected(url: str) -> tuple[Any, str]:
    """A new file system, and the path of a URL there.

    Raises:
        UserError: there is none for such URLs, or a package is missing.
    """
    try:
        from fsspec.core import url_to_fs

        return url_to_fs(url, skip_instance_cache=True)
    except ImportError as error:
        how = 'pip install "contrastkit[remote]"' if urlsplit(url).scheme.lower() in HTTP else "install that too"
        raise UserError(f"{url} is read by a package that is missing: {how} ({_reason(error)})") from error
    except Exception as error:  # each file system has its own
        raise UserError(f"{url} cannot be opened: {_reason(error)}") from error


def require_public(url: str) -> None:
    """
    Raises:
        UserError: a URL has a password, or a query, in which there may be one. (The message has no part of it.)
    """
    scheme = url.partition("://")[0].lower()
    try:
        parts = urlsplit(url)
        user, at, _ = parts.netloc.rpartition("@")
        public = not (at and ":" in user)
        if scheme in HTTP:
            public = parts.port != 0 and not (at or parts.query or parts.fragment)  # a password with a / is no port
    except ValueError:
        public = False
    if not public:
        raise UserError(
            f"{scheme}://...: leave user, password and query out of the URL, which is printed and recorded; fsspec has "
            'its own configuration for them, such as FSSPEC_HTTPS=\'{"headers": {"Authorization": "..."}}\''
        )


def _is_final(span: Span, part: bytes | Exception | None) -> bool:
    """Whether another try would not help."""
    if isinstance(part, bytes):
        return len(part) >= span.size
    status = getattr(part, "status", None)
    refused = isinstance(status, int) and 400 <= status < 500 and status not in (408, 429)
    return refused or isinstance(part, FileNotFoundError | PermissionError)


def _known(error: Exception) -> bytes | Exception:
    """HTTP's answers that stand for a file's own, as other file systems have them."""
    status = getattr(error, "status", None)
    if status == 416:  # it ends before the part begins
        return b""
    return PermissionError(_reason(error)) if status == 403 else error


def _reason(error: Exception) -> str:
    """Why, in one line, without the keys that may be in a URL to which a server has led."""
    if isinstance(status := getattr(error, "status", None), int):
        return f"HTTP {status} {getattr(error, 'message', '')}".strip()
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, FileNotFoundError):
        return "no such file"
    return re.sub(r"\?[^\s'\"<>]*", "", " ".join(str(error).split())) or type(error).__name__
