"""What hangs together, over any number of ties: connected components in columns."""

from typing import Final

import numpy as np

from engine.deciding.batch import Ints

ROUNDS_MAX: Final = 32
"""Each round nearly always leaves at most half of the components; ties on which it does not are
gone through one by one."""


def find_components(count: int, here_end: Ints, there_end: Ints) -> Ints:
    """Of each of `count` places, the first of all that hang together with it.

    In each round every component takes the name of the least of its neighbours, and names are
    followed to their end by doubling; so a path of n ties takes about log n rounds, not n.

    Args:
        count: How many places there are.
        here_end: Of each tie, the place at one end.
        there_end: Of each tie, the place at its other end.
    """
    label = np.arange(count)
    for _ in range(ROUNDS_MAX):
        here, there = label[here_end], label[there_end]
        apart = here != there
        if not apart.any():
            return label
        here_end, there_end = here_end[apart], there_end[apart]
        here, there = here[apart], there[apart]
        np.minimum.at(label, np.maximum(here, there), np.minimum(here, there))
        label = _follow(label)
    return _one_by_one(label, here_end, there_end)


def _follow(label: Ints) -> Ints:
    """Every name followed to its end."""
    while True:
        further = label[label]
        if np.array_equal(further, label):
            return label
        label = further


def _one_by_one(label: Ints, here_end: Ints, there_end: Ints) -> Ints:
    names = label.tolist()

    def end_of(place: int) -> int:
        while names[place] != place:
            names[place] = names[names[place]]
            place = names[place]
        return place

    for here, there in zip(here_end.tolist(), there_end.tolist(), strict=True):
        ends = end_of(here), end_of(there)
        names[max(ends)] = min(ends)
    return _follow(np.array(names, np.int64))
