"""Models as each runtime wants them, made once and kept in a cache directory.

    python benchmarks/convert.py KIND MODEL TARGET --data DATA

Every kind is made in a process of its own, so that a runtime is never measured with its converter's memory.
"""

import argparse
import json
import shutil
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from data import sst2, tokenizer
from safetensors.numpy import load_file, save_file

SEED = 0


def full_size(seed_model: Path, target: Path, data: Path) -> None:
    """DistilBERT-base's shape with seeded weights; `seed_model` gives the tokenizer only.

    Speed does not ask what the weights are, but the checks do: labels have to differ from text to text, with margins
    that rounding to 8 bits can keep or lose. So the encoder and pre_classifier are random, and the classifier is
    the first principal component of what they say about 256 SST-2 training texts (of 60 characters or more, as long
    as those of dev), its bias set such that half of these fall on each side, its length such that the logits differ
    by 4 in the mean square. Biases and layer norms are random too, or a runtime could leave them out unnoticed.
    """
    rng = np.random.default_rng(SEED)

    def normal(*shape: int, scale: float = 0.03, mean: float = 0.0) -> Any:
        return (mean + scale * rng.standard_normal(shape)).astype(np.float32)

    def linear(name: str, rows: int, columns: int) -> dict[str, Any]:
        return {f"{name}.weight": normal(rows, columns), f"{name}.bias": normal(rows)}

    def norm(name: str) -> dict[str, Any]:
        return {f"{name}.weight": normal(dim, mean=1.0, scale=0.05), f"{name}.bias": normal(dim)}

    dim, hidden, vocabulary, positions = 768, 3072, 30522, 512
    parts = norm("distilbert.embeddings.LayerNorm") | linear("pre_classifier", dim, dim)
    parts["distilbert.embeddings.word_embeddings.weight"] = normal(vocabulary, dim)
    parts["distilbert.embeddings.position_embeddings.weight"] = normal(positions, dim)
    for i in range(6):
        layer = f"distilbert.transformer.layer.{i}."
        for name in ("q_lin", "k_lin", "v_lin", "out_lin"):
            parts |= linear(f"{layer}attention.{name}", dim, dim)
        parts |= linear(f"{layer}ffn.lin1", hidden, dim) | linear(f"{layer}ffn.lin2", dim, hidden)
        parts |= norm(f"{layer}sa_layer_norm") | norm(f"{layer}output_layer_norm")
    parts["classifier.weight"], parts["classifier.bias"] = np.zeros((2, dim), np.float32), np.zeros(2, np.float32)
    config = {
        "model_type": "distilbert",
        "architectures": ["DistilBertForSequenceClassification"],
        "dim": dim,
        "hidden_dim": hidden,
        "n_layers": 6,
        "n_heads": 12,
        "vocab_size": vocabulary,
        "max_position_embeddings": positions,
        "activation": "gelu",
        "id2label": {"0": "NEGATIVE", "1": "POSITIVE"},
        "label2id": {"NEGATIVE": 0, "POSITIVE": 1},
        "pad_token_id": 0,
    }
    (target / "config.json").write_text(json.dumps(config, indent=2))
    save_file(parts, target / "model.safetensors", metadata={"format": "pt"})
    _copy_tokenizer(seed_model, target)

    import torch

    model = _transformers(target)
    long_enough = [text for text, _ in sst2(data, "train") if len(text) >= 60]
    texts = [long_enough[i] for i in rng.choice(len(long_enough), 256, replace=False)]
    with torch.inference_mode():
        rows = [
            torch.relu(model.pre_classifier(model.distilbert(torch.tensor([each.ids])).last_hidden_state[0, 0])).numpy()
            for each in tokenizer(target).encode_batch(texts)
        ]
    features = np.stack(rows).astype(np.float64)
    component = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)[2][0]
    component *= np.sign(component.sum()) * 4 / (features @ component).std()
    middle = np.median(features @ component)
    parts["classifier.weight"] = np.stack([-component / 2, component / 2]).astype(np.float32)
    parts["classifier.bias"] = np.array([middle / 2, -middle / 2], np.float32)
    save_file(parts, target / "model.safetensors", metadata={"format": "pt"})


def float32(model: Path, target: Path, data: Path) -> None:
    """Any checkpoint as plain float32: int8 weights times their scales, narrow floats widened."""
    config = json.loads((model / "config.json").read_text())
    config.pop("quantization_config", None)
    config["dtype"] = "float32"
    stored = load_file(model / "model.safetensors")
    parts = {}
    for name, value in stored.items():
        if not name.endswith("weight_scale"):
            scale = stored.get(f"{name.removesuffix('weight')}weight_scale", np.float32(1))
            parts[name] = value.astype(np.float32) * (scale if name.endswith("weight") else np.float32(1))
    (target / "config.json").write_text(json.dumps(config, indent=2))
    save_file(parts, target / "model.safetensors", metadata={"format": "pt"})
    _copy_tokenizer(model, target)


def onnx_float32(model: Path, target: Path, data: Path) -> None:
    """Exported with eager attention, the only form that the optimiser's patterns match, then fused and counted."""
    import torch
    from onnxruntime.transformers.optimizer import optimize_model

    source, example = _traceable(model, "eager")
    axes = {"input_ids": {0: "B", 1: "L"}, "attention_mask": {0: "B", 1: "L"}, "logits": {0: "B"}}
    torch.onnx.export(
        source,
        tuple(example.values()),
        str(target / "exported.onnx"),
        input_names=list(example),
        output_names=["logits"],
        dynamic_axes=axes,
        opset_version=17,
        dynamo=False,
    )
    config = json.loads((model / "config.json").read_text())
    layers = config["n_layers"]
    fused = optimize_model(
        str(target / "exported.onnx"),
        model_type="bert",  # the graph is BERT's but for the token types, and there is no type for DistilBERT
        num_heads=config["n_heads"],
        hidden_size=config["dim"],
        opt_level=0,
    )
    found = Counter(node.op_type for node in fused.model.graph.node)
    expected = {
        "Attention": layers,
        "BiasGelu": layers,
        "SkipLayerNormalization": 2 * layers,
        "EmbedLayerNormalization": 1,
        "MatMul": 3 * layers,  # what attention leaves, and the feed-forward
    }
    if any(found[name] != count for name, count in expected.items()):
        raise SystemExit(f"the optimiser did not fuse all of it: expected {expected}, found {dict(found)}")
    (target / "nodes.json").write_text(json.dumps(found))
    fused.save_model_to_file(str(target / "model.onnx"))
    (target / "exported.onnx").unlink()


def onnx_int8(model: Path, target: Path, data: Path, per_channel: bool = False) -> None:
    """Dynamic int8 of the fused model; signed weights, which need no narrower range where the CPU has VNNI."""
    from onnx import TensorProto
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        str(model / "model.onnx"),
        str(target / "model.onnx"),
        per_channel=per_channel,
        weight_type=QuantType.QInt8,
        extra_options={"DefaultTensorType": TensorProto.FLOAT},
    )


def onnx_int8_channel(model: Path, target: Path, data: Path) -> None:
    """The same, with a scale for each output channel."""
    onnx_int8(model, target, data, per_channel=True)


def openvino_float32(model: Path, target: Path, data: Path) -> None:
    """From torch with its fused attention: measured a few per cent faster than by way of ONNX."""
    import openvino

    source, example = _traceable(model, "sdpa")
    converted = openvino.convert_model(source, example_input=example)
    openvino.save_model(converted, target / "model.xml", compress_to_fp16=False)
    _copy_tokenizer(model, target)  # for the calibration


def openvino_int8(model: Path, target: Path, data: Path) -> None:
    """NNCF's post-training quantisation in its transformer setting, calibrated on 300 SST-2 training texts."""
    import nncf
    import openvino

    texts = [text for text, _ in sst2(data, "train")]
    chosen = np.random.default_rng(SEED).choice(len(texts), 300, replace=False)
    encoded = tokenizer(model).encode_batch([texts[i] for i in chosen])
    items = [{"input_ids": np.array([e.ids]), "attention_mask": np.ones((1, len(e.ids)), np.int64)} for e in encoded]
    float_model = openvino.Core().read_model(model / "model.xml")
    quantised = nncf.quantize(
        float_model, nncf.Dataset(items), model_type=nncf.ModelType.TRANSFORMER, subset_size=len(items)
    )
    openvino.save_model(quantised, target / "model.xml", compress_to_fp16=False)


def ctranslate2(model: Path, target: Path, data: Path) -> None:
    """The encoder; its weights are quantised when it is loaded. The head stays in NumPy beside it."""
    from ctranslate2.converters import TransformersConverter

    TransformersConverter(str(model)).convert(str(target), force=True)
    stored = load_file(model / "model.safetensors")
    save_file({name: stored[name] for name in stored if "classifier" in name}, target / "head.safetensors")


def npdistil_int8(model: Path, target: Path, data: Path) -> None:
    """What `npdistil quantize` writes."""
    from npdistil import quantize_checkpoint

    quantize_checkpoint(model, target / "model")
    for path in (target / "model").iterdir():
        path.replace(target / path.name)
    (target / "model").rmdir()


# Kind -> how it is made, and the kind that it is made from (None: the model's own directory).
KINDS: dict[str, tuple[Callable[[Path, Path, Path], None], str | None]] = {
    "full-size": (full_size, None),
    "float32": (float32, None),
    "onnx-float32": (onnx_float32, None),
    "onnx-int8": (onnx_int8, "onnx-float32"),
    "onnx-int8-channel": (onnx_int8_channel, "onnx-float32"),
    "openvino-float32": (openvino_float32, None),
    "openvino-int8": (openvino_int8, "openvino-float32"),
    "ctranslate2": (ctranslate2, None),
    "npdistil-int8": (npdistil_int8, None),
}


def _copy_tokenizer(source: Path, target: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        if (source / name).exists():
            shutil.copy(source / name, target)


def _transformers(model: Path, attention: str = "sdpa") -> Any:
    from transformers import AutoModelForSequenceClassification

    return AutoModelForSequenceClassification.from_pretrained(model, attn_implementation=attention).eval()


def _traceable(model: Path, attention: str) -> tuple[Any, dict[str, Any]]:
    """A module that gives bare logits, and inputs with padding in them, so that the mask is traced too."""
    import torch

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = _transformers(model, attention)

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            return self.model(input_ids=input_ids, attention_mask=attention_mask).logits

    ids = torch.arange(1000, 1018).reshape(2, 9)
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    return Logits().eval(), {"input_ids": ids, "attention_mask": mask}


def main() -> None:
    parser = argparse.ArgumentParser(description="Make a model as one runtime wants it.")
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("model", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # the exporters' notes on their own future
    options.target.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{options.kind}-", dir=options.target.parent))
    try:
        KINDS[options.kind][0](options.model, beside, options.data)
        beside.replace(options.target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


if __name__ == "__main__":
    main()
