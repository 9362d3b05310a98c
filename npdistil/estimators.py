"""What scikit-learn's users call: estimators with `fit`, `transform` and parameters."""

from dataclasses import fields
from inspect import Parameter
from typing import TYPE_CHECKING, Any

import numpy as np

from .distilbert.encoder import Array
from .errors import InputError
from .model import Model, load
from .pipelines import EmbeddingPipeline
from .tasks.embedding import EmbeddingSettings
from .text import items_of


class Embedder:
    """Texts -> vectors, one a text; a transformer in the sense of scikit-learn, for use in its pipelines.

    Args:
        model: what `load` takes, or a loaded `Model`.
        settings: those of the task "embedding"; see `pipeline`.
    """

    __signature__ = EmbeddingSettings.signature(Parameter("model", Parameter.POSITIONAL_OR_KEYWORD, default=None))

    def __init__(self, model: Any = None, **settings: Any) -> None:
        # Kept as they are and checked later: scikit-learn makes copies from exactly these.
        self.model = model
        for each in fields(EmbeddingSettings):
            setattr(self, each.name, each.default)
        self.set_params(**settings)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Each setting is an attribute."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The settings by name, as scikit-learn asks for them."""
        return {name: getattr(self, name) for name in ("model", *(each.name for each in fields(EmbeddingSettings)))}

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
        settings = {name: value for name, value in self.get_params().items() if name != "model"}
        EmbeddingSettings.of(settings)  # before a model is loaded
        self.model_ = self.model if isinstance(self.model, Model) else load(self.model)
        self.pipeline_ = EmbeddingPipeline(self.model_, **settings)
        self.embedding_: Any = self.pipeline_.processor
        return self

    def fit_transform(self, texts: Any, y: Any = None) -> Array:
        """As `fit` and `transform`."""
        return self.fit(texts, y).transform(texts)

    def transform(self, texts: Any) -> Array:
        """Vectors of the texts: float32 [B, D], or as wide as the modules of the model's directory make them.

        Raises:
            InputError: a single string, or what the model cannot take.
        """
        if not hasattr(self, "pipeline_"):
            self.fit()
        vectors = [*self.pipeline_(iter(items_of(texts)))]
        return np.stack(vectors) if vectors else np.empty((0, self.embedding_.width), np.float32)
