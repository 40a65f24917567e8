"""The example application does what it says, on real servers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from service import Service
from sqlalchemy import create_engine, text

import billing

EXAMPLES = Path(__file__).parents[1] / "examples"
sys.path.insert(0, str(EXAMPLES))

from shop import OutOfStock, Shop  # noqa: E402 - the example lies beside the tests


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
    for number in (1, 2):
        program = subprocess.Popen(
            [sys.executable, str(EXAMPLES / "shop.py")], env={**os.environ, **given}, stdout=subprocess.PIPE, text=True
        )
        while program.poll() is None:
            service.relay.round()
            service.work_off()
        assert program.stdout is not None
        with program.stdout as told:
            assert told.read().splitlines()[-1] == f"order {number}: its money is captured; nothing, this is final"
    assert [effect["amount"] for effect in service.effects("capture")] == [1999, 1999]


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
