"""The example application does what it says, on real servers."""

import contextlib
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from service import Service, eventually
from sqlalchemy import Engine, create_engine, select, text
from sqlalchemy.orm import Session

import billing

EXAMPLES = Path(__file__).parents[1] / "examples"
sys.path.insert(0, str(EXAMPLES))

from bookkeeping import Books  # noqa: E402 - the examples lie beside the tests
from checkout import Checkout  # noqa: E402 - the examples lie beside the tests
from paid_orders import Follower, Payment  # noqa: E402 - the same
from shop import OutOfStock, Shop  # noqa: E402 - the same


@pytest.fixture
def shop(service: Service):
    engine = create_engine(service.url)
    shop = Shop(engine)
    shop.open()
    yield shop
    engine.dispose()


def test_an_order_that_ships_is_paid_once_however_often_it_ships(shop, service):
    (intent,) = service.intents()
    shop.sell(1, intent, billing.Money(1999, "USD"))
    capture_id = shop.ship(1)
    assert shop.ship(1) == capture_id
    assert service.settle(capture_id) == ["captured"]
    assert shop.ship(1) == capture_id
    assert service.captured(capture_id) == {1999: 1}
    assert shop.paid(1) == "captured; nothing, this is final"


def test_an_order_that_is_canceled_gives_its_authorization_back_once(shop, service):
    (intent,) = service.intents()
    shop.sell(1, intent, billing.Money(1999, "USD"))
    void_id = shop.cancel(1)
    assert shop.cancel(1) == void_id
    assert service.settle(void_id) == ["voided"]
    assert shop.paid(1) == "voided; nothing, this is final"
    assert [effect["amount"] for effect in service.effects("payment_intent.canceled", intent)] == [1999]
    with pytest.raises(billing.AuthorizationTaken, match=void_id):
        shop.ship(1)


def test_an_order_that_was_shipped_is_not_canceled(shop, service):
    (intent,) = service.intents()
    shop.sell(1, intent, billing.Money(1999, "USD"))
    capture_id = shop.ship(1)
    with pytest.raises(billing.AuthorizationTaken, match=capture_id):
        shop.cancel(1)
    assert service.settle(capture_id) == ["captured"]
    assert shop.paid(1) == "captured; nothing, this is final"


def test_a_parcel_that_comes_back_is_given_back_once_and_never_more_than_was_taken(shop, service):
    (intent,) = service.intents()
    shop.sell(1, intent, billing.Money(1999, "USD"))
    assert service.settle(shop.ship(1)) == ["captured"]
    refund = shop.take_back(1, billing.Money(500, "USD"), claim="a")
    assert shop.take_back(1, billing.Money(500, "USD"), claim="a") == refund
    with pytest.raises(billing.MoreThanCaptured):
        shop.take_back(1, billing.Money(1500, "USD"), claim="b")
    assert service.settle(refund) == ["succeeded"]
    assert service.refunded(refund) == [500]
    assert shop.cost(1) == billing.Money(1499, "USD")
    rest = shop.take_back(1, claim="c")
    assert service.settle(rest) == ["succeeded"]
    assert service.refunded(rest) == [1499]
    assert shop.cost(1) is None


def test_an_order_that_ships_in_parcels_is_paid_parcel_by_parcel_and_the_rest_is_released(shop, service):
    intent = Checkout(service.stripe_api_base).authorize(billing.Money(3000, "USD"))
    shop.sell(1, intent, billing.Money(3000, "USD"))
    first = shop.ship(1, billing.Money(1800, "USD"), last=False)
    assert shop.ship(1, billing.Money(1800, "USD"), last=False) == first
    second = shop.ship(1, billing.Money(1000, "USD"), parcel=2)
    with pytest.raises(billing.AuthorizationTaken, match=second):
        shop.ship(1, billing.Money(200, "USD"), parcel=3)
    assert service.settle(first, second) == ["captured", "captured"]
    assert [effect["amount"] for effect in service.effects("capture", intent)] == [1800, 1000]
    assert [effect["amount"] for effect in service.effects("release", intent)] == [200]
    assert shop.paid(1) == "captured; nothing, this is final | captured; nothing, this is final"
    assert shop.cost(1) == billing.Money(2800, "USD")


def test_a_parcel_that_never_left_is_undone_before_or_after_its_money_was_taken(shop, service):
    for number, intent in enumerate(service.intents(2), 1):
        shop.sell(number, intent, billing.Money(1999, "USD"))
    taken = shop.ship(1)
    assert service.settle(taken) == ["captured"]
    waiting = shop.ship(2)
    undone = [shop.undo(1), shop.undo(2)]
    assert shop.undo(1) == undone[0]
    assert service.settle(waiting, *undone) == ["refused", "succeeded", "refused"]
    assert service.refunded(undone[0]) == [1999]
    assert service.effects("capture", intent) == []


def test_an_order_that_is_rolled_back_asks_for_nothing(shop, service):
    (intent,) = service.intents()
    shop.sell(1, intent, billing.Money(1999, "USD"))
    with pytest.raises(OutOfStock):
        shop.ship(1, in_stock=False)
    assert shop.paid(1) == "not asked for"
    with service.engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM billing.captures")) == 0
        assert connection.scalar(text("SELECT count(*) FROM billing.facts")) == 0


def test_a_month_is_billed_once(shop, service):
    customer = service.customer()
    invoice_id = shop.bill(customer, "2026-11", seats=3)
    assert shop.bill(customer, "2026-11", seats=3) == invoice_id
    assert service.settle(invoice_id) == ["sent"]
    assert [effect["amount"] for effect in service.effects("invoice.sent")] == [4500]


def test_the_example_runs_as_a_program(service):
    (intent,) = service.intents()
    ran = run_shop("--wait", "0", DATABASE_URL=service.url, PAYMENT_INTENT=intent)
    assert "rolled back; its money is not asked for" in ran.stdout
    assert "was first used with other parameters" in ran.stdout
    assert ran.stdout.splitlines()[-1] == "order 1: its money is requested; a relay plans the work"


def test_the_example_authorizes_a_card_of_its_own_each_time_and_sees_the_money_move(service):
    given = {"DATABASE_URL": service.url, "STRIPE_API_BASE": service.stripe_api_base}
    for number in (1, 4):
        program = subprocess.Popen(
            [sys.executable, str(EXAMPLES / "shop.py")], env={**os.environ, **given}, stdout=subprocess.PIPE, text=True
        )
        while program.poll() is None:
            service.relay.round()
            for queue in ("captures", "refunds", "invoices"):
                service.work_off(queue)
        assert program.stdout is not None
        with program.stdout as told:
            *_, voided, parts, returned, refused, cost, undone, invoice, paid = told.read().splitlines()
        assert voided == f"order {number + 1}: its money is voided; nothing, this is final"
        assert parts.count("captured; nothing, this is final") == 2
        assert returned.startswith(f"order {number + 2}: parcel 1 had a dent, then came back; 5.00 USD by ref_")
        assert "nothing is left of it" in refused or "0 USD are left of it, not 1" in refused
        assert cost == f"order {number + 2}: it has cost 10.00 USD"
        assert undone.startswith(f"order {number + 2}: parcel 2 never left; its money is given back by ref_")
        assert invoice == "invoice: sent"
        assert paid == f"order {number}: its money is captured; nothing, this is final"
    assert sorted(effect["amount"] for effect in service.effects("capture")) == [1000, 1000, 1800, 1800, 1999, 1999]
    assert [effect["amount"] for effect in service.effects("payment_intent.canceled")] == [4500, 4500]


def test_the_example_says_what_it_needs(service):
    assert "DATABASE_URL" in run_shop("--help").stdout
    missing = run_shop(DATABASE_URL=service.url)
    assert missing.returncode == 1
    assert missing.stderr.startswith("neither PAYMENT_INTENT nor STRIPE_API_BASE is set")
    away = run_shop(DATABASE_URL=service.url, STRIPE_API_BASE="http://127.0.0.1:1")
    assert len(away.stderr.splitlines()) == 1


def run_shop(*arguments: str, **given: str) -> subprocess.CompletedProcess[str]:
    ours = {"DATABASE_URL", "STRIPE_API_BASE", "PAYMENT_INTENT"}
    clean = {name: value for name, value in os.environ.items() if name not in ours}
    program = [sys.executable, str(EXAMPLES / "shop.py"), *arguments]
    return subprocess.run(program, env=clean | given, capture_output=True, text=True, check=False)


# The books of a shop.


def test_what_was_taken_is_invoiced_once_and_what_is_given_back_is_credited_once(service):
    engine = create_engine(service.url)
    books, (intent,) = Books(engine), service.intents()
    customer, price, part = service.customer(), billing.Money(1999, "USD"), billing.Money(500, "USD")
    capture, invoice = books.sell("order-1", intent, price, customer)
    assert books.sell("order-1", intent, price, customer) == (capture, invoice)
    assert service.settle(capture, invoice) == ["captured", "paid"]
    with pytest.raises(billing.MoreThanCaptured):
        books.give_back(capture, invoice, billing.Money(2000, "USD"), "a")
    refund, note = books.give_back(capture, invoice, part, "a")
    assert books.give_back(capture, invoice, part, "a") == (refund, note)
    assert service.settle(refund, note) == ["succeeded", "issued"]
    assert (service.refunded(refund), service.credited(note)) == ([500], [500])
    assert books.documents(invoice, note) == ["no document", "no document"], "no bucket is configured"
    engine.dispose()


def test_the_books_run_as_a_program(service):
    given = {"DATABASE_URL": service.url, "STRIPE_API_BASE": service.stripe_api_base}
    program = subprocess.Popen(
        [sys.executable, str(EXAMPLES / "bookkeeping.py")],
        env={**os.environ, **given},
        stdout=subprocess.PIPE,
        text=True,
    )
    while program.poll() is None:
        service.relay.round()
        for queue in ("captures", "refunds", "invoices"):
            service.work_off(queue)
    assert program.stdout is not None
    with program.stdout as told:
        *_, paid, back, documents = told.read().splitlines()
    assert paid == "the invoice is paid; nobody was asked for money"
    assert back.startswith("5.00 USD back by ref_")
    assert back.endswith(": issued")
    assert documents == "documents: no document, no document"


# Following the changes.

SEED = int(os.environ.get("BILLING_TEST_SEED", "20261129"))


class Dies(Exception):
    pass


def payments(engine: Engine) -> Counter[tuple[str, str]]:
    with Session(engine) as session:
        return Counter((each.request_id, each.state) for each in session.scalars(select(Payment)))


def test_each_order_is_paid_once_wherever_its_follower_dies(service):
    print(f"seed {SEED}")
    rng, deaths = random.Random(SEED), []

    class Dying(Follower):
        def apply(self, session, change):
            self.may_die()
            super().apply(session, change)
            self.may_die()

        def may_die(self):
            if not deaths or rng.random() < 0.2:
                deaths.append(1)
                raise Dies

    engine = create_engine(service.url)
    follower = Dying(engine)
    follower.open()

    def follow():
        with contextlib.suppress(Dies):
            follower.follow()

    captures = [service.ask_for_capture(intent) for intent in service.intents(4)]
    for _ in range(5):
        follow()
    service.settle(*captures)
    while follower.paid() < len(captures):
        follow()
    for _ in range(5):
        follow()
    assert deaths
    assert payments(engine) == {(f"order-{n + 1}", "captured"): 1 for n in range(len(captures))}
    engine.dispose()


def test_the_program_is_killed_again_and_again_and_beside_a_second_one_each_order_is_paid_once(service):
    program = [sys.executable, str(EXAMPLES / "paid_orders.py"), "--every", "0.01"]

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            program, env={**os.environ, "DATABASE_URL": service.url}, stdout=subprocess.PIPE, text=True
        )

    engine = create_engine(service.url)
    for round_no in range(2):
        with start() as first, start() as second:
            try:
                for each in (first, second):
                    assert each.stdout is not None
                    assert each.stdout.readline().startswith("paid orders: ")
                service.settle(*[service.ask_for_capture(intent) for intent in service.intents(2)])
                if round_no == 1:
                    eventually(lambda: payments(engine).total() == 4, "every order is paid")
            finally:
                first.kill()
                second.kill()
    assert set(payments(engine).values()) == {1}
    engine.dispose()
