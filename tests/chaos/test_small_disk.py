"""The small disk of a run of chaos: full to the last byte, and gone without a trace."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.small_disk import SmallDisk, open_disk

SIZE_BYTES = 1 << 22


@pytest.fixture
def disk(tmp_path: Path) -> SmallDisk:
    found = open_disk(tmp_path / "disk", SIZE_BYTES)
    if found is None:
        pytest.skip("no right to mount")
    return found


def test_a_full_disk_takes_nothing_until_it_is_cleared(disk: SmallDisk) -> None:
    with disk:
        file = disk.folder / "file"
        file.write_bytes(b"before")
        disk.fill()
        with pytest.raises(OSError, match="No space left") as full:
            (disk.folder / "more").write_bytes(b"x")
        assert full.value.errno == errno.ENOSPC
        assert file.read_bytes() == b"before"
        disk.clear()
        file.write_bytes(b"x" * (SIZE_BYTES // 2))


def test_nothing_of_it_is_left(disk: SmallDisk) -> None:
    """Not even when somebody still works in it."""
    with disk, (disk.folder / "open").open("w"):
        disk.fill()
        disk.__exit__()
        assert not disk.folder.exists()
        assert str(disk.folder) not in Path("/proc/mounts").read_text()
        disk.__enter__()
    assert not disk.folder.exists()


def test_private_mounts_are_seen_by_nobody_else_and_end_with_their_process(disk: SmallDisk) -> None:
    """Killed, it cannot tidy up."""
    program = (
        "import os, sys; from pathlib import Path; from tests.chaos import small_disk as d\n"
        "assert d.private_mounts()\n"
        f"d.SmallDisk(Path({str(disk.folder)!r}), {SIZE_BYTES}).__enter__()\n"
        "print(sys.argv[1] in Path('/proc/mounts').read_text(), flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(disk.folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        assert str(disk.folder) not in Path("/proc/mounts").read_text()
        process.kill()
    assert list(disk.folder.iterdir()) == []
