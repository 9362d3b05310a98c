"""The texts that are timed, and the tokenizer that every runtime shares.

python benchmarks/data.py --out benchmarks/results/texts.json      # how many tokens the texts have
"""

import argparse
import json
import os
import random
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import TypeVar

import report
from tokenizers import Tokenizer

Item = TypeVar("Item")
MAX_LENGTH = 512  # tokens, special ones included
BUNDLED = Path(__file__).resolve().parents[1] / "weights" / "minilm-l6-sst2"


def default_data() -> Path:
    """The folder with sst2/ and long/: NPDISTIL_SHARED, or shared/data beside the repository."""
    named = os.environ.get("NPDISTIL_SHARED")
    return Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"


def sst2(data: Path, split: str) -> list[tuple[str, int]]:
    """Sentences and labels of SST-2; `split` is "train" or "dev"."""
    with (data / "sst2" / f"{split}.tsv").open(encoding="utf-8", newline="") as file:
        rows = [line.split("\t") for line in file.read().split("\n")[1:] if line]
    return [(text, int(label)) for text, label in rows]


def long_texts(data: Path) -> list[str]:
    """Film reviews, some of them longer than the model."""
    with (data / "long" / "imdb_600.jsonl").open(encoding="utf-8", newline="") as file:
        return [json.loads(line)["text"] for line in file.read().split("\n") if line]


def tokenizer(model: Path) -> Tokenizer:
    """A model's own, cutting at 512 tokens and padding nothing."""
    loaded = Tokenizer.from_file(str(model / "tokenizer.json"))
    loaded.enable_truncation(MAX_LENGTH)
    loaded.no_padding()
    return loaded


def evenly(items: Sequence[Item], count: int) -> list[Item]:
    """`count` of the items, evenly spaced."""
    return [items[i * len(items) // count] for i in range(count)]


def distinct(texts: Sequence[str], count: int) -> list[str]:
    """`count` texts at random, no two of them equal."""
    return random.Random(0).sample([*dict.fromkeys(texts)], count)


def sets(data: Path) -> dict[str, list[str]]:
    """The texts that results are of, by the names that `report.tokens` knows."""
    dev, train = ([text for text, _ in sst2(data, split)] for split in ("dev", "train"))
    return {
        "SST-2 dev": dev,
        "SST-2 train, first": train[:20_000],
        "SST-2 train, distinct": distinct(train, 8_000),
        "film reviews": evenly(long_texts(data), 32),
    }


def counted(data: Path) -> dict[str, dict[str, float]]:
    """Texts of each set, and their tokens as the bundled model's tokenizer counts them."""
    cutting = tokenizer(BUNDLED)
    return {
        name: {
            "texts": len(texts),
            "tokens a text": round(mean(len(encoding.ids) for encoding in cutting.encode_batch(texts)), 2),
        }
        for name, texts in sets(data).items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="How many tokens the texts of the benchmarks have.")
    parser.add_argument("--data", type=Path, default=default_data())
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    result = {"benchmark": "texts", "sets": counted(options.data)}
    print(report.dumps(result), end="")
    if options.out:
        report.write(options.out, result)


if __name__ == "__main__":
    main()
