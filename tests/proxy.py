"""A TCP proxy in front of a real server that falls silent, refuses, cuts answers short, and counts what reaches it."""

import contextlib
import socket
import threading
from typing import Self

from jobs.local.server import free_port


class Proxy:
    """Forwards to `host:port` until told otherwise; every fault is of the network, and the server itself stays well.

    `hang`: connections stay open, new ones are accepted, and nothing is forwarded in either direction.
    `strand`: the connections of now are dead for ever and stay open; new ones work.
    `cut`: the connections of now are closed; new ones work.
    `refuse`: nobody listens, and the connections of now are cut.
    `cut_after`: so many bytes of an answer are forwarded; then its connection is closed.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        # Not one of those that outgoing connections get: it is given up and taken again.
        self.port = free_port()
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._listening = True
        self._flowing = threading.Event()
        self._flowing.set()
        self._links: set[_Link] = set()
        self._lock = threading.Lock()
        self._closed = False
        self.cut_after: int | None = None
        self.accepted = 0
        """How many connections there have been."""
        self.received = 0
        """How many bytes clients have sent, whether forwarded or not."""
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        self.refuse()
        self._flowing.set()

    def hang(self) -> None:
        self._flowing.clear()

    def strand(self) -> None:
        with self._lock:
            for link in self._links:
                link.stranded = True

    def refuse(self) -> None:
        self._listening = False
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # closing alone wakes up no accept
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        with self._lock:
            links = list(self._links)
        for link in links:
            link.close()

    def heal(self) -> None:
        """From now on everything is forwarded; what was stranded stays dead."""
        self.cut_after = None
        self._flowing.set()
        if not self._listening:
            self._listener = socket.create_server(("127.0.0.1", self.port))
            self._listening = True
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                self.accepted += 1
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self._flowing.wait()
        if self._closed:
            client.close()
            return
        try:
            server = socket.create_connection(self._target)
        except OSError:
            client.close()
            return
        link = _Link(client, server)
        with self._lock:
            self._links.add(link)
        if self._closed:
            # Accepted while it hung, and come here after all the others were closed.
            link.close()
        threading.Thread(target=self._pump, args=(link, server, client, True), daemon=True).start()
        self._pump(link, client, server, False)
        with self._lock:
            self._links.discard(link)

    def _pump(self, link: "_Link", source: socket.socket, sink: socket.socket, is_answer: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                if not is_answer:
                    self.received += len(data)
                while link.stranded or not self._flowing.is_set():
                    if link.over.wait(0.01) or self._closed:
                        break
                if link.over.is_set() or self._closed:
                    break
                if is_answer and self.cut_after is not None:
                    sink.sendall(data[: self.cut_after])
                    break
                sink.sendall(data)
        link.close()


class _Link:
    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.sockets = (client, server)
        self.stranded = False
        self.over = threading.Event()

    def close(self) -> None:
        self.over.set()
        for end in self.sockets:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
