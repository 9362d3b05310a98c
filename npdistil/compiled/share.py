"""How threads share out work inside a forward: they claim items, and wait for items to be done.

Every stage of a forward has two counters, of items claimed and of items done. Nobody waits for a thread to arrive: one
that comes late finds less to claim, and one that never comes is not missed, so nothing can deadlock: not with fewer
cores than threads, not after a fork. What is waited for is an item that another thread has claimed and not finished. A
thread working alone runs through the same code with counters of its own. `stage` is the address of a stage's counters,
which are zero before the first claim.
"""

from collections.abc import Iterator

from .layout import DONE, STAGE
from .simd import fetch_add, kernel, load_acquire, nanoseconds, pause, set_int, sleep

# How a thread waits. By the clock, for how long a pause or an offer takes differs by ten times among processors.
PAUSING = 30_000  # nanoseconds before the core is offered to others
OFFERING = 2_000_000  # nanoseconds of that before the thread sleeps
SLEEP = 50  # microseconds at a time
TURNS = 64  # pauses, offers or sleeps between two looks at the clock
ROWS = 4  # rows that are claimed at a time


@kernel
def claimed(stage: int, items: int) -> Iterator[int]:
    """The items of a stage that this thread gets; they count as done, all at once, when it asks and none is left."""
    done = 0
    while True:
        item = fetch_add(stage, 1)
        if item >= items:
            break
        yield item
        done += 1
    if done:
        fetch_add(stage + DONE, done)


@kernel
def wait(stage: int, items: int) -> None:
    """Return once all items of a stage are done; what was written for them can be read then."""
    turns = start = waited = 0
    while load_acquire(stage + DONE) < items:
        if waited < PAUSING:
            pause()
        elif waited < PAUSING + OFFERING:
            sleep(0)
        else:
            sleep(SLEEP)
        turns += 1
        if turns % TURNS == 0:
            now = nanoseconds()
            if turns == TURNS:  # time counts from the first look on, so a short wait never asks what time it is
                start = now
            waited = now - start


@kernel
def shared(stage: int, items: int) -> Iterator[int]:
    """As `claimed`, and ends only once all items of the stage are done, whoever does them."""
    for item in claimed(stage, items):  # noqa: UP028 - numba has no `yield from`
        yield item
    wait(stage, items)


@kernel
def shared_rows(stage: int, rows: int) -> Iterator[int]:
    """As `shared`, row by row."""
    for item in shared(stage, (rows + ROWS - 1) // ROWS):
        for row in range(item * ROWS, min(item * ROWS + ROWS, rows)):  # noqa: UP028
            yield row


@kernel
def reset(stage: int, stages: int) -> None:
    """Start counters of a thread's own work from 0."""
    for i in range(stages):
        set_int(stage + i * STAGE, 0)
        set_int(stage + i * STAGE + DONE, 0)
