"""Runs another program that the kernel ends when the process that started it ends.

Run as a script, it gives way to other programs and drops root if asked to, asks the kernel for a signal on the
parent's death, and turns into the wanted program under the same pid:

    python -I -S leash.py PARENT_PID SIGNAL_NUMBER UID:GID|- NICENESS PROGRAM [ARGUMENT ...]

A script rather than `preexec_fn`: Python code between fork and exec may deadlock in a process with
threads. Here root is dropped first, because the kernel forgets the death signal when the user
changes; and Python is loaded before that, because the new user may not be able to reach it.
Imports only the standard library, so that `-I -S` starts it in about 15 ms.
"""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
ONE_CHANGE_IN_S, TRIES = 0.1, 10
"""The kernel lets users without privileges change one session's share in a tenth of a second, on the whole machine
(kernel/sched/autogroup.c). If it refuses each time, nice alone must do."""


def tied(
    program: Sequence[str | Path], *, death: signal.Signals = signal.SIGKILL, user: str = "-", niceness: int = 0
) -> list[str]:
    """The command that runs `program` so that it gets the signal `death` when the thread that starts it ends.

    `niceness`: if not 0, it gives way to other programs, in a session of its own.
    """
    return [
        *(sys.executable, "-I", "-S", __file__, str(os.getpid()), str(int(death)), user, str(niceness)),
        *map(str, program),
    ]


def main() -> None:
    parent, death_signal, identity, niceness, *program = sys.argv[1:]
    if int(niceness):
        _give_way(int(niceness))
    if identity != "-":
        uid, gid = identity.split(":")
        os.setgroups([])
        os.setgid(int(gid))
        os.setuid(int(uid))
    if wrong := end_with(int(parent), int(death_signal)):
        sys.exit(wrong)
    # A shell ignores SIGINT for what it starts in the background, and every program below inherits that. Ours is in a
    # session of its own, where no Ctrl-C reaches it. Its supervisor stops it by a signal, which it must not ignore.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        os.execvp(program[0], program)  # noqa: S606 (no shell is wanted)
    except OSError as error:
        sys.exit(f"cannot run {program[0]}: {error.strerror}")


def end_with(parent: int, death_signal: int = signal.SIGKILL) -> str | None:
    """Have the kernel send this process a signal when its parent ends; elsewhere than on Linux nothing does. Returns
    what is wrong, such as that the parent is gone already; then this process has to end by itself."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0) != 0:
            return f"prctl: {os.strerror(ctypes.get_errno())}"
    # If the parent died before the line above, no signal comes.
    return None if os.getppid() == parent else "the process that started this one is gone"


def _give_way(niceness: int) -> None:
    os.nice(niceness)
    # Where Linux shares the processor between sessions first (sched_autogroup), nice counts only within a session: so
    # this is a session of its own, which gives way as a whole. Source: sched(7), "The autogroup feature".
    os.setsid()
    for _ in range(TRIES):
        try:
            Path("/proc/self/autogroup").write_text(str(niceness))
        except BlockingIOError:
            time.sleep(ONE_CHANGE_IN_S)
        except OSError:
            return  # no such feature here, or a container that does not show it
        else:
            return


if __name__ == "__main__":
    main()
