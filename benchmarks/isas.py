"""Each instruction set: npdistil's installed kernels, those compiled for this very processor, and others held to it.

    python benchmarks/isas.py --out benchmarks/results/isas.json      # about 10 minutes

Full-size DistilBERT: one text, ids to logits, and many, strings to labels. Each runtime is in a process of its own for
each instruction set, all in turn within a round, and while one is measured the others are stopped. On a processor that
has more, a lower instruction set is a simulation: its clock and its memory stay as they are. OpenVINO and CTranslate2
are held by variables that their libraries read (HELD_BY), and label many texts in batches on each thread, the way that
compare.py finds best for them. Needs `pip install ".[bench]"`.
"""

import argparse
import os
import signal
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import data
import machine
import report
from compare import Cache, find_model, say
from pauses import running
from peers import PEERS
from worker import Worker, WorkerError

MANY = "256 x 25 tokens"
WORKS = {MANY: (25, 256, 0), "128": (128, 1, 0.6), "16": (16, 1, 0.4)}  # tokens, texts, seconds of a turn
BATCHES = (8, 16)  # texts that a thread of the others takes at once
EXACT = "jit"  # what NPDISTIL_ISA calls kernels compiled for this very processor
OTHERS = ("OpenVINO", "CTranslate2")
HELD_BY = ("ONEDNN_MAX_CPU_ISA", "CT2_FORCE_CPU_ISA")  # oneDNN, in both of them, and CTranslate2's own kernels
OURS = "NPDISTIL_ISA"
HOLDS = {"npdistil": (OURS,), "OpenVINO": HELD_BY[:1], "CTranslate2": HELD_BY}
HELD_TO = {
    "amx": ("AVX512_CORE_AMX", "AVX512"),
    "avx512vnni": ("AVX512_CORE_VNNI", "AVX512"),
    "avx512": ("AVX512_CORE", "AVX512"),
    "avxvnni": ("AVX2_VNNI", "AVX2"),
    "avx2": ("AVX2", "AVX2"),
}

# OpenVINO takes float32 products from a library that looks at the processor by itself: held to AVX2 it made more of
# them than the core can with AVX2.
NOT_HELD = {("OpenVINO", "float32"): ("avxvnni", "avx2")}

Found = dict[str, dict[str, dict[str, dict[str, list[float]]]]]  # precision -> instruction set -> runtime -> work


def measure(files: Mapping[str, tuple[Path, Path]], names: list[str], threads: int, rounds: int) -> Found:
    """Seconds of a call, the median of each round; a runtime that does not load, or fails, is not there."""
    found: Found = {}
    for precision in ("float32", "int8"):
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="npdistil-isas-")))
            workers: dict[tuple[str, str], list[Worker]] = {}
            for name, runtime in [
                (EXACT, "npdistil"),
                *((name, each) for name in names for each in ("npdistil", *OTHERS) if f"{each} {precision}" in files),
            ]:
                if name in NOT_HELD.get((runtime, precision), ()):
                    continue
                peer = f"{runtime} {precision}"
                held = dict(zip(HELD_BY, HELD_TO.get(name, ()), strict=False)) if runtime in OTHERS else {}
                ways = [(threads, 1), (1, threads)] if runtime in OTHERS else [(threads, 1)]  # for one text, for many
                try:
                    with _environment({OURS: name} | held):
                        log = folder / f"{peer} {name}"
                        opened = [stack.enter_context(Worker(peer, *files[peer], n, log, m)) for n, m in ways]
                except WorkerError as error:
                    say(f"  {peer} held to {name}: {error}")
                    continue
                for worker in opened:
                    worker.ask("texts", many=[" ".join(["film"] * (WORKS[MANY][0] - 2))] * WORKS[MANY][1])
                    worker.process.send_signal(signal.SIGSTOP)
                    stack.callback(worker.process.send_signal, signal.SIGCONT)
                workers[name, runtime] = opened
            times: dict[str, dict[str, dict[str, list[float]]]] = {}
            for _ in range(rounds):
                for work, (tokens, texts, seconds) in WORKS.items():
                    ids = [101, *range(2000, 1998 + tokens), 102]
                    for (name, runtime), (one, *others) in workers.items():
                        with running(others[0] if others and texts > 1 else one) as worker:
                            if texts > 1:
                                asked = [*(BATCHES if others else (0,))] * 2  # twice: what is new is slower
                                took = min(worker.ask("predict", texts="many", batch=n)["seconds"] for n in asked)
                            else:
                                took = median(worker.ask("latency", token_ids=ids, seconds=seconds, least=2)["seconds"])
                        times.setdefault(name, {}).setdefault(runtime, {}).setdefault(work, []).append(took)
        found[precision] = times
    return found


@contextmanager
def _environment(more: Mapping[str, str]) -> Iterator[None]:
    """With more variables for the processes that are started in the block."""
    before = dict(os.environ)
    os.environ.update(more)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def tables(found: Found) -> list[report.Table]:
    """Each precision: milliseconds of every runtime by instruction set, and what holds it to that."""
    both = dict.fromkeys((name, each) for times in found.values() for name in times for each in times[name])
    works = (f"{texts} texts of {tokens}" if texts > 1 else f"one of {tokens}" for tokens, texts, _ in WORKS.values())
    head = ("instruction set", "runtime", "held to it by", *works)
    return [
        (
            f"Full-size model, {precision}, all CPUs: milliseconds by tokens. A simulation: one "
            "processor held to less than it has, but for the kernels compiled for it",
            head,
            [
                (
                    "this processor" if name == EXACT else name,
                    f"**{runtime}**" if runtime == "npdistil" else runtime,
                    ", ".join(f"`{variable}`" for variable in HOLDS[runtime]),
                    *(_cell(times.get(name, {}).get(runtime, {}).get(work)) for work in WORKS),
                )
                for name, runtime in both
            ],
        )
        for precision, times in found.items()
    ]


def settings(held: Mapping[str, Mapping[str, str]]) -> tuple[report.Row, list[report.Row]]:
    """What the variables were set to for each instruction set."""
    head = ("instruction set", *(f"`{variable}`" for variable in (OURS, *HELD_BY)))
    return head, [(name, name, *(values[each] for each in HELD_BY)) for name, values in held.items()]


def _cell(seconds: list[float] | None) -> str:
    return report.short(1e3 * median(seconds)) if seconds else "-"


def main() -> None:
    from npdistil.compiled.cpu import features
    from npdistil.compiled.isa import ISAS
    from npdistil.compiled.kernels import Files, system

    parser = argparse.ArgumentParser(description="Every instruction set: npdistil, and others held to it.")
    parser.add_argument("--out", type=Path, help="write the result here, as JSON")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "npdistil-benchmarks")
    parser.add_argument("--data", type=Path, default=data.default_data())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    here = features(system(), Files(system()).load)
    names = [isa.name for isa in ISAS if isa.needs <= here]
    cache = Cache(options.cache, options.data)
    model, _ = find_model("full-size", None, cache)
    peers = {f"{runtime} {precision}" for runtime in ("npdistil", *OTHERS) for precision in ("float32", "int8")}
    files = {}
    for name in sorted(peers):
        if PEERS[name].missing:
            say(f"  {name}: not installed: {', '.join(PEERS[name].missing)}")
        else:
            kind = PEERS[name].kind
            files[name] = (model, cache.get(kind, model, {}) if kind else model)
    found = measure(files, names, options.threads, options.rounds)
    result = {
        "benchmark": "isas",
        "machine": machine.describe(),
        "held": {name: dict(zip(HELD_BY, HELD_TO[name], strict=True)) for name in names if name in HELD_TO},
        "seconds": found,
    }
    if options.out:
        report.write(options.out, result)
    print("\n\n".join(f"{what}\n\n{report.markdown(head, rows)}" for what, head, rows in tables(found)))


if __name__ == "__main__":
    main()
