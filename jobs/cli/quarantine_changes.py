"""The commands that change work in quarantine: assign it, put it back, or end it. Each takes one piece, or filters.

One more ends a call that is undecided, and so in no quarantine.
"""

from typing import Annotated

import typer

from jobs.cli.acting import acting
from jobs.cli.output import Actor, AsJson, Reason, print_json, print_line
from jobs.cli.quarantine_filters import Meant, change, meant
from jobs.cli.shared_options import options_of


@options_of(meant)
def assign(
    what: Meant,
    to: Annotated[str, typer.Option("--to", metavar="NAME", help="Who looks at it.")],
    actor: Actor = "",
    as_json: AsJson = False,
) -> None:
    """Say who looks at work in quarantine. The time of the first touch of each piece is kept.

    With filters instead of WORK_ID, the command prints how many pieces are meant, and changes nothing until it is
    repeated with that --count, or with --yes.

    \b
    Examples:
      billing quarantine assign wrk_0198f0c2... --to grace
      billing quarantine assign --untouched --reason-has conflict --to grace --count 12
    """
    from jobs.road import quarantine_list

    with acting("quarantine assign", actor) as act:
        row = change(
            act,
            what,
            lambda session, work_id: quarantine_list.assign(session, work_id, assignee=to, actor=act.actor),
            f"assigned to {to}",
            as_json=as_json,
        )
    if row is None:
        return
    if as_json:
        print_json(row)
    else:
        print_line(f"{row.id} is assigned to {row.assignee}; all about it: billing quarantine show {row.id}")


@options_of(meant)
def replay(
    what: Meant,
    reason: Reason,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what it would change and send; with a worker's login.")
    ] = False,
    approve: Annotated[
        str | None, typer.Option(metavar="PLAN_ID", help="Do exactly what --dry-run showed under this id, or nothing.")
    ] = None,
    actor: Actor = "",
    as_json: AsJson = False,
) -> None:
    """Put quarantined work back. Before it sends anything, it looks at what may have happened at Stripe.

    Attempts start again at 0. If the look finds the same as before, the work is quarantined again. Actor and reason
    are stored in a fact. With filters instead of WORK_ID, the command prints how many pieces are meant, and changes
    nothing until it is repeated with that --count, or with --yes.

    With --dry-run it reads at Stripe, changes nothing, and prints each change and the call that would be sent, up to
    the first answer that nobody can know, with the id of this plan. With --approve it does what that plan says, by
    itself and at once, or nothing if anything has changed since. Both do what a worker does, and need its
    DATABASE_URL and BILLING_STRIPE_KEY; to send an e-mail, the settings of its queue, too.

    \b
    Examples:
      billing quarantine replay wrk_0198f0c2... --dry-run --reason "INC-12"
      billing quarantine replay wrk_0198f0c2... --approve plan_5f0e... \\
          --reason "compared with Stripe, INC-12"
      billing quarantine replay wrk_0198f0c2... \\
          --reason "refunded in Stripe's dashboard, INC-12"
      billing quarantine replay --reason-has "could not be settled" \\
          --older-than 2h --count 12 --reason "the disk has room again, INC-12"
    """
    from jobs.cli import dry_runs
    from jobs.road import quarantine

    if (dry_run or what.yes or what.count is not None) and approve is not None:
        raise typer.BadParameter("--approve stands alone: the plan says which work is meant", param_hint="--approve")
    with acting("quarantine replay", actor, reason) as act:
        if dry_run:
            dry_runs.show(act, what, reason, as_json=as_json)
            return
        if approve is not None:
            dry_runs.carry_out(act, what, approve, reason, as_json=as_json)
            return
        replayed = change(
            act,
            what,
            lambda session, work_id: quarantine.replay(session, work_id, actor=act.actor, reason=reason),
            "ready again",
            as_json=as_json,
        )
    if replayed is None:
        return
    if as_json:
        print_json(replayed)
        return
    print_line(f"{replayed.work_id} is ready again, for {replayed.entity_id}")
    for sentence in replayed.done:
        print_line(f"  {sentence}")


@options_of(meant)
def discard(what: Meant, reason: Reason, actor: Actor = "", as_json: AsJson = False) -> None:
    """End quarantined work for which nothing was sent: its operation is refused, as `discarded`.

    Refused where a call may have done something at Stripe, or an invoice has a draft: put it back with `replay`, which
    looks. An application may request the same again. Actor and reason are stored in a fact. With filters instead of
    WORK_ID, the command prints how many pieces are meant, and changes nothing until it is repeated with that --count,
    or with --yes.

    \b
    Examples:
      billing quarantine discard wrk_0198f0c2... --reason "ordered twice, INC-12"
      billing quarantine discard --reason-has "could not be prepared" \\
          --older-than 3d --count 2 --reason "the shop asked again, INC-12"
    """
    from jobs.road import discarding

    with acting("quarantine discard", actor, reason) as act:
        ended = change(
            act,
            what,
            lambda session, work_id: discarding.discard(session, work_id, actor=act.actor, reason=reason),
            "discarded",
            as_json=as_json,
        )
    if ended is None:
        return
    if as_json:
        print_json(ended)
    else:
        print_line(f"{ended.id} is discarded: {ended.entity_id} is refused, and nothing is sent for it")


def conclude(
    operation_id: Annotated[
        str,
        typer.Argument(
            metavar="ID", help="ref_..., crn_..., inv_..., iac_... or eml_..., as `list --undecided` names it"
        ),
    ],
    reason: Reason,
    it_happened: Annotated[
        bool,
        typer.Option(
            "--it-happened",
            help="Of an e-mail: the mail server's log shows that it was taken. Of a charge: Stripe's, that it failed.",
        ),
    ] = False,
    actor: Actor = "",
    as_json: AsJson = False,
) -> None:
    """Conclude that an undecided call did nothing: its operation is refused, and may be asked for again.

    Only where no look can prove that, and a day after the last send. First look into Stripe's dashboard: if a refund
    or a credit note is there, or is wanted, put its metadata `billing_operation` on it instead, and the next look finds
    it (docs/moves/refunds.md). Actor and reason are stored in a fact.

    Of a charge of an invoice, its own or one on request: with --it-happened if Stripe's log has it, and says that it
    was declined. One that took the money makes the invoice paid, and the next look finds that (docs/moves/invoices.md).
    An invoice whose own charge is concluded is unpaid either way.

    Of an e-mail, some minutes after the send: read the mail server's log first (docs/moves/email.md).

    \b
    Examples:
      billing quarantine conclude ref_0198f0c2... \\
          --reason "Stripe's support: nothing was refunded, INC-12"
      billing quarantine conclude iac_0198f0c2... --it-happened \\
          --reason "Stripe's log of req_1: card_declined"
      billing quarantine conclude eml_0198f0c2... --it-happened \\
          --reason "the mail server's log, 02:14"
    """
    from jobs.road import concluding

    with acting("quarantine conclude", actor, reason) as act:
        done = act.inside(
            lambda session: concluding.conclude(
                session, operation_id, actor=act.actor, reason=reason, it_happened=it_happened
            ),
            about=operation_id,
        )
    print_json(done) if as_json else print_line(f"{operation_id} is {done.state}: {'; '.join(done.done)}")
