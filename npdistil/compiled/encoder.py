"""The fast encoder: `engine.Encoder` on compiled kernels. The forward itself is in forward.py."""

import os
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..batch import blocks
from ..checkpoint.config import Config
from ..compiled import layout
from ..distilbert.encoder import Array, Params
from ..errors import EngineError, InputError
from .cache import Run, machine_code
from .layout import ATTENTION_STAGES, BLOCK_STAGES, JOB, LAYER, LINE, QUERIES, ROOM, TABLES
from .panels import LANES, aligned_zeros, linear_size, pack_linear, padded, rounded_up
from .target import Level, Target
from .threads import team

CHECKED = os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")  # run the twins, which check every address
CHUNK = 256  # rows that one thread takes through the whole forward: enough to hide that all panels stream past
BLOCK = 64  # rows that go through a feed-forward layer at a time: what comes in between stays in the second cache
TOGETHER = 128  # rows up to which all threads work on one chunk: panels then stream past once, not once a thread
HEADS = 4  # linear layers of heads that stay packed
SMALL = 2**21  # products up to which a head's layer is not worth waking others
GUARD = 4096 if CHECKED else 0  # bytes between buffers that nothing may touch
SPARE = 64 * 4 + 64  # bytes after a buffer that whole vectors may read and never use

# What a product takes, and the buffer of as many and as wide float32 rows; in float32 it is that buffer itself, but
# for rows of context, of which a block is copied.
OPERANDS = {
    "x_operand": "x",
    "wanted_operand": "wanted",
    "context_operand": "y",
    "y_operand": "y",
    "hidden_operand": "hidden",
}

if CHECKED:
    from ..compiled import simd


class CompiledEncoder:
    """`encoder.encode` in compiled kernels, on packed panels; results have the same bits for any batch and any threads.

    Args:
        config: sizes and activation.
        params: the encoder's parameters in the precision to run in.
        threads: how many may work on a call.
        max_tokens: rows in flight; buffers are made for these, not for the batch.

    Raises:
        EngineError: the machine lacks fused multiply-add.
        MissingExtraError: numba is not installed.
    """

    name = "compiled"

    def __init__(self, config: Config, params: Params, threads: int, max_tokens: int) -> None:
        self.config = config
        self.threads = 1 if CHECKED else threads
        self.level = Target.current().level()
        self.int8 = "weight_scale" in params["layer"][0]["ffn"]["lin1"]
        self.chunk = max(1, min(CHUNK, max_tokens // threads))
        capacity = max(config.max_position_embeddings, self.chunk, TOGETHER)
        self._kept: list[Array] = []  # arrays whose addresses the kernels have
        self._model = self._prepared(params)
        layer_stages = ATTENTION_STAGES + BLOCK_STAGES * max(1, threads - 1)
        chunk_stages = config.n_layers * layer_stages + 3  # and embed, gather, give
        self._model["layer_stages"], self._model["chunk_stages"] = layer_stages, chunk_stages
        self._room = _room(config, self.level, self.int8, capacity, chunk_stages)
        self._heads: dict[tuple[int, int], tuple[Array, Array, Params]] = {}
        self._leases: deque[_Lease] = deque()  # buffers that no call is using
        self._run = _kernels()

    @property
    def _width(self) -> int:
        return self.level.vectors * LANES

    def _address(self, array: Array) -> int:
        """The address of an array, which stays as long as the encoder."""
        if not array.flags.c_contiguous:
            raise EngineError("a weight does not lie in one piece")
        self._kept.append(array)
        if CHECKED:
            simd.allow(array)
        return array.ctypes.data

    def _prepared(self, params: Params) -> Array:
        """The part of a job that is the same for every call."""
        config, step = self.config, rounded_up(self.config.dim, LANES)
        job = np.zeros((), JOB)
        layers = np.zeros(config.n_layers, LAYER)
        linears = [block["attention"] | block["ffn"] for block in params["layer"]]
        # One piece for all, because the system gives large pages to large pieces only.
        sizes = [linear_size(linear["weight"], self.level) for each in linears for linear in each.values()]
        panels = iter(np.split(aligned_zeros(sum(sizes)), np.cumsum(sizes)[:-1]))
        for layer, block, each in zip(layers, params["layer"], linears, strict=True):
            for name, linear in each.items():
                packed = pack_linear(level=self.level, out=next(panels), **linear)
                layer[name] = tuple(self._address(v) if isinstance(v, np.ndarray) else v for v in packed.values())
            for name in ("sa_layer_norm", "output_layer_norm"):
                layer[name] = self._norm(block[name], step)
        embeddings = params["embeddings"]
        job["dim"], job["hidden_dim"] = config.dim, config.hidden_dim
        job["n_heads"], job["n_layers"] = config.n_heads, config.n_layers
        job["layers"] = self._address(layers)
        job["activation"] = layout.ACTIVATIONS[config.activation]
        job["int8"] = self.int8
        job["words"] = self._table(embeddings["word_embeddings"])
        job["positions"] = self._table(embeddings["position_embeddings"])
        job["norm"] = self._norm(embeddings["LayerNorm"], step)
        job["block"] = BLOCK
        job["step"] = step * 4
        job["hidden_step"] = rounded_up(config.hidden_dim, LANES) * 4
        job["zeros"] = self._address(np.zeros(self._width, np.float32))
        return job

    def _norm(self, norm: Params, size: int) -> tuple[int, int]:
        return tuple(self._address(padded(norm[name], np.float32, size)) for name in ("weight", "bias"))  # type: ignore[return-value]

    def _table(self, table: Params) -> tuple[int, int, int]:
        weight = table["weight"]
        scale = table.get("weight_scale")
        scales = 0 if scale is None else self._address(np.ascontiguousarray(scale, np.float32))
        return self._address(weight), scales, TABLES[weight.dtype.name]

    def encode(self, ids: Array, bounds: Array, rows: Array | None = None) -> Array:
        """As `Encoder.encode`.

        Raises:
            InputError: arrays that the kernels must not see: of another type or order, or with values out of range.
        """
        wanted = np.arange(len(ids)) if rows is None else rows
        _check(self.config, ids, bounds, wanted)
        out = np.empty((len(wanted), self.config.dim), np.float32)
        if not len(wanted):
            return out
        wanted_bounds = np.searchsorted(wanted, bounds)
        places = np.arange(len(ids)) - np.repeat(bounds[:-1], np.diff(bounds))
        chunks, alone = self._chunks(bounds, wanted_bounds)
        job = self._model.copy()
        job["n_chunks"], job["alone"] = len(chunks), alone
        arrays = {"ids": ids, "places": places, "bounds": bounds, "wanted": wanted, "wanted_bounds": wanted_bounds}
        stages = 1 + (len(chunks) - alone) * int(job["chunk_stages"])
        self._do(job, arrays | {"chunks": chunks, "out": out}, stages)
        return out

    def _chunks(self, bounds: Array, wanted_bounds: Array) -> tuple[Array, int]:
        """What is done at a time, and how many of these chunks are left to one thread each."""
        total, threads = int(bounds[-1]), self.threads
        size = self.chunk if total > self.chunk * threads else max(TOGETHER, -(-total // threads))
        stops = [*_stops(bounds, min(size, self.chunk))]
        chunks = np.zeros(len(stops), layout.CHUNK)
        chunks["stop"] = stops
        chunks["start"][1:] = chunks["stop"][:-1]
        chunks["first"], chunks["last"] = wanted_bounds[chunks["start"]], wanted_bounds[chunks["stop"]]
        return chunks, len(stops) if threads == 1 else len(stops) // threads * threads

    def linear(self, x: Array, weight: Array, bias: Array) -> Array:
        """As `Encoder.linear`. The weights of the last few calls stay packed: those of a head are always the same.

        Raises:
            InputError: arrays that the kernels must not see.
        """
        x = np.ascontiguousarray(x)
        if x.ndim != 2 or weight.ndim != 2 or x.shape[1] != weight.shape[1] or bias.shape != weight.shape[:1]:
            raise InputError(f"a linear layer for {x.shape} cannot be {weight.shape}, {bias.shape}")
        if {x.dtype, weight.dtype, bias.dtype} != {np.dtype(np.float32)}:
            raise InputError(f"a linear layer is float32, not {x.dtype}, {weight.dtype}, {bias.dtype}")
        lin = self._packed(weight, bias)
        out = np.empty((len(x), rounded_up(len(weight), LANES)), np.float32)
        if not x.size:
            return np.broadcast_to(bias, (len(x), len(bias))).copy()
        job = self._model.copy()
        job["task"], job["rows"], job["out_step"] = layout.LINEAR, len(x), out.strides[0]
        job["lin"] = tuple(v.ctypes.data if isinstance(v, np.ndarray) else v for v in lin.values())
        job["operand"] = x.ctypes.data, x.strides[0], 0
        kept = {name: v for name, v in lin.items() if isinstance(v, np.ndarray)}
        self._do(job, {"out": out}, 1, (x, *kept.values()), alone=x.size * len(weight) < SMALL)
        return np.ascontiguousarray(out[:, : len(weight)])

    def _packed(self, weight: Array, bias: Array) -> Params:
        key = id(weight), id(bias)
        found = self._heads.get(key)
        if found is None:
            # The arrays are kept beside what was made of them, so that no other ones get their numbers.
            found = weight, bias, pack_linear(weight, bias, self.level, aligned_zeros(linear_size(weight, self.level)))
            while len(self._heads) >= HEADS:
                self._heads.pop(next(iter(self._heads)), None)
            self._heads[key] = found
        return found[2]

    def _do(
        self, job: Array, arrays: dict[str, Array], stages: int, others: tuple[Array, ...] = (), alone: bool = False
    ) -> None:
        """Have a job done, by this thread and by those of the team that come."""
        try:
            lease = self._leases.pop()
        except IndexError:
            lease = _Lease(*self._room, self.threads)
        counters = np.zeros(stages * LINE + LINE, np.uint8)
        job["threads"], job["rooms"] = self.threads, lease.rooms.ctypes.data
        job["counters"] = rounded_up(counters.ctypes.data, LINE)
        for name, array in arrays.items():
            job[name] = array.ctypes.data
        work = _Work(self, job, lease, (counters, *arrays.values(), *others))
        if CHECKED:
            with simd.allowed(job, lease.rooms, *lease.parts, counters, *arrays.values(), *others):
                self._run(job.ctypes.data, 0)
        else:
            if not alone:
                team.ask([work.joined(rank) for rank in range(1, self.threads)])
            self._run(job.ctypes.data, 0)
        work.close()


def _kernels() -> Run:
    """`forward.run`, as machine code or, checked, as Python."""
    if CHECKED:
        from .forward import run

        return run
    return machine_code()


class _Work:
    """One job and what it lies in, which stay until the last thread has left it."""

    def __init__(self, encoder: CompiledEncoder, job: Array, lease: "_Lease", arrays: tuple[Array, ...]) -> None:
        self.encoder, self.job, self.lease, self.arrays = encoder, job, lease, arrays
        self.lock = threading.Lock()
        self.inside = 0
        self.closed = False

    def joined(self, rank: int) -> Any:
        """A task for a helper: take part, unless the job is done already."""

        def task() -> None:
            with self.lock:
                if self.closed:
                    return
                self.inside += 1
            self.encoder._run(self.job.ctypes.data, rank)
            with self.lock:
                self.inside -= 1
                self._leave()

        return task

    def close(self) -> None:
        """The job is done."""
        with self.lock:
            self.closed = True
            self._leave()

    def _leave(self) -> None:
        if self.closed and not self.inside and len(self.encoder._leases) < self.encoder.threads:
            self.encoder._leases.append(self.lease)
        if self.closed and not self.inside:
            del self.encoder, self.job, self.lease, self.arrays


class _Lease:
    """The buffers of one call: a room for each thread. Pages that were never written to take no memory."""

    def __init__(self, sizes: dict[str, int], steps: dict[str, int], threads: int) -> None:
        total = sum(sizes.values()) + GUARD * len(sizes)
        self.buffers = aligned_zeros(total * threads)
        self.rooms = np.zeros(threads, ROOM)
        self.parts: list[Array] = []  # each buffer by itself
        for room, start in zip(self.rooms, range(0, total * threads, total), strict=True):
            at = start
            for path, size in sizes.items():
                self.parts.append(self.buffers[at : at + size])
                _set(room, path, self.buffers.ctypes.data + at)
                at += size + GUARD
            for path, step in steps.items():
                _set(room, path, step)
            for name, of in OPERANDS.items():
                if not room[name]["rows"]:  # float32 rows are their own operand
                    room[name]["rows"] = room[of]


def _set(room: Any, path: str, value: int) -> None:
    field, _, part = path.partition(".")
    if part:
        room[field][part] = value
    else:
        room[field] = value


def _room(
    config: Config, level: Level, int8: bool, chunk: int, chunk_stages: int
) -> tuple[dict[str, int], dict[str, int]]:
    """The size in bytes of each buffer of a room, and the steps from row to row, by the names of layout.ROOM."""
    size = rounded_up(config.dim // config.n_heads, LANES)
    step, hidden_step = rounded_up(config.dim, LANES) * 4, rounded_up(config.hidden_dim, LANES) * 4
    long_step = rounded_up(chunk, LANES) * 4  # of rows with a column for each token of a text
    sizes = dict.fromkeys(("x", "q", "k", "v", "context", "wanted"), chunk * step)
    sizes |= {
        "y": BLOCK * step,
        "hidden": BLOCK * hidden_step,
        "keys": size * long_step,
        "scores": QUERIES * long_step,
        "sums": QUERIES * 4,
        "heads": QUERIES * size * 4,
        "counters": chunk_stages * LINE,
        "block_counters": BLOCK_STAGES * LINE,
    }
    steps = {"keys_step": long_step, "scores_step": long_step, "heads_step": size * 4}
    for name, of in OPERANDS.items():
        steps[f"{name}.step"] = hidden_step if of == "hidden" else step
        rows = sizes[of] // steps[f"{name}.step"]
        if int8:  # 4 bytes become 1, or 2 where products take int16
            steps[f"{name}.step"] //= level.group
            sizes |= {f"{name}.rows": rows * steps[f"{name}.step"], f"{name}.scales": rows * 4}
        elif name == "context_operand":
            sizes[f"{name}.rows"] = rows * step
    return {name: rounded_up(size + SPARE, LINE) for name, size in sizes.items()}, steps


def _stops(bounds: Array, size: int) -> Iterator[int]:
    """Where chunks of whole texts end, of up to `size` rows, or of one text that is longer."""
    return (stop for _, stop in blocks(bounds, size))


def _check(config: Config, ids: Array, bounds: Array, wanted: Array) -> None:
    """InputError unless every number that kernels make addresses of is what it should be."""
    for name, array in (("ids", ids), ("bounds", bounds), ("rows", wanted)):
        if array.dtype != np.int64 or array.ndim != 1 or not array.flags.c_contiguous:
            raise InputError(f"{name} is {array.dtype} {list(array.shape)}; expected int64, one after the other")
    if not len(bounds) or bounds[0] != 0 or bounds[-1] != len(ids):
        raise InputError(f"bounds go from {bounds[:1]} to {bounds[-1:]}; expected 0 to {len(ids)}")
    lengths = np.diff(bounds)
    if len(lengths) and not 1 <= lengths.min() <= lengths.max() <= config.max_position_embeddings:
        most = config.max_position_embeddings
        raise InputError(f"texts have {lengths.min()} to {lengths.max()} tokens; the model takes 1 to {most}")
    if len(ids) and not 0 <= ids.min() <= ids.max() < config.vocab_size:
        raise InputError(
            f"token ids go from {ids.min()} to {ids.max()}; the vocabulary from 0 to {config.vocab_size - 1}"
        )
    if len(wanted) and not 0 <= wanted[0] <= wanted[-1] < len(ids):
        raise InputError(f"rows go from {wanted[0]} to {wanted[-1]}; there are {len(ids)}")
    if len(wanted) > 1 and np.diff(wanted).min() < 1:
        raise InputError("rows are not in ascending order")
