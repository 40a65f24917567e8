"""What is in a bucket, to be compared with what should be: every page of its list."""

from collections.abc import Iterator

from archive.s3.store import Listed, Store


def every_version(store: Store) -> Iterator[Listed]:
    """All versions and delete markers. Raises what `Store.versions` raises."""
    page = store.versions()
    while True:
        yield from page.entries
        if page.following is None:
            return
        page = store.versions(page.following)
