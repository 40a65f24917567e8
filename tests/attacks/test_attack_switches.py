"""The switch that a person pulls holds, whatever a machine finds out meanwhile."""

from service import Service, Through, eventually, patient_engine
from sqlalchemy import event, select, text

from billing import database, switches
from billing.gateway import Answer, Request
from billing.states import SwitchState
from billing.tables.entities import Switch
from jobs.road import work_queue


def _pull(service: Service, scope: str, *, actor: str, probes: bool) -> None:
    with database.transaction(service.engine) as session:
        switches.pull(session, scope, actor=actor, reason="a drill", probes=probes)


def _switch(service: Service) -> Switch:
    with database.transaction(service.engine) as session:
        return session.scalars(select(Switch)).one()


def test_a_probe_does_not_release_a_switch_that_a_person_took_over(service: Service) -> None:
    """The service pulls it for a 401, a person takes it over, and then the probe that was on its way succeeds."""
    _pull(service, "account:own", actor="billing", probes=True)
    service.standin.add_fault("401", path="/account$", times=1)
    service.plan()
    service.work_off()
    assert service.record(_switch(service).id).looks == 1, "the probe has failed once and will look again"
    _pull(service, "account:own", actor="anna", probes=False)
    capture = service.ask_for_capture()

    def looked_again() -> bool:
        service.relay.round()
        service.work_off()
        return service.record(_switch(service).id).looks >= 2

    eventually(looked_again, "the probe looks again")
    assert (_switch(service).state, _switch(service).actor) == (SwitchState.PULLED, "anna")
    assert service.posts("/capture") == [], f"a person had pulled the switch before {capture} was sent"


def test_a_probe_in_flight_does_not_release_a_switch_that_a_person_took_over(service: Service) -> None:
    _pull(service, "account:own", actor="billing", probes=True)
    service.plan()

    def person_comes(request: Request, answer: Answer) -> Answer:
        _pull(service, "account:own", actor="anna", probes=False)
        return answer

    service.work_off(gateway=Through(service, person_comes))
    assert _switch(service).state == SwitchState.PULLED


def test_a_switch_holds_in_a_database_whose_default_isolation_is_repeatable_read(service: Service) -> None:
    """The service shares the application's database, and its default isolation may be set there."""
    name = service.engine.url.database
    service.execute(f"ALTER DATABASE \"{name}\" SET default_transaction_isolation = 'repeatable read'")
    service.engine.dispose()
    service.ask_for_capture()
    service.plan()
    with database.transaction(service.engine) as captain:
        claimed = work_queue.claim_ready(captain, "captures", ["take_capture:1"], 1)
        _pull(service, "captures", actor="anna", probes=False)  # committed before the captain takes its lock
        assert switches.lock_and_read_pulled(captain, set(claimed[0].scopes)), (
            "the captain does not see a committed switch"
        )


def test_the_probe_of_a_connected_account_asks_that_account(service: Service) -> None:
    """An answer of our own account says nothing about the connected one, which still refuses us."""
    _pull(service, "account:acct_shop1", actor="billing", probes=True)
    service.plan()
    gateway = Through(service)
    service.work_off(gateway=gateway)
    assert [request.account for request in gateway.asked] == ["acct_shop1"]


def test_a_key_of_another_account_never_turns_a_taken_capture_into_a_refusal(service: Service) -> None:
    """[40] The answer of a capture is lost, a key of another account is deployed, and whatever is asked is a 404."""
    service.standin.set_keys(accounts={"sk_test_other": "acct_other"})
    capture = service.ask_for_capture()
    service.standin.add_fault("drop_after_commit", path="/capture$", times=1)
    service.plan()
    service.work_off()
    assert service.captured(capture) == {1999: 1}
    from billing.stripe_gateway import StripeGateway

    other = StripeGateway(lambda: "sk_test_other", service.stripe_api_base, livemode=False, connections=8)

    def looked() -> bool:
        service.relay.round()
        service.work_off(gateway=other)
        return service.record(capture).looks >= 1

    eventually(looked, "the other account is asked")
    status = service.status(capture)
    assert (status.state, status.final) != ("refused", True), "the money was taken, and we say refused"
    service.standin.set_keys()


def test_no_capture_is_refused_for_good_while_the_key_is_of_another_account(service: Service) -> None:
    service.standin.set_keys(accounts={"sk_test_other": "acct_other"})
    intents = service.intents(3)
    captures = [service.ask_for_capture(intent) for intent in intents]
    from billing.stripe_gateway import StripeGateway

    other = StripeGateway(lambda: "sk_test_other", service.stripe_api_base, livemode=False, connections=8)
    service.plan()
    service.work_off(gateway=other)
    states = [service.status(capture).state for capture in captures]
    service.standin.set_keys()
    assert "refused" not in states


def test_a_switch_pulled_in_the_moment_when_a_probe_releases_it_is_pulled(service: Service) -> None:
    """A probe releases without the scope's lock, which may be between the insert and the read of `pull`."""
    _pull(service, "account:own", actor="billing", probes=True)
    other = patient_engine(service.url, service.timing, name="captain")

    def release_now(_c: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("INSERT INTO billing.switches"):
            with database.transaction(other) as session:
                session.execute(text("UPDATE billing.switches SET state = 'released' WHERE actor = 'billing'"))

    event.listen(service.engine, "after_cursor_execute", release_now)
    try:
        _pull(service, "account:own", actor="anna", probes=False)
    finally:
        event.remove(service.engine, "after_cursor_execute", release_now)
        other.dispose()
    with database.transaction(service.engine) as session:
        assert switches.lock_and_read_pulled(session, {"account:own"}) == {"account:own": "a drill"}
