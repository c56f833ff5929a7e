"""Forms of the chain: golden digests, which no later program may make otherwise."""

import numpy as np

from engine.book.columns import NO_POSTINGS, Postings
from engine.book.content import (
    Content,
    Letter,
    Parked,
    content_of,
    digest_of,
    digest_of_change,
    first_used,
    positions_of,
    postings_of,
)
from engine.ledger.nouns import Position

PARKED = Parked(
    3, Position(0, 4, 5), Position(0, 4, 4), 77, 9, [bytes(16)], b"d" * 32, [b"json", b"{}"]
)
EMPTY = content_of([], NO_POSTINGS, {}, {}, [])


def some() -> Content:
    ids = np.frombuffer(bytes(range(48)), "V16")
    numbers = np.array([1, -2, 3])
    return Content(
        (ids, *(numbers,) * 3, *(np.array([1, 2, 65535]),) * 2, numbers, np.array([0, 1, 9]),
         numbers, ids, ids, np.array([0, -1, 2**63 - 1]), np.array([0, 1, 2])),
        (np.frombuffer(bytes(range(128)), "V128"), np.array([7]), np.array([54])),
        (ids, numbers, numbers, numbers, numbers),
        (*(numbers,) * 5,),
        (ids, ids, np.array([1, 2, 3], np.uint8)),
        positions_of([(3, 0, 5, 6, 7), (4, 1, 2**62, 0, 9)]),
        [Letter(2, Position(0, 1, 2), "unreadable", [b"json", b"{"])],
        [PARKED],
        [(5, Position(1, 2, 3))],
    )  # fmt: skip


def test_form_one_is_what_it_was() -> None:
    assert (
        digest_of(EMPTY, 1).hex()
        == "16f7d7f185c197029deb76de81b3c86ac70a01af8ae32cc73b59d6cd049cee87"
    )
    assert (
        digest_of(some(), 1).hex()
        == "2b288bfe6347fd82f0bc2fc3fb2e894d38f86688e8779c13655c7024c9cada18"
    )
    assert (
        digest_of_change([3, 1], bytes(16), b"w" * 16).hex()
        == "f4e5ae28989c73beeacd3322ecfb74ca626e35897b22e684bea2f07e6640c7f6"
    )


def test_every_column_counts() -> None:
    seen = {digest_of(some())}
    for section, columns in enumerate(some()[:6]):
        for place, column in enumerate(columns):
            altered = bytearray(np.ascontiguousarray(column).tobytes())
            altered[0] ^= 1
            changed = list(columns)
            changed[place] = np.frombuffer(bytes(altered), column.dtype)
            seen.add(digest_of(some()._replace(**{Content._fields[section]: tuple(changed)})))
    assert len(seen) == 1 + sum(len(columns) for columns in some()[:6])
    for letter in (
        Letter(3, Position(0, 1, 2), "unreadable", [b"json", b"{"]),
        Letter(2, Position(1, 1, 2), "unreadable", [b"json", b"{"]),
        Letter(2, Position(0, 1, 2), "unreadablej", [b"son", b"{"]),
        Letter(2, Position(0, 1, 2), "unreadable", [b"json{"]),
    ):
        assert digest_of(some()._replace(letters=[letter])) not in seen


def test_form_two_is_what_it_was() -> None:
    assert (
        digest_of(EMPTY, 2).hex()
        == "6b5ebda810f46d5d5f2d8bd5e8354c4d376a98b95ca3cfb2d4444ad675737c8e"
    )
    assert (
        digest_of(some(), 2).hex()
        == "979ce433dfbd270d3cfe71a3db27519dab2525278dff54cfd7ad845f7d37fa21"
    )


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
    assert content_of([], NO_POSTINGS, at, times, []).positions[0].tolist() == [2, 5]


def test_postings_are_the_same_in_whatever_runs_they_are() -> None:
    def cut(*ends: int) -> Postings:
        last = np.array(ends)
        counters = np.stack([last * 10] * 4)
        return Postings(
            np.frombuffer(bytes(range(64)), "V16"), *(np.arange(4),) * 2, np.zeros(4, bool),
            last, np.full(len(ends), 5 * 1024), last, counters,
        )  # fmt: skip

    whole, halves = cut(4), cut(1, 4)
    assert [column.tolist() for column in postings_of(whole)] == [
        column.tolist() for column in postings_of(halves)
    ]
    one, two = (digest_of(content_of([], each, {}, {}, [])) for each in (whole, halves))
    assert one == two
    assert first_used(whole) == first_used(halves) == [5]
