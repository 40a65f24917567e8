"""The metrics of the demo's processes: each is asked as Prometheus asks it, and the pages are added up."""

import json
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from http.client import HTTPException

from jobs.local.supervisor import Child

ASKED_S = 5.0
"""How long a process may take to answer."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """What the workers counted. Money is in minor units by currency."""

    captured: Counter[str]
    invoices_sent: int
    calls: Counter[str]
    """At Stripe, by what came back."""
    retries: Counter[str]
    """How often an operation was left without a call in hand and without an end, by how it stood."""
    waited_s: dict[str, float]
    """`p50`, `p99`: from a request to its first call, each an upper bound."""


@dataclass(slots=True)
class Scrapes:
    """The last page of each process. A process that is killed takes its numbers with it, so it is asked before."""

    _pages: dict[str, str] = field(default_factory=dict)

    def take(self, child: Child) -> None:
        """Ask a process; if it does not answer, its earlier page is kept."""
        for line in child.output().splitlines():
            if '"metrics.served"' not in line:
                continue
            said = json.loads(line)
            try:
                with urllib.request.urlopen(f"http://{said['host']}:{said['port']}/metrics", timeout=ASKED_S) as page:
                    self._pages[child.name] = page.read().decode()
            except (OSError, HTTPException):
                continue

    def numbers(self) -> Numbers | None:
        """None if no process serves metrics: the extra `metrics` is not installed."""
        if not self._pages:
            return None
        from prometheus_client.parser import text_string_to_metric_families  # noqa: PLC0415 - of the extra `metrics`

        sums: dict[tuple[str, str], Counter[str]] = {}
        for page in self._pages.values():
            for metric in text_string_to_metric_families(page):
                for name, labels, value, *_ in metric.samples:
                    for label, said in (labels or {"": ""}).items():
                        sums.setdefault((name, label), Counter())[said] += value  # type: ignore[assignment]

        def counted(name: str, label: str) -> Counter[str]:
            found = sums.get((f"billing_{name}", label), Counter())
            return Counter({said: round(value) for said, value in found.items() if value})

        retries = counted("settled_total", "standing")
        del retries["concluded"]
        waited = sums.get(("billing_wait_seconds_bucket", "le"), Counter())
        return Numbers(
            captured=counted("captured_money_minor_total", "currency"),
            invoices_sent=counted("invoices_sent_total", "currency").total(),
            calls=counted("provider_call_seconds_count", "answer"),
            retries=retries,
            waited_s={f"p{percent}": _bound(waited, percent / 100) for percent in (50, 99)},
        )


def _bound(buckets: Counter[str], share: float) -> float:
    """The smallest bound of a histogram under which this share of its values lies."""
    bounds = sorted(buckets, key=float)
    return next((float(bound) for bound in bounds if buckets[bound] >= share * buckets[bounds[-1]]), float("inf"))
