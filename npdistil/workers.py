"""Batches beside each other: each of a model's threads runs some by itself, so that none waits for another.

Two batches on a thread each are done sooner than one after the other on both, where the threads wait for each other
between the steps of a forward, and for whoever makes tokens and answers. Results have the same bits either way.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from .forks import loading

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from .model import Model

Batch = TypeVar("Batch")
Result = TypeVar("Result")


class Workers:
    """Threads for the batches of one caller, who stops them when it needs no more.

    Args:
        model: whose threads they stand for.

    Attributes:
        busy: whether batches may be under way.
    """

    def __init__(self, model: "Model") -> None:
        self.model = self.alone = model
        self._pool: ThreadPoolExecutor | None = None

    @property
    def busy(self) -> bool:
        """See above."""
        return self._pool is not None

    def begin(self, run: Callable[[Any, Batch], Result], batches: Sequence[Batch]) -> Iterator[Result]:
        """What `run(model, batch)` gives for each, in order.

        It is begun now. Or the caller does it, with each result and on all threads: where there is one thread or one
        batch, and where the system gives no more threads.
        """
        if self.model.threads > 1 and len(batches) > 1:
            if self._pool is None:
                with loading:
                    from concurrent.futures import ThreadPoolExecutor
                self._pool = ThreadPoolExecutor(self.model.threads, "npdistil-batches")
                self.alone = self.model.on_one_thread()
            try:
                futures = [self._pool.submit(run, self.alone, batch) for batch in batches]
            except RuntimeError:
                self.stop()
            else:
                return (future.result() for future in futures)
        return map(partial(run, self.model), batches)

    def stop(self) -> None:
        """Have them leave what they are at, within a fraction of a second; who begins again gets others."""
        pool, self._pool = self._pool, None
        if pool:
            self.alone.cancel()
            pool.shutdown(cancel_futures=True)
