"""The queue: what becomes of requests whose neighbours fail."""

import asyncio
import random

import numpy as np
import pytest

from npdistil.batch import Inputs, Outputs
from npdistil.errors import InputError
from npdistil.serve.batching import Batcher, Metrics, OverloadedError

BROKEN = 666


def lengths(inputs: Inputs) -> Outputs:
    """Of each sequence; fails where one has a certain token."""
    if any(BROKEN in ids for ids in inputs.token_ids):
        raise RuntimeError("no memory for a thread")
    return Outputs(inputs, [np.array([len(ids)]) for ids in inputs.token_ids])


def found(outputs: Outputs) -> list[list[int]]:
    return [each.tolist() for each in outputs.values]


def test_after_a_batch_that_failed_the_next_one_runs() -> None:
    async def scenario() -> None:
        batcher = Batcher(lengths, 100, 1000, 0.0, Metrics())
        with batcher.running():
            with pytest.raises(RuntimeError, match="no memory"):
                await batcher.run(Inputs([[1, BROKEN]]))
            assert found(await batcher.run(Inputs([[1, 2], [3]]))) == [[2], [1]]
        assert (batcher.texts, batcher.tokens) == (0, 0)

    asyncio.run(scenario())


def test_a_text_without_tokens_is_refused_before_it_can_fail_others() -> None:
    async def scenario() -> None:
        batcher = Batcher(lengths, 100, 1000, 0.0, Metrics())
        with pytest.raises(InputError, match="no tokens"):
            await batcher.run(Inputs([[1], []]))
        assert (batcher.texts, batcher.tokens) == (0, 0)

    asyncio.run(scenario())


def test_a_full_queue_refuses_even_what_has_not_been_looked_at() -> None:
    async def scenario() -> None:
        batcher = Batcher(lengths, 100, 4, 0.0, Metrics())
        waiting = asyncio.create_task(batcher.run(Inputs([[1, 2, 3, 4]])))
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="4 tokens are waiting"):
            batcher.check_capacity(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        batcher.check_capacity(4)

    asyncio.run(scenario())


def test_requests_of_any_sizes_get_their_own_rows_whatever_the_batches() -> None:
    async def scenario() -> None:
        rng = random.Random(0)
        requests = [[[1] * rng.randint(1, 40) for _ in range(rng.randint(1, 12))] for _ in range(200)]
        for gather in (0.0, 0.001):
            batcher = Batcher(lengths, 50, 100_000, gather, Metrics())
            with batcher.running():
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
        batcher = Batcher(picked, 60, 100_000, 0.001, Metrics())
        with batcher.running():
            answers = await asyncio.gather(*map(batcher.run, requests))
        for inputs, answer in zip(requests, answers, strict=True):
            assert answer.inputs is inputs
            assert found(answer) == found(picked(inputs))

    asyncio.run(scenario())
    assert {(inputs.output, inputs.rows is None) for inputs in ran} == {
        ("logits", False), ("logits", True), ("mean", True), ("attentions", True)
    }  # fmt: skip
    assert all(sum(map(len, inputs.token_ids)) <= 72 for inputs in ran)
