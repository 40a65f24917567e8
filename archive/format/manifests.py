"""One manifest per batch: it describes the object, and names the digest of the manifest before it.

The chain shows every gap and every changed manifest, unless its end was cut off or rewritten. Who has no key of ours
cannot rewrite the end of a signed chain; whoever has one can, and that is shown only by a newest digest (`head`) that
was kept elsewhere.

There are two formats: 1 is not signed, and 2 is (`archive.format.sealed`). A chain may begin with format 1 and go on
with format 2, and never goes back.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, date, datetime

from archive.errors import EvidenceDiffers
from archive.format import layout, sealed
from archive.policy.retention import Lock, is_policy_name
from archive.signing.signatures import Signature, Signer
from billing.tables.facts import ArchiveBatch

object_key = layout.object_key
UNSIGNED, SIGNED = 1, 2
FORMAT = "billing-archive-manifest/"
PREFIX = "manifests/v1/"
EMPTY = "no planned fact of this class waited when the batch was claimed"
"""What the manifest of a batch without facts vouches for. It says nothing of facts that no relay had planned yet."""


@dataclass(frozen=True, slots=True)
class Source:
    """Which environment and installation wrote these facts."""

    environment: str
    installation: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """The content of one manifest. `captured` is the money that its facts say was taken: minor units by currency.

    A batch without facts has no object: then `key`, `sha256` and `version` are None, and `size` is 0.
    """

    retention_class: str
    number: int
    event_date: str
    environment: str
    installation: str
    key: str | None
    sha256: str | None
    version: str | None
    size: int
    schema: int
    rows: int
    first_seq: int
    last_seq: int
    captured: dict[str, int]
    lock_mode: str
    locked_until: str
    previous: str | None
    claimed_at: str | None = None
    """When the batch was claimed. In format 2 only."""
    policy: str | None = None
    """Under which policy its object is kept, and will be disposed of. None in format 1, and if an archiver claimed the
    batch or wrote the manifest that does not know the field."""
    key_id: str | None = None
    """The key that signed it; None in format 1."""
    signature: Signature | None = field(default=None, compare=False)
    """Over `line`. None in format 1, and where somebody has removed it."""

    @property
    def lock(self) -> Lock:
        """The lock of its object."""
        return Lock(self.lock_mode, datetime.fromisoformat(self.locked_until))

    def line(self) -> bytes:
        """What is signed, and what its digest is of: every archiver with the same key writes the same bytes."""
        content = {name: getattr(self, name) for name in _CONTENT}
        if self.policy is None:
            del content["policy"]
        if self.key_id is None:
            del content["claimed_at"], content["key_id"]
            return sealed.line({"format": f"{FORMAT}{UNSIGNED}", **content})
        empty = EMPTY if self.rows == 0 else None
        return sealed.line({"format": f"{FORMAT}{SIGNED}", "empty": empty, **content})

    def body(self) -> bytes:
        """The stored object."""
        return sealed.body(self.line(), self.signature)

    def signed(self, signer: Signer) -> "Manifest":
        """The same in format 2. Raises what `Signer.sign` raises."""
        mine = replace(self, key_id=signer.key_id)
        return replace(mine, signature=signer.sign(mine.line()))

    def same_but_for_the_key(self, other: "Manifest") -> bool:
        """Whether both say the same of a batch. While one key replaces another, two archivers sign with two keys. An
        older archiver does not name the policy."""
        mine = replace(self, key_id=other.key_id, policy=self.policy if other.policy else None)
        return (self.key_id is None) == (other.key_id is None) and mine == other


_CONTENT = tuple(each.name for each in fields(Manifest) if each.name != "signature")
_SIMPLE = tuple((each.name, each.type) for each in fields(Manifest) if each.type in (str, int))


def key(retention_class: str, number: int) -> str:
    return f"{PREFIX}{retention_class}/{number:012d}.json"


def number_of(retention_class: str, key: str) -> int | None:
    """The number of the manifest with this key; None if the key is not that of a manifest of this class."""
    found = re.fullmatch(rf"{PREFIX}{retention_class}/([0-9]{{12}})\.json", key)
    return int(found[1]) if found else None


def of(
    batch: ArchiveBatch,
    source: Source,
    *,
    sha256: str | None,
    version: str | None,
    size: int,
    captured: dict[str, int],
    previous: str | None,
) -> Manifest:
    """The manifest of a batch whose object was read back, not signed yet. `sha256` is None if it has no object.

    It does not depend on which archiver writes it, or when.
    """
    return Manifest(
        retention_class=batch.retention_class,
        number=batch.number,
        event_date=batch.event_date.isoformat(),
        environment=source.environment,
        installation=source.installation,
        key=object_key(batch) if sha256 else None,
        sha256=sha256,
        version=version,
        size=size,
        schema=layout.VERSION,
        rows=batch.rows,
        first_seq=batch.first_seq,
        last_seq=batch.last_seq,
        captured=captured,
        lock_mode=batch.lock_mode,
        locked_until=batch.locked_until.astimezone(UTC).isoformat(),
        previous=previous,
        # Format 1 is that of a version that knows neither.
        claimed_at=batch.claimed_at.astimezone(UTC).isoformat() if batch.manifest_format == SIGNED else None,
        policy=batch.policy if batch.manifest_format == SIGNED else None,
    )


def digest(body: bytes) -> str:
    """The digest that the next manifest names: of the line that is signed, without the signature."""
    return sealed.digest(body)


def read(where: str, body: bytes) -> Manifest:
    """Parse a manifest. Raises EvidenceDiffers if it is not one, or not in the canonical form.

    Anyone who can write to the bucket can write a manifest, so its shape is checked before a field is used. The key
    matters most: a copy of the object is written to a file of that name. The signature is not checked here.
    """
    try:
        values, signature = sealed.read(body)
        if values.pop("format") not in (f"{FORMAT}{UNSIGNED}", f"{FORMAT}{SIGNED}"):
            raise EvidenceDiffers(where, "a manifest of a format that this version does not know")
        values.pop("empty", None)
        manifest = Manifest(**values, signature=signature)
        shaped = _has_its_shape(manifest)
        canonical = manifest.body() == body
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise EvidenceDiffers(where, "not a manifest") from None
    if not shaped:
        raise EvidenceDiffers(where, "not a manifest: a field of another type or form")
    if not canonical:
        raise EvidenceDiffers(where, "not a manifest in its one canonical form")
    return manifest


def _has_its_shape(manifest: Manifest) -> bool:
    """May raise any of the errors that `read` catches, if a field has another type."""
    optional = (manifest.previous, manifest.claimed_at, manifest.key_id)
    # An archiver of an older version may have written an object without rows.
    has_object = type(manifest.sha256) is type(manifest.version) is str and manifest.key == object_key(manifest)
    has_none = manifest.key is manifest.sha256 is manifest.version is None and manifest.rows == manifest.size == 0
    return (
        all(type(getattr(manifest, name)) is kind for name, kind in _SIMPLE)
        and all(type(minor) is int for minor in manifest.captured.values())
        and all(value is None or type(value) is str for value in optional)
        and (manifest.key_id is None) == (manifest.claimed_at is None)
        and (manifest.key_id is not None or (manifest.signature, manifest.policy) == (None, None))
        and (manifest.policy is None or (bool(manifest.policy) and is_policy_name(manifest.policy)))
        and date.fromisoformat(manifest.event_date).isoformat() == manifest.event_date
        and manifest.lock.until.utcoffset() is not None
        and (has_object or has_none)
    )


def chain(retention_class: str, bodies: Mapping[int, bytes]) -> Iterator[Manifest]:
    """Manifests 1..N of one class in order. Raises EvidenceDiffers at the first one that breaks the chain.

    It does not check signatures, only that they are there from some manifest on.
    """
    previous, last_seq, signed = None, 0, False
    for number in range(1, len(bodies) + 1):
        where = key(retention_class, number)
        if number not in bodies:
            raise EvidenceDiffers(where, f"missing, and there are {len(bodies)} manifests up to {max(bodies)}")
        manifest = read(where, bodies[number])
        named = (manifest.retention_class, manifest.number, manifest.previous, manifest.first_seq)
        if named != (retention_class, number, previous, last_seq + 1):
            raise EvidenceDiffers(where, "it does not follow from the manifest before it")
        signed = signed or manifest.key_id is not None
        if signed and manifest.signature is None:
            raise EvidenceDiffers(where, "it is not signed, and must be")
        previous, last_seq = digest(bodies[number]), manifest.last_seq
        yield manifest
