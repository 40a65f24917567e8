"""`billing archive policy`: what is kept and why, the bucket's rules, and the raise that asks twice."""

import re
import shlex
from pathlib import Path

import boto3
import pytest
from sqlalchemy import text

from archive.keeping import bucket_changes

TEN_YEARS = 'mode = "GOVERNANCE"\nkeep = "10 years"\n'
LAW = (
    'mode = "GOVERNANCE"\nkeep = "13 months"\ncompliance_cannot_be_undone = true\n'
    '[class.capture]\nmode = "COMPLIANCE"\nkeep = "10 years"\nfrom = "end_of_year"\n'
    'because = "HGB 257"\nname = "RP-2"\n'
)


@pytest.fixture
def retention(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(bucket_changes, "PAUSES_S", ())

    def retention(text: str) -> None:
        (tmp_path / "retention.toml").write_text(text)
        monkeypatch.setenv("BILLING_ARCHIVE_RETENTION", str(tmp_path / "retention.toml"))

    return retention


def parts(ran) -> dict[str, tuple[str, str, str]]:
    return {each["part"]: (each["level"], each["message"], each["fix"]) for each in ran.json}


def audited(run) -> list[tuple[str, str, int, str]]:
    return [(each["command"], each["about"], each["count"], each["outcome"]) for each in run("audit", "--json").json]


def test_it_shows_how_long_each_class_is_kept_and_why_and_asks_no_server(run, retention, monkeypatch):
    retention(LAW)
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    told = run("archive", "policy", "show").out
    assert re.search(r"capture +10 years +end of year +COMPLIANCE +20\d\d-01-01 +STANDARD +RP-2 +HGB 257", told)
    assert re.search(r"attempt +13 months +event +GOVERNANCE", told)
    classes = run("archive", "policy", "show", "--json").json["classes"]
    assert classes["capture"]["policy"] == "RP-2"
    assert classes["attempt"]["policy"] == "13 months from the event, GOVERNANCE"
    retention("keep = 1")
    ran = run("archive", "policy", "show")
    assert (ran.status, len(ran.err.splitlines())) == (2, 1)


def test_the_bucket_is_compared_changed_and_then_as_the_file_asks(run, retention, made):
    retention(TEN_YEARS)
    differs = run("archive", "policy", "diff")
    assert differs.status == 1
    assert "default lock: the bucket has none, the policy asks for GOVERNANCE for 3652 days" in differs.out
    level, message, fix = parts(run("doctor", "--json"))["bucket's rules"]
    assert (level, fix) == ("warn", "billing archive policy diff, then apply")
    assert message.startswith("not as the retention file asks: default lock, ")
    ran = run("archive", "policy", "apply", "--reason", "FIN-31", "--actor", "grace", "--json")
    # This server does not obey one condition.
    assert ran.status == 1
    (line,) = ran.json["not_done"]
    assert line == "statement BillingOnlyNewKeys is stored and not obeyed: an object could be overwritten"
    assert run("archive", "policy", "diff").out == f"{made} is as the retention file asks\n"
    assert parts(run("doctor", "--json"))["bucket's rules"][0] == "ok"
    changed = len(ran.json["changed"])
    assert audited(run) == [("archive policy apply", made, changed, "done")]


def test_applied_again_it_changes_nothing_and_records_nothing(run, retention, made):
    retention(TEN_YEARS)
    for _ in range(2):
        ran = run("archive", "policy", "apply", "--reason", "FIN-31")
    assert (ran.status, ran.out) == (0, f"{made}: 0 parts changed, 0 not done\n")
    assert len(audited(run)) == 1


def test_what_this_server_does_not_do_is_a_line_and_status_1(run, retention, made):
    retention(f'{TEN_YEARS}[class.capture]\ntransitions = [["90 days", "GLACIER_IR"]]\n')
    ran = run("archive", "policy", "apply", "--reason", "FIN-31")
    assert ran.status == 1
    assert re.search(r"^NOT DONE lifecycle billing-capture: .*answers: 501 NotImplemented\)$", ran.out, re.MULTILINE)
    assert re.search(r"^lifecycle billing-invoice: v1/class=invoice/: a delete marker after", ran.out, re.MULTILINE)
    compared = run("archive", "policy", "diff")
    assert compared.status == 0
    assert compared.out == (
        "lifecycle billing-capture: this server does not move objects to GLACIER_IR after 90 days; the rest of the rule"
        f" is there\n{made} is as the retention file asks, as far as this server can\n"
    )
    level, message, _ = parts(run("doctor", "--json"))["bucket's rules"]
    assert level == "ok"
    assert message == "as the retention file asks; this server does not move objects to GLACIER_IR after 90 days"


def test_a_shorter_time_is_refused_by_apply_and_by_the_archiver(run, run_apart, retention, made, taken):
    retention(TEN_YEARS)
    run("archive", "policy", "apply", "--reason", "FIN-31")
    run("archive", "run", "--once")
    retention('mode = "GOVERNANCE"\nkeep = "9 years"\n')
    assert "SHORTER default lock" in run("archive", "policy", "diff").out
    refused = run("archive", "policy", "apply", "--reason", "FIN-32")
    assert refused.status == 2
    assert refused.err.startswith("billing: a policy is never shortened: default lock: the bucket has")
    refused = run("archive", "run", "--once")
    assert refused.status == 2
    assert "a policy is never shortened: batch 1 of attempt is locked in GOVERNANCE until" in refused.err


# Raising.


@pytest.fixture
def archived(run, retention, made, taken) -> str:
    retention(TEN_YEARS)
    run("archive", "run", "--once")
    retention(f'compliance_cannot_be_undone = true\n{TEN_YEARS}[class.capture]\nmode = "COMPLIANCE"\n')
    return made


RAISE = ("archive", "policy", "raise", "--reason", "FIN-40", "--class", "capture")


def test_a_raise_asks_twice_and_says_until_when_nobody_can_delete(run, service, archived, retention):
    dry = run(*RAISE, "--dry-run")
    assert re.fullmatch(
        rf"1 batch with 2 facts in {archived}; raised, nobody can delete the last of it before 20\d\d-\d\d-\d\d\n",
        dry.out,
    )
    for confirm in ((), ("--confirm", "yes"), ("--confirm", f"{archived}x")):
        refused = run(*RAISE, *confirm)
        assert refused.status == 2
        assert f"name the bucket {archived} to raise its locks for good" in refused.err
    retention(TEN_YEARS)
    refused = run(*RAISE, "--confirm", archived)
    assert refused.status == 2
    assert "the retention file asks for GOVERNANCE for capture" in refused.err
    assert audited(run) == []


def test_what_is_raised_is_recorded_and_raised_again_it_is_left_alone(run, archived, s3):
    raised = run(*RAISE, "--confirm", archived, "--json").json
    assert raised["locks"] == {"raised": 2, "was_compliance": 0, "ended": 0}
    assert raised["extent"]["batches"] == 1
    again = run(*RAISE, "--confirm", archived)
    assert again.out.splitlines()[-1] == "0 locks raised, 2 were COMPLIANCE already, 0 had ended"
    assert audited(run) == [("archive policy raise", archived, 1, "done")] * 2
    client = boto3.session.Session(s3.access_key, s3.secret_key, region_name="us-east-1").client(
        "s3", endpoint_url=s3.url
    )
    lock = client.get_object_retention(Bucket=archived, Key="manifests/v1/capture/000000000001.json")["Retention"]
    client.close()
    assert lock["Mode"] == "COMPLIANCE"
    assert run("archive", "verify").status == 0


def test_a_class_that_is_none_is_refused(run, archived):
    refused = run("archive", "policy", "raise", "--reason", "FIN-40", "--class", "refund", "--dry-run")
    assert refused.status == 2
    assert "'refund' is no class; there are: attempt, capture, invoice, admin" in refused.err


# The page.


def test_the_page_about_retention_is_followed_from_its_first_command_to_its_last(run, service, archived):
    page = (Path(__file__).parents[2] / "docs" / "finance" / "retention.md").read_text()
    with service.engine.connect() as connection:
        intent = connection.execute(text("SELECT payment_intent FROM billing.captures")).scalar_one()
    typed = re.findall(r"^\$ billing (.*)$", page, re.MULTILINE)
    ended = {}
    for line in typed:
        words = shlex.split(line.replace("evidence", archived).replace("pi_123", intent))
        ran = run(*words)
        ended[" ".join(words[1:3])] = ran.status
        assert ran.err == ""
    # The bucket differs before; and SeaweedFS does not obey one condition, as the page says.
    bad = {"policy diff": 1, "policy apply": 1}
    assert ended == {**dict.fromkeys(ended, 0), **bad}
    assert {"policy show", "policy raise", "hold place", "hold list", "hold release"} < ended.keys()
