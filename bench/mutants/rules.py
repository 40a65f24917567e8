"""The rules of the moves, each broken on purpose, and the tests that must find it.

Slips are chosen at random; these are not. Each is one rule by which money moves once, taken out or turned around as
somebody might who did not know why it is there. `before` stands in its file exactly once.
"""

from dataclasses import dataclass
from pathlib import Path

from bench.mutants.slips import Slip


@dataclass(frozen=True, slots=True)
class Rule:
    """`says`: the rule. `after` instead of `before` breaks it, and one of `tests` (files, or tests in them) fails."""

    says: str
    path: str
    before: str
    after: str
    tests: str

    def broken(self, root: Path) -> Slip:
        """Raises ValueError where its place is gone: the rule has been written anew, and so must its line here."""
        source = (root / self.path).read_text(encoding="utf-8")
        if source.count(self.before) != 1:
            raise ValueError(f"{self.path} has {self.before!r} {source.count(self.before)} times: {self.says}")
        start = source.index(self.before)
        line = source.count("\n", 0, start) + 1
        at = len(source[:start].encode())
        end = at + len(self.before.encode())
        return Slip(self.path, line, self.says, at, end, self.before, self.after)


PARTS = "tests/crash/test_captures_in_parts.py"
WINNER = "tests/moves/test_who_wins.py"
VOIDS = "tests/moves/test_voids.py"
REFUNDS = "tests/protocol/test_what_refunds_find.py"
BOUND = "tests/face/test_request_refund.py"
INBOX = "tests/observing/test_inbox.py"
OBSERVED = "tests/observing/test_observing.py"
FOUND = "tests/protocol/test_what_calls_find.py"
ACTIONS = "tests/moves/test_invoice_actions.py"
EVENTS = "tests/observing/test_events_read.py"
PASSES = "tests/reconciliation/test_reconciliation_passes.py"
PROOF = "tests/archive/test_proof.py"
BULK = "tests/cli/test_cli_bulk.py"
UNDECIDED = "tests/cli/test_cli_undecided_charge.py"
ERASURE = "tests/archive/test_erasure.py"
ERASED_WORDS = "tests/archive/test_erased_words.py"
INVOICE = "tests/protocol/test_invoice_rules.py"
AS_ASKED = "tests/moves/test_invoices_as_asked.py"
LINES = "tests/crash/test_invoices_in_batches.py"
CHARGED = "tests/moves/test_invoices_charged.py"
HISTORIES = "tests/observing/test_invoice_histories.py"
AMOUNTS = "tests/face/test_invoice_amounts.py"
CAPTURED = "tests/invoicing/test_invoice_captures.py"
NOTES = "tests/crash/test_credit_notes.py"
NOTE_VOIDS = "tests/moves/test_credit_note_voids.py"
PERIODS = "tests/invoicing/test_period_invoices.py"
PAYMENTS_OF = "tests/reconciliation/test_payments_of_invoices_compared.py"
DOCUMENTS = "tests/documents/test_documents.py"
FETCHING = "tests/documents/test_fetching.py"

RULES = (
    # Captures in parts.
    Rule(
        "an answer to a part is judged by the sum of all parts",
        "billing/capture_steps.py",
        "amount_received=taken_before(loaded) + row.amount_minor)",
        "amount_received=row.amount_minor)",
        f"{PARTS}::test_parts_are_captured_one_after_the_other_and_the_last_one_releases_the_rest",
    ),
    Rule(
        "a look at a part compares the sum of all parts",
        "billing/capture_steps.py",
        "amount_received=before + row.amount_minor, currency",
        "amount_received=row.amount_minor, currency",
        f"{PARTS}::test_a_part_that_a_look_finds_is_ours_by_its_metadata",
    ),
    Rule(
        "a refusal is definite only if nothing was taken but what our earlier parts took",
        "billing/capture_steps.py",
        "differences(intent, id=named, amount_received=before)",
        "differences(intent, id=named)",
        "tests/protocol/test_answers.py",
    ),
    Rule(
        "a part waits until the earlier ones are over",
        "billing/capture_places.py",
        "if each.state == CaptureState.REQUESTED), None)",
        "if each.state == CaptureState.CAPTURED), None)",
        f"{PARTS}::test_a_later_part_waits_until_the_earlier_one_is_over",
    ),
    Rule(
        "after a capture that keeps nothing there is no further one",
        "billing/capture_requests.py",
        'unless=f"{TAKEN} OR {IS_VOIDED}"',
        "unless=IS_VOIDED",
        "tests/face/test_several_captures.py::test_a_final_capture_that_is_live_stops_others_although_the_first_place_is_free",
    ),
    # A void and a capture.
    Rule(
        "what a void has, no capture can ask for",
        "billing/capture_requests.py",
        'unless=f"{TAKEN} OR {IS_VOIDED}"',
        "unless=TAKEN",
        f"{WINNER}::test_what_a_void_has_no_capture_can_ask_for",
    ),
    Rule(
        "what a capture has, no void can ask for",
        "billing/voids.py",
        ", unless=IS_CAPTURED)",
        ")",
        f"{WINNER}::test_what_a_capture_has_no_void_can_ask_for",
    ),
    Rule(
        "from its first look on a void holds the payment intent",
        "billing/void_steps.py",
        'Ask("GET", _path(loaded), provider_object=_void(loaded).payment_intent)',
        'Ask("GET", _path(loaded))',
        f"{VOIDS}::test_a_void_reads_what_is_held_and_cancels_with_a_reason_and_a_key",
    ),
    Rule(
        "an authorization of which a part was captured is not canceled",
        "billing/void_steps.py",
        "and not (type(received) is int and received > 0)",
        "and True",
        f"{VOIDS}::test_what_a_capture_has_kept_is_not_released_by_a_cancel_that_comes_too_late",
    ),
    Rule(
        "whose cancel it was is proven by the event with our key",
        "billing/void_steps.py",
        "return LookResult(whose or Learned.FOUND_FREE, intent)",
        "return LookResult(Learned.FOUND_FREE, intent)",
        f"{VOIDS}::test_a_void_whose_answer_was_lost_a_day_ago_is_ours_by_its_event",
    ),
    Rule(
        "a capture that lost names the void that won",
        "billing/captures.py",
        'row.reason = f"{VOIDED_BY}: {winner}"',
        "row.reason = VOIDED_BY",
        f"{WINNER}::test_of_two_at_once_the_second_call_waits_until_the_first_is_over",
    ),
    # Refunds.
    Rule(
        "refunds of a capture never exceed it",
        "billing/migrations/versions/0043_refunds.py",
        "CHECK (refunds_minor BETWEEN 0 AND amount_minor)",
        "CHECK (refunds_minor >= 0)",
        f"{BOUND}::test_no_statement_brings_the_sum_above_what_was_captured",
    ),
    Rule(
        "a refund that gave nothing back frees its amount",
        "billing/migrations/versions/0043_refunds.py",
        "THEN - NEW.amount_minor",
        "THEN NEW.amount_minor",
        f"{BOUND}::test_a_refund_that_gave_nothing_back_frees_its_amount_and_no_other_does",
    ),
    Rule(
        "that no refund is listed proves nothing",
        "billing/refund_steps.py",
        'LookResult(Learned.UNPROVABLE, why="no_refund_of_ours")',
        'LookResult(Learned.ABSENT, why="no_refund_of_ours")',
        REFUNDS,
    ),
    Rule(
        "an unknown refund is ruled out by a person alone",
        "billing/refund_steps.py",
        "rules=Rules(needs_a_person=True)",
        "rules=Rules()",
        f"{REFUNDS} tests/crash/test_refunds.py",
    ),
    Rule(
        "what is left is read before the list of refunds",
        "billing/refund_steps.py",
        """    left = _left_of(str(row.payment_intent), read, livemode)
    refunds = read.pages("/v1/refunds", {"payment_intent": row.payment_intent})
""",
        """    refunds = list(read.pages("/v1/refunds", {"payment_intent": row.payment_intent}))
    left = _left_of(str(row.payment_intent), read, livemode)
""",
        REFUNDS,
    ),
    Rule(
        "two refunds in the name of one are a conflict",
        "billing/refund_steps.py",
        "if len(ours) > 1:",
        "if len(ours) > 2:",
        REFUNDS,
    ),
    # Invoices: what is asked for.
    Rule(
        "an amount of units is rounded half up",
        "billing/invoice_lines.py",
        "minor = int(exact + Fraction(1, 2))",
        "minor = int(exact)",
        f"{AMOUNTS}::test_a_line_is_the_exact_product_rounded_half_up_once",
    ),
    Rule(
        "an amount of units is one that the currency has",
        "billing/invoice_lines.py",
        '        if minor % currency.step:\n            raise InvalidAmount(\n                "unit_amount"',
        '        if minor % 1:\n            raise InvalidAmount(\n                "unit_amount"',
        f"{AMOUNTS}::test_a_line_is_the_exact_product_rounded_half_up_once",
    ),
    Rule(
        "a credit is taken off",
        "billing/invoice_lines.py",
        "return -self.amount.minor if self.credit else self.amount.minor",
        "return self.amount.minor",
        f"{AMOUNTS}::test_the_total_is_the_sum_of_the_lines_credits_taken_off",
    ),
    Rule(
        "a total below zero is refused when it is asked for",
        "billing/invoice_requests.py",
        "if wanted.known_minor < 0 and not prices:",
        "if False:",
        f"{AMOUNTS}::test_the_total_is_the_sum_of_the_lines_credits_taken_off",
    ),
    Rule(
        "an invoice has at most 250 lines",
        "billing/invoice_requests.py",
        "if not 0 < len(lines) <= MAX_LINES:",
        "if not 0 < len(lines) <= MAX_LINES + 1:",
        "tests/face/test_issue_invoice.py::test_what_cannot_be_invoiced_is_refused_before_anything_is_written",
    ),
    Rule(
        "rows with more lines than an invoice has are refused by the worker",
        "billing/invoices.py",
        "if not 0 < len(lines) <= MAX_LINES:",
        "if not lines:",
        "tests/attacks/test_hostile_lines.py",
    ),
    Rule(
        "all lines of an invoice are in one currency",
        "billing/invoice_requests.py",
        "if len(currencies) > 1:",
        "if len(currencies) > 2:",
        "tests/face/test_issue_invoice.py::test_what_cannot_be_invoiced_is_refused_before_anything_is_written",
    ),
    Rule(
        "what an older worker would carry out otherwise is of the second version",
        "billing/invoice_requests.py",
        "return not plain or len(self.lines) > LINES_OF_A_CALL",
        "return not plain",
        f"{INVOICE}::test_what_older_workers_would_send_otherwise_is_of_the_second_version",
    ),
    # Invoices: what is sent.
    Rule(
        "an invoice is due after as many days as were asked for",
        "billing/invoice_terms.py",
        'sent["days_until_due"] = row.days_until_due',
        'sent["days_until_due"] = row.days_until_due + 1',
        f"{INVOICE}::test_a_draft_is_due_after_as_many_days_as_were_asked_for_or_at_the_date",
    ),
    Rule(
        "stripe finalizes no draft by itself",
        "billing/invoice_draft_steps.py",
        '"auto_advance": False,',
        '"auto_advance": True,',
        f"{INVOICE}::test_no_draft_is_finalized_by_stripe_alone_or_gets_what_else_the_customer_has_pending",
    ),
    Rule(
        "what else the customer has pending stays off the invoice",
        "billing/invoice_draft_steps.py",
        '"pending_invoice_items_behavior": "exclude"',
        '"pending_invoice_items_behavior": "include"',
        f"{INVOICE}::test_no_draft_is_finalized_by_stripe_alone_or_gets_what_else_the_customer_has_pending",
    ),
    Rule(
        "a draft has no discount of its customer",
        "billing/invoice_terms.py",
        'for coupon in terms.get("discounts", ())] or ""',
        'for coupon in terms.get("discounts", ())]',
        f"{INVOICE}::test_a_draft_that_stripe_reckons_has_the_coupons_that_were_asked_for_and_never_its_customers_own",
    ),
    Rule(
        "the last batch of lines is added first",
        "billing/invoice_line_steps.py",
        "for start in reversed(starts) if",
        "for start in starts if",
        f"{AMOUNTS}::test_the_calls_carry_each_line_once_whatever_their_number",
    ),
    Rule(
        "what was added to an earlier draft counts for nothing",
        "billing/invoice_line_steps.py",
        "if r.state == RecordState.ANSWERED and r.provider_object == draft}",
        "if r.state == RecordState.ANSWERED}",
        f"{LINES}::test_a_line_that_is_lost_between_two_batches_has_the_draft_deleted_and_a_new_one_gets_them_all",
    ),
    # Captures to invoices.
    Rule(
        "an invoice waits for its capture",
        "billing/paid_already.py",
        "if not CAPTURE.is_final(each.state)), None)",
        "if each.state == CaptureState.EXPIRED), None)",
        f"{CAPTURED}::test_an_invoice_that_is_asked_for_with_its_capture_waits_for_it",
    ),
    Rule(
        "what was not taken is not invoiced",
        "billing/paid_already.py",
        "        if each.state != CaptureState.CAPTURED:\n            return refuse(loaded, NOTHING_TAKEN)\n",
        "",
        f"{CAPTURED}::test_a_capture_that_ends_without_the_money_is_on_no_invoice",
    ),
    Rule(
        "a capture that is on an invoice is put on no other",
        "billing/period_invoices.sql",
        " WHERE mine.invoice_id IS NULL AND mine.left_out IS NULL AND mine.account = :account",
        " WHERE mine.left_out IS NULL AND mine.account = :account",
        f"{PERIODS}::test_what_becomes_known_late_is_on_the_next_part_of_its_period",
    ),
    Rule(
        "a period waits for captures that are still open",
        "billing/period_invoices.py",
        "        raise StillOpen(open_.captures)\n",
        "        pass\n",
        f"{PERIODS}::test_a_period_waits_for_a_capture_of_it_that_is_still_open_but_no_longer_than_three_days",
    ),
    Rule(
        "a period is cut where it meets another",
        "billing/periods.py",
        "end = wanted.end if after is None else min(wanted.end, after)",
        "end = wanted.end",
        "tests/invoicing/test_periods.py",
    ),
    Rule(
        "an invoice that is paid already is neither sent nor charged",
        "billing/invoices.py",
        "            if invoice_terms.is_paid_already(row):\n                return MARK_PAID\n",
        "",
        f"{CAPTURED}::test_at_once_a_capture_is_on_an_invoice_that_is_paid",
    ),
    # Invoices: what is compared before the draft is finalized.
    Rule(
        "a draft that is not as asked is not finalized",
        "billing/invoice_line_steps.py",
        'return Judgment(Learned.REFUSED, reason("total_differs", wrong))',
        "return Judgment(Learned.SUCCEEDED)",
        f"{INVOICE}::test_a_draft_that_is_off_by_one_minor_unit_anywhere_is_never_finalized",
    ),
    Rule(
        "a replayed answer is no comparison",
        "billing/invoice_line_steps.py",
        "trust_replay=not completes,",
        "trust_replay=True,",
        "tests/protocol/test_answers.py",
    ),
    Rule(
        "a line too many is found",
        "billing/invoice_line_steps.py",
        "if len(lines) != len(lines_of(loaded)) or _has_more(invoice):",
        "if len(lines) < len(lines_of(loaded)):",
        f"{INVOICE}::test_a_line_that_is_lost_or_there_twice_is_found_although_the_sums_agree",
    ),
    Rule(
        "each line has our amount",
        "billing/invoice_lines.py",
        "        wrong += differences(shown, amount=line.amount_minor)\n",
        "        wrong += []\n",
        f"{AS_ASKED}::test_what_stripe_shows_otherwise_than_asked_is_never_finalized",
    ),
    Rule(
        "each line has our quantity",
        "billing/invoice_lines.py",
        'wrong += differences(shown, quantity=details["quantity"])',
        "wrong += []",
        f"{AS_ASKED}::test_what_stripe_shows_otherwise_than_asked_is_never_finalized",
    ),
    Rule(
        "of an invoice that stripe does not reckon the total is ours",
        "billing/invoice_totals.py",
        "return differences(invoice, subtotal=row.total_minor, total=row.total_minor)",
        "return differences(invoice, subtotal=row.total_minor)",
        "tests/protocol/test_answers.py",
    ),
    Rule(
        "the lines add up to the subtotal",
        "billing/invoice_totals.py",
        'wrong = differences(invoice, subtotal=sum(_whole(line.get("amount")) for line in lines))',
        "wrong: list[Difference] = []",
        f"{INVOICE}::test_what_stripe_reckons_must_be_what_was_asked_for",
    ),
    Rule(
        "subtotal, discount and tax add up to the total",
        "billing/invoice_totals.py",
        "wrong += differences(invoice, total=found.subtotal - found.discount + found.tax)",
        "wrong += []",
        f"{INVOICE}::test_a_draft_that_is_off_by_one_minor_unit_anywhere_is_never_finalized",
    ),
    Rule(
        "inclusive tax is a part of the lines",
        "billing/invoice_totals.py",
        'each.get("tax_behavior") == "exclusive"]',
        "True]",
        f"{INVOICE}::test_a_draft_as_asked_is_accepted_and_its_parts_are_recorded",
    ),
    Rule(
        "a tax that nobody asked for is refused",
        "billing/invoice_totals.py",
        'and "taxed" not in terms and found.tax:',
        'and "taxed" in terms and found.tax < 0:',
        f"{INVOICE}::test_what_stripe_reckons_must_be_what_was_asked_for",
    ),
    Rule(
        "a discount that nobody asked for is refused",
        "billing/invoice_totals.py",
        'if "restored" not in terms and (discounts',
        'if "restored" in terms and (discounts',
        f"{INVOICE}::test_what_stripe_reckons_must_be_what_was_asked_for",
    ),
    Rule(
        "the total that was expected is the total",
        "billing/invoice_totals.py",
        'if "total_minor" in terms and found.total != terms["total_minor"]:',
        'if "total_minor" in terms and found.subtotal != terms["total_minor"]:',
        f"{INVOICE}::test_what_stripe_reckons_must_be_what_was_asked_for",
    ),
    Rule(
        "what stripe reckons below zero is refused",
        "billing/invoice_totals.py",
        "    if found.total < 0:",
        "    if found.total < -100:",
        f"{INVOICE}::test_what_stripe_reckons_must_be_what_was_asked_for",
    ),
    Rule(
        "what the customer owes is recorded as stripe reckons it",
        "billing/invoice_totals.py",
        "row.reckoned_minor = found.total",
        "row.reckoned_minor = found.subtotal",
        f"{INVOICE}::test_a_draft_as_asked_is_accepted_and_its_parts_are_recorded",
    ),
    # Invoices: what is there already.
    Rule(
        "lines that were added are known by their positions",
        "billing/invoice_line_steps.py",
        'return any(each.get("billing_line") not in others for each in own)',
        "return any(each in others for each in ())",
        f"{INVOICE}::test_lines_of_ours_are_known_by_their_id_and_position_and_nobody_elses",
    ),
    Rule(
        "the lines of another call are not those of this one",
        "billing/invoice_line_steps.py",
        'return any(each.get("billing_line") not in others for each in own)',
        "return any(True for each in own)",
        f"{INVOICE}::test_lines_of_ours_are_known_by_their_id_and_position_and_nobody_elses",
    ),
    Rule(
        "an invoice that may have lost our id is sought by its events",
        "billing/invoice_draft_steps.py",
        'return not named and invoice.get("status") not in ("draft", "void")',
        "return False",
        "tests/protocol/test_steps.py::test_what_the_customers_list_leaves_open_is_decided_by_an_event_with_our_key",
    ),
    Rule(
        "an invoice never deletes its own draft",
        "billing/duplicate_drafts.py",
        'if is_ours(loaded, invoice) and invoice.get("id") != row.stripe_invoice',
        "if is_ours(loaded, invoice)",
        f"{INVOICE}::test_duplicates_are_drafts_of_this_invoice_but_for_its_own_one",
    ),
    Rule(
        "an invoice never deletes the draft of another",
        "billing/duplicate_drafts.py",
        'if is_ours(loaded, invoice) and invoice.get("id") != row.stripe_invoice',
        'if invoice.get("id") != row.stripe_invoice',
        f"{INVOICE}::test_duplicates_are_drafts_of_this_invoice_but_for_its_own_one",
    ),
    Rule(
        "duplicate drafts are looked for once more before the invoice is finalized",
        "billing/invoices.py",
        'return duplicates_step(loaded, "before_finalize") or FINALIZE',
        "return FINALIZE",
        "tests/protocol/test_steps.py::test_after_a_second_try_duplicates_are_listed_and_deleted_one_by_one_before_lines_are_added",
    ),
    Rule(
        "an invoice that has its number is never made anew",
        "billing/invoices.py",
        "if row.number is not None:",
        "if row.stripe_invoice is None:",
        f"{INVOICE}::test_an_invoice_that_has_its_number_is_never_made_anew",
    ),
    Rule(
        "an invoice whose total changed after it was finalized is a conflict",
        "billing/invoice_final_steps.py",
        "if wrong := differences(invoice, total=row.final_minor, currency=row.currency.lower()):",
        "if wrong := differences(invoice, currency=row.currency.lower()):",
        "tests/protocol/test_steps.py",
    ),
    # Invoices: what is charged.
    Rule(
        "what is charged is not sent, and what is sent is not charged",
        "billing/invoices.py",
        "return PAY if invoice_terms.is_charged(row) else SEND",
        "return SEND if invoice_terms.is_charged(row) else PAY",
        f"{CHARGED}::test_an_invoice_is_charged_once_and_is_paid_and_nothing_is_sent",
    ),
    Rule(
        "what was attempted is not charged under a new key",
        "billing/invoice_payments.py",
        'return invoice.get("attempt_count") != 0 or invoice.get("attempted") is not False',
        "return False",
        f"{CHARGED}::test_whatever_happens_to_the_answer_it_is_charged_at_most_once",
    ),
    Rule(
        "a payment that is under way is no decline and is not repeated",
        "billing/invoice_payments.py",
        "return LookResult(Learned.SUCCEEDED, invoice, PROCESSING)",
        "return LookResult(Learned.ABSENT, invoice, PROCESSING)",
        "tests/protocol/test_what_calls_find.py",
    ),
    Rule(
        "a payment of another total needs a decision",
        "billing/invoice_payments.py",
        "return judgment(differences(invoice, total=of.minor))",
        "return judgment([])",
        f"{CHARGED}::test_a_success_about_another_total_needs_a_decision",
    ),
    Rule(
        "what was paid and tried only grows",
        "billing/invoice_row.py",
        "more_paid = type(amount) is int and amount > (row.paid_minor or 0)",
        "more_paid = type(amount) is int and amount != (row.paid_minor or 0)",
        f"{HISTORIES}::test_looks_that_are_settled_in_any_order_lead_only_forward",
    ),
    # Observing and webhooks.
    Rule(
        "an observed refund moves forward only",
        "billing/refund_steps.py",
        "if state and (row.state, state) in row.life.legal else []",
        "if state else []",
        REFUNDS,
    ),
    Rule(
        "an observed invoice moves forward only",
        "billing/invoice_observing.py",
        "if not row.life.may_change(row.state) or (found is not None and (row.state, found) not in row.life.legal):",
        "if found is row.state:",
        f"{OBSERVED} {INBOX}",
    ),
    # Invoices that are charged, and what is done with them.
    Rule(
        "what was attempted is not charged again because no attempt of ours is found",
        "billing/invoice_payments.py",
        """    if was_attempted(invoice):
        return LookResult(Learned.UNPROVABLE, invoice, "attempted_by_whom")
""",
        "",
        f"{FOUND} {ACTIONS}",
    ),
    Rule(
        "a declined charge is found by the event with our key, and not made again",
        "billing/invoice_payments.py",
        'return LookResult(Learned.DECLINED, invoice, _code(intent.get("last_payment_error")) or "declined")',
        "return None",
        f"{FOUND} {CHARGED}",
    ),
    Rule(
        "that nothing was attempted is proven only once the last send has settled",
        "billing/invoice_charge_steps.py",
        "rules=Rules(proof_settles=True, ",
        "rules=Rules(",
        INVOICE,
    ),
    Rule(
        "an invoice whose own charge a person has ruled out can still be paid",
        "billing/invoice_charge_steps.py",
        "    ruled_out=lambda loaded, why: unpaid(loaded, {}, why),\n",
        "",
        UNDECIDED,
    ),
    Rule(
        "the captures of a customer who is erased are found",
        "billing/captures.py",
        "belongs_to=((Capture.customer, None),)",
        "belongs_to=()",
        ERASURE,
    ),
    Rule(
        "what hangs on the operations of a customer who is erased is found",
        "billing/erasure.py",
        "        found |= dict.fromkeys(new)\n",
        "",
        ERASED_WORDS,
    ),
    Rule(
        "an action waits for the invoice's own work",
        "billing/invoice_actions.py",
        "if of.disputed or not INVOICE.is_final(of.state):",
        "if of.disputed and not INVOICE.is_final(of.state):",
        f"{INVOICE}::test_an_action_waits_for_each_open_call_of_its_invoice_and_for_each_state_that_is_not_over",
    ),
    Rule(
        "an action waits for an earlier one of the same invoice",
        "billing/invoice_actions.py",
        "if of.earlier is not None:",
        "if of.earlier is None:",
        f"{INVOICE}::test_an_action_waits_for_each_open_call_of_its_invoice_and_for_each_state_that_is_not_over",
    ),
    Rule(
        "what the invoice's row shows to be impossible is not asked for at Stripe",
        "billing/invoice_actions.py",
        "return moved(row, InvoiceActionState.REFUSED, late[0]) if late else []",
        "return []",
        ACTIONS,
    ),
    Rule(
        "a payment by somebody else is not the action's own",
        "billing/invoice_action_steps.py",
        "if whose is not Learned.FOUND_OURS and (whose is not None or was_refused(loaded.open_record)):",
        "if whose is not Learned.FOUND_OURS and whose is None and was_refused(loaded.open_record):",
        ACTIONS,
    ),
    Rule(
        "the same request returns its receipt, whatever became of the invoice since",
        "billing/invoice_action_requests.py",
        "        return _receipt(before, new=False)\n    if of.number",
        "        pass\n    if of.number",
        ACTIONS,
    ),
    Rule(
        "the void of a credit note moves the note in the same transaction",
        "billing/invoice_actions.py",
        'if shown.get("status") == "void" and row.state == CreditNoteState.ISSUED:',
        'if shown.get("status") == "issued" and row.state == CreditNoteState.ISSUED:',
        NOTE_VOIDS,
    ),
    Rule(
        "no credit note is voided once its invoice is not open",
        "billing/invoice_action_steps.py",
        'if (found := invoice.get("status")) != "open":',
        'if (found := invoice.get("status")) == "nothing":',
        NOTE_VOIDS,
    ),
    Rule(
        "refunds of one invoice choose their payments in turn",
        "billing/refunds.py",
        "    yield from refund_turns.ahead(session, rows)",
        "    return",
        "tests/crash/test_refunds_of_invoices.py",
    ),
    # Credit notes.
    Rule(
        "lines that Stripe reckons otherwise are not issued",
        "billing/credit_note_steps.py",
        'return LookResult(Learned.REFUSED, why=reason("reckoned_otherwise", wrong))',
        "pass",
        f"{NOTES}::test_lines_that_come_to_something_else_at_stripe_are_refused_before_anything_is_issued",
    ),
    Rule(
        "that no credit note is listed proves nothing",
        "billing/credit_note_steps.py",
        'LookResult(Learned.UNPROVABLE, why="no_credit_note_of_ours")',
        'LookResult(Learned.ABSENT, why="no_credit_note_of_ours")',
        f"{NOTES}::test_a_note_whose_outcome_is_unknown_is_never_repeated_under_a_new_key_by_a_machine",
    ),
    Rule(
        "two credit notes in the name of one are a conflict",
        "billing/credit_note_steps.py",
        "    if len(ours) > 1:",
        "    if len(ours) > 2:",
        f"{NOTES}::test_two_notes_of_ours_at_stripe_need_a_decision",
    ),
    Rule(
        "a credit note waits for its refund",
        "billing/credit_note_refunds.py",
        "if each.state == RefundState.REQUESTED or each.disputed)",
        "if each.state in FREES_ITS_AMOUNT and each.disputed)",
        f"{NOTES}::test_a_note_with_a_refund_comes_after_it_and_names_it",
    ),
    Rule(
        "a credit note waits while nobody knows whether its refund was made",
        "billing/credit_note_refunds.py",
        "if each.state == RefundState.REQUESTED or each.disputed)",
        "if each.state == RefundState.REQUESTED and not each.disputed)",
        f"{NOTES}::test_a_note_waits_while_nobody_knows_whether_its_refund_was_made",
    ),
    Rule(
        "what was not given back is not credited",
        "billing/credit_note_refunds.py",
        "for each in loaded.parts if each.state in FREES_ITS_AMOUNT), None)",
        "for each in loaded.parts if each.state in ()), None)",
        f"{NOTES}::test_a_note_whose_refund_gives_nothing_back_is_refused_and_both_free_the_amount",
    ),
    Rule(
        "a credit note of another amount than was asked for is a conflict",
        "billing/credit_note_steps.py",
        "        amount=row.amount_minor,\n        pre_payment_amount=before,\n"
        "        post_payment_amount=row.amount_minor - before,\n",
        "",
        f"{NOTES}::test_an_answer_of_another_amount_needs_a_decision",
    ),
    # Documents.
    Rule(
        "a document comes from Stripe's hosts only",
        "jobs/documents/fetching.py",
        " or port not in (None, 443) or place.hostname not in self.hosts:",
        " or port not in (None, 443):",
        f"{FETCHING}::test_a_link_to_any_other_place_is_never_followed",
    ),
    Rule(
        "where a redirect leads is looked at, too",
        "jobs/documents/fetching.py",
        'self._allowed(link, "redirected_elsewhere" if redirects else "foreign_link")',
        'urlsplit(link) if redirects else self._allowed(link, "foreign_link")',
        f"{FETCHING}::test_a_redirect_elsewhere_is_not_followed",
    ),
    Rule(
        "a document that is too large is not read",
        "jobs/documents/fetching.py",
        '"", most=self.most_bytes)',
        '"", most=1000 * self.most_bytes)',
        f"{FETCHING}::test_a_large_one_is_refused_without_being_read",
    ),
    Rule(
        "a document came whole",
        "archive/documents/pdf.py",
        'return None if END in body[-_LAST:] else "truncated"',
        "return None",
        f"{FETCHING}::test_one_that_is_not_whole_may_come_whole_later",
    ),
    Rule(
        "an object has the name of its document, and not of its bytes",
        "archive/documents/stored.py",
        "key(kind, document_id)\n",
        'key(kind, f"{document_id}-{len(body)}")\n',
        f"{DOCUMENTS}::test_what_is_stored_is_found_and_not_stored_again_even_if_stripe_draws_it_anew",
    ),
    Rule(
        "what lies at its place is a document",
        "archive/documents/stored.py",
        "(problem := pdf.problem(stored.body)) is not None or (new",
        "(problem := pdf.problem(stored.body)) is not None and (new",
        f"{DOCUMENTS}::test_something_else_at_its_place_is_refused_and_not_taken_for_the_document",
    ),
    Rule(
        "what was stored under a shorter lock is locked for longer",
        "archive/documents/stored.py",
        "        store.extend(name, stored.version, lock)\n",
        "",
        f"{DOCUMENTS}::test_a_lock_of_before_a_longer_policy_is_made_longer",
    ),
    Rule(
        "a document that is given to a person has the digest of its row",
        "archive/documents/stored.py",
        "if found.sha256 != sha256:",
        "if not found.sha256:",
        "tests/documents/test_cli_documents.py::test_a_document_is_written_into_a_file_once_it_is_known_to_be_the_one",
    ),
    Rule(
        "a link to a document lasts an hour at most",
        "archive/documents/links.py",
        "if not timedelta(seconds=1) <= lasts <= LONGEST:",
        "if not timedelta(seconds=1) <= lasts:",
        "tests/documents/test_cli_documents.py::test_a_link_lasts_an_hour_at_most",
    ),
    Rule(
        "a document that two ask for is asked for once",
        "billing/documents.py",
        "[fact for row, fact in started if row.id in written])",
        "[fact for _, fact in started])",
        f"{DOCUMENTS}::test_two_who_ask_for_the_same_document_at_once_ask_for_one",
    ),
    Rule(
        "what may pass is tried for a day, and then is a task for a person",
        "jobs/documents/keeping.py",
        'if time.time() > int(asked["until"]):',
        "if time.time() < 0:",
        f"{DOCUMENTS}::test_what_may_pass_is_tried_again_with_pauses_and_for_a_day_only",
    ),
    Rule(
        "what Postgres says of a document is what its fact says",
        "archive/verifying/documents.py",
        "if says[name] != told.get(name)]:",
        "if name not in told]:",
        "tests/documents/test_documents_verified.py::test_a_row_that_says_something_else_than_its_fact_is_found",
    ),
    Rule(
        "a proof finds a capture on two invoices",
        "archive/proving/proof.sql",
        "WHERE p.capture IS NOT NULL AND o.says <> 'none' GROUP BY p.capture HAVING count(*) > 1;",
        "WHERE p.capture IS NOT NULL AND o.says <> 'none' GROUP BY p.capture HAVING count(*) > 2;",
        f"{PROOF}::test_each_seeded_violation_is_found_by_its_rule_and_names_the_id",
    ),
    Rule(
        "a proof finds an invoice of captures that a payment or a balance has paid",
        "archive/proving/proof.sql",
        "OR s.asks <> 0 OR s.off_stripe <> s.minor)",
        "OR s.asks <> 0)",
        f"{PROOF}::test_each_seeded_violation_is_found_by_its_rule_and_names_the_id",
    ),
    Rule(
        "what was paid already is not finalized for a customer with a balance",
        "billing/paid_already.py",
        "if type(balance) is int and balance != 0:",
        "if type(balance) is int and balance > 0:",
        f"{CAPTURED}::test_a_customer_with_a_balance_gets_no_invoice_of_what_was_captured_and_keeps_the_balance",
    ),
    Rule(
        "what was paid already and is smaller than a charge may be is not finalized",
        "billing/paid_already.py",
        "0 < total < least:",
        "0 < total < least - 1:",
        f"{CAPTURED}::test_what_is_left_of_a_capture_may_be_too_small_for_an_invoice",
    ),
    Rule(
        "a charge that a person has seen was declined, and took no money",
        "billing/invoice_action_steps.py",
        "seen_as=Learned.DECLINED,",
        "seen_as=Learned.SUCCEEDED,",
        f"{ACTIONS}::test_an_undecided_charge_is_concluded_by_a_person_and_the_next_request_charges_once",
    ),
    Rule(
        "a payment that the row of a paid invoice does not know is a difference",
        "jobs/reconciliation/classes.sql",
        "(i.state IN ('paid', 'voided', 'refused') AND p.minor > known.minor",
        "(i.state IN ('voided', 'refused') AND p.minor > known.minor",
        f"{PAYMENTS_OF}::test_a_payment_that_our_row_does_not_know_is_for_finance",
    ),
    Rule(
        "a refund by hand of an invoice's payment is found",
        "jobs/reconciliation/comparing.sql",
        "AND (p.id = e.id OR e.object = 'refund' AND p.payment_intent = e.payment_intent)",
        "AND p.id = e.id",
        f"{PAYMENTS_OF}::test_a_refund_is_found_long_after_its_payment_was_compared",
    ),
    Rule(
        "while a call is open, what was noticed makes its look due and does nothing else",
        "billing/observing.py",
        "    record.look_at = now\n",
        "",
        f"{OBSERVED}::test_a_capture_in_doubt_is_looked_at_as_soon_as_something_is_noticed",
    ),
    Rule(
        "an old signature is refused",
        "billing/events.py",
        "signature.at < now_s - TOLERANCE_S",
        "signature.at < now_s - 2 * TOLERANCE_S",
        EVENTS,
    ),
    Rule(
        "a signature from the future is refused",
        "billing/events.py",
        "if signature.at > now_s + TOLERANCE_S else None",
        "if signature.at > now_s + 2 * TOLERANCE_S else None",
        EVENTS,
    ),
    Rule("one secret that fits is enough", "billing/events.py", "if not any(fits):", "if not all(fits):", EVENTS),
    Rule(
        "an event is in the inbox once",
        "billing/inbox.sql",
        "    ON CONFLICT DO NOTHING;",
        "    ;",
        f"{INBOX}::test_an_event_is_there_once_however_often_it_comes",
    ),
    Rule(
        "metadata leads to no operation of another account",
        "billing/inbox.py",
        "select(table.id).where(table.id.in_(mine), _of_account(operation, account))",
        "select(table.id).where(table.id.in_(mine))",
        f"{INBOX}::test_metadata_that_names_an_operation_of_another_account_leads_nowhere",
    ),
    Rule(
        "an operation that is locked is noticed later",
        "billing/inbox.py",
        "busy |= mine.keys() - {row.id for row in rows}",
        "busy |= set()",
        f"{INBOX}::test_an_operation_that_a_worker_holds_is_noticed_when_it_is_free",
    ),
    Rule(
        "what our own call has caused is not looked at",
        "billing/inbox.py",
        "if event.caused_by != each.id:",
        "if True:",
        f"{INBOX}::test_what_our_own_call_caused_is_matched_and_not_looked_at",
    ),
    # Reconciliation.
    Rule(
        "a difference that is gone closes by itself",
        "jobs/reconciliation/findings.sql",
        "   SET state = 'gone', state_since",
        "   SET state = 'open', state_since",
        f"{PASSES}::test_the_next_window_begins_before_the_last_one_ended",
    ),
    Rule(
        "what a person has closed opens again only if a side changes",
        "jobs/reconciliation/findings.sql",
        "state = CASE WHEN d.state = 'closed' AND d.what = excluded.what THEN 'closed' ELSE 'open' END",
        "state = 'open'",
        f"{PASSES}::test_what_a_person_has_closed_opens_again_only_if_a_side_changes",
    ),
    Rule(
        "a person closes only what is open",
        "jobs/reconciliation/differences.sql",
        "WHERE id = :id AND state = 'open'",
        "WHERE id = :id",
        f"{PASSES}::test_what_a_person_has_closed_opens_again_only_if_a_side_changes",
    ),
    Rule(
        "what is in doubt is not compared",
        "jobs/reconciliation/comparing.sql",
        "WHERE r.operation_id = s.id AND r.concluded_at IS NULL AND r.state <> 'planned'))",
        "WHERE r.operation_id = s.id AND false))",
        f"{PASSES}::test_what_is_in_doubt_is_named_and_not_compared_and_looked_at_at_once_if_stripe_shows_it",
    ),
    Rule(
        "what is younger than the settle window is not compared",
        "jobs/reconciliation/comparing.sql",
        "coalesce(c.state_since, f.state_since, v.state_since, i.state_since, n.state_since, '-infinity') < :until",
        "(true OR now() < :until)",
        f"{PASSES}::test_what_is_younger_than_the_settle_window_is_not_compared",
    ),
    # The proof.
    Rule(
        "two effects of one request are a violation",
        "archive/proving/proof.sql",
        "GROUP BY kind, operation HAVING count(*) > 1",
        "GROUP BY kind, operation HAVING count(*) > 2",
        PROOF,
    ),
    Rule(
        "two requests for one effect are a violation",
        "archive/proving/proof.sql",
        "o.object, o.part HAVING count(*) > 1",
        "o.object, o.part HAVING count(*) > 2",
        PROOF,
    ),
    Rule(
        "an effect of what has failed is a violation",
        "archive/proving/proof.sql",
        "WHERE o.says = 'none' AND s.state <> 'void'",
        "WHERE o.says = 'open' AND s.state <> 'void'",
        PROOF,
    ),
    Rule(
        "more refunded than taken is a violation",
        "archive/proving/proof.sql",
        "HAVING sum(r.minor) > s.minor",
        "HAVING max(r.minor) > s.minor",
        PROOF,
    ),
    Rule(
        "the parts of one authorization are added up",
        "archive/proving/proof.sql",
        "sum(minor) AS minor, string_agg(id",
        "max(minor) AS minor, string_agg(id",
        PROOF,
    ),
    Rule(
        "what ended while Stripe was read is too young to be compared",
        "archive/proving/proof.sql",
        "SELECT * FROM ours WHERE ended < $young;",
        "SELECT * FROM ours WHERE ($young IS NOT NULL);",
        PROOF,
    ),
    Rule(
        "what no archiver had taken is too young to be archived",
        "archive/proving/proof.sql",
        "AND o.batch <= h.last;",
        "AND o.batch >= 0;",
        PROOF,
    ),
    # Bulk.
    Rule(
        "a batch is asked for only if it is what was checked",
        "jobs/bulk/carrying_out.py",
        "if batch.digest != next(marks, None):",
        "if not next(marks, None):",
        f"{BULK}::test_a_file_that_changes_after_it_was_checked_is_found_before_the_change_is_asked_for",
    ),
    Rule(
        "a file that changes while it is checked is refused",
        "jobs/bulk/checking.py",
        "if found.marks[-1] != file.digest:",
        "if not found.marks:",
        f"{BULK}::test_a_file_that_changes_before_it_was_checked_to_its_end_is_refused",
    ),
    Rule(
        "a batch is asked for by one process",
        "billing/bulks.py",
        "    if at != done_upto:",
        "    if at is None:",
        f"{BULK}::test_two_processes_with_the_same_file_ask_once_and_the_second_is_told",
    ),
    Rule(
        "an id of a bulk stands for one file",
        "billing/bulks.py",
        "if first != now]",
        "if first != now and name != 'file']",
        f"{BULK}::test_an_id_stays_with_its_file_and_a_file_with_its_id",
    ),
)
