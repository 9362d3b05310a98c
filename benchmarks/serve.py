"""`npdistil serve` under load, from a second process: throughput, latency, overload and start-up.

`pip install ".[serve]" && python benchmarks/serve.py --out benchmarks/results/serve.json` writes the figures, and
the table of docs/serve.md from them. `--model` adds a larger model, whose engine needs longer for each text.

Requests come at random (Poisson), whether earlier ones were answered or not, over connections that stay open; every
answer is compared with the one that the same text got alone. The client runs on the same CPUs as the service and takes
its share of them: it is counted as the service's. So that this share is small, it writes requests that were made
before and looks for no more in an answer than where it ends.

`--mixed SECONDS` does one thing instead: short and long texts, explanations and attention together, at 50 and 120 % of
what the service can do of them; figures for each kind. 600 are worth reporting.
"""

import argparse
import asyncio
import json
import random
import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import data
import machine
import report

import npdistil

SIZES = (1, 8, 32)  # texts of a request
# Of a hundred requests with all kinds; a long text has some 2,000 tokens.
MIXED = {"short text": 90, "long text": 3, "explanation": 4, "explanation with attention": 3}
PAGE = Path(__file__).parents[1] / "docs" / "serve.md"
CONNECTIONS = 64  # fewer where a request has many texts, so that they fit into the queue
NEEDS = (
    "npdistil",
    "numpy",
    "tokenizers",
    "starlette",
    "httptools",
    "prometheus_client",
)


def main() -> None:
    parser = argparse.ArgumentParser(description="npdistil serve under load.")
    parser.add_argument("--data", type=Path, default=data.default_data())
    parser.add_argument("--model", type=Path, action="append", default=[], help="one more, beside the bundled one")
    parser.add_argument("--seconds", type=float, default=30, help="of each measurement (default 30)")
    parser.add_argument("--overload", type=float, default=600, help="seconds at 120 %% (default 600; 0: none)")
    parser.add_argument("--mixed", type=float, metavar="SECONDS", help="this load and no other")
    parser.add_argument("--out", type=Path, help="file for the result; the table of the page is made from it too")
    options = parser.parse_args()
    if options.mixed:
        mixed([text for text, _ in data.sst2(options.data, "dev")], options.mixed, options.out)
        return
    if options.out and not options.overload:
        parser.error("the page tells of the overload: --out needs --overload")
    texts = [text for text, _ in data.sst2(options.data, "dev")]
    result: dict[str, Any] = {"benchmark": "serve", "machine": machine.describe(NEEDS), "seconds": options.seconds}
    stolen = machine.stolen()
    result["seconds to the first healthy answer"] = [round(start_up([]), 3) for _ in range(7)]
    plans = [(None, size) for size in SIZES] + [(model, 1) for model in options.model]
    result["loads"] = [
        measure(model, texts, size, options.seconds, options.overload if i == 0 else 0)
        for i, (model, size) in enumerate(plans)
    ]
    result["seconds stolen"] = round(machine.stolen() - stolen, 1)
    print(report.dumps(result))
    if options.out:
        report.write(options.out, result)
        text = report.fill(PAGE.read_text(encoding="utf-8"), {"load": table(result)})
        PAGE.write_text(text, encoding="utf-8")


def mixed(texts: list[str], seconds: float, out: Path | None) -> None:
    """Requests of all kinds at 50 and at 120 % of what the service can do of them."""
    made: dict[str, list[bytes]] = {
        "short text": [request([text]) for text in texts],
        "long text": [request([" ".join(texts[i : i + 80])]) for i in range(0, 800, 20)],
        "explanation": [post("/explain", {"inputs": text, "method": "occlusion"}) for text in texts[:40]],
        "explanation with attention": [
            post("/explain", {"inputs": text, "method": "occlusion", "attention": True}) for text in texts[40:80]
        ],
    }
    names = [name for name, some in made.items() for _ in some]
    weights = [MIXED[name] / len(made[name]) for name in names]
    requests = [sent for some in made.values() for sent in some]
    stolen = machine.stolen()
    result: dict[str, Any] = {"benchmark": "serve-mixed", "machine": machine.describe(NEEDS), "of a hundred": MIXED}
    process, port = serve([], "16384")
    try:
        right = asyncio.run(alone(port, requests))
        order = random.Random(1).choices(range(len(requests)), weights, k=4000)
        rates = [
            asyncio.run(closed(port, [requests[i] for i in order], [right[i] for i in order], 4, seconds / 12))[
                "answers"
            ]
            for _ in range(2)
        ]
        most = statistics.mean(rates) / (seconds / 12)
        result["requests a second, 16 at a time"] = round(most, 1)
        for share, length in ((0.5, seconds / 4), (1.2, seconds)):
            before = memory(process)
            watch = lambda: memory(process)  # noqa: E731
            found = asyncio.run(poisson(port, requests, right, share * most, length, watch, names, weights))
            result[f"at {share:.0%}"] = found | {"memory before": before}
    finally:
        process.kill()
        process.wait()
    result["seconds stolen"] = round(machine.stolen() - stolen, 1)
    print(report.dumps(result))
    if out:
        report.write(out, result)


def table(result: dict[str, Any]) -> str:
    """What docs/serve.md says of the figures, in Markdown."""
    head = ("model", "texts a request", "texts/s, engine", "texts/s, service", "share", "ms at 50 %", "ms at 90 %")
    rows = []
    for load in result["loads"]:
        engine, service = (statistics.median(load[f"texts a second, {each}"]) for each in ("engine", "service"))
        times = (load[f"at {share}%"]["milliseconds to 200"] for share in (50, 90))
        rows.append(
            (
                load["model"],
                str(load["texts of a request"]),
                f"{engine:,.0f}",
                f"{service:,.0f}",
                f"{service / engine:.0%}",
                *(f"{each['p50']:.1f} (p99 {each['p99']:.0f})" for each in times),
            )
        )
    over = result["loads"][0]["at 120%"]
    least, most = (found(over["memory"]) / 1e6 for found in (min, max))
    wrong, lost = (over.get(name, 0) for name in ("wrong", "lost"))
    first = statistics.median(result["seconds to the first healthy answer"])
    what = f"Requests of texts of SST-2 dev, {report.tokens('SST-2 dev')} a text; the client on the same CPUs"
    return (
        f"{report.measured_on(what, result, '../benchmarks/results/serve.json')}\n\n"
        f"{report.markdown(head, rows)}\n\n"
        f"{over['seconds']:g} seconds at 120 %: {over['sent']:,} requests, {over['200']:,} answered, "
        f"{over['429']:,} refused with 429, "
        f"{wrong} wrong, {lost} lost; memory between {least:.0f} and {most:.0f} MB. From the command to the first "
        f"healthy answer: {first:.2f} s."
    )


def measure(model: Path | None, texts: list[str], size: int, seconds: float, overload: float) -> dict[str, Any]:
    """Requests of `size` texts, on one machine, one measurement after the other."""
    result: dict[str, Any] = {"model": model.name if model else "bundled", "texts of a request": size}
    chosen = ["--model", str(model)] if model else []
    bodies = [texts[i : i + size] for i in range(0, len(texts) - size + 1, size)]
    requests = [request(body) for body in bodies]
    engine = npdistil.load(model)
    with_engine: list[float] = []
    with_service: list[float] = []
    client: list[float] = []
    process, port = serve(chosen)
    try:
        right = asyncio.run(alone(port, requests))
        expected = [npdistil.pipeline("text-classification", engine, top_k=None)(body) for body in bodies]
        wanted = [json.dumps(each, ensure_ascii=False, separators=(",", ":")).encode() for each in expected]
        assert right == wanted, "the service does not give what the engine gives"
        for _ in range(3):  # in turn, so that a slower minute of the machine is one of both
            with_engine.append(rate_of_engine(engine, texts, seconds / 3))
            began = time.process_time()
            answers = asyncio.run(closed(port, requests, right, size, seconds / 3))["answers"]
            with_service.append(answers * size * 3 / seconds)
            client.append((time.process_time() - began) / (seconds / 3))
        result["texts a second, engine"] = [round(rate) for rate in with_engine]
        result["texts a second, service"] = [round(rate) for rate in with_service]
        result["CPUs that the client took of the service"] = [round(share, 3) for share in client]
        most = statistics.median(with_service)
        for share in (0.5, 0.9):
            result[f"at {share:.0%}"] = asyncio.run(poisson(port, requests, right, share * most / size, seconds))
        if overload:
            before = memory(process)
            found = asyncio.run(poisson(port, requests, right, 1.2 * most / size, overload, lambda: memory(process)))
            result["at 120%"] = found | {"memory before": before}
    finally:
        process.kill()
        process.wait()
    return result


def serve(chosen: list[str], queue: str = "4096") -> tuple["subprocess.Popen[str]", int]:
    """A service and its port. Its queue is short, so that too much is refused and not kept waiting."""
    command = [sys.executable, "-m", "npdistil", "serve", "--port", "0", *chosen]
    command += ["--max-queue-tokens", queue, "--max-request-tokens", "4096"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    for line in process.stderr:
        if found := re.match(r"listening on http://.*:(\d+)$", line):
            return process, int(found[1])
    raise SystemExit("the service did not start")


def start_up(chosen: list[str]) -> float:
    """Seconds from the command to the first 200 of /health, kernels in their cache."""
    began = time.perf_counter()
    process, port = serve(chosen)
    try:
        assert asyncio.run(health(port)) == 200
        return time.perf_counter() - began
    finally:
        process.kill()
        process.wait()


async def health(port: int) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
    status = int((await reader.readline()).split()[1])
    writer.close()
    return status


def memory(process: "subprocess.Popen[str]") -> int:
    """Resident bytes of the service."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


def rate_of_engine(engine: npdistil.Model, texts: list[str], seconds: float) -> float:
    """Texts a second with nothing between, tokenizing included, in batches of 64."""
    began, done = time.perf_counter(), 0
    while (took := time.perf_counter() - began) < seconds:
        first = done % (len(texts) - 64)
        engine.scores(texts[first : first + 64])
        done += 64
    return done / took


def request(texts: list[str]) -> bytes:
    """HTTP, ready to be sent."""
    return post("/predict", {"inputs": [[text] for text in texts]})


def post(path: str, data: Any) -> bytes:
    """The same, for any path."""
    body = json.dumps(data).encode()
    head = b"POST %b HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n"
    return head % (path.encode(), len(body)) + body


class Connection:
    """One that stays open; one request at a time."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, sent: bytes) -> tuple[int, bytes]:
        """Status and body."""
        if self.streams is None or self.streams[0].at_eof():  # the service closes connections that rest too long
            self.streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self.streams
        writer.write(sent)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        return int(head[9:12]), await reader.readexactly(length)

    def close(self) -> None:
        """Where it was open."""
        if self.streams:
            self.streams[1].close()


async def alone(port: int, requests: list[bytes]) -> list[bytes]:
    """The right answers: each request by itself."""
    connection = Connection(port)
    answers = [await connection.ask(sent) for sent in requests]
    connection.close()
    assert {status for status, _ in answers} == {200}
    return [body for _, body in answers]


async def closed(port: int, requests: list[bytes], right: list[bytes], size: int, seconds: float) -> dict[str, Any]:
    """As many requests, of `size` texts each, as it can answer, a number of them at a time."""
    connections = max(4, CONNECTIONS // size)
    ends = time.perf_counter() + seconds
    counts: Counter[str] = Counter()

    async def client(number: int) -> None:
        connection, i = Connection(port), number
        while time.perf_counter() < ends:
            i = (i + connections) % len(requests)
            status, body = await connection.ask(requests[i])
            assert (status, body) == (200, right[i])
            counts["answers"] += time.perf_counter() < ends
        connection.close()

    await asyncio.gather(*(client(number) for number in range(connections)))
    return counts


async def poisson(
    port: int,
    requests: list[bytes],
    right: list[bytes],
    rate: float,
    seconds: float,
    watch: Any = None,
    names: list[str] | None = None,
    weights: list[float] | None = None,
) -> dict[str, Any]:
    """`rate` requests a second at random times; what became of them, and how long the answers took.

    Of requests of several kinds, `names` and `weights` give each one's kind and share.
    """
    rng = random.Random(0)
    idle = [Connection(port)]
    counts: Counter[str] = Counter()
    took: list[float] = []
    of_kind: dict[str, list[float]] = {}
    refused: list[float] = []
    watched: list[int] = []

    async def one(i: int, due: float) -> None:
        connection = idle.pop() if idle else Connection(port)
        try:
            status, body = await connection.ask(requests[i])
        except (OSError, asyncio.IncompleteReadError):
            counts["lost"] += 1
            return
        (took if status == 200 else refused).append(time.perf_counter() - due)
        if names and status == 200:
            of_kind.setdefault(names[i], []).append(took[-1])
        right_one = body == right[i] if status == 200 else json.loads(body)["error_type"] == "Overloaded"
        counts[str(status) if right_one and status in (200, 429) else "wrong"] += 1
        idle.append(connection)

    tasks: set[asyncio.Task[None]] = set()
    began = due = time.perf_counter()
    sent = 0
    while due - began < seconds:
        due += rng.expovariate(rate)
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        task = asyncio.create_task(one(rng.choices(range(len(requests)), weights)[0], due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        sent += 1
        if watch and (due - began) * 20 / seconds > len(watched):
            watched.append(watch())
    await asyncio.gather(*tasks)
    for connection in idle:
        connection.close()
    found: dict[str, Any] = {"requests a second": round(rate, 1), "seconds": seconds, "sent": sent, **counts}
    kinds = [(f"milliseconds to 200, {name}", values) for name, values in sorted(of_kind.items())]
    for name, values in (("milliseconds to 200", took), *kinds, ("milliseconds to 429", refused)):
        if values:
            found[name] = {f"p{p}": round(report.percentile(values, p / 100) * 1000, 2) for p in (50, 90, 99)}
    return found | ({"memory": watched} if watched else {})


if __name__ == "__main__":
    main()
