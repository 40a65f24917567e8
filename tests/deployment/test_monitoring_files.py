"""The files of Prometheus and Grafana in deploy/: every expression is one, every number in it is exported, and every
alert leads to a runbook.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
from bring_up import METRICS_PORT
from files import FILE, LASTING, OURS, ROOT, SERVICES
from ruamel.yaml import YAML

from jobs.metrics.instruments import instruments
from jobs.metrics.labels import bounded
from jobs.metrics.sources import Instrument, Kind

DEPLOY = ROOT / "deploy"
RUNBOOKS = {
    *("queue-stalls", "redis-lost", "postgres-down", "stripe-outage"),
    *("in-doubt-grows", "quarantine-grows", "archive-lags", "disk-full", "differences", "emails"),
    "documents",
}
LOGS = (ROOT / "docs" / "logs.md").read_text()
PAGE = (ROOT / "docs" / "operate" / "metrics.md").read_text()


def read(path: Path) -> Any:
    return YAML(typ="safe", pure=True).load(path)


RULES: list[dict[str, Any]] = [
    rule for group in read(DEPLOY / "prometheus" / "alerts.yml")["groups"] for rule in group["rules"]
]
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in sorted(DEPLOY.glob("grafana/dashboards/*.json"))}
EXPRESSIONS = {
    **{rule["alert"]: rule["expr"] for rule in RULES},
    **{
        f"{name}: {panel['title']} {target['refId']}": target["expr"]
        for name, board in DASHBOARDS.items()
        for panel in board["panels"]
        for target in panel["targets"]
    },
}
BY_NAME = {each.name: each for each in instruments()}
# Those of the library, and Prometheus' own.
NOT_OURS = {"up", "process_cpu_seconds_total", "process_resident_memory_bytes"}
GIVEN_BY_PROMETHEUS = {"job", "instance", "le"}

every_expression = pytest.mark.parametrize("expression", EXPRESSIONS.values(), ids=EXPRESSIONS)


def selectors(expression: str) -> list[promql_parser.VectorSelector]:
    found: list[promql_parser.VectorSelector] = []

    def visit(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)
        elif isinstance(node, promql_parser.MatrixSelector):
            found.append(node.vector_selector)

    promql_parser.walk(promql_parser.parse(expression), visit)
    return found


def instrument(name: str) -> Instrument | None:
    """The row of the table that a series of this name belongs to."""
    if name in BY_NAME:
        return BY_NAME[name] if BY_NAME[name].kind is not Kind.HISTOGRAM else None
    family = BY_NAME.get(re.sub(r"_(bucket|count|sum)$", "", name))
    return family if family is not None and family.kind is Kind.HISTOGRAM else None


def mistakes(expression: str) -> list[str]:
    """What no process of ours would ever answer: a name, a label, a value."""
    found = []
    for selector in selectors(expression):
        if selector.name in NOT_OURS:
            continue
        row = instrument(selector.name or "")
        if row is None:
            found.append(f"{selector.name} is exported by nobody")
            continue
        for matcher in selector.matchers.matchers:
            if matcher.name in GIVEN_BY_PROMETHEUS:
                continue
            if matcher.name not in row.labels:
                found.append(f"{selector.name} has no label {matcher.name}")
                continue
            for value in re.sub(r"5\.\.", "500", matcher.value).split("|"):
                if bounded(matcher.name, value) != value:
                    found.append(f"{matcher.name} is never {value}")
    labels = {label for selector in selectors(expression) for label in _labels(selector.name or "")}
    by = [label for names in re.findall(r"by \(([^)]*)\)", expression) for label in names.split(", ")]
    found += [f"by {label}" for label in by if label not in labels | GIVEN_BY_PROMETHEUS]
    return found


def _labels(name: str) -> tuple[str, ...]:
    row = instrument(name)
    return row.labels if row is not None else ()


@every_expression
def test_an_expression_is_one_and_asks_for_what_our_processes_export(expression: str) -> None:
    assert selectors(expression)
    assert mistakes(expression) == []


@pytest.mark.parametrize(
    "wrong",
    [
        "billing_captured_money_total",
        "billing_wait_seconds",
        "billing_wait_seconds_total",
        'billing_work{queue="capture"}',
        'billing_work{kind="captures"}',
        "sum by (queues) (billing_work)",
        'billing_provider_call_seconds_count{answer=~"5..|no_answr"}',
    ],
)
def test_an_expression_about_what_nobody_exports_is_found(wrong: str) -> None:
    assert mistakes(wrong) != []


@pytest.mark.parametrize("none", ["sum(billing_work", "rate(billing_work)", "billing_work > > 1", "billing_work{a=b}"])
def test_what_is_no_expression_is_found(none: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        promql_parser.parse(none)


def test_a_counter_is_read_by_its_growth_and_nothing_else_is() -> None:
    for name, expression in EXPRESSIONS.items():
        for selector in selectors(expression):
            grows = (selector.name or "").endswith(("_total", "_bucket", "_count"))
            ranged = re.search(rf"(rate|increase)\({re.escape(selector.name or '')}(\{{[^}}]*\}})?\[", expression)
            assert bool(ranged) == grows, name


def test_a_line_or_a_code_that_alerts_count_is_0_before_its_first_time() -> None:
    """Or its first time would not be growth."""
    for rule in RULES:
        for selector in selectors(rule["expr"]):
            row = BY_NAME.get(selector.name or "")
            for matcher in selector.matchers.matchers:
                if row is not None and matcher.name in ("event", "sqlstate"):
                    at = row.labels.index(matcher.name)
                    assert set(matcher.value.split("|")) <= {labels[at] for labels in row.from_zero}, rule["alert"]
                if matcher.name == "event":
                    assert all(f"\n| `{event}` |" in LOGS for event in matcher.value.split("|"))


def test_every_alert_says_how_urgent_it_is_and_leads_to_a_runbook() -> None:
    for rule in RULES:
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"].keys() == {"summary", "runbook"}
        slug = re.fullmatch(r"docs/operate/([a-z-]+)\.md", rule["annotations"]["runbook"])
        assert slug is not None
        assert slug[1] in RUNBOOKS


def test_each_of_these_runbooks_is_there_and_has_an_alert() -> None:
    led_to = {Path(rule["annotations"]["runbook"]).stem for rule in RULES}
    assert led_to == RUNBOOKS
    assert {path.stem for path in (ROOT / "docs" / "operate").glob("*.md")} >= RUNBOOKS


def test_the_labels_in_a_summary_are_those_that_its_expression_leaves() -> None:
    for rule in RULES:
        named = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        left = {label for by in re.findall(r"by \(([^)]*)\)", rule["expr"]) for label in by.split(", ")}
        plain = "(" not in rule["expr"].partition("{")[0] or rule["expr"].startswith("absent(")
        assert named <= (left | {"job", "instance"} if plain else left), rule["alert"]


def test_the_page_lists_every_alert() -> None:
    rows = re.findall(r"^\| `(Billing\w+)` \| (\w+) \| ([a-z-]+) \|", PAGE, re.MULTILINE)
    told = [(r["alert"], r["labels"]["severity"], Path(r["annotations"]["runbook"]).stem) for r in RULES]
    assert rows == told


def test_prometheus_asks_every_process_of_the_compose_file() -> None:
    scraped = read(DEPLOY / "prometheus" / "prometheus.yml")["scrape_configs"]
    jobs = {job["job_name"]: job["dns_sd_configs"][0] for job in scraped}
    assert set(jobs) == {name for name in OURS if name in LASTING}
    for name, where in jobs.items():
        assert where["names"] == [name]
        assert str(where["port"]) == METRICS_PORT
        assert "metrics" in SERVICES[name]["networks"]
        # What has a profile may be left out, and is missed only once it was there.
        assert (f'absent(up{{job="{name}"}})' in RULES[0]["expr"]) == ("profiles" not in SERVICES[name])


def mounted() -> Iterator[tuple[str, str]]:
    for name in ("prometheus", "grafana"):
        for each in SERVICES[name]["configs"]:
            yield each["target"], FILE["configs"][each["source"]]["file"]


def test_every_file_in_deploy_is_mounted_where_it_is_looked_for() -> None:
    places = dict(mounted())
    files = {f"./{path.relative_to(ROOT)}" for path in DEPLOY.rglob("*") if path.is_file()}
    assert set(places.values()) == files == {one["file"] for one in FILE["configs"].values()}
    assert f"--config.file={_of('prometheus.yml', places)}" in SERVICES["prometheus"]["command"]
    rules = read(DEPLOY / "prometheus" / "prometheus.yml")["rule_files"]
    assert [str(Path(_of("prometheus.yml", places)).with_name(each)) for each in rules] == [_of("alerts.yml", places)]
    (provider,) = read(DEPLOY / "grafana" / "dashboards.yml")["providers"]
    for name in DASHBOARDS:
        assert str(Path(_of(f"{name}.json", places)).parent) == provider["options"]["path"]


def _of(name: str, places: dict[str, str]) -> str:
    return next(target for target, file in places.items() if file.endswith(f"/{name}"))


def test_the_dashboards_ask_the_prometheus_that_is_set_up() -> None:
    (source,) = read(DEPLOY / "grafana" / "datasources.yml")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    for board in DASHBOARDS.values():
        assert {panel["datasource"]["uid"] for panel in board["panels"]} == {source["uid"]}
        places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]]
        assert len(set(places)) == len(places)


def test_every_number_of_ours_is_on_a_dashboard_or_in_an_alert_but_for_those_about_themselves() -> None:
    rows = [instrument(each.name or "") for expression in EXPRESSIONS.values() for each in selectors(expression)]
    shown = {row.name for row in rows if row is not None}
    assert BY_NAME.keys() - shown == {
        "billing_process_info",
        "billing_loop_turns_total",
        "billing_lines_uncounted_total",
        "billing_spans_total",
    }
