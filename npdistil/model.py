"""A loaded model: token ids in, logits, hidden states and attention out."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np

from . import blas
from .arguments import MODEL, read
from .batch import (
    MOST_ITEMS,
    Answer,
    Inputs,
    Item,
    Outputs,
    batches_of,
    blocks,
    check_ids,
    chunks,
    in_chunks,
    pack,
    positions,
)
from .checkpoint.hub import find_model
from .checkpoint.quantize import in_precision
from .checkpoint.weights import Checkpoint, Unchanging, read_checkpoint
from .distilbert import encoder, heads
from .distilbert.encoder import Array, Params
from .engine import PRECISIONS, make_encoder
from .errors import EngineError, InputError
from .notebook import card
from .settings import check, choice
from .tasks.base import Task
from .tasks.text_classification import COMBINE, TextClassification, combined
from .text import Text, as_texts, check_texts, items_of, tokenizing_on
from .tokenizer import Tokenizer
from .workers import Workers

TokenTypes: TypeAlias = Sequence[Sequence[int]] | None


class Model(Unchanging):
    """A DistilBERT or BERT with its tokenizer, ready to run. Made by `load`; any number of threads may use it at once.

    A pickle of it is what `load` was told, and the fingerprint of the model's files; it is loaded again from these.
    Copies are itself.

    Attributes:
        checkpoint: what its directory holds.
        config: sizes, labels and settings.
        precision: "float32" or "int8".
        engine: "numpy" or "compiled".
        threads: how many share a batch, or take one each where there are several; on the numpy engine a single text has
            one.
        classes_: the labels, as scikit-learn's classifiers have them: str [C].
        device: "cpu".
    """

    device = "cpu"
    _cancelled = False

    def __init__(self, checkpoint: Checkpoint, engine: str, precision: str | None, threads: int | None) -> None:
        check("precision", choice(*PRECISIONS), precision, None)
        self._asked = engine, threads  # another machine may have other kernels and more processors
        self.checkpoint = checkpoint
        self.config = checkpoint.config
        self.precision = precision or ("int8" if self.config.quantized else "float32")
        params = in_precision(checkpoint.params, self.precision)
        checkpoint.release()  # so that an engine that packs the weights can let go of each layer
        self.encoder = make_encoder(self.config, params, engine, threads)
        self._head_settings: dict[str, Any] = {"pooler": self.config.pooler, "eps": self.config.layer_norm_eps}
        if checkpoint.head:  # no rows: so that an engine packs the head's weights now, and not with the first text
            self._logits(np.empty((0, self.config.dim), np.float32))
        self.engine = self.encoder.name
        self.threads = self._tokenizes_on = self.encoder.threads
        self.classes_ = np.array(self.config.labels)

    def __repr__(self) -> str:
        return f"<npdistil.Model {self.checkpoint.name}: {self.engine}, {self.precision}>"

    def _repr_html_(self) -> str:
        """In a notebook: what it is."""
        config = self.config
        facts = {
            "head": config.class_name,
            "labels": ", ".join(config.labels),
            "size": f"{config.n_layers} layers, {config.dim} wide, {config.n_heads} heads, {config.vocab_size} tokens",
            "engine": f"{self.engine}, {self.precision}, threads: {self.threads}",
            "directory": self.name_or_path,
        }
        return card(f"npdistil.Model {self.checkpoint.name}", facts)

    def __call__(self, *inputs: Any, **given: Any) -> Any:
        """Refused, because models here take texts.

        Raises:
            InputError: always; says what to write.
        """
        raise InputError(
            "a model is not called here: model.predict([text]) and model.scores([text]) take texts, and so does what "
            "npdistil.pipeline returns; model.logits([token_ids]) and model.hidden_states([token_ids]) take token ids"
        )

    def to(self, device: Any = None, *more: Any, **given: Any) -> "Model":
        """Itself, which is on the CPU.

        Raises:
            InputError: another device.
        """
        read(MODEL, {"device": device})
        return self

    def eval(self) -> "Model":
        """Itself: there is no training here."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        engine, threads = self._asked
        return type(self), (self.checkpoint, engine, self.precision, threads)

    @property
    def params(self) -> Params:
        """The encoder's parameters in the model's precision, as `distilbert.encode` takes them; made anew each time."""
        return in_precision(self.checkpoint.params, self.precision)

    @property
    def name_or_path(self) -> str:
        """Where it was read from."""
        return str(self.checkpoint.directory)

    @property
    def tokenizer(self) -> Tokenizer:
        """The `tokenizers.Tokenizer` and what goes with it; neither truncates nor pads."""
        return Tokenizer(self.checkpoint.tokenization, self.name_or_path, self.checkpoint.max_length)

    def on_one_thread(self) -> "Model":
        """The same model, whose calls run on the thread that makes them and on no other: for callers that are many."""
        one: Model = object.__new__(type(self))
        one.__dict__.update(self.__dict__, encoder=self.encoder.on_one_thread(), threads=1)
        return one

    def cancel(self) -> None:
        """Have calls that are under way end soon, with EngineError: signals interrupt the main thread alone.

        For a model that `on_one_thread` has made; it is of no use any more.
        """
        self.__dict__["_cancelled"] = True

    def run(self, task: Task[Any], items: Sequence[Any]) -> list[Any]:
        """A task's answers to items, all of them at once.

        Raises:
            InputError: an item that the model cannot take.
            EngineError: numbers of the model's that are not finite, of which no answer can be made.
        """
        with np.errstate(under="ignore"), tokenizing_on(self._tokenizes_on):
            return task.postprocess(self.forward(task.preprocess(items)))

    def in_batches(
        self, run: Callable[["Model", list[Item]], Iterable[Answer]], items: Iterable[Item], size: int
    ) -> Iterator[Answer]:
        """What `run(model, batch)` gives for each item: batches of a list beside each other, an iterator's in turn.

        Raises:
            InputError: as `batch.in_chunks`.
        """
        if not isinstance(items, list) or len(items) <= size or self.threads == 1:
            yield from in_chunks(partial(run, self), chunks(items, min(size, MOST_ITEMS)))
            return
        workers, batches = Workers(self), batches_of(items, size, self.threads)
        try:
            results = workers.begin(run, batches)
            yield from in_chunks(lambda _: next(results), batches)
        finally:
            workers.stop()

    def forward(self, inputs: Inputs) -> Outputs:
        """What the model says of token ids: the one way from any task to the engine.

        Raises:
            InputError: no tokens, more than the model has positions for, or ids that are not in the vocabulary; or
                logits of a checkpoint without a head.
        """
        if inputs.output == "attentions":
            return Outputs(inputs, self.attentions(inputs.token_ids, inputs.token_type_ids))
        if inputs.output == "logits" and not self.checkpoint.head:
            raise InputError(
                f"{self.checkpoint.directory} is a {self.config.class_name}, which has no head, and so no logits"
            )
        ids, bounds = pack(inputs.token_ids)
        check_ids(ids, bounds, self.config.vocab_size, self.config.max_position_embeddings)
        positions = self._positions(bounds, inputs.token_type_ids)
        rows = None if inputs.rows is None else [np.asarray(each, np.int64) for each in inputs.rows]
        values: list[Array] = []
        for i, j in blocks(bounds, self.encoder.at_once):  # what comes in between is of these alone
            if self._cancelled:
                raise EngineError("the call was cancelled")
            tokens = slice(bounds[i], bounds[j])
            own = None if positions is None else positions[tokens]
            some = None if rows is None else rows[i:j]
            with np.errstate(under="ignore"):
                values += self._values(inputs.output, ids[tokens], bounds[i : j + 1] - bounds[i], own, some)
        return Outputs(inputs, values)

    def _values(
        self, output: str, ids: Array, bounds: Array, positions: Array | None, rows: list[Array] | None
    ) -> list[Array]:
        """`Outputs.values` of some sequences."""
        if output != "logits":
            hidden = self.encoder.encode(ids, bounds, positions=positions)
            states = [hidden[start:stop] for start, stop in pairwise(bounds.tolist())]
            if output == "hidden_states":
                return states
            return [heads.pool(x, output, None if rows is None else rows[i]) for i, x in enumerate(states)]
        which, ends = None, bounds
        if rows is not None:
            which = np.concatenate([each + start for each, start in zip(rows, bounds[:-1], strict=True)])
            ends = np.cumsum([0, *map(len, rows)])
        elif self.config.architecture in heads.FIRST_TOKEN:
            which, ends = bounds[:-1], np.arange(len(bounds))
        logits = self._logits(self.encoder.encode(ids, bounds, which, positions))
        return [logits[i:j] for i, j in pairwise(ends.tolist())]

    def _logits(self, hidden: Array) -> Array:
        config, linear = self.config, self.encoder.linear
        return heads.logits(
            config.architecture, hidden, self.checkpoint.head, config.activation, linear, **self._head_settings
        )

    def _positions(self, bounds: Array, token_type_ids: TokenTypes) -> Array | None:
        """What an encoder takes as positions; None where they are what they are without token types."""
        if token_type_ids is None or not self.checkpoint.has_token_types:
            return None
        return positions(token_type_ids, bounds, self.config.type_vocab_size, self.config.max_position_embeddings)

    def logits(self, token_ids: Sequence[Sequence[int]], token_type_ids: TokenTypes = None) -> Array:
        """The sequence-classification head's answer to texts given as token ids: float32 [B, C].

        Args:
            token_ids: of each text, with its special tokens.
            token_type_ids: of each token, for a model that has them; all 0 by default.

        Raises:
            InputError: as `forward`; or the checkpoint has another head.
        """
        if self.config.architecture != "DistilBertForSequenceClassification":
            raise InputError(
                f"{self.checkpoint.directory} is a {self.config.class_name}; text classification needs a "
                "DistilBertForSequenceClassification"
            )
        values = self.forward(Inputs(token_ids, token_type_ids=token_type_ids)).values
        return np.concatenate(values) if values else np.empty((0, len(self.config.labels)), np.float32)

    def hidden_states(self, token_ids: Sequence[Sequence[int]], token_type_ids: TokenTypes = None) -> list[Array]:
        """The last hidden states of texts given as for `logits`: float32 [L, D] each.

        Raises:
            InputError: no tokens, more than the model has positions for, or ids that are not in the vocabulary.
        """
        return [*self.forward(Inputs(token_ids, output="hidden_states", token_type_ids=token_type_ids)).values]

    @blas.one_thread()
    def all_hidden_states(self, token_ids: Sequence[Sequence[int]], token_type_ids: TokenTypes = None) -> list[Array]:
        """What goes into the first block and what comes out of each: float32 [N + 1, L, D] for each text.

        Computed by the specification, whichever engine the model runs on.

        Raises:
            InputError: as `hidden_states`.
        """
        with np.errstate(under="ignore"):
            return [np.stack([*states]) for states in self._states(token_ids, token_type_ids, self.params)]

    @blas.one_thread()
    def attentions(self, token_ids: Sequence[Sequence[int]], token_type_ids: TokenTypes = None) -> list[Array]:
        """How much each token looks at each, in each block and head: float32 [N, H, L, L] for each text.

        Computed by the specification, whichever engine the model runs on.

        Raises:
            InputError: as `hidden_states`.
        """
        params, found = self.params, []
        with np.errstate(under="ignore"):
            for states in self._states(token_ids, token_type_ids, params):
                weights = []
                for x, block in zip(states, params["layer"], strict=False):  # nothing looks at the last states
                    q, k = (encoder.linear(x, **block["attention"][name]) for name in ("q_lin", "k_lin"))
                    q, k = (encoder.split_heads(each, self.config.n_heads) for each in (q, k))
                    weights.append(encoder.attention_weights(q, k))
                found.append(np.stack(weights))
        return found

    def _states(
        self, token_ids: Sequence[Sequence[int]], token_type_ids: TokenTypes, params: Params
    ) -> Iterator[Iterator[Array]]:
        """The states of each text after each block, text by text."""
        ids, bounds = pack(token_ids)
        check_ids(ids, bounds, self.config.vocab_size, self.config.max_position_embeddings)
        all_positions = self._positions(bounds, token_type_ids)
        for start, stop in pairwise(bounds):
            own = None if all_positions is None else all_positions[start:stop]
            settings = self.config.encoder_settings | {"positions": own}
            yield encoder.hidden_states(ids[start:stop], np.array([0, stop - start]), **params, **settings)

    def scores(
        self,
        texts: Any,
        combine: str = "mean",
        *,
        function_to_apply: str | None = None,
        truncation: bool | str = False,
        long_text: str = "windows",
        max_length: int | None = None,
        stride: int | None = None,
        batch_size: int = 256,
    ) -> Array:
        """Scores of each label for each text or pair: float64 [B, C].

        Args:
            texts: strings or pairs, in what `text.items_of` takes for several: a list, a Series, an array ...
            combine: how the scores of a text's parts become one: their "mean", the "max" of each label, or those of
                the "first" part.
            function_to_apply: "none", "sigmoid" or "softmax"; by default what the model's problem_type asks for.
            truncation: as for text classification, and so the others.
            long_text: "windows", "sentences", "truncate" or "error".
            max_length: tokens, special ones included, above which a text or pair is long.
            stride: tokens that neighbouring windows share.
            batch_size: texts that a thread runs at once.

        Raises:
            InputError: a text or a setting that the model cannot take.
        """
        check("combine", choice(*COMBINE), combine)
        task = TextClassification(
            self.checkpoint,
            function_to_apply=function_to_apply,
            truncation=truncation,
            long_text=long_text,
            max_length=max_length,
            stride=stride,
            batch_size=batch_size,
        )
        given = as_texts(items_of(texts))
        check_texts(given)

        def part_scores(model: Model, chunk: list[Text]) -> list[Array]:
            with np.errstate(under="ignore"), tokenizing_on(self.threads):
                return task.part_scores(model.forward(task.laid_out(chunk)))

        rows = self.in_batches(part_scores, given, task.settings.batch_size)
        found = [combined(each, combine) for each in rows]
        return np.array(found, np.float64).reshape(len(found), len(self.config.labels))

    def predict_proba(self, texts: Any) -> Array:
        """Probability of each of `classes_` for each text: float64 [B, C], as scikit-learn's classifiers give it.

        Raises:
            InputError: as `scores`; or the model is a regression, which has no probabilities.
        """
        if self.config.function == "none":
            raise InputError("a regression model has no probabilities; `scores` gives its values")
        return self.scores(texts)

    def predict(self, texts: Any) -> Array:
        """The likeliest of `classes_` for each text, str [B]; of a multi-label model, which labels hold, bool [B, C].

        Raises:
            InputError: as `predict_proba`.
        """
        probabilities = self.predict_proba(texts)
        if self.config.function == "sigmoid":
            return probabilities >= 0.5
        return self.classes_[probabilities.argmax(axis=1)]


def load(
    path_or_name: str | os.PathLike[str] | None = None,
    *,
    engine: str = "auto",
    precision: str | None = None,
    threads: int | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
) -> Model:
    """Load a model: the bundled one, a directory, or a name on the Hugging Face Hub (see `hub.find_model`).

    Args:
        path_or_name: None is the bundled sentiment classifier.
        engine: "numpy", "compiled", or "auto": compiled where it can run.
        precision: "float32" or "int8"; by default the checkpoint's own, so int8 is never chosen for a float model.
        threads: to share work among; by default NPDISTIL_THREADS, or the CPUs that this process may use.
        revision: of a name on the Hub: a branch, tag or commit; with a directory, all but "main" are refused.
        token: for the Hub, as `huggingface_hub` takes it.
        cache_dir: the Hub's cache, where it is not in its own place.
        local_files_only: as HF_HUB_OFFLINE=1.

    Raises:
        CheckpointError: no model there, or not one that can be read; says what was found and what was expected.
        InputError: a value that an argument does not take.
        EngineError, MissingExtraError: the compiled engine cannot run here.

    Example:
        >>> import npdistil
        >>> model = npdistil.load(engine="numpy")
        >>> model.predict(["I love it.", "I hate it."]).tolist()
        ['POSITIVE', 'NEGATIVE']
    """
    directory = find_model(
        path_or_name, revision=revision, token=token, cache_dir=cache_dir, local_files_only=local_files_only
    )
    return Model(read_checkpoint(directory), engine, precision, threads)
