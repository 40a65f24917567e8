"""What an answer or a look can say about a call, in five groups by what it allows; a record stores the last."""

from enum import StrEnum


class Learned(StrEnum):
    """What the last answer or look has shown. The record stores it."""

    # Nothing that decides: the record's counters and times say whether to send or to look.
    NOTHING = "nothing"
    """No answer has shown anything yet; sends may be unanswered."""
    ASK = "ask"
    """The answer can only be understood by a look at the object. This generation is never sent again."""
    LOOK_UNANSWERED = "look_unanswered"

    # Definite answers: how the call ended (`DEFINITE`).
    SUCCEEDED = "succeeded"
    DECLINED = "declined"
    REFUSED = "refused"
    EXPIRED = "expired"
    CANCELED = "canceled"

    # A look has found how the call ended (`FOUND`).
    FOUND_OURS = "found_ours"
    FOUND_FREE = "found_free"
    """The right effect, not provably ours, and no other operation claims it."""
    IMPOSSIBLE = "impossible"
    """Absent, and no longer possible."""
    IMPOSSIBLE_EXPIRED = "impossible_expired"
    IMPOSSIBLE_CANCELED = "impossible_canceled"

    # A look has found the object unchanged (`UNCHANGED`).
    ABSENT = "absent"
    """No effect, and for this step that proves that nothing happened, once the proof is mature."""
    UNPROVABLE = "unprovable"
    """No effect was seen, and for this step that proves nothing."""

    # Contradictions: each needs a decision (`CONTRADICTIONS`).
    MISMATCH = "mismatch"
    """A success about another object, mode, amount or currency."""
    FOUND_DIFFERENT = "found_different"
    FOUND_CLAIMED = "found_claimed"
    """The right effect, and another operation's record claims it."""


DEFINITE = frozenset({Learned.SUCCEEDED, Learned.DECLINED, Learned.REFUSED, Learned.EXPIRED, Learned.CANCELED})
FOUND = {
    Learned.FOUND_OURS: Learned.SUCCEEDED,
    Learned.FOUND_FREE: Learned.SUCCEEDED,
    Learned.IMPOSSIBLE: Learned.REFUSED,
    Learned.IMPOSSIBLE_EXPIRED: Learned.EXPIRED,
    Learned.IMPOSSIBLE_CANCELED: Learned.CANCELED,
}
UNCHANGED = frozenset({Learned.ABSENT, Learned.UNPROVABLE})
CONTRADICTIONS = frozenset({Learned.MISMATCH, Learned.FOUND_DIFFERENT, Learned.FOUND_CLAIMED})

EFFECT_IS_OURS = frozenset({Learned.SUCCEEDED, Learned.FOUND_OURS, Learned.FOUND_FREE})
"""An answered record that learned one of these had its effect at the provider, or the effect counts as its own."""
