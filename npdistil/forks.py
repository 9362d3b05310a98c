"""A fork waits while another thread imports or loads: in the new process nobody would ever end what it had begun.

Python's own locks for imports, and those of the libraries that read tokenizers and files of weights, stay locked in a
process that is forked while another thread holds them. So such work is done inside of one lock, which a fork takes
before it forks.
"""

import os
from _thread import RLock  # the real one, whatever libraries of green threads put in its place
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

Given = ParamSpec("Given")
Made = TypeVar("Made")
LONGEST = 60.0  # seconds that a fork waits: whoever loads may itself wait for something that the forking thread holds
loading = RLock()
_held: list[bool] = []  # by the forks that are under way, one in another


def loads(work: Callable[Given, Made]) -> Callable[Given, Made]:
    """A function whose calls no fork divides."""

    @wraps(work)
    def whole(*given: Given.args, **named: Given.kwargs) -> Made:
        with loading:
            return work(*given, **named)

    return whole


def _before() -> None:
    _held.append(loading.acquire(timeout=LONGEST))


def _after() -> None:
    if _held.pop():
        loading.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after)
