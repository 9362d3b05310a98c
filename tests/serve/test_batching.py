"""The queue: what becomes of requests whose neighbours fail."""

import asyncio
import os
import random
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
import pytest

from npdistil.batch import Inputs, Outputs
from npdistil.errors import EngineError, InputError
from npdistil.serve.batching import QUIET, SHARED, Batcher, Metrics, OverloadedError, UnavailableError

BROKEN = 666


def lengths(inputs: Inputs) -> Outputs:
    """Of each sequence; fails where one has a certain token."""
    if any(BROKEN in ids for ids in inputs.token_ids):
        raise RuntimeError("no memory for a thread")
    return Outputs(inputs, [np.array([len(ids)]) for ids in inputs.token_ids])


def found(outputs: Outputs) -> list[list[int]]:
    return [each.tolist() for each in outputs.values]


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0.001)


@contextmanager
def stopping(batcher: Batcher) -> Iterator[None]:
    """Stop it at the end of the block."""
    try:
        yield
    finally:
        batcher.stop()


def test_after_a_batch_that_failed_the_next_one_runs() -> None:
    async def scenario() -> None:
        batcher = Batcher(lengths, lengths, 2, 100, 1000, 0.0, Metrics())
        with stopping(batcher):
            with pytest.raises(RuntimeError, match="no memory"):
                await batcher.run(Inputs([[1, BROKEN]]))
            assert found(await batcher.run(Inputs([[1, 2], [3]]))) == [[2], [1]]
        assert (batcher.texts, batcher.tokens) == (0, 0)

    asyncio.run(scenario())


def test_a_text_without_tokens_is_refused_before_it_can_fail_others() -> None:
    async def scenario() -> None:
        batcher = Batcher(lengths, lengths, 2, 100, 1000, 0.0, Metrics())
        with pytest.raises(InputError, match="no tokens"):
            await batcher.run(Inputs([[1], []]))
        assert (batcher.texts, batcher.tokens) == (0, 0)

    asyncio.run(scenario())


def test_a_full_queue_refuses_even_what_has_not_been_looked_at() -> None:
    busy = threading.Event()

    def slow(inputs: Inputs) -> Outputs:
        busy.wait()
        return lengths(inputs)

    async def scenario() -> None:
        batcher = Batcher(slow, slow, 1, 100, 4, 0.0, Metrics())
        with stopping(batcher):
            first = asyncio.create_task(batcher.run(Inputs([[1]])))
            await asyncio.sleep(0)
            await until(lambda: not batcher.tokens)  # its batch is taken
            waiting = asyncio.create_task(batcher.run(Inputs([[1, 2, 3, 4]])))
            await asyncio.sleep(0)
            with pytest.raises(OverloadedError, match="4 tokens are waiting"):
                batcher.check_capacity(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            batcher.check_capacity(4)
            busy.set()
            await first

    asyncio.run(scenario())


def test_requests_of_any_sizes_get_their_own_rows_whatever_the_batches() -> None:
    async def scenario() -> None:
        rng = random.Random(0)
        requests = [[[1] * rng.randint(1, 40) for _ in range(rng.randint(1, 12))] for _ in range(200)]
        for gather in (0.0, 0.001):
            batcher = Batcher(lengths, lengths, 2, 50, 100_000, gather, Metrics())
            with stopping(batcher):
                tasks = [asyncio.create_task(batcher.run(Inputs(ids))) for ids in requests]
                await asyncio.sleep(0)
                for task in tasks[::7]:
                    task.cancel()  # before, while and after its batches run
                answers = await asyncio.gather(*tasks, return_exceptions=True)
            for ids, answer in zip(requests, answers, strict=True):
                if not isinstance(answer, asyncio.CancelledError):
                    assert isinstance(answer, Outputs), answer
                    assert found(answer) == [[len(text)] for text in ids]
            assert sum(isinstance(answer, asyncio.CancelledError) for answer in answers) == len(requests[::7])
            assert (batcher.texts, batcher.tokens, len(batcher.waiting)) == (0, 0, 0)

    asyncio.run(scenario())


def test_batches_hold_only_what_the_same_is_asked_about_and_rows_stay_with_their_sequences() -> None:
    ran: list[Inputs] = []

    def picked(inputs: Inputs) -> Outputs:
        """The ids in the asked rows, or all."""
        ran.append(inputs)
        rows = inputs.rows or [range(len(ids)) for ids in inputs.token_ids]
        pairs = zip(inputs.token_ids, rows, strict=True)
        return Outputs(inputs, [np.array([ids[i] for i in asked]) for ids, asked in pairs])

    async def scenario() -> None:
        rng = random.Random(0)
        requests = []
        for i in range(120):
            token_ids = [[rng.randrange(9) for _ in range(rng.randint(1, 12))] for _ in range(rng.randint(0, 6))]
            rows = [sorted(rng.sample(range(len(ids)), rng.randint(1, len(ids)))) for ids in token_ids]
            output = ("logits", "logits", "mean", "attentions")[i % 4]
            requests.append(Inputs(token_ids, output=output, rows=rows if i % 4 == 0 else None, context=i))
        batcher = Batcher(picked, picked, 2, 60, 100_000, 0.001, Metrics())
        with stopping(batcher):
            answers = await asyncio.gather(*map(batcher.run, requests))
        for inputs, answer in zip(requests, answers, strict=True):
            assert answer.inputs is inputs
            assert found(answer) == found(picked(inputs))

    asyncio.run(scenario())
    assert {(inputs.output, inputs.rows is None) for inputs in ran} == {
        ("logits", False), ("logits", True), ("mean", True), ("attentions", True)
    }  # fmt: skip
    assert all(sum(map(len, inputs.token_ids)) <= 72 for inputs in ran)


def test_answers_of_requests_that_are_ready_together_are_made_by_one_call_and_each_gets_its_own() -> None:
    made: list[int] = []
    busy = threading.Event()

    def slow(inputs: Inputs) -> Outputs:
        busy.wait()
        return lengths(inputs)

    def make(outputs: Outputs) -> list[Any]:
        """Of each item what its context is and the lengths of its sequences."""
        made.append(len(outputs.inputs.counts))
        return [
            (item, [each.tolist() for each in values])
            for item, values in zip(outputs.inputs.context, outputs.by_item(), strict=True)
        ]

    def reversed_make(outputs: Outputs) -> list[Any]:
        return [each[::-1] for each in make(outputs)]

    async def scenario() -> None:
        rng = random.Random(0)
        batcher = Batcher(slow, slow, 1, 1024, 100_000, 0.0, Metrics())
        requests: list[Inputs] = []
        for i in range(40):
            counts = [rng.randint(1, 3) for _ in range(rng.randint(1, 3))]
            token_ids = [[1] * rng.randint(1, 5) for _ in range(sum(counts))]
            requests.append(Inputs(token_ids, counts, context=[(i, j) for j in range(len(counts))]))
        right = [make(Outputs(each, lengths(each).values)) for each in requests]
        made.clear()
        with stopping(batcher):
            first = asyncio.create_task(batcher.run(Inputs([[1]])))
            await asyncio.sleep(0)
            await until(lambda: not batcher.tokens)  # its batch is taken, and the others come together
            makers = [make, reversed_make, None]
            tasks = [asyncio.create_task(batcher.run(each, makers[i % 3])) for i, each in enumerate(requests)]
            await asyncio.sleep(0)
            tasks[3].cancel()
            busy.set()
            await first
            answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(answers.pop(3), asyncio.CancelledError)
        numbers = [i for i in range(40) if i != 3]
        for i, answer in zip(numbers, answers, strict=True):
            if i % 3 == 2:
                assert isinstance(answer, Outputs)
                assert answer.inputs is requests[i]
                assert found(answer) == found(lengths(requests[i]))
            else:
                assert answer == [each[:: (1, -1)[i % 3]] for each in right[i]]
        assert sorted(made) == sorted(sum(len(right[i]) for i in numbers if i % 3 == which) for which in (0, 1))

    asyncio.run(scenario())


def test_of_answers_that_cannot_be_made_only_who_asked_for_them_hears() -> None:
    busy = threading.Event()

    def slow(inputs: Inputs) -> Outputs:
        busy.wait()
        return lengths(inputs)

    def make(outputs: Outputs) -> list[Any]:
        for number, values in zip(outputs.inputs.context, outputs.by_item(), strict=True):
            if values[0][0] == 7:
                raise EngineError(f"request {number} has 7 tokens")
        return [*outputs.inputs.context]

    async def scenario() -> None:
        batcher = Batcher(slow, slow, 1, 1024, 100_000, 0.0, Metrics())
        with stopping(batcher):
            first = asyncio.create_task(batcher.run(Inputs([[1]])))
            await asyncio.sleep(0)
            await until(lambda: not batcher.tokens)
            requests = [Inputs([[1] * (i % 10 + 1)], [1], context=[i]) for i in range(30)]
            tasks = [asyncio.create_task(batcher.run(each, make)) for each in requests]
            await asyncio.sleep(0)
            busy.set()
            await first
            answers = await asyncio.gather(*tasks, return_exceptions=True)
        for i, answer in enumerate(answers):
            if i % 10 == 6:
                assert isinstance(answer, EngineError)
                assert str(answer) == f"request {i} has 7 tokens"
            else:
                assert answer == [i]

    asyncio.run(scenario())


def test_a_request_with_many_tokens_takes_turns_with_small_ones() -> None:
    batches: list[list[int]] = []
    busy = threading.Event()

    def slow(inputs: Inputs) -> Outputs:
        busy.wait()
        batches.append([ids[0] for ids in inputs.token_ids])
        return lengths(inputs)

    async def scenario() -> None:
        batcher = Batcher(slow, slow, 1, 1024, 100_000, 0.0, Metrics())
        with stopping(batcher):
            large = asyncio.create_task(batcher.run(Inputs([[0] * 500] * 90)))
            await asyncio.sleep(0)
            await until(lambda: batcher.tokens < 45_000)  # its first batch is taken
            small = [asyncio.create_task(batcher.run(Inputs([[i] * 25]))) for i in range(1, 41)]
            await asyncio.sleep(0)
            busy.set()
            await asyncio.gather(*small, large)

    asyncio.run(scenario())
    assert batches[0] == [0, 0]
    assert max(i for i, batch in enumerate(batches) if any(batch)) <= 2, "small requests waited for the large one"
    assert sum(batch.count(0) for batch in batches) == 90
    assert [batch.count(0) for batch in batches[:4]] == [2, 2, 0, 2], "the large one did not have its turns"


def test_requests_that_fit_into_a_turn_end_in_the_order_in_which_they_came() -> None:
    ran: list[int] = []
    busy = threading.Event()

    def slow(inputs: Inputs) -> Outputs:
        busy.wait()
        ran.extend(ids[0] for ids in inputs.token_ids)
        return lengths(inputs)

    async def scenario() -> None:
        batcher = Batcher(slow, slow, 1, 300, 100_000, 0.0, Metrics())  # a batch is a request and a half
        with stopping(batcher):
            tasks = [asyncio.create_task(batcher.run(Inputs([[i] * 25] * 8))) for i in range(12)]
            await asyncio.sleep(0)
            busy.set()
            await asyncio.gather(*tasks)

    asyncio.run(scenario())
    assert ran == sorted(ran)


def test_all_threads_share_a_large_batch_unless_two_were_to_be_run_at_once_in_the_last_second() -> None:
    busy = threading.Event()
    ran: list[str] = []

    def run(how: str, inputs: Inputs) -> Outputs:
        busy.wait()
        ran.append(how)
        return lengths(inputs)

    async def scenario() -> None:
        batcher = Batcher(partial(run, "shared"), partial(run, "alone"), 2, 1024, 100_000, 0.0, Metrics())
        large, small = Inputs([[1] * SHARED]), Inputs([[1]])
        with stopping(batcher):
            busy.set()
            await batcher.run(small)
            await batcher.run(large)
            assert ran == ["alone", "shared"]
            busy.clear()
            two = [asyncio.create_task(batcher.run(small)) for _ in range(2)]
            await asyncio.sleep(0)
            await until(lambda: batcher.running == 2)
            busy.set()
            await asyncio.gather(*two)
            assert 0 < batcher.crowded <= perf_counter()
            batcher.crowded = perf_counter() + 60  # as just now, however slow this machine is
            await batcher.run(large)
            assert ran[-1] == "alone"
            batcher.crowded = perf_counter() - QUIET
            await batcher.run(large)
            assert ran[-1] == "shared"

    asyncio.run(scenario())


def test_a_thread_takes_its_share_of_what_waits() -> None:
    sizes: list[int] = []
    busy = threading.Event()

    def slow(inputs: Inputs) -> Outputs:
        sizes.append(len(inputs.token_ids))
        busy.wait()
        return lengths(inputs)

    async def scenario() -> None:
        batcher = Batcher(slow, slow, 2, 1024, 100_000, 0.0, Metrics())
        with stopping(batcher):
            tasks = []
            for _ in range(2):  # one for each thread
                tasks.append(asyncio.create_task(batcher.run(Inputs([[1]]))))
                await asyncio.sleep(0)
                await until(lambda: not batcher.tokens)
            tasks += [asyncio.create_task(batcher.run(Inputs([[1] * 10]))) for _ in range(8)]
            await asyncio.sleep(0)
            busy.set()
            await asyncio.gather(*tasks)

    asyncio.run(scenario())
    assert sorted(sizes) == [1, 1, 1, 1, 2, 4]


def test_a_request_is_not_kept_waiting_forever_by_small_ones_that_never_end() -> None:
    async def scenario() -> None:
        batcher = Batcher(lengths, lengths, 2, 100, 100_000, 0.0, Metrics())
        with stopping(batcher):
            large = asyncio.create_task(batcher.run(Inputs([[0] * 60] * 20)))
            stop = asyncio.Event()

            async def client() -> None:
                while not stop.is_set():
                    await batcher.run(Inputs([[1] * 30]))

            clients = [asyncio.create_task(client()) for _ in range(20)]
            await asyncio.wait_for(large, 120)
            stop.set()
            await asyncio.gather(*clients)

    asyncio.run(scenario())


def test_attention_is_given_for_one_sequence_at_a_time_and_others_run_between() -> None:
    ran: list[tuple[str, int]] = []
    busy = threading.Event()

    def slow(inputs: Inputs) -> Outputs:
        busy.wait()
        ran.append((inputs.output, len(inputs.token_ids)))
        return lengths(inputs)

    async def scenario() -> None:
        batcher = Batcher(slow, slow, 1, 1024, 100_000, 0.0, Metrics())
        with stopping(batcher):
            tasks = [asyncio.create_task(batcher.run(Inputs([[1] * 9], output="attentions"))) for _ in range(3)]
            await asyncio.sleep(0)
            await until(lambda: batcher.tokens < 27)  # the first batch is taken
            tasks += [asyncio.create_task(batcher.run(Inputs([[1] * 9]))) for _ in range(4)]
            await asyncio.sleep(0)
            busy.set()
            await asyncio.gather(*tasks)

    asyncio.run(scenario())
    assert sorted(ran) == [("attentions", 1)] * 3 + [("logits", 4)]


def test_any_number_of_event_loops_may_ask_and_stopping_is_not_the_end() -> None:
    batcher = Batcher(lengths, lengths, 2, 100, 1000, 0.0, Metrics())
    with stopping(batcher):
        for _ in range(3):
            assert found(asyncio.run(batcher.run(Inputs([[1, 2]])))) == [[2]]
    assert found(asyncio.run(batcher.run(Inputs([[1, 2]])))) == [[2]]
    batcher.stop()


def test_who_waits_when_it_stops_hears_of_it() -> None:
    entered, busy = threading.Event(), threading.Event()

    def slow(inputs: Inputs) -> Outputs:
        entered.set()
        busy.wait()
        return lengths(inputs)

    async def scenario() -> None:
        batcher = Batcher(slow, slow, 1, 10, 1000, 0.0, Metrics())
        tasks = [asyncio.create_task(batcher.run(Inputs([[1] * 10]))) for _ in range(2)]
        await asyncio.to_thread(entered.wait)
        stop = asyncio.create_task(asyncio.to_thread(batcher.stop))
        await until(lambda: not batcher.threads)  # it is stopping
        busy.set()
        await stop
        assert found(await tasks[0]) == [[10]]
        with pytest.raises(UnavailableError, match="ended"):
            await tasks[1]
        assert (batcher.texts, batcher.tokens, len(batcher.waiting)) == (0, 0, 0)

    asyncio.run(scenario())


def test_where_no_thread_starts_a_request_is_refused_at_once_and_later_ones_try_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    batcher = Batcher(lengths, lengths, 2, 100, 1000, 0.0, Metrics())
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none)
        with pytest.raises(UnavailableError, match="does not start"):
            asyncio.run(batcher.run(Inputs([[1]])))
    assert (batcher.texts, batcher.tokens, len(batcher.waiting)) == (0, 0, 0)
    with stopping(batcher):
        assert found(asyncio.run(batcher.run(Inputs([[1]])))) == [[1]]


def test_a_forked_process_starts_threads_of_its_own() -> None:
    """As servers do that load the application before they fork."""
    batcher = Batcher(lengths, lengths, 2, 100, 1000, 0.0, Metrics())
    with stopping(batcher):
        assert found(asyncio.run(batcher.run(Inputs([[1, 2]])))) == [[2]]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the threads that the child will not have
            child = os.fork()
        if not child:
            signal.alarm(120)
            os._exit(found(asyncio.run(batcher.run(Inputs([[1, 2]])))) != [[2]])
        assert os.waitpid(child, 0)[1] == 0
        assert found(asyncio.run(batcher.run(Inputs([[1, 2]])))) == [[2]]


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_a_full_batch_does_not_wait_for_company_and_one_that_is_not_does(threads: int) -> None:
    async def scenario(gather_seconds: float, count: int) -> float:
        batcher = Batcher(lengths, lengths, threads, 1024, 100_000, gather_seconds, Metrics())
        with stopping(batcher):
            began = perf_counter()
            await asyncio.gather(*(batcher.run(Inputs([[1] * 128])) for _ in range(count)))
            return perf_counter() - began

    assert asyncio.run(scenario(120, 8)) < 60
    assert asyncio.run(scenario(0.2, 7)) >= 0.2


@pytest.mark.parametrize("output", ["logits", "mean"])
@pytest.mark.parametrize("batch_tokens", [1024, 16_384])
def test_while_others_wait_a_request_has_one_turn_in_a_batch_however_large_that_is(
    output: str, batch_tokens: int
) -> None:
    batches: list[list[int]] = []
    busy = threading.Event()

    def slow(inputs: Inputs) -> Outputs:
        batches.append([ids[0] for ids in inputs.token_ids])
        busy.wait()
        return lengths(inputs)

    async def scenario() -> None:
        batcher = Batcher(slow, slow, 1, batch_tokens, 100_000, 0.0, Metrics())
        with stopping(batcher):
            large = asyncio.create_task(batcher.run(Inputs([[1] * 500] * 90)))
            await asyncio.sleep(0)
            await until(lambda: bool(batches))
            small = asyncio.create_task(batcher.run(Inputs([[2] * 5], output=output)))
            await asyncio.sleep(0)
            busy.set()
            await asyncio.gather(small, large)

    asyncio.run(scenario())
    first = next(i for i, batch in enumerate(batches) if 2 in batch)
    assert sum(batch.count(1) for batch in batches[1 : first + 1]) <= 2  # of 500 tokens each
    assert sum(batch.count(1) for batch in batches) == 90


def test_requests_that_come_while_it_stops_are_run_by_new_threads() -> None:
    entered, busy = threading.Event(), threading.Event()

    def slow(inputs: Inputs) -> Outputs:
        if inputs.token_ids[0][0] == 0:
            entered.set()
            busy.wait()
        return lengths(inputs)

    async def scenario() -> None:
        batcher = Batcher(slow, slow, 2, 10, 1000, 0.0, Metrics())
        first = asyncio.create_task(batcher.run(Inputs([[0] * 10])))
        await asyncio.to_thread(entered.wait)
        stop = asyncio.create_task(asyncio.to_thread(batcher.stop))
        await until(lambda: not batcher.threads)
        later = [await batcher.run(Inputs([[1] * 9])) for _ in range(4)]
        assert [found(each) for each in later] == [[[9]]] * 4
        busy.set()
        await stop
        assert found(await first) == [[10]]
        with stopping(batcher):
            assert found(await batcher.run(Inputs([[1] * 3]))) == [[3]]
            await until(lambda: batcher.running == 0)
        assert (batcher.texts, batcher.tokens, len(batcher.waiting)) == (0, 0, 0)

    asyncio.run(scenario())


def test_whoever_starts_it_at_the_same_time_there_are_as_many_threads_as_asked_for() -> None:
    batcher = Batcher(lengths, lengths, 2, 10, 1000, 0.0, Metrics())
    before = threading.active_count()
    together = threading.Barrier(8)

    def start() -> None:
        together.wait()
        batcher.start()

    with stopping(batcher):
        callers = [threading.Thread(target=start) for _ in range(8)]
        for each in callers:
            each.start()
        for each in callers:
            each.join()
        assert len(batcher.threads) == 2
        assert threading.active_count() - before <= 2


def test_after_a_thread_that_ended_for_whatever_reason_another_one_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    class Panic(BaseException):
        """As those of libraries in Rust."""

    told: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", told.append)

    def failing(inputs: Inputs) -> Outputs:
        if inputs.token_ids[0][0] == BROKEN:
            raise Panic
        return lengths(inputs)

    async def scenario() -> None:
        batcher = Batcher(failing, failing, 1, 10, 1000, 0.0, Metrics())
        with stopping(batcher):
            lost = asyncio.create_task(batcher.run(Inputs([[BROKEN]])))
            await until(lambda: bool(told))  # by Python, when the thread has ended
            assert not batcher.threads
            assert found(await batcher.run(Inputs([[1, 2]]))) == [[2]]
            lost.cancel()

    asyncio.run(scenario())
