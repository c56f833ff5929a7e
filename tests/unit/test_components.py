"""What hangs together is found in few rounds, whatever the ties look like."""

import random
from itertools import pairwise

import numpy as np
import pytest

from engine.deciding import components
from engine.deciding.components import find_components


def naive(count: int, ties: list[tuple[int, int]]) -> list[int]:
    label = list(range(count))
    changed = True
    while changed:
        changed = False
        for here, there in ties:
            least = min(label[here], label[there])
            if (label[here], label[there]) != (least, least):
                label[here] = label[there] = least
                changed = True
    return label


def found(count: int, ties: list[tuple[int, int]]) -> list[int]:
    here = np.array([a for a, _ in ties], np.int64)
    there = np.array([b for _, b in ties], np.int64)
    return find_components(count, here, there).tolist()


@pytest.mark.parametrize("rounds_max", [0, 1, components.ROUNDS_MAX])
def test_components_are_those_of_a_naive_search(monkeypatch, rounds_max: int) -> None:
    """Also where rounds do not suffice and the last ties are gone through one by one."""
    monkeypatch.setattr(components, "ROUNDS_MAX", rounds_max)
    for seed in range(200):
        draw = random.Random(seed)
        count = draw.randint(1, 40)
        ties = [
            (draw.randrange(count), draw.randrange(count)) for _ in range(draw.randint(0, count))
        ]
        assert found(count, ties) == naive(count, ties), seed


@pytest.mark.parametrize("shape", ["forwards", "backwards", "zigzag", "shuffled", "star", "combs"])
def test_a_path_of_any_shape_takes_few_rounds(monkeypatch, shape: str) -> None:
    """None is left to be gone through one by one."""
    count = 8188
    places = list(range(count))
    if shape == "backwards":
        places.reverse()
    elif shape == "zigzag":
        places = [n // 2 if n % 2 else count - 1 - n // 2 for n in range(count)]
    elif shape == "shuffled":
        random.Random(1).shuffle(places)
    ties = list(pairwise(places))
    if shape == "star":
        ties = [(count - 1, n) for n in range(count - 1)]
    elif shape == "combs":
        ties = [(n, n - n % 64 + 63) for n in range(count - 64)]
        ties += [(n, n + 64) for n in range(63, count - 128, 64)]
    monkeypatch.setattr(components, "_one_by_one", None)
    label = found(count, ties)
    assert label == naive(count, ties) if shape == "star" else len(set(label)) <= 128
