"""Where the time of the compiled engine goes: one thread, SST-2 dev, full-size DistilBERT, stage by stage.

    python benchmarks/stages.py --out benchmarks/results/stages.json

The kernels are compiled with a clock around its kernels, which costs little as each runs for a thousand cycles
and more. Beside the time of the products stands what the same multiply-adds would take at the limit of the core, as
kernels/ladder.py measures it. Needs `pip install ".[bench]"`.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import data
import machine
import numpy as np
import report
import startup
from llvmlite import ir

sys.path.append(str(Path(__file__).parent / "kernels"))
SLOTS = ["encode", "linear_panel", "int8_tile", "float_tile"]
SLOTS += ["attention", "float_product", "softmax", "quantize", "norm"]
TICKS = np.zeros(len(SLOTS), np.int64)


def clocked(slot: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A kernel that does what `function` does, and adds the cycles that it took."""
    from npdistil.compiled.simd import I64, declared, get_int, i64, kernel, operation, set_int

    address = TICKS.ctypes.data + 8 * SLOTS.index(slot)

    @operation(i64, reference=time.perf_counter_ns)
    def cycles(builder: ir.IRBuilder) -> ir.Value:
        """Of the time stamp counter."""
        return builder.call(declared(builder, "llvm.readcyclecounter", I64), [])

    @kernel
    def run(*arguments: Any) -> Any:
        start = cycles()
        result = function(*arguments)
        set_int(address, get_int(address) + cycles() - start)
        return result

    return run


def clock_all() -> None:
    """Replace the kernels by clocked ones, before the first is compiled."""
    from npdistil.compiled.isa import compile_for
    from npdistil.compiled.jit import own_isa

    os.environ["NPDISTIL_ISA"] = "jit"  # as clocked here, and not as installed
    compile_for(own_isa())
    from npdistil.compiled import attention, forward, gemm

    for module, name, slot in (
        (gemm, "int8_tile", "int8_tile"),
        (gemm, "float_tile", "float_tile"),
        (attention, "float_product", "float_product"),
        (attention, "softmax", "softmax"),
        (forward, "attention", "attention"),
        (forward, "linear_panel", "linear_panel"),
        (forward, "quantize", "quantize"),
        (forward, "layer_norm", "norm"),
        (forward, "encode", "encode"),
    ):
        setattr(module, name, clocked(slot, getattr(module, name)))


def multiply_adds(config: Any, lengths: list[int]) -> dict[str, int]:
    """Of linear layers and of attention, with a last block that is pruned to one row a text."""
    rows, texts, d, f = sum(lengths), len(lengths), config.dim, config.hidden_dim
    block = 4 * d * d + 2 * d * f
    linear = (config.n_layers - 1) * rows * block + rows * 2 * d * d + texts * (block - 2 * d * d)
    pairs = sum(length * length for length in lengths)
    return {"linear": linear, "attention": 2 * d * ((config.n_layers - 1) * pairs + rows)}


def stages(model: Path, precision: str, texts: list[str], limits: dict[str, float], rounds: int) -> dict[str, Any]:
    import npdistil

    loaded = npdistil.load(model, engine="compiled", precision=precision, threads=1)
    ids = [encoding.ids for encoding in loaded.tokenizer.encode_batch(texts)]
    loaded.logits(ids[:64])
    best: dict[str, Any] = {}
    for _ in range(rounds):
        TICKS[:] = 0
        start = time.perf_counter()
        loaded.logits(ids)
        seconds = time.perf_counter() - start
        if not best or seconds < best["seconds"]:
            best = {"seconds": seconds, "ticks": dict(zip(SLOTS, TICKS.tolist(), strict=True))}
    ticks, scale = best["ticks"], best["seconds"] / best["ticks"]["encode"]
    linear_tiles = ticks["int8_tile"] or ticks["float_tile"] - ticks["float_product"]
    spent = {
        "products of linear layers": linear_tiles,
        "their scales, bias, GELU, residual": ticks["linear_panel"] - linear_tiles,
        "products of attention": ticks["float_product"],
        "softmax": ticks["softmax"],
        "the rest of attention": ticks["attention"] - ticks["float_product"] - ticks["softmax"],
        "quantisation of rows": ticks["quantize"],
        "layer norm": ticks["norm"],
    }
    spent["embedding, copying, waiting"] = ticks["encode"] - sum(spent.values())
    adds = multiply_adds(loaded.config, [len(each) for each in ids])
    at_limit = {
        "products of linear layers": 2 * adds["linear"] / limits[precision],
        "products of attention": 2 * adds["attention"] / limits["float32"],
    }
    return {
        "texts": len(texts),
        "seconds": best["seconds"],
        "limit_seconds": at_limit,
        "share_of_limit": sum(at_limit.values()) / best["seconds"],
        "stages": {name: value * scale for name, value in spent.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Where the time of the compiled engine goes.")
    parser.add_argument("--out", type=Path, help="write the result here, as JSON")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "npdistil-benchmarks")
    parser.add_argument("--data", type=Path, default=data.default_data())
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    import ladder

    texts = [text for text, _ in data.sst2(options.data, "dev")]
    full = json.loads(startup.prepared(options.cache, options.data))["full-size"]
    models = {"float32": Path(full["model"]), "int8": Path(full["npdistil-int8"])}
    clock_all()
    found = {}
    for precision, model in models.items():
        kinds = {"float32": ladder.FLOAT, "int8": ladder.INT8}
        limits = {name: ladder.limit(kind) for name, kind in kinds.items()}
        found[precision] = {"limits": limits} | stages(model, precision, texts, limits, options.rounds)
    result = {
        "benchmark": "stages",
        "machine": machine.describe(("npdistil", "numpy", "numba", "llvmlite")),
        "stages": found,
    }
    if options.out:
        report.write(options.out, result)
    print(report.stages(found))


if __name__ == "__main__":
    main()
