"""`pipeline`: a task and a model, called as transformers' pipelines are."""

import importlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from inspect import Parameter, Signature, signature
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeAlias, TypeVar, overload

from .arguments import CALL, ENGINE, FIRST, HUB, MODEL, PIPELINE, check_same, read
from .errors import InputError
from .forks import loading
from .model import Model, load
from .notebook import card
from .settings import UNSET, Settings, shown
from .tasks.base import Task
from .text import items_of
from .tokenizer import Tokenizer

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .distilbert.encoder import Array
    from .keywords import (
        EmbeddingKeywords,
        EmbeddingMade,
        ExplanationKeywords,
        ExplanationMade,
        FeatureExtractionKeywords,
        FeatureExtractionMade,
        FillMaskKeywords,
        FillMaskMade,
        MultipleChoiceKeywords,
        MultipleChoiceMade,
        QuestionAnsweringKeywords,
        QuestionAnsweringMade,
        TextClassificationKeywords,
        TextClassificationMade,
        TokenClassificationKeywords,
        TokenClassificationMade,
        ZeroShotClassificationKeywords,
        ZeroShotClassificationMade,
    )
    from .results import Chosen, Entity, Found, Judged, Label, Several, Token
    from .tasks.explanation import Explanation

    Items: TypeAlias = str | Mapping[str, Any] | Iterator[Any] | Several[Any]

A = TypeVar("A")  # what the answer to an item is

# Task -> module of tasks/ and the class in it.
TASKS: dict[str, tuple[str, str]] = {
    "text-classification": ("text_classification", "TextClassification"),
    "sentiment-analysis": ("text_classification", "TextClassification"),
    "token-classification": ("token_classification", "TokenClassification"),
    "ner": ("token_classification", "TokenClassification"),
    "question-answering": ("question_answering", "QuestionAnswering"),
    "fill-mask": ("fill_mask", "FillMask"),
    "zero-shot-classification": ("zero_shot_classification", "ZeroShotClassification"),
    "feature-extraction": ("feature_extraction", "FeatureExtraction"),
    "embedding": ("embedding", "Embedding"),
    "multiple-choice": ("multiple_choice", "MultipleChoice"),
    "explanation": ("explanation", "ExplanationTask"),
}
# Module of a task that the bundled model cannot do -> a model that can.
NEEDS = {
    "token_classification": 'a DistilBertForTokenClassification, for example "dslim/distilbert-NER"',
    "question_answering": (
        'a DistilBertForQuestionAnswering, for example "distilbert/distilbert-base-cased-distilled-squad"'
    ),
    "fill_mask": 'a DistilBertForMaskedLM, for example "distilbert/distilbert-base-uncased"',
    "zero_shot_classification": (
        "a DistilBertForSequenceClassification of natural language inference, for example "
        '"typeform/distilbert-base-uncased-mnli"'
    ),
    "multiple_choice": "a DistilBertForMultipleChoice",
}


def task_type(task: str) -> type[Task[Any]]:
    """The class of a task.

    Raises:
        InputError: none of `TASKS`.
    """
    if not isinstance(task, str) or task not in TASKS:
        raise InputError(f"task is {shown(task)}; known are {', '.join(TASKS)}")
    module, name = TASKS[task]
    with loading:
        found: type[Task[Any]] = getattr(importlib.import_module(f".tasks.{module}", __package__), name)
    return found


def own_task(model: Model) -> str:
    """The task that a model's head is for; "embedding" where it has none."""
    architecture = model.config.architecture
    return next((task for task in TASKS if architecture in task_type(task).architectures), "embedding")


class _Shown:
    """The signature or the docstring of pipelines: made of their task's settings when it is asked for.

    So that a task's module is imported by who uses it, or looks at it.
    """

    def __init__(self, made: Callable[["type[Pipeline]", "Pipeline | None"], Any]) -> None:
        self.made = made

    def __get__(self, pipe: "Pipeline | None", cls: "type[Pipeline]") -> Any:
        return self.made(cls, pipe)


def _signature(cls: "type[Pipeline]", pipe: "Pipeline | None") -> Signature:
    """Of a pipeline's call, or of what makes one."""
    if pipe is not None:
        return pipe.processor.settings_type.signature(Parameter("inputs", Parameter.POSITIONAL_OR_KEYWORD))
    if not cls.own:
        raise AttributeError("__signature__")  # that of __init__ holds
    made = signature(cls.__init__).parameters
    first = [made[name] for name in ("model", "tokenizer")]
    loading = [signature(load).parameters[name] for name in ENGINE]
    settings = task_type(cls.own).settings_type.signature(*first)
    return settings.replace(parameters=[*settings.parameters.values(), *loading])


def _described(cls: "type[Pipeline]", pipe: "Pipeline | None") -> str:
    """What the task takes and gives, and its settings."""
    first = "model: what `load` takes, or a loaded `Model`.\n    tokenizer: the model's own; another is refused."
    about = (task_type(cls.own).__doc__ or "").replace("Args:", f"Args:\n    {first}", 1)
    return f'`pipeline("{cls.own}")`.\n\n{about}    {", ".join(ENGINE)}: as for `load`.\n'


class Pipeline:
    """A task on a model. Made by `pipeline`; any number of threads may use it at once.

    Args:
        model: what `load` takes, or a loaded `Model`; None is the bundled sentiment classifier.
        tokenizer: the model's own, its name or what `AutoTokenizer` gives of it; another is refused.
        task: one of `TASKS`; by default the class's own.
        given: engine, precision and threads, as for `load`; settings of the task; arguments of transformers.

    Attributes:
        task: the name of the task.
        processor: what is done before the model's forward and after it, with its settings.
        model: what computes.
        device: "cpu".

    Raises:
        InputError: an unknown task, argument or setting; and what `load` raises.
    """

    own: ClassVar[str] = ""
    device = "cpu"
    __signature__ = _Shown(_signature)

    def __init_subclass__(cls) -> None:
        """What `help` says of it."""
        super().__init_subclass__()
        if cls.__doc__ and "own" in vars(cls):  # python -OO has none, and users' classes have theirs
            cls.__doc__ = _Shown(_described)  # type: ignore[assignment]

    def __init__(self, model: Any = None, tokenizer: Any = None, *, task: str | None = None, **given: Any) -> None:
        name, config, self.task = model, given.pop("config", None), task or self.own
        if name is None and TASKS.get(self.task, ("",))[0] in NEEDS:
            raise InputError(
                f'no model is bundled for "{self.task}", only a classifier of sentiments: pass model=, a directory or '
                f"a name on the Hub of {NEEDS[TASKS[self.task][0]]}"
            )
        known = _names(task_type(self.task).settings_type)  # before a model is loaded
        own = read(PIPELINE, given, known)
        self.model = as_model(model, own)
        check_same(MODEL, given.get("model_kwargs") or {}, self.model)
        if not (config is None or config is self.model.config or (isinstance(config, str) and config == str(name))):
            raise InputError(f"config is {shown(config)}; what config.json in the model's directory says is used")
        check_tokenizer(tokenizer, name, self.model)
        settings = {each: value for each, value in own.items() if each not in (*ENGINE, *HUB)}
        self.processor = task_type(self.task)(self.model.checkpoint, **_without_none(settings, self.task))

    def __repr__(self) -> str:
        return f"<npdistil.{type(self).__name__} {self.task!r} on {self.model!r}>"

    def _repr_html_(self) -> str:
        """In a notebook: what it is."""
        record = self.processor.settings
        chosen = {each.name: getattr(record, each.name) for each in fields(record)}
        shown = ", ".join(
            f"{each.name}={chosen[each.name]!r}" for each in fields(record) if chosen[each.name] != each.default
        )
        facts = {"task": self.task, "settings": shown or "as they come", "model": repr(self.model)}
        return card(f"npdistil.{type(self).__name__}", facts)

    def __call__(self, *inputs: Any, **given: Any) -> Any:
        """Answers: one for one item, a list for a list, a lazy iterator for an iterator.

        Args:
            inputs: an item, or several of them, as `text.items_of` takes them; what an item is the task's class says.
            given: settings of this call, as `help` of the pipeline lists them, and arguments of transformers; None
                leaves what the pipeline was made with.

        Raises:
            InputError: an item or a setting that the model cannot take.
        """
        given = _without_none(read(CALL, given, _names(self.processor.settings_type)), self.task)
        if first := [name for name in FIRST if name in given]:
            inputs = (*inputs, *(given.pop(name) for name in first))
        items, given = self.processor.arguments(*inputs, **given)
        task = self.processor.replaced(given)
        if task.is_item(items):
            return task.shaped(self.model.run(task, [items]), items, given)
        several = items_of(items, task.items)
        answers = self.model.in_batches(lambda model, some: model.run(task, some), several, task.settings.batch_size)
        return task.shaped([*answers], several, given) if isinstance(several, list) else answers

    def predict(self, inputs: Any) -> Any:
        """The same as a call, by scikit-learn's name."""
        return self(inputs)

    transform = predict

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's."""
        return self.model.tokenizer

    def run(self, items: Sequence[Any]) -> list[Any]:
        """An answer for each item, all of them at once."""
        return self.model.run(self.processor, items)


def as_model(model: Any, given: Mapping[str, Any]) -> Model:
    """A model as it was given, or loaded with those of the arguments that `load` takes.

    Raises:
        InputError: a loaded model, and arguments for loading; and what `load` raises.
    """
    if not isinstance(model, Model):
        return load(model, **{name: value for name, value in given.items() if name in (*ENGINE, *HUB)})
    if any(given.get(name) not in (None, "auto") for name in ENGINE) or given.get("revision") not in (None, "main"):
        raise InputError("engine, precision, threads and revision belong to `load`; this model is loaded already")
    return model


def check_tokenizer(tokenizer: Any, name: Any, model: Model) -> None:
    """A model's tokenizer may be given beside it.

    Raises:
        InputError: another one.
    """
    if tokenizer is None or (isinstance(name, (str, os.PathLike)) and str(tokenizer) == str(name)):
        return
    other = tokenizer
    if isinstance(tokenizer, (str, os.PathLike)):
        with loading:
            from .auto import AutoTokenizer
        other = AutoTokenizer.from_pretrained(tokenizer)
    if not model.tokenizer.belongs(other):
        raise InputError(
            f"tokenizer is {shown(tokenizer)}, which is not that of {model.name_or_path}; the one in the model's "
            "directory is used: leave it out, or save the other into a copy of that directory"
        )


def _names(record: type[Settings]) -> list[str]:
    return [each.name for each in fields(record)]


def _without_none(given: Mapping[str, Any], task: str) -> dict[str, Any]:
    """Without those that are None, but where that is a value of its own."""
    meant = {each.name for each in fields(task_type(task).settings_type) if each.default is UNSET}
    return {name: value for name, value in given.items() if value is not None or name in meant}


def explain(
    model: Model,
    text: str,
    label: str | None = None,
    *,
    attention: bool = False,
    method: str = "occlusion",
    samples: int = 16,
) -> "Explanation":
    """How much each word of a text adds to the log-odds of a label.

    Args:
        model: for sequence classification.
        text: one that the model reads at once, so up to 512 tokens for the bundled model.
        label: by default the one with the highest score.
        attention: whether to give the attention of each layer and head too.
        method: "occlusion" or "shapley", as for the task "explanation".
        samples: orders of the words that "shapley" samples.

    Raises:
        InputError: a longer text, a label or a setting that the model cannot take, or a model with another head.

    Example:
        >>> import npdistil
        >>> found = npdistil.explain(npdistil.load(), "A tedious film.")
        >>> found.label, max(found.words, key=lambda word: word.value).text
        ('NEGATIVE', 'tedious')
    """
    with loading:
        from .tasks.explanation import ExplanationTask
    task = ExplanationTask(model.checkpoint, label=label, method=method, samples=samples)
    inputs = task.preprocess([text])
    (found,) = task.postprocess(model.forward(inputs))
    return replace(found, attention=model.attentions(inputs.token_ids[:1])[0]) if attention else found


# A class for each task. What type checkers know of their calls is said by hand: answers differ by what is given.


class TextClassificationPipeline(Pipeline, Generic[A]):
    """`pipeline("text-classification")`."""

    own = "text-classification"

    if TYPE_CHECKING:

        @overload
        def __call__(self, inputs: str, **settings: Unpack[TextClassificationKeywords]) -> list[A]: ...
        @overload
        def __call__(self, inputs: Mapping[str, Any], **settings: Unpack[TextClassificationKeywords]) -> A: ...
        @overload
        def __call__(self, inputs: Iterator[Any], **settings: Unpack[TextClassificationKeywords]) -> Iterator[A]: ...
        @overload
        def __call__(self, inputs: Several[Any], **settings: Unpack[TextClassificationKeywords]) -> list[A]: ...
        @overload
        def __call__(
            self, inputs: str | Mapping[str, Any], *, top_k: int | None, **settings: Unpack[TextClassificationKeywords]
        ) -> list[Label]: ...
        @overload
        def __call__(
            self, inputs: Several[Any], *, top_k: int | None, **settings: Unpack[TextClassificationKeywords]
        ) -> list[list[Label]]: ...
        @overload
        def __call__(
            self,
            inputs: Items,
            *,
            top_k: int | None = ...,
            return_all_scores: bool = ...,
            threshold: float | None = ...,
            combine: Literal["mean", "max", "first", "none"] = ...,
            **settings: Unpack[TextClassificationKeywords],
        ) -> Any: ...
        def __call__(self, *inputs: Any, **given: Any) -> Any:
            """As `Pipeline.__call__`."""


class TokenClassificationPipeline(Pipeline, Generic[A]):
    """`pipeline("token-classification")`."""

    own = "token-classification"

    if TYPE_CHECKING:

        @overload
        def __call__(self, inputs: str, **settings: Unpack[TokenClassificationKeywords]) -> list[A]: ...
        @overload
        def __call__(
            self, inputs: Iterator[Any], **settings: Unpack[TokenClassificationKeywords]
        ) -> Iterator[list[A]]: ...
        @overload
        def __call__(self, inputs: Several[Any], **settings: Unpack[TokenClassificationKeywords]) -> list[list[A]]: ...
        @overload
        def __call__(
            self,
            inputs: str,
            *,
            aggregation_strategy: Literal["simple", "first", "average", "max"],
            **settings: Unpack[TokenClassificationKeywords],
        ) -> list[Entity]: ...
        @overload
        def __call__(
            self,
            inputs: Items,
            *,
            aggregation_strategy: Literal["none", "simple", "first", "average", "max"] | None = ...,
            grouped_entities: bool | None = ...,
            ignore_subwords: bool | None = ...,
            **settings: Unpack[TokenClassificationKeywords],
        ) -> Any: ...
        def __call__(self, *inputs: Any, **given: Any) -> Any:
            """As `Pipeline.__call__`."""


class QuestionAnsweringPipeline(Pipeline):
    """`pipeline("question-answering")`."""

    own = "question-answering"

    if TYPE_CHECKING:

        @overload
        def __call__(self, inputs: Mapping[str, str], **settings: Unpack[QuestionAnsweringKeywords]) -> Found: ...
        @overload
        def __call__(self, question: str, context: str, **settings: Unpack[QuestionAnsweringKeywords]) -> Found: ...
        @overload
        def __call__(
            self, *inputs: Any, top_k: int | None = ..., **settings: Unpack[QuestionAnsweringKeywords]
        ) -> Any: ...
        @overload
        def __call__(
            self, *, question: Any, context: Any, top_k: int | None = ..., **settings: Unpack[QuestionAnsweringKeywords]
        ) -> Any: ...
        def __call__(self, *inputs: Any, **given: Any) -> Any:
            """As `Pipeline.__call__`."""


class FillMaskPipeline(Pipeline):
    """`pipeline("fill-mask")`."""

    own = "fill-mask"

    if TYPE_CHECKING:

        def __call__(self, inputs: Any, *, top_k: int | None = ..., **settings: Unpack[FillMaskKeywords]) -> Any:
            """As `Pipeline.__call__`."""


class ZeroShotClassificationPipeline(Pipeline):
    """`pipeline("zero-shot-classification")`."""

    own = "zero-shot-classification"

    if TYPE_CHECKING:

        @overload
        def __call__(  # type: ignore[overload-overlap]
            self,
            inputs: str,
            candidate_labels: str | Sequence[str] = ...,
            **settings: Unpack[ZeroShotClassificationKeywords],
        ) -> Judged: ...
        @overload
        def __call__(
            self,
            inputs: Several[str],
            candidate_labels: str | Sequence[str] = ...,
            **settings: Unpack[ZeroShotClassificationKeywords],
        ) -> list[Judged]: ...
        def __call__(self, *inputs: Any, **given: Any) -> Any:
            """As `Pipeline.__call__`."""


class FeatureExtractionPipeline(Pipeline):
    """`pipeline("feature-extraction")`."""

    own = "feature-extraction"

    if TYPE_CHECKING:

        def __call__(self, inputs: Any, **settings: Unpack[FeatureExtractionKeywords]) -> Any:
            """As `Pipeline.__call__`."""


class EmbeddingPipeline(Pipeline):
    """`pipeline("embedding")`."""

    own = "embedding"

    if TYPE_CHECKING:

        @overload
        def __call__(self, inputs: str | Mapping[str, Any], **settings: Unpack[EmbeddingKeywords]) -> Array: ...
        @overload
        def __call__(self, inputs: Iterator[Any], **settings: Unpack[EmbeddingKeywords]) -> Iterator[Array]: ...
        @overload
        def __call__(self, inputs: Several[Any], **settings: Unpack[EmbeddingKeywords]) -> list[Array]: ...
        def __call__(self, *inputs: Any, **given: Any) -> Any:
            """As `Pipeline.__call__`."""


class MultipleChoicePipeline(Pipeline):
    """`pipeline("multiple-choice")`."""

    own = "multiple-choice"

    if TYPE_CHECKING:

        @overload
        def __call__(self, inputs: Mapping[str, Any], **settings: Unpack[MultipleChoiceKeywords]) -> Chosen: ...
        @overload
        def __call__(self, inputs: Iterator[Any], **settings: Unpack[MultipleChoiceKeywords]) -> Iterator[Chosen]: ...
        @overload
        def __call__(self, inputs: Several[Any], **settings: Unpack[MultipleChoiceKeywords]) -> list[Chosen]: ...
        def __call__(self, *inputs: Any, **given: Any) -> Any:
            """As `Pipeline.__call__`."""


class ExplanationPipeline(Pipeline):
    """`pipeline("explanation")`."""

    own = "explanation"

    if TYPE_CHECKING:

        @overload
        def __call__(self, inputs: str, **settings: Unpack[ExplanationKeywords]) -> Explanation: ...  # type: ignore[overload-overlap]
        @overload
        def __call__(self, inputs: Iterator[str], **settings: Unpack[ExplanationKeywords]) -> Iterator[Explanation]: ...
        @overload
        def __call__(self, inputs: Several[str], **settings: Unpack[ExplanationKeywords]) -> list[Explanation]: ...
        def __call__(self, *inputs: Any, **given: Any) -> Any:
            """As `Pipeline.__call__`."""


PIPELINES = {TASKS[each.own]: each for each in Pipeline.__subclasses__()}


# What a type checker knows of `pipeline`: the class by the task's name, and of what type its answers are.
AnyModel: TypeAlias = "str | os.PathLike[str] | Model | None"


@overload
def pipeline(
    task: Literal["text-classification", "sentiment-analysis"],
    model: AnyModel = ...,
    **settings: "Unpack[TextClassificationMade]",
) -> "TextClassificationPipeline[Label]": ...
@overload
def pipeline(
    task: Literal["text-classification", "sentiment-analysis"],
    model: AnyModel = ...,
    *,
    top_k: int | None,
    **settings: "Unpack[TextClassificationMade]",
) -> "TextClassificationPipeline[list[Label]]": ...
@overload
def pipeline(
    task: Literal["text-classification", "sentiment-analysis"],
    model: AnyModel = ...,
    *,
    return_all_scores: Literal[True],
    **settings: "Unpack[TextClassificationMade]",
) -> "TextClassificationPipeline[list[Label]]": ...
@overload
def pipeline(
    task: Literal["text-classification", "sentiment-analysis"],
    model: AnyModel = ...,
    *,
    top_k: int | None = ...,
    return_all_scores: bool = ...,
    threshold: float | None = ...,
    combine: Literal["mean", "max", "first", "none"] = ...,
    **settings: "Unpack[TextClassificationMade]",
) -> "TextClassificationPipeline[Any]": ...
@overload
def pipeline(
    task: Literal["token-classification", "ner"], model: AnyModel = ..., **settings: "Unpack[TokenClassificationMade]"
) -> "TokenClassificationPipeline[Token]": ...
@overload
def pipeline(
    task: Literal["token-classification", "ner"],
    model: AnyModel = ...,
    *,
    aggregation_strategy: Literal["simple", "first", "average", "max"],
    **settings: "Unpack[TokenClassificationMade]",
) -> "TokenClassificationPipeline[Entity]": ...
@overload
def pipeline(
    task: Literal["token-classification", "ner"],
    model: AnyModel = ...,
    *,
    aggregation_strategy: Literal["none", "simple", "first", "average", "max"] | None = ...,
    grouped_entities: bool | None = ...,
    ignore_subwords: bool | None = ...,
    **settings: "Unpack[TokenClassificationMade]",
) -> "TokenClassificationPipeline[Any]": ...
@overload
def pipeline(
    task: Literal["question-answering"],
    model: AnyModel = ...,
    *,
    top_k: int | None = ...,
    **settings: "Unpack[QuestionAnsweringMade]",
) -> "QuestionAnsweringPipeline": ...
@overload
def pipeline(
    task: Literal["fill-mask"], model: AnyModel = ..., *, top_k: int | None = ..., **settings: "Unpack[FillMaskMade]"
) -> "FillMaskPipeline": ...
@overload
def pipeline(
    task: Literal["zero-shot-classification"],
    model: AnyModel = ...,
    *,
    candidate_labels: str | Sequence[str] = ...,
    **settings: "Unpack[ZeroShotClassificationMade]",
) -> "ZeroShotClassificationPipeline": ...
@overload
def pipeline(
    task: Literal["feature-extraction"], model: AnyModel = ..., **settings: "Unpack[FeatureExtractionMade]"
) -> "FeatureExtractionPipeline": ...
@overload
def pipeline(
    task: Literal["embedding"], model: AnyModel = ..., **settings: "Unpack[EmbeddingMade]"
) -> "EmbeddingPipeline": ...
@overload
def pipeline(
    task: Literal["multiple-choice"], model: AnyModel = ..., **settings: "Unpack[MultipleChoiceMade]"
) -> "MultipleChoicePipeline": ...
@overload
def pipeline(
    task: Literal["explanation"], model: AnyModel = ..., **settings: "Unpack[ExplanationMade]"
) -> "ExplanationPipeline": ...
@overload
def pipeline(task: None = ..., model: AnyModel = ..., **settings: Any) -> Pipeline: ...
def pipeline(
    task: str | None = None,
    model: str | os.PathLike[str] | Model | None = None,
    config: Any = None,
    tokenizer: Any = None,
    *,
    engine: str = "auto",
    precision: str | None = None,
    threads: int | None = None,
    **settings: Any,
) -> Pipeline:
    """A callable for a task: `pipeline("sentiment-analysis")("I like you.")`.

    Args:
        task: one of `TASKS`; "sentiment-analysis" and "ner" are other names of text and token classification. None is
            what the model's head is for.
        model: what `load` takes, or a loaded `Model`; None is the bundled sentiment classifier.
        config: the model's own; another is refused.
        tokenizer: the model's own, its name or what `AutoTokenizer` gives of it; another is refused.
        engine: as for `load`.
        precision: as for `load`.
        threads: as for `load`.
        settings: defaults for the task's own settings, listed below; what each is for, `help` of a pipeline or of its
            class says. Arguments of transformers, of which `npdistil.arguments` has the table.

    Settings of each task::

        text-classification, sentiment-analysis: batch_size=256, long_text="windows", max_length=None, stride=None,
            top_k, return_all_scores=False, function_to_apply=None, threshold=None, combine="mean", truncation=False
        token-classification, ner: batch_size=64, aggregation_strategy="none", ignore_labels=("O",), stride=None,
            is_split_into_words=False, delimiter=" "
        question-answering: batch_size=32, top_k=1, doc_stride=None, max_answer_len=15, max_seq_len=None,
            max_question_len=None, handle_impossible_answer=False, align_to_words=True
        fill-mask: batch_size=32, top_k=5, targets=None, truncation=False
        zero-shot-classification: batch_size=16, candidate_labels, hypothesis_template="This example is {}.",
            multi_label=False, truncation=False
        feature-extraction: batch_size=32, return_tensors=False, truncation=False
        embedding: batch_size=64, long_text=None, max_length=None, stride=None, pooling=None, normalize=None,
            prompt_name=None, prompt=None, truncate_dim=None
        multiple-choice: batch_size=32
        explanation: batch_size=64, label=None, method="occlusion", samples=16

    Raises:
        InputError: an unknown task, argument or setting; and what `load` raises.

    Example:
        >>> import npdistil
        >>> classify = npdistil.pipeline("sentiment-analysis")
        >>> [each["label"] for each in classify(["I love it.", "I hate it."])]
        ['POSITIVE', 'NEGATIVE']
    """
    how = {"engine": engine, "precision": precision, "threads": threads}
    if task is None:
        if model is None:
            raise InputError(f"give a task, or a model whose head says which; tasks are {', '.join(TASKS)}")
        model, how = as_model(model, how | read(PIPELINE, settings)), {}
        task = own_task(model)
    task_type(task)  # or there is no class of it
    return PIPELINES[TASKS[task]](model, tokenizer, task=task, config=config, **how, **settings)
