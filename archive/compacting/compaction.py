"""Makes a month's copy for engines that read S3 by themselves: one sorted object for each class, and an index.

It is made from verified objects only, and anybody can make it again from them, so it proves nothing and needs no lock.
Facts that are archived later, or disposed of, make it out of date; `check` says so, and `compact` makes it again.
"""

import hashlib
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from archive.closing.periods import Period
from archive.compacting import index, sorted_copy
from archive.compacting.index import Index, Part, Source
from archive.compacting.places import UNFINISHED, Place
from archive.copies.cache import Cache, Evidence
from archive.errors import BadQuestion, EvidenceDiffers, WrongBucket
from archive.policy.retention import CLASSES

WRITTEN_WITH = f"pyarrow {pa.__version__}"


def check(cache: Cache, month: Period, place: Place) -> list[str]:
    """What is wrong with the copy of this month, a line for each; none if it is whole and what the archive holds now.

    Reads the whole copy. Raises what `Cache.reading` and the place raise, and WrongBucket.
    """
    with cache.reading(since=month.first_day, until=_last_day(month)) as copies:
        _check_owner(place, copies.evidence)
        return _troubles(place, month, copies.evidence)


def compact(
    cache: Cache, month: Period, place: Place, progress: Callable[[str], None] = lambda _: None
) -> tuple[Index, bool]:
    """Make the copy of this month, unless it is there as it must be. True if it was made.

    If the process dies on its way there is no index, and the next run makes everything. Two runs at once may leave
    objects of one and the index of the other; `check` names that.

    Raises BadQuestion if the month is not over or nothing of it is archived; EvidenceDiffers if the copy would not hold
    what the manifests say, or if a file lies in its place that is no part of it; TooLarge; and as `check`.
    """
    # The usual one keeps what was freed, some 50 MB.
    pa.set_memory_pool(pa.system_memory_pool())
    if month.until > datetime.now(UTC):
        raise BadQuestion(f"{month.name} is not over; query the archive itself until then")
    with cache.reading(since=month.first_day, until=_last_day(month)) as copies:
        if not _sources(copies.evidence):
            raise BadQuestion(
                f"the archive holds no fact of {month.name}; if {place.name} has a copy of it, delete that"
            )
        _check_owner(place, copies.evidence)
        found = _index(place, month)
        if found is not None and not _troubles(place, month, copies.evidence):
            return found, False
        if strange := _strange(place, month):
            raise EvidenceDiffers(
                strange[0], f"it is no part of the copy in {place.name}; find out whose it is, and delete it"
            )
        place.remove(index.index_key(month.name))
        parts = []
        for evidence in copies.evidence:
            source = index.source_of(evidence)
            if source is not None:
                parts.append(_made(place, month, evidence, source, copies.scratch))
                progress(f"{source.retention_class}: {_held(source)}, sorted")
        _remove_all_but(place, month, parts)
        made = Index(month.name, *_owner(copies.evidence), sorted_copy.COLUMNS.names, WRITTEN_WITH, parts)
        file = copies.scratch / "index.json"
        file.write_bytes(made.body())
        place.put(index.index_key(month.name), file)
        return made, True


def _made(place: Place, month: Period, evidence: Evidence, source: Source, scratch: Path) -> Part:
    key, file = index.object_key(month.name, source.retention_class), scratch / "facts.parquet"
    sorted_copy.write(evidence.files, source.facts, file, scratch)
    sorted_copy.check(file, source, key)
    with file.open("rb") as body:
        sha256 = hashlib.file_digest(body, "sha256").hexdigest()
    place.put(key, file)
    if place.digest(key) != sha256:
        raise EvidenceDiffers(key, f"{place.name} returns other bytes than were written; is another run at work?")
    part = Part(source, file.stat().st_size, sha256)
    file.unlink()
    return part


def _remove_all_but(place: Place, month: Period, parts: Sequence[Part]) -> None:
    """What earlier runs left: unfinished files, and classes of which everything was disposed of."""
    made = {index.object_key(month.name, part.source.retention_class) for part in parts}
    for key in [*_ours(month) - made, *place.keys(UNFINISHED)]:
        place.remove(key)


def _troubles(place: Place, month: Period, evidence: Sequence[Evidence]) -> list[str]:
    troubles = [f"{key}: no part of the copy, and an engine would read it" for key in _strange(place, month)]
    found = _index(place, month)
    if found is None:
        return [*troubles, f"{index.index_key(month.name)}: missing, or not of this version; so the copy is not whole"]
    if found.columns != sorted_copy.COLUMNS.names:
        troubles.append("another version made it, with other columns")
    sources, made = _sources(evidence), {part.source.retention_class: part for part in found.parts}
    for name in sorted(made.keys() | sources.keys()):
        key = index.object_key(month.name, name)
        source = made[name].source if name in made else None
        if source != sources.get(name):
            troubles.append(f"{key}: made of {_held(source)}, and the archive holds {_held(sources.get(name))}")
        elif (sha256 := place.digest(key)) != made[name].sha256:
            troubles.append(f"{key}: {'missing' if sha256 is None else 'other bytes than were written'}")
    return troubles


def _check_owner(place: Place, evidence: Sequence[Evidence]) -> None:
    """Raises WrongBucket if copies of another installation are there: an engine would read both as one."""
    for key in place.keys(index.INDEXES):
        found = index.read(place.read(key) or b"")
        if found is not None and _sources(evidence) and (found.environment, found.installation) != _owner(evidence):
            raise WrongBucket(
                f"{place.name} holds copies of installation {found.installation} in {found.environment}; name another "
                "place"
            )


def _index(place: Place, month: Period) -> Index | None:
    found = index.read(place.read(index.index_key(month.name)) or b"")
    return found if found is not None and found.month == month.name else None


def _strange(place: Place, month: Period) -> list[str]:
    return [key for key in place.keys(index.folder(month.name)) if key not in _ours(month)]


def _ours(month: Period) -> set[str]:
    """The keys that objects of a copy of this month may have."""
    return {index.object_key(month.name, name) for name in CLASSES}


def _sources(evidence: Sequence[Evidence]) -> dict[str, Source]:
    found = map(index.source_of, evidence)
    return {source.retention_class: source for source in found if source is not None}


def _owner(evidence: Sequence[Evidence]) -> tuple[str, str]:
    """Environment and installation; all manifests of a bucket name the same."""
    first = next(manifest for part in evidence for manifest in part.manifests)
    return first.environment, first.installation


def _held(source: Source | None) -> str:
    return f"{source.facts} facts in {source.objects} objects" if source else "nothing"


def _last_day(month: Period) -> date:
    return month.next_first_day - timedelta(days=1)
