"""The processes of documents: `python -m jobs.process.document`, which only `jobs.process.apart` starts.

As with functions (`jobs.process.function`): whatever a link makes it do (eat memory, hang, crash) fails nothing but
its own document. It has no login at the database: what it stored, it tells its worker.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from typing import Any

from archive.errors import ArchiveError
from billing.gateway import KEEP, Budget, NotSent, Request, Response
from jobs import logs
from jobs.config.loading import load
from jobs.config.secrets import SecretError
from jobs.config.settings import Settings
from jobs.config.sources import SettingsError
from jobs.documents.fetching import Fetcher
from jobs.documents.keeping import Keeping
from jobs.process import archiving, buckets
from jobs.process.forking import serve
from jobs.process.service import ServiceProcess

STORE_TIMEOUT_S = 4
"""Of a request to S3: two of them fit into `keeping.STORING_S`."""


def main(answer: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None) -> None:
    """`answer`: how each is answered, unless by fetching it alone."""
    # What is imported and read for the first time here need not be by each process: most of what one would cost. What
    # is wrong, each document says for itself.
    with suppress(ArchiveError, SettingsError, SecretError), ExitStack() as open_till_the_end:
        _keeping(load(), open_till_the_end)
    serve(answer or _answer)


def _answer(asked: Mapping[str, Any]) -> dict[str, Any]:
    settings = load()
    logs.configure(settings.log_level, settings.log_format)
    with ExitStack() as open_till_the_end:
        keeping = _keeping(settings, open_till_the_end)
        request = Request(KEEP, asked["path"], asked["body"], account=asked["account"])
        answer = keeping.send(request, Budget(not_after=asked["not_after"], over_at=asked["over_at"]))
    match answer:
        case Response(status=status, data=data, request_id=request_id) if data is not None:
            return {"status": status, "data": data, "request_id": request_id}
        case NotSent(why, unreached):
            return {"not_sent": why, "unreached": unreached}
    raise AssertionError("a document is answered about, or is not begun")


def _keeping(settings: Settings, open_till_the_end: ExitStack) -> Keeping:
    """No request is sent yet. Raises SettingsError, SecretError and what `Store` and the retention file raise."""
    runtime = ServiceProcess(settings, "document")
    open_till_the_end.callback(runtime.close)
    store = open_till_the_end.enter_context(buckets.opened(settings, timeout_s=STORE_TIMEOUT_S))
    most_bytes = settings.document_most_mb * 1_000_000
    return Keeping(
        runtime.gateway(1),
        Fetcher(settings.document_hosts.split(","), settings.stripe_api_base, most_bytes),
        store,
        archiving.policy(settings),
    )


if __name__ == "__main__":
    main()
