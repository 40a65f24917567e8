"""`billing email bounces`: a mailbox is read, and each report moves its e-mail on."""

from pathlib import Path

from command import Run
from mail_server import MailServer
from mailing import certificate, go_on, mail, sent
from reports import READER, delivery_report, feedback_report
from service import Service

__all__ = ["certificate", "mail"]


def test_a_mailbox_is_read_by_command_as_often_as_one_likes(
    run: Run, service: Service, mail: MailServer, tmp_path: Path
) -> None:
    one, two, three = (sent(service, mail) for _ in range(3))
    mbox, box = tmp_path / "bounces", tmp_path / "Maildir"
    begins = b"From MAILER-DAEMON Mon Nov 30 02:14:09 2026\n"
    mbox.write_bytes(begins + delivery_report(one) + b"\n" + begins + b"Subject: hi\n\n>From here\n\n" + begins)
    for name in ("new", "cur", "tmp"):
        (box / name).mkdir(parents=True)
    (box / "new" / "1").write_bytes(feedback_report(two))
    (box / "cur" / "2:2,S").write_bytes(delivery_report(three) + b"x" * 6 * 1024 * 1024)
    words = ("email", "bounces", str(mbox), str(box))
    told = run(*words, "--json")
    assert told.status == 1, told.err
    assert told.json == {"read": 4, "bounces": 1, "complaints": 1, "new": 2, "others": 1, "refused": 1}
    assert "message 1 is refused: it has more than 5 MB" in told.err
    assert READER not in told.err + told.out
    assert run(*words, "--json").json["new"] == 0
    go_on(service, mail)
    assert [service.status(each).state for each in (one, two, three)] == ["bounced", "complained", "sent"]
    listed = run("email", "list", "--bounced")
    assert f"{one}  refund_made to cus_" in listed.out
    assert "(hard 5.1.1)" in listed.out
    assert [each["id"] for each in run("email", "list", "--bounced", "--json").json] == [two, one]
    explained = run("explain", one).out
    assert "email.bounce.hard.5.1.1" in explained
    assert "correct the customer's address at Stripe" in explained
    assert run("email", "bounces", str(tmp_path / "absent")).status == 2
    assert "is no Maildir" in run("email", "bounces", str(tmp_path)).err.replace("\n", " ")
