"""Asks Stripe whether our credentials work again, and then releases the switch that the service pulled."""

from billing.facts import new_fact
from billing.idempotency import Rules
from billing.learned import Learned
from billing.registration import Afterwards, Contract, Operation, Retry
from billing.states import SwitchState, set_state
from billing.steps import Ask, Json, LoadedOperation, LookResult, Reader, Step, Unread, body_of
from billing.tables.entities import Switch
from billing.tables.facts import Fact


def _find(_loaded: LoadedOperation, read: Reader, _livemode: bool) -> LookResult:
    answer = read.get("/v1/account")
    account = body_of(answer)
    if account.get("object") != "account":
        raise Unread(answer, "what answered is no account")
    return LookResult(Learned.SUCCEEDED, account)


def _apply(loaded: LoadedOperation, _outcome: Learned, _data: Json, _why: str) -> list[Fact]:
    row = loaded.row
    assert isinstance(row, Switch), "the operation's own table"
    if row.state != SwitchState.PULLED or not row.probes:
        return []  # an operator took it over while the probe was in flight
    set_state(row, SwitchState.RELEASED)
    return [new_fact(row, "released", scope=row.scope, why="the provider accepts our credentials again")]


def _next_step(loaded: LoadedOperation) -> Step | None:
    row = loaded.row
    assert isinstance(row, Switch), "the operation's own table"
    # After an operator has taken the switch over, only an operator releases it.
    return PROBE if row.state == SwitchState.PULLED and row.probes else None


PROBE = Step(
    name="probe",
    ask=lambda _loaded: Ask("GET", "/v1/account"),
    find=_find,
    apply=_apply,
    # The pulled switch is logged as an error already.
    rules=Rules(replays=False, alarms=False),
)

OPERATION = Operation(
    table=Switch,
    prefix="swi",
    contracts=(
        Contract(
            name="probe_provider",
            topic="pulled",
            queue="captures",
            max_attempts=1_000_000,
            # It reads one object, and the next probe comes by itself.
            call_budget_s=10,
            retry=Retry.PROMPT,
            owner="payments",
            purpose="ask Stripe until our credentials are accepted again, and release the switch",
            payload={
                "scope": "text",
                "reason": "text",
                "probes": "true or false",
                # An operator who takes the switch over writes none.
                "account": "optional text or null",
            },
            # Only an operator releases what an operator pulled.
            wanted=lambda pulled: bool(pulled.get("probes")),
        ),
    ),
    next_step=_next_step,
    steps={PROBE.name: PROBE}.__getitem__,
    belongs_to=(),
    shown=lambda _session, row: {
        "scope": row.scope,
        "pulled_by": row.actor,
        "pulled_at": row.pulled_at,
        "why": row.reason,
        "expires_at": row.expires_at,
    },
    afterwards={
        SwitchState.PULLED: Afterwards(
            "only when its reason is over, for all work in its scope", "billing switch release {scope} --reason WHY"
        ),
    },
)
