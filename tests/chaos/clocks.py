"""The wall clocks of a server's Python processes, each to be set apart from the machine's.

Owns a folder with the preloaded library and one file a process. Promises that nobody else's clock is touched, and
that a process started anew goes by the machine's. Needs a C compiler: `build` says when there is none. Monotonic
clocks, Postgres and what Ray does in C++ go by the kernel's time throughout.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Iterable
from pathlib import Path

SOURCE = Path(__file__).with_name("clock_shift.c")
COMPILERS = ("cc", "gcc", "clang")


class Clocks:
    """``environment`` is what the processes must be started with."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.environment = {
            "LD_PRELOAD": str(folder / "clock_shift.so"),
            "RAY_LD_PRELOAD_ON_WORKERS": "1",  # Ray takes it away from its workers otherwise
            "CHAOS_CLOCKS": str(folder),
        }

    def shift(self, pids: Iterable[int], by_ms: int) -> None:
        """From now on these processes are so far ahead of the machine; 0 sets them right. Who has ended is passed
        over; FileNotFoundError for a process that does not listen."""
        for pid in pids:
            try:
                with (self._folder / str(pid)).open("r+b") as file:
                    file.write(struct.pack("=q", by_ms))
            except FileNotFoundError:
                if Path(f"/proc/{pid}").exists():
                    raise


def build(folder: Path) -> Clocks | None:
    """Compile the library into the folder, which is made; None where there is no C compiler."""
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        return None
    folder.mkdir()
    clocks = Clocks(folder)
    library = clocks.environment["LD_PRELOAD"]
    subprocess.run([compiler, "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True)
    return clocks
