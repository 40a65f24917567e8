"""Asking a process for its metrics, as Prometheus does."""

import json
import urllib.request
from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families
from service import eventually

from jobs.local.supervisor import Child

MEASURED = {"BILLING_METRICS_PORT": "0", "BILLING_LOG_LEVEL": "info"}
"""A free port, which the log names."""


class Page:
    """One answer: by name and labels, the numbers."""

    def __init__(self, text: str) -> None:
        families = list(text_string_to_metric_families(text))
        self.names = {family.name + "_total" * (family.type == "counter") for family in families}
        self._samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for each in families
            for sample in each.samples
        }

    def value(self, name: str, **labels: str) -> float | None:
        return self._samples.get((name, frozenset(labels.items())))

    def all(self, name: str) -> Mapping[frozenset[tuple[str, str]], float]:
        return {labels: value for (each, labels), value in self._samples.items() if each == name}

    @property
    def labels(self) -> set[str]:
        """Every value of every label."""
        return {value for _, labels in self._samples for _, value in labels}

    def sum(self, name: str, **labels: str) -> float:
        """Over all series that have these labels."""
        return sum(value for said, value in self.all(name).items() if labels.items() <= dict(said).items())


def address(process: Child) -> str:
    """Where it answers, as its log says."""

    def served() -> list[int]:
        lines = [line for line in process.output().splitlines() if '"metrics.served"' in line]
        return [json.loads(line)["port"] for line in lines]

    return f"http://127.0.0.1:{eventually(served, 'it answers Prometheus')[0]}/metrics"


def scrape(url: str) -> Page:
    with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 - our own http
        return Page(answer.read().decode())
