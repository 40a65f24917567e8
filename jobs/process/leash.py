"""Runs another program that the kernel ends when the process that started it ends.

Run as a script, it drops root if asked to, asks the kernel for a signal on the parent's death, and
turns into the wanted program under the same pid:

    python -I -S leash.py PARENT_PID SIGNAL_NUMBER UID:GID|- PROGRAM [ARGUMENT ...]

A script rather than `preexec_fn`: Python code between fork and exec may deadlock in a process with
threads. Here root is dropped first, because the kernel forgets the death signal when the user
changes; and Python is loaded before that, because the new user may not be able to reach it.
Imports only the standard library, so that `-I -S` starts it in about 15 ms.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def tied(program: Sequence[str | Path], *, death: signal.Signals = signal.SIGKILL, user: str = "-") -> list[str]:
    """The command that runs `program` so that it gets the signal `death` when the thread that starts it ends."""
    return [
        *(sys.executable, "-I", "-S", __file__, str(os.getpid()), str(int(death)), user),
        *map(str, program),
    ]


def main() -> None:
    parent, death_signal, identity, *program = sys.argv[1:]
    if identity != "-":
        uid, gid = identity.split(":")
        os.setgroups([])
        os.setgid(int(gid))
        os.setuid(int(uid))
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0) != 0:
            sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    # If the parent died before the line above, no signal comes.
    if os.getppid() != int(parent):
        sys.exit("the process that started this one is gone")
    # A shell ignores SIGINT for what it starts in the background, and every program below inherits that. Ours is in a
    # session of its own, where no Ctrl-C reaches it. Its supervisor stops it by a signal, which it must not ignore.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        os.execvp(program[0], program)  # noqa: S606 (no shell is wanted)
    except OSError as error:
        sys.exit(f"cannot run {program[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
