"""What stands for a request id outside of Postgres: a digest, by which a restored database knows the request again.

A request id is free text of an application and may name a person, so neither Stripe nor the archive gets it. The digest
goes with the fact of the request and in the metadata of what is made at Stripe. A row that `billing recover` has made
of these holds it in place of the request id, and an application that repeats the request finds that row.

The digest is no secret: whoever guesses an id can compute it. It has no key, because it must outlive the database.
"""

import hashlib
import re

REQUEST_KEY = "billing_request"
"""Of the metadata at Stripe, beside `billing.steps.METADATA_KEY`."""

RECOVERED = "recovered:"
"""How the request id of a row begins that was made again: its digest follows, or its own id where nothing is known. No
application may choose such an id."""

_DIGEST = re.compile(r"[0-9a-f]{32}", re.ASCII)


def is_digest(value: object) -> bool:
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def digest_of(request_id: str) -> str | None:
    """The first 128 bits of a SHA-256. None for a row that was made again without it."""
    if request_id.startswith(RECOVERED):
        kept = request_id.removeprefix(RECOVERED)
        return kept if is_digest(kept) else None
    return hashlib.sha256(b"billing request " + request_id.encode(errors="surrogatepass")).hexdigest()[:32]


def recovered(digest: str) -> str:
    """What a row holds in place of the request id with this digest."""
    return f"{RECOVERED}{digest}"


def metadata(request_id: str) -> dict[str, str]:
    """For Stripe."""
    digest = digest_of(request_id)
    return {REQUEST_KEY: digest} if digest else {}
