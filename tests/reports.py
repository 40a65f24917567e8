"""Messages as mail servers write them: delivery and feedback reports, with addresses that must be kept nowhere."""

from typing import Any

READER = "anna.muster@example.org"


def delivery_report(
    email: str,
    *,
    action: str = "failed",
    status: str = "5.1.1",
    whole: bool = True,
    report_id: str = "<1@mx.example.org>",
    own: str | None = None,
) -> bytes:
    """As Postfix writes it (RFC 3464). `whole`: it returns our message, not only its headers."""
    returned = "message/rfc822" if whole else "text/rfc822-headers"
    named = own or f"<{email}.g1@example.com>"
    return f"""\
Return-Path: <>
From: MAILER-DAEMON@mx.example.org (Mail Delivery System)
To: billing@example.com
Subject: Undelivered Mail Returned to Sender
Date: Mon, 30 Nov 2026 02:14:09 +0000
Message-ID: {report_id}
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="AAA/mx"

--AAA/mx
Content-Type: text/plain; charset=us-ascii

<{READER}>: host mx.example.org said: 550 5.1.1 <{READER}>: unknown

--AAA/mx
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.org
Arrival-Date: Mon, 30 Nov 2026 02:14:07 +0000

Final-Recipient: rfc822; {READER}
Action: {action}
Status: {status}
Diagnostic-Code: smtp; 550 5.1.1 <{READER}>: Recipient address rejected

--AAA/mx
Content-Type: {returned}

From: Shop <billing@example.com>
To: Anna Muster <{READER}>
Subject: Refund from Shop
Message-ID: {named}

Hello Anna
--AAA/mx--
""".encode()


def feedback_report(email: str, kind: str = "abuse") -> bytes:
    """As a large mailbox provider writes it (RFC 5965)."""
    return f"""\
From: <fbl@mx.example.org>
To: billing@example.com
Subject: FW: Refund from Shop
Date: Mon, 30 Nov 2026 08:00:00 +0000
Message-ID: <{kind}-2@mx.example.org>
MIME-Version: 1.0
Content-Type: multipart/report; report-type=feedback-report; boundary="part"

--part
Content-Type: text/plain

This is an email abuse report about {READER}.

--part
Content-Type: message/feedback-report

Feedback-Type: {kind}
User-Agent: SomeGenerator/1.0
Version: 1
Original-Rcpt-To: <{READER}>

--part
Content-Type: message/rfc822

From: Shop <billing@example.com>
To: {READER}
Message-ID: <{email}.g1@example.com>

Hello Anna
--part--
""".encode()


def ses_bounce(message: str, *, kind: str = "Permanent", status: str = "5.1.1", **more: Any) -> dict[str, Any]:
    """As Amazon SES writes it."""
    return {
        "notificationType": "Bounce",
        "bounce": {
            "bounceType": kind,
            "bounceSubType": "General",
            "timestamp": "2026-11-30T02:14:09.000Z",
            "bouncedRecipients": [{"emailAddress": READER, "action": "failed", "status": status}],
        },
        "mail": {"messageId": message, "destination": [READER], "source": "billing@example.com"},
        **more,
    }


def ses_complaint(message: str, feedback: str = "abuse") -> dict[str, Any]:
    told = {"complaintFeedbackType": feedback, "complainedRecipients": [{"emailAddress": READER}]}
    return {"notificationType": "Complaint", "complaint": told, "mail": {"messageId": message, "destination": [READER]}}
