"""A lock on a folder that one process at a time may write to."""

import contextlib
import errno
import fcntl
import os
import socket
from pathlib import Path
from typing import IO

from contrastkit.errors import UserError

FILE = ".lock"
_held: set[IO[bytes]] = set()


class Locked(UserError):
    """Another process writes to the folder."""


def acquire(folder: Path) -> IO[bytes] | None:
    """Lock a folder until :func:`release` or the end of this process, however it ends.

    Returns:
        The open lock file, which names this process; None on a file system without locks.

    Raises:
        Locked: another process holds the lock; the message names it.
        OSError: the folder cannot be written.
    """
    while True:
        file = open(folder / FILE, "ab+", buffering=0)  # noqa: SIM115 - open while the lock is held
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(file.fileno()), os.stat(folder / FILE)):
                break
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().decode().strip() or "another process"
            file.close()
            raise Locked(f"{folder} is in use by {holder}: wait until it ends, or stop it") from error
        except FileNotFoundError:
            pass  # its last holder removed the file between the two calls
        except OSError as error:
            file.close()
            if error.errno in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
                return None
            raise
        file.close()
    file.truncate(0)
    with contextlib.suppress(OSError):  # on a full disk it holds without a name
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n".encode())
    _held.add(file)
    return file


def release(file: IO[bytes]) -> None:
    """Unlock a folder."""
    _held.discard(file)
    if not file.closed:
        file.truncate(0)
        file.close()


def _close_in_child() -> None:
    """Let go of the lock in a forked child, such as a data-loading process: it may outlive a parent that was killed."""
    while _held:
        _held.pop().close()


os.register_at_fork(after_in_child=_close_in_child)
