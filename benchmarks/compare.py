"""npdistil against the runtimes that people would otherwise pick: the same work, checked first, then timed.

    python benchmarks/compare.py --quick                 # the leading runtimes, under 5 minutes
    python benchmarks/compare.py --out benchmarks/results/compare.json          # everything, under 40

Rounds are interleaved (A B C A B C), one process runs at a time, and every ratio is taken inside one round, so that
a noisy machine disturbs all alike. Needs `pip install ".[bench]"`; a runtime that is not there is skipped by name.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import machine
import numpy as np
import report
from convert import KINDS
from data import default_data, evenly, long_texts, sst2, tokenizer
from peers import PEERS, REFERENCE, Array, Peer
from worker import Worker, WorkerError

WORKS = ("sst2", "long", "latency", "threads", "memory")
LARGEST_DIFFERENCE = 1e-3  # of float32 logits to transformers'
DISTURBED = 0.1  # CPUs kept busy by other processes during a turn that are worth a warning
LEAST_AGREEMENT = 0.98  # of labels to float32's, in any other precision
CONVERTERS = {  # whose version decides whether a conversion in the cache is still good
    "onnx": ("torch", "transformers", "onnxruntime"),
    "openvino": ("torch", "transformers", "openvino", "nncf"),
    "ctranslate2": ("ctranslate2", "transformers"),
    "npdistil": ("npdistil",),
    "float32": (),
    "full": (),
}


@dataclass(frozen=True)
class Plan:
    """How much is measured of one model."""

    rounds: int  # of everything that is interleaved
    lengths: dict[int, float]  # tokens of a single text -> seconds of one turn
    least: int  # texts of one turn
    dev: int = 872  # texts of SST-2 dev that throughput and memory are measured on
    checked: int = 872  # texts of SST-2 dev that are checked
    searched: int = 109  # of `dev`, texts that batch sizes are searched on
    batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    long: int = 0  # long texts; 0: none
    long_searched: int = 0
    long_batches: tuple[int, ...] = (1, 4)
    threads: int = 0  # texts of SST-2 dev that one thread and all are compared on; 0: not compared


LENGTHS = {8: 0.2, 16: 0.2, 32: 0.2, 64: 0.3, 128: 0.5, 256: 0.7, 512: 1.2}
PLANS = {
    "full": {
        "full-size": Plan(3, LENGTHS, 5, checked=218, batches=(1, 8, 16, 32), long=32, long_searched=8, threads=54),
        "bundled": Plan(3, {8: 0.2, 32: 0.2, 128: 0.3, 512: 0.8}, 5, batches=(8, 16, 32)),
    },
    "quick": {
        "full-size": Plan(3, {8: 0.2, 16: 0.2, 32: 0.3, 128: 0.4, 512: 0.8}, 3, 218, 218, 54, (8, 16), 16, 4),
        "bundled": Plan(3, {8: 0.2, 32: 0.2, 128: 0.3}, 3, 436, 872, 109, (8, 16)),
    },
    "tiny": {  # only shows that everything runs
        "full-size": Plan(2, {8: 0.05, 32: 0.05, 512: 0.05}, 2, 24, 109, 8, (4, 8), 4, 2, (1, 2), threads=8),
        "bundled": Plan(2, {8: 0.05, 32: 0.05, 128: 0.05}, 2, 24, 872, 8, (8, 16)),
    },
}


class Cache:
    """Conversions of one model, kept under its fingerprint and the versions that made them."""

    def __init__(self, root: Path, data: Path) -> None:
        self.root, self.data = root, data
        (root / "logs").mkdir(parents=True, exist_ok=True)

    def get(self, kind: str, model: Path, given: dict[str, Path]) -> Path:
        """The directory of `kind` made from `model`, or the one that is `given` for it."""
        if kind in given:
            return given[kind]
        packages = CONVERTERS[kind.split("-", maxsplit=1)[0]]
        if missing := [name for name in packages if find_spec(name) is None]:
            raise WorkerError(f"not installed: {', '.join(missing)}")
        versions = "-".join(map(version, packages))
        target = self.root / fingerprint(model) / f"{kind}-{versions}".rstrip("-")
        if not target.exists():
            made_from = KINDS[kind][1]
            source = self.get(made_from, model, given) if made_from else model
            say(f"  making {kind} ...")
            command = [sys.executable, str(Path(__file__).with_name("convert.py")), kind, str(source), str(target)]
            log = self.root / "logs" / f"{kind}.log"
            with log.open("w") as output:
                code = subprocess.run(
                    [*command, "--data", str(self.data)], stdout=output, stderr=output, check=False
                ).returncode
            if code:
                lines = log.read_text(errors="replace").strip().splitlines()
                raise WorkerError(f"{kind} could not be made: {lines[-1] if lines else 'no message'}")
        return target


def fingerprint(model: Path) -> str:
    """Of configuration and weights."""
    digest = hashlib.sha256()
    for path in (Path(__file__).with_name("convert.py"), model / "config.json", model / "model.safetensors"):
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:12]


class Comparison:
    """Everything that is measured of one model; `result` is what goes into the file."""

    def __init__(
        self,
        model: Path,
        given: dict[str, Path],
        plan: Plan,
        works: Iterable[str],
        peers: dict[str, Peer],
        threads: int,
        cache: Cache,
    ) -> None:
        self.model, self.given, self.plan, self.works = model, given, plan, frozenset(works)
        self.peers, self.threads, self.cache = peers, threads, cache
        whole = sst2(cache.data, "dev")
        dev = evenly(whole, plan.dev)
        longest = max((text for text, _ in dev), key=len)
        long = evenly(long_texts(cache.data), plan.long)
        rows = {"dev": dev, "checked": evenly(whole, plan.checked), "searched": evenly(dev, plan.searched)}
        self.texts = {name: [text for text, _ in each] for name, each in rows.items()}
        self.texts |= {"memory": [*evenly(self.texts["dev"], min(plan.dev, 218)), longest]}
        self.texts |= {"threads": evenly(self.texts["dev"], plan.threads)}
        self.texts |= {"long": long, "long searched": evenly(long, plan.long_searched)}
        self.labels = np.array([label for _, label in rows["checked"]])
        self.tokenizer = tokenizer(model)
        self.workers: dict[str, Worker] = {}  # all threads on one batch or text
        self.streams: dict[str, Worker] = {}  # as many batches at a time, each on one thread
        self.result: dict[str, Any] = {"skipped": {}, "load_seconds": {}, "others_busy": {}}

    def run(self) -> Iterator[str]:
        """Measure stage by stage; yields the name of each that is done."""
        with ExitStack() as stack:
            self._each(lambda name: self._start(stack, name), self.peers)
            yield "load"
            self._check()
            yield "check"
            if self.works - {"latency"} and self.threads > 1:
                self._each(lambda name: self._start_streams(stack, name))
            if self.works & {"sst2", "threads", "memory"} and "batch" not in self.result:
                self._search("batch", self.plan.batches, "searched")
            if "sst2" in self.works:
                self._throughput("sst2", "dev", "batch")
                yield "sst2"
            if "long" in self.works and self.plan.long:
                self._search("long_batch", self.plan.long_batches, "long searched")
                self._throughput("long", "long", "long_batch")
                yield "long"
            if "latency" in self.works:
                self._latency()
                yield "latency"
            if "threads" in self.works and self.plan.threads:
                self._threads()
                yield "threads"
        if "memory" in self.works:
            self._memory()
            yield "memory"

    def _each(self, step: Callable[[str], None], names: Iterable[str] | None = None) -> None:
        """Do a step for every runtime; one that fails is skipped from then on, visibly."""
        for name in list(self.workers if names is None else names):
            try:
                step(name)
            except WorkerError as error:  # noqa: PERF203 - one failure must not end the others
                say(f"  SKIPPED {name}: {error} (logs: {self.cache.root / 'logs'})")
                self.result["skipped"][name] = str(error)
                self.workers.pop(name, None)

    def _open(self, name: str, threads: int, streams: int = 1) -> Worker:
        kind = self.peers[name].kind
        files = self.cache.get(kind, self.model, self.given) if kind else self.model
        log = self.cache.root / "logs" / f"{name.replace(' ', '-')}-{streams}.log"
        worker = Worker(name, self.model, files, threads, log, streams)
        worker.ask("texts", **self.texts)
        return worker

    def _start(self, stack: ExitStack, name: str) -> None:
        if missing := self.peers[name].missing:
            raise WorkerError(f"not installed: {', '.join(missing)}")
        self.workers[name] = stack.enter_context(self._open(name, self.threads))
        self.result["load_seconds"][name] = self.workers[name].load_seconds

    def _start_streams(self, stack: ExitStack, name: str) -> None:
        if self.peers[name].streams:
            self.streams[name] = stack.enter_context(self._open(name, 1, self.threads))

    def _check(self) -> None:
        """Logits against transformers', before anything is timed."""
        if REFERENCE not in self.workers:
            raise SystemExit(f"{REFERENCE} is the reference and cannot run: {self.result['skipped'].get(REFERENCE)}")
        token_ids = [encoding.ids for encoding in self.tokenizer.encode_batch(self.texts["checked"])]
        order = sorted(range(len(token_ids)), key=lambda i: len(token_ids[i]))
        batches = [[token_ids[i] for i in order[start : start + 16]] for start in range(0, len(order), 16)]
        answers: dict[str, Array] = {}
        self.result["checks"] = {}

        def check(name: str) -> None:
            logits = np.concatenate(self.workers[name].ask("logits", batches=batches))
            answers[name] = logits
            verdict = judge(logits, answers[REFERENCE], self.peers[name].precision)
            verdict["accuracy"] = float((logits.argmax(axis=1) == self.labels[order]).mean())
            self.result["checks"][name] = verdict
            found = "largest difference {largest_difference:.1e}, labels agree on {agreement:.2%}".format(**verdict)
            if not verdict["passed"]:
                raise WorkerError(f"failed the check: {found}")
            say(f"  {name:32} {found}")

        self._each(check, [REFERENCE, *(name for name in self.workers if name != REFERENCE)])
        if not self.peers[REFERENCE].timed:
            self.workers.pop(REFERENCE).close()

    def _search(self, batch: str, all_sizes: Sequence[int], texts: str) -> None:
        """Texts a second for each batch size, one batch at a time and side by side; the best way serves from here on.

        0 stands for all texts at once, "16 x 2" for 16 texts on each of two threads.
        """
        self.result[f"{batch}_search"], self.result[batch] = {}, {}

        def search(name: str) -> None:
            kind = self.peers[name].batch
            sizes = all_sizes if self.peers[name].often else all_sizes[1::2]
            tried = [] if kind == "all" else [str(n) for n in sizes]
            tried += [f"{n} x {self.threads}" for n in sizes if name in self.streams]
            tried += [] if kind == "search" else ["0"]
            rates = {}
            for way in tried:  # twice, as some runtimes compile each shape when they first see it
                seconds = min(self._predict(name, texts, way)["seconds"] for _ in range(2))
                rates[way] = len(self.texts[texts]) / seconds
            best = max(rates, key=rates.__getitem__) if kind == "search" else "0"
            self.result[f"{batch}_search"][name], self.result[batch][name] = rates, best
            say(f"  {name:32} {batch} {best}; " + ", ".join(f"{way}: {rate:.0f}/s" for way, rate in rates.items()))

        self._each(search)

    def _predict(self, name: str, texts: str, way: str) -> dict[str, Any]:
        """Label texts in the way that the search found best."""
        worker = self.streams[name] if " x " in way else self.workers[name]
        answer: dict[str, Any] = worker.ask("predict", texts=texts, batch=int(way.split(" x ")[0]))
        return answer

    def _in_round(self, number: int) -> list[str]:
        return [name for name in self.workers if number == 0 or self.peers[name].often]

    def _throughput(self, work: str, texts: str, batch: str) -> None:
        """Seconds for all the texts, strings to labels, round by round."""
        seconds: dict[str, list[float]] = {name: [] for name in self.workers}

        def predict(name: str) -> None:
            answer = self._predict(name, texts, self.result[batch][name])
            seconds[name].append(answer["seconds"])
            self._note(name, work, answer)

        for i in range(self.plan.rounds):
            self._each(predict, self._in_round(i))
        self.result[work] = {"texts": len(self.texts[texts]), "seconds": seconds}

    def _latency(self) -> None:
        """Microseconds of each single text, by length, round by round."""
        words = self.tokenizer.encode("; ".join(self.texts["searched"] * 8), add_special_tokens=False).ids
        start, end = self.tokenizer.encode("").ids
        self.result["latency_us"] = {}
        for length, seconds in self.plan.lengths.items():
            times: dict[str, list[list[int]]] = {name: [] for name in self.workers}
            request = {"token_ids": [start, *words[: length - 2], end], "seconds": seconds, "least": self.plan.least}

            def turn(name: str, times: dict[str, list[list[int]]] = times, request: dict[str, Any] = request) -> None:
                answer = self.workers[name].ask("latency", **request)
                times[name].append([round(1e6 * each) for each in answer["seconds"]])
                self._note(name, f"{len(request['token_ids'])} tokens", answer)

            for i in range(self.plan.rounds):
                self._each(turn, self._in_round(i))
            self.result["latency_us"][str(length)] = times

    def _note(self, name: str, work: str, answer: dict[str, Any]) -> None:
        """CPUs that other processes kept busy during a turn: a turn that shared the machine shows in the result."""
        share = round(answer["others"], 3)
        self.result["others_busy"].setdefault(work, {}).setdefault(name, []).append(share)
        if share > DISTURBED:
            say(f"  {name}, {work}: other processes kept {share:.2f} CPUs busy")

    def _threads(self) -> None:
        """Texts a second on one thread and on all, taken in turns."""
        self.result["threads"] = {}

        def compare(name: str) -> None:
            way, seconds = self.result["batch"][name], {1: np.inf, self.threads: np.inf}
            size = int(way.split(" x ")[0])
            with self._open(name, 1) as single:
                single.ask("predict", texts="searched", batch=size)  # warm
                for _ in range(2):
                    seconds[1] = min(seconds[1], single.ask("predict", texts="threads", batch=size)["seconds"])
                    seconds[self.threads] = min(seconds[self.threads], self._predict(name, "threads", way)["seconds"])
            self.result["threads"][name] = {str(n): self.plan.threads / each for n, each in seconds.items()}

        self._each(compare, [name for name in self.workers if self.peers[name].quick])

    def _memory(self) -> None:
        """Peak of a fresh process that loads the model and labels a quarter of SST-2 dev, its longest text too."""
        self.result["memory"] = {}

        def peak(name: str) -> None:
            size, _, streams = self.result["batch"][name].partition(" x ")
            with self._open(name, 1, self.threads) if streams else self._open(name, self.threads) as worker:
                loaded = worker.ask("memory")
                worker.ask("predict", texts="memory", batch=int(size))
                self.result["memory"][name] = {"loaded": loaded, "peak": worker.ask("memory")}

        self._each(peak)


def judge(logits: Array, expected: Array, precision: str) -> dict[str, Any]:
    """Whether a runtime may be timed: float32 logits near transformers', labels of any other precision the same."""
    difference = float(np.abs(logits - expected).max())
    agreement = float((logits.argmax(axis=1) == expected.argmax(axis=1)).mean())
    passed = difference <= LARGEST_DIFFERENCE if precision == "float32" else agreement >= LEAST_AGREEMENT
    return {
        "precision": precision,
        "largest_difference": difference,
        "agreement": agreement,
        "positive": float(logits.argmax(axis=1).mean()),  # share of the second label: neither all nor nothing
        "passed": passed,
    }


def say(message: str) -> None:
    """Progress goes to standard error; the table to standard output."""
    print(message, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="npdistil against other runtimes on this CPU.")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", dest="plan", action="store_const", const="quick", default="full")
    size.add_argument("--tiny", dest="plan", action="store_const", const="tiny", help="only shows that all of it runs")
    parser.add_argument("--only", nargs="+", default=[], metavar="PEER", help=f"of: {', '.join(PEERS)}")
    parser.add_argument("--works", nargs="+", choices=WORKS, default=WORKS)
    parser.add_argument("--models", nargs="+", choices=["full-size", "bundled"], default=["full-size", "bundled"])
    parser.add_argument("--model", type=Path, help="a float32 directory instead of the seeded full-size model")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--data", type=Path, default=default_data(), help="the folder with sst2/ and long/")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "npdistil-benchmarks")
    parser.add_argument("--prepare", action="store_true", help="only make what the cache lacks, and print where it is")
    parser.add_argument("--out", type=Path, help="where the JSON goes")
    parser.add_argument("--keep", action="store_true", help="what --out has of other works, and the batches found best")
    options = parser.parse_args()
    if unknown := [name for name in options.only if name not in PEERS]:
        parser.error(f"unknown: {', '.join(unknown)}; known are {', '.join(PEERS)}")
    if options.prepare:
        print(json.dumps(prepare(Cache(options.cache, options.data), options.model)))
        return
    chosen = options.only or [name for name, peer in PEERS.items() if peer.quick or options.plan != "quick"]
    peers = {name: PEERS[name] for name in chosen}
    if REFERENCE not in peers:
        peers[REFERENCE] = replace(PEERS[REFERENCE], timed=False)
    cache, started = Cache(options.cache, options.data), time.monotonic()
    stolen = machine.stolen()
    result: dict[str, Any] = {
        "benchmark": "compare",
        "plan": options.plan,
        "threads": options.threads,
        "machine": machine.describe(),
        "complete": False,
        "models": {},
    }
    if options.keep:
        kept = json.loads(options.out.read_text(encoding="utf-8"))
        result = kept | {"again": kept.get("again", {}) | dict.fromkeys(options.works, result["machine"])}
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(options.cache / "inductor")
    for name in options.models:
        model, given = find_model(name, options.model, cache)
        comparison = Comparison(model, given, PLANS[options.plan][name], options.works, peers, options.threads, cache)
        comparison.result |= result["models"].get(name, {})
        result["models"][name] = comparison.result
        for stage in comparison.run():
            minutes = (time.monotonic() - started) / 60
            say(f"{name}: {stage} done after {minutes:.1f} minutes")
            if options.out:
                report.write(options.out, result)
    if not options.keep:
        result["minutes"] = (time.monotonic() - started) / 60
        result["stolen_seconds"] = machine.stolen() - stolen
    result["complete"] = True
    if options.out:
        report.write(options.out, result)
    print(report.targets(result))
    print(report.overview(result))


def find_model(name: str, chosen: Path | None, cache: Cache) -> tuple[Path, dict[str, Path]]:
    """The float32 directory that all runtimes start from, and kinds of it that exist already."""
    import npdistil

    bundled = npdistil.bundled_model()
    if name == "bundled":  # int8 as it is shipped; the others get what its integers stand for, in float32
        return cache.get("float32", bundled, {}), {"npdistil-int8": bundled}
    return (chosen or cache.get("full-size", bundled, {})), {}


def prepare(cache: Cache, chosen: Path | None) -> dict[str, dict[str, str]]:
    """Directories of both models, by kind; a kind that cannot be made here is left out."""
    found: dict[str, dict[str, str]] = {}
    for name in ("full-size", "bundled"):
        model, given = find_model(name, chosen, cache)
        found[name] = {"model": str(model)}
        for kind in sorted({peer.kind for peer in PEERS.values() if peer.kind}):
            try:
                found[name][kind] = str(cache.get(kind, model, given))
            except WorkerError as error:  # noqa: PERF203 - one failure must not end the others
                say(f"  SKIPPED {error}")
    return found


if __name__ == "__main__":
    main()
