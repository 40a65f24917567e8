"""The example application does what it says, on real servers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from house import House
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

import billing

EXAMPLES = Path(__file__).parents[1] / "examples"
sys.path.insert(0, str(EXAMPLES))

from shop import OutOfStock, Shop  # noqa: E402 - the example lies beside the tests


@pytest.fixture
def shop(house: House):
    engine = create_engine(make_url(house.url).set(drivername="postgresql+psycopg"))
    shop = Shop(engine)
    shop.open()
    yield shop
    engine.dispose()


def test_an_order_that_ships_is_paid_once_however_often_it_ships(shop, house):
    (intent,) = house.intents()
    shop.sell(1, intent, billing.Money(1999, "USD"))
    capture_id = shop.ship(1)
    assert shop.ship(1) == capture_id
    assert house.settle(capture_id) == ["captured"]
    assert shop.ship(1) == capture_id
    assert house.captured(capture_id) == {1999: 1}
    assert shop.paid(1) == "captured; nothing: this is final"


def test_an_order_that_is_rolled_back_asks_for_nothing(shop, house):
    (intent,) = house.intents()
    shop.sell(1, intent, billing.Money(1999, "USD"))
    with pytest.raises(OutOfStock):
        shop.ship(1, in_stock=False)
    assert shop.paid(1) == "not asked for"
    with house.engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM billing.captures")) == 0
        assert connection.scalar(text("SELECT count(*) FROM billing.facts")) == 0


def test_a_month_is_billed_once(shop, house):
    customer = house.customer()
    invoice_id = shop.bill(customer, "2026-11", seats=3)
    assert shop.bill(customer, "2026-11", seats=3) == invoice_id
    assert house.settle(invoice_id) == ["sent"]
    assert [effect["amount"] for effect in house.effects("invoice.sent")] == [4500]


def test_the_example_runs_as_a_program(house):
    (intent,) = house.intents()
    ran = subprocess.run(
        [sys.executable, str(EXAMPLES / "shop.py")],
        env={**os.environ, "DATABASE_URL": house.url, "PAYMENT_INTENT": intent},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "rolled back; its money is not asked for" in ran.stdout
    assert "was first used with other parameters" in ran.stdout
    assert ran.stdout.splitlines()[-1] == "order 1: its money is requested; a relay plans the work"
