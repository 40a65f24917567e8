"""Broken stand-ins, which the machine must find. Each lacks one thing that the real one has.

python stripe_standin/tests/mutants.py NAME [the options of python -m stripe_standin]
"""

import sys
from collections.abc import Callable

from stripe_standin import __main__ as program
from stripe_standin import app, errors, faults, idempotency, lists
from stripe_standin.api.invoices import payments
from stripe_standin.api.ledger import balance
from stripe_standin.api.payments import authorizations, captures, refunds
from stripe_standin.call import Call
from stripe_standin.objects import Charge, Intent


def a_replay_executes_again() -> None:
    reserve = idempotency.Idempotency.reserve

    def forgetful(self: idempotency.Idempotency, place: idempotency.Place, *request: object) -> idempotency.Record:
        self._records.pop(place, None)
        return reserve(self, place, *request)  # type: ignore[arg-type]

    idempotency.Idempotency.reserve = forgetful  # type: ignore[method-assign]


def a_key_is_kept_for_an_hour_too_long() -> None:
    idempotency.KEPT += 3600


def a_key_is_kept_for_an_hour_less() -> None:
    idempotency.KEPT -= 3600


def a_key_belongs_to_both_modes() -> None:
    app._place = lambda request, caller: (caller.account, False, request.key or "")


def other_parameters_are_taken_for_the_same() -> None:
    idempotency.forms.same = lambda one, other: True  # type: ignore[attr-defined]


def a_decline_is_not_saved() -> None:
    declined = errors.card_declined

    def unsaved(*arguments: object, **attached: object) -> errors.StripeError:
        error = declined(*arguments, **attached)  # type: ignore[arg-type]
        error.begun = False
        return error

    errors.card_declined = unsaved


def a_partial_capture_forgets_to_release() -> None:
    take = authorizations.take

    def greedy(call: Call, intent: Intent, charge: Charge, amount: int, **changes: object) -> Intent:
        taken = take(call, intent, charge, amount, **changes)  # type: ignore[arg-type]
        return call.books.intents.put(taken._replace(amount_capturable=intent.amount_capturable - amount))

    captures.take = greedy  # type: ignore[assignment]


def more_can_be_captured_than_was_authorized() -> None:
    capture = captures.capture

    def generous(call: Call) -> dict[str, object]:
        intent = call.books.intents.get(call.ids[0])
        if intent is not None and intent.amount_capturable:
            call.books.intents.put(intent._replace(amount_capturable=intent.amount_capturable + 1))
        return capture(call)

    _answer("POST /v1/payment_intents/{id}/capture", generous)


def more_can_be_refunded_than_was_captured() -> None:
    give_back = refunds.give_back
    refunds.give_back = lambda call, charge, *rest, **more: give_back(  # type: ignore[assignment]
        call, charge._replace(amount_captured=charge.amount_captured + 1), *rest, **more
    )


def an_authorization_never_expires() -> None:
    authorizations.expire = lambda call: None


def voiding_an_invoice_leaves_its_payment() -> None:
    payments.end = lambda call, invoice, reason: None


def a_500_without_effect_is_saved() -> None:
    replacement = app._replacement

    def saved(fault: faults.Fault, call: Call) -> errors.StripeError:
        error = replacement(fault, call)
        error.begun = True
        return error

    app._replacement = saved


def a_fee_is_rounded_down() -> None:
    authorizations.fee_of = lambda amount: amount * balance.FEE_PER_MILLE // 1000 + balance.FEE_FIXED


def a_list_loses_its_last_row() -> None:
    take = lists._take
    lists._take = lambda *arguments, **more: (take(*arguments, **more)[0][:-1] or [], False)  # type: ignore[arg-type]


def a_refused_capture_leaves_an_effect() -> None:
    capture = captures.capture

    def careless(call: Call) -> dict[str, object]:
        intent = call.books.intents.get(call.ids[0])
        if intent is not None:
            call.effect("capture", intent, 0)
        return capture(call)

    _answer("POST /v1/payment_intents/{id}/capture", careless)


def an_odd_amount_is_not_expected() -> None:
    captures.CAPTURE.readers["amount_to_capture"] = lambda value, name: int(value)  # type: ignore[index]


def a_refusal_keeps_the_key() -> None:
    idempotency.Idempotency.give_back = lambda self, place, record: None  # type: ignore[method-assign]


def _answer(operation: str, answer: Callable[[Call], dict[str, object]]) -> None:
    app.ROUTES[operation] = app.ROUTES[operation]._replace(answer=answer)


MUTANTS: dict[str, Callable[[], None]] = {
    each.__name__: each
    for each in (
        a_replay_executes_again,
        a_key_is_kept_for_an_hour_too_long,
        a_key_is_kept_for_an_hour_less,
        a_key_belongs_to_both_modes,
        other_parameters_are_taken_for_the_same,
        a_decline_is_not_saved,
        a_partial_capture_forgets_to_release,
        more_can_be_captured_than_was_authorized,
        more_can_be_refunded_than_was_captured,
        an_authorization_never_expires,
        voiding_an_invoice_leaves_its_payment,
        a_500_without_effect_is_saved,
        a_fee_is_rounded_down,
        a_list_loses_its_last_row,
    )
}
BREAKS_UNDER_NONSENSE: dict[str, Callable[[], None]] = {
    each.__name__: each
    for each in (a_refused_capture_leaves_an_effect, an_odd_amount_is_not_expected, a_refusal_keeps_the_key)
}

if __name__ == "__main__":
    {**MUTANTS, **BREAKS_UNDER_NONSENSE}[sys.argv[1]]()
    program.main(sys.argv[2:])
