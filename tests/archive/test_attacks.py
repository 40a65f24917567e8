"""What `verify.py` says of an attacked archive: each attack of docs/finance/verify.md really happens.

The page's table holds the expected lines; `…` stands for anything. The attacker may bypass locks, and for some attacks
has the signing key. A fresh small archive is attacked in each test.
"""

import ast
import json
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import pytest
from auditor import VERIFIER, Auditor, Said
from outside import client
from strangers_archive import FACTS, Key, StrangersArchive, canonical, manifest_key, sha256

from jobs.local.seaweed import SeaweedFS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "finance" / "verify.md"


@pytest.fixture(scope="module")
def bucket(s3: SeaweedFS) -> StrangersArchive:
    return StrangersArchive(client(s3.url, s3.access_key, s3.secret_key), f"test-{uuid4().hex}")


@pytest.fixture(scope="module")
def auditor(s3: SeaweedFS, tmp_path_factory: pytest.TempPathFactory) -> Auditor:
    return Auditor(s3, tmp_path_factory.mktemp("auditor"))


@pytest.fixture
def archive(bucket: StrangersArchive) -> StrangersArchive:
    bucket.write()
    return bucket


@pytest.fixture
def verify(auditor: Auditor, bucket: StrangersArchive) -> Callable[..., Said]:
    """With the public key; `heads`: with this document."""

    def run(*options: str, key: bool = True, heads: bytes = b"", **more: Any) -> Said:
        return auditor.verify(bucket.bucket, [bucket.key.pem] * key, [heads] if heads else (), *options, **more)

    return run


# The attacks.

M2, M3 = manifest_key("capture", 2), manifest_key("capture", 3)


def unsigned(_: bytes) -> bytes:
    return b""


def old_signature(archive: StrangersArchive, number: int) -> Callable[[bytes], bytes]:
    kept = archive.body(manifest_key("capture", number)).partition(b"\n")[2]
    return lambda _: kept


def rewrite_suffix(archive: StrangersArchive) -> None:
    for number in (2, 3):
        archive.rewrite(number, archive.key.signature)
    for number in (4, 5):
        told = archive.told("capture", number) | {"previous": sha256(archive.line("capture", number - 1))}
        line = canonical(told)
        archive.replace(manifest_key("capture", number), line + archive.key.signature(line))


def leave_out(archive: StrangersArchive) -> None:
    archive.cut_off(2)
    archive.extend("capture", 2, skip=2)


def sign_anew(archive: StrangersArchive) -> None:
    """The whole class, with a key of the attacker's own, whose public key lies in the bucket."""
    archive.put(f"keys/{archive.other_key.id}.pem", archive.other_key.pem)
    for number in range(1, 6):
        line = archive.line("capture", number)
        archive.replace(manifest_key("capture", number), line + archive.other_key.signature(line))


def unsign(archive: StrangersArchive) -> None:
    """The whole class, as if it had been written before there were signatures."""
    previous = None
    for number in range(1, 6):
        told = archive.told("capture", number) | {"format": "billing-archive-manifest/1", "previous": previous}
        line = canonical(told)
        archive.replace(manifest_key("capture", number), line)
        previous = sha256(line)


ATTACKS: dict[str, Callable[[StrangersArchive], Any]] = {
    "an object is overwritten": lambda a: a.put(a.object_key(2), b"forged"),
    "an object is overwritten with the same bytes": lambda a: a.put(a.object_key(2), a.body(a.object_key(2))),
    "an object is deleted": lambda a: a.destroy(a.object_key(2)),
    "an object is hidden under a delete marker": lambda a: a.hide(a.object_key(2)),
    "one byte of an object is changed": lambda a: a.flip(a.object_key(2), 100),
    "two objects are swapped": lambda a: a.swap(a.object_key(2), a.object_key(3)),
    "an object is added": lambda a: a.put("v1/class=capture/event_date=2026-11-02/b9.parquet", b"x"),
    "a file is added elsewhere": lambda a: a.put("readme.txt", b"x"),
    "a manifest is overwritten": lambda a: a.put(M2, b"{}"),
    "a manifest is deleted": lambda a: a.destroy(M2),
    "a manifest is hidden under a delete marker": lambda a: a.hide(M2),
    "one byte of a manifest is changed": lambda a: a.flip(M2, 20),
    "two manifests are swapped": lambda a: a.swap(M2, M3),
    "a batch is missing in the middle": lambda a: (a.destroy(a.object_key(2)), a.destroy(M2)),
    "a signature is removed": lambda a: a.replace(M2, a.line("capture", 2)),
    "a batch is rewritten without the key": lambda a: a.rewrite(2, old_signature(a, 2)),
    "a batch is rewritten and not signed": lambda a: a.rewrite(2, unsigned),
    "a batch is rewritten and signed with another key": lambda a: a.rewrite(2, a.other_key.signature),
    "a batch is rewritten and signed with the stolen key": lambda a: a.rewrite(2, a.key.signature),
    "a class is signed anew with another key": sign_anew,
    "a class is written anew without signatures": unsign,
    "a batch is left out, and all after it are signed anew with the stolen key": leave_out,
    "a lock is lifted": lambda a: a.lift_lock(a.object_key(2)),
    "the lock of a manifest is lifted": lambda a: a.lift_lock(M2),
    "a class is deleted": lambda a: a.cut_off(1, "attempt"),
    "everything is deleted": lambda a: a.wipe(),
}
ONLY_WITH_HEADS: dict[str, Callable[[StrangersArchive], Any]] = {
    "the end is cut off": lambda a: a.cut_off(4),
    "all batches from one on are rewritten and signed with the stolen key": rewrite_suffix,
}


def on_the_page(heading: str) -> dict[str, list[str]]:
    """The rows of the table below this heading: what was done, and the lines that are said."""
    table = PAGE.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| (.+) \|$", table, re.MULTILINE)
    return {what: re.findall(r"`([^`]+)`", says) for what, says in rows if what != "what was done"}


def says(expected: list[str], differs: list[str]) -> None:
    """Every line is expected, and every expected line is there."""
    patterns = [".*".join(map(re.escape, line.split("…"))) for line in expected]
    assert [line for line in differs if not any(re.fullmatch(each, line) for each in patterns)] == []
    assert [each for each in patterns if not any(re.fullmatch(each, line) for line in differs)] == [], differs


FOUND, FOUND_WITH_HEADS = "What it finds", "What it finds with published heads only"


@pytest.mark.parametrize("what", ATTACKS)
def test_what_was_done_is_found_and_said_as_the_page_says(
    archive: StrangersArchive, verify: Callable[..., Said], what: str
) -> None:
    ATTACKS[what](archive)
    said = verify()
    says(on_the_page(FOUND)[what], said.differs)
    assert said.status == 1
    assert said.out.splitlines()[-1] == f"NOT VERIFIED: {len(said.differs)} differences"


@pytest.mark.parametrize("what", ONLY_WITH_HEADS)
def test_what_the_bucket_cannot_show_is_found_by_a_published_head(
    archive: StrangersArchive, verify: Callable[..., Said], what: str
) -> None:
    heads = archive.heads()
    ONLY_WITH_HEADS[what](archive)
    blind = verify()
    assert (blind.status, blind.differs) == (0, [])
    assert "cut off or rewritten at the end: use --heads" in blind.out
    said = verify(heads=heads)
    assert said.status == 1
    says(on_the_page(FOUND_WITH_HEADS)[what], said.differs)


def test_the_page_names_the_attacks_that_are_tried_and_no_others() -> None:
    assert set(on_the_page(FOUND)) == set(ATTACKS)
    assert set(on_the_page(FOUND_WITH_HEADS)) == set(ONLY_WITH_HEADS)


# No false alarm.


def test_an_archive_that_nobody_touched_is_verified(archive: StrangersArchive, verify: Callable[..., Said]) -> None:
    said = verify(heads=archive.heads())
    assert (said.status, said.differs) == (0, [])
    facts = sum(len(facts) for _, facts in FACTS.values())
    assert f'"facts": {facts}' in said.out
    assert 'captured, in minor units: {"USD": 3998}' in said.out
    assert f'"manifests of capture, signed by {archive.key.id}": 5' in said.out
    assert "use --key" not in said.out
    assert said.out.splitlines()[-1] == "VERIFIED: nothing differs"


def test_without_a_key_it_takes_those_of_the_bucket_and_says_so(
    archive: StrangersArchive, verify: Callable[..., Said]
) -> None:
    said = verify(key=False)
    assert (said.status, said.differs) == (0, [])
    assert "whether the keys were exchanged, because they are the bucket's own: use --key" in said.out
    # So this is not seen then.
    sign_anew(archive)
    assert verify(key=False).status == 0


def test_an_old_archive_may_begin_without_signatures(bucket: StrangersArchive, verify: Callable[..., Said]) -> None:
    bucket.write(signed_from=3)
    said = verify()
    assert (said.status, said.differs) == (0, [])
    assert '"manifests of capture, signed by nobody": 2' in said.out
    # What is not signed is held by the chain.
    bucket.rewrite(2, unsigned)
    assert [line.partition(":")[0] for line in verify().differs] == [M3]


def test_what_is_gone_after_its_lock_has_ended_was_disposed_of(
    bucket: StrangersArchive, verify: Callable[..., Said]
) -> None:
    bucket.write(locked_until=datetime.now(UTC).replace(microsecond=0) + timedelta(days=1))
    bucket.destroy(bucket.object_key(1))
    bucket.destroy(bucket.object_key(1, "attempt"))
    assert [line.partition(": ")[2][:12] for line in verify().differs] == ["gone", "gone", "1 of 3 facts"]
    # A rule of expiry first hides an object, and removes it days later.
    bucket.hide(bucket.object_key(2))
    bucket.hide(bucket.object_key(1))
    assert len([line for line in verify().differs if "there is also the delete marker" in line]) == 2
    said = verify(after=timedelta(days=2))
    assert (said.status, said.differs) == (0, [])
    assert '"objects disposed of under RP-1": 2' in said.out


def test_an_object_whose_manifest_is_not_written_yet_is_no_difference_for_an_hour(
    archive: StrangersArchive, verify: Callable[..., Said]
) -> None:
    archive.destroy(manifest_key("capture", 5))
    archive.put("probes/of-the-doctor", b"")
    assert verify(after=timedelta(0)).differs == []
    assert len(verify().differs) == 1


def test_a_head_that_was_published_since_does_not_hide_the_one_before(
    archive: StrangersArchive, auditor: Auditor
) -> None:
    """Who has the signing key may publish heads as well, but not take back what is published."""
    before = archive.heads()
    rewrite_suffix(archive)
    for heads in ([before, archive.heads()], [archive.heads(), before]):
        assert auditor.verify(archive.bucket, [archive.key.pem], heads).status == 1


def test_heads_that_are_not_signed_by_a_known_key_are_not_taken(
    archive: StrangersArchive, verify: Callable[..., Said]
) -> None:
    assert "is not signed" in verify(heads=archive.heads().partition(b"\n")[0]).differs[0]
    assert verify(heads=archive.heads(archive.other_key)).status == 2


def test_a_head_that_was_published_earlier_stays_good(archive: StrangersArchive, verify: Callable[..., Said]) -> None:
    line = canonical({"heads": {"capture": [2, sha256(archive.line("capture", 2))]}})
    assert verify(heads=line + archive.key.signature(line)).status == 0


def test_a_key_of_kms_s_kind_is_known_too(bucket: StrangersArchive, verify: Callable[..., Said]) -> None:
    ours, bucket.key = bucket.key, Key(of_kms=True)
    try:
        bucket.write()
        assert verify(heads=bucket.heads()).status == 0
        bucket.flip(M2, 20)
        assert f"{M2}: its signature is wrong" in verify().differs
    finally:
        bucket.key = ours


def test_a_program_gets_one_document_and_the_lines_on_standard_error(
    archive: StrangersArchive, verify: Callable[..., Said]
) -> None:
    archive.destroy(archive.object_key(2))
    said = verify("--json")
    told = json.loads(said.out)
    assert told["verdict"] == "NOT VERIFIED: 2 differences"
    assert [f"DIFFERS {line}" for line in told["differences"]] == said.err.splitlines()
    assert told["heads"]["capture"] == [5, sha256(archive.line("capture", 5))]


def test_a_key_cannot_steer_a_terminal(archive: StrangersArchive, verify: Callable[..., Said]) -> None:
    archive.put("v2/\u202eevil", b"x")
    (line,) = verify().differs
    assert "\\u202eevil" in line


# What cannot be checked.


@pytest.mark.parametrize(
    ("bucket_name", "keys", "heads", "session", "says"),
    [
        ("no-such-bucket", [], [], None, "NoSuchBucket"),
        ("", [], [], boto3.session.Session("AKNOBODY", "x"), "InvalidAccessKeyId"),
        ("", [b"no key"], [], None, "PEM"),
        ("", [], [b"{}\n{}\n"], None, "key_id"),
        ("", [], [b"no heads"], None, "Expecting value"),
    ],
    ids=["no-bucket", "no-rights", "no-key", "no-signature", "no-heads"],
)
def test_what_cannot_be_checked_is_one_line_and_exit_status_two(
    archive: StrangersArchive,
    auditor: Auditor,
    bucket_name: str,
    keys: list[bytes],
    heads: list[bytes],
    session: Any,
    says: str,
) -> None:
    said = auditor.verify(bucket_name or archive.bucket, keys, heads, session=session)
    assert (said.status, said.out) == (2, "")
    line = said.err.splitlines()[0]
    assert line.startswith("verify.py: ")
    assert says in line


@pytest.mark.parametrize("library", ["boto3", "cryptography", "pyarrow"])
def test_a_missing_library_is_named_with_what_to_do(
    library: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name == library or name.startswith(f"{library}.")]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SystemExit) as ended:
        exec(compile(VERIFIER.read_text(), "verify.py", "exec"), {"__name__": "verify"})  # noqa: S102 - our own file
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"verify.py: {library}")
    assert line.endswith("pip install boto3 cryptography pyarrow")


# The file.


def test_it_imports_nothing_of_ours_and_an_auditor_reads_it_in_one_sitting() -> None:
    source = VERIFIER.read_text()
    imported = set[str]()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add(str(node.module).partition(".")[0])
    assert imported - sys.stdlib_module_names == {"boto3", "botocore", "cryptography", "pyarrow"}
    assert len(source.splitlines()) <= 224
    assert max(map(len, source.splitlines())) <= 120
