"""The bucket gets the rules that the retention file asks for, and what a server does not do is said."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from botocore.exceptions import ClientError
from evidence import Archive

from archive.errors import BadRetention
from archive.keeping import bucket_changes, bucket_rules
from archive.keeping.bucket_changes import Applied
from archive.policy import retention, retention_file
from archive.policy.retention import CLASSES, Mode, Period, Policy, Rule, Transition, Unit
from archive.s3 import abilities, configuration
from archive.s3.configuration import Configuration, DefaultLock
from archive.writing import batches
from billing import database

YEARS = Policy(dict.fromkeys(CLASSES, Rule(Mode.GOVERNANCE, Period(10, Unit.YEAR))))
SHORTER = Policy({**YEARS.rules, "attempt": Rule(Mode.GOVERNANCE, Period(13, Unit.MONTH))})
MOVING = Policy(
    {**YEARS.rules, "capture": replace(YEARS.rules["capture"], transitions=(Transition(90, "GLACIER_IR"),))}
)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket_changes, "PAUSES_S", ())


def applied(archive: Archive, policy: Policy) -> Applied:
    found = bucket_changes.differences(archive.store, policy)
    return bucket_changes.apply(archive.store, policy, found)


def left(archive: Archive, policy: Policy) -> list[str]:
    return [each.part for each in bucket_changes.differences(archive.store, policy)]


# What a policy asks for.


def test_a_rule_of_expiry_never_comes_before_the_end_of_a_lock():
    for policy in (YEARS, SHORTER, retention_file.load()):
        for name, rule in zip(policy.rules, bucket_rules.lifecycle(policy), strict=False):
            longest = max(
                (policy.rules[name].until(day).date() - day).days
                for day in (datetime(2024, 1, 1, tzinfo=UTC).date() + timedelta(days=n) for n in range(1500))
            )
            assert rule["Expiration"]["Days"] > longest
            assert rule["Filter"]["Prefix"] == f"v1/class={name}/"


def test_manifests_and_keys_never_end():
    places = [rule["Filter"]["Prefix"] for rule in bucket_rules.lifecycle(YEARS)]
    assert all(place.startswith(("v1/", "documents/")) for place in places)


def test_what_is_put_without_a_lock_gets_that_of_the_shortest_class():
    assert bucket_rules.default_lock(SHORTER) == DefaultLock("GOVERNANCE", 393)


def test_nobody_may_delete_or_go_around_a_lock_but_the_one_role_that_raises():
    role = "arn:aws:iam::123456789012:role/raiser"
    by_sid = {each["Sid"]: each for each in bucket_rules.statements(replace(YEARS, bypass_role=role), "evidence")}
    assert {each["Effect"] for each in by_sid.values()} == {"Deny"}
    assert by_sid["BillingNobodyDeletes"]["Action"] == ["s3:DeleteObject", "s3:DeleteObjectVersion"]
    assert "Condition" not in by_sid["BillingNobodyDeletes"]
    bypass = by_sid["BillingNobodyBypasses"]
    assert bypass["Condition"] == {"StringNotEquals": {"aws:PrincipalArn": role}}
    alone = {each["Sid"]: each for each in bucket_rules.statements(YEARS, "evidence")}
    assert "Condition" not in alone["BillingNobodyBypasses"]


def test_a_batch_that_is_finished_after_an_outage_is_not_refused_for_its_shorter_lock():
    (least,) = [
        int(each["Condition"]["NumericLessThan"]["s3:object-lock-remaining-retention-days"])
        for each in bucket_rules.statements(SHORTER, "evidence")
        if each["Sid"] == "BillingNoShorterLocksAttempt"
    ]
    assert least == 393 - 30


def test_a_server_that_writes_the_same_rules_otherwise_does_not_differ():
    rules: list[Any] = [dict(rule) for rule in bucket_rules.lifecycle(YEARS)]
    rules[0]["Prefix"] = rules[0].pop("Filter")["Prefix"]
    statements: list[Any] = [dict(each) for each in bucket_rules.statements(YEARS, "evidence")]
    statements[0] |= {"Principal": {"AWS": ["*"]}, "Action": statements[0]["Action"][0]}
    found = Configuration(True, bucket_rules.default_lock(YEARS), rules, statements)
    assert bucket_rules.differences(YEARS, "evidence", found) == []


def test_a_rule_without_the_moves_that_a_server_refused_is_compared_like_any_other():
    def differing(policy: Policy) -> list[bucket_rules.Difference]:
        unmoved = [bucket_rules.without_moves(rule) for rule in bucket_rules.lifecycle(MOVING)]
        found = Configuration(True, bucket_rules.default_lock(policy), unmoved, statements)
        statements[:] = bucket_rules.statements(policy, "evidence")
        return bucket_rules.differences(policy, "evidence", found)

    statements: list[Any] = []
    (refused,) = differing(MOVING)
    assert (refused.part, refused.refused) == (
        "lifecycle billing-capture",
        "move objects to GLACIER_IR after 90 days",
    )
    assert differing(YEARS) == []
    nine = replace(MOVING.rules["capture"], keep=Period(9, Unit.YEAR))
    (shorter,) = differing(replace(MOVING, rules={**MOVING.rules, "capture": nine}))
    assert (shorter.part, shorter.shorter, shorter.refused) == ("lifecycle billing-capture", True, None)


# On a real server.


def test_a_new_bucket_gets_everything_and_then_nothing_differs(archive: Archive):
    parts = left(archive, YEARS)
    assert parts[0] == "default lock"
    assert {"lifecycle billing-capture", "lifecycle billing-markers", "statement BillingNobodyDeletes"} < set(parts)
    done = applied(archive, YEARS)
    assert left(archive, YEARS) == []
    assert [each.part for each in done.changed] == parts
    assert applied(archive, YEARS).changed == []


def test_what_this_server_does_not_do_is_named_and_the_rest_is_applied(archive: Archive):
    done = applied(archive, MOVING)
    told = "\n".join(done.not_done)
    assert "lifecycle billing-capture" in told
    assert "GLACIER_IR after 90 days" in told
    assert "(this server answers: 501 NotImplemented)" in told
    assert "BillingOnlyNewKeys is stored and not obeyed" in told
    assert left(archive, MOVING) == ["lifecycle billing-capture"]
    (refused,) = bucket_changes.differences(archive.store, MOVING)
    assert str(refused) == (
        "lifecycle billing-capture: this server does not move objects to GLACIER_IR after 90 days;"
        " the rest of the rule is there"
    )
    rules = {rule["ID"]: rule for rule in configuration.read(archive.store).lifecycle}
    assert rules["billing-capture-unmoved"]["Expiration"]["Days"] == rules["billing-invoice"]["Expiration"]["Days"]


def test_an_archiver_writes_into_a_bucket_with_all_rules_and_nobody_deletes_there(archive: Archive):
    applied(archive, YEARS)
    archive.policy = YEARS
    archive.tell("capture.requested", "capture.captured", minor=1999, currency="USD")
    assert archive.archive_all() == 2
    here = {"Bucket": archive.bucket, "Key": "v1/x"}
    version = archive.outside.s3.put_object(**here, Body=b"", IfNoneMatch="*")["VersionId"]
    locked = archive.outside.s3.get_object_retention(**here)["Retention"]
    assert locked["Mode"] == "GOVERNANCE"
    assert locked["RetainUntilDate"] > datetime.now(UTC) + timedelta(days=3650)
    for how in ({}, {"VersionId": version}, {"VersionId": version, "BypassGovernanceRetention": True}):
        with pytest.raises(ClientError, match="AccessDenied"):
            archive.outside.s3.delete_object(**here, **how)
    assert abilities.all_of_them(archive.store) == []


def test_statements_of_others_stay_and_rules_of_expiry_of_others_go(archive: Archive):
    place = f"arn:aws:s3:::{archive.bucket}/v1/*"
    theirs = {
        "Sid": "Auditor",
        "Effect": "Allow",
        "Principal": {"AWS": "arn:aws:iam::123456789012:root"},
        "Action": "s3:GetObject",
        "Resource": place,
    }
    assert configuration.put_statements(archive.store, [theirs]) is None
    everything = {"ID": "tidy", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 30}}
    assert configuration.put_lifecycle(archive.store, [everything]) is None
    assert "lifecycle tidy" in left(archive, YEARS)
    applied(archive, YEARS)
    has = configuration.read(archive.store)
    assert "Auditor" in [each["Sid"] for each in has.statements]
    assert "tidy" not in [rule["ID"] for rule in has.lifecycle]
    assert left(archive, YEARS) == []


def test_a_time_that_the_bucket_has_is_never_shortened(archive: Archive):
    applied(archive, YEARS)
    shorter = bucket_changes.differences(archive.store, SHORTER)
    assert [each.part for each in shorter if each.shorter] == ["default lock", "lifecycle billing-attempt"]
    with pytest.raises(BadRetention, match=r"never shortened: default lock: the bucket has GOVERNANCE for 3652 days"):
        bucket_changes.check_not_shorter(SHORTER, shorter, [])


def test_a_lock_that_the_newest_batch_has_is_never_shortened(archive: Archive):
    archive.policy = YEARS
    archive.tell("capture.attempted", "capture.captured")
    archive.archive_all()
    with database.transaction(archive.service.engine) as session:
        newest = batches.newest(session)
    bucket_changes.check_not_shorter(YEARS, [], newest)
    with pytest.raises(BadRetention, match=r"batch 1 of attempt is locked in GOVERNANCE until 20.*would lock it in"):
        bucket_changes.check_not_shorter(SHORTER, [], newest)
    weaker = [batch for batch in newest if batch.retention_class == "capture"]
    weaker[0].lock_mode = "COMPLIANCE"
    with pytest.raises(BadRetention, match="batch 1 of capture is locked in COMPLIANCE"):
        bucket_changes.check_not_shorter(YEARS, [], weaker)


class Stranger:
    """A server that takes an unknown condition for a fulfilled one: with such a statement it refuses every object."""

    def __init__(self, client: Any, bucket: str) -> None:
        self._client, self._bucket = client, bucket

    def put_object(self, **arguments: Any) -> Any:
        policy = json.loads(self._client.get_bucket_policy(Bucket=self._bucket)["Policy"])
        if any("s3:if-none-match" in str(each.get("Condition")) for each in policy["Statement"]):
            answer = {"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
            raise ClientError(answer, "PutObject")  # type: ignore[arg-type]
        return self._client.put_object(**arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


def test_a_server_that_would_refuse_the_archiver_too_does_not_get_these_statements(archive: Archive, monkeypatch):
    monkeypatch.setattr(archive.store, "_s3", Stranger(archive.store.client, archive.bucket))
    done = applied(archive, YEARS)
    assert any("BillingOnlyNewKeys" in line and "it refuses every object then" in line for line in done.not_done)
    sids = [each["Sid"] for each in configuration.read(archive.store).statements]
    assert sids == ["BillingNobodyBypasses", "BillingNobodyDeletes"]
    archive.store.put_once(
        f"probes/{uuid4()}", b"", retention.Lock("GOVERNANCE", datetime.now(UTC) + timedelta(days=1))
    )
