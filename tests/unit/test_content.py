"""Forms of the chain: golden digests, which no later program may make otherwise."""

from pathlib import Path
from uuid import UUID

import numpy as np
import pytest

import engine.store
from engine.book.columns import COUNTERS, NO_POSTINGS, SPENT, Postings, SpentRows
from engine.book.content import (
    FORM,
    FORMS,
    Content,
    Letter,
    Parked,
    content_of,
    digest_of,
    digest_of_change,
    first_used,
    positions_of,
)
from engine.ledger.nouns import Position
from engine.verify.flush_contents import FlushRows, content_of_rows

PARKED = Parked(
    3, Position(0, 4, 5), Position(0, 4, 4), 77, 9, [bytes(16)], b"d" * 32, [b"json", b"{}"]
)
EMPTY = content_of([], NO_POSTINGS, {}, {}, [])


KEPT = {
    "id": 16, "debit_number": 8, "credit_number": 8, "amount": 8, "code": 2, "flags": 2, "shard": 2,
    "timeout": 4, "expires_at": 8, "pending_id": 16, "user_data_128": 16, "user_data_64": 8,
    "user_data_32": 4,
}  # fmt: skip
"""What is kept of a created transfer, and its bytes."""


def created() -> SpentRows:
    rows = np.zeros(3, SPENT)
    for name in ("id", "pending_id", "user_data_128"):
        rows[name] = np.frombuffer(bytes(range(48)), "V16")
    for name in ("debit_number", "credit_number", "amount", "shard", "expires_at"):
        rows[name] = [1, -2, 3]
    for name in ("code", "flags"):
        rows[name] = [1, 2, 65535]
    rows["timeout"] = [0, 1, 9]
    rows["user_data_64"] = np.array([0, -1, 2**63 - 1]).astype(np.uint64)
    rows["user_data_32"] = [0, 1, 2]
    return rows


def some() -> Content:
    ids = np.frombuffer(bytes(range(48)), "V16")
    numbers = np.array([1, -2, 3])
    return Content(
        [created()],
        (
            np.frombuffer(bytes(range(128)), "V128"),
            np.array([7], np.int16),
            np.array([54], np.uint8),
        ),
        (ids, numbers, numbers),
        (numbers, numbers, np.array([1, 2, 3]), *(numbers,) * 4),
        (ids, ids, np.array([1, 2, 3], np.uint8)),
        positions_of([(3, 0, 5, 6, 7), (4, 1, 2**62, 0, 9)]),
        [Letter(2, Position(0, 1, 2), "unreadable", [b"json", b"{"])],
        [PARKED],
        [(5, Position(1, 2, 3))],
    )


@pytest.mark.parametrize(
    ("form", "empty", "full"),
    [
        (
            1,
            "16f7d7f185c197029deb76de81b3c86ac70a01af8ae32cc73b59d6cd049cee87",
            "2b288bfe6347fd82f0bc2fc3fb2e894d38f86688e8779c13655c7024c9cada18",
        ),
        (
            2,
            "16f7d7f185c197029deb76de81b3c86ac70a01af8ae32cc73b59d6cd049cee87",
            "1cf00cffd9a8152157732180139aa1f96921cfbf8e09682019702596dd43e8f1",
        ),
    ],
)
def test_forms_are_what_they_were(form: int, empty: str, full: str) -> None:
    assert digest_of(EMPTY, form).hex() == empty
    assert digest_of(some(), form).hex() == full


def test_a_change_of_owner_is_what_it_was() -> None:
    assert (
        digest_of_change([3, 1], bytes(16), b"w" * 16).hex()
        == "f4e5ae28989c73beeacd3322ecfb74ca626e35897b22e684bea2f07e6640c7f6"
    )


def test_statements_that_write_a_digest_name_the_newest_form() -> None:
    folder = Path(next(iter(engine.store.__path__))) / "queries"
    texts = {path.name: path.read_text() for path in folder.rglob("*.sql")}
    writing = {name: text for name, text in texts.items() if "form, digest, seals" in text}
    assert {"fence.sql", "flush_one.sql", "flush_small.sql"} <= writing.keys()
    for name, text in writing.items():
        assert f" {FORM}, $" in text[text.index("form, digest, seals") :], name


def _altered(column: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    data = bytearray(np.ascontiguousarray(column).tobytes())
    data[0] ^= 1
    return np.frombuffer(bytes(data), column.dtype).reshape(column.shape)


@pytest.mark.parametrize("form", FORMS)
def test_every_byte_of_a_created_transfer_counts(form: int) -> None:
    seen = {digest_of(some(), form)}
    for name, width in KEPT.items():
        for byte in range(width):
            rows = created()
            at = (SPENT.fields or {})[name][1] + byte  # type: ignore[index]
            rows.view(np.uint8).reshape(3, -1)[1, at] ^= 1
            seen.add(digest_of(some()._replace(created=[rows]), form))
    assert len(seen) == 1 + sum(KEPT.values())


@pytest.mark.parametrize("form", FORMS)
def test_what_is_not_kept_of_a_created_transfer_does_not_count(form: int) -> None:
    rows = created()
    for name in ("debit_account_id", "credit_account_id"):
        rows[name] = np.frombuffer(bytes(range(48)), "V16")
    for name in ("ledger", "timestamp"):
        rows[name] = 7
    assert digest_of(some()._replace(created=[rows]), form) == digest_of(some(), form)


@pytest.mark.parametrize("form", FORMS)
def test_it_does_not_count_how_a_flush_was_decided_in_parts(form: int) -> None:
    many = np.frombuffer(np.random.default_rng(3).bytes(5000 * SPENT.itemsize), SPENT)
    whole = digest_of(some()._replace(created=[many]), form)
    for cut in (0, 1, 1024, 4999):
        parts = [many[:cut], many[cut:]]
        assert digest_of(some()._replace(created=parts), form) == whole
    assert digest_of(some()._replace(created=[many[::-1]]), form) != whole


@pytest.mark.parametrize("form", FORMS)
def test_every_column_counts(form: int) -> None:
    seen = {digest_of(some(), form)}
    columns = 0
    for section in ("refused", "postings", "stripes", "resolutions"):
        for place, column in enumerate(getattr(some(), section)):
            changed = list(getattr(some(), section))
            changed[place] = _altered(column)
            if (section, place) != ("stripes", 2):
                seen.add(digest_of(some()._replace(**{section: tuple(changed)}), form))
                columns += 1
    for place in range(5):
        positions = some().positions.copy()
        positions[1, place] ^= 1
        seen.add(digest_of(some()._replace(positions=positions), form))
    stripe, version, _, *counters = some().stripes
    otherwise = (stripe, version, np.array([1, 1, 3]), *counters)
    seen.add(digest_of(some()._replace(stripes=otherwise), form))
    assert len(seen) == 1 + columns + 5 + 1
    for letter in (
        Letter(3, Position(0, 1, 2), "unreadable", [b"json", b"{"]),
        Letter(2, Position(1, 1, 2), "unreadable", [b"json", b"{"]),
        Letter(2, Position(0, 1, 2), "unreadablej", [b"son", b"{"]),
        Letter(2, Position(0, 1, 2), "unreadable", [b"json{"]),
    ):
        assert digest_of(some()._replace(letters=[letter]), form) not in seen


def test_all_of_what_waits_counts_in_form_two() -> None:
    seen = {digest_of(some())}
    alterations: list[dict[str, object]] = [
        {"shard": 4}, {"position": Position(1, 4, 5)}, {"original": None},
        {"original": Position(0, 4, 3)}, {"freeze": 78}, {"size": 10}, {"ids": []},
        {"ids": [b"\1" * 16]}, {"digest": b"e" * 32}, {"fields": [b"json{}"]}, {"fields": []},
    ]  # fmt: skip
    for altered in alterations:
        seen.add(digest_of(some()._replace(parked=[PARKED._replace(**altered)])))  # type: ignore[arg-type]
    for released in ([], [(4, Position(1, 2, 3))], [(5, Position(1, 2, 4))]):
        seen.add(digest_of(some()._replace(released=released)))
    assert len(seen) == 1 + len(alterations) + 3
    assert len({digest_of(some()._replace(parked=some().parked * n), 1) for n in range(3)}) == 1


def test_letters_and_positions_are_in_an_order_of_their_own() -> None:
    letters = [Letter(s, Position(0, s, 0), "r", []) for s in (2, 1)]
    assert digest_of(EMPTY._replace(letters=letters)) == digest_of(
        EMPTY._replace(letters=letters[::-1])
    )
    at, times = {5: Position(0, 1, 1), 2: Position(0, 2, 2)}, {5: 9, 2: 8}
    assert content_of([], NO_POSTINGS, at, times, []).positions[:, 0].tolist() == [2, 5]


def test_postings_are_the_same_in_whatever_runs_they_are() -> None:
    def cut(*ends: int) -> Postings:
        last = np.array(ends)
        counters = np.stack([last * 10] * 4)
        return Postings(
            np.frombuffer(bytes(range(64)), "V16"), *(np.arange(4),) * 2, np.zeros(4, bool),
            last, np.full(len(ends), 5 * 1024), last, counters,
        )  # fmt: skip

    whole, halves = cut(4), cut(1, 4)
    for form in FORMS:
        one, two = (digest_of(content_of([], each, {}, {}, []), form) for each in (whole, halves))
        assert one == two
    assert first_used(whole) == first_used(halves) == [5]


def test_runs_of_a_stripe_that_do_not_follow_each_other_are_of_no_flush() -> None:
    def run(place: int, stripe: int, version: int) -> dict[str, object]:
        counters = dict.fromkeys(COUNTERS, 0)
        row = {"place": place, "stripe": stripe, "version": version, "transfer_id": UUID(int=place)}
        earlier = dict.fromkeys(("earlier_transfers", "earlier_amounts", "earlier_pending"))
        return {**row, **counters, **earlier, "amount": 1, "pending_amount": 0}

    def is_whole(*posted: dict[str, object]) -> bool:
        content, _ = content_of_rows(FlushRows([], posted, [], [], [], []))
        return content is not None

    assert is_whole(run(0, 1024, 7), run(1, 1024, 8), run(2, 2048, 1))
    assert not is_whole(run(0, 1024, 6), run(1, 1024, 8), run(2, 2048, 1))
    assert not is_whole(run(0, 1024, 7), run(1, 2048, 1), run(2, 1024, 8))
