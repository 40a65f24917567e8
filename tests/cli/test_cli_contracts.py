"""What an operator asks before, during and after a rollout: do the versions fit, and is the old one drained."""

from jobs.road import golden
from jobs.road.contracts import contracts, known

FUTURE = "UPDATE billing.work SET version = 9, state = 'parked'"


def test_the_list_names_every_contract_with_the_fact_that_starts_it(run):
    listed = run("contracts", "list", "--json").json
    assert [each["contract"] for each in listed] == known()
    told = run("contracts", "list").out
    assert all(name in told for name in (*known(), "capture.requested:1", "capture_before"))


def test_a_check_without_a_database_needs_no_setting(run, monkeypatch, settings):
    for name in settings:
        monkeypatch.delenv(name)
    corpus = golden.released()
    assert len(corpus) >= 6
    assert run("contracts", "check").out == (
        f"{len(corpus)} released contracts with {sum(len(each.facts) for each in corpus)} recorded facts: "
        "older and newer versions can share them\n"
    )
    assert run("contracts", "list").status == 0


def test_a_breaking_change_is_one_line_that_says_what_to_do(run, monkeypatch):
    monkeypatch.setattr(golden, "contracts", lambda: contracts()[1:])
    ran = run("contracts", "check")
    assert (ran.status, ran.out) == (
        1,
        "take_capture:1: is not known any more, and work of it may wait; keep it until `billing contracts drained "
        "take_capture:1` succeeds, then set `retired` in its file\n",
    )
    (finding,) = run("contracts", "check", "--json").json["findings"]
    assert finding.keys() == {"contract", "problem", "fix"}


def test_what_waits_in_the_database_is_planned_on_trial_and_nothing_is_written(run, service):
    good, bad = service.ask_for_capture(), service.ask_for_capture()
    everything = (
        "SELECT to_jsonb(f)::text FROM billing.facts AS f UNION ALL SELECT to_jsonb(w)::text FROM billing.work AS w"
    )

    def rows():
        with service.engine.connect() as connection:
            return sorted(connection.exec_driver_sql(everything).scalars())

    before = rows()
    checked = run("contracts", "check", "--database")
    assert (checked.status, checked.out.endswith("and this version can take all that waits\n")) == (0, True)
    assert rows() == before
    service.execute(
        """UPDATE billing.facts SET payload = '{"authorized": true, "capture_before": 7}' WHERE entity_id = :id""",
        id=bad,
    )
    (finding,) = run("contracts", "check", "--database", "--json").json["findings"]
    assert "capture_before must be null or a time" in finding["problem"]
    service.plan()
    assert service.work(good).state == "ready"
    service.execute("UPDATE billing.facts SET version = 9, planned_version = NULL WHERE entity_id = :id", id=bad)
    service.execute(FUTURE)
    unknown = run("contracts", "check", "--database")
    assert unknown.status == 1
    assert "capture.requested:9: 1 unplanned, and this version does not know such facts" in unknown.out
    assert "take_capture:9: 1 parked, and this version does not know this contract" in unknown.out


def test_a_contract_is_drained_when_nothing_of_it_is_left_but_what_is_done(run, service):
    assert run("contracts", "drained", "take_capture:1").status == 0
    capture = service.ask_for_capture()
    asked = run("contracts", "drained", "take_capture:1")
    assert (asked.status, asked.out) == (
        1,
        "take_capture:1: 1 fact unplanned; wait, and see whether an old application still writes them\n",
    )
    service.plan()
    for state, what in (
        ("ready", "wait: workers carry it out"),
        ("held", "`billing switch list` shows what stops it"),
        ("parked", "no running worker knows this version; start one that does"),
        ("quarantined", "it needs a decision: `billing quarantine list`"),
    ):
        service.execute("UPDATE billing.work SET state = :state", state=state)
        left = run("contracts", "drained", "take_capture:1")
        assert (left.status, left.out) == (1, f"take_capture:1: 1 {state}; {what}\n")
    assert run("contracts", "drained", "issue_invoice:1").status == 0
    service.execute("UPDATE billing.work SET state = 'ready'")
    assert service.settle(capture) == ["captured"]
    drained = run("contracts", "drained", "take_capture:1", "--json")
    assert (drained.status, drained.json["drained"], drained.json["work"]) == (0, True, {})


def test_a_fact_that_was_set_aside_keeps_its_contract_from_being_drained(run, service):
    service.ask_for_capture()
    service.execute("UPDATE billing.facts SET planned_version = -1")
    left = run("contracts", "drained", "take_capture:1")
    assert (left.status, left.out) == (1, "take_capture:1: 1 fact set aside; `billing doctor` names them\n")


def test_a_version_that_only_a_newer_or_an_older_program_knows_is_counted_too(run, service):
    service.ask_for_capture()
    service.plan()
    service.execute(FUTURE)
    left = run("contracts", "drained", "take_capture:9", "--json")
    assert (left.status, left.json["work"]) == (1, {"parked": 1})


def test_a_name_that_nobody_knows_is_an_error_and_not_drained(run):
    ran = run("contracts", "drained", "take_captures:1")
    assert (ran.status, ran.out) == (2, "")
    assert f"this version knows {', '.join(known())}" in ran.err
