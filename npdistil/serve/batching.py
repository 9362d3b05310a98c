"""Texts of many requests run together: whatever has come while the engine was busy makes its next batch."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from ..distilbert.encoder import Array
from ..errors import InputError, NpdistilError

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
COUNTS = tuple(2**n for n in range(17))
Compute = Callable[[Sequence[Sequence[int]]], Array]  # token ids of B texts -> an array with a row for each


class OverloadedError(NpdistilError):
    """No place in the queue."""


class Metrics:
    """What `GET /metrics` tells, in a registry of its own, so that several services fit in one process."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        about: Any = {"registry": registry}
        self.requests = Counter(
            "npdistil_requests",
            "POST requests that were let in, by endpoint and HTTP status",
            ["endpoint", "status"],
            **about,
        )
        self.seconds = Histogram(
            "npdistil_request_seconds", "From a request's head to its answer", ["endpoint"], buckets=SECONDS, **about
        )
        self.texts = Counter("npdistil_texts", "Texts that were run; windows and variants count each", **about)
        self.tokens = Counter("npdistil_tokens", "Tokens that were run", **about)
        self.queue_texts = Gauge("npdistil_queue_texts", "Texts that wait", **about)
        self.queue_tokens = Gauge("npdistil_queue_tokens", "Tokens that wait", **about)
        self.batch_texts = Histogram("npdistil_batch_texts", "Texts of a batch", buckets=COUNTS, **about)
        self.batch_tokens = Histogram("npdistil_batch_tokens", "Tokens of a batch", buckets=COUNTS, **about)
        self.tokenize_seconds = Histogram(
            "npdistil_tokenize_seconds", "To tokenize a request's texts", buckets=SECONDS, **about
        )
        self.queue_seconds = Histogram(
            "npdistil_queue_seconds", "That a request waits for its first text to run", buckets=SECONDS, **about
        )
        self.inference_seconds = Histogram("npdistil_inference_seconds", "Of a batch", buckets=SECONDS, **about)


@dataclass(eq=False)
class Job:
    """The texts of one request."""

    compute: Compute
    ids: Sequence[Sequence[int]]
    answer: "asyncio.Future[Array]"
    arrived: float = field(default_factory=perf_counter)
    started: int = 0  # texts that are no longer in the queue
    rows: list[Array] = field(default_factory=list)  # of the texts that were run


Share = tuple[Job, int, int]  # of a job the texts from the first to before the last


class Batcher:
    """A queue of texts, and one thread that runs them, batch by batch, in the order in which they came.

    Batches hold whole texts, and are bounded by tokens; a request's texts may lie in several. As no result depends on
    its batch, nothing of this can be seen in the answers. The thread takes its batches by itself: the event loop may be
    busy with requests, and the engine does not wait for it.

    Args:
        batch_tokens: of a batch at most; a longer text is a batch of its own.
        queue_tokens: that may wait; when they do, `run` refuses.
        gather_seconds: to wait for company before a batch that is not full.
        metrics: where it counts.
    """

    def __init__(self, batch_tokens: int, queue_tokens: int, gather_seconds: float, metrics: Metrics) -> None:
        self.batch_tokens = batch_tokens
        self.queue_tokens = queue_tokens
        self.gather_seconds = gather_seconds
        self.metrics = metrics
        self.changed = threading.Condition()  # of all below
        self.waiting: deque[Job] = deque()
        self.texts = self.tokens = 0  # in the queue
        self.ended = False

    async def run(self, compute: Compute, ids: Sequence[Sequence[int]]) -> Array:
        """A row for each text. Cancelled, it gives back its place in the queue.

        Raises:
            OverloadedError: at once, if the queue is full.
            InputError: a text without tokens.
        """
        tokens = sum(map(len, ids))
        if not all(map(len, ids)):
            raise InputError("a text has no tokens")  # the engine would refuse the whole batch
        job = Job(compute, ids, asyncio.get_running_loop().create_future())
        with self.changed:
            self.check_room(tokens)
            self._count(len(ids), tokens)
            self.waiting.append(job)
            self.changed.notify()
        try:
            return await job.answer
        finally:
            self._forget(job)

    def check_room(self, tokens: int) -> None:
        """OverloadedError unless so many more tokens may wait."""
        if self.tokens + max(tokens, 1) > self.queue_tokens:
            raise OverloadedError(f"{self.tokens} tokens are waiting already; try again later")

    @contextmanager
    def running(self) -> Iterator[None]:
        """Batches run until the end of the block; what has not begun by then never does."""
        thread = threading.Thread(target=self._work, args=(asyncio.get_running_loop(),), name="npdistil-engine")
        thread.start()
        try:
            yield
        finally:
            with self.changed:
                self.ended = True
                self.changed.notify()
            thread.join()

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        """What the thread does; all that asyncio owns is left to the event loop."""
        while shares := self._awaited():
            ids = [text for job, first, last in shares for text in job.ids[first:last]]
            began = perf_counter()
            try:
                rows = shares[0][0].compute(ids)
            except Exception as error:  # noqa: BLE001 - these requests hear of it, and the next ones are served
                loop.call_soon_threadsafe(self._fail, shares, error)
                continue
            self.metrics.inference_seconds.observe(perf_counter() - began)
            loop.call_soon_threadsafe(self._deliver, shares, rows, sum(map(len, ids)))

    def _awaited(self) -> list[Share]:
        """The next batch, as soon as there is one; none at the end."""
        with self.changed:
            self.changed.wait_for(lambda: self.waiting or self.ended)
            if self.gather_seconds:
                self.changed.wait_for(lambda: self.tokens >= self.batch_tokens or self.ended, self.gather_seconds)
                self.changed.wait_for(lambda: self.waiting or self.ended)  # all may have left meanwhile
            return [] if self.ended else self._next()

    def _next(self) -> list[Share]:
        """The next batch; all of it with the same `compute`."""
        shares: list[Share] = []
        total = 0
        while self.waiting:
            job = self.waiting[0]
            first = last = job.started
            if shares and job.compute != shares[0][0].compute:
                break
            while last < len(job.ids) and (total == 0 or total + len(job.ids[last]) <= self.batch_tokens):
                total += len(job.ids[last])
                last += 1
            if last > first:
                if first == 0:
                    self.metrics.queue_seconds.observe(perf_counter() - job.arrived)
                shares.append((job, first, last))
                job.started = last
                self._count(first - last, -sum(map(len, job.ids[first:last])))
            if last < len(job.ids):
                break
            self.waiting.popleft()
        return shares

    def _fail(self, shares: list[Share], error: Exception) -> None:
        for job, _, _ in shares:
            if not job.answer.done():
                job.answer.set_exception(error)
            self._forget(job)

    def _deliver(self, shares: list[Share], rows: Array, tokens: int) -> None:
        self.metrics.texts.inc(len(rows))
        self.metrics.tokens.inc(tokens)
        self.metrics.batch_texts.observe(len(rows))
        self.metrics.batch_tokens.observe(tokens)
        start = 0
        for job, first, last in shares:
            job.rows.append(rows[start : start + last - first])
            start += last - first
            if last == len(job.ids) and not job.answer.done():
                job.answer.set_result(np.concatenate(job.rows))

    def _forget(self, job: Job) -> None:
        """Take what is left of a job out of the queue."""
        with self.changed:
            if job in self.waiting:
                self.waiting.remove(job)
                left = job.ids[job.started :]
                self._count(-len(left), -sum(map(len, left)))

    def _count(self, texts: int, tokens: int) -> None:
        self.texts += texts
        self.tokens += tokens
        self.metrics.queue_texts.set(self.texts)
        self.metrics.queue_tokens.set(self.tokens)
