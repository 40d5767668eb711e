"""A small file system for a data directory, to be filled to its last byte and emptied again.

Owns the mount and a file in it. Promises that both are gone when it is closed, and, after `private_mounts`, with the
process and its children whatever ends them. Needs the right to mount: `open_disk` says when there is none.
"""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path
from typing import Self

_CLONE_NEWNS = 0x20000
_MS_REC_PRIVATE = 0x4000 | 1 << 18
_MNT_DETACH = 2
_STEP_BYTES = (1 << 22, 1 << 16, 1 << 12, 1)  # what is asked for, less and less as the end comes near
_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def private_mounts() -> bool:
    """From now on nobody but this process and its children sees what it mounts. False without the right to it.

    To be called before there are other threads."""
    try:
        _check(_libc.unshare(_CLONE_NEWNS))
        _check(_libc.mount(b"none", b"/", None, _MS_REC_PRIVATE, None))
    except OSError:
        return False
    return True


class SmallDisk:
    """Context manager: so many bytes at ``folder``, which is made, and gone with everything in it at the end."""

    def __init__(self, folder: Path, size_bytes: int) -> None:
        self.folder = folder
        self._size_bytes = size_bytes
        self._balloon = folder / "balloon"

    def __enter__(self) -> Self:
        self.folder.mkdir()
        options = f"size={self._size_bytes},mode=0711".encode()
        try:
            _check(_libc.mount(b"tmpfs", os.fsencode(self.folder), b"tmpfs", 0, options))
        except OSError:
            self.folder.rmdir()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        # Detached: it goes as soon as nobody works in it any more.
        _check(_libc.umount2(os.fsencode(self.folder), _MNT_DETACH))
        self.folder.rmdir()

    def fill(self) -> None:
        """Somebody else's file takes all there is. Blocks for as long as that takes."""
        with self._balloon.open("ab", buffering=0) as balloon:
            for step_bytes in _STEP_BYTES:
                self._grow(balloon.fileno(), step_bytes)

    def _grow(self, file: int, step_bytes: int) -> None:
        while True:
            try:
                os.posix_fallocate(file, os.fstat(file).st_size, step_bytes)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                return

    def clear(self) -> None:
        """That file is deleted again."""
        self._balloon.unlink(missing_ok=True)


def open_disk(folder: Path, size_bytes: int) -> SmallDisk | None:
    """A small disk that can be mounted here, not mounted yet; None without the right to mount."""
    disk = SmallDisk(folder, size_bytes)
    try:
        with disk:
            return disk
    except PermissionError:
        return None
