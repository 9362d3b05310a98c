"""The tables of tasks.md and long-texts.md: measured, kept in results/ and written into the pages.

    pip install ".[reference]" && python docs/measure.py --data DIRECTORY

The directory has sst2/dev.tsv, ner/wnut17.emerging.dev.conll, qa/xquad.en.json and long/imdb_600.jsonl.
"""

import argparse
import json
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.numpy import load_file, save_file

import npdistil
from npdistil import Embedder
from npdistil.tasks.text_classification import TextClassification

DOCS = Path(__file__).parent
ENGINES = ("numpy", "compiled")
NAMES = ["O", "B-person", "I-person", "B-location", "I-location"]
NLI = ["contradiction", "neutral", "entailment"]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what tasks.md and long-texts.md say.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", choices=["tasks", "long-texts"], help="one of the two pages")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    if options.only != "long-texts":
        write_tasks(options.data)
    if options.only != "tasks":
        write_long_texts(options.data)


def write_tasks(data: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        tasks = measure_tasks(data, Path(scratch))
    rows = [
        [each["task"], each["model"], each["inputs"], each["engine"], f"{each['difference']:.1e}", each["same"]]
        for each in tasks
    ]
    keep("tasks", tasks, ["task", "model", "inputs", "engine", "largest difference", "same answers"], rows)


def write_long_texts(data: Path) -> None:
    long = measure_long_texts(data)
    rows = [
        [each["setting"], *(f"{each[name]:.1%}" for name in ("all", "longer")), f"{each['parts']:.1f}"] for each in long
    ]
    count, longer = long[0]["texts"], long[0]["texts_longer"]
    names = ["setting", f"all {count} reviews", f"the {longer} longer than the model", "forward passes a review"]
    keep("long-texts", long, names, rows)


def keep(name: str, found: list[dict[str, Any]], names: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write the figures to results/NAME.json and the table into NAME.md, between its markers."""
    versions = {module.__name__: module.__version__ for module in (npdistil, np, torch, transformers)}
    result = json.dumps({"versions": versions, "rows": found}, indent=1)
    (DOCS / "results" / f"{name}.json").write_text(result + "\n", encoding="utf-8")
    table = "\n".join(f"| {' | '.join(map(str, row))} |" for row in (names, ["---"] * len(names), *rows))
    page = DOCS / f"{name}.md"
    text = page.read_text(encoding="utf-8")
    changed, places = re.subn(
        r"(<!-- table -->\n).*?(<!-- end -->)", lambda found: f"{found[1]}{table}\n{found[2]}", text, flags=re.DOTALL
    )
    if places != 1:
        raise ValueError(f"{page} has {places} places for the table")
    page.write_text(changed, encoding="utf-8")
    print(table)


# --- every task against transformers


def measure_tasks(data: Path, scratch: Path) -> list[dict[str, Any]]:
    """Both engines in float32, text by text."""
    bundled = float32_copy(npdistil.bundled_model(), scratch / "bundled")
    dev = [line.rsplit("\t", 1)[0] for line in read(data / "sst2" / "dev.tsv").split("\n")[1:] if line]
    tweets = [" ".join(words) for words in sentences(read(data / "ner" / "wnut17.emerging.dev.conll"))]
    questions = [
        {"question": each["question"], "context": paragraph["context"]}
        for article in json.loads(read(data / "qa" / "xquad.en.json"))["data"]
        for paragraph in article["paragraphs"]
        for each in paragraph["qas"]
    ][::6]
    masked = [re.sub(r"\w+", "[MASK]", text, count=1) for text in dev[:200] if re.search(r"\w", text)]
    five = {str(i): f"class {i}" for i in range(5)}
    labels = dict(enumerate(NAMES))
    nli = {"id2label": dict(enumerate(NLI)), "label2id": {name: i for i, name in enumerate(NLI)}}

    def random_weights(name: str, **settings: Any) -> Path:
        return with_random_weights(name, bundled, scratch / f"{name}-{len(settings)}", **settings)

    multi = random_weights(SEQUENCE, id2label=five, problem_type="multi_label_classification")
    inference = random_weights(SEQUENCE, **nli)
    pairs = [{"text": one, "text_pair": other} for one, other in zip(dev[:300], dev[300:600], strict=True)]
    zero_shot = {"candidate_labels": ["film", "food", "sport"]}
    bare = random_weights("DistilBertModel")
    ner = random_weights("DistilBertForTokenClassification", id2label=labels)
    mlm = random_weights("DistilBertForMaskedLM")
    found = [
        *compare("text-classification", "bundled", bundled, dev, {"top_k": None}),
        *compare("text-classification, pairs", "random", inference, pairs, {"top_k": None}, "text-classification"),
        *compare("text-classification, multi-label", "random", multi, dev, {"top_k": None}, "text-classification"),
        *compare("token-classification", "random", ner, tweets, {"aggregation_strategy": "simple"}),
        *compare("fill-mask", "random", mlm, masked, {"top_k": 5}),
        *compare("zero-shot-classification", "random", inference, dev[:200], zero_shot),
        *compare("feature-extraction", "random", bare, dev[:300], {}),
    ]
    with_heads: list[tuple[Callable[..., dict[str, Any]], Path, list[Any]]] = [
        (question_answering, random_weights("DistilBertForQuestionAnswering"), questions),
        (embed, bare, dev[:300]),
        (multiple_choice, random_weights("DistilBertForMultipleChoice"), pairs),
    ]
    for measure, directory, inputs in with_heads:
        found += [measure(directory, inputs, engine) for engine in ENGINES]
    return found


SEQUENCE = "DistilBertForSequenceClassification"


def read(path: Path) -> str:
    return path.read_bytes().decode("utf-8")


def sentences(conll: str) -> list[list[str]]:
    """The words of each sentence of a CoNLL file."""
    blocks = re.split(r"\n\s*\n", conll.replace("\r\n", "\n").strip())
    return [[line.split("\t")[0] for line in block.split("\n") if line.strip()] for block in blocks]


def float32_copy(source: Path, target: Path) -> Path:
    """An int8 model with its weights as the float32 numbers that they stand for, for transformers to take as floats."""
    target.mkdir()
    tensors = load_file(source / "model.safetensors")
    scales = {name.removesuffix("_scale"): tensors.pop(name) for name in [*tensors] if name.endswith("weight_scale")}
    floats = {name: array.astype(np.float32) * scales.get(name, np.float32(1)) for name, array in tensors.items()}
    save_file(floats, target / "model.safetensors", {"format": "pt"})
    config = json.loads(read(source / "config.json"))
    config.pop("quantization_config")
    (target / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (target / name).write_bytes((source / name).read_bytes())
    return target


def with_random_weights(name: str, tokenizer: Path, target: Path, **settings: Any) -> Path:
    """A DistilBERT of the original sizes, with another head."""
    torch.manual_seed(0)
    config = transformers.DistilBertConfig(initializer_range=0.05, **settings)
    getattr(transformers, name)(config).eval().save_pretrained(target)
    transformers.AutoTokenizer.from_pretrained(tokenizer).save_pretrained(target)
    return target


def compare(
    task: str, model: str, directory: Path, inputs: list[Any], settings: dict[str, Any], name: str = ""
) -> list[dict[str, Any]]:
    """The pipelines' answers to the same inputs, one by one."""
    theirs = transformers.pipeline(name or task, str(directory), device="cpu")
    expected = [theirs(each, **settings) for each in inputs]
    rows = []
    for engine in ENGINES:
        ours = npdistil.pipeline(name or task, directory, engine=engine, precision="float32")  # type: ignore[call-overload]
        rows.append(row(task, model, engine, zip([ours(each, **settings) for each in inputs], expected, strict=True)))
    return rows


def row(task: str, model: str, engine: str, pairs: Any) -> dict[str, Any]:
    """The largest difference of numbers, and how many answers are equal in all else."""
    same = total = 0
    difference = 0.0
    for got, expected in pairs:
        total += 1
        (words, numbers), (their_words, their_numbers) = flat(got), flat(expected)
        if words == their_words and numbers.shape == their_numbers.shape:
            same += 1
            difference = max(difference, float(np.abs(numbers - their_numbers).max(initial=0)))
    return {
        "task": task,
        "model": model,
        "engine": engine,
        "inputs": total,
        "difference": difference,
        "same": f"{same} of {total}",
    }


def flat(answer: Any) -> tuple[list[Any], Any]:
    """All that an answer says, and apart from it all its floating-point numbers."""
    words: list[Any] = []
    numbers: list[Any] = []

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            for name in sorted(node):
                words.append(name)
                walk(node[name])
        elif isinstance(node, (list, tuple)):
            for each in node:
                walk(each)
        elif isinstance(node, (float, np.floating, np.ndarray)):
            numbers.append(np.ravel(node))
        else:
            words.append(node)

    walk(answer)
    return words, np.concatenate(numbers or [np.empty(0)]).astype(np.float64)


def question_answering(directory: Path, inputs: list[dict[str, str]], engine: str) -> dict[str, Any]:
    """Logits of start and end, of what fits the model; transformers has no such pipeline any more."""
    theirs = transformers.AutoModelForQuestionAnswering.from_pretrained(directory).eval()
    model = npdistil.load(directory, engine=engine, precision="float32")
    pairs = []
    for each in inputs:
        ids = model.tokenizer.encode(each["question"], each["context"]).ids[:512]
        with torch.inference_mode():
            expected = theirs(torch.tensor([ids]))
        logits = model.hidden_states([ids])[0] @ model.checkpoint.head["qa_outputs"]["weight"].T
        logits = logits + model.checkpoint.head["qa_outputs"]["bias"]
        both = torch.stack([expected.start_logits[0], expected.end_logits[0]], dim=1).numpy()
        pairs.append(([*map(int, logits.argmax(axis=0)), logits], [*map(int, both.argmax(axis=0)), both]))
    return row("question-answering (logits)", "random", engine, pairs)


def embed(directory: Path, inputs: list[str], engine: str) -> dict[str, Any]:
    """Means of hidden states, of length 1."""
    theirs = transformers.AutoModel.from_pretrained(directory).eval()
    model = npdistil.load(directory, engine=engine, precision="float32")
    vectors = Embedder(model, normalize=True).transform(inputs)
    pairs = []
    for text, vector in zip(inputs, vectors, strict=True):
        with torch.inference_mode():
            mean = theirs(torch.tensor([model.tokenizer.encode(text).ids])).last_hidden_state[0].mean(dim=0)
        pairs.append((vector, torch.nn.functional.normalize(mean, dim=0).numpy()))
    return row("embed", "random", engine, pairs)


def multiple_choice(directory: Path, inputs: list[dict[str, str]], engine: str) -> dict[str, Any]:
    """A first sentence and which of two goes on from it."""
    theirs = transformers.AutoModelForMultipleChoice.from_pretrained(directory).eval()
    ours = npdistil.pipeline("multiple-choice", directory, engine=engine, precision="float32")
    encode = ours.model.tokenizer.encode
    pairs = []
    for first, second in zip(inputs[::2], inputs[1::2], strict=True):
        choices = [first["text_pair"], second["text_pair"]]
        ids = [encode(first["text"], choice).ids for choice in choices]
        size = max(map(len, ids))
        padded = torch.tensor([[*each, *[0] * (size - len(each))] for each in ids])
        mask = torch.tensor([[1] * len(each) + [0] * (size - len(each)) for each in ids])
        with torch.inference_mode():
            scores = theirs(input_ids=padded[None], attention_mask=mask[None]).logits.softmax(dim=-1)[0].numpy()
        best = int(scores.argmax())
        answer = ours({"text": first["text"], "choices": choices})
        pairs.append((answer, {"choice": best, "text": choices[best], "scores": scores.tolist()}))
    return row("multiple-choice", "random", engine, pairs)


# --- long texts


def measure_long_texts(data: Path) -> list[dict[str, Any]]:
    """Accuracy of each way to treat texts that are longer than the model."""
    reviews = [json.loads(line) for line in read(data / "long" / "imdb_600.jsonl").split("\n") if line]
    model = npdistil.load()
    texts = [each["text"] for each in reviews]
    labels = np.array([each["label"] for each in reviews])
    longer = np.array([len(each) > model.config.max_position_embeddings for each in encoded(model, texts)])
    ways: list[tuple[str, dict[str, Any]]] = [
        ("`windows`, mean (the default)", {}),
        ("`windows`, max", {"combine": "max"}),
        ("`windows`, first", {"combine": "first"}),
        ("`sentences`, mean", {"long_text": "sentences"}),
        ("`sentences`, max", {"long_text": "sentences", "combine": "max"}),
        ("`truncate`", {"long_text": "truncate"}),
    ]
    rows = []
    for setting, chosen in ways:
        right = model.scores(texts, **chosen).argmax(axis=1) == labels
        task = TextClassification(model.checkpoint, long_text=chosen.get("long_text", "windows"))
        parts = task.preprocess(texts).counts
        rows.append(
            {
                "setting": setting,
                "texts": len(texts),
                "texts_longer": int(longer.sum()),
                "all": float(right.mean()),
                "longer": float(right[longer].mean()),
                "parts": sum(parts) / len(parts),
            }
        )
    return rows


def encoded(model: npdistil.Model, texts: list[str]) -> list[Any]:
    return model.tokenizer.encode_batch(texts)


if __name__ == "__main__":
    main()
