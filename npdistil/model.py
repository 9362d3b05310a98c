"""A loaded model: checkpoint, tokenizer and encoder together."""

import os
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import pairwise

import numpy as np
from tokenizers import Encoding, Tokenizer

from .batch import pack
from .checkpoint.hub import find_model
from .checkpoint.quantize import in_precision
from .checkpoint.tokenizer import read_tokenizer
from .checkpoint.weights import Checkpoint, read_checkpoint
from .distilbert import encoder, heads
from .distilbert.encoder import Array
from .engine import PRECISIONS, make_encoder
from .errors import InputError
from .scores import apply_function, default_function
from .text import Part, Text, check_texts, parts, sentences, tokenize

LONG_TEXT = ("windows", "sentences", "truncate", "error")
STRIDE = 128  # tokens that two neighbouring windows of a long text share
COMBINE: dict[str, Callable[[Array], Array]] = {  # scores of the parts of a text [parts, C] -> [C]
    "mean": lambda scores: scores.mean(axis=0),
    "max": lambda scores: scores.max(axis=0),
    "first": lambda scores: scores[0],
}


class Model:
    """A DistilBERT with its tokenizer, ready to run. Made by `load`; any number of threads may use it at once.

    Attributes:
        config: sizes, labels and settings.
        precision: "float32" or "int8".
        engine: "numpy" or "compiled".
        threads: how many the engine shares a batch among; on the numpy engine a single text has one.
        classes_: the labels, as scikit-learn's classifiers have them: str [C].
    """

    def __init__(self, checkpoint: Checkpoint, engine: str, precision: str | None, threads: int | None) -> None:
        self.checkpoint = checkpoint
        self.config = checkpoint.config
        self.precision = precision or ("int8" if self.config.quantized else "float32")
        if self.precision not in PRECISIONS:
            raise InputError(f"precision is {precision!r}; known are {', '.join(PRECISIONS)}")
        self.encoder = make_encoder(self.config, in_precision(checkpoint.params, self.precision), engine, threads)
        checkpoint.release()  # an engine that packs the weights has read them all
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

    def all_hidden_states(self, token_ids: Sequence[Sequence[int]]) -> list[Array]:
        """What goes into the first block and what comes out of each: float32 [N + 1, L, D] for each text.

        Computed by the specification, whichever engine the model runs on.

        Raises:
            InputError: as `hidden_states`.
        """
        ids, bounds = self._pack(token_ids)
        params = in_precision(self.checkpoint.params, self.precision)
        heads, activation = self.config.n_heads, self.config.activation
        found = []
        for start, stop in pairwise(bounds):
            alone = np.array([0, stop - start])
            states = encoder.hidden_states(ids[start:stop], alone, **params, n_heads=heads, activation=activation)
            found.append(np.stack([*states]))
        return found

    def attentions(self, token_ids: Sequence[Sequence[int]]) -> list[Array]:
        """How much each token looks at each, in each block and head: float32 [N, H, L, L] for each text.

        Computed by the specification, whichever engine the model runs on.

        Raises:
            InputError: as `hidden_states`.
        """
        params = in_precision(self.checkpoint.params, self.precision)
        blocks = [block["attention"] for block in params["layer"]]
        found = []
        for states in self.all_hidden_states(token_ids):
            weights = []
            for x, block in zip(states, blocks, strict=False):  # nothing looks at the last states
                q, k = (encoder.linear(x, **block[name]) for name in ("q_lin", "k_lin"))
                q, k = (encoder.split_heads(each, self.config.n_heads) for each in (q, k))
                weights.append(encoder.attention_weights(q, k))
            found.append(np.stack(weights))
        return found

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

    def cut(
        self,
        texts: Sequence[Text],
        long_text: str = "windows",
        max_length: int | None = None,
        stride: int | None = None,
    ) -> list[list[Part]]:
        """What of each text is read at once: a single part where a text fits and is not read by sentences.

        Args:
            texts: strings, or tuples of two strings.
            long_text: what to do with a text of more tokens than `max_length`. "windows": overlapping windows that
                cover all of it; "truncate": its first tokens; "error": refuse it. "sentences": read the sentences of
                any text one by one, one that is still too long in windows.
            max_length: tokens, special ones included; by default all that the model has positions for.
            stride: tokens that neighbouring windows share; by default 128, or a quarter of `max_length` if less.

        Raises:
            InputError: a text or a setting that the model cannot take.
        """
        if long_text not in LONG_TEXT:
            raise InputError(f"long_text is {long_text!r}; known are {', '.join(LONG_TEXT)}")
        limit = self.config.max_position_embeddings
        length = limit if max_length is None else max_length
        if isinstance(length, bool) or not isinstance(length, int) or not 4 <= length <= limit:
            raise InputError(f"max_length is {max_length!r}; expected a whole number from 4 to {limit}")
        share = default_stride(length) if stride is None else stride
        if isinstance(share, bool) or not isinstance(share, int) or share < 0:
            raise InputError(f"stride is {stride!r}; expected a whole number")
        if long_text == "sentences":
            return self._sentences(texts, length, share)
        return cut_encodings(tokenize(self.tokenizer, texts), long_text, length, share)

    def _sentences(self, texts: Sequence[Text], length: int, stride: int) -> list[list[Part]]:
        check_texts(texts)
        singles = [text for text in texts if isinstance(text, str)]
        if len(singles) < len(texts):
            raise InputError("pairs cannot be read by sentences, only single texts")
        spans = [sentences(text) for text in singles]
        flat = [text[start:end] for text, found in zip(singles, spans, strict=True) for start, end in found]
        encodings = iter(tokenize(self.tokenizer, flat))
        return [
            [
                part._replace(start=start + part.start, end=start + part.end)
                for start, _ in found
                for part in parts(next(encodings), length, stride)
            ]
            for found in spans
        ]

    def part_scores(self, cuts: Sequence[Sequence[Part]], function: str | None = None) -> list[Array]:
        """Scores of each label for each part, as `cut` gives them: for each text float64 [parts, C].

        Args:
            cuts: the parts of each text.
            function: "softmax", "sigmoid" or "none"; by default what the checkpoint's problem_type asks for.
        """
        logits = self.logits([part.ids for cut in cuts for part in cut])
        scores = apply_function(function or default_function(self.config), logits)
        return np.split(scores, np.cumsum([len(cut) for cut in cuts])[:-1]) if len(cuts) else []

    def scores(
        self,
        texts: Sequence[Text],
        function: str | None = None,
        long_text: str = "windows",
        max_length: int | None = None,
        stride: int | None = None,
        combine: str = "mean",
    ) -> Array:
        """Scores of each label for each text or pair: float64 [B, C].

        Args:
            texts: as for `cut`.
            function: as for `part_scores`.
            long_text: as for `cut`.
            max_length: as for `cut`.
            stride: as for `cut`.
            combine: how the scores of a text's parts become one: their "mean", the "max" of each label, or those of
                the "first" part.

        Raises:
            InputError: a text or a setting that the model cannot take.
        """
        if combine not in COMBINE:
            raise InputError(f"combine is {combine!r}; known are {', '.join(COMBINE)}")
        rows = self.part_scores(self.cut(texts, long_text, max_length, stride), function)
        return np.array([COMBINE[combine](each) for each in rows]).reshape(len(texts), len(self.config.labels))

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


def default_stride(max_length: int) -> int:
    """Tokens that neighbouring windows share unless told otherwise."""
    return min(STRIDE, max_length // 4)


def cut_encodings(encodings: Sequence[Encoding], long_text: str, max_length: int, stride: int) -> list[list[Part]]:
    """`Model.cut` of texts whose tokens are known; not by sentences.

    Raises:
        InputError: as `Model.cut`.
    """
    cuts = []
    for i, encoding in enumerate(encodings):
        found = parts(encoding, max_length, stride)
        if long_text == "error" and len(found) > 1:
            raise InputError(f"text {i} has {len(encoding)} tokens; {max_length} are allowed")
        if long_text == "truncate" and len(found) > 1:
            found = [found[0]._replace(truncated=True)]
        cuts.append(found)
    return cuts


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
        threads: to share work among; by default NPDISTIL_THREADS, or the CPUs that this process may use.

    Raises:
        CheckpointError: no model there, or not one that can be read; says what was found and what was expected.
        InputError: a setting that does not exist.
        EngineError, MissingExtraError: the compiled engine cannot run here.

    Example:
        >>> import npdistil
        >>> model = npdistil.load(engine="numpy")
        >>> model.predict(["I love it.", "I hate it."]).tolist()
        ['POSITIVE', 'NEGATIVE']
    """
    return Model(read_checkpoint(find_model(path_or_name)), engine, precision, threads)
