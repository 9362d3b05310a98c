"""Record what transformers answers for small, deliberately odd models: `python tests/record_golden.py`.

Needs torch, transformers and compressed-tensors. Each case is a model directory as transformers writes it, with
`expected.safetensors` (token ids, every layer's hidden states, the head's logits) and `expected.json` (the results
of pipelines) beside it. All of it together stays below 400 KB.
"""

import json
import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tiny
import torch
import transformers
from safetensors.numpy import save_file

import npdistil

GOLDEN = Path(__file__).parent / "golden"
SEQUENCE = "DistilBertForSequenceClassification"
BASE: dict[str, Any] = {"vocab_size": len(tiny.VOCABULARY), "max_position_embeddings": 24, "initializer_range": 0.4}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "one-layer-one-head-relu": (
        SEQUENCE,
        {"n_layers": 1, "n_heads": 1, "dim": 12, "hidden_dim": 20, "activation": "relu", "num_labels": 2},
    ),
    "five-layers-multi-label": (
        SEQUENCE,
        {
            "n_layers": 5,
            "n_heads": 3,
            "dim": 12,
            "hidden_dim": 7,
            "num_labels": 5,
            "problem_type": "multi_label_classification",
        },
    ),
    "one-label-gelu-new": (
        SEQUENCE,
        {"n_layers": 2, "n_heads": 4, "dim": 16, "hidden_dim": 20, "activation": "gelu_new", "num_labels": 1},
    ),
    "regression-silu": (
        SEQUENCE,
        {
            "n_layers": 2,
            "n_heads": 8,
            "dim": 16,
            "hidden_dim": 9,
            "activation": "silu",
            "num_labels": 1,
            "problem_type": "regression",
        },
    ),
    "single-label-sinusoidal": (
        SEQUENCE,
        {
            "n_layers": 2,
            "n_heads": 2,
            "dim": 16,
            "hidden_dim": 24,
            "sinusoidal_pos_embds": True,
            "num_labels": 5,
            "problem_type": "single_label_classification",
        },
    ),
    "tokens-pytorch-tanh": (
        "DistilBertForTokenClassification",
        {
            "n_layers": 1,
            "n_heads": 6,
            "dim": 18,
            "hidden_dim": 10,
            "activation": "gelu_pytorch_tanh",
            "id2label": {0: "O", 1: "B-PER", 2: "I-PER"},
        },
    ),
    "question-tanh": (
        "DistilBertForQuestionAnswering",
        {"n_layers": 2, "n_heads": 2, "dim": 10, "hidden_dim": 11, "activation": "tanh"},
    ),
    "masked-tied": ("DistilBertForMaskedLM", {"n_layers": 1, "n_heads": 2, "dim": 14, "hidden_dim": 13}),
    "choice-sigmoid": (
        "DistilBertForMultipleChoice",
        {"n_layers": 1, "n_heads": 5, "dim": 10, "hidden_dim": 12, "activation": "sigmoid"},
    ),
    "bare": ("DistilBertModel", {"n_layers": 1, "n_heads": 2, "dim": 12, "hidden_dim": 40}),
    "int8": (SEQUENCE, {"n_layers": 2, "n_heads": 2, "dim": 16, "hidden_dim": 24, "num_labels": 3}),
}
TEXTS = ["I like it!", "", "the film was very boring, and not good", "東京 café кот 12345 zzz \x00 (what)", "a"]
PAIRS = [{"text": "Who lives in Paris?", "text_pair": "John"}, {"text": "a", "text_pair": "a"}, {"text": "a"}]
EMPTY_PAIR = {"text": "a", "text_pair": ""}
CALLS: list[tuple[Any, dict[str, Any]]] = [  # inputs and settings of one call
    *((text, {}) for text in TEXTS),
    (TEXTS, {}),
    (TEXTS[:2], {"top_k": None}),
    (TEXTS[0], {"top_k": None}),
    (TEXTS[0], {"top_k": 1}),
    (TEXTS, {"top_k": 2}),
    *((TEXTS, {"top_k": None, "function_to_apply": name}) for name in ("none", "sigmoid", "softmax")),
    (PAIRS[0], {}),
    (PAIRS, {}),
    (PAIRS, {"top_k": None}),
    (EMPTY_PAIR, {"top_k": None}),
    ("good " * 60, {"truncation": True}),
    (["good " * 60, "not"], {"truncation": True, "top_k": None}),
]


def token_ids(seed: int) -> list[list[int]]:
    """Texts of 1, 2, 7 and all positions, any ids."""
    random = np.random.default_rng(seed)
    return [
        random.integers(0, BASE["vocab_size"], length).tolist() for length in (1, 2, 7, BASE["max_position_embeddings"])
    ]


def linear_layers(model: Any, ids: list[int]) -> dict[str, Any]:
    """What goes into each linear layer of the encoder, and what comes out of it."""
    seen = {}
    hooks = []
    for name, module in model.distilbert.transformer.named_modules():
        if isinstance(module, torch.nn.Linear):

            def keep(_: Any, inputs: Any, output: Any, name: str = name) -> None:
                seen[f"{name}.in"], seen[f"{name}.out"] = inputs[0][0].numpy(), output[0].numpy()

            hooks.append(module.register_forward_hook(keep))
    with torch.no_grad():
        model(torch.tensor([ids]))
    for hook in hooks:
        hook.remove()
    return seen


def rounded(answer: Any) -> Any:
    """Scores to eight digits: all that float32 has."""
    if isinstance(answer, float):
        return float(f"{answer:.8g}")
    if isinstance(answer, dict):
        return {key: rounded(value) for key, value in answer.items()}
    return [rounded(each) for each in answer] if isinstance(answer, list) else answer


def record(name: str, number: int) -> None:
    architecture, settings = CASES[name]
    directory = GOLDEN / name
    directory.mkdir()
    transformers.set_seed(number)
    model = getattr(transformers, architecture)(transformers.DistilBertConfig(**BASE, **settings)).eval()
    for parameter_name, parameter in model.named_parameters():  # transformers starts them at 0 and 1
        if parameter_name.endswith("bias") or "norm" in parameter_name.lower():
            torch.nn.init.normal_(parameter, mean=float(parameter.detach().mean()), std=0.3)
    model.save_pretrained(directory)
    if name == "int8":
        with tempfile.TemporaryDirectory() as scratch:
            npdistil.quantize_checkpoint(directory, Path(scratch) / "int8")
            shutil.rmtree(directory)
            shutil.copytree(Path(scratch) / "int8", directory)
        model = transformers.AutoModelForSequenceClassification.from_pretrained(directory).eval()
    ids = token_ids(number)
    expected: dict[str, Any] = {"ids": np.concatenate(ids), "bounds": np.cumsum([0, *map(len, ids)])}
    outputs = []
    if name == "int8":
        expected |= linear_layers(model, ids[2])
    with torch.no_grad():
        for text in ids:  # alone: padding would only add noise
            shape = (1, 1, -1) if architecture.endswith("MultipleChoice") else (1, -1)
            outputs.append(model(torch.tensor(text).reshape(shape), output_hidden_states=True))
    for layer in range(len(outputs[0].hidden_states)):
        rows = [each.hidden_states[layer][0].numpy() for each in outputs]
        expected[f"hidden.{layer}"] = np.concatenate(rows)
    for field in ("logits", "start_logits", "end_logits"):
        if getattr(outputs[0], field, None) is not None:
            parts = [getattr(each, field).numpy() for each in outputs]
            expected[field] = np.concatenate(
                [p.reshape(-1) if p.shape[0] == 1 and p.ndim == 1 else p[0] for p in parts]
            )
            if architecture == SEQUENCE:
                expected[field] = expected[field].reshape(len(ids), -1)
    save_file(expected, directory / "expected.safetensors")
    if architecture == SEQUENCE:
        vocabulary = {token: i for i, token in enumerate(tiny.VOCABULARY)}
        tokenizer = transformers.DistilBertTokenizer(vocab=vocabulary, model_max_length=BASE["max_position_embeddings"])
        answers = []
        for inputs, call in CALLS:
            classify = transformers.pipeline("text-classification", model=model, tokenizer=tokenizer)
            row = {"inputs": inputs, "settings": call, "called": classify(inputs, **call)}
            made = {key: value for key, value in call.items() if key != "truncation"}
            classify = transformers.pipeline("text-classification", model=model, tokenizer=tokenizer, **made)
            row["made"] = classify(inputs, **({"truncation": True} if "truncation" in call else {}))
            answers.append(row)
        (directory / "expected.json").write_text(json.dumps(rounded(answers), separators=(",", ":")) + "\n")


def main() -> None:
    logging.disable(logging.WARNING)
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    shutil.rmtree(GOLDEN, ignore_errors=True)
    GOLDEN.mkdir()
    for number, name in enumerate(CASES):
        record(name, number)
    size = sum(path.stat().st_size for path in GOLDEN.rglob("*") if path.is_file())
    print(f"{len(CASES)} cases, {size:,} bytes, transformers {transformers.__version__}, torch {torch.__version__}")
    assert size < 400_000


if __name__ == "__main__":
    main()
