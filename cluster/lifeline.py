"""A process that does not outlive its parent, however that ends."""

from __future__ import annotations

import ctypes
import signal

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def end_with_parent(number: int = signal.SIGTERM) -> None:
    """From now on the kernel sends this process the signal when its parent is gone, even by SIGKILL."""
    _libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
