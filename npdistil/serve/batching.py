"""Texts of many requests run together: whatever has come while the engine was busy makes its next batch."""

import asyncio
import math
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import cache, partial
from itertools import islice
from time import perf_counter
from typing import Any, TypeAlias

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from ..batch import Inputs, Outputs
from ..distilbert.encoder import Array
from ..errors import InputError, NpdistilError

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
COUNTS = tuple(2**n for n in range(17))
TURN = 1024  # tokens of a request that run before others have their turn
SHARED = 256  # tokens of a batch from which on it gains by more threads than one
LOCK = threading.Lock  # the system's, or what was in its place when this was imported
QUIET = 1.0  # seconds without two batches at once, after which such a batch has all threads


class OverloadedError(NpdistilError):
    """The queue is full."""


class UnavailableError(NpdistilError):
    """The queue does not run."""


class Metrics:
    """What `GET /metrics` tells, in a registry of its own, so that several services fit in one process."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        seconds = partial(Histogram, registry=registry, buckets=SECONDS)
        sizes = partial(Histogram, registry=registry, buckets=COUNTS)
        about = "POST requests that were let in, by endpoint and HTTP status"
        self.requests = cache(counter("npdistil_requests", about, ["endpoint", "status"]).labels)
        about = "From a request's head to its answer"
        self.seconds = cache(seconds("npdistil_request_seconds", about, ["endpoint"]).labels)
        self.texts = counter("npdistil_texts", "Texts that were run; windows and variants count each")
        self.tokens = counter("npdistil_tokens", "Tokens that were run")
        self.queue_texts = gauge("npdistil_queue_texts", "Texts that wait")
        self.queue_tokens = gauge("npdistil_queue_tokens", "Tokens that wait")
        self.batch_texts = sizes("npdistil_batch_texts", "Texts of a batch")
        self.batch_tokens = sizes("npdistil_batch_tokens", "Tokens of a batch")
        self.tokenize_seconds = seconds("npdistil_tokenize_seconds", "To tokenize a request's texts")
        self.queue_seconds = seconds("npdistil_queue_seconds", "That a request waits for its first text to run")
        self.inference_seconds = seconds("npdistil_inference_seconds", "Of a batch")


@dataclass
class Spent:
    """What a request has cost: seconds, and what was read of it."""

    tokenization: float = 0.0
    queue: float = 0.0
    inference: float = 0.0
    characters: int = 0
    tokens: int = 0


SPENT: ContextVar[Spent | None] = ContextVar("SPENT", default=None)  # of the request that is being answered

Make: TypeAlias = Callable[[Outputs], list[Any]]  # an answer for each item


@dataclass(eq=False)
class Queued:
    """The sequences of one request, some of which may have run.

    Attributes:
        inputs: what is asked about them.
        make: what makes answers of what the model says; None: that is the answer.
        answer: what the request waits for.
        arrived: when, by `perf_counter`.
        began: when its first sequence ran.
        started: how many of the sequences are no longer in the queue.
        turn: tokens that have run in its turn.
        values: what the model said of those that have run, by their places.
    """

    inputs: Inputs
    make: Make | None
    answer: "asyncio.Future[Any]"
    arrived: float = field(default_factory=perf_counter)
    began: float = 0.0
    started: int = 0
    turn: int = 0
    values: dict[int, Array] = field(default_factory=dict)

    @property
    def left(self) -> int:
        """Tokens that are in the queue."""
        return sum(map(len, self.inputs.token_ids[self.started :]))


Slice: TypeAlias = tuple[Queued, int, int]  # of a request the sequences from the first to before the last


_batchers: "weakref.WeakSet[Batcher]" = weakref.WeakSet()


def _forked() -> None:
    """In a forked process: one of the threads that are not there may have held a lock, and nobody waits for answers."""
    for batcher in _batchers:
        batcher.changed = threading.Condition()
        batcher.waiting, batcher.threads = deque(), []
        batcher.texts = batcher.tokens = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


class Batcher:
    """A model's forward behind a queue, and threads that run it, batch by batch.

    Batches hold whole sequences that the same is asked about, and are bounded by tokens; attention, which is slow, is
    given for one sequence at a time. A batch begins with the request that came first, and goes on with those behind it
    that ask the same. Where others wait, a request has one turn in it, which is a number of tokens, and then goes
    behind them: most requests have fewer, and a large one makes the others wait for no more than its turns. As no
    result depends on its batch, nothing of this can be seen in the answers. A thread takes no more than its share of
    what waits, or one request, so that all end at about the same time; where batches are gathered, it takes a full one.
    The threads take their batches by themselves: the event loop may be busy with requests, and the engine does not wait
    for it. They start with the first request, after a fork too, and serve any number of event loops.

    Under load each thread runs its batch alone, so that none waits for another that the event loop or another batch has
    taken the CPU from; a large batch when no two were to be run for a while is shared among the engine's threads.

    Args:
        forward: of the model, on all threads of its engine.
        alone: the same, on the thread that calls it.
        threads: how many run batches.
        batch_tokens: of a batch at most; a longer sequence is a batch of its own.
        queue_tokens: that may wait; when they do, `run` refuses.
        gather_seconds: that a request waits for company at most, unless the batch is full.
        metrics: where it counts.
    """

    def __init__(
        self,
        forward: Callable[[Inputs], Outputs],
        alone: Callable[[Inputs], Outputs],
        threads: int,
        batch_tokens: int,
        queue_tokens: int,
        gather_seconds: float,
        metrics: Metrics,
    ) -> None:
        self.forward, self.alone = forward, alone
        self.batch_tokens = batch_tokens
        self.queue_tokens = queue_tokens
        self.gather_seconds = gather_seconds
        self.metrics = metrics
        self.changed = threading.Condition()  # of all below
        self.waiting: deque[Queued] = deque()
        self.texts = self.tokens = 0  # in the queue
        metrics.queue_texts.set_function(lambda: self.texts)
        metrics.queue_tokens.set_function(lambda: self.tokens)
        self.most_threads = threads
        self.threads: list[threading.Thread] = []
        self.running = 0  # batches
        self.crowded = -math.inf  # when there was more to run than one batch, by `perf_counter`
        self.delivered = -math.inf  # when the last batch was, by `perf_counter`
        _batchers.add(self)

    async def run(self, inputs: Inputs, make: Make | None = None) -> Any:
        """What the model says of these sequences, as its `forward`. Cancelled, it gives back its place in the queue.

        With `make`, what that makes of it: an answer for each item. Its context has to be a list with something for
        each item, as it is called once for all requests that are ready at the same time and have the same `make`.

        Raises:
            OverloadedError: at once, if the queue is full.
            InputError: a sequence without tokens.
            UnavailableError: there is no thread, and none can be started.
            Exception: as `make`.
        """
        if not inputs.token_ids:
            nothing = Outputs(inputs, [])
            return make(nothing) if make else nothing
        tokens = sum(map(len, inputs.token_ids))
        if not all(map(len, inputs.token_ids)):
            raise InputError("a text has no tokens")  # the engine would refuse the whole batch
        queued = Queued(inputs, make, asyncio.get_running_loop().create_future())
        with self.changed:
            self.check_capacity(tokens)
            self.start()
            self._count(len(inputs.token_ids), tokens)
            self.waiting.append(queued)
            self.changed.notify()
        try:
            answer = await queued.answer
        except asyncio.CancelledError:
            self._forget(queued)
            raise
        if spent := SPENT.get():
            spent.tokens += tokens
            spent.queue += queued.began - queued.arrived
            spent.inference += perf_counter() - queued.began
        return answer

    def check_capacity(self, tokens: int) -> None:
        """OverloadedError unless so many more tokens may wait."""
        if self.tokens + max(tokens, 1) > self.queue_tokens:
            raise OverloadedError(f"{self.tokens} tokens are waiting already; try again later")

    def start(self) -> None:
        """Start the threads that do not run: at first, and in a forked process.

        Raises:
            UnavailableError: the system gives none, or they are no longer the system's.
        """
        with self.changed:
            if not self.threads:
                self._start()

    def _start(self) -> None:
        if threading.Lock is not LOCK:  # an event loop that waits for greenlets would not let them run
            how = (
                "threads were replaced after npdistil was imported, as gevent does where gunicorn loads the application"
            )
            raise UnavailableError(f"{how} first (--preload); replace them before, or use another worker")
        self.threads, self.running = [], 0
        while len(self.threads) < self.most_threads:
            thread = threading.Thread(target=self._work, args=(self.threads,), name="npdistil-engine", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                if self.threads:  # which do all
                    break
                raise UnavailableError(f"the thread of the engine does not start: {error}") from None
            self.threads.append(thread)

    def stop(self) -> None:
        """End the threads after their batches; who still waits gets UnavailableError."""
        with self.changed:  # who comes from now on starts others
            threads, self.threads = [*self.threads], []
            left, self.waiting = self.waiting, deque()
            self.texts = self.tokens = 0
            self.changed.notify_all()
        for thread in threads:
            thread.join()
        ended = UnavailableError("the service ended before it was the turn of this request")
        self._tell([(queued, 0, 0) for queued in left], partial(self._fail, ended))

    def _work(self, threads: list[threading.Thread]) -> None:
        """What one of the threads does; all that asyncio owns is left to its event loop."""
        try:
            while slices := self._awaited(threads):
                self._run(slices, threads)
        finally:  # whatever it was, another request starts others
            with self.changed:
                threads.remove(threading.current_thread())

    def _run(self, slices: list[Slice], threads: list[threading.Thread]) -> None:
        """A batch."""
        began = perf_counter()
        try:
            inputs = _together(slices)
            tokens = sum(map(len, inputs.token_ids))
            shared = tokens >= SHARED and began - self.crowded > QUIET
            values = (self.forward if shared else self.alone)(inputs).values
        except Exception as error:  # noqa: BLE001 - these requests hear of it, and the next ones are served
            self._tell(slices, partial(self._fail, error))
            return
        finally:
            with self.changed:
                self.running -= self.threads is threads
        self.delivered = perf_counter()
        self.metrics.inference_seconds.observe(self.delivered - began)
        self.metrics.texts.inc(len(values))
        self.metrics.tokens.inc(tokens)
        self.metrics.batch_texts.observe(len(values))
        self.metrics.batch_tokens.observe(tokens)
        start = 0
        for queued, first, last in slices:
            queued.values.update(enumerate(values[start : start + last - first], first))
            start += last - first
        self._tell(slices, _deliver)

    def _awaited(self, threads: list[threading.Thread]) -> list[Slice]:
        """The next batch, as soon as there is one; none when other threads are to run, or none."""
        with self.changed:
            self.changed.wait_for(lambda: self.waiting or self.threads is not threads)
            while self.gather_seconds and self.threads is threads and self.tokens < self.batch_tokens:
                if not self.waiting:  # all have left
                    self.changed.wait()
                elif (left := self.waiting[0].arrived + self.gather_seconds - perf_counter()) > 0:
                    self.changed.wait(left)
                else:
                    break
            if self.threads is not threads:
                return []
            self.running += 1
            slices = self._next()
            if self.running > 1 or self.waiting:
                self.crowded = perf_counter()
            if self.waiting:
                self.changed.notify()  # another thread
            return slices

    def _next(self) -> list[Slice]:
        """The next batch: requests of which the same is asked as of the first, in turn."""
        slices: list[Slice] = []
        others: list[Queued] = []  # of which something else is asked
        ended: list[Queued] = []  # of which a turn is over
        asked = _asked(self.waiting[0])
        share = self.batch_tokens if self.gather_seconds else -(-self.tokens // self.most_threads)
        room = min(self.batch_tokens, max(self.waiting[0].left, share))
        room = 1 if asked[0] == "attentions" else room
        total = 0
        while self.waiting:
            queued = self.waiting.popleft()
            if _asked(queued) != asked:
                others.append(queued)
                continue
            if queued in ended and (others or any(each is not queued for each, _, _ in slices)):
                self.waiting.appendleft(queued)
                break
            token_ids, first, last = queued.inputs.token_ids, queued.started, queued.started
            before, over = total, False  # tokens of the batch without it; whether its turn is over
            while last < len(token_ids):
                size = len(token_ids[last])
                over = queued.turn > 0 and queued.turn + size > TURN
                if over or (total and total + size > room):
                    break
                total, queued.turn, last = total + size, queued.turn + size, last + 1
            if last > first:
                if first == 0:
                    queued.began = perf_counter()
                    self.metrics.queue_seconds.observe(queued.began - queued.arrived)
                slices.append((queued, first, last))
                queued.started = last
                self._count(first - last, before - total)
            if over:
                queued.turn = 0
                self.waiting.append(queued)
                ended.append(queued)
            elif last < len(token_ids):  # no room: its turn goes on in the next batch
                self.waiting.appendleft(queued)
                break
        self.waiting.extendleft(reversed(others))
        return slices

    def _tell(self, slices: list[Slice], what: Callable[[list[Queued]], None]) -> None:
        """Call `what` of all requests that have the same event loop, in that."""
        loops: dict[asyncio.AbstractEventLoop, list[Queued]] = {}
        for queued in dict.fromkeys(queued for queued, _, _ in slices):  # one may have had several turns
            loops.setdefault(queued.answer.get_loop(), []).append(queued)
        for loop, some in loops.items():
            with suppress(RuntimeError):  # it is closed, and nobody waits
                loop.call_soon_threadsafe(what, some)

    def _fail(self, error: Exception, requests: list[Queued]) -> None:
        for queued in requests:
            if not queued.answer.done():
                queued.answer.set_exception(error)
            self._forget(queued)

    def _forget(self, queued: Queued) -> None:
        """Take what is left of a request out of the queue."""
        with self.changed:
            if queued in self.waiting:
                self.waiting.remove(queued)
                self._count(queued.started - len(queued.inputs.token_ids), -queued.left)

    def _count(self, texts: int, tokens: int) -> None:
        self.texts += texts
        self.tokens += tokens


def _deliver(requests: list[Queued]) -> None:
    """Answer those of which all sequences have run; by one call those whose answers are made in the same way."""
    ready: dict[Make | None, list[Queued]] = {}
    for queued in requests:
        if len(queued.values) == len(queued.inputs.token_ids) and not queued.answer.done():
            ready.setdefault(queued.make, []).append(queued)
    for make, some in ready.items():
        if make:
            _answer(make, some)
        else:
            for queued in some:
                queued.answer.set_result(_outputs([queued]))


def _answer(make: Make, requests: list[Queued]) -> None:
    try:
        answers = iter(make(_outputs(requests)))
    except Exception as error:  # noqa: BLE001 - the request that it is of hears of it, and no other
        if len(requests) == 1:
            requests[0].answer.set_exception(error)
        else:
            for queued in requests:
                _answer(make, [queued])
        return
    for queued in requests:
        queued.answer.set_result([*islice(answers, len(queued.inputs.counts))])


def _outputs(requests: list[Queued]) -> Outputs:
    """What the model says of these, as of one request."""
    values = [queued.values[i] for queued in requests for i in range(len(queued.values))]
    if len(requests) == 1:
        return Outputs(requests[0].inputs, values)
    inputs = _together([(queued, 0, len(queued.values)) for queued in requests])
    counts = [count for queued in requests for count in queued.inputs.counts]
    context = [item for queued in requests for item in queued.inputs.context]
    return Outputs(replace(inputs, counts=counts, context=context), values)


def _asked(queued: Queued) -> tuple[str, bool]:
    """What has to be the same for sequences of one batch."""
    return queued.inputs.output, queued.inputs.rows is None


def _together(slices: Sequence[Slice]) -> Inputs:
    """The sequences of a batch as one; `rows` go with them."""
    asked = slices[0][0].inputs
    token_ids = [ids for queued, first, last in slices for ids in queued.inputs.token_ids[first:last]]
    rows = [each for queued, first, last in slices for each in (queued.inputs.rows or ())[first:last]]
    types = None
    if any(queued.inputs.token_type_ids for queued, _, _ in slices):
        types = [
            own
            for queued, first, last in slices
            for own in (queued.inputs.token_type_ids or [[0] * len(ids) for ids in queued.inputs.token_ids])[first:last]
        ]
    return Inputs(token_ids, output=asked.output, rows=None if asked.rows is None else rows, token_type_ids=types)
