"""`billing email bounces`: reads a mailbox to which bounces and complaints come."""

from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.output import AsJson, counted, print_error, print_json, print_line

if TYPE_CHECKING:
    from billing.tables.received_events import ReceivedEvent
    from jobs.process.runtime import Runtime

BATCH = 200


def bounces(
    places: Annotated[
        list[str],
        typer.Argument(metavar="FILE|-|MAILDIR", help="A message, an mbox, a Maildir, or - for standard input."),
    ],
    as_json: AsJson = False,
) -> None:
    """Read bounces and complaints from messages: delivery reports (RFC 3464) and feedback reports (ARF).

    Each is kept once, however often it is read, and nothing is removed from a mailbox. Kept are the e-mail's id, hard
    or soft, and the status code; no address and no text. A message that is no report about an e-mail of ours is passed
    over; one that is too large or cannot be read is refused by itself, with exit status 1.

    As a pipe of a mail server, in its aliases: `bounces: "|billing email bounces -"`.

    \b
    Examples:
      billing email bounces /var/mail/bounces
      billing email bounces ~/Maildir --json
    """
    from billing.email_notices import Kind, event_of
    from jobs.cli.opening import opened
    from jobs.email import mailboxes, reports

    told = {"read": 0, "bounces": 0, "complaints": 0, "new": 0, "others": 0, "refused": 0}
    with opened() as runtime:
        waiting: list[ReceivedEvent] = []
        for place in places:
            try:
                for number, raw in enumerate(mailboxes.messages(place), 1):
                    told["read"] += 1
                    try:
                        notice = reports.read(raw)
                    except reports.Unreadable as error:
                        told["refused"] += 1
                        print_error(f"{place}: message {number} is refused: {error}")
                        continue
                    if notice is None:
                        told["others"] += 1
                        continue
                    told["complaints" if notice.kind is Kind.COMPLAINT else "bounces"] += 1
                    waiting.append(event_of(notice, livemode=runtime.settings.livemode))
                    if len(waiting) >= BATCH:
                        told["new"] += _put(runtime, waiting)
            except OSError as error:
                raise typer.BadParameter(f"{place}: {error.strerror or error}") from None
        told["new"] += _put(runtime, waiting)
    if as_json:
        print_json(told)
    else:
        print_line(
            f"{counted(told['read'], 'message')} read: {counted(told['bounces'], 'bounce')}, "
            f"{counted(told['complaints'], 'complaint')}, {told['new']} of them new; {told['others']} no report about "
            f"an e-mail of ours, {told['refused']} refused"
        )
    if told["refused"]:
        raise typer.Exit(1)


def _put(runtime: "Runtime", waiting: "list[ReceivedEvent]") -> int:
    from billing import inbox
    from jobs.process.patience import patiently

    new = patiently(runtime, lambda session: inbox.put(session, waiting)) if waiting else 0
    waiting.clear()
    return new
