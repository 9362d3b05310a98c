"""One runtime in a process of its own: requests come in as JSON lines, answers go out as JSON lines."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import machine
from peers import OWN, PEERS, Runner

SETTLE = 0.25  # seconds for thread pools to stop spinning before another process is timed
# Every library reads its own; a runtime that is given its threads by its interface gets the same number here.
THREAD_SETTINGS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NPDISTIL_THREADS",
)


class WorkerError(Exception):
    """A worker that could not do what it was asked for; the message is its last words."""


class Worker:
    """The parent's end of the pipe."""

    def __init__(self, peer: str, model: Path, files: Path, threads: int, log: Path, streams: int = 1) -> None:
        self.peer, self.log = peer, log
        environment = os.environ | dict.fromkeys(THREAD_SETTINGS, str(threads))
        environment |= {"RAYON_NUM_THREADS": str(threads * streams), "TOKENIZERS_PARALLELISM": "true"}
        with log.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, __file__, peer, str(model), str(files), str(threads), str(streams)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment,
            )
        self.load_seconds: float = self._answer()["seconds"]

    def ask(self, do: str, **request: Any) -> Any:
        """Its answer; raises WorkerError if it ended instead."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps({"do": do} | request) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            self.close()
            raise WorkerError(self._last_words()) from None
        answer = self._answer()
        time.sleep(SETTLE)
        return answer

    def close(self) -> None:
        """End it, by closing its standard input, and wait for that."""
        for pipe in (self.process.stdin, self.process.stdout):
            with suppress(BrokenPipeError):
                if pipe is not None:
                    pipe.close()
        self.process.wait()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.close()
            raise WorkerError(self._last_words())
        return json.loads(line)

    def _last_words(self) -> str:
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return f"{lines[-1] if lines else 'ended without a word'} (exit code {self.process.returncode})"


def peak_memory() -> int:
    """The most memory that this process has held so far, in bytes. Unlike getrusage, it knows nothing of the parent."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no VmHWM")


def others_seconds() -> float:
    """CPU time that the other processes of this machine have used so far."""
    return machine.busy_seconds() - time.process_time()


def latencies(
    runner: Runner, token_ids: Sequence[int], seconds: float, least: int, texts: int = 1, pause: float = 0
) -> list[float]:
    """Seconds of one call after the other, of one text or of several that are alike, after three that do not count.

    Before each call the process sleeps for `pause` seconds, which do not count either.
    """
    batch = [token_ids] * texts
    for _ in range(3):
        runner.logits(batch)
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < least or time.perf_counter() < end:
        if pause:
            time.sleep(pause)
        start = time.perf_counter()
        runner.logits(batch)
        times.append(time.perf_counter() - start)
    return times


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not get among the answers

    def answer(value: Any) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    name, model, files, threads, streams = sys.argv[1:]
    peer = (PEERS | OWN)[name]
    start = time.perf_counter()
    runner = peer.runner(Path(model), Path(files), int(threads), peer.precision, int(streams))
    answer({"seconds": time.perf_counter() - start})
    texts: dict[str, list[str]] = {}
    for line in sys.stdin:
        request = json.loads(line)
        match request.pop("do"):
            case "texts":
                texts |= request
                answer(None)
            case "logits":
                answer([runner.logits(ids).tolist() for ids in request["batches"]])
            case "predict":
                start, others = time.perf_counter(), others_seconds()
                labels = runner.predict(texts[request["texts"]], request["batch"])
                seconds = time.perf_counter() - start
                answer({"seconds": seconds, "others": (others_seconds() - others) / seconds, "labels": labels})
            case "latency":
                start, others = time.perf_counter(), others_seconds()
                times = latencies(runner, **request)
                answer({"seconds": times, "others": (others_seconds() - others) / (time.perf_counter() - start)})
            case "memory":
                answer(peak_memory())
            case unknown:
                raise ValueError(unknown)


if __name__ == "__main__":
    main()
