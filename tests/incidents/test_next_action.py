"""Every situation has one cause and one advice, and no advice is dangerous; whatever the situation is."""

import itertools
import re
import shlex

import pytest

from billing.answers import Kind
from billing.causes import Calls, Cause, Situation, Stop, diagnose
from billing.next_action import ADVICE, OF_A_PERSON, OF_AN_EMAIL, Advice, advise
from billing.operations import OPERATIONS
from billing.registration import Afterwards
from billing.states import WorkState
from jobs.cli import whole

SITUATIONS = [
    Situation(*each)
    for each in itertools.product(
        (True, False),
        Calls,
        (*WorkState, None),
        Stop,
        (*Kind, None),
        (True, False),
        (True, False),
        (True, False),
        (True, False),
    )
]
READS = {"differences show", "quarantine show", "doctor", "recover", "contracts list", "switch list"}
"""Commands that change nothing as they are advised."""
KNOWN = {
    "work": "wrk_1",
    "scope": "account:own",
    "id": "cap_1",
    "difference_id": "dif_1",
    "step": "capture g1",
    "said": "why",
    "seen": "",
}


def advices(*, mailed: bool = False, needs_a_person: bool = False) -> list[tuple[Situation, Advice]]:
    """One situation for each cause and standing of calls and work."""
    told: dict[tuple[Cause, Calls, WorkState | None], tuple[Situation, Advice]] = {}
    for situation in SITUATIONS:
        place = (diagnose(situation), situation.calls, situation.work)
        if place not in told:
            advice = advise(situation, KNOWN, None, mailed=mailed, needs_a_person=needs_a_person)
            told[place] = (situation, advice)
    return list(told.values())


ADVICES = advices()
OF_EMAILS = advices(mailed=True)
FOR_A_PERSON = advices(needs_a_person=True)


def command_of(advice: Advice) -> str:
    return " ".join(itertools.takewhile(lambda word: re.fullmatch("[a-z]+", word), (advice.command or "").split()[1:]))


def test_every_cause_has_its_advice_and_comes_from_some_situation() -> None:
    assert set(ADVICE) == set(Cause)
    assert {diagnose(situation) for situation in SITUATIONS} == set(Cause)


def test_every_advice_is_one_command_that_there_is_or_says_that_nothing_is_to_be_done() -> None:
    commands = whole()
    for _, advice in ADVICES + OF_EMAILS + FOR_A_PERSON:
        assert advice.why
        assert "{" not in f"{advice.why}{advice.command}{advice.do}"
        if advice.command is None:
            assert advice.do.startswith("nothing"), advice
            continue
        assert "\n" not in advice.command
        found = commands
        for word in command_of(advice).split():
            found = found.commands[word] if hasattr(found, "commands") and word in found.commands else found
        assert not hasattr(found, "commands"), advice.command


def test_where_money_may_have_moved_nothing_is_advised_that_changes_anything_but_a_look() -> None:
    """A replay only looks; a release goes on under the same keys, after a look where a call is in doubt."""
    doubtful = set(Calls) - {Calls.NONE, Calls.PLANNED}
    for situation, advice in ADVICES:
        if situation.calls in doubtful and advice.command is not None:
            assert command_of(advice) in READS | {"quarantine replay", "switch release"}, (situation, advice)


def test_whoever_sees_doubt_is_told_not_to_charge_twice() -> None:
    for cause in (
        Cause.IN_DOUBT,
        Cause.LOOKED_AT,
        Cause.LOOK_UNANSWERED,
        Cause.UNDECIDED,
        Cause.WORKER_SILENT,
        Cause.CONFLICT,
        Cause.UNSETTLED,
    ):
        assert "not charge again" in ADVICE[cause][2]


def test_of_an_undecided_email_nobody_is_asked_and_a_person_concludes() -> None:
    for situation, advice in OF_EMAILS:
        told = f"{advice.why}{advice.do}"
        if advice.cause in OF_AN_EMAIL:
            assert "Stripe" not in told
        if advice.cause is Cause.UNDECIDED:
            assert "cannot be asked" in advice.why
            assert command_of(advice) == "quarantine conclude"
            assert "Do not ask for it again" in advice.do
        elif situation.calls not in (Calls.NONE, Calls.PLANNED) and advice.command is not None:
            assert command_of(advice) in READS | {"quarantine replay", "switch release"}


def test_what_no_look_can_rule_out_is_concluded_by_a_person_and_not_done_again() -> None:
    for (situation, advice), (_, usual) in zip(FOR_A_PERSON, ADVICES, strict=True):
        if advice.cause not in OF_A_PERSON:
            assert advice == usual
            continue
        assert (situation.calls, command_of(advice)) == (Calls.UNDECIDED, "quarantine conclude")
        assert "a day after the last send" in advice.do
        assert "do not charge again" in advice.do.lower()


def test_a_contradiction_is_told_before_an_end_and_a_restore_before_what_it_stops() -> None:
    for situation in SITUATIONS:
        cause = diagnose(situation)
        if situation.calls is Calls.CONTRADICTED:
            assert cause is Cause.LATE_SUCCESS
        elif situation.calls in (Calls.CONFLICT, Calls.UNSETTLED):
            assert cause in (Cause.CONFLICT, Cause.UNSETTLED)
        elif situation.final:
            assert cause is (Cause.DIFFERS if situation.differs else Cause.ENDED)
        elif situation.stop is Stop.RESTORED:
            assert cause is Cause.RESTORED


def test_nothing_that_goes_on_by_itself_in_time_needs_an_operator() -> None:
    for situation, advice in ADVICES:
        free = situation.stop is Stop.NONE and situation.work in (WorkState.READY, WorkState.RUNNING, WorkState.WAITING)
        undisturbed = situation.calls in (Calls.NONE, Calls.PLANNED, Calls.IN_FLIGHT, Calls.IN_DOUBT, Calls.LOOKED_AT)
        if free and undisturbed and not situation.final and not situation.late:
            assert advice.command is None, (situation, advice)


def test_what_a_row_holds_is_one_word_of_the_command() -> None:
    situation = next(each for each in SITUATIONS if diagnose(each) is Cause.HELD)
    advice = advise(situation, {**KNOWN, "scope": "x; rm -rf / #", "by": "{why}"}, None)
    assert advice.command is not None
    assert shlex.split(advice.command)[3] == "x; rm -rf / #"
    assert "{why}" in advice.do


@pytest.mark.parametrize("kind", OPERATIONS)
def test_what_a_kind_says_about_its_ends_names_states_that_there_are(kind: str) -> None:
    operation = OPERATIONS[kind]
    assert set(operation.afterwards) <= set(operation.table.life.states)
    for state, afterwards in operation.afterwards.items():
        ended = Situation(operation.table.life.is_final(state), Calls.NONE, None, Stop.NONE, None, starts_work=False)
        advice = advise(ended, {**KNOWN, "meaning": "it ended"}, afterwards)
        assert (advice.command is None) == advice.do.startswith("nothing"), state


def test_an_end_of_which_its_kind_says_nothing_is_final() -> None:
    ended = Situation(True, Calls.NONE, WorkState.DONE, Stop.NONE, None)
    assert advise(ended, KNOWN, None).do == "nothing: this is final"
    assert advise(ended, KNOWN, Afterwards("look", "billing doctor")).command == "billing doctor"
