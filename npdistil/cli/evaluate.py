"""`npdistil eval`."""

import argparse
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from ..batch import chunks
from ..distilbert.encoder import Array
from ..errors import InputError
from ..text import LONG_TEXT
from .options import add_model, examples, loaded, progress_bar, ticking

BATCH = 64  # texts


def add_options(command: argparse.ArgumentParser, name: str) -> None:
    """What it takes."""
    command.add_argument(
        "file", type=Path, metavar="FILE.tsv", help="header with sentence (or text) and label, tabs between"
    )
    add_model(command)
    command.add_argument("--long-text", choices=LONG_TEXT, default="windows", help="as for classify")
    examples(command, "npdistil eval dev.tsv", "npdistil eval dev.tsv --model ./my-distilbert --precision int8")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Compare a model's labels with those of a file."""
    model = loaded(options)
    names = model.config.labels
    texts, labels = labelled(options.file, names)
    tqdm = progress_bar()
    predicted = []
    with ticking(tqdm(total=len(texts), unit=" texts", leave=False, miniters=1)) if tqdm else nullcontext() as bar:
        for some in chunks(texts, BATCH):
            predicted.append(model.scores(some, long_text=options.long_text).argmax(axis=1))
            if bar is not None:
                bar.update(len(some))
    confusion = np.zeros((len(names),) * 2, np.int64)  # [true, predicted]
    np.add.at(confusion, (labels, np.concatenate(predicted)), 1)
    right, total = int(confusion.trace()), int(confusion.sum())
    f1 = [2 * confusion[i, i] / max(1, confusion[i].sum() + confusion[:, i].sum()) for i in range(len(names))]
    width = max(map(len, (*names, "true \\ predicted"))) + 2
    print(f"accuracy  {right / total:.4f}  ({right} of {total})")
    by_class = ", ".join(f"{name} {value:.4f}" for name, value in zip(names, f1, strict=True))
    print(f"F1        {np.mean(f1):.4f}  ({by_class})")
    print("true \\ predicted".ljust(width) + "".join(name.rjust(width) for name in names))
    for name, row in zip(names, confusion, strict=True):
        print(name.ljust(width) + "".join(str(n).rjust(width) for n in row))


def labelled(path: Path, names: Sequence[str]) -> tuple[list[str], Array]:
    """Texts and label numbers from a TSV file with a header that has `sentence` or `text`, and `label`."""
    try:
        # Not splitlines(): it also splits at U+0085, which is in some texts.
        content = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
        rows = [line.split("\t") for line in content.split("\n") if line]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None
    header = rows[0] if rows else []
    column = next((name for name in ("sentence", "text") if name in header), None)
    if column is None or "label" not in header:
        raise InputError(f"{path}: the first line should name the columns sentence (or text) and label, tabs between")
    if len(rows) == 1:
        raise InputError(f"{path} has no rows below its header")
    numbers = {str(i): i for i in range(len(names))}
    numbers |= {name: i for i, name in enumerate(names) if names.count(name) == 1}  # of several, the number tells which
    texts, labels = [], []
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(header) or (label := row[header.index("label")].strip()) not in numbers:
            raise InputError(
                f"{path}, row {number}: expected {len(header)} columns and a label among {', '.join(numbers)}"
            )
        texts.append(row[header.index(column)])
        labels.append(numbers[label])
    return texts, np.array(labels)
