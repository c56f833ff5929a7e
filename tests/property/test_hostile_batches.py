"""Batches made to be slow: decided as the rules decide them, and in few steps.

Steps are counted, not timed: a batch may take a few passes over its columns, never one a request.
"""

import random
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from engine.book import id_table
from engine.book.id_table import IdTable, hash_words, key_hashes
from engine.deciding import components, decider, dependents, limits, sorting
from engine.ledger.nouns import AMOUNT_MAX, ID_ZERO, Transfer, TransferFlags
from engine.ledger.outcomes import Outcome
from engine.ledger.page import Account
from tests.comparing import compare
from tests.property.test_columns_at_the_edge import LIMITED, PENDING, POST, account, decide, move
from tests.worlds import Profile, World

COUNT = 8188
PASSES_MAX = 200
"""Over the columns of a batch, of all kinds that are counted."""


@pytest.fixture
def keyed() -> Iterator[None]:
    """Hashes have the key that they had, afterwards."""
    before = id_table._key.tobytes()
    yield
    key_hashes(before)


class Passes:
    """Counts how often some functions are called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        for holder, name in (
            (components, "_follow"),
            (dependents, "find_components"),
            (sorting.Forms, "whole"),
            (limits._Side, "refused"),
            (sorting.Sorter, "sort_batch"),
            (decider, "run_rules"),
        ):
            monkeypatch.setattr(holder, name, self._counted(getattr(holder, name)))
        monkeypatch.setattr(components, "_one_by_one", None)

    def _counted(self, function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.count += 1
            return function(*args, **kwargs)

        return call


def resolution(number: int, hold: int) -> Transfer:
    return Transfer(
        id=number.to_bytes(16, "big"),
        pending_id=hold.to_bytes(16, "big"),
        debit_account_id=ID_ZERO,
        credit_account_id=ID_ZERO,
        amount=AMOUNT_MAX,
        flags=POST,
    )


def path_of_posts() -> tuple[list[Account], list[Transfer]]:
    """Each posts the one before it, which is no hold but for the first."""
    first = move(1, 1, 2, 10, PENDING)
    posts = [resolution(number, hold=number - 1) for number in range(2, COUNT + 1)]
    return [account(1), account(2)], [first, *posts]


def path_of_accounts() -> tuple[list[Account], list[Transfer]]:
    """Each spends what the one before it brought; the first is for the rules."""
    accounts = [account(number, LIMITED if number > 1 else 0) for number in range(1, COUNT + 2)]
    moves = [move(number, number, number + 1, 10) for number in range(2, COUNT + 1)]
    return accounts, [move(1, 1, 2, 10, int(TransferFlags.balancing_credit)), *moves]


def path_backwards() -> tuple[list[Account], list[Transfer]]:
    """As before, but what each spends comes after it; the rules' reach is as long."""
    accounts, moves = path_of_accounts()
    return accounts, [moves[0], *moves[:0:-1]]


def path_of_repeats() -> tuple[list[Account], list[Transfer]]:
    """Holds and posts of two ids each: a post repeats one before, of another hold."""
    transfers = []
    for number in range(COUNT // 2):
        transfers += [move(2 * number, 1, 2, 1, PENDING), resolution(2 * number, 2 * number + 2)]
    return [account(1), account(2)], transfers


@pytest.mark.parametrize("path", [path_of_posts, path_of_accounts, path_backwards, path_of_repeats])
def test_a_path_of_eight_thousand_is_decided_in_few_passes(monkeypatch, path) -> None:
    accounts, transfers = path()
    passes = Passes(monkeypatch)
    decide(accounts, (0, transfers))
    assert 0 < passes.count <= PASSES_MAX


@pytest.mark.parametrize("rounds_max", [0, 1])
def test_what_hangs_together_at_once_is_what_rounds_find(monkeypatch, rounds_max: int) -> None:
    """The rules take along as much where they take it at once as where they go step by step."""
    monkeypatch.setattr(dependents, "ROUNDS_MAX", rounds_max)
    for seed in range(40):
        profile = Profile(accounts=12, limited=0.8, special=0.3, amount_max=9, linked=0.1)
        try:
            compare(World(random.Random(seed), profile), steps=8, size=40)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}") from error


def colliding(secret: bytes) -> list[bytes]:
    """Ids that whoever knows the key can make: each product is zero, whatever its other half."""
    keys = np.frombuffer(secret, np.uint32)
    ids = np.zeros((COUNT, 4), np.uint32)
    ids[:, 0], ids[:, 2] = keys[0], keys[2]
    ids[:, 1] = np.arange(COUNT)
    ids[:, 3] = 7
    return [row.tobytes() for row in ids]


def steps(ids: list[bytes]) -> int:
    """The longest way to an id that is not there, in a table of the others."""
    words = np.frombuffer(b"".join(ids), np.uint64).reshape(-1, 2)
    table = IdTable(len(words))
    table.add(words)
    taken = table._places != id_table._EMPTY
    lengths = np.diff(np.flatnonzero(np.concatenate([[True], ~taken, [True]])))
    return int(lengths.max())


def test_ids_made_to_collide_do_not_under_the_key_of_another_process(keyed) -> None:
    known, secret = b"0123456789abcdef", b"fedcba9876543210"
    ids = colliding(known)
    words = np.frombuffer(b"".join(ids), np.uint64).reshape(-1, 2)
    key_hashes(known)
    assert len(np.unique(hash_words(words))) == 1
    assert steps(ids) > COUNT
    key_hashes(secret)
    assert len(np.unique(hash_words(words))) == COUNT
    assert steps(ids) < 300
    transfers = [
        Transfer(one, bytes(15) + b"\1", bytes(15) + b"\2", 1, ledger=1, code=1) for one in ids
    ]
    ((*outcomes,),) = decide([account(1), account(2)], (0, transfers))
    assert outcomes == [Outcome.created] * COUNT


def test_ids_that_collided_before_hashes_had_keys_do_not_collide(keyed) -> None:
    """One word undone the other, whatever the other was."""
    mix_high, mix_low = 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F
    inverse = pow(mix_high, -1, 2**64)
    pairs = [((low * mix_low % 2**64) * inverse % 2**64, low) for low in range(1, COUNT + 1)]
    words = np.array(pairs, np.uint64)
    for number in range(20):
        key_hashes(np.random.default_rng(number).bytes(16))
        hashes = hash_words(words)
        assert len(np.unique(hashes)) == COUNT
        crowd = np.bincount((hashes & np.uint64(0x3FFF)).astype(np.int64)).max()
        assert crowd < 20


def test_every_process_has_a_key_of_its_own() -> None:
    """Importing what makes workers is enough."""
    code = "import engine.worker.worker, engine.book.id_table as t;print(t._key.tobytes().hex())"
    keys = {
        subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True
        ).stdout
        for _ in range(2)
    }
    assert len(keys) == 2
