"""How threads share out work inside a forward: they claim items and wait for items, never for each other.

Every stage of a forward has two counters, of items claimed and of items done. A thread that arrives late finds less
to claim, and one that never arrives is not missed, so nothing can deadlock: not with fewer cores than threads, not
after a fork. A thread working alone runs through the same code with counters of its own.
"""

from .layout import DONE, LINE
from .simd import fetch_add, get_shared, kernel, pause, set_int, sleep

SPINS = 20000  # pauses before the core is offered to others: some 0.5 ms
YIELDS = 100  # offers before the thread sleeps


@kernel
def claim(stage: int) -> int:
    """The number of an item that nobody else has, possibly beyond the last; `stage` is the counters' address."""
    return fetch_add(stage, 1)


@kernel
def report(stage: int, items: int) -> None:
    """Say that so many claimed items are done."""
    if items:
        fetch_add(stage + DONE, items)


@kernel
def wait(stage: int, items: int) -> None:
    """Return once all items of a stage are done; what was written for them can be read then."""
    turns = 0
    while get_shared(stage + DONE) < items:
        turns += 1
        if turns < SPINS:
            pause()
        elif turns < SPINS + YIELDS:
            sleep(0)
        else:
            sleep(50)


@kernel
def reset(stage: int, stages: int) -> None:
    """Start counters of a thread's own work from 0."""
    for i in range(stages):
        set_int(stage + i * LINE, 0)
        set_int(stage + i * LINE + DONE, 0)
