"""The process that has imported what a function or a document needs, and forks one process for each.

To import takes a second or two of processor time; to fork, a hundredth. Only `jobs.process.apart` starts it, and talks
to it: over standard input, a socket, come the ends of sockets on which one request each is read and answered. An answer
is lines: the number of the process, the answer in JSON, and how the process ended. Each process has a parent of its own
that waits for it alone, and the kernel ends all of them with the first.
"""

import gc
import json
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Any

from jobs import logs
from jobs.process.leash import end_with

READY = "ready"
"""The line that it writes first, once it has imported what it needs."""
REQUEST_BYTES = 1 << 20
"""No request is longer: it names what to do."""


def serve(answer: Callable[[Mapping[str, Any]], dict[str, Any]]) -> None:
    """Say that this process is ready. Then answer each request in a process of its own, with what `answer` returns or
    what it raised, until nobody is left to ask. Whatever else is printed goes to standard error."""
    ready, sys.stdout = sys.stdout, sys.stderr
    # What is there now is never garbage, and is not copied by a collector that looks at it.
    gc.freeze()
    # Nobody here waits for the parents.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    ready.write(f"{READY}\n")
    ready.flush()
    forks = os.getpid()
    with socket.socket(fileno=os.dup(0)) as asking, open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
        while True:
            said, files, _, _ = socket.recv_fds(asking, 1, 1)
            if not said:
                return
            try:
                alone = os.fork() == 0
            except OSError:
                # The system has no more processes for us now. Who asked hears nothing, and asks again; others go on.
                alone = False
            if alone:
                asking.close()
                _answer_alone(files[0], answer, forks)
            os.close(files[0])


def _answer_alone(file: int, answer: Callable[[Mapping[str, Any]], dict[str, Any]], forks: int) -> None:
    """Never returns: it ends this process, and the one that it forks. `forks`: its parent."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if end_with(forks):
        os._exit(1)
    waits = os.getpid()
    if child := os.fork():
        _, ended = os.waitpid(child, 0)
        # If nobody listens any more, nobody has to know.
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        try:
            os.write(file, f"\n{os.waitstatus_to_exitcode(ended)}\n".encode())
        finally:
            os._exit(0)
    if end_with(waits):
        os._exit(1)
    status = 1
    try:
        with socket.socket(fileno=file) as asker:
            asker.sendall(f"{os.getpid()}\n".encode())
            with asker.makefile("rb") as requests:
                asked = json.loads(requests.readline(REQUEST_BYTES))
            _limit(asked["memory_mb"])
            try:
                said = answer(asked)
            except Exception as error:  # noqa: BLE001 - the worker that waits for it logs it, and counts an attempt
                said = {"raised": list(logs.chain_of(error))}
            asker.sendall(json.dumps(said).encode())
        status = 0
    finally:
        sys.stderr.flush()
        os._exit(status)


def _limit(memory_mb: int) -> None:
    # Not RLIMIT_AS: threads and libraries reserve much address space that they never use.
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = memory_mb * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most))
