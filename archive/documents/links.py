"""A link to a stored document, for somebody without a login: it is signed, and ends soon.

Whoever has it can read the document until then, and nothing else. It is signed with the keys of the login that asked
for it, so a login whose rights are taken away takes its links along.
"""

import re
from datetime import timedelta

from archive.s3.store import Store

USUALLY, LONGEST = timedelta(minutes=5), timedelta(hours=1)


def link(store: Store, key: str, version: str, *, name: str, lasts: timedelta = USUALLY) -> str:
    """A URL that gives this version of this object, as a PDF to be saved under `name`. No request is sent.

    Raises ValueError if it should last for less than a second, or for more than an hour.
    """
    if not timedelta(seconds=1) <= lasts <= LONGEST:
        raise ValueError("a link lasts from a second to an hour")
    with store.translated(key):
        url: str = store.client.generate_presigned_url(
            "get_object",
            Params={
                "Bucket": store.bucket,
                "Key": key,
                "VersionId": version,
                "ResponseContentType": "application/pdf",
                "ResponseContentDisposition": f'attachment; filename="{safe(name)}"',
            },
            ExpiresIn=int(lasts.total_seconds()),
        )
    return url


def safe(name: str) -> str:
    """A file name of letters, digits, and `.-_`, which no header and no file system reads as more."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-")[:80]
    return f"{plain or 'document'}.pdf"
