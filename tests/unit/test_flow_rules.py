"""The rules of flows, one flow at a time: what was lost on paper, and is not."""

import uuid
from collections.abc import Callable

import pytest

from engine.flows import Flow
from engine.flows.happenings import (
    Answered,
    Cancelled,
    ChildAnswered,
    ChildEnded,
    Looked,
    Resolved,
    Resumed,
    Settled,
    Started,
    Stopped,
)
from engine.flows.ids import call_key, child_id, reversal_id, scheduled_id, transfer_id
from engine.flows.money import (
    CREATED,
    Spent,
    Verdict,
    pack,
    read_answers,
    settle,
    spending,
    unpack,
)
from engine.ledger.nouns import Transfer, TransferFlags
from engine.ledger.outcomes import SPENDS_ID, Outcome
from tests.flow_examples import Payout, begin, payout
from tests.flow_one import FLOW, TRANSIT, WALLET, One


def paying() -> One:
    """A payout that waits for the bank."""
    one = One(payout()).start()
    one.settle()
    assert one.at == "bank waiting"
    return one


# The way of a payout.


def test_a_payout_is_paid() -> None:
    one = One(payout()).start()
    [hold] = one.asked()
    assert (hold.debit_account_id, hold.credit_account_id, hold.amount) == (WALLET, TRANSIT, 500)
    assert (hold.flags, hold.code, hold.ledger) == (int(TransferFlags.pending), 30, 1)
    assert (hold.user_data_128, hold.user_data_32) == (FLOW, 1)
    one.settle()
    one.signal("bank", "settled")
    [post] = one.asked()
    assert post.pending_id == hold.id
    assert (post.debit_account_id, post.credit_account_id, post.amount) == (WALLET, TRANSIT, 500)
    one.settle()
    assert one.end == "paid"
    assert [row.seq for row in one.rows] == list(range(1, len(one.rows) + 1))


def test_a_payout_is_rejected() -> None:
    one = paying()
    one.signal("bank", "rejected")
    [void] = one.asked()
    assert void.flags == int(TransferFlags.void_pending_transfer)
    one.settle()
    assert one.end == "not paid"


def test_a_hold_declined_ends_in_its_branch_with_the_reason() -> None:
    one = One(payout()).start()
    one.decline("exceeds_credits")
    assert one.end == "declined"
    assert one.rows[1].detail == {"reason": "exceeds_credits"}


def test_the_review_of_a_large_payout() -> None:
    one = One(payout(above=100)).start()
    one.settle()
    assert one.at == "large payout review"
    assert one.decide("approved", by="ann") == "not_by_starter"
    assert one.decide("perhaps") == "unknown_answer"
    assert one.decide("late") == "unknown_answer"
    assert one.decide("approved") == "decided"
    assert one.at == "bank waiting"
    assert one.rows[3].reference == "ben"


def test_a_review_whose_condition_is_false_is_passed_as_approved() -> None:
    one = paying()
    assert [(r.state, r.event) for r in one.rows if r.step == 1] == [("done", "approved")]


# Money.


def leg(number: int = 1, flags: int = 0) -> Transfer:
    return Transfer(
        bytes([number]) * 16, WALLET, TRANSIT, 5, user_data_32=3, ledger=1, code=1, flags=flags
    )


def declined(transfer: Transfer, outcome: Outcome = Outcome.exceeds_credits) -> Spent:
    return Spent(outcome, None, pack([transfer]))


def test_in_doubt_a_money_step_is_settled_from_the_rows() -> None:
    chain = [leg(1, 1), leg(2)]
    request = pack(chain)
    created = {t.id: Spent(Outcome.created, t) for t in chain}
    assert settle(request, created) == CREATED
    assert settle(request, {}) is None
    assert settle(request, {chain[1].id: declined(chain[1])}) == Verdict(
        "declined", "exceeds_credits"
    )
    # A leg that is there and one that is not: somebody else's.
    assert settle(request, {chain[0].id: created[chain[0].id]}) == Verdict(
        "taken", "exists_in_part"
    )


@pytest.mark.parametrize(
    "outcomes",
    [
        [Outcome.exists, Outcome.linked_event_failed],
        [Outcome.linked_event_failed, Outcome.exists],
        [Outcome.id_already_failed],
        [Outcome.exists_with_different_amount],
        [Outcome.linked_event_failed, Outcome.id_already_failed],
        [Outcome.exceeds_credits, Outcome.linked_event_failed],
        [Outcome.created, Outcome.linked_event_failed],
    ],
)
def test_an_answer_in_doubt_is_no_verdict(outcomes: list[Outcome]) -> None:
    assert read_answers(outcomes) is None


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_answer_to_one_transfer_is_read(outcome: Outcome) -> None:
    found = read_answers([outcome])
    if outcome in {Outcome.created, Outcome.exists}:
        assert found == CREATED
    elif outcome in SPENDS_ID:
        assert found == Verdict("declined", outcome.name)
    elif outcome is Outcome.id_already_failed or outcome.name.startswith("exists_"):
        assert found is None
    else:
        assert found is outcome  # its id is free: it is spent before anything follows from it


def test_a_declined_request_that_is_not_ours_stops_the_flow() -> None:
    ours = leg()
    theirs = Transfer(ours.id, WALLET, TRANSIT, 6, user_data_32=3, ledger=1, code=1)
    assert settle(pack([ours]), {ours.id: declined(theirs)}) == Verdict(
        "taken", "id_already_failed"
    )
    assert settle(pack([ours]), {ours.id: Spent(Outcome.created, theirs)}) == Verdict(
        "taken", "exists_with_different_content"
    )
    one = One(payout()).start()
    one.settle(Verdict("taken", "id_already_failed"))
    assert (one.last.state, one.last.event) == ("stopped", "id_taken: id_already_failed")


def test_a_refusal_that_leaves_its_id_free_is_final_once_the_id_is_spent() -> None:
    ours = leg()
    burn = spending(ours, Outcome.overflows_credits_posted)
    assert burn.id == ours.id
    assert burn.debit_account_id not in {WALLET, TRANSIT}
    found = declined(burn, Outcome.debit_account_not_found)
    assert settle(pack([ours]), {ours.id: found}) == Verdict("declined", "overflows_credits_posted")
    # A copy that came first wins.
    assert settle(pack([ours]), {ours.id: Spent(Outcome.created, ours)}) == CREATED


def test_a_request_is_frozen() -> None:
    one = One(payout()).start()
    request = one.last.request
    one.happen(Stopped("defect"))
    one.happen(Resumed("ben"))
    assert one.made.asks[-1].request == request
    assert unpack(request)[0].user_data_32 == 1
    one.happen(Settled(1, CREATED))
    assert one.at == "bank waiting"


def test_an_answer_to_another_step_changes_nothing() -> None:
    one = paying()
    one.happen(Settled(1, CREATED))
    one.signal("bank", "settled")
    before = len(one.rows)
    one.happen(Settled(1, CREATED))
    assert len(one.rows) == before
    assert one.at == "settle asked"


def test_a_retry_of_a_declined_step_has_an_id_of_its_own() -> None:
    flow = Flow("f", version=1, input=Payout, ledger=1)
    hold = flow.hold(debit=Payout.wallet, credit="in-transit", amount=Payout.amount, code=1)
    nap = flow.sleep("10s")
    post = flow.post(hold)
    hold.created.go(post)
    hold.declined.go(nap, limit=2, otherwise=flow.end("given up"))
    nap.done.go(hold)
    post.done.end("paid")
    one = One(flow).start()
    ids = set()
    for attempt in (1, 2, 3):
        assert one.last.attempt == attempt
        ids.add(one.asked()[0].id)
        one.decline()
        if attempt < 3:
            one.look(5)
            assert one.at == "nap waiting"
            one.look(5)
    assert len(ids) == 3
    assert one.end == "given up"


@pytest.mark.parametrize("reason", ["already_posted", "already_voided", "expired"])
@pytest.mark.parametrize("kind", ["post", "void"])
def test_what_became_of_a_post_or_void(kind: str, reason: str) -> None:
    one = paying()
    one.signal("bank", "settled" if kind == "post" else "rejected")
    word = "pending_transfer_expired" if reason == "expired" else f"pending_transfer_{reason}"
    one.decline(word)
    if kind == "void" and reason != "already_posted":
        assert one.end == "not paid"
    else:
        assert one.at.endswith("failed: who looked after it? review")
        one.decide("acknowledged")
        assert one.end == ("settle failed" if kind == "post" else "free failed")


def test_an_end_with_a_hold_that_may_be_open_stops() -> None:
    one = paying()
    one.signal("bank", "settled")
    hold = unpack(one.rows[0].request)[0].id
    one.decline("debit_account_already_closed")
    one.decide("acknowledged")
    assert (one.last.state, one.last.event) == ("stopped", "open_hold")
    assert one.happen(Resumed("ben")).answer == "hold_open"
    assert one.happen(Resumed("ben", frozenset({hold}))).answer == "resumed"
    assert one.end == "settle failed"


def test_a_part_is_posted() -> None:
    flow, hold = begin()
    post = flow.post(hold, amount=30)
    hold.created.go(post)
    post.done.end("paid")
    one = One(flow).start()
    one.settle()
    assert one.asked()[0].amount == 30


def reversing() -> One:
    flow, hold = begin()
    post = flow.post(hold, amount=30)
    back = flow.reverse(post, code=9)
    hold.created.go(post)
    post.done.go(back)
    back.created.end("taken back")
    back.declined.end("kept")
    one = One(flow).start()
    one.settle()
    one.settle()
    return one


def test_a_reversal_moves_back_what_was_really_posted() -> None:
    one = reversing()
    post = unpack(one.rows[2].request)[0]
    [back] = one.asked()
    assert (back.debit_account_id, back.credit_account_id) == (TRANSIT, WALLET)
    assert (back.amount, back.code) == (30, 9)
    assert back.id == reversal_id(post.id, 1)
    one.settle()
    assert one.end == "taken back"


def test_a_reversal_can_be_declined() -> None:
    one = reversing()
    one.decline()
    assert one.end == "kept"


def test_a_chain_is_all_or_none() -> None:
    flow = Flow("f", version=1, input=Payout, ledger=1)
    chain = flow.chain(
        {"debit": Payout.wallet, "credit": "a", "amount": Payout.amount, "code": 1},
        {"debit": Payout.wallet, "credit": "b", "amount": 3, "code": 2},
    )
    back = flow.reverse(chain)
    chain.created.go(back)
    chain.declined.end("declined")
    back.created.end("back")
    back.declined.end("kept")
    one = One(flow).start()
    legs = one.asked()
    assert [t.flags for t in legs] == [int(TransferFlags.linked), 0]
    assert len({t.id for t in legs}) == 2
    one.settle()
    assert [(t.debit_account_id, t.flags) for t in one.asked()] == [
        (b"\x03" * 16, 1),
        (b"\x04" * 16, 0),
    ]


# Signals, time and evidence.


def test_the_signal_comes_before_the_wait() -> None:
    one = One(payout()).start()
    one.signal("bank", "settled")
    assert one.at == "hold asked"
    one.settle()
    assert one.at == "settle asked"
    assert [row.signal for row in one.rows if row.signal] == [1]


def test_the_oldest_signal_goes_first_and_each_is_consumed_once() -> None:
    flow = Flow("f", version=1, input=Payout, ledger=1)
    wait = flow.wait("bank")
    wait.on("part").go(wait, limit=5, otherwise=flow.end("many"))
    wait.on("last").end("whole")
    one = One(flow).start()
    one.signal("bank", "part", "m1")
    assert one.at == "bank waiting"
    assert one.look().rows == []
    one.signal("bank", "part", "m2")
    one.signal("bank", "last", "m3")
    assert [row.signal for row in one.rows if row.signal] == [1, 2, 3]
    assert one.end == "whole"


def test_late_is_taken_only_when_all_signals_until_then_are_known() -> None:
    one = paying()
    three_days = 3 * 86_400
    one.look(three_days + 1, heard=False)
    assert one.at == "bank waiting"
    one.happen(Looked(one.last.due_at - 1))
    assert one.at == "bank waiting"
    one.happen(Looked(one.last.due_at))
    assert one.at == "what became of it? review"


def test_a_signal_goes_before_a_time_that_is_over() -> None:
    one = paying()
    one.now += 4 * 86_400 * 1_000_000
    one.signal("bank", "settled")
    assert one.at == "settle asked"


def late() -> One:
    one = paying()
    one.look(3 * 86_400)
    assert one.at == "what became of it? review"
    return one


def test_a_review_opened_by_late_still_listens() -> None:
    one = late()
    review = one.last.seq
    one.signal("bank", "settled")
    assert one.at == "settle asked"
    assert [r.event for r in one.rows if r.seq > review] == ["evidence", "settled", ""]
    assert one.decide("rejected", seq=review) == "newer_evidence"


def test_a_decision_carries_the_last_evidence_that_its_author_saw() -> None:
    one = paying()
    one.signal("bank", "news")  # of an event that nothing leads to
    one.look(3 * 86_400)
    assert one.decide("rejected", seen=0) == "newer_evidence"
    assert one.decide("rejected", seen=1) == "decided"


def test_the_first_decision_wins() -> None:
    one = late()
    review = one.last.seq
    assert one.decide("settled", seq=review) == "decided"
    assert one.decide("rejected", by="cid", seq=review) == "already_decided"
    assert one.decide("settled", seq=review) == "already_decided"
    assert one.at == "settle asked"


def test_a_decision_after_its_time_is_late() -> None:
    one = One(payout(above=100)).start()
    one.settle()
    review = one.last.seq
    one.look(24 * 3600)
    assert one.at == "free asked"
    assert one.decide("approved", seq=review) == "late"
    assert one.decide("approved") == "late"


def test_a_sleep_is_over_in_time_and_not_before() -> None:
    flow = Flow("f", version=1, input=Payout, ledger=1)
    nap = flow.sleep("1h")
    nap.done.end("over")
    one = One(flow).start()
    one.look(3599)
    assert one.at == "nap waiting"
    one.look(1, heard=False)
    assert one.end == "over"


def test_a_start_at_a_time() -> None:
    one = One(payout())
    one.happen(Started(one.now + 60_000_000))
    one.look(59)
    assert one.last.event == "start_at"
    one.look(1)
    assert one.at == "hold asked"
    assert one.asked()[0].id == transfer_id(FLOW, 0, 0, 1)


# Calls.


def calling(**more: object) -> One:
    flow, hold = begin()
    pay = flow.call("pay", within="10s", **more)
    post, void = flow.post(hold), flow.void(hold)
    hold.created.go(pay)
    pay.done.go(post)
    pay.refused.go(void)
    pay.unknown.review("was it paid?", yes=post, no=void)
    post.done.end("paid")
    void.done.end("not paid")
    one = One(flow).start()
    one.settle()
    assert one.at == "pay asked"
    return one


def test_an_attempt_of_a_call_is_a_row_before_it_is_made() -> None:
    one = calling()
    [call] = one.made.calls
    assert (call.seq, call.attempt, call.function) == (one.last.seq, 1, "pay")
    assert call.key == call_key(FLOW, 1, 1)


@pytest.mark.parametrize(("outcome", "at"), [("done", "post asked"), ("refused", "void asked")])
def test_what_a_call_says_leads_on(outcome: str, at: str) -> None:
    one = calling()
    one.happen(Answered(one.last.seq, outcome))
    assert one.at == at


@pytest.mark.parametrize("how", ["time_out", "unknown", "stopped"])
def test_a_call_of_which_nothing_is_known_is_unknown_and_not_made_again(how: str) -> None:
    one = calling(attempts=3)
    if how == "time_out":
        one.look(10)
    elif how == "unknown":
        one.happen(Answered(one.last.seq, "unknown"))
    else:
        one.happen(Stopped("defect"))
        one.happen(Resumed("ben"))
    assert one.at == "was it paid? review"
    assert "unknown" in [row.state for row in one.rows]


def test_a_late_result_is_evidence() -> None:
    one = calling()
    seq = one.last.seq
    one.look(10)
    one.happen(Answered(seq, "unknown"))
    assert one.at == "was it paid? review"
    one.happen(Answered(seq, "done"))
    assert one.at == "post asked"
    before = len(one.rows)
    one.happen(Answered(seq, "refused"))
    assert len(one.rows) == before


def test_an_idempotent_call_is_made_again_under_the_same_key() -> None:
    one = calling(attempts=3, idempotent=True)
    keys = [one.made.calls[-1].key]
    for seconds in (1, 2):
        one.happen(Answered(one.last.seq, "unknown"))
        assert one.at == "pay waiting"
        one.look(seconds)
        keys.append(one.made.calls[-1].key)
    assert (one.last.attempt, len(set(keys))) == (3, 1)
    one.happen(Answered(one.last.seq, "unknown"))
    assert one.at == "was it paid? review"


def test_what_did_nothing_is_tried_again_and_then_refused() -> None:
    one = calling(attempts=2)
    one.happen(Answered(one.last.seq, "again"))
    assert one.at == "pay waiting"
    one.look(1)
    one.happen(Answered(one.last.seq, "again"))
    assert one.at == "void asked"


def test_an_attempt_that_did_nothing_says_nothing_of_an_earlier_one() -> None:
    one = calling(attempts=2, idempotent=True)
    one.happen(Answered(one.last.seq, "unknown"))
    one.look(1)
    one.happen(Answered(one.last.seq, "again"))
    assert one.at == "was it paid? review"


def test_an_answer_of_an_earlier_attempt_is_not_taken_for_this_one() -> None:
    one = calling(attempts=2, idempotent=True)
    first = one.last.seq
    one.happen(Answered(first, "unknown"))
    one.look(1)
    before = len(one.rows)
    one.happen(Answered(first, "refused"))
    assert len(one.rows) == before


def test_a_call_waits_for_its_code() -> None:
    flow = Flow("f", version=1, input=Payout, ledger=1)
    pay = flow.call("pay")
    pay.done.end("done")
    pay.refused.end("refused")
    pay.unknown.review("?", done=flow.end("done"))
    one = One(flow)
    one.functions = set()
    one.start()
    assert one.at == "pay ready"
    one.look(6)
    assert one.at == "pay ready"
    one.functions = {"pay"}
    one.look()
    assert one.at == "pay asked"


# People.


def test_cancel_before_anything_reached_the_outside() -> None:
    one = One(payout(above=100)).start()
    one.settle()
    assert one.happen(Cancelled("ben")).answer == "cancelled"
    [void] = one.asked()
    assert void.pending_id == unpack(one.rows[0].request)[0].id
    one.settle()
    assert one.end == "cancelled"
    assert one.happen(Cancelled("ben")).answer == "cancelled"


@pytest.mark.parametrize("created", [True, False])
def test_cancel_waits_for_the_outcome_of_a_hold(created: bool) -> None:
    one = One(payout()).start()
    assert one.happen(Cancelled("ben")).answer == "cancelled"
    assert one.made.asks == []
    assert one.at == "hold asked"
    one.happen(Settled(1, CREATED if created else Verdict("declined", "exceeds_credits")))
    if created:
        assert one.at == "cancel hold asked"
        one.settle()
    assert one.end == "cancelled"


def test_cancel_is_too_late_once_the_outside_was_reached() -> None:
    one = paying()
    assert one.happen(Cancelled("ben")).answer == "too_late"
    one.signal("bank", "settled")
    one.settle()
    assert one.happen(Cancelled("ben")).answer == "ended"


def test_one_bad_flow_is_stopped_and_left_by_a_person() -> None:
    one = paying()
    one.happen(Stopped("defect"))
    assert one.signal("bank", "settled").rows == []
    assert one.happen(Cancelled("ben")).answer == "too_late"
    assert one.happen(Resumed("ben")).answer == "resumed"
    one.look()
    assert one.at == "settle asked"
    assert one.happen(Resumed("ben")).answer == "not_stopped"


def test_resolve_says_what_came_of_a_step() -> None:
    one = paying()
    assert one.happen(Resolved("maybe", "ben", "told so")).answer == "unknown_event"
    assert one.happen(Resolved("settled", "ben", "told so")).answer == "resolved"
    assert one.at == "settle asked"
    assert one.happen(Resolved("done", "ben", "told so")).answer == "settled_by_ledger"


def test_no_one_resolves_what_the_ledger_knows() -> None:
    one = One(payout()).start()
    assert one.happen(Resolved("declined", "ben", "x")).answer == "settled_by_ledger"
    one.settle(Verdict("taken", "id_already_failed"))
    assert one.happen(Resolved("created", "ben", "x")).answer == "settled_by_ledger"
    assert one.happen(Resolved("declined", "ben", "x")).answer == "resolved"
    assert one.end == "declined"


# Children.


def parent(*, wait_end: bool) -> Flow:
    flow = Flow("parent", version=1, input=Payout, ledger=1)
    child = flow.start("payout", input={"wallet": Payout.wallet, "amount": 7}, wait_end=wait_end)
    child.declined.end("not started")
    if wait_end:
        child.on("paid").end("paid")
        child.ended.end("other")
    else:
        child.created.end("started")
    return flow


@pytest.mark.parametrize("outcome", ["created", "exists", "account_not_found"])
def test_a_parent_goes_on_when_its_child_is_there(outcome: str) -> None:
    one = One(parent(wait_end=False)).start()
    [begin_] = one.made.begins
    assert begin_.child == child_id(FLOW, 0, 1)
    assert begin_.request == b'{"wallet":"w","amount":7}'
    one.happen(ChildAnswered(begin_.seq, outcome))
    assert one.end == ("not started" if outcome == "account_not_found" else "started")


@pytest.mark.parametrize(("ended", "end"), [("paid", "paid"), ("not paid", "other")])
def test_a_parent_waits_for_the_end(ended: str, end: str) -> None:
    one = One(parent(wait_end=True)).start()
    one.happen(ChildAnswered(one.made.begins[0].seq, "created"))
    assert one.last.event == "child"
    one.happen(ChildEnded(ended))
    assert one.end == end


def test_children_of_children_have_an_end() -> None:
    one = One(parent(wait_end=False), depth=8).start()
    assert one.made.begins == []
    assert one.end == "not started"


# Ids.


def test_derived_ids_keep_the_time_and_are_marked() -> None:
    made = transfer_id(FLOW, 1, 0, 1)
    assert made[:6] == FLOW[:6]
    assert uuid.UUID(bytes=made).version == 8
    assert uuid.UUID(bytes=made).variant == uuid.RFC_4122


def test_no_two_derived_ids_are_alike() -> None:
    flows = [FLOW, bytes(16), b"\xff" * 16, uuid.uuid4().bytes]
    makers: list[Callable[[bytes], bytes]] = [
        lambda f: transfer_id(f, 1, 0, 1),
        lambda f: transfer_id(f, 0, 1, 1),
        lambda f: transfer_id(f, 0, 0, 1),
        lambda f: transfer_id(f, 256, 0, 1),
        lambda f: transfer_id(f, 1, 0, 256),
        lambda f: reversal_id(f, 1),
        lambda f: child_id(f, 0, 1),
        lambda f: call_key(f, 0, 1),
        lambda f: scheduled_id(f, 1),
        lambda f: scheduled_id(f, 256),
    ]
    made = [make(flow) for flow in flows for make in makers]
    assert len(set(made)) == len(made)


def test_a_journal_that_is_nearly_full_stops_its_flow() -> None:
    flow = Flow("f", version=1, input=Payout, ledger=1)
    nap = flow.sleep("1s")
    nap.done.go(nap, limit=1000, otherwise=flow.end("over"))
    one = One(flow)
    one.start()
    one.rows[-1] = type(one.last)(FLOW, 32_760, 0, "waiting", due_at=one.now)
    one.look()
    assert (one.last.state, one.last.event) == ("stopped", "journal_full")
