"""A card number is known by network, length and check digit, and in an id by its form: too strict is a fault, too."""

import random
import uuid
from pathlib import Path

import pytest
from cases import case

import billing
from bench import false_alarms
from billing.cards import is_card_number, may_hold_card_number
from billing.errors import InvalidText, PossibleCardNumber
from billing.provider_ids import provider_id
from billing.texts import opaque_id, plain_text
from stripe_standin.api.customers import cards as of_the_standin

# The networks' own published test numbers.
CARDS = (
    *("4242424242424242", "4222222222222", "5555555555554444", "2223003122003222", "378282246310005"),
    *("6011111111111117", "3056930009020004", "36227206271667", "3566002020360505", "6200000000000005"),
)


@pytest.mark.parametrize("card", CARDS)
def test_a_card_number_is_seen_wherever_it_stands_in_a_text(card: str) -> None:
    fours = [card[n : n + 4] for n in range(0, len(card), 4)]
    # None of 13 digits is given out any more: only the one that is published is known.
    marks = (" ", "-", "\u00a0", "\u202f", "\u2011", ".", "\u200d") if len(card) > 13 else ()
    for written in ("{}", "order-{}", "card{}", "pi_{}", "card {}, paid", "14 {} 12", "\n{}\n"):
        for number in (card, *(mark.join(fours) for mark in marks)):
            assert may_hold_card_number(written.format(number)), ascii(written.format(number))


@pytest.mark.parametrize("zero", ["\u0660", "\u06f0", "\u0966", "\uff10"])
def test_the_digits_of_another_script_are_digits(zero: str) -> None:
    written = "".join(chr(ord(zero) + int(digit)) for digit in "4539148803436467")
    assert may_hold_card_number(f"card {written}")
    assert may_hold_card_number(f"\u5361\u53f7{written}\u5df2\u4ed8")


def test_what_shows_nothing_does_not_hide_a_card_number() -> None:
    assert may_hold_card_number("4539\u00ad1488\u200b0343\u20606467")


@pytest.mark.parametrize("card", CARDS)
def test_another_check_digit_makes_it_a_number_like_any_other(card: str) -> None:
    others = [card[:-1] + str(digit) for digit in range(10) if str(digit) != card[-1]]
    assert not any(map(may_hold_card_number, others))
    assert not any(map(is_card_number, others))


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
    assert not may_hold_card_number(text)


def test_no_random_id_is_taken_for_one() -> None:
    rng = random.Random(1)
    for _ in range(50_000):
        made = uuid.UUID(int=rng.getrandbits(128))
        assert not may_hold_card_number(f"order-{made}")
        assert not may_hold_card_number(f"cap_{made.hex}")
        assert not may_hold_card_number(f"pi_{made.hex[:24]}")


OF_A_NETWORK = "4539148803436467"
"""Nobody has published this one for tests: as an id it may be an order number."""


@pytest.mark.parametrize(
    "refused",
    [
        lambda number: plain_text("reason", f"paid with {number}", 500),
        lambda number: provider_id("payment_intent", f"pi_{number}"),
        lambda number: billing.Line(f"Card {number}", billing.Money(1, "EUR")),
    ],
)
@pytest.mark.parametrize("number", [OF_A_NETWORK, "4242424242424242"])
def test_no_text_and_no_id_of_stripes_takes_one_in_and_no_message_repeats_it(refused, number: str) -> None:
    refused(number[:-1] + str((int(number[-1]) + 1) % 10))
    with pytest.raises(InvalidText) as refusal:
        refused(number)
    assert number[:4] not in str(refusal.value)


@pytest.mark.parametrize("card", CARDS)
def test_an_id_that_is_published_for_tests_is_refused(card: str) -> None:
    for written in ("{}", "order-{}", "order{}", "{}/2", "v2:{}"):
        with case(written), pytest.raises(InvalidText, match="published for tests") as refusal:
            opaque_id("request_id", written.format(card))
        assert card[:4] not in str(refusal.value)


@pytest.mark.parametrize("mark", ["-", ".", "_", "/", ":"])
@pytest.mark.parametrize(
    "groups", [("4539", "1488", "0343", "6467"), ("3714", "496353", "98431"), ("3852", "000002", "3237")]
)
def test_an_id_that_is_grouped_as_a_card_is_is_refused(groups: tuple[str, ...], mark: str) -> None:
    card = mark.join(groups)
    for written in (card, f"order#{card}", f"{card}#2"):
        with pytest.raises(InvalidText, match="grouped as cards are"):
            opaque_id("request_id", written)
    # More digits with the same mark make it a longer number, of another kind.
    for written in (f"12{mark}{card}", f"{card}{mark}12", f"{card}0", f"7{card}"):
        assert not is_card_number(written)


def test_an_id_that_only_may_be_a_card_number_is_taken_with_a_warning_that_names_the_field() -> None:
    with pytest.warns(PossibleCardNumber, match="request_id may be a card number") as warned:
        assert opaque_id("request_id", f"order-{OF_A_NETWORK}") == f"order-{OF_A_NETWORK}"
    assert OF_A_NETWORK[:4] not in str(warned[0].message)


def test_an_order_number_says_in_a_text_what_it_is() -> None:
    for label in ("Order", "order no.", "Bestellung Nr.", "Commande n° ", "order-id", "EAN", "IMEI:", "ref #"):
        assert not may_hold_card_number(f"{label} {OF_A_NETWORK}, 2 pieces"), label
        # In groups it is what it looks like, whatever stands before it.
        assert may_hold_card_number(f"{label} 4539 1488 0343 6467, 2 pieces"), label
    assert may_hold_card_number(f"card no. {OF_A_NETWORK}")
    assert may_hold_card_number(f"Order paid with {OF_A_NETWORK}")
    assert may_hold_card_number("Order 4242424242424242"), "published for tests"


# False alarms.


@pytest.mark.parametrize("name", false_alarms.SCHEMES)
def test_of_every_scheme_of_order_numbers_at_most_one_in_ten_thousand_is_refused_as_an_id(name: str) -> None:
    rng = random.Random(f"bound {name}")
    scheme = false_alarms.SCHEMES[name]
    made = (scheme(rng) for _ in range(false_alarms.EACH))
    assert sum(map(is_card_number, made)) <= false_alarms.EACH / 10_000


def test_the_page_about_inputs_says_what_the_command_counts() -> None:
    """Every row stands there; some of them are counted anew."""
    page = (Path(__file__).parents[1] / "docs" / "inputs.md").read_text().splitlines()
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in page if line.startswith("| ")}
    assert [name for name in rows if name in false_alarms.ALL] == list(false_alarms.ALL)
    for name in ("order number of 16 digits", "payment reference, Denmark (FIK), 15 digits", "16 digits, 4-4-4-4"):
        assert rows[name] == false_alarms.row(false_alarms.rate(name))


def test_the_numbers_that_stripe_publishes_for_tests_are_known() -> None:
    """The stand-in has them from the same page of Stripe's; but for those that only tell one country from another."""
    abroad = {each.partition(":")[2] for each in of_the_standin._ABROAD.split()}
    assert [number for number in of_the_standin.NUMBERS.keys() - abroad if not is_card_number(number)] == []
