import json

import msgspec
import numpy as np
import pytest

from engine.errors import InputError, InvariantBroken
from engine.ledger.nouns import Transfer
from engine.ledger.outcomes import Outcome
from engine.wire.answers import decode_answer, encode_answer, encode_error
from engine.wire.layout import transfers_to_rows
from engine.wire.requests import Format, Request, UnreadableEntry

ZERO = Transfer(id=bytes(16), debit_account_id=bytes(16), credit_account_id=bytes(16), amount=0)
THREE = [Outcome.created, Outcome.exists, Outcome.exceeds_credits]


def asked(form: Format, count: int, request: bytes | None = b"r1") -> Request:
    return Request(transfers_to_rows([ZERO] * count), form, b"engine:answers:1", request)


def outcomes(numbers: list[int]) -> np.ndarray:
    return np.array(numbers, np.uint8)


@pytest.mark.parametrize(
    ("form", "packed"),
    [
        (Format.json, b'["created","exists","exceeds_credits"]'),
        (Format.mp, b"\x93\x00\x2e\x36"),
        (Format.bin, b"\x00\x2e\x36"),
    ],
)
def test_outcomes_are_written_in_the_format_asked_in(form, packed) -> None:
    answer = encode_answer(asked(form, 3), outcomes(THREE))
    assert answer == {b"request": b"r1", b"outcomes": packed}


def test_json_and_mp_answers_are_plain_json_and_messagepack() -> None:
    every = list(Outcome)
    names = encode_answer(asked(Format.json, len(every)), outcomes(every))[b"outcomes"]
    assert json.loads(names) == [outcome.name for outcome in every]
    numbers = encode_answer(asked(Format.mp, len(every)), outcomes(every))[b"outcomes"]
    assert msgspec.msgpack.decode(numbers) == [int(outcome) for outcome in every]


@pytest.mark.parametrize("form", list(Format))
def test_every_outcome_comes_back(form) -> None:
    every = list(Outcome)
    answer = decode_answer(encode_answer(asked(form, len(every)), outcomes(every)), form)
    assert answer.outcomes.tolist() == every
    assert answer.outcomes.dtype == np.uint8
    assert (answer.request, answer.error) == (b"r1", None)


@pytest.mark.parametrize(
    ("form", "packed"), [(Format.json, b"[]"), (Format.mp, b"\x90"), (Format.bin, b"")]
)
def test_an_empty_batch_gets_an_empty_answer(form, packed) -> None:
    fields = encode_answer(asked(form, 0), outcomes([]))
    assert fields[b"outcomes"] == packed
    assert decode_answer(fields, form).outcomes.tolist() == []


def test_request_is_echoed_only_when_it_was_given() -> None:
    assert encode_answer(asked(Format.bin, 0, None), outcomes([])) == {b"outcomes": b""}
    assert encode_answer(asked(Format.bin, 0, b""), outcomes([])) == {
        b"request": b"",
        b"outcomes": b"",
    }


@pytest.mark.parametrize("form", list(Format))
@pytest.mark.parametrize(
    "wrong",
    [
        outcomes([0]),
        outcomes([0, 0, 0]),
        outcomes([0, 255]),
        np.array([0, 0], np.int64),
    ],
    ids=["one too few", "one too many", "without a name", "not bytes"],
)
def test_outcomes_that_do_not_fit_the_request_break_an_invariant(form, wrong) -> None:
    with pytest.raises(InvariantBroken):
        encode_answer(asked(form, 2), wrong)


@pytest.mark.parametrize("form", list(Format))
def test_an_error_comes_back_as_its_reason(form) -> None:
    fields = encode_error(UnreadableEntry("truncated: é", b"engine:answers:1", b"r1", form))
    assert fields == {b"request": b"r1", b"error": "truncated: é".encode()}
    answer = decode_answer(fields, form)
    assert (answer.request, answer.outcomes, answer.error) == (b"r1", None, "truncated: é")


@pytest.mark.parametrize(
    ("form", "fields"),
    [
        (Format.json, {}),
        (Format.json, {b"outcomes": b""}),
        (Format.json, {b"outcomes": b"[0]"}),
        (Format.json, {b"outcomes": b'["unheard_of"]'}),
        (Format.json, {b"outcomes": b'["\xff"]'}),
        (Format.mp, {b"outcomes": b""}),
        (Format.mp, {b"outcomes": b"\x91\xcd\x01\x00"}),
        (Format.mp, {b"outcomes": b"\x91\xff"}),
        (Format.mp, {b"outcomes": b"\x91\xcc\xff"}),
        (Format.bin, {b"outcomes": b"\xff"}),
    ],
)
def test_what_is_no_answer_is_refused(form, fields) -> None:
    with pytest.raises(InputError):
        decode_answer(fields, form)
