"""What a child process runs before it becomes Postgres: it binds its life to its parent's and drops root.

Run as a script: `python -I -S child_process.py PARENT_PID UID GID DIRECTORY PROGRAM [ARGUMENT]...`. The usual
way, code of the parent's run between fork and exec, may deadlock where the parent has threads; a fresh
interpreter costs 20 ms and cannot. Promises: the program keeps this process id and gets SIGINT when
PARENT_PID dies, even by SIGKILL. Started by root it runs as UID and GID, in no other group, and with no
capability unless DIRECTORY or PROGRAM is closed to that user.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG, _PR_SET_KEEPCAPS, _PR_SET_SECUREBITS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = (
    1,
    8,
    28,
    47,
    2,
)
_SECBIT_NO_SETUID_FIXUP = 1 << 2
_CAPABILITY_VERSION_3 = 0x20080522

# Least first. A checkout or a data directory below /root is closed to every other user. To search one's way
# through is a right to give to one process; opening such directories to everybody would outlive it.
# Containers often have the second only, and it is what executing a file of umask 077 takes.
_CAP_DAC_READ_SEARCH, _CAP_DAC_OVERRIDE, _CAP_SETPCAP = 2, 1, 8

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _become(uid: int, gid: int) -> None:
    """Take on an unprivileged user. Capabilities stay permitted, not effective, until the program starts."""
    if sys.platform == "linux":
        _check(_libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0))
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def _keep_only(capability: int) -> None:
    """Make one capability effective, here and past `exec`. Raises OSError if it is not permitted."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; the same for capabilities above 31
    _check(_libc.capget(header, sets))
    sets[0], sets[2] = 1 << capability | 1 << _CAP_SETPCAP, 1 << capability
    sets[3] = sets[5] = 0
    _check(_libc.capset(header, sets))
    # Or access(2), with which Postgres looks for its own program, would ignore the capability.
    _check(_libc.prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP, 0, 0, 0))
    sets[0] = 1 << capability
    _check(_libc.capset(header, sets))
    _check(_libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability, 0, 0))


def _die_with(parent_pid: int) -> None:
    """Have the kernel send SIGINT when the parent is gone. Set last: a change of user clears it."""
    if sys.platform == "linux":
        _check(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0))
    if os.getppid() != parent_pid:
        sys.exit("the parent process died before its child had started")


def _execute(parent_pid: int, directory: str, command: list[str]) -> None:
    """Become `command`; returns only if the directory or the program is out of reach."""
    _die_with(parent_pid)
    try:
        os.listdir(directory)
        os.execv(command[0], command)
    except PermissionError:
        return


def main(parent_pid: int, uid: int, gid: int, directory: str, command: list[str]) -> None:
    """See above. Ends in another program, or in an exit with a sentence on standard error."""
    for ignored_by_python in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored_by_python, signal.SIG_DFL)
    as_root = os.geteuid() == 0
    if as_root:
        _become(uid, gid)
    _execute(parent_pid, directory, command)
    if as_root and sys.platform == "linux":
        for capability in (_CAP_DAC_READ_SEARCH, _CAP_DAC_OVERRIDE):
            with contextlib.suppress(PermissionError):
                _keep_only(capability)
                _execute(parent_pid, directory, command)
    sys.exit(f"user id {uid} may not reach {directory} or {command[0]}: open the directories above to it")


if __name__ == "__main__":
    _parent, _uid, _gid, _directory, *_command = sys.argv[1:]
    main(int(_parent), int(_uid), int(_gid), _directory, _command)
