"""A card number is known by its network, its length and its check digit; what only looks like one is let in."""

import random
import uuid

import pytest

import billing
from billing.cards import holds_card_number
from billing.errors import InvalidText
from billing.money import opaque_id, plain_text
from billing.provider_ids import provider_id

# The networks' own published test numbers.
CARDS = (
    *("4242424242424242", "4222222222222", "5555555555554444", "2223003122003222", "378282246310005"),
    *("6011111111111117", "3056930009020004", "36227206271667", "3566002020360505", "6200000000000005"),
)


@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("written", ["{}", "order-{}", "card{}", "pi_{}", "card {}, paid", "14 {} 12", "\n{}\n"])
def test_a_card_number_is_seen_wherever_it_stands(card: str, written: str) -> None:
    assert holds_card_number(written.format(card))
    fours = [card[n : n + 4] for n in range(0, len(card), 4)]
    assert holds_card_number(written.format(" ".join(fours)))
    assert holds_card_number(written.format("-".join(fours)))


@pytest.mark.parametrize("card", CARDS)
def test_another_check_digit_makes_it_a_number_like_any_other(card: str) -> None:
    others = [card[:-1] + str(digit) for digit in range(10) if str(digit) != card[-1]]
    assert not any(map(holds_card_number, others))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1764045000000",
        "1764045000000000000",
        "2026-11-25T04:46:02.123456+00:00",
        "14242424242424242424",
        "+4915112345678",
    ],
)
def test_times_counters_and_longer_rows_are_none(text: str) -> None:
    assert not holds_card_number(text)


def test_no_random_id_is_taken_for_one() -> None:
    chance = random.Random(1)
    for _ in range(50_000):
        made = uuid.UUID(int=chance.getrandbits(128))
        assert not holds_card_number(f"order-{made}")
        assert not holds_card_number(f"cap_{made.hex}")
        assert not holds_card_number(f"pi_{made.hex[:24]}")


@pytest.mark.parametrize(
    "refused",
    [
        lambda text: plain_text("reason", f"paid with {text}", 500),
        lambda text: opaque_id("request_id", f"order-{text}"),
        lambda text: provider_id("payment_intent", f"pi_{text}"),
        lambda text: billing.Line(f"Card {text}", billing.Money(1, "EUR")),
    ],
)
def test_no_text_of_ours_takes_one_in_and_no_message_repeats_it(refused) -> None:
    refused("4242424242424243")
    with pytest.raises(InvalidText) as refusal:
        refused("4242424242424242")
    assert "4242" not in str(refusal.value)
