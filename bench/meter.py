"""What /proc says about a process and everything that it started: CPU time and memory. Linux only."""

import contextlib
import os
import re
from collections import defaultdict
from pathlib import Path

_PROC = Path("/proc")
_TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")
GONE = (FileNotFoundError, ProcessLookupError)


def tree(root: int) -> list[int]:
    """The process and its living descendants."""
    children = defaultdict(list)
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(*GONE):
                children[int(_fields(int(entry.name))[1])].append(int(entry.name))
    found = [root]
    for pid in found:
        found += children[pid]
    return found


def cpu_ms(root: int) -> float:
    """CPU time of the tree so far, in ticks of 10 ms. Ended children count once their parents have waited for them."""
    total = 0.0
    for pid in tree(root):
        with contextlib.suppress(*GONE):
            total += sum(int(ticks) for ticks in _fields(pid)[11:15]) * _TICK_MS
    return total


def cpu_ms_exactly(root: int) -> float:
    """As `cpu_ms`, in nanoseconds, for trees in which no thread ends meanwhile, such as an idle one."""
    total = 0.0
    for pid in tree(root):
        with contextlib.suppress(*GONE):
            total += sum(int(ticks) for ticks in _fields(pid)[13:15]) * _TICK_MS
            for task in (_PROC / str(pid) / "task").iterdir():
                total += int((task / "schedstat").read_text().split()[0]) / 1e6
    return total


def memory_mb(root: int) -> float:
    """Proportional set size: each process counts its share of shared pages."""
    kilobytes = 0
    for pid in tree(root):
        with contextlib.suppress(*GONE):
            lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
            kilobytes += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return kilobytes / 1024


def most_memory_mb(pid: int) -> float:
    """The most that this process has had resident. What `getrusage` calls so begins with what its parent had when it
    was started."""
    found = re.search(r"^VmHWM:\s+(\d+) kB$", (_PROC / str(pid) / "status").read_text(), re.MULTILINE)
    # A process that has ended, and was not waited for, has none.
    return int(found[1]) / 1024 if found else 0.0


def _fields(pid: int) -> list[str]:
    """What follows the name in /proc/PID/stat: state, parent, and so on. A name may hold anything but its last `)`."""
    return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
