"""Embedding: one vector for a text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..batch import Inputs, Outputs
from ..checkpoint.sentence import Dense, Normalize, SentenceEncoder
from ..distilbert import heads
from ..distilbert.encoder import Array
from ..errors import CheckpointError, InputError
from ..settings import Kind, check, choice, flag, setting, string, whole
from ..text import LONG_TEXT, Part, Text, as_texts, cut, laid_out, tokenize
from .base import LEAST_LENGTH, LongTextSettings, LongTextTask

POOLING = Kind(
    f"known are {', '.join(heads.POOLING)}, or several with + between",
    lambda value: isinstance(value, str) and all(name in heads.POOLING for name in value.split("+")),
    str,
    {"type": "string", "pattern": "^({0})(\\+({0}))*$".format("|".join(heads.POOLING))},
)


@dataclass(frozen=True, kw_only=True)
class EmbeddingSettings(LongTextSettings):
    """Settings of embedding; by default as sentence-transformers has them stored in the model's directory."""

    pooling: str | None = setting(
        None,
        POOLING,
        'what makes one vector of a text\'s hidden states: their "mean", the first token\'s ("cls"), or the largest of '
        'each column ("max"); also "mean_sqrt_len_tokens", "weightedmean" and "lasttoken", and several with + between, '
        "side by side; by default what the model's directory says, or else the mean.",
        None,
    )
    normalize: bool | None = setting(
        None, flag(), "whether vectors are scaled to length 1; by default what the model's directory says.", None
    )
    prompt_name: str | None = setting(
        None,
        string(),
        "which of the prompts in the model's directory is put before every text; by default its default_prompt_name.",
        None,
    )
    prompt: str | None = setting(None, string(), "what is put before every text instead of a prompt with a name.", None)
    truncate_dim: int | None = setting(
        None,
        whole(),
        "how many numbers of a vector are kept; by default what the model's directory says, or all.",
        None,
    )
    long_text: str | None = setting(  # type: ignore[assignment]
        None,
        choice(*LONG_TEXT),
        'what becomes of a text of more tokens than `max_length`: "windows" reads overlapping windows that cover all '
        'of it, "truncate" its first tokens, "error" refuses it; "sentences" reads sentences of any text one by one; '
        'by default "truncate" with a directory of sentence-transformers, and "windows" with any other.',
        None,
    )
    max_length: int | None = setting(
        None,
        whole(LEAST_LENGTH),
        "tokens, special ones included, above which a text is long; by default what the model's directory says "
        "(max_seq_length, model_max_length), or all the model takes.",
        None,
    )
    batch_size: int = setting(64, whole(), "texts that a thread runs at once; results do not depend on it.")


class Embedding(LongTextTask[EmbeddingSettings]):
    """One vector a text, as sentence-transformers makes them; vectors of the windows of a long text are averaged.

    Items are strings, or pairs {"text", "text_pair"}. An answer is float32 [D], or as wide as the modules of the
    model's directory make it.
    """

    settings_type = EmbeddingSettings
    answer = "vector"
    architectures = ()  # every head stands on hidden states

    def resolve(self) -> None:
        super().resolve()
        stored = self.checkpoint.sentence or SentenceEncoder()
        if stored.refusal:
            raise CheckpointError(stored.refusal)
        self.pooling = self.settings.pooling or stored.pooling
        self.modules = [
            each for each in stored.modules if isinstance(each, Dense) or self.settings.normalize is not False
        ]
        into = next((each.params["weight"].shape[1] for each in self.modules if isinstance(each, Dense)), None)
        given = self.checkpoint.config.dim * len(self.pooling.split("+"))
        if into not in (None, given):
            raise InputError(
                f"pooling is {self.pooling!r}, which makes {given} numbers; the model's Dense module takes {into}"
            )
        check("truncate_dim", whole(most=self._whole_width), self.settings.truncate_dim, None)
        self.truncate_dim = self.settings.truncate_dim or stored.truncate_dim
        prompts = stored.prompts or {"query": "", "document": ""}  # names that sentence-transformers always knows
        name = self.settings.prompt_name or stored.default_prompt_name
        if self.settings.prompt is None and name:
            check("prompt_name", choice(*prompts), name)
        self.prompt = prompts.get(name or "", "") if self.settings.prompt is None else self.settings.prompt
        self.unpooled = 0  # tokens of the prompt at the start, where these do not count
        if self.prompt and not stored.include_prompt:
            (encoding,) = tokenize(self.tokenizer, [self.prompt])
            self.unpooled = len(encoding) - bool(encoding.special_tokens_mask[-1])

    @property
    def width(self) -> int:
        """Numbers of a vector."""
        return min(self._whole_width, self.truncate_dim or self._whole_width)

    @property
    def _whole_width(self) -> int:
        """The same where none are left out."""
        widths = [self.checkpoint.config.dim * len(self.pooling.split("+"))]
        widths += [len(each.params["weight"]) for each in self.modules if isinstance(each, Dense)]
        return widths[-1]

    def chosen_long_text(self) -> str:
        return self.settings.long_text or ("truncate" if self.checkpoint.sentence else "windows")

    def default_max_length(self) -> int:
        """As `LongTextTask.default_max_length`; windows are no longer than what the directory says either."""
        return self.checkpoint.max_length

    @property
    def added_columns(self) -> dict[str, Any]:
        """As `Task.added_columns`: the vector."""
        return {"vector": ("float32",)}

    def preprocess(self, items: Sequence[Any]) -> Inputs:
        """As `Task.preprocess`; a text's parts are its sequences."""
        texts = [self._prompted(text) for text in as_texts(items)]
        cuts = cut(self.tokenizer, texts, *self.how)
        rows = [self._pooled(part) for parts in cuts for part in parts] if self.unpooled else None
        return laid_out(cuts, output=self.pooling, rows=rows)

    def _prompted(self, text: Text) -> Text:
        if not self.prompt:
            return text
        return self.prompt + text if isinstance(text, str) else (self.prompt + text[0], text[1])

    def _pooled(self, part: Part) -> list[int]:
        """Which of a part's tokens go into the pooling: those that are not the prompt's."""
        first = 0 if part.shift else self.unpooled
        rows = [i for i, position in enumerate(part.positions) if position >= first]
        if not rows:
            raise InputError(f"the prompt fills all of the {self.max_length} tokens that are read")
        return rows

    def postprocess(self, outputs: Outputs) -> list[Array]:
        return [self._vector(np.mean(vectors, axis=0)) for vectors in outputs.by_item()]

    def _vector(self, x: Array) -> Array:
        for module in self.modules:
            x = heads.unit(x) if isinstance(module, Normalize) else heads.dense(x, module.activation, **module.params)
        x = x[: self.truncate_dim]
        return heads.unit(x) if self.settings.normalize else x
