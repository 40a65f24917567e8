"""The switch that a person pulls holds, whatever a machine finds out meanwhile."""

from collections.abc import Callable

from house import House, eventually, patient_engine
from sqlalchemy import event, select, text

from billing import database, switches
from billing.gateway import Answer, Budget, Request
from billing.states import SwitchState
from billing.tables import Switch
from jobs.road import work_queue


class Through:
    """The real gateway, with something done before or to every answer."""

    def __init__(self, house: House, change: Callable[[Request, Answer], Answer] = lambda _r, a: a) -> None:
        self._gateway, self._change = house.gateway(), change
        self.livemode = self._gateway.livemode
        self.asked: list[Request] = []

    def send(self, request: Request, budget: Budget) -> Answer:
        self.asked.append(request)
        return self._change(request, self._gateway.send(request, budget))


def _pull(house: House, scope: str, *, actor: str, probes: bool) -> None:
    with database.transaction(house.engine) as session:
        switches.pull(session, scope, actor=actor, reason="a drill", probes=probes)


def _switch(house: House) -> Switch:
    with database.transaction(house.engine) as session:
        return session.scalars(select(Switch)).one()


def test_a_probe_does_not_release_a_switch_that_a_person_took_over(house: House) -> None:
    """The service pulls it for a 401, a person takes it over, and then the probe that was on its way succeeds."""
    _pull(house, "account:own", actor="billing", probes=True)
    house.standin.add_fault("401", path="/account$", times=1)
    house.plan()
    house.work_off()
    assert house.record(_switch(house).id).looks == 1, "the probe has failed once and will look again"
    _pull(house, "account:own", actor="anna", probes=False)
    capture = house.ask_for_capture()

    def looked_again() -> bool:
        house.relay.round()
        house.work_off()
        return house.record(_switch(house).id).looks >= 2

    eventually(looked_again, "the probe looks again")
    assert (_switch(house).state, _switch(house).actor) == (SwitchState.PULLED, "anna")
    assert house.posts("/capture") == [], f"a person had pulled the switch before {capture} was sent"


def test_a_probe_in_flight_does_not_release_a_switch_that_a_person_took_over(house: House) -> None:
    _pull(house, "account:own", actor="billing", probes=True)
    house.plan()

    def person_comes(request: Request, answer: Answer) -> Answer:
        _pull(house, "account:own", actor="anna", probes=False)
        return answer

    house.work_off(gateway=Through(house, person_comes))
    assert _switch(house).state == SwitchState.PULLED


def test_a_switch_holds_in_a_database_whose_default_isolation_is_repeatable_read(house: House) -> None:
    """The service shares the application's database, and its default isolation may be set there."""
    name = house.engine.url.database
    house.execute(f"ALTER DATABASE \"{name}\" SET default_transaction_isolation = 'repeatable read'")
    house.engine.dispose()
    house.ask_for_capture()
    house.plan()
    with database.transaction(house.engine) as captain:
        claimed = work_queue.claim_ready(captain, "captures", ["take_capture:1"], 1)
        _pull(house, "captures", actor="anna", probes=False)  # committed before the captain takes its lock
        assert switches.pulled(captain, set(claimed[0].scopes)), "the captain does not see a committed switch"


def test_the_probe_of_a_connected_account_asks_that_account(house: House) -> None:
    """An answer of our own account says nothing about the connected one, which still refuses us."""
    _pull(house, "account:acct_shop1", actor="billing", probes=True)
    house.plan()
    gateway = Through(house)
    house.work_off(gateway=gateway)
    assert [request.account for request in gateway.asked] == ["acct_shop1"]


def test_a_key_of_another_account_never_turns_a_taken_capture_into_a_refusal(house: House) -> None:
    """[40] The answer of a capture is lost, a key of another account is deployed, and whatever is asked is a 404."""
    house.standin.set_keys(accounts={"sk_test_other": "acct_other"})
    capture = house.ask_for_capture()
    house.standin.add_fault("drop_after_commit", path="/capture$", times=1)
    house.plan()
    house.work_off()
    assert house.captured(capture) == {1999: 1}
    from billing.stripe_gateway import StripeGateway

    other = StripeGateway(lambda: "sk_test_other", house.stripe_api_base, livemode=False, connections=8)

    def looked() -> bool:
        house.relay.round()
        house.work_off(gateway=other)
        return house.record(capture).looks >= 1

    eventually(looked, "the other account is asked")
    status = house.status(capture)
    assert (status.state, status.final) != ("refused", True), "the money was taken, and we say refused"
    house.standin.set_keys()


def test_no_capture_is_refused_for_good_while_the_key_is_of_another_account(house: House) -> None:
    house.standin.set_keys(accounts={"sk_test_other": "acct_other"})
    intents = house.intents(3)
    captures = [house.ask_for_capture(intent) for intent in intents]
    from billing.stripe_gateway import StripeGateway

    other = StripeGateway(lambda: "sk_test_other", house.stripe_api_base, livemode=False, connections=8)
    house.plan()
    house.work_off(gateway=other)
    states = [house.status(capture).state for capture in captures]
    house.standin.set_keys()
    assert "refused" not in states


def test_a_switch_pulled_in_the_moment_when_a_probe_releases_it_is_pulled(house: House) -> None:
    """A probe releases without the scope's lock, which may be between the insert and the read of `pull`."""
    _pull(house, "account:own", actor="billing", probes=True)
    other = patient_engine(house.url, house.timing, name="captain")

    def release_now(_c: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("INSERT INTO billing.switches"):
            with database.transaction(other) as session:
                session.execute(text("UPDATE billing.switches SET state = 'released' WHERE actor = 'billing'"))

    event.listen(house.engine, "after_cursor_execute", release_now)
    try:
        _pull(house, "account:own", actor="anna", probes=False)
    finally:
        event.remove(house.engine, "after_cursor_execute", release_now)
        other.dispose()
    with database.transaction(house.engine) as session:
        assert switches.pulled(session, {"account:own"}) == {"account:own": "a drill"}
