"""The lock of a run folder: one process at a time writes to it."""

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Set


class Lock:
    """A file that one process holds; with its end, however it comes, the lock is gone.

    The lock is the kernel's and belongs to the process: neither forked nor spawned children have
    it. Where a file system knows no locks, there is none.

    Raises
    ------
    ValueError
        Another process, or another part of this one, has it.
    """

    _held: ClassVar[Set[str]] = set()

    def __init__(self, path: Path) -> None:
        self._path = os.path.realpath(path)
        # Of two of one process the kernel sees one; and to close the second would free the first.
        if self._path in Lock._held:
            raise ValueError(f"{path.parent.parent} is in use by this process")
        self._file = open(path, "a+b")  # as long as it is locked
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.seek(0)
            holder = self._file.read(20).decode("ascii", "replace").strip()
            self._file.close()
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise ValueError(
                    f"{path.parent.parent} is in use by process {holder}: wait for it, or end it"
                ) from None
            return
        Lock._held.add(self._path)
        with suppress(OSError):  # a full disk: the lock is there, its holder unnamed
            self._file.truncate(0)
            self._file.write(f"{os.getpid()}\n".encode())
            self._file.flush()

    def release(self) -> None:
        """Let others have it."""
        Lock._held.discard(self._path)
        with suppress(OSError):
            self._file.close()
