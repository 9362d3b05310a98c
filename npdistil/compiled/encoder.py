"""The fast encoder: `engine.Encoder` on compiled kernels. The forward itself is in forward.py."""

from collections import deque
from collections.abc import Callable, Iterator
from copy import copy

import numpy as np

from ..batch import blocks, check_ids
from ..checkpoint.config import Config
from ..compiled import layout
from ..distilbert.encoder import Array, Params
from ..errors import EngineError, InputError
from .kernels import CHECKED, kernels
from .layout import ATTENTION_STAGES, CACHE_LINE, CALL, LAYER, ROW_BLOCK_STAGES, STAGE, TABLES
from .panels import LANES, aligned_zeros, linear_size, pack_linear, padded, rounded_up
from .threads import real_lock, team
from .workspace import BLOCK_ROWS, PooledWorkspaces, workspace_layout

CHUNK_ROWS = 256  # that one thread takes through a forward: so many that reading all weights once costs little beside
TOGETHER = 128  # rows up to which all threads work on one chunk: panels then stream past once, not once a thread
PACKED_HEADS = 4  # linear layers of heads that stay packed
SMALL = 2**21  # products up to which a head's layer is not worth waking others
CALL_PRODUCTS = 10**10  # of each thread in one call, which no signal interrupts: about a quarter of a second
GUARD = 4096 if CHECKED else 0  # bytes between buffers that nothing may touch

if CHECKED:
    from ..compiled import simd


class CompiledEncoder:
    """`encoder.encode` in compiled kernels, on packed panels; results have the same bits for any batch and any threads.

    Args:
        config: sizes and activation.
        params: the encoder's parameters in the precision to run in; their layers are taken out as they are packed, so
            that no more than one of them is there twice.
        threads: how many may work on a call.
        max_tokens: rows in flight; buffers are made for these, not for the batch.

    Raises:
        EngineError, MissingExtraError: as `kernels.kernels`.
    """

    name = "compiled"

    def __init__(self, config: Config, params: Params, threads: int, max_tokens: int) -> None:
        self.config = config
        self.threads = 1 if CHECKED else threads
        loaded = kernels()
        self.isa = loaded.isa
        self.int8 = "weight_scale" in params["layer"][0]["ffn"]["lin1"]
        self.chunk_rows = max(1, min(CHUNK_ROWS, max_tokens // threads))
        capacity = max(config.max_position_embeddings, self.chunk_rows, TOGETHER)
        self._kept: list[Array] = []  # arrays whose addresses the kernels have
        self._model = self._prepared(params)
        self._positions = len(params["embeddings"]["position_embeddings"]["weight"])
        # Row blocks are shared where there are fewer of them than threads, each with stages of its own.
        layer_stages = ATTENTION_STAGES + ROW_BLOCK_STAGES * max(1, threads - 1)
        chunk_stages = config.n_layers * layer_stages + 3  # and embed, gather, write_output
        self._model["layer_stages"], self._model["chunk_stages"] = layer_stages, chunk_stages
        self._capacity, self._most_kept = capacity, threads
        self._workspace = workspace_layout(config, self.isa, self.int8, capacity, chunk_stages)
        products = config.n_layers * config.dim * (4 * config.dim + 2 * config.hidden_dim)  # for each token
        self.at_once = self.threads * max(2 * self.chunk_rows, CALL_PRODUCTS // products)
        self._heads: dict[tuple[int, int], tuple[Array, Array, Params]] = {}
        # Those that no call is using. A helper may leave a call after the next one has begun.
        self._pool = deque(self._workspaces() for _ in range(min(2, threads)))
        self._run = loaded.run

    def on_one_thread(self) -> "CompiledEncoder":
        """As `Encoder.on_one_thread`; workspaces are its own."""
        one = copy(self)
        one.threads, one.chunk_rows, one._pool = 1, min(CHUNK_ROWS, self._capacity), deque()
        one.at_once = max(2 * one.chunk_rows, self.at_once // self.threads)
        return one

    def _workspaces(self) -> PooledWorkspaces:
        return PooledWorkspaces(*self._workspace, self.threads, GUARD)

    @property
    def _width(self) -> int:
        return self.isa.vectors * LANES

    def _address(self, array: Array) -> int:
        """The address of an array, which stays as long as the encoder."""
        if not array.flags.c_contiguous:
            raise EngineError("a weight does not lie in one piece")
        self._kept.append(array)
        if CHECKED:
            simd.allow(array)
        return array.ctypes.data

    def _prepared(self, params: Params) -> Array:
        """What is the same in every CALL."""
        config, columns = self.config, rounded_up(self.config.dim, LANES)
        call = np.zeros((), CALL)
        layers = np.zeros(config.n_layers, LAYER)

        def linears(layer: Params) -> dict[str, Params]:
            return layer["attention"] | layer["ffn"]

        # One piece for all, because the system gives large pages to large pieces only.
        sizes = [linear_size(each["weight"], self.isa) for layer in params["layer"] for each in linears(layer).values()]
        panels = iter(np.split(aligned_zeros(sum(sizes)), np.cumsum(sizes)[:-1]))
        for record in layers:
            layer = params["layer"].pop(0)
            for name, linear in linears(layer).items():
                packed = pack_linear(isa=self.isa, out=next(panels), **linear)
                record[name] = tuple(self._address(v) if isinstance(v, np.ndarray) else v for v in packed.values())
            for name in ("sa_layer_norm", "output_layer_norm"):
                record[name] = self._norm(layer[name], columns)
        embeddings = params["embeddings"]
        call["dim"], call["hidden_dim"] = config.dim, config.hidden_dim
        call["n_heads"], call["n_layers"] = config.n_heads, config.n_layers
        call["layers"] = self._address(layers)
        call["activation"] = layout.ACTIVATIONS[config.activation]
        call["epsilon"] = config.layer_norm_eps
        call["int8"] = self.int8
        call["word_embeddings"] = self._table(embeddings["word_embeddings"])
        call["position_embeddings"] = self._table(embeddings["position_embeddings"])
        call["embedding_norm"] = self._norm(embeddings["LayerNorm"], columns)
        call["block_rows"] = BLOCK_ROWS
        call["row_stride"] = columns * 4
        call["hidden_stride"] = rounded_up(config.hidden_dim, LANES) * 4
        call["zeros"] = self._address(np.zeros(self._width, np.float32))
        return call

    def _norm(self, norm: Params, size: int) -> tuple[int, int]:
        return tuple(self._address(padded(norm[name], np.float32, size)) for name in ("weight", "bias"))  # type: ignore[return-value]

    def _table(self, table: Params) -> tuple[int, int, int]:
        weight = table["weight"]
        scale = table.get("weight_scale")
        scales = 0 if scale is None else self._address(np.ascontiguousarray(scale, np.float32))
        return self._address(weight), scales, TABLES[weight.dtype.name]

    def encode(self, ids: Array, bounds: Array, rows: Array | None = None, positions: Array | None = None) -> Array:
        """As `Encoder.encode`.

        Raises:
            InputError: arrays that the kernels must not see: of another type or order, or with values out of range.
        """
        output_rows = np.arange(len(ids), dtype=np.int64) if rows is None else rows
        _check(self.config, ids, bounds, output_rows)
        if positions is None:
            positions = np.arange(len(ids), dtype=np.int64) - np.repeat(bounds[:-1], np.diff(bounds))
        else:
            _check_positions(positions, len(ids), self._positions)
        out = np.empty((len(output_rows), self.config.dim), np.float32)
        if not len(output_rows):
            return out
        output_bounds = np.searchsorted(output_rows, bounds)
        chunks, n_unshared = self._chunks(bounds, output_bounds)
        call = self._model.copy()
        call["n_chunks"], call["n_unshared"] = len(chunks), n_unshared
        arrays = {
            "ids": ids,
            "position_ids": positions,
            "bounds": bounds,
            "output_rows": output_rows,
            "output_bounds": output_bounds,
            "chunks": chunks,
            "out": out,
        }
        self._do(call, arrays, stages=1 + (len(chunks) - n_unshared) * int(call["chunk_stages"]))
        return out

    def _chunks(self, bounds: Array, output_bounds: Array) -> tuple[Array, int]:
        """What is done at a time, layout.CHUNK [chunks], and how many of these are left to one thread each."""
        total, threads = int(bounds[-1]), self.threads
        size = self.chunk_rows if total > self.chunk_rows * threads else max(TOGETHER, -(-total // threads))
        stops = [*_stops(bounds, min(size, self.chunk_rows))]
        chunks = np.zeros(len(stops), layout.CHUNK)
        chunks["stop"] = stops
        chunks["start"][1:] = chunks["stop"][:-1]
        chunks["first"], chunks["last"] = output_bounds[chunks["start"]], output_bounds[chunks["stop"]]
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
        out = np.empty((len(x), lin["start"].size), np.float32)  # whole vectors
        if not x.size:
            return np.broadcast_to(bias, (len(x), len(bias))).copy()
        call = self._model.copy()  # of the model a LINEAR reads `int8` alone, for tiles, and a float32 layer uses none
        call["function"], call["rows"], call["out_stride"] = layout.LINEAR, len(x), out.strides[0]
        call["linear_layer"] = tuple(v.ctypes.data if isinstance(v, np.ndarray) else v for v in lin.values())
        call["operand"] = x.ctypes.data, x.strides[0], 0
        kept = {name: v for name, v in lin.items() if isinstance(v, np.ndarray)}
        self._do(call, {"out": out}, 1, (x, *kept.values()), with_team=x.size * len(weight) >= SMALL)
        return np.ascontiguousarray(out[:, : len(weight)])

    def _packed(self, weight: Array, bias: Array) -> Params:
        key = id(weight), id(bias)
        found = self._heads.get(key)
        if found is None:
            # The arrays are kept beside what was made of them, so that no other ones get their numbers.
            found = weight, bias, pack_linear(weight, bias, self.isa, aligned_zeros(linear_size(weight, self.isa)))
            while len(self._heads) >= PACKED_HEADS:
                self._heads.pop(next(iter(self._heads)), None)
            self._heads[key] = found
        return found[2]

    def _do(
        self, call: Array, arrays: dict[str, Array], stages: int, others: tuple[Array, ...] = (), with_team: bool = True
    ) -> None:
        """Have a call done, by this thread and by those of the team that come."""
        try:
            workspaces = self._pool.pop()
        except IndexError:
            workspaces = self._workspaces()
        counters = np.zeros(stages * STAGE + CACHE_LINE, np.uint8)
        call["threads"], call["workspaces"] = self.threads, workspaces.records.ctypes.data
        call["counters"] = counters.ctypes.data + -counters.ctypes.data % CACHE_LINE
        for name, array in arrays.items():
            call[name] = array.ctypes.data
        running = _RunningCall(self, call, workspaces, (counters, *arrays.values(), *others))
        if CHECKED:
            with simd.allowed(call, workspaces.records, *workspaces.buffers, counters, *arrays.values(), *others):
                self._run(call.ctypes.data, 0)
        else:
            if with_team:
                team.ask([running.helper(rank) for rank in range(1, self.threads)])
            self._run(call.ctypes.data, 0)
        running.close()


class _RunningCall:
    """A CALL and the arrays whose addresses it has, which stay until the last thread has left it."""

    def __init__(
        self, encoder: CompiledEncoder, call: Array, workspaces: PooledWorkspaces, arrays: tuple[Array, ...]
    ) -> None:
        self.encoder, self.call, self.workspaces, self.arrays = encoder, call, workspaces, arrays
        self.lock = real_lock()
        self.inside = 0
        self.closed = False

    def helper(self, rank: int) -> Callable[[], None]:
        """What a helper does: take part, unless the call is done already."""

        def help_out() -> None:
            with self.lock:
                if self.closed:
                    return
                self.inside += 1
            self.encoder._run(self.call.ctypes.data, rank)
            with self.lock:
                self.inside -= 1
                self._leave()

        return help_out

    def close(self) -> None:
        """The call is done."""
        with self.lock:
            self.closed = True
            self._leave()

    def _leave(self) -> None:
        if self.closed and not self.inside:
            if len(self.encoder._pool) < self.encoder._most_kept:
                self.encoder._pool.append(self.workspaces)
            del self.encoder, self.call, self.workspaces, self.arrays


def _stops(bounds: Array, size: int) -> Iterator[int]:
    """Where chunks of whole texts end, of up to `size` rows, or of one text that is longer."""
    return (stop for _, stop in blocks(bounds, size))


def _check(config: Config, ids: Array, bounds: Array, output_rows: Array) -> None:
    """InputError unless every number that kernels make addresses of is what it should be."""
    for name, array in (("ids", ids), ("bounds", bounds), ("rows", output_rows)):
        _check_type(name, array)
    if not len(bounds) or bounds[0] != 0 or bounds[-1] != len(ids):
        raise InputError(f"bounds go from {bounds[:1]} to {bounds[-1:]}; expected 0 to {len(ids)}")
    check_ids(ids, bounds, config.vocab_size, config.max_position_embeddings)
    if len(output_rows) and not 0 <= output_rows[0] <= output_rows[-1] < len(ids):
        raise InputError(f"rows go from {output_rows[0]} to {output_rows[-1]}; there are {len(ids)}")
    if len(output_rows) > 1 and np.diff(output_rows).min() < 1:
        raise InputError("rows are not in ascending order")


def _check_positions(positions: Array, count: int, table: int) -> None:
    """The same for positions, where they are given: `count` rows of a table of so many."""
    _check_type("positions", positions)
    if len(positions) != count or (count and not 0 <= positions.min() <= positions.max() < table):
        raise InputError(
            f"there are {len(positions)} positions for {count} tokens, up to {max(positions, default=0)}; "
            f"the model has {table}"
        )


def _check_type(name: str, array: Array) -> None:
    if array.dtype != np.int64 or array.ndim != 1 or not array.flags.c_contiguous:
        raise InputError(f"{name} is {array.dtype} {list(array.shape)}; expected int64, one after the other")
