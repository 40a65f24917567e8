"""A switch that is released at a rate lets held work continue at it, whoever asks and whatever else is pulled."""

from typing import Any

import pytest
from cases import case
from command import Run
from service import Service

from billing import database
from billing.states import WorkState
from jobs.cli import rates
from jobs.road import housekeeping
from jobs.road.paced_release import release_paced


def relay(service: Service) -> None:
    """Every sweep twice, as in two rounds of a relay. No worker takes what is ready."""
    for _ in range(2):
        for sweep in (housekeeping.hold, housekeeping.release_held, release_paced):
            with database.transaction(service.engines["relay"]) as session:
                sweep(session, 1000)


def held(service: Service, count: int, scope: str = "captures") -> list[str]:
    """Captures that the switch of this scope holds, the least urgent first."""
    captures = [service.ask_for_capture(each) for each in service.intents(count)]
    service.plan()
    for place, each in enumerate(captures):
        statement = (
            "UPDATE billing.work SET urgency = created_at - make_interval(hours => :place) WHERE entity_id = :id"
        )
        service.execute(statement, place=place, id=each)
    service.pull(scope)
    relay(service)
    assert states(service, captures) == [WorkState.HELD] * count
    return captures


def states(service: Service, captures: list[str]) -> list[str]:
    return [service.work(each).state for each in captures]


def release(run: Run, scope: str, rate: str) -> Any:
    return run("switch", "release", scope, "--rate", rate, "--reason", "mended", "--json").json


def a_day_later(service: Service, scope: str = "captures") -> None:
    """For the next piece of this scope: relays were away for a day."""
    statement = "UPDATE billing.switches SET release_next_at = release_next_at - interval '1 day' WHERE scope = :scope"
    service.execute(statement, scope=scope)


def test_held_work_continues_at_the_rate_the_most_urgent_first_and_nothing_is_made_up_for(
    run: Run, service: Service
) -> None:
    captures = held(service, 3)
    receipt = release(run, "captures", "1/h")
    assert (receipt["state"], receipt["release_per_hour"], receipt["stopped"]["operations"]) == ("released", 1, 3)
    relay(service)
    assert states(service, captures) == ["held", "held", "ready"]
    a_day_later(service)
    relay(service)
    assert states(service, captures) == ["held", "ready", "ready"]
    (listed,) = run("switch", "list", "--json").json
    assert (listed["state"], listed["stopped"]) == ("released", {"operations": 1, "minor": {"USD": 1999}})
    assert "1/h" in run("switch", "list").out


def test_new_work_does_not_wait_behind_what_is_held(run: Run, service: Service) -> None:
    captures = held(service, 2)
    release(run, "captures", "1/h")
    new = service.ask_for_capture()
    service.plan()
    relay(service)
    assert states(service, [*captures, new]) == ["held", "ready", "ready"]


def test_several_relays_keep_the_rate_together(run: Run, service: Service) -> None:
    held(service, 3)
    release(run, "captures", "1/h")
    engine = service.engines["relay"]
    with database.transaction(engine) as first, database.transaction(engine) as second:
        assert [release_paced(session, 1000) for session in (first, second)] == [1, 0]
    relay(service)
    assert service.states_of_work() == {"held": 2, "ready": 1}


def test_when_nothing_is_left_the_rate_ends(run: Run, service: Service) -> None:
    captures = held(service, 2)
    release(run, "captures", "1000/s")
    assert service.settle(*captures) == ["captured", "captured"]
    a_day_later(service)
    relay(service)
    assert run("switch", "list").out == "no switch is pulled\n"
    service.pull("captures")
    service.release("captures")


def test_work_that_another_switch_stops_stays_held_and_keeps_the_rate_when_that_is_released(
    run: Run, service: Service
) -> None:
    captures = held(service, 2)
    service.pull("currency:USD")
    release(run, "captures", "1/h")
    relay(service)
    a_day_later(service)
    relay(service)
    assert states(service, captures) == ["held", "held"]
    assert [row["scope"] for row in run("switch", "list", "--json").json] == ["currency:USD", "captures"]
    service.release("currency:USD")
    a_day_later(service)
    relay(service)
    assert states(service, captures) == ["held", "ready"]


def test_work_in_two_scopes_waits_for_the_slower_and_counts_for_both(run: Run, service: Service) -> None:
    captures = held(service, 2, scope="everything")
    service.pull("captures")
    invoice = service.ask_for_invoice()
    service.plan()
    relay(service)
    release(run, "everything", "2/h")
    release(run, "captures", "1/h")
    relay(service)
    assert states(service, [*captures, invoice]) == ["held", "ready", "held"], "one of everything, and it is a capture"
    a_day_later(service, "everything")
    relay(service)
    assert states(service, [*captures, invoice]) == ["held", "ready", "ready"], (
        "a capture would be the second this hour"
    )


def test_pulling_again_stops_it_and_a_release_without_a_rate_is_one_of_all(run: Run, service: Service) -> None:
    captures = held(service, 3)
    release(run, "captures", "1/h")
    service.pull("captures")
    relay(service)
    assert states(service, captures) == ["held"] * 3
    assert (
        run("switch", "release", "captures", "--reason", "mended").out == "captures is released; held work continues\n"
    )
    relay(service)
    assert states(service, captures) == ["ready"] * 3


NO_RATES = ["0/s", "20", "/s", "-1/s", "1.5/s", "2/d", "1001/s", "20 /s", "99999999/h", ""]


def test_what_is_no_rate_is_refused_and_nothing_is_released(run: Run, service: Service) -> None:
    service.pull("captures")
    for rate in NO_RATES:
        with case(rate):
            refused = run("switch", "release", "captures", "--reason", "mended", f"--rate={rate}")
            assert (refused.status, refused.out) == (2, "")
            assert [row["state"] for row in run("switch", "list", "--json").json] == ["pulled"]


@pytest.mark.parametrize("rate", ["1/h", "59/h", "1/min", "100/min", "1/s", "20/s", "1000/s"])
def test_a_rate_is_shown_as_it_was_given(rate: str) -> None:
    assert rates.shown(rates.rate("--rate", rate)) == rate
