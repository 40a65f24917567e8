"""Off by default, and never a reason for a process to end, to wait, or to write other lines."""

import json
import os
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

import pytest
from command import BILLING
from proxy import Proxy
from scraping import MEASURED, Page, address, scrape
from service import Service, eventually
from sqlalchemy import Engine
from sqlalchemy.engine import make_url
from structlog.testing import LogCapture

from billing import database
from billing.timing import SHORT
from jobs.local.supervisor import Child
from jobs.metrics import exporter, reading
from jobs.metrics.exporter import Exporter
from jobs.metrics.sources import Process

NOT_INSTALLED = "raise ImportError('as if it were not installed')\n"


@pytest.fixture
def without_the_library(tmp_path: Path) -> dict[str, str]:
    """A process with this setting that imports the library fails to."""
    (tmp_path / "prometheus_client.py").write_text(NOT_INSTALLED)
    return {"PYTHONPATH": str(tmp_path), "BILLING_LOG_LEVEL": "info"}


def listening(process: Child) -> set[str]:
    """The sockets on which a process waits for somebody."""
    open_files = [os.readlink(each) for each in Path(f"/proc/{process.pid}/fd").iterdir() if each.is_symlink()]
    rows = [line.split() for line in Path(f"/proc/{process.pid}/net/tcp").read_text().splitlines()[1:]]
    return {row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in open_files}


def take_one(service: Service) -> None:
    capture = service.ask_for_capture()
    eventually(lambda: service.status(capture).final, "the capture is final")


@pytest.mark.parametrize("setting", [{}, {"BILLING_METRICS_PORT": ""}], ids=["not-set", "empty"])
def test_where_no_port_is_set_the_library_is_not_imported_and_nothing_listens(
    service: Service, spawn: Callable[..., Child], without_the_library: dict[str, str], setting: dict[str, str]
) -> None:
    processes = [
        spawn(*role, program=BILLING, **without_the_library, **setting) for role in (("relay",), ("worker", "captures"))
    ]
    take_one(service)
    assert [process.output() for process in processes if "metrics." in process.output()] == []
    if sys.platform == "linux":
        assert [listening(process) for process in processes] == [set(), set()]


def test_without_the_library_a_process_says_so_and_works(
    service: Service, spawn: Callable[..., Child], without_the_library: dict[str, str]
) -> None:
    processes = [
        spawn(*role, program=BILLING, **without_the_library | MEASURED) for role in (("relay",), ("worker", "captures"))
    ]
    take_one(service)
    for process in processes:
        (line,) = lines(process, "metrics.unavailable")
        assert (line["level"], line["why"]) == ("error", "the extra `metrics` is not installed")


def lines(process: Child, event: str) -> list[dict[str, str]]:
    told = [json.loads(line) for line in process.output().splitlines()]
    return [line for line in told if line["event"] == event]


def test_a_port_that_is_taken_is_one_error_and_the_process_works(service: Service, spawn: Callable[..., Child]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        processes = [
            spawn(*role, **MEASURED | {"BILLING_METRICS_PORT": str(port)})
            for role in (("relay",), ("worker", "captures"))
        ]
        take_one(service)
        for process in processes:
            (line,) = eventually(lambda process=process: lines(process, "metrics.unavailable"), "it is told")
            assert (line["level"], line["port"], line["why"]) == ("error", port, "EADDRINUSE")


def test_only_this_machine_is_answered_unless_a_host_is_named(service: Service, spawn: Callable[..., Child]) -> None:
    relay = spawn("relay", **MEASURED)
    assert scrape(address(relay)).value("billing_lines_uncounted_total") == 0
    if sys.platform == "linux":
        assert [place.partition(":")[0] for place in listening(relay)] == ["0100007F"]


# In this process.


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> LogCapture:
    captured = LogCapture()

    class Log:
        def __getattr__(self, level: str) -> Callable[..., object]:
            return lambda event, **fields: captured.entries.append({"event": event, "level": level, **fields})

    monkeypatch.setattr(exporter, "log", Log())
    return captured


def a_relay() -> Process:
    return Process("relay", lambda: 3, lambda: 0.5, lambda: "redis", lambda: {"in_use": 1, "idle": 0})


@pytest.fixture
def served(told: LogCapture) -> Iterator[Callable[..., tuple[Exporter, str]]]:
    """An exporter on a free port, and where it answers."""
    opened: list[Exporter] = []

    def served(open_engine: Callable[[float], Engine] | None = None, port: int = 0) -> tuple[Exporter, str]:
        one = Exporter(a_relay(), "127.0.0.1", port, open_engine)
        opened.append(one)
        one.start()
        port = eventually(lambda: [e["port"] for e in told.entries if e["event"] == "metrics.served"], "it answers")[-1]
        return one, f"http://127.0.0.1:{port}/metrics"

    yield served
    for one in opened:
        one.close()


def test_a_process_tells_how_its_loop_stands(served: Callable[..., tuple[Exporter, str]]) -> None:
    _, url = served()
    page = scrape(url)
    assert page.value("billing_loop_turns_total") == 3
    assert page.value("billing_loop_quiet_seconds") == 0.5
    assert page.value("billing_waits_for_server", server="redis") == 1
    assert page.value("billing_waits_for_server", server="postgres") == 0
    assert page.value("billing_postgres_connections", use="in_use") == 1


def test_a_postgres_that_hangs_holds_no_scrape_and_comes_back_into_them(
    service: Service, served: Callable[..., tuple[Exporter, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "WAIT_S", 0.05)
    monkeypatch.setattr(reading, "EVERY_S", 0.0)
    target = make_url(service.url)
    with Proxy("127.0.0.1", target.port or 0) as proxy:
        behind = target.set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False)
        _, url = served(lambda limit_s: database.open_engine(behind, SHORT, name="x", statement_timeout_s=limit_s))
        eventually(lambda: scrape(url).value("billing_switches_pulled") == 0, "it is read")
        proxy.hang()
        monkeypatch.setattr(reading, "STALE_S", 0.0)
        for _ in range(3):
            page = scrape(url)
            assert page.value("billing_switches_pulled") is None, "what is old is not shown"
            assert page.value("billing_loop_turns_total") == 3
        monkeypatch.setattr(reading, "STALE_S", 60.0)
        proxy.heal()
        service.execute("INSERT INTO billing.switches (id, scope, actor) VALUES ('swi_1', 'captures', 'x')")
        eventually(lambda: scrape(url).value("billing_switches_pulled") == 1, "it is read again")
        proxy.refuse()
        eventually(lambda: scrape(url).sum("billing_database_reads_total", outcome="failed") > 0, "it is counted")
        proxy.heal()
        service.execute("UPDATE billing.switches SET state = 'released'")
        eventually(lambda: scrape(url).value("billing_switches_pulled") == 0, "it is read once more")


def test_a_statement_that_takes_too_long_is_missing_and_counted_and_the_others_are_read(
    service: Service, served: Callable[..., tuple[Exporter, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = "SELECT count(*) AS switches FROM pg_sleep(30)"
    monkeypatch.setitem(reading.SQL, "switches", slow)
    monkeypatch.setattr(reading, "LIMIT_S", 0.2)
    _, url = served(lambda limit_s: database.open_engine(service.url, SHORT, name="x", statement_timeout_s=limit_s))
    page = eventually(lambda: _counted(url, statement="switches", outcome="too_slow"), "it is counted")
    assert page.value("billing_switches_pulled") is None
    assert page.value("billing_relay_lag_seconds") == 0


def _counted(url: str, **labels: str) -> Page | None:
    page = scrape(url)
    return page if page.value("billing_database_reads_total", **labels) else None


def test_a_port_that_becomes_free_is_taken(
    served: Callable[..., tuple[Exporter, str]], told: LogCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "AGAIN_S", 0.01)
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    threading.Timer(0.2, taken.close).start()
    _, url = served(port=port)
    assert url == f"http://127.0.0.1:{port}/metrics"
    assert [entry["event"] for entry in told.entries] == ["metrics.unavailable", "metrics.served"]


def test_a_client_that_says_nothing_and_one_that_asks_for_something_else_trouble_nobody(
    served: Callable[..., tuple[Exporter, str]], told: LogCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter._Handler, "timeout", 0.2)
    _, url = served()
    host, port = url.removeprefix("http://").removesuffix("/metrics").split(":")
    silent = [socket.create_connection((host, int(port))) for _ in range(exporter.CLIENTS + 3)]
    # Some are turned away at once, the others after a while: then there is room again.
    for each in silent:
        with each:
            assert each.recv(1) == b""
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(url.replace("/metrics", "/secrets"), timeout=60)  # noqa: S310 - our own http
    garbage = socket.create_connection((host, int(port)))
    garbage.sendall(b"\x16\x03\x01\x00\r\n\r\n")
    garbage.close()
    assert scrape(url).value("billing_loop_turns_total") == 3
    assert [entry["event"] for entry in told.entries] == ["metrics.served"]


def test_clients_that_ask_byte_by_byte_are_left_and_another_is_answered(
    served: Callable[..., tuple[Exporter, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "WHOLE_S", 0.2)
    _, url = served()
    host, port = url.removeprefix("http://").removesuffix("/metrics").split(":")
    slow = [socket.create_connection((host, int(port))) for _ in range(exporter.CLIENTS)]

    def answered() -> bool:
        for each in slow:
            with suppress(OSError):
                each.send(b"G")
        try:
            return scrape(url).value("billing_loop_turns_total") == 3
        except (OSError, HTTPException):
            return False

    eventually(answered, "there is room again")
    for each in slow:
        each.close()


def test_a_number_that_cannot_be_made_is_an_error_of_that_scrape_alone(
    told: LogCapture, served: Callable[..., tuple[Exporter, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, url = served()
    with monkeypatch.context() as broken:
        broken.setattr(exporter, "_family", lambda *_: 1 / 0)
        with pytest.raises(urllib.error.HTTPError, match="500"):
            scrape(url)
    assert scrape(url).value("billing_loop_turns_total") == 3
    assert eventually(lambda: [e["event"] for e in told.entries if e["event"] == "scrape.failed"], "it is told")


WITHOUT_THREADS_FOR_A_WHILE = """
import re, resource, socket, urllib.request
from pathlib import Path
from jobs import logs
from jobs.metrics.exporter import CLIENTS, Exporter
from jobs.metrics.sources import Process

logs.configure("critical")
served = Exporter(Process("relay", lambda: 3, lambda: 0.5, lambda: None, dict), "127.0.0.1", 0, None)
served.start()
while served._server is None or not served._server.server_port:
    pass
port = served._server.server_port
used = int(re.search(r"VmSize:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
before = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (used + 4_000_000, before[1]))  # a thread wants 8 MB
for _ in range(CLIENTS):
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"GET /metrics HTTP/1.0\\r\\n\\r\\n")
        assert client.recv(1) == b"", "there was a thread for it"
resource.setrlimit(resource.RLIMIT_AS, before)
print(urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60).status)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc says how much is used")
def test_a_process_that_gets_no_threads_for_a_while_is_scraped_again_afterwards() -> None:
    program = [sys.executable, "-c", WITHOUT_THREADS_FOR_A_WHILE]
    ran = subprocess.run(program, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (0, "200\n"), ran.stderr


# Lines.

PROGRAM = """
import json
from jobs import logs
counted = []
logs.configure("error", heard={counted})
if {counted}:
    logs.hear_lines(lambda line: counted.append([line["event"], line["level"]]))
for level in ("debug", "info", "warning", "error"):
    getattr(logs.log, level)(f"a.{{level}}")
print(json.dumps(counted))
"""


@pytest.mark.parametrize("counted", [True, False])
def test_lines_are_counted_below_the_level_that_is_written(counted: bool) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(counted=counted)], capture_output=True, text=True, check=True, timeout=200
    )
    assert [json.loads(line)["event"] for line in ran.stderr.splitlines()] == ["a.error"]
    every = [["a.info", "info"], ["a.warning", "warning"], ["a.error", "error"]]
    assert json.loads(ran.stdout) == (every if counted else [])
