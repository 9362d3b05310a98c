"""The texts that are timed, and the tokenizer that every runtime shares."""

import json
import os
from pathlib import Path

from tokenizers import Tokenizer

MAX_LENGTH = 512  # tokens, special ones included


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
