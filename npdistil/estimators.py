"""What scikit-learn's users call: estimators with `fit`, parameters, and `transform` or `predict`.

scikit-learn knows estimators by what they can do, so nothing of it is imported here unless it asks.
"""

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from inspect import Parameter, Signature, cleandoc
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from .distilbert.encoder import Array
from .distilbert.heads import log
from .errors import InputError, MissingExtraError
from .model import Model, load
from .pipelines import EmbeddingPipeline
from .settings import Kind, Settings, check, check_known, choice, setting, whole
from .tasks.base import TRUNCATES, LongTextSettings
from .tasks.embedding import EmbeddingSettings
from .tasks.text_classification import COMBINE
from .text import items_of

Self = TypeVar("Self", bound="Estimator")
FRAMES = ("default", "pandas", "polars")


class Estimator:
    """What both have: a model and settings, which are attributes, as scikit-learn wants its parameters.

    They are kept as they were given and checked by `fit`, because scikit-learn makes copies from exactly these. What is
    changed later holds from the next call on.
    """

    __signature__: ClassVar[Signature]
    settings_type: ClassVar[type[Settings]]

    def __init_subclass__(cls) -> None:
        """The settings' record is the signature and the documentation too."""
        first = Parameter("model", Parameter.POSITIONAL_OR_KEYWORD, default=None)
        cls.__signature__ = cls.settings_type.signature(first)
        if cls.__doc__:  # python -OO has none
            own = cls.settings_type.described("model: what `load` takes, or a loaded `Model`.")
            cls.__doc__ = f"{cleandoc(cls.__doc__)}\n\n{own}\n"

    def __init__(self, model: Any = None, **settings: Any) -> None:
        self.model = model
        for each in fields(self.settings_type):
            setattr(self, each.name, each.default)
        self.set_params(**settings)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Each setting is an attribute."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The settings by name, as scikit-learn asks for them."""
        return {name: getattr(self, name) for name in ("model", *(each.name for each in fields(self.settings_type)))}

    def set_params(self: Self, **params: Any) -> Self:
        """Change settings, as scikit-learn does.

        Raises:
            InputError: a setting that does not exist.
        """
        check_known("setting", params, self.get_params())
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        usual = {"model": None} | {each.name: each.default for each in fields(self.settings_type)}
        given = [f"{name}={value!r}" for name, value in self.get_params().items() if value is not usual[name]]
        return f"{type(self).__name__}({', '.join(given)})"

    def _repr_html_(self) -> str | None:
        """In a notebook, as scikit-learn shows its own; without it, as text."""
        try:
            from sklearn.utils import estimator_html_repr
        except ImportError:
            return None
        html: str = estimator_html_repr(self)
        return html

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn wants to know of it; it alone calls this."""
        from sklearn.utils import InputTags, Tags, TargetTags

        tags = Tags(estimator_type=None, target_tags=TargetTags(required=False))
        tags.input_tags = InputTags(string=True, two_d_array=False, one_d_array=True)
        tags.requires_fit = False
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        """There is nothing to fit."""
        return True

    def fit(self: Self, texts: Any = None, y: Any = None) -> Self:
        """Nothing is learnt from texts; settings are checked and the model is loaded.

        Raises:
            InputError: a setting with an impossible value; and what `load` raises.
        """
        self._used: tuple[Any, Any] = self, None  # which is no model
        self._ready()
        return self

    def _ready(self) -> None:
        """Load the model and check the settings, where that was not done or a parameter was changed since."""
        settings = {name: value for name, value in self.get_params().items() if name != "model"}
        used = self.model, self.settings_type.of(settings)  # before a model is loaded
        before = getattr(self, "_used", (self, None))
        if used != before:
            if used[0] != before[0]:
                self.model_ = self.model if isinstance(self.model, Model) else load(self.model)
            self._use(used[1])
            self._used = used

    def _use(self, settings: Any) -> None:
        """Make what settings and model together need."""
        raise NotImplementedError


class Embedder(Estimator):
    """Texts -> vectors, one a text; a transformer in the sense of scikit-learn, for use in its pipelines."""

    settings_type = EmbeddingSettings
    _estimator_type = "transformer"  # which versions of scikit-learn before 1.6 look at

    def __sklearn_tags__(self) -> Any:
        """As `Estimator.__sklearn_tags__`."""
        from sklearn.utils import TransformerTags

        tags = super().__sklearn_tags__()
        tags.estimator_type, tags.transformer_tags = "transformer", TransformerTags(preserves_dtype=[])
        return tags

    def _use(self, settings: Any) -> None:
        self.pipeline_ = EmbeddingPipeline(self.model_, **vars(settings))

    @property
    def _width(self) -> int:
        """Numbers of a vector."""
        self._ready()
        task: Any = self.pipeline_.processor
        width: int = task.width
        return width

    def fit_transform(self, texts: Any, y: Any = None) -> Any:
        """As `fit` and `transform`."""
        return self.fit(texts, y).transform(texts)

    def transform(self, texts: Any) -> Any:
        """Vectors of the texts: float32 [B, D], or as wide as the modules of the model's directory make them.

        Args:
            texts: several, as `text.items_of` takes them: a list, a Series, an array, a frame of one column ...

        Returns:
            An array, or what `set_output` asks for.

        Raises:
            InputError: a single string, or what the model cannot take.
        """
        self._ready()
        vectors = [*self.pipeline_(iter(items_of(texts)))]
        return self._framed(np.stack(vectors) if vectors else np.empty((0, self._width), np.float32), texts)

    def get_feature_names_out(self, input_features: Any = None) -> Array:
        """A name for each number of a vector: "embedder0", "embedder1" ..."""
        return np.array([f"{type(self).__name__.lower()}{i}" for i in range(self._width)], object)

    def set_output(self, *, transform: str | None = None) -> "Embedder":
        """What `transform` gives: "default" is an array; "pandas" or "polars" a frame; None leaves it as it is.

        Raises:
            InputError: another value.
        """
        check("transform", choice(*FRAMES), transform, None)
        if transform is not None:
            self._sklearn_output_config = {"transform": transform}  # a name that scikit-learn's `clone` copies
        return self

    def _framed(self, vectors: Array, texts: Any) -> Any:
        """The vectors in what `set_output` asks for, or sklearn.set_config for all estimators."""
        asked: Any = getattr(self, "_sklearn_output_config", {}).get("transform")
        if asked is None and (sklearn := sys.modules.get("sklearn")):
            asked = sklearn.get_config().get("transform_output")
        if asked in (None, "default"):
            return vectors
        try:
            library = importlib.import_module(asked)
        except ModuleNotFoundError:
            raise MissingExtraError(asked, "frames") from None
        names = self.get_feature_names_out()
        if asked == "polars":
            return library.DataFrame(vectors, schema=[*names])
        index = texts.index if isinstance(texts, (library.Series, library.DataFrame)) else None
        return library.DataFrame(vectors, columns=names, index=index)


CLASSES = Kind(
    "expected a list of values, one for each of the model's labels", lambda value: isinstance(value, (list, tuple))
)


@dataclass(frozen=True, kw_only=True)
class ClassifierSettings(LongTextSettings):
    """Settings of `Classifier`."""

    classes: Sequence[Any] | None = setting(
        None, CLASSES, "what `y` calls the model's labels, in their order; by default as the model does.", None
    )
    combine: str = setting(
        "mean",
        choice(*COMBINE),
        'what becomes of the scores of windows or sentences: their "mean", the "max" of each label, or those of the '
        '"first".',
    )
    truncation: bool | str = setting(False, TRUNCATES, "as for text classification.")
    batch_size: int = setting(256, whole(), "texts that a thread runs at once; results do not depend on it.")


class Classifier(Estimator):
    """Texts -> one class for each; a classifier in the sense of scikit-learn, which has been trained already.

    `fit` loads the model and looks at the classes of `y` alone. Unlike `Model.classes_`, `classes_` and the columns of
    probabilities are in the order of `np.unique`, as scikit-learn assumes of all classifiers.

    `y` may have the labels' names, or what `classes` has in their stead; or a number from 0 on for each, which
    VotingClassifier makes of names in the order of `np.unique`: then predictions are numbers too. Where these might be
    the model's own numbers, in another order, they are refused, and so are numbers that leave some out.
    """

    settings_type = ClassifierSettings
    _estimator_type = "classifier"

    def __sklearn_tags__(self) -> Any:
        """As `Estimator.__sklearn_tags__`."""
        from sklearn.utils import ClassifierTags

        tags = super().__sklearn_tags__()
        tags.estimator_type, tags.classifier_tags = "classifier", ClassifierTags()
        return tags

    def fit(self: Self, texts: Any = None, y: Any = None) -> Self:
        """Nothing is learnt from texts; settings are checked, the model is loaded, and `y` names the classes.

        Raises:
            InputError: a setting with an impossible value, classes that are not the model's, or a model whose labels
                do not exclude each other; and what `load` raises.
        """
        self._y = None if y is None else np.unique(np.asarray(y))
        return super().fit(texts, y)

    @property
    def classes_(self) -> Array:
        """What `predict` gives, in the order of the columns of `predict_proba`: [C]."""
        self._ready()
        return self._classes

    def _use(self, settings: ClassifierSettings) -> None:
        config, checkpoint = self.model_.config, self.model_.checkpoint
        if config.function != "softmax" or config.architecture != "DistilBertForSequenceClassification":
            raise InputError(
                f"{checkpoint.directory} does not give one of several labels to a text, as a classifier does"
            )
        labels = config.labels if settings.classes is None else settings.classes
        names, order = np.unique(np.array(labels), return_index=True)
        if len(labels) != len(config.labels) or len(names) < len(labels):
            raise InputError(
                f"the classes are {', '.join(map(str, labels))}; the model's labels are {', '.join(config.labels)}: "
                "give `classes`, a different one for each label, in that order"
            )
        self._classes, self._order = names, order
        y = getattr(self, "_y", None)
        given = names if y is None else y
        if not {*given.tolist()} <= {*names.tolist()}:
            if given.dtype.kind not in "iu" or given.tolist() != [*range(len(names))]:
                raise InputError(
                    f"y has the classes {', '.join(map(str, given))}; known are {', '.join(map(str, labels))}: give "
                    "`classes`, what y calls each of these, in that order"
                )
            if settings.classes is None and order.tolist() != [*range(len(order))]:
                raise InputError(
                    f"y has numbers, and the model's labels are {', '.join(labels)}: give `classes`, the numbers from "
                    "0 on where y has these labels' places, or the labels themselves where y has their places in "
                    "alphabetical order, as VotingClassifier makes them"
                )
            self._classes = np.arange(len(names))

    def predict_proba(self, texts: Any) -> Array:
        """Probability of each of `classes_` for each text: float64 [B, C].

        Args:
            texts: several, as `text.items_of` takes them: a list, a Series, an array, a frame of one column ...

        Raises:
            InputError: a single string, or what the model cannot take; and as `fit`.
        """
        self._ready()
        settings = {name: value for name, value in vars(self._used[1]).items() if name != "classes"}
        return self.model_.scores(texts, **settings)[:, self._order]

    def decision_function(self, texts: Any) -> Array:
        """Logarithms of the probabilities: float64 [B, C]; of two classes the log-odds of the second: [B].

        Raises:
            InputError: as `predict_proba`.
        """
        values = log(np.maximum(self.predict_proba(texts), np.finfo(np.float64).tiny))
        return values[:, 1] - values[:, 0] if values.shape[1] == 2 else values

    def predict(self, texts: Any) -> Array:
        """The likeliest of `classes_` for each text: [B].

        Raises:
            InputError: as `predict_proba`.
        """
        places = self.predict_proba(texts).argmax(axis=1)
        return self._classes[places]

    def score(self, texts: Any, y: Any, sample_weight: Any = None) -> float:
        """The share of texts whose class is predicted, or that of their weights.

        Raises:
            InputError: as `predict_proba`.
        """
        return float(np.average(self.predict(texts) == np.asarray(y), weights=sample_weight))
