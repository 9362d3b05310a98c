"""`npdistil serve` under load, from a second process: throughput, latency, overload and start-up.

`pip install ".[serve]" && python benchmarks/serve.py --out benchmarks/results/serve.json` writes the figures, and
the table of docs/serve.md from them. `--model` adds a larger model, whose engine needs longer for each text.

Requests come at random (Poisson), whether earlier ones were answered or not, over connections that stay open; every
answer is compared with the one that the same text got alone. The client runs on the same CPUs as the service and takes
its share of them: it is counted as the service's, and what it was is in the result. So that it is small, the client is
one thread on epoll without asyncio, writes requests that were made before, and looks at how an answer begins and ends.

`--mixed SECONDS` does one thing instead: short and long texts, explanations and attention together, at 50 and 120 % of
what the service can do of them; figures for each kind. 600 are worth reporting. All of both takes 29 minutes.
"""

import argparse
import itertools
import json
import random
import re
import select
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
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
TURNS = 3  # of each measurement; their medians are reported
IN_FLIGHT = 128  # texts on their way, so that the engine never waits for one; as many fit into the queue
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
    parser.add_argument("--seconds", type=float, default=12, help="of each measurement (default 12)")
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
        right = alone(port, requests)
        order = random.Random(1).choices(range(len(requests)), weights, k=4000)
        some = [requests[i] for i in order], [right[i] for i in order]
        rates = [closed(port, *some, 16, seconds / 40) for _ in range(2)]
        most = statistics.mean(rates) / (seconds / 40)
        result["requests a second, 16 at a time"] = round(most, 1)
        for share, length in ((0.5, seconds / 12), (1.2, seconds)):
            before = memory(process)
            watch = lambda: memory(process)  # noqa: E731
            found = poisson(port, requests, right, share * most, length, watch, names, weights)
            result[f"at {share:.0%}"] = found | {"memory before": before}
    finally:
        process.kill()
        process.wait()
    result["seconds stolen"] = round(machine.stolen() - stolen, 1)
    print(report.dumps(result))
    if out:
        report.write(out, result)
        PAGE.write_text(report.fill(PAGE.read_text(encoding="utf-8"), {"mixed load": told(result)}), encoding="utf-8")


def told(result: dict[str, Any]) -> str:
    """What docs/serve.md says of requests of all kinds."""
    over = result["at 120%"]
    waits = [over[f"milliseconds to 200, {kind}"]["p50"] / 1000 for kind in MIXED]
    grown = (max(over["memory"]) - over["memory before"]) / 1e6
    shares = ", ".join(f"{kind} {share}" for kind, share in MIXED.items())
    counts = (
        f"{over['seconds']:g} seconds at 120 %: {over['sent']:,} requests, {over['200']:,} answered, {over['429']:,} "
        f"refused with 429, {over.get('wrong', 0)} wrong, {over.get('lost', 0)} lost. The median wait was "
        f"{waits[0]:.1f} s for short texts, {waits[1]:.1f} s for long ones, {waits[2]:.1f} s for explanations and "
        f"{waits[3]:.1f} s for those with attention; memory grew by {grown:.0f} MB."
    )
    what = f"Requests of all kinds together (of a hundred: {shares})"
    return f"{report.measured_on(what, result, '../benchmarks/results/serve-mixed.json')}\n\n{report.filled(counts)}"


def table(result: dict[str, Any]) -> str:
    """What docs/serve.md says of the figures, in Markdown."""
    head = ("model", "texts a request", "texts/s, engine", "texts/s, service", "share", "ms at 50 %", "ms at 90 %")
    loads = result["loads"]
    rates = [[statistics.median(load[f"texts a second, {each}"]) for each in ("engine", "service")] for load in loads]
    rows = [
        (
            load["model"],
            str(load["texts of a request"]),
            f"{engine:,.0f}",
            f"{service:,.0f}",
            f"{service / engine:.0%}",
            *(waited([turn["milliseconds to 200"] for turn in load[f"at {share}%"]]) for share in (50, 90)),
        )
        for load, (engine, service) in zip(loads, rates, strict=True)
    ]
    over, (engine, service) = loads[0]["at 120%"], rates[0]
    least, most = (found(over["memory"]) / 1e6 for found in (min, max))
    first = statistics.median(result["seconds to the first healthy answer"])
    client = statistics.median(loads[0]["CPUs that the client took of the service"])
    what = f"Requests of texts of SST-2 dev, {report.tokens('SST-2 dev')} a text; the client on the same CPUs"
    overload = (
        f"{over['seconds']:g} seconds at 120 %: {over['sent']:,} requests, {over['200']:,} answered, {over['429']:,} "
        f"refused with 429, {over.get('wrong', 0)} wrong, {over.get('lost', 0)} lost; memory between {least:.0f} and "
        f"{most:.0f} MB. From the command to the first healthy answer: {first:.2f} s. What a request costs beside its "
        f"text, in the service, the client and the system between them, is {engine / service - 1:.0%} of what a short "
        f"text costs the bundled model; the client takes {client:.0%} of a CPU."
    )
    return "\n\n".join(
        [
            report.measured_on(what, result, "../benchmarks/results/serve.json"),
            report.markdown(head, rows),
            report.filled(overload),
        ]
    )


def waited(turns: list[dict[str, float]]) -> str:
    """The medians of turns, in milliseconds."""
    p50, p99 = (statistics.median(turn[each] for turn in turns) for each in ("p50", "p99"))
    return f"{p50:.1f} (p99 {p99:.0f})"


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
        right = alone(port, requests)
        expected = [npdistil.pipeline("text-classification", engine, top_k=None)(body) for body in bodies]
        wanted = [json.dumps(each, ensure_ascii=False, separators=(",", ":")).encode() for each in expected]
        assert right == wanted, "the service does not give what the engine gives"
        for _ in range(TURNS):  # of both, so that a slower minute of the machine is one of both
            with_engine.append(rate_of_engine(engine, texts, seconds / TURNS))
            began = time.process_time()
            answers = closed(port, requests, right, IN_FLIGHT // size, seconds / TURNS)
            with_service.append(answers * size * TURNS / seconds)
            client.append((time.process_time() - began) / (seconds / TURNS))
        result["texts a second, engine"] = [round(rate) for rate in with_engine]
        result["texts a second, service"] = [round(rate) for rate in with_service]
        result["CPUs that the client took of the service"] = [round(share, 3) for share in client]
        most = statistics.median(with_service)
        for share in (0.5, 0.9):
            rate = share * most / size
            result[f"at {share:.0%}"] = [poisson(port, requests, right, rate, seconds, seed=i) for i in range(TURNS)]
        if overload:
            before = memory(process)
            found = poisson(port, requests, right, 1.2 * most / size, overload, lambda: memory(process))
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
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as answer:
            assert answer.status == 200
        return time.perf_counter() - began
    finally:
        process.kill()
        process.wait()


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


class Client:
    """Requests over connections that stay open, one at a time on each.

    What it takes is taken from the service, so it does as little as a client can: one thread, no parsing of an answer
    that begins and ends as the right one does.
    """

    def __init__(self, port: int) -> None:
        self.port, self.epoll = port, select.epoll()
        self.sockets: dict[int, socket.socket] = {}
        self.resting: list[int] = []
        self.asked: dict[int, tuple[Any, bytes]] = {}  # connection -> whose request it has, and how the answer ends
        self.come: dict[int, bytes] = {}  # connection -> the first part of an answer

    def send(self, sent: bytes, right: bytes, whose: Any) -> None:
        """A request, over a connection that rests or a new one."""
        if self.resting:
            number = self.resting.pop()
        else:
            sock = socket.create_connection(("127.0.0.1", self.port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sockets[number := sock.fileno()] = sock
            self.epoll.register(number, select.EPOLLIN)
        self.asked[number] = (whose, right)
        with suppress(OSError):  # the service has closed it, as will be seen
            self.sockets[number].sendall(sent)

    def answers(self, seconds: float) -> Iterator[tuple[Any, int, bytes | None]]:
        """Whose answers have come, after so long at most: their status, and the body if it is not the right one.

        The status is 0 where the connection was lost.
        """
        select.select([self.epoll], [], [], seconds)  # which can wait for less than the millisecond of epoll
        for number, _ in self.epoll.poll(0):
            try:
                data = self.sockets[number].recv(1 << 20)
            except OSError:
                data = b""
            whose, right = self.asked.get(number, (None, b""))
            if not data:
                self.epoll.unregister(number)
                self.sockets.pop(number).close()
                if self.asked.pop(number, None):
                    yield whose, 0, b""
                else:  # the service closes connections that rest too long
                    self.resting.remove(number)
                continue
            if self.come:
                data = self.come.pop(number, b"") + data
            body: bytes | None = None
            if not (data.startswith(b"HTTP/1.1 200 ") and data.endswith(right)):
                head, _, body = data.partition(b"\r\n\r\n")
                length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head + b"\r\n")
                if not length or len(body) < int(length[1]):
                    self.come[number] = data
                    continue
            del self.asked[number]
            self.resting.append(number)
            yield whose, int(data[9:12]), body

    def close(self) -> None:
        """All connections."""
        for sock in self.sockets.values():
            sock.close()
        self.epoll.close()


def tails(right: list[bytes]) -> list[bytes]:
    """How answers with these bodies end."""
    return [b"\r\n\r\n" + body for body in right]


def alone(port: int, requests: list[bytes]) -> list[bytes]:
    """The right answers: each request by itself."""
    client, found = Client(port), list[bytes]()
    for sent in requests:
        client.send(sent, b"\0", None)  # nothing ends so, so that all of it is looked at
        while client.asked:
            for _, status, body in client.answers(60):
                assert status == 200, body
                found.append(body or b"")
    client.close()
    return found


def closed(port: int, requests: list[bytes], right: list[bytes], connections: int, seconds: float) -> int:
    """How many requests it answers, a number of them at a time."""
    client, ends, count = Client(port), time.perf_counter() + seconds, 0
    order = itertools.cycle(zip(requests, tails(right), strict=True))
    for sent, tail in itertools.islice(order, connections):
        client.send(sent, tail, None)
    while client.asked:
        for _, status, body in client.answers(60):
            assert (status, body) == (200, None)
            if time.perf_counter() < ends:
                count += 1
                client.send(*next(order), None)
    client.close()
    return count


def poisson(
    port: int,
    requests: list[bytes],
    right: list[bytes],
    rate: float,
    seconds: float,
    watch: Callable[[], int] | None = None,
    names: list[str] | None = None,
    weights: list[float] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """`rate` requests a second at random times; what became of them, and how long the answers took.

    Of requests of several kinds, `names` and `weights` give each one's kind and share.
    """
    rng, client, tail = random.Random(seed), Client(port), tails(right)
    counts: Counter[str] = Counter()
    took: dict[str, list[float]] = {}
    watched: list[int] = []
    totals = [*itertools.accumulate(weights)] if weights else None
    numbers = range(len(requests))
    began = time.perf_counter()
    due = began + rng.expovariate(rate)
    while (sending := due - began < seconds) or client.asked:
        now = time.perf_counter()
        while sending and due <= now:
            i = rng.choices(numbers, cum_weights=totals)[0] if totals else rng.choice(numbers)
            client.send(requests[i], tail[i], (i, due))
            counts["sent"] += 1
            due += rng.expovariate(rate)
            sending = due - began < seconds
        if watch and (now - began) * 20 / seconds > len(watched) < 20:
            watched.append(watch())
        for (i, asked), status, body in client.answers(max(0.0, due - now) if sending else 60):
            if status == 0:
                counts["lost"] += 1
                continue
            for name in ("", f", {names[i]}") if names and status == 200 else ("",):
                took.setdefault(f"milliseconds to {status}{name}", []).append(time.perf_counter() - asked)
            is_right = body is None if status == 200 else status == 429 and b'"Overloaded"' in (body or b"")
            counts[str(status) if is_right else "wrong"] += 1
    client.close()
    found: dict[str, Any] = {"requests a second": round(rate, 1), "seconds": seconds}
    found |= {"sent": 0, "200": 0, "429": 0, **counts}
    for name, values in sorted(took.items()):
        found[name] = {f"p{p}": round(report.percentile(values, p / 100) * 1000, 2) for p in (50, 90, 99)}
    return found | ({"memory": watched} if watched else {})


if __name__ == "__main__":
    main()
