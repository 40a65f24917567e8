"""What the service's own verification says when signatures, or the keys in the bucket, were tampered with."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from evidence import Archive
from test_signing import a_signer
from test_verification import Attacker, a_history, ask_of, m

from archive.format import manifests, sealed
from archive.signing import keyring
from archive.signing.signatures import Signature, Signer
from archive.verifying import agreement, verification
from archive.verifying.agreement import Counts
from archive.verifying.findings import Heads


@pytest.fixture
def signed(archive: Archive) -> Archive:
    """Four signed batches, of which copies are here."""
    archive.signer = a_signer()
    archive.writer().publish_key()
    a_history(archive)
    archive.cache()
    assert told(archive) == quick(archive) == []
    return archive


def told(archive: Archive, *expected_keys: str) -> list[str]:
    found = verification.from_bucket(
        archive.store, ask_of(archive), Counts(), Heads(), pauses_s=(0.0,), expected_keys=expected_keys
    )
    return [str(finding) for finding in found]


def quick(archive: Archive, *expected_keys: str) -> list[str]:
    found = agreement.from_copies(archive.cache(fresh=False), ask_of(archive), Counts(), Heads(), expected_keys)
    return [str(finding) for finding in found]


def sign_anew(archive: Archive, signer: Signer | None, number: int, *, in_postgres: bool) -> None:
    """Write the chain anew from this manifest on: signed with a key of the attacker's, or not signed at all."""
    attacker, previous = Attacker(archive), None
    if signer is not None:
        attacker.put(keyring.place(signer.key_id), signer.pem)
    for n in range(number, 4):
        old = attacker.manifest(n)
        content, _ = sealed.read(old.body())
        content |= {"captured": {"USD": 1}, "previous": previous if n > number else old.previous}
        if signer is None:
            for added in ("claimed_at", "empty", "key_id", "policy"):
                del content[added]
            content["format"] = "billing-archive-manifest/1"
        else:
            content["key_id"] = signer.key_id
        line = sealed.line(content)
        body = sealed.body(line, signer.sign(line) if signer else None)
        attacker.replace(m(n), body)
        previous = manifests.digest(body)
        if in_postgres:
            key = f"'{signer.key_id}'" if signer else "NULL"
            attacker.sql(f"manifest_sha256 = '{previous}', manifest_key_id = {key}", n)


def other_signature(archive: Archive, change: Callable[[Signature, bytes], Signature | None]) -> None:
    """The second line of manifest 2 changed, and nothing else."""
    old = Attacker(archive).manifest(2)
    assert old.signature is not None
    Attacker(archive).replace(m(2), sealed.body(old.line(), change(old.signature, old.line())))


def forget_signatures(archive: Archive) -> None:
    """Postgres believes that nothing was ever signed."""
    archive.service.execute("ALTER TABLE billing.archive_batches DROP CONSTRAINT archive_batches_follows")
    archive.service.execute(
        "UPDATE billing.archive_batches SET manifest_format = 1, previous_format = 1 WHERE class = 'capture'"
    )
    archive.service.execute(
        "ALTER TABLE billing.archive_batches ADD CONSTRAINT archive_batches_follows"
        " FOREIGN KEY (class, previous_number, previous_seq, previous_format)"
        " REFERENCES billing.archive_batches (class, number, last_seq, manifest_format)"
    )


def key_of(archive: Archive) -> str:
    assert archive.signer is not None
    return keyring.place(archive.signer.key_id)


@dataclass(frozen=True)
class Attack:
    """`told` is part of what the whole verification says; `quick`: whether the quick form says anything, too."""

    what: str
    do: Callable[[Archive], Any]
    told: str
    quick: bool = False


ATTACKS = [
    Attack("the signature removed", lambda a: other_signature(a, lambda *_: None), "found no signature"),
    Attack(
        "the signature of another manifest",
        lambda a: other_signature(a, lambda *_: Attacker(a).manifest(3).signature),
        "did not make",
    ),
    Attack(
        "a signature by another key under our key's name",
        lambda a: other_signature(a, lambda s, line: Signature(s.key_id, s.algorithm, a_signer().sign(line).signature)),
        "did not make",
    ),
    Attack(
        "a signature that names another key",
        lambda a: other_signature(a, lambda _, line: a_signer().sign(line)),
        "where the signed line names key",
    ),
    Attack(
        "a signature of another algorithm",
        lambda a: other_signature(a, lambda s, _: Signature(s.key_id, "ecdsa-p256-sha256", s.signature)),
        "did not make",
    ),
    Attack(
        "a signature that is no base64",
        lambda a: other_signature(a, lambda s, _: Signature(s.key_id, s.algorithm, "!")),
        "did not make",
    ),
    Attack(
        "a suffix signed with another key",
        lambda a: sign_anew(a, a_signer(), 2, in_postgres=False),
        "as Postgres says digest",
        quick=True,
    ),
    Attack(
        "a suffix without signatures, in Postgres too",
        lambda a: (forget_signatures(a), sign_anew(a, None, 2, in_postgres=True)),
        "expected a signed manifest, as those before it; found one that is not signed",
        quick=True,
    ),
    Attack(
        "the public key exchanged",
        lambda a: Attacker(a).replace(key_of(a), a_signer().pem),
        "expected the public key that signed 4 manifests; found no such key",
        quick=True,
    ),
    Attack(
        "the public key deleted",
        lambda a: Attacker(a).destroy(key_of(a)),
        "expected the public key that signed 4 manifests; found no such key",
        quick=True,
    ),
    Attack(
        "another key over the public key",
        lambda a: Attacker(a).put(key_of(a), a_signer().pem),
        "with other bytes",
        True,
    ),
    Attack("a marker over the public key", lambda a: Attacker(a).hide(key_of(a)), "found a delete marker", True),
    Attack("a file beside the keys", lambda a: Attacker(a).put("keys/x", b"x"), "keys/x (version"),
    Attack(
        "an object for a day that had none",
        lambda a: (a.writer().daily(), Attacker(a).put(Attacker(a).key(4), b"x")),
        "that no batch, no manifest and no document names",
    ),
]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.what)
def test_what_was_done_to_signatures_and_keys_is_found_and_named(signed: Archive, attack: Attack) -> None:
    attack.do(signed)
    found = told(signed)
    assert [line for line in found if attack.told in line], found
    assert bool(quick(signed)) is attack.quick


def test_a_suffix_signed_with_another_key_in_bucket_and_postgres_is_found_by_whoever_knows_our_key(signed: Archive):
    """By nobody else: that key lies in the bucket, as ours does."""
    assert signed.signer is not None
    ours, theirs = signed.signer.key_id, a_signer()
    sign_anew(signed, theirs, 2, in_postgres=True)
    for form in (told, quick):
        assert form(signed) == []
        found = form(signed, ours)
        assert len(found) == 2
        assert all(
            f"a signature by key {theirs.key_id}, which is not one of the expected keys" in each for each in found
        )
        # The other classes, and what was signed before.
        assert form(signed, ours, theirs.key_id) == []
