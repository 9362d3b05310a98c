"""A loaded model: checkpoint, tokenizer and encoder together."""

import os
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from tokenizers import Tokenizer

from . import heads
from .batch import Text, encode_texts, pack, windows
from .checkpoint import Checkpoint, read_checkpoint
from .engine import PRECISIONS, make_encoder
from .errors import InputError
from .hub import find_model
from .model import Array
from .quantize import in_precision
from .scores import apply_function, default_function
from .tokenizer import read_tokenizer

LONG_TEXT = ("windows", "truncate", "error")
STRIDE = 128  # tokens that two neighbouring windows of a long text share


class Model:
    """A DistilBERT with its tokenizer, ready to run. Made by `load`; any number of threads may use it at once.

    Attributes:
        config: sizes, labels and settings.
        precision: "float32" or "int8".
        engine: "numpy" or "compiled".
        threads: what the engine uses; the numpy engine's products run on as many as its BLAS takes.
        classes_: the labels, as scikit-learn's classifiers have them: str [C].
    """

    def __init__(self, checkpoint: Checkpoint, engine: str, precision: str | None, threads: int | None) -> None:
        self.checkpoint = checkpoint
        self.config = checkpoint.config
        self.precision = precision or ("int8" if self.config.quantized else "float32")
        if self.precision not in PRECISIONS:
            raise InputError(f"precision is {precision!r}; known are {', '.join(PRECISIONS)}")
        self.encoder = make_encoder(self.config, in_precision(checkpoint.params, self.precision), engine, threads)
        self.engine = self.encoder.name
        self.threads = self.encoder.threads
        self.classes_ = np.array(self.config.labels)

    def __repr__(self) -> str:
        return f"<npdistil.Model {self.checkpoint.directory.name}: {self.engine}, {self.precision}>"

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The `tokenizers.Tokenizer`; neither truncates nor pads."""
        return read_tokenizer(self.checkpoint.directory, self.config.vocab_size)

    def hidden_states(self, token_ids: Sequence[Sequence[int]]) -> list[Array]:
        """The last hidden states of texts given as token ids with their special tokens: float32 [L, D] each.

        Raises:
            InputError: no tokens, more than the model has positions for, or ids that are not in the vocabulary.
        """
        ids, bounds = self._pack(token_ids)
        return np.split(self.encoder.encode(ids, bounds), bounds[1:-1]) if len(bounds) > 1 else []

    def logits(self, token_ids: Sequence[Sequence[int]]) -> Array:
        """The sequence-classification head's answer to texts given as token ids: float32 [B, C].

        Raises:
            InputError: as `hidden_states`; or the checkpoint has another head.
        """
        if self.config.architecture != "DistilBertForSequenceClassification":
            raise InputError(
                f"{self.checkpoint.directory} is a {self.config.architecture}; text classification needs a "
                "DistilBertForSequenceClassification"
            )
        ids, bounds = self._pack(token_ids)
        first = self.encoder.encode(ids, bounds, rows=bounds[:-1])
        return heads.sequence_classification(first, **self.checkpoint.head, linear=self.encoder.linear)

    def scores(
        self,
        texts: Sequence[Text],
        function: str | None = None,
        long_text: str = "windows",
        max_length: int | None = None,
    ) -> Array:
        """Scores of each label for each text or pair: float64 [B, C].

        Args:
            texts: strings, or tuples of two strings.
            function: "softmax", "sigmoid" or "none"; by default what the checkpoint's problem_type asks for.
            long_text: what to do with a text of more tokens than `max_length`. "windows" scores overlapping windows
                that cover all of it and takes their mean; "truncate" scores its first tokens; "error" refuses it.
            max_length: tokens, special ones included; by default all that the model has positions for.

        Raises:
            InputError: a text or a setting that the model cannot take.
        """
        if long_text not in LONG_TEXT:
            raise InputError(f"long_text is {long_text!r}; known are {', '.join(LONG_TEXT)}")
        limit = self.config.max_position_embeddings
        length = limit if max_length is None else max_length
        if isinstance(length, bool) or not isinstance(length, int) or not 4 <= length <= limit:
            raise InputError(f"max_length is {max_length!r}; expected a whole number from 4 to {limit}")
        pieces = []
        for i, encoding in enumerate(encode_texts(self.tokenizer, texts)):
            if long_text == "error" and len(encoding.ids) > length:
                raise InputError(f"text {i} has {len(encoding.ids)} tokens; {length} are allowed")
            cut = windows(encoding, length, min(STRIDE, length // 4))
            pieces.append(cut[:1] if long_text == "truncate" else cut)
        logits = self.logits([ids for cut in pieces for ids in cut])
        scores = apply_function(function or default_function(self.config), logits)
        if len(scores) == len(texts):
            return scores
        ends = np.cumsum([len(cut) for cut in pieces])
        return np.stack([scores[end - len(cut) : end].mean(axis=0) for end, cut in zip(ends, pieces, strict=True)])

    def predict_proba(self, texts: Sequence[Text]) -> Array:
        """Probability of each of `classes_` for each text: float64 [B, C], as scikit-learn's classifiers give it.

        Raises:
            InputError: as `scores`; or the model is a regression, which has no probabilities.
        """
        if default_function(self.config) == "none":
            raise InputError("a regression model has no probabilities; `scores` gives its values")
        return self.scores(_several(texts))

    def predict(self, texts: Sequence[Text]) -> Array:
        """The likeliest of `classes_` for each text, str [B]; of a multi-label model, which labels hold, bool [B, C].

        Raises:
            InputError: as `predict_proba`.
        """
        probabilities = self.predict_proba(texts)
        if default_function(self.config) == "sigmoid":
            return probabilities >= 0.5
        return self.classes_[probabilities.argmax(axis=1)]

    def _pack(self, token_ids: Sequence[Sequence[int]]) -> tuple[Array, Array]:
        return pack(token_ids, self.config.vocab_size, self.config.max_position_embeddings)


def _several(texts: Sequence[Text]) -> list[Text]:
    if isinstance(texts, str):
        raise InputError("expected a list of texts, found a string; put it in a list")
    return list(texts)


def load(
    path_or_name: str | os.PathLike[str] | None = None,
    *,
    engine: str = "auto",
    precision: str | None = None,
    threads: int | None = None,
) -> Model:
    """Load a model: the bundled one, a directory, or a name on the Hugging Face Hub (see `hub.find_model`).

    Args:
        path_or_name: None is the bundled sentiment classifier.
        engine: "numpy", "compiled" (extra `fast`), or "auto": compiled where numba is installed.
        precision: "float32" or "int8"; by default the checkpoint's own, so int8 is never chosen for a float model.
        threads: for the compiled engine; by default NPDISTIL_THREADS, or the CPUs that this process may use.

    Raises:
        CheckpointError: no model there, or not one that can be read; says what was found and what was expected.
        InputError: a setting that does not exist.
        EngineError, MissingExtraError: the compiled engine cannot run here.
    """
    return Model(read_checkpoint(find_model(path_or_name)), engine, precision, threads)
