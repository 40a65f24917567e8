"""`billing archive hold`: placed for a case, listed, released; each with who and why, before anything is held."""

import pytest
from cases import case
from sqlalchemy import text

from archive.keeping import holds


@pytest.fixture
def archived(run, service, made, taken) -> str:
    """The payment intent of a capture that is archived."""
    run("archive", "run", "--once")
    with service.engine.connect() as connection:
        found: str = connection.execute(text("SELECT payment_intent FROM billing.captures")).scalar_one()
        return found


def place(run, *arguments: str):
    return run("archive", "hold", "place", "--reason", "LEGAL-7", "--actor", "grace", *arguments)


def audited(run) -> list[tuple[str, str, str, int, str, str]]:
    return [
        (each["actor"], each["command"], each["about"], each["count"], each["reason"], each["outcome"])
        for each in run("audit", "--json").json
    ]


def test_a_hold_is_placed_listed_and_released(run, archived):
    case = ("--name", "CASE-7", "--where", f"payment-intent={archived}")
    assert place(run, *case, "--dry-run").out == (
        "CASE-7: 2 objects with 3 facts would be held; 3 of them are about this, the others share an object with one\n"
    )
    assert run("archive", "hold", "list").out == "there is no legal hold\n"
    told = place(run, *case, "--json").json
    assert told == {"name": "CASE-7", "dry_run": False, "objects": 2, "facts": 3, "about": 3, "documents": 0}
    (hold,) = run("archive", "hold", "list", "--json").json
    assert (hold["name"], hold["placed_by"], hold["reason"], hold["objects"]) == ("CASE-7", "grace", "LEGAL-7", 2)
    assert hold["criteria"] == f'{{"payment_intent":"{archived}"}}'
    assert run("archive", "verify").status == 0
    ran = run("archive", "hold", "release", "--name", "CASE-7", "--reason", "settled", "--actor", "ada")
    assert ran.out == "CASE-7 is released: 2 objects free, 0 held by other holds\n"
    assert run("archive", "hold", "list", "--json").json[0]["released_at"]
    assert audited(run) == [
        ("ada", "archive hold release", "CASE-7", 2, "settled", "done"),
        ("grace", "archive hold place", "CASE-7", 2, "LEGAL-7", "done"),
    ]


def test_who_and_why_is_recorded_before_anything_is_held(run, service, archived, monkeypatch):
    topics = "SELECT topic FROM billing.facts WHERE entity_type = 'command'"

    def seen(*_: object, **__: object) -> None:
        with service.engine.connect() as connection:
            assert list(connection.scalars(text(topics))) == ["command.begun"]
            assert connection.scalar(text("SELECT name FROM billing.archive_holds")) == "CASE-7"

    monkeypatch.setattr(holds, "hold_all", seen)
    assert place(run, "--name", "CASE-7", "--where", f"payment-intent={archived}").status == 0


def test_nothing_that_is_found_is_nothing_that_is_held(run, archived):
    ran = place(run, "--name", "CASE-7", "--where", "payment-intent=pi_nobody")
    assert ran.status == 1
    assert ran.out.startswith("nothing is archived about this")
    assert run("archive", "hold", "list", "--json").json == []
    assert audited(run) == []


NOT_TO_BE_HELD = [
    (("--name", "CASE-7"), "say what is to be held"),
    (("--name", "CASE-7", "--where", "order=7"), "write payment-intent=pi_... or customer=cus_..."),
    (("--name", "CASE-7", "--where", "payment-intent=cus_1"), "write payment-intent=pi_..."),
    (("--name", "CASE-7", "--where", "payment-intent=pi_1", "--where", "payment-intent=pi_2"), "each once"),
    (("--name", "CASE-7", "--class", "refund"), "'refund' is no class"),
    (("--name", "Doe v. shop", "--class", "capture"), "must be the number of a case"),
]


def test_what_cannot_be_held_is_refused_in_one_line(run, made):
    for arguments, told in NOT_TO_BE_HELD:
        with case(*arguments):
            ran = place(run, *arguments)
            assert ran.status == 2
            assert told in ran.err
            assert len(ran.err.splitlines()) == 1


def test_a_hold_that_is_none_or_released_is_not_released(run, archived):
    release = ("archive", "hold", "release", "--name", "CASE-7", "--reason", "settled")
    assert "there is no hold CASE-7" in run(*release).err
    place(run, "--name", "CASE-7", "--class", "capture")
    assert run(*release).status == 0
    ran = run(*release)
    assert ran.status == 2
    assert "CASE-7 was released on" in ran.err
