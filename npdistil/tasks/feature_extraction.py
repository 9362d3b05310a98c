"""Feature extraction: the hidden states of a text, or one vector for it."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..batch import chunks
from ..checkpoint.config import read_json
from ..distilbert.encoder import Array
from ..errors import CheckpointError, InputError
from ..model import LONG_TEXT, Model, load
from ..text import Text, as_text, tokenize, windows
from .base import Task, check_choice, run

POOLING = ("mean", "cls", "max")


class FeatureExtraction(Task):
    """transformers' pipeline of that name: the last hidden states of every token.

    Each setting is also an argument of the call.

    Args:
        return_tensors: whether to give arrays instead of nested lists.
        truncation: whether a text of more tokens than the model has positions for is cut; otherwise it is refused.
        batch_size: texts that are run at once.
    """

    architecture = ""  # any: every head stands on hidden states

    def __init__(
        self, model: Model, *, return_tensors: bool = False, truncation: bool = False, batch_size: int = 32
    ) -> None:
        super().__init__(model, {"return_tensors": return_tensors, "truncation": truncation, "batch_size": batch_size})

    def check(self, chosen: dict[str, Any]) -> None:
        """Refuse values that the task cannot take."""
        super().check(chosen)
        for name in ("return_tensors", "truncation"):
            check_choice(name, chosen[name], (False, True))

    def __call__(self, inputs: Any, **settings: Any) -> Any:
        """Extract.

        Args:
            inputs: a text, a list or an iterator of texts.
            settings: as for the class.

        Returns:
            For a text [1, L, D], as nested lists or as a float32 array; for several texts a list, or a lazy iterator,
            of these.

        Raises:
            InputError: an input or a setting that the model cannot take.
        """
        chosen = self.choose(settings)
        return run(inputs, (str,), chosen["batch_size"], lambda items: self._answers(items, chosen))

    def _answers(self, items: list[Any], chosen: dict[str, Any]) -> Iterator[Any]:
        most = self.model.config.max_position_embeddings
        encodings = tokenize(self.model.tokenizer, items)
        ids = [windows(each, most, 0)[0] if chosen["truncation"] else each.ids for each in encodings]
        for states in self.model.hidden_states(ids):
            yield states[None] if chosen["return_tensors"] else states[None].tolist()


class Embedder:
    """Texts -> vectors, one a text; a transformer in the sense of scikit-learn, for use in its pipelines.

    Args:
        model: what `load` takes, or a loaded `Model`.
        pooling: what makes one vector of a text's hidden states: their "mean", the first token's ("cls"), or the
            largest of each column ("max"); by default what the model's 1_Pooling/config.json says, as
            sentence-transformers writes it, or else the mean.
        normalize: whether vectors are scaled to length 1.
        long_text: as for text classification; vectors of windows are averaged.
        batch_size: texts that are run at once.
    """

    def __init__(
        self,
        model: Any = None,
        *,
        pooling: str | None = None,
        normalize: bool = False,
        long_text: str = "windows",
        batch_size: int = 64,
    ) -> None:
        # Kept as they are and checked later: scikit-learn makes copies from exactly these.
        self.model = model
        self.pooling = pooling
        self.normalize = normalize
        self.long_text = long_text
        self.batch_size = batch_size

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The settings by name, as scikit-learn asks for them."""
        names = ("model", "pooling", "normalize", "long_text", "batch_size")
        return {name: getattr(self, name) for name in names}

    def set_params(self, **params: Any) -> "Embedder":
        """Change settings, as scikit-learn does.

        Raises:
            InputError: a setting that does not exist.
        """
        if unknown := [name for name in params if name not in self.get_params()]:
            raise InputError(f"unknown setting: {', '.join(unknown)}; known are {', '.join(self.get_params())}")
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn wants to know of it; it alone calls this."""
        from sklearn.utils import InputTags, Tags, TargetTags

        tags = Tags(estimator_type="transformer", target_tags=TargetTags(required=False))
        tags.input_tags = InputTags(string=True, two_d_array=False, one_d_array=True)
        tags.requires_fit = False
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        """There is nothing to fit."""
        return True

    def fit(self, texts: Any = None, y: Any = None) -> "Embedder":
        """Nothing is learnt from texts; settings are checked and the model is loaded.

        Raises:
            InputError: a setting with an impossible value; and what `load` raises.
        """
        check_choice("pooling", self.pooling, (None, *POOLING))
        check_choice("normalize", self.normalize, (False, True))
        check_choice("long_text", self.long_text, LONG_TEXT)
        self.model_ = self.model if isinstance(self.model, Model) else load(self.model)
        self.pooling_ = self.pooling or stored_pooling(self.model_.checkpoint.directory)
        return self

    def fit_transform(self, texts: Iterable[Text], y: Any = None) -> Array:
        """As `fit` and `transform`."""
        return self.fit(texts, y).transform(texts)

    def transform(self, texts: Iterable[Text]) -> Array:
        """Vectors of the texts: float32 [B, D].

        Raises:
            InputError: a single string, or what the model cannot take.
        """
        if isinstance(texts, str):
            raise InputError("expected a list of texts, found one string")
        if not hasattr(self, "model_"):
            self.fit()
        rows = [self._vectors(chunk) for chunk in chunks(map(as_text, texts), self.batch_size)]
        return np.concatenate(rows) if rows else np.empty((0, self.model_.config.dim), np.float32)

    def _vectors(self, texts: Sequence[Text]) -> Array:
        cuts = self.model_.cut(texts, self.long_text)
        states = self.model_.hidden_states([part.ids for cut in cuts for part in cut])
        rows = np.stack([pooled(each, self.pooling_) for each in states])
        return vectors(rows, [len(cut) for cut in cuts], self.normalize)


def pooled(states: Array, pooling: str) -> Array:  # [L, D] -> [D]
    """One vector of a text's hidden states."""
    if pooling == "cls":
        return states[0]
    return states.mean(axis=0) if pooling == "mean" else states.max(axis=0)


def vectors(rows: Array, counts: Sequence[int], normalize: bool) -> Array:  # [parts, D] -> [B, D]
    """The mean over each text's parts, whose numbers are `counts`; scaled to length 1 if so wished."""
    means = np.stack([each.mean(axis=0) for each in np.split(rows, np.cumsum(counts)[:-1])])
    if normalize:
        means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), np.float32(1e-12))
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
