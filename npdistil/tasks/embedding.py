"""Embedding: one vector for a text."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..batch import Inputs, Outputs
from ..checkpoint.config import read_json
from ..distilbert.encoder import Array
from ..distilbert.heads import POOLING
from ..errors import CheckpointError
from ..settings import choice, flag, setting, whole
from ..text import as_text, cut, laid_out
from .base import LongTextSettings, LongTextTask


@dataclass(frozen=True, kw_only=True)
class EmbeddingSettings(LongTextSettings):
    """Settings of embedding."""

    pooling: str | None = setting(
        None,
        choice(*POOLING),
        'what makes one vector of a text\'s hidden states: their "mean", the first token\'s ("cls"), or the largest of '
        'each column ("max"); by default what the model\'s 1_Pooling/config.json says, or else the mean.',
        None,
    )
    normalize: bool = setting(False, flag(), "whether vectors are scaled to length 1.")
    batch_size: int = setting(64, whole(), "texts that are run at once; results do not depend on it.")


class Embedding(LongTextTask[EmbeddingSettings]):
    """One vector a text, as sentence-transformers makes them; vectors of the windows of a long text are averaged.

    Items are strings, or pairs {"text", "text_pair"}. An answer is float32 [D].
    """

    settings_type = EmbeddingSettings
    answer = "vector"
    architectures = ()  # every head stands on hidden states

    def resolve(self) -> None:
        """As `Task.resolve`."""
        super().resolve()
        self.pooling = self.settings.pooling or stored_pooling(self.checkpoint.directory)

    def preprocess(self, items: Sequence[Any]) -> Inputs:
        """As `Task.preprocess`; a text's parts are its sequences."""
        texts = [as_text(item) for item in items]
        cuts = cut(self.tokenizer, texts, self.settings.long_text, self.max_length, self.stride)
        return laid_out(cuts, output=self.pooling)

    def postprocess(self, outputs: Outputs) -> list[Array]:
        """As `Task.postprocess`."""
        means = [np.mean(vectors, axis=0) for vectors in outputs.by_item()]
        if self.settings.normalize:
            return [mean / np.maximum(np.linalg.norm(mean, axis=-1), np.float32(1e-12)) for mean in means]
        return means


def stored_pooling(directory: Path) -> str:
    """What sentence-transformers' 1_Pooling/config.json says, or "mean"."""
    path = directory / "1_Pooling" / "config.json"
    if not path.exists():
        return "mean"
    stored = read_json(path)
    modes = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls", "pooling_mode_max_tokens": "max"}
    chosen = [name for name, value in stored.items() if name.startswith("pooling_mode_") and value is True]
    if len(chosen) != 1 or chosen[0] not in modes:
        raise CheckpointError(f"{path} asks for {json.dumps(chosen)}; known is one of {', '.join(modes)}")
    return modes[chosen[0]]
