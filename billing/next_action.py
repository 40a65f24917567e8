"""The next safe action of an operation: one table with an answer for each cause, in words.

An answer has the one command to run, or says why nothing is to be done. No advice sends anything: where money may have
moved, the service asks Stripe by itself, and a person only reads and decides.
"""

import shlex
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from billing.causes import Cause, Situation, diagnose
from billing.registration import Afterwards


@dataclass(frozen=True, slots=True)
class Advice:
    """What an operator is told. `command`: what to run now, as it is typed; None: nothing. `do`: what it shows or
    does, or why nothing is to be done."""

    cause: Cause
    why: str
    command: str | None
    do: str


_BY_ITSELF = "nothing: a worker goes on by itself"
_NEVER_TWICE = "do not charge again, refund, or ask under another request id"

ADVICE: Mapping[Cause, tuple[str, str | None, str]] = {
    # why, command, do. `billing.situations` has the words in braces.
    Cause.ENDED: ("{meaning}{reason}", None, "nothing: this is final"),
    Cause.STANDS: ("{meaning}{reason}", None, "nothing: no work is planned for it"),
    Cause.DIFFERS: (
        "it ended as {state}, and Stripe's own records say something else: {difference}",
        "billing differences show {difference_id}",
        "both sides, what it means, and what its owner does next",
    ),
    Cause.LATE_SUCCESS: (
        "a late answer contradicts how it ended: {said}; the money may have moved after all",
        "billing quarantine replay {work} --reason WHY",
        "a worker looks at {object}, and sends nothing, to see what is true; compare it in Stripe's dashboard first",
    ),
    Cause.CONFLICT: (
        "Stripe holds something other than was asked: {said}",
        "billing quarantine show {work}",
        "compare {object} in Stripe's dashboard, settle it there, then replay: a replay only looks; " + _NEVER_TWICE,
    ),
    Cause.UNSETTLED: (
        "the answer to {step} came, and Postgres refused to store it",
        "billing quarantine show {work}",
        "it names the constraint and the place; correct the row or install the repaired version, then replay; "
        + _NEVER_TWICE,
    ),
    Cause.RESTORED: (
        "this database was restored, and may have forgotten what Stripe did{restored}; nothing is sent from it",
        "billing recover",
        "with the owner's login: it compares Postgres with Stripe and the archive, and changes nothing without --apply",
    ),
    Cause.UNDECIDED: (
        "no answer to {step} came, and {looks} so far could not decide whether it had its effect{said_too}",
        None,
        "nothing here: Stripe is asked again at {at}. Find {object} in Stripe's dashboard; what is settled there, the "
        "next look finds. " + _NEVER_TWICE.capitalize(),
    ),
    Cause.QUARANTINED: (
        "a worker gave it up: {said}; nothing is sent for it before an operator has decided",
        "billing quarantine show {work}",
        "it shows how it failed; then correct the cause and replay, or discard if nothing was sent",
    ),
    Cause.UNKNOWN_CONTRACT: (
        "no process here knows version {version} of the contract {contract}",
        "billing contracts list",
        "start workers and relays of the version that wrote it; they go on by themselves",
    ),
    Cause.CREDENTIALS: (
        "Stripe refuses our key: {stopped_by}{in_doubt}",
        "billing doctor",
        "correct BILLING_STRIPE_KEY or its rights; a probe then releases the switch by itself",
    ),
    Cause.HELD: (
        "a switch stops it: {stopped_by}{in_doubt}",
        "billing switch release {scope} --reason WHY",
        "only when that reason is over, for all work in its scope; ask {by} first",
    ),
    Cause.RELEASED: (
        "its switch is released, and it is among what continues, the most urgent first",
        "billing switch list",
        "shows what is left of a release at a rate; without one, a relay makes it ready within seconds",
    ),
    Cause.SET_ASIDE: (
        "its fact does not fit its contract, so a relay has set it aside: nothing is done for it",
        "billing doctor",
        "names the fact; correct what wrote it, then have it planned again (docs/cli.md, billing doctor)",
    ),
    Cause.IN_FLIGHT: (
        "a worker is making the call {step}; if it does not report, another takes over after {lease}",
        None,
        "nothing: wait for its answer",
    ),
    Cause.WORKER_SILENT: (
        "the worker that made {step} has not reported it: it died, or hangs{perhaps}",
        None,
        "nothing: a relay gives it to another worker, which sends the same bytes under the same key. "
        + _NEVER_TWICE.capitalize(),
    ),
    Cause.NOT_PLANNED: (
        "it was asked for at {since}, and no relay has planned it",
        "billing doctor",
        "start a relay: probably none runs",
    ),
    Cause.NOT_CLAIMED: (
        "it is ready since {since}, and no worker of the queue {queue} has claimed it",
        "billing doctor",
        "names what is missing: workers of this queue, a relay that rings them, Redis, or answers from Stripe",
    ),
    Cause.NOT_RESUMED: (
        "it should have continued at {due}, and no relay has made it ready",
        "billing doctor",
        "start a relay: probably none runs{in_doubt}",
    ),
    Cause.NOT_LOOKED_AT: (
        "no answer to {step} came, and the look that was due at {due} was not made",
        "billing doctor",
        "start workers of the queue {queue}: probably none runs. " + _NEVER_TWICE.capitalize(),
    ),
    Cause.THROTTLED: (
        "Stripe limits the rate of our calls ({said}): it did not carry out the last one",
        None,
        "nothing: the same key is sent again at {due}, and all workers call more slowly (`billing limits`)",
    ),
    Cause.NOT_SENT: ("nothing of {step} was sent: {said}", None, "nothing: it is tried again at {due}"),
    Cause.LOOK_UNANSWERED: (
        "it is not known whether {step} had its effect, and the last look at {object} got no answer{said_too}",
        "billing doctor",
        "says whether Stripe answers, and whether our key is of the right account; the next look is at {at}. "
        + _NEVER_TWICE.capitalize(),
    ),
    Cause.LOOKED_AT: (
        "it is not known whether {step} had its effect{said_too}, and its key must not be sent again",
        None,
        "nothing: a worker asks Stripe for {object} at {at}. " + _NEVER_TWICE.capitalize(),
    ),
    Cause.IN_DOUBT: (
        "no answer to {step} says what happened{said_too}: it may have had its effect",
        None,
        "nothing: the same bytes are sent under the same key at {due}. " + _NEVER_TWICE.capitalize(),
    ),
    Cause.PLANNING: ("it was asked for, and a relay plans it within a second", None, "nothing: wait"),
    Cause.READY: ("a worker of the queue {queue} may claim it", None, "nothing: wait"),
    Cause.RUNNING: ("a worker has it in hand", None, _BY_ITSELF),
    Cause.WAITING: ("it waits until {due}{said_too}", None, _BY_ITSELF),
    Cause.STRAY: (
        "its work is done, and it has not ended: a bug of ours, or its row was changed by hand",
        "billing doctor",
        "report it with this output; " + _NEVER_TWICE,
    ),
}


OF_AN_EMAIL: Mapping[Cause, tuple[str, str | None, str]] = {
    # As `ADVICE`, where the call went to a mail server: it knows no key, and cannot be asked.
    Cause.LATE_SUCCESS: (
        "a late answer contradicts how it ended: {said}; the mail server took it after all",
        "billing quarantine replay {work} --reason WHY",
        "a worker reads that answer, and sends nothing; it is then known as sent",
    ),
    Cause.UNDECIDED: (
        "no answer to the whole message came, so it may have been sent, and a mail server cannot be asked{said_too}",
        "billing quarantine conclude {id} --reason WHY",
        "first read the mail server's log: the Message-ID begins with {id}; docs/moves/email.md says how to conclude "
        "that it was sent. Do not ask for it again under another request id before that",
    ),
    Cause.IN_FLIGHT: (
        "a worker is handing it to the mail server; if it does not report, it counts as undecided after {lease}",
        None,
        "nothing: wait for its answer",
    ),
    Cause.WORKER_SILENT: (
        "the worker that was handing it to the mail server has not reported: it died, or hangs{perhaps}",
        None,
        "nothing: it is never sent again by a machine. If no answer comes, a person concludes whether it was sent",
    ),
    Cause.NOT_LOOKED_AT: (
        "no answer to the whole message came, and late answers, due at {due}, were not read",
        "billing doctor",
        "start workers of the queue {queue}: probably none runs",
    ),
    Cause.LOOKED_AT: (
        "no answer to the whole message came, so it may have been sent{said_too}",
        None,
        "nothing: late answers are read at {at}; if there is none, a person concludes whether it was sent",
    ),
    Cause.THROTTLED: (
        "it was not sent, and may be later: {said}",
        None,
        "nothing: it is tried again at {due}, for 23 hours; docs/operate/emails.md says what to mend",
    ),
}


OF_A_PERSON: Mapping[Cause, tuple[str, str | None, str]] = {
    # As `ADVICE`, where no look can prove that the call did nothing, so that only a person may rule it out.
    Cause.UNDECIDED: (
        "no answer to {step} came, and no look can prove that it did nothing{said_too}",
        "billing quarantine conclude {id} --reason WHY",
        "only a day after the last send, and once {object} in Stripe's dashboard, or Stripe's support, shows that it "
        "did nothing{seen}. What it did, the next look finds, at {at}. " + _NEVER_TWICE.capitalize(),
    ),
}


def advise(
    situation: Situation,
    words: Mapping[str, str],
    afterwards: Afterwards | None,
    *,
    mailed: bool = False,
    needs_a_person: bool = False,
) -> Advice:
    """The advice for this situation, with these words in its texts. `afterwards`: what its kind says about its state;
    it counts where nothing more happens by itself. `mailed`: its call goes to a mail server (`Rules.once`);
    `needs_a_person`: as in `Rules`."""
    cause = diagnose(situation)
    special = OF_AN_EMAIL if mailed else OF_A_PERSON if needs_a_person else ADVICE
    why, command, do = special.get(cause, ADVICE[cause])
    if afterwards is not None and cause in (Cause.ENDED, Cause.STANDS):
        command, do = afterwards.command, afterwards.do
    filled = defaultdict(lambda: "(not known)", words)
    # What a row holds is one argument of the command at most, whatever it holds.
    quoted = defaultdict(lambda: "ID", {name: shlex.quote(word) for name, word in words.items()})
    typed = command.format_map(quoted) if command is not None else None
    return Advice(cause, why.format_map(filled), typed, do.format_map(filled))
