"""Whatever S3 does once, at whatever request of an archiver: nothing is lost, nothing is doubled, and it goes on.

The archiver talks to a real S3 through `faulty_s3`. What it wrote is read without faults afterwards: by our own
verification, by the auditor's `verify.py`, and by plain Python over Parquet.
"""

import dataclasses
import re
import threading
from collections.abc import Iterator
from copy import copy
from pathlib import Path

import pytest
from auditor import Auditor
from botocore.httpsession import URLLib3Session
from command import Run
from evidence import Archive, Lines
from faulty_s3 import CHECK, GETS, PUTS, Fault, FaultyS3, Place
from outside import in_order
from service import eventually
from test_verification import verify

from archive.errors import ArchiveError, EvidenceDiffers, StoreAway, StoreRefused
from archive.s3.store import Store
from jobs.cli.opening import open_runtime
from jobs.local.seaweed import REGION, SeaweedFS
from jobs.process import archiving

EVERYWHERE = (*PUTS, *GETS, CHECK)
ERROR = Fault("error", served=False, status=500, code="InternalError")
THROTTLED = Fault("throttled", served=False, status=503, code="SlowDown")
FULL = Fault("disk-full", served=False, status=507, code="InsufficientStorage")
DENIED = Fault("denied", served=False, status=403, code="AccessDenied")
SKEWED = Fault("clock-skewed", served=False, status=403, code="RequestTimeTooSkewed")
IDLE = Fault("too-slow-for-s3", served=False, status=400, code="RequestTimeout")
CUT = Fault("cut", part=0)
HELD = Fault("no-answer-in-time", held=True)
TRUNCATED = Fault("truncated", part=0.5)
ERROR_IN_200 = Fault("error-in-200", served=False, status=200, code="InternalError")
SLOW = Fault("slow", pause_s=0.01)

FULL_DISK = "507 InsufficientStorage; it has no room left; make some there"
CLOCK = "403 RequestTimeTooSkewed; set this machine's clock"
RIGHT = "403 AccessDenied; a right is missing"
UNREACHED = "S3 cannot be reached"
FAULTS: tuple[tuple[Fault, tuple[Place, ...], type[ArchiveError] | None, str], ...] = (
    (ERROR, EVERYWHERE, StoreAway, "500 InternalError"),
    (ERROR.afterwards(), PUTS, StoreAway, "500 InternalError"),
    (THROTTLED, (*PUTS, CHECK), StoreAway, "503 SlowDown; it asks for fewer requests"),
    (FULL, PUTS, StoreAway, FULL_DISK),
    (DENIED, EVERYWHERE, StoreRefused, RIGHT),
    (SKEWED, (*PUTS, CHECK), StoreAway, CLOCK),
    (IDLE, PUTS[:1], StoreAway, "400 RequestTimeout"),
    (CUT, EVERYWHERE, StoreAway, UNREACHED),
    (dataclasses.replace(CUT, name="cut-before", served=False), PUTS[:1], StoreAway, UNREACHED),
    (HELD, PUTS + GETS[:1], StoreAway, "S3 cannot be reached (ReadTimeoutError)"),
    (TRUNCATED, GETS, StoreAway, UNREACHED),
    (ERROR_IN_200, PUTS, StoreAway, "500 InternalError"),
    # What such an answer brings is no evidence. The next attempt ends the alarm.
    (ERROR_IN_200, GETS, EvidenceDiffers, "it is not locked as it must be"),
    (SLOW, PUTS + GETS, None, ""),
)
"""What one request meets, at which places, and what the archiver says of it; None: nothing."""


@pytest.fixture(scope="module")
def one_faulty(s3: SeaweedFS) -> Iterator[FaultyS3]:
    with FaultyS3(s3.port) as faulty:
        yield faulty


@pytest.fixture(scope="module")
def one_store(one_faulty: FaultyS3, s3: SeaweedFS) -> Iterator[Store]:
    """Through the faults."""
    keys = {"access_key": s3.access_key, "secret_key": s3.secret_key}
    store = Store("any", endpoint=one_faulty.url, region=REGION, **keys)
    yield store
    store.close()


@pytest.fixture
def faulty(one_faulty: FaultyS3) -> FaultyS3:
    one_faulty.met.clear()
    return one_faulty


@pytest.fixture
def auditor(s3: SeaweedFS, tmp_path: Path) -> Auditor:
    return Auditor(s3, tmp_path)


@pytest.mark.parametrize(("fault", "places", "error", "told"), FAULTS, ids=lambda each: getattr(each, "name", ""))
def test_a_fault_of_s3_loses_nothing_and_doubles_nothing_at_any_request(
    archive: Archive,
    auditor: Auditor,
    faulty: FaultyS3,
    one_store: Store,
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault,
    places: tuple[Place, ...],
    error: type[ArchiveError] | None,
    told: str,
) -> None:
    store = copy(one_store)
    store.bucket = archive.bucket
    if fault.held:
        # It waits for an answer for a second, and not for twenty.
        monkeypatch.setattr(store.client._endpoint, "http_session", URLLib3Session(timeout=(3.0, 1.0)))
    for number, place in enumerate(places, start=1):
        archive.tell("capture.requested", "capture.captured", of=f"cap_{number}", minor=1999, currency="USD")
        faulty.fail(place, fault)
        found = trouble(archive, store)
        while len(faulty.met) < number:
            # On a busy machine the real S3 may not answer in time either.
            assert fault.held, (place, found)
            found = trouble(archive, store)
        assert type(found) is (error or type(None)), (place, found)
        assert re.search(re.escape(told), str(found or "")), place
        # It goes on by itself.
        archive.round()
        assert {batch.state for batch in archive.known()} == {"archived"}
    # The SDK repeats nothing: each fault met one request.
    assert faulty.met == [(place.name, fault.name) for place in places]
    facts = archive.outside.facts()
    assert [(row["entity_id"], row["topic"]) for row in facts["capture"]] == [
        (f"cap_{number}", topic)
        for number in range(1, len(places) + 1)
        for topic in ("capture.requested", "capture.captured")
    ]
    in_order(facts)
    assert verify(archive).told == []
    said = auditor.verify(archive.bucket)
    assert (said.differs, said.status) == ([], 0)


def trouble(archive: Archive, store: Store) -> ArchiveError | None:
    """What an archiver meets in its start, or in its first round."""
    try:
        store.check("test")
        archive.round(store)
    except ArchiveError as error:
        return error
    return None


@pytest.fixture
def process(archive: Archive, faulty: FaultyS3, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of a process whose S3 is the faulty one."""
    for name, value in {
        "BILLING_ARCHIVE_BUCKET": archive.bucket,
        "BILLING_ARCHIVE_WAIT_S": "0",
        "BILLING_S3_ACCESS_KEY": archive.s3.access_key,
        "BILLING_S3_SECRET_KEY": archive.s3.secret_key,
        "S3_ENDPOINT_URL": faulty.url,
    }.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("process")
def test_a_running_archiver_logs_what_to_do_and_goes_on(
    archive: Archive, faulty: FaultyS3, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archiving, "AGAIN_S", 0.0)
    monkeypatch.setattr(archiving, "PATIENCE_S", {"short": 0.0})
    stop, runtime = threading.Event(), open_runtime("archiver")
    archiver = threading.Thread(target=archiving.run, args=(runtime, stop.is_set))
    archiver.start()
    try:
        for number, (fault, told) in enumerate(((THROTTLED, "SlowDown"), (FULL, FULL_DISK), (SKEWED, CLOCK)), start=1):
            faulty.fail(PUTS[number % 2], fault)
            archive.tell("capture.requested", of=f"cap_{number}")
            eventually(lambda n=number: len(lines.of("archive.away")) == n, "it has met the fault")
            eventually(lambda: archive.lag().waiting == 0, "it is archived")
            (line,) = lines.of("archive.away")[number - 1 :]
            assert (line["error"], told in line["message"]) == ("StoreAway", True)
    finally:
        stop.set()
        archiver.join()
        runtime.close()
    assert [row["entity_id"] for row in archive.outside.facts()["capture"]] == ["cap_1", "cap_2", "cap_3"]
    assert verify(archive).told == []


@pytest.mark.usefixtures("process")
def test_the_doctor_and_a_command_say_what_to_do_about_a_fault_of_s3(
    archive: Archive, faulty: FaultyS3, run: Run
) -> None:
    probe = Place("the probe of the lock", "PUT", "/probes/")
    for place, fault, told in ((CHECK, SKEWED, CLOCK), (probe, FULL, FULL_DISK), (probe, DENIED, RIGHT)):
        faulty.fail(place, fault)
        (fix,) = (
            each["fix"] for each in run("doctor", "--json").json if (each["part"], each["level"]) == ("bucket", "fail")
        )
        assert told in fix
    # Without Object Lock it would be no evidence; a server that is overloaded has not said that it has none.
    faulty.fail(CHECK, THROTTLED)
    archive.tell("capture.requested")
    ran = run("archive", "run", "--once")
    assert (ran.status, "503 SlowDown" in ran.err, "Object Lock" in ran.err) == (2, True, False)
    # A right that is missing needs an operator: the archiver ends, and the next one finishes the batch.
    faulty.fail(PUTS[0], DENIED)
    ran = run("archive", "run", "--once")
    assert (ran.status, RIGHT in ran.err) == (2, True)
    assert run("archive", "run", "--once").status == 0
    assert [row["entity_id"] for row in archive.outside.facts()["capture"]] == ["cap_1"]
