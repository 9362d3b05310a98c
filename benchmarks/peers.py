"""The runtimes, each at its best, behind one interface: token ids in, logits out.

An adapter is made in a worker process that holds nothing else. All of them share the tokenizer library; those that
need padding get batches of texts sorted by length, in the batch size that the search in compare.py found best.
"""

# ruff: noqa: D102 - said once, in Runner
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from data import tokenizer
from tokenizers import Tokenizer

Array: TypeAlias = npt.NDArray[Any]


class Runner:
    """What a worker drives. `files` is the model as `Peer.kind` made it, `model` the directory it was made from."""

    def __init__(self, model: Path, files: Path, threads: int, precision: str, streams: int = 1) -> None:
        self.tokenizer = tokenizer(model)
        self.streams = streams
        self.pool = ThreadPoolExecutor(streams)
        self.load(model, files, threads, precision)

    def load(self, model: Path, files: Path, threads: int, precision: str) -> None:
        """Make the runtime ready for `self.streams` batches at a time, each on `threads`."""
        raise NotImplementedError

    def padded(self, ids: Array, mask: Array) -> Array:
        """One batch: int64 [B, L], mask 1 where there is a token -> logits float32 [B, C]."""
        raise NotImplementedError

    def logits(self, token_ids: Sequence[Sequence[int]]) -> Array:
        """One batch -> float32 [B, C]."""
        lengths = np.array([len(ids) for ids in token_ids])
        ids = np.zeros((len(token_ids), lengths.max()), np.int64)
        for row, each in zip(ids, token_ids, strict=True):
            row[: len(each)] = each
        return self.padded(ids, (np.arange(ids.shape[1]) < lengths[:, None]).astype(np.int64))

    def predict(self, texts: Sequence[str], batch: int) -> list[int]:
        """Strings to labels, `batch` texts of like length at a time, the longest first so that streams end together."""
        token_ids = [encoding.ids for encoding in self.tokenizer.encode_batch(list(texts))]
        order = sorted(range(len(texts)), key=lambda i: -len(token_ids[i]))
        batches = [[token_ids[i] for i in order[start : start + batch]] for start in range(0, len(texts), batch)]
        logits = list(self.pool.map(self.logits, batches) if self.streams > 1 else map(self.logits, batches))
        labels = np.empty(len(texts), np.int64)
        labels[order] = np.concatenate(logits).argmax(axis=1)
        return labels.tolist()


class Torch(Runner):
    """transformers: scaled-dot-product attention, no gradients; compiled, in bfloat16 or dynamic int8 if asked."""

    def load(self, model: Path, files: Path, threads: int, precision: str) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification

        torch.set_num_threads(threads)
        torch.set_num_interop_threads(1)
        self.torch = torch
        dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        self.model = AutoModelForSequenceClassification.from_pretrained(
            model, attn_implementation="sdpa", dtype=dtype
        ).eval()
        if precision == "int8":
            self.model = torch.ao.quantization.quantize_dynamic(self.model, {torch.nn.Linear}, torch.qint8)

    def padded(self, ids: Array, mask: Array) -> Array:
        with self.torch.inference_mode():
            # Without padding there is no mask to add: sdpa then takes its fastest path.
            attention = None if mask.all() else self.torch.from_numpy(mask)
            return self.model(self.torch.from_numpy(ids), attention).logits.float().numpy()


class TorchCompiled(Torch):
    """The same through torch.compile, for any shape, with the weights frozen into the compiled code."""

    def load(self, model: Path, files: Path, threads: int, precision: str) -> None:
        super().load(model, files, threads, precision)
        import torch._inductor.config

        torch._inductor.config.freezing = True
        self.model = self.torch.compile(self.model, dynamic=True)

    def padded(self, ids: Array, mask: Array) -> Array:
        with self.torch.no_grad():  # freezing asks for it
            return self.model(self.torch.from_numpy(ids), self.torch.from_numpy(mask)).logits.numpy()


class OnnxRuntime(Runner):
    """ONNX Runtime on the fused graph."""

    def load(self, model: Path, files: Path, threads: int, precision: str) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        path = files if files.is_file() else files / "model.onnx"
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def padded(self, ids: Array, mask: Array) -> Array:
        return self.session.run(None, {"input_ids": ids, "attention_mask": mask})[0]


class OnnxFile(OnnxRuntime):
    """The same on a file that anybody has exported, with the tokenizer that own.py wrote."""

    def load(self, model: Path, files: Path, threads: int, precision: str) -> None:
        super().load(model, files, threads, precision)
        self.tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
        types = {each.name: each.type for each in self.session.get_inputs()}
        if unknown := types.keys() - {"input_ids", "attention_mask", "token_type_ids"}:
            raise ValueError(f"{files} asks for {', '.join(sorted(unknown))}, which own.py does not give")
        self.types = {name: np.int32 if each == "tensor(int32)" else np.int64 for name, each in types.items()}
        names = [each.name for each in self.session.get_outputs()]
        self.output = ["logits"] if "logits" in names else names[:1]

    def padded(self, ids: Array, mask: Array) -> Array:
        given = {"input_ids": ids, "attention_mask": mask}
        if "token_type_ids" in self.types:
            given["token_type_ids"] = np.zeros_like(ids)
        feed = {name: given[name].astype(dtype, copy=False) for name, dtype in self.types.items()}
        (logits,) = self.session.run(self.output, feed)
        if logits.ndim != 2:
            raise ValueError(f"{self.output[0]} has shape {logits.shape}; a classifier's logits are of texts by labels")
        return logits


class OpenVino(Runner):
    """OpenVINO; each stream has a request of its own, which belongs to one Python thread."""

    narrow = False  # what is neither int8 nor asked to be bfloat16 is computed in float32

    def load(self, model: Path, files: Path, threads: int, precision: str) -> None:
        import openvino

        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" or self.narrow else "f32",
            "INFERENCE_NUM_THREADS": threads * self.streams,
            "NUM_STREAMS": self.streams,
        }
        self.compiled = openvino.Core().compile_model(files / "model.xml", "CPU", settings)
        self.here = threading.local()

    def padded(self, ids: Array, mask: Array) -> Array:
        if not hasattr(self.here, "request"):
            self.here.request = self.compiled.create_infer_request()
        return self.here.request.infer([ids, mask])[0].copy()  # the request's own memory is written again


class OpenVinoNarrow(OpenVino):
    """int8 products, and bfloat16 for everything between them."""

    narrow = True


class CTranslate2(Runner):
    """CTranslate2's encoder takes lists of ids and drops the padding itself; the head is NumPy on the first token."""

    def load(self, model: Path, files: Path, threads: int, precision: str) -> None:
        import ctranslate2
        from safetensors.numpy import load_file

        self.encoder = ctranslate2.Encoder(
            str(files), device="cpu", compute_type=precision, intra_threads=threads, inter_threads=self.streams
        )
        self.head = load_file(files / "head.safetensors")

    def logits(self, token_ids: Sequence[Sequence[int]]) -> Array:
        first = np.asarray(self.encoder.forward_batch(list(token_ids)).last_hidden_state)[:, 0]
        head = self.head
        hidden = np.maximum(first @ head["pre_classifier.weight"].T + head["pre_classifier.bias"], 0)
        return hidden @ head["classifier.weight"].T + head["classifier.bias"]


class Npdistil(Runner):
    """npdistil takes all texts at once, in any order."""

    engine = "compiled"

    def load(self, model: Path, files: Path, threads: int, precision: str) -> None:
        import npdistil

        self.model = npdistil.load(files, engine=self.engine, precision=precision, threads=threads)
        if self.model.engine != self.engine:  # one engine must never be timed under the other's name
            raise npdistil.EngineError(f"asked for the {self.engine} engine, got {self.model.engine}")

    def logits(self, token_ids: Sequence[Sequence[int]]) -> Array:
        return self.model.logits(token_ids)

    def predict(self, texts: Sequence[str], batch: int) -> list[int]:
        step = batch or len(texts)
        scores = [
            self.model.scores(texts[i : i + step], long_text="truncate").argmax(axis=1)
            for i in range(0, len(texts), step)
        ]
        return np.concatenate(scores).tolist()


class NpdistilNumpy(Npdistil):
    """The readable engine."""

    engine = "numpy"


@dataclass(frozen=True)
class Peer:
    """One runtime in one precision: what runs it, what it needs, and how its model is made (convert.KINDS)."""

    runner: type[Runner]
    precision: str
    packages: tuple[str, ...]
    kind: str | None = None  # None: the model's directory as it is
    batch: str = "search"  # for the best size; "all": takes all texts at once; "curve": the same, sizes tried to show
    streams: bool = False  # whether batches may also run side by side, each on one thread
    quick: bool = False  # one of the leading runtimes, which the quick set consists of
    often: bool = True  # False: far behind, so one round is enough
    timed: bool = True  # False: the others are only checked against it

    @property
    def missing(self) -> list[str]:
        """Packages that are not installed here."""
        return [name for name in self.packages if find_spec(name) is None]


TORCH = ("torch", "transformers")
PEERS = {
    "npdistil int8": Peer(Npdistil, "int8", ("npdistil",), "npdistil-int8", batch="curve", quick=True),
    "npdistil float32": Peer(Npdistil, "float32", ("npdistil",), batch="curve", quick=True),
    "npdistil numpy float32": Peer(NpdistilNumpy, "float32", ("npdistil",), batch="all", often=False),
    "npdistil numpy int8": Peer(NpdistilNumpy, "int8", ("npdistil",), "npdistil-int8", batch="all", often=False),
    "OpenVINO int8": Peer(OpenVino, "int8", ("openvino",), "openvino-int8", streams=True, quick=True),
    "OpenVINO int8 and bfloat16": Peer(OpenVinoNarrow, "int8", ("openvino",), "openvino-int8", streams=True),
    "OpenVINO bfloat16": Peer(OpenVino, "bfloat16", ("openvino",), "openvino-float32", streams=True),
    "OpenVINO float32": Peer(OpenVino, "float32", ("openvino",), "openvino-float32", streams=True, quick=True),
    "ONNX Runtime int8": Peer(OnnxRuntime, "int8", ("onnxruntime",), "onnx-int8", streams=True, quick=True),
    "ONNX Runtime int8 per channel": Peer(OnnxRuntime, "int8", ("onnxruntime",), "onnx-int8-channel", streams=True),
    "ONNX Runtime float32": Peer(OnnxRuntime, "float32", ("onnxruntime",), "onnx-float32", streams=True, quick=True),
    "CTranslate2 int8": Peer(CTranslate2, "int8", ("ctranslate2",), "ctranslate2", streams=True, quick=True),
    "CTranslate2 float32": Peer(CTranslate2, "float32", ("ctranslate2",), "ctranslate2", streams=True, often=False),
    "torch int8": Peer(Torch, "int8", TORCH, often=False),
    "torch bfloat16": Peer(Torch, "bfloat16", TORCH),
    "torch.compile float32": Peer(TorchCompiled, "float32", TORCH, often=False),
    "torch float32": Peer(Torch, "float32", TORCH, quick=True),
}
REFERENCE = "torch float32"  # transformers, which the others are checked against
OWN = {"ONNX file": Peer(OnnxFile, "as exported", ("onnxruntime",), streams=True)}  # of own.py alone
