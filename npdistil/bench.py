"""How fast a model is on this machine: throughput, latency by length, peak memory."""

import platform
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import __version__
from .distilbert.encoder import Array
from .errors import InputError
from .model import Model
from .settings import check, number
from .text import items_of, tokenize

LENGTHS = (8, 16, 32, 64, 128, 256, 512)  # tokens, special ones included
FEW, AT_ONCE = 8, 128  # texts: those that are tried first, and at most at once
TEXTS = (  # for want of the user's own: English of the length of reviews and their headlines
    "A lovely film.",
    "It never works, and nobody answers the phone.",
    "The battery lasts two days, the screen is bright, and it cost half of what the others ask.",
    "I wanted to like this more than I did: the first hour is slow, and only then does the story find its feet.",
    "Good value.",
    "We waited for an hour. When the food came it was cold, the waiter was rude, and the bill was wrong; still, the "
    "view over the harbour is the best in town, and we would come back for a drink.",
    "Not what the picture shows.",
    "Everything about this recording is right, from the sound of the strings to the notes in the booklet.",
)


def bench(model: Model, texts: Sequence[str] | None = None, seconds: float = 10.0) -> dict[str, Any]:
    """Measure a loaded model; takes about `seconds`, or longer where one run of a kind needs more.

    Args:
        model: from `load`; its engine, precision and threads are what is measured.
        texts: what throughput is measured on, strings to scores, cut at the model's length; by default short reviews.
        seconds: half of it goes into throughput, half into single texts.

    Returns:
        What `table` prints and JSON can hold: `version` of npdistil, `model`, `engine`, `precision`, `threads`, `cpu`;
        the number of `texts`, and how many were `measured`, again from the first where there was time;
        `texts_per_second` and `tokens_per_second`;
        `latency_ms`, by tokens of a single text, each `median`, `p90`, `p99` and the number of `runs`; without lengths
        of which one run would take more than `seconds`;
        `peak_memory_mb` of this process so far, None where the system does not tell it.

    Raises:
        InputError: no texts, or seconds that are not positive; or a text that the model cannot take.
    """
    chosen = list(TEXTS) * 16 if texts is None else [*items_of(texts)]
    if not chosen:
        raise InputError("no texts to measure with")
    check("seconds", number(0, 86_400), seconds)
    longest = model.config.max_position_embeddings
    measured, tokens, took = _throughput(model, chosen, seconds / 2)
    lengths = [length for length in LENGTHS if length <= longest]
    rng = np.random.default_rng(0)
    latency = {}
    for length in lengths:
        ids = [rng.integers(0, model.config.vocab_size, length).tolist()]
        times = 1e3 * _repeat(lambda ids=ids: model.logits(ids), seconds / 2 / len(lengths))  # type: ignore[misc]
        p90, p99 = np.percentile(times, [90, 99], method="higher")
        middle = float(np.median(times))
        latency[str(length)] = {"median": middle, "p90": float(p90), "p99": float(p99), "runs": len(times)}
        if middle > 500 * seconds:
            break
    peak = peak_memory()
    return {
        "version": __version__,
        "model": model.checkpoint.name,
        "engine": model.engine,
        "precision": model.precision,
        "threads": model.threads,
        "cpu": _cpu(),
        "texts": len(chosen),
        "measured": measured,
        "texts_per_second": measured / took,
        "tokens_per_second": tokens / took,
        "latency_ms": latency,
        "peak_memory_mb": peak and peak / 1e6,
    }


def table(result: dict[str, Any]) -> str:
    """`bench`'s result for people."""
    peak = result["peak_memory_mb"]
    lines = [
        f"{result['model']}: {result['engine']} {result['precision']}, {result['threads']} threads, {result['cpu']}",
        f"{result['texts_per_second']:,.0f} texts a second, {result['tokens_per_second']:,.0f} tokens a second "
        f"({result['measured']:,} texts measured)",
        f"{peak:.0f} MB peak memory of the process" if peak else "peak memory of the process is not known here",
        "",
        "one text of   median ms   90 % under   99 % under",
    ]
    lines += [
        f"{length:>4} tokens {each['median']:11.2f} {each['p90']:12.2f} {each['p99']:12.2f}"
        for length, each in result["latency_ms"].items()
    ]
    return "\n".join(lines)


def peak_memory() -> int | None:
    """The most resident memory that this process has held, in bytes; None where the system does not tell it."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _throughput(model: Model, texts: Sequence[str], seconds: float) -> tuple[int, int, float]:
    """How many texts were scored, how many tokens these have, and the seconds that it took."""
    longest = model.config.max_position_embeddings
    lengths = [min(len(encoding), longest) for encoding in tokenize(model.checkpoint.tokenizer, texts)]
    some = texts[:FEW]
    start = time.perf_counter()
    model.scores(some, long_text="truncate")  # does not count, and says how many fit into a tenth of the time
    fit = int(len(some) * seconds / 10 / (time.perf_counter() - start))
    size = max(FEW, min(fit, AT_ONCE))
    done = at = 0
    start = time.perf_counter()
    while not done or time.perf_counter() - start < seconds:
        some = texts[at : at + size]
        model.scores(some, long_text="truncate", batch_size=size)
        done += len(some)
        at = (at + len(some)) % len(texts)
    took = time.perf_counter() - start
    passes, rest = divmod(done, len(texts))
    return done, passes * sum(lengths) + sum(lengths[:rest]), took


def _repeat(work: Callable[[], object], seconds: float) -> Array:
    """Seconds of each run; the first does not count, unless it takes all of the time."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return np.array(times[1:] or times)


def _cpu() -> str:
    """The processor's name, where the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
