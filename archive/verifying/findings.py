"""The result of a verification: each difference with key, version, expected and found; and the heads."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from archive.format import manifests


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference. `version` is S3's version id; None if the finding is about no single version."""

    key: str
    version: str | None
    expected: str
    found: str

    def __str__(self) -> str:
        # Anyone who can write to the bucket chooses keys: a key must not reach a terminal as a control sequence.
        key = self.key if self.key.isprintable() else ascii(self.key)
        where = key + (f" (version {self.version})" if self.version else "")
        return f"{where}: expected {self.expected}; found {self.found}"


@dataclass(frozen=True, slots=True)
class Head:
    """The newest manifest of a class: its number, and its digest, which stands for everything before it."""

    retention_class: str
    number: int
    head: str


class Heads:
    """Compares the digests that a verification sees with heads that were kept where the archive cannot write."""

    def __init__(self, kept: Iterable[tuple[str, str]] = ()) -> None:
        self._kept = dict.fromkeys(kept, "the head that was stored")
        self._elsewhere = set(self._kept)
        self._newest: dict[str, Head] = {}
        self._proven: dict[tuple[str, str], int] = {}

    def keep(self, retention_class: str, digest: str, what: str, *, elsewhere: bool) -> None:
        """Expect this head, too. `what` says in a finding which it is; `elsewhere`: whether it comes from where the
        archive cannot write."""
        self._kept.setdefault((retention_class, digest), what)
        if elsewhere:
            self._elsewhere.add((retention_class, digest))

    def note(self, retention_class: str, number: int, digest: str) -> None:
        """Note the digest of this manifest. Call it in the order of the numbers."""
        self._newest[retention_class] = Head(retention_class, number, digest)
        if (retention_class, digest) in self._kept:
            self._proven[retention_class, digest] = number

    def newest(self) -> list[Head]:
        return list(self._newest.values())

    def findings(self) -> Iterator[Finding]:
        """One for each kept head that is not in the chain: the chain was cut off before it, or rewritten."""
        for (name, digest), what in self._kept.items():
            if (name, digest) not in self._proven:
                newest = self._newest.get(name)
                has = f"{newest.number} manifests, the newest with digest {newest.head}" if newest else "no manifest"
                expected = f"a manifest with digest {digest}, {what}"
                yield Finding(f"{manifests.PREFIX}{name}/", None, expected, has)

    def cannot_see(self) -> str:
        """Which attacks this verification cannot see, as a sentence."""
        attack = "were cut off or rewritten, in the bucket and in Postgres together"
        proven = {kept: number for kept, number in self._proven.items() if kept in self._elsewhere}
        if not proven:
            return f"If the newest batches {attack}, only a head that was stored elsewhere shows it"
        upto: dict[str, int] = {}
        for (name, _), number in proven.items():
            upto[name] = max(number, upto.get(name, 0))
        heads = ", ".join(f"{name} {number}" for name, number in upto.items())
        return f"If batches after the stored heads ({heads}), or of other classes, {attack}, nothing here shows it"
