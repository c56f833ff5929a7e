"""Definitions: what a table says, and what is refused when it is defined, with what to do."""

import subprocess
import sys
import uuid
from collections.abc import Callable

import pytest

from engine.errors import InputError
from engine.flows import Account, Amount, Flow, Input
from engine.flows.charts import as_mermaid, as_text
from engine.flows.inputs import microseconds_of, read_input, struct_of, value_of
from engine.flows.table import read_table
from tests.flow_examples import Order, Payout, begin, payout


def refused(define: Callable[[], Flow], *words: str) -> None:
    with pytest.raises(InputError) as error:
        define().table()
    for word in words:
        assert word in str(error.value)


def test_the_payout_of_the_plan_is_a_table() -> None:
    table = payout().table()
    assert [step.name for step in table.steps[:5]] == [
        "hold",
        "large payout",
        "bank",
        "settle",
        "free",
    ]
    assert table.steps[0].branches["created"].to == 1
    assert table.steps[5].name == "what became of it?"
    assert table.steps[5].listens == (2,)
    assert table.account_names == ("in-transit",)
    assert table.signals == {"bank": {"settled", "rejected"}}


def test_a_table_is_read_back_from_its_source_as_it_was() -> None:
    table = payout().table()
    again = read_table(table.source)
    assert again == table
    assert again.hash == table.hash
    assert payout().table().hash == table.hash


def test_another_table_has_another_hash() -> None:
    hashes = {payout().table().hash, payout(2).table().hash, payout(above=5).table().hash}
    assert len(hashes) == 3


def test_a_worker_needs_no_code_of_the_author() -> None:
    """The source is read in a process that has never seen the file it was written in."""
    program = (
        "import sys; from engine.flows.table import read_table;"
        "t = read_table(sys.stdin.buffer.read()); print(t.name, len(t.steps), t.hash.hex())"
    )
    table = payout().table()
    answer = subprocess.run(
        [sys.executable, "-c", program], input=table.source, capture_output=True, check=True
    )
    assert answer.stdout.decode().split() == ["payout", str(len(table.steps)), table.hash.hex()]


def test_it_prints_itself() -> None:
    table = payout().table()
    text = as_text(table)
    assert "hold hold: amount from wallet to in-transit, code 30" in text
    assert "settled -> settle" in text
    assert "when (amount > 1000000)" in text
    chart = as_mermaid(table)
    assert chart.startswith("flowchart TD\n")
    assert 's2 -->|"settled"| s3' in chart


def test_a_step_is_named_by_its_first_argument_or_the_variable() -> None:
    flow, hold = begin()
    final = flow.post(hold)
    hold.created.go(final)
    final.done.end("ended")
    assert [step.name for step in flow.table().steps[:2]] == ["reserve", "final"]


# An event without a branch.


def without(event: str) -> Flow:
    flow, hold = begin()
    wait = flow.wait("bank", within="1d")
    settle = flow.post(hold)
    hold.created.go(wait)
    if event != "late":
        wait.late.review("?", settled=settle)
    if event != "done":
        settle.done.end("paid")
    if event != "settled":
        wait.on("settled").go(settle)
    return flow


@pytest.mark.parametrize("event", ["late", "done"])
def test_an_event_without_a_branch_is_refused(event: str) -> None:
    refused(lambda: without(event), f"no branch for its event {event}", f".{event}.go(step)")


def test_a_wait_for_nothing_is_refused() -> None:
    refused(lambda: without("settled"), "waits for no event", ".on(name)")


@pytest.mark.parametrize("kind", ["hold", "move", "call", "review", "reverse", "sleep", "start"])
def test_each_event_of_each_kind_needs_a_branch(kind: str) -> None:
    def define() -> Flow:
        flow = Flow("f", version=1, input=Payout, ledger=1)
        step = {
            "hold": lambda: flow.hold(debit="a", credit="b", amount=1, code=1),
            "move": lambda: flow.move(debit="a", credit="b", amount=1, code=1),
            "call": lambda: flow.call("pay"),
            "review": lambda: flow.review("well?"),
            "reverse": lambda: flow.reverse(flow.move(debit="a", credit="b", amount=1, code=1)),
            "sleep": lambda: flow.sleep("1d"),
            "start": lambda: flow.start("other", input={}),
        }[kind]()
        assert step.kind == kind
        return flow

    refused(define, "no branch for its event")


def test_a_post_that_fails_is_seen_by_a_person_where_nothing_else_is_said() -> None:
    table = payout().table()
    failed = table.steps[table.steps[3].branches["failed"].to]
    assert failed.kind == "review"
    assert set(failed.branches) == {"acknowledged"}


def test_a_table_is_the_same_however_often_it_is_made() -> None:
    """What goes without saying is said anew each time."""
    flow, hold = begin()
    post = flow.post(hold)
    hold.created.go(post)
    post.done.end("paid")
    first = flow.table()
    assert flow.table() == first
    post.failed.end("failed")
    assert flow.table().steps != first.steps


def test_an_event_leads_to_one_step() -> None:
    def define() -> Flow:
        flow, hold = begin()
        hold.declined.end("again")
        return flow

    refused(define, "has a branch already")


# Holds.


def test_a_path_that_ends_without_post_or_void_is_refused() -> None:
    def define() -> Flow:
        flow, hold = begin()
        hold.created.end("forgotten")
        return flow

    refused(define, "neither posted nor voided", "'reserve'", "(created)")


def test_a_path_that_forgets_one_of_two_holds_is_refused() -> None:
    def define() -> Flow:
        flow, hold = begin()
        second = flow.hold(debit="a", credit="b", amount=1, code=1)
        post = flow.post(hold)
        hold.created.go(second)
        second.created.go(post)
        second.declined.go(post)
        post.done.end("paid")
        return flow

    refused(define, "the hold 'second' neither posted nor voided")


def test_a_post_before_its_holds_outcome_is_refused() -> None:
    def define() -> Flow:
        flow = Flow("g", version=1, input=Payout, ledger=1)
        first = flow.wait("bank")
        hold = flow.hold(debit="a", credit="b", amount=1, code=1)
        void = flow.void(hold)
        first.on("settled").go(hold)
        first.on("rejected").go(void)
        hold.created.go(void)
        hold.declined.end("declined")
        void.done.end("not paid")
        return flow

    refused(define, "is not sure to find the hold", "only after .created", "(rejected)")


def test_two_posts_of_one_hold_are_refused() -> None:
    def define() -> Flow:
        flow, hold = begin()
        first, second = flow.post(hold, amount=1), flow.post(hold)
        hold.created.go(first)
        first.done.go(second)
        second.done.end("paid")
        return flow

    refused(define, "one post or void a hold")


def test_a_hold_in_a_loop_is_resolved_before_it_is_visited_again() -> None:
    def define() -> Flow:
        flow, hold = begin()
        nap = flow.sleep("1h")
        post = flow.post(hold)
        hold.created.go(nap)
        nap.done.go(hold, limit=3, otherwise=post)
        post.done.end("paid")
        return flow

    refused(define, "visited again before it was posted or voided")


def test_a_void_after_a_failed_post_is_sound() -> None:
    flow, hold = begin()
    post, void = flow.post(hold), flow.void(hold)
    hold.created.go(post)
    post.done.end("paid")
    post.failed.go(void)
    void.done.end("not paid")
    assert flow.table()


@pytest.mark.parametrize("outside", ["wait", "call"])
def test_a_hold_with_a_time_out_before_a_step_that_may_be_unknown_is_refused(outside: str) -> None:
    def define() -> Flow:
        flow = Flow("f", version=1, input=Payout, ledger=1)
        hold = flow.hold(debit="a", credit="b", amount=1, code=1, timeout="1h")
        post = flow.post(hold)
        hold.declined.end("declined")
        if outside == "wait":
            step = flow.wait("bank")
            step.on("settled").go(post)
        else:
            step = flow.call("pay")
            step.done.go(post)
            step.refused.go(post)
            step.unknown.review("?", paid=post)
        hold.created.go(step)
        post.done.end("paid")
        return flow

    refused(define, "has a time-out", "spent twice", "Take the time-out away")


# Unknown, and time.


@pytest.mark.parametrize("target", ["void", "end", "reverse"])
@pytest.mark.parametrize("way", ["unknown", "late", "sleep"])
def test_what_is_unknown_leads_nowhere_without_evidence_or_a_person(target: str, way: str) -> None:
    def define() -> Flow:
        flow, hold = begin()
        post, void = flow.post(hold), flow.void(hold)
        first = flow.move(debit="a", credit="b", amount=1, code=1)
        back = flow.reverse(first)
        back.created.go(void)
        back.declined.go(void)
        hold.created.go(first)
        first.declined.go(void)
        to = {"void": void, "end": post, "reverse": back}[target]
        if way == "unknown":
            step = flow.call("pay")
            step.done.go(post)
            step.refused.go(back)
            step.unknown.go(to)
        else:
            step = flow.wait("bank", within="1d")
            step.on("settled").go(post)
            if way == "late":
                step.late.go(to)
            else:
                nap = flow.sleep("1d")
                step.late.go(nap)
                nap.done.go(to)
        first.created.go(step)
        post.done.end("paid")
        post.failed.end("not posted")
        void.done.end("not paid")
        return flow

    refused(define, "nothing was heard", "nothing_sent=True", "review")


def test_nothing_sent_is_a_declaration() -> None:
    flow, hold = begin()
    wait = flow.wait("delivery", within="14d", nothing_sent=True)
    post, void = flow.post(hold), flow.void(hold)
    hold.created.go(wait)
    wait.on("delivered").go(post)
    wait.late.go(void)
    post.done.end("paid")
    void.done.end("not paid")
    assert flow.table()


def test_a_review_that_is_passed_by_its_condition_is_no_person() -> None:
    def define() -> Flow:
        flow, hold = begin()
        call = flow.call("pay")
        check = flow.review("sure?", when=Payout.amount > 5)
        post, void = flow.post(hold), flow.void(hold)
        hold.created.go(call)
        call.done.go(post)
        call.refused.go(void)
        call.unknown.go(check)
        check.approved.go(void)
        check.refused.go(post)
        post.done.end("paid")
        void.done.end("not paid")
        return flow

    refused(define, "of which nothing was heard")


def test_a_step_that_finds_out_is_evidence() -> None:
    flow, hold = begin()
    pay = flow.call("pay")
    look = flow.call("look")
    post, void = flow.post(hold), flow.void(hold)
    hold.created.go(pay)
    pay.done.go(post)
    pay.refused.go(void)
    pay.unknown.go(look)
    look.done.go(post)
    look.refused.go(void)
    nap = flow.sleep("1h")
    look.unknown.go(nap)
    person = flow.review("paid?")
    person.approved.go(post)
    person.refused.go(void)
    nap.done.go(look, limit=5, otherwise=person)
    post.done.end("paid")
    void.done.end("not paid")
    assert flow.table()


# Loops and limits.


def test_a_loop_without_a_limit_is_refused() -> None:
    def define() -> Flow:
        flow = Flow("f", version=1, input=Payout, ledger=1)
        nap = flow.sleep("1d")
        again = flow.sleep("2d")
        nap.done.go(again)
        again.done.go(nap)
        return flow

    refused(define, "a loop without a limit: nap -> again -> nap", "limit=N, otherwise=step")


def test_a_limit_needs_another_way() -> None:
    def define() -> Flow:
        flow = Flow("f", version=1, input=Payout, ledger=1)
        nap = flow.sleep("1d")
        nap.done.go(nap, limit=3)
        return flow

    refused(define, "otherwise=")


def test_loops_times_steps_fit_a_sequence_number() -> None:
    def define() -> Flow:
        flow = Flow("f", version=1, input=Payout, ledger=1)
        nap = flow.sleep("1d")
        nap.done.go(nap, limit=10_000, otherwise=flow.end("over"))
        return flow

    refused(define, "rows of the journal", "lower a limit")


# Reversals.


def test_a_reversal_of_what_may_not_have_moved_is_refused() -> None:
    def define() -> Flow:
        flow = Flow("f", version=1, input=Payout, ledger=1)
        move = flow.move(debit="a", credit="b", amount=1, code=1)
        back = flow.reverse(move)
        move.created.end("moved")
        move.declined.go(back)
        back.created.end("reversed")
        back.declined.end("not reversed")
        return flow

    refused(define, "is not sure to find that 'move' has moved money")


def test_a_second_reversal_is_refused() -> None:
    def define() -> Flow:
        flow = Flow("f", version=1, input=Payout, ledger=1)
        move = flow.move(debit="a", credit="b", amount=1, code=1)
        first, second = flow.reverse(move), flow.reverse(move)
        move.created.go(first)
        move.declined.end("declined")
        for step, then in ((first, second), (second, None)):
            step.declined.end("not reversed")
            step.created.go(then) if then else step.created.end("reversed")
        return flow

    refused(define, "only after that, and once")


# What is written wrongly.


@pytest.mark.parametrize(
    ("define", "words"),
    [
        (lambda f: f.hold(debit=3, credit="b", amount=1, code=1), "debit: Expected an Account"),
        (lambda f: f.hold(debit="a", credit=Payout.amount, amount=1, code=1), "no Account"),
        (lambda f: f.move(debit="a", credit="b", amount=-1, code=1), "amount: Expected"),
        (lambda f: f.move(debit="a", credit="b", amount=Payout.wallet, code=1), "no Amount"),
        (
            lambda f: f.move(debit="a", credit="b", amount=1, code=0),
            "code: Expected a number from 1",
        ),
        (
            lambda f: f.move(debit="a", credit="b", amount=1, code=True),
            "code: Expected a number from 1",
        ),
        (lambda f: f.wait(""), "signal's name"),
        (lambda f: f.wait(":cancel"), "signal's name"),
        (lambda f: f.wait("x", within="soon") and f.table(), "as 30s, 15m, 24h, 3d"),
        (lambda f: f.sleep(0) and f.table(), "Expected a duration"),
        (lambda f: f.review("?", when=True), "condition over the input"),
        (lambda f: f.call(lambda items: items), "async function with a name"),
        (lambda f: f.call("pay", attempts=0), "attempts: Expected a number from 1"),
        (lambda f: f.chain({"debit": "a"}), "2 to 100 legs"),
        (lambda f: f.post("hold"), "post() takes a hold"),
        (lambda f: f.void(f.wait("x")), "void() takes a hold"),
        (lambda f: f.reverse(f.sleep("1d")), "reverse() takes a"),
        (lambda f: f.sleep("1d").created, "has no event created, only done"),
        (lambda f: f.wait("x").on("late"), "write .late"),
        (lambda f: f.sleep("1d").done.go("x"), "Expected a step"),
        (lambda f: f.sleep("1d").done.go(begin()[1]), "is a step of flow"),
        (lambda f: f.table(), "has no step"),
    ],
)
def test_what_is_written_wrongly_is_refused_where_it_stands(
    define: Callable[[Flow], object], words: str
) -> None:
    flow = Flow("g", version=1, input=Payout, ledger=1)
    with pytest.raises(InputError) as error:
        define(flow)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": ""}, "name of a flow"),
        ({"version": 0}, "version: Expected"),
        ({"ledger": 0}, "ledger: Expected"),
        ({"input": dict}, "class of engine.flows.Input"),
    ],
)
def test_a_flow_says_what_it_is(changes: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Flow(**({"name": "f", "version": 1, "input": Payout, "ledger": 1} | changes))


def test_a_condition_is_not_taken_for_true() -> None:
    with pytest.raises(InputError, match=r"join conditions by & \| ~"):
        assert Payout.amount > 1 and Payout.amount < 5  # noqa: PT018


def test_conditions_are_asked_of_the_input() -> None:
    condition = (Payout.amount > 10) & ~(Payout.reference == "vip") | (Payout.amount >= 100)
    written = condition.expression
    for amount, reference, expected in [
        (10, "", False),
        (11, "", True),
        (11, "vip", False),
        (100, "vip", True),
    ]:
        assert value_of(written, {"amount": amount, "reference": reference}) is expected


def test_inputs_are_typed_and_defaults_filled_in() -> None:
    struct = struct_of(Order.fields)
    values = read_input({"buyer": "a", "seller": "b", "amount": 5}, struct)
    assert values == {"buyer": "a", "seller": "b", "amount": 5, "fee": 0}
    for wrong in (
        {"buyer": "a", "seller": "b"},
        {"buyer": "a", "seller": "b", "amount": -1},
        {"buyer": "a", "seller": "b", "amount": "5"},
        {"buyer": "a", "seller": "b", "amount": 5.0},
        {"buyer": "", "seller": "b", "amount": 5},
        {"buyer": "a", "seller": "b", "amount": 5, "more": 1},
        {"buyer": "a", "seller": "b", "amount": 2**63},
    ):
        with pytest.raises(InputError):
            read_input(wrong, struct)


def test_a_field_is_of_a_type_that_can_be_kept() -> None:
    with pytest.raises(InputError, match="Expected Account, Amount, str, int, bool or UUID"):
        type("Wrong", (Input,), {"__annotations__": {"rate": float}})
    with pytest.raises(InputError, match="the flow's own id"):
        type("Wrong", (Input,), {"__annotations__": {"id": uuid.UUID}})
    with pytest.raises(InputError, match="the default"):
        type("Wrong", (Input,), {"__annotations__": {"amount": Amount}, "amount": -1})
    assert Account("a") == "a"


def test_durations() -> None:
    assert microseconds_of("24h", "x") == 86_400_000_000
    assert microseconds_of("1.5s", "x") == 1_500_000
    assert microseconds_of(2, "x") == 2_000_000
