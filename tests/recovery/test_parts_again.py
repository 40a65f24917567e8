"""Parts of one authorization that a restored database has forgotten are known again, in their order."""

from command import Run
from service import Service
from set_back import Backup, start

import billing
from billing.tables.entities import Capture

FEE = billing.CaptureTerms(application_fee=billing.Money(70, "USD"), metadata={"order": "42"})


def in_parts(service: Service) -> list[str]:
    made = "amount=1999&currency=usd&capture_method=manual&payment_method=pm_card_visa&confirm=true"
    several = "&payment_method_options[card][request_multicapture]=if_available&transfer_data[destination]=acct_2"
    intent = service.by_hand("/v1/payment_intents", made + several)
    parts = [
        service.ask_for_capture(intent, 700, remainder="keep", terms=FEE),
        service.ask_for_capture(intent, 500, authorization=None),
    ]
    assert service.settle(*parts) == ["captured", "captured"]
    service.plan()
    return parts


def test_parts_that_the_archive_or_only_stripe_knows_are_known_again_and_nothing_is_sent(
    service: Service, run: Run, bucket: None, backup: Backup
) -> None:
    """[31, 81]"""
    assert run("archive", "run", "--once").status == 0
    backup.take()
    archived = in_parts(service)
    assert run("archive", "run", "--once").status == 0
    only_at_stripe = in_parts(service)
    sent = len(service.posts(""))
    backup.put_back()
    start()
    done = run("recover", "--apply", "--reason", "INC-17", "--json")
    assert (done.status, done.json["differences"]) == (0, []), done.out
    for first, last in (archived, only_at_stripe):
        rows = [service.row(Capture, part) for part in (first, last)]
        assert [(row.state, row.capture_no, row.amount_minor, row.keeps_remainder) for row in rows] == [
            ("captured", 1, 700, True),
            ("captured", 2, 500, False),
        ]
    # Stripe shows no fee of a single part; the archive does.
    assert [service.row(Capture, each[0]).application_fee_minor for each in (archived, only_at_stripe)] == [70, None]
    assert run("recover", "--release", "--reason", "nothing differs, INC-17").status == 0
    service.relay.round()
    service.work_off()
    assert len(service.posts("")) == sent
