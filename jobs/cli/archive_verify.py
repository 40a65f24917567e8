"""`billing archive verify`: whether the archive is unchanged."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.output import AsJson, counted, every_few_seconds, print_json, print_line

if TYPE_CHECKING:
    from archive.s3.store import Store
    from archive.verifying.agreement import Counts
    from archive.verifying.findings import Finding, Heads
    from billing.database import Transact
    from jobs.config.settings import Settings

MOST_IN_JSON = 10_000
"""JSON names at most so many differences and counts the others. So memory is bounded if a whole archive differs."""


def verify(
    from_cache: Annotated[
        bool, typer.Option("--from-cache", help="The quick form: compare the chain with Postgres and the copies here.")
    ] = False,
    expect_head: Annotated[
        list[str] | None,
        typer.Option(metavar="CLASS=DIGEST", help="A head that was stored elsewhere; may be given several times."),
    ] = None,
    expect_heads: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE_OR_DIRECTORY", help="Heads that archivers published; may be given several times."),
    ] = None,
    expect_key: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY_ID", help="A key that may have signed, and no other; may be given several times."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Read every version, object and lock in S3, and compare them with the manifests, Postgres and published heads.

    It checks every signature, and downloads every object, even if there is a copy here. Archivers may run meanwhile. It
    names each difference; the exit status is then 1. It is 2 if S3 or Postgres did not answer. The last lines say what
    it cannot see.

    \b
    Examples:
      billing archive verify
      billing archive verify --expect-head capture=5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9
      billing archive verify --expect-heads /mnt/auditor/heads
      billing archive verify --expect-key 5c9a0b1d2e3f4a5b
      billing archive verify --from-cache
    """
    from archive.verifying import agreement, verification
    from archive.verifying.findings import Heads
    from jobs.cli.opening import opened
    from jobs.process import archiving, buckets
    from jobs.process.patience import patiently

    may_sign = [_key_id(text) for text in expect_key or ()]
    heads, counts = Heads(map(_stored_head, expect_head or ())), agreement.Counts()
    with opened() as runtime, buckets.opened(runtime.settings) as store:
        store.check(runtime.settings.environment)
        ask = partial(patiently, runtime)
        published = _expected(runtime.settings, store, ask, heads, expect_heads or (), may_sign)
        if from_cache:
            findings = agreement.from_copies(archiving.cache(runtime.settings, store), ask, counts, heads, may_sign)
        else:
            progress = every_few_seconds()
            findings = verification.from_bucket(store, ask, counts, heads, progress, expected_keys=may_sign)
        differs = (_in_json if as_json else _in_words)(
            chain(published, findings), counts, heads, _Blind(from_cache, bool(may_sign))
        )
    if differs:
        raise typer.Exit(1)


def _expected(
    settings: "Settings", store: "Store", ask: "Transact", heads: "Heads", files: "Sequence[Path]", may_sign: list[str]
) -> "list[Finding]":
    """Expect all heads that were published, to files, the second bucket and Postgres. Raises BadHeads."""
    from sqlalchemy import select

    from archive.format.manifests import Source
    from archive.signing import keyring
    from archive.verifying import published
    from archive.writing import publishing
    from billing.tables.schema import Installation
    from jobs.process import buckets

    source = Source(settings.environment, ask(lambda session: session.scalars(select(Installation.identity)).one()))
    keys = keyring.Keyring(keyring.read(store), may_sign)
    found = list(published.expect(heads, published.from_files(files, source), source, keys, elsewhere=True))
    with buckets.second_opened(settings) as second:
        if second is not None:
            documents = publishing.in_bucket(second, source)
            found += published.expect(heads, documents, source, keys, elsewhere=True)
    return [*found, *published.expect(heads, ask(publishing.documents), source, keys, elsewhere=False)]


def _in_json(findings: "Iterator[Finding]", counts: "Counts", heads: "Heads", blind: "_Blind") -> bool:
    shown = list(islice(findings, MOST_IN_JSON))
    left_out = sum(1 for _ in findings)
    print_json(
        {
            "facts": counts.facts,
            "objects": counts.objects,
            "documents": counts.documents,
            "unfinished": counts.unfinished,
            "disposed": counts.disposed,
            "from_cache": blind.from_cache,
            "signed": counts.signed,
            "unsigned": counts.unsigned,
            "differences": shown,
            "differences_left_out": left_out,
            "heads": heads.newest(),
            "cannot_see": blind.to(heads, counts),
        }
    )
    return bool(shown)


def _in_words(findings: "Iterator[Finding]", counts: "Counts", heads: "Heads", blind: "_Blind") -> bool:
    number = 0
    for number, finding in enumerate(findings, start=1):  # noqa: B007 - the last number is how many there were
        print_line(f"DIFFERS {finding}")
    checked = f"{counted(counts.facts, 'fact')} in {counted(counts.objects, 'object')}"
    if number:
        print_line(f"{counted(number, 'difference')}; {checked} were checked")
    else:
        print_line(f"{checked} agree with their manifests and Postgres")
    if counts.documents:
        print_line(f"{counted(counts.documents, 'document')} of invoices, as their facts say")
    if counts.unfinished:
        print_line(f"{counted(counts.unfinished, 'batch', 'batches')} that an archiver is writing: not checked yet")
    for gone in counts.disposed:
        print_line(f"DISPOSED {gone}")
    for key_id, signed in counts.signed.items():
        print_line(f"{counted(signed, 'manifest is', 'manifests are')} signed by key {key_id}")
    for line in blind.to(heads, counts):
        print_line(f"NOT SEEN {line}")
    return bool(number)


@dataclass(frozen=True, slots=True)
class _Blind:
    """What this verification cannot see, which depends on how it was called."""

    from_cache: bool
    keys_expected: bool

    def to(self, heads: "Heads", counts: "Counts") -> list[str]:
        """A sentence for each kind of attack."""
        lines = [heads.cannot_see()]
        if counts.unsigned:
            count = counted(counts.unsigned, "manifest is", "manifests are")
            lines.append(f"{count} not signed: who wrote them, nothing here shows")
        if counts.signed and not self.keys_expected:
            lines.append(
                "The keys come from the bucket: whether they are ours, only ids that were given by hand show "
                "(--expect-key)"
            )
        if self.from_cache:
            lines.append(
                "With --from-cache: changes of objects that have a copy here, other versions, delete markers, objects "
                "without a manifest, missing locks, and documents"
            )
        return lines


def _stored_head(text: str) -> tuple[str, str]:
    """`capture=5fec…`, as `billing archive status` shows class and head."""
    from archive.policy.retention import CLASSES

    name, _, digest = text.strip().partition("=")
    if name not in CLASSES or not re.fullmatch("[0-9a-f]{64}", digest.lower()):
        raise typer.BadParameter(
            f"write CLASS=DIGEST: one of {', '.join(CLASSES)}, and 64 hexadecimal digits as `billing archive status` "
            "prints them",
            param_hint="--expect-head",
        )
    return name, digest.lower()


def _key_id(text: str) -> str:
    key_id = text.strip().lower()
    if not re.fullmatch("[0-9a-f]{16}", key_id):
        raise typer.BadParameter(
            "write the 16 hexadecimal digits that `billing archive keys` prints", param_hint="--expect-key"
        )
    return key_id
