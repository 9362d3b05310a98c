"""The protocol of a task: `task.postprocess(model.forward(task.preprocess(items)))`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from inspect import Parameter, Signature, cleandoc
from typing import Any, ClassVar, Generic, TypeVar

from ..batch import Inputs, Outputs
from ..checkpoint.weights import Checkpoint
from ..errors import InputError
from ..settings import Kind, Settings, check, choice, flag_or, setting, whole
from ..text import LONG_TEXT, TRUNCATION, Part, Text, default_stride, tokenize, truncated, wholes

LEAST_LENGTH = 4  # tokens of a window: special ones, and two of the text, so that windows may share one
TRUNCATES = flag_or(*TRUNCATION, "do_not_truncate")  # whether, and which text of a pair, as in transformers
S = TypeVar("S", bound="TaskSettings")
Self = TypeVar("Self", bound="Task[Any]")


@dataclass(frozen=True, kw_only=True)
class TaskSettings(Settings):
    """What every task can be told."""

    batch_size: int = setting(64, whole(), "items that a thread runs at once, at most 1024; no result depends on it.")


class Task(Generic[S]):
    """What is done before a model's forward and after it; a checkpoint's facts and settings, and nothing that computes.

    Attributes:
        checkpoint: whose configuration, labels and tokenizer are used.
        settings: the record of them.
        architectures: the heads that the task works with; none: any.
        items: what errors call several of them.
        text: the field of an item that has its text; "": an item is its text.
        beside: the other fields of an item.
        answer: what an answer is called in a record beside its text.
        columns: fields of a row of an answer, in the order in which a table has them.
    """

    __signature__: ClassVar[Signature]
    settings_type: ClassVar[type[TaskSettings]] = TaskSettings
    architectures: ClassVar[tuple[str, ...]] = ("DistilBertForSequenceClassification",)
    items: ClassVar[str] = "texts"
    text: ClassVar[str] = ""
    beside: ClassVar[Mapping[str, Kind]] = {}
    answer: ClassVar[str] = "answer"
    columns: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        """The settings' record is the signature and the documentation too."""
        record = cls.settings_type
        if cls.__doc__:  # python -OO has none
            cls.__doc__ = f"{cleandoc(cls.__doc__)}\n\n{record.described()}\n"
        cls.__signature__ = record.signature(Parameter("checkpoint", Parameter.POSITIONAL_ONLY))

    def __init__(self, checkpoint: Checkpoint, /, **settings: Any) -> None:
        architecture = checkpoint.config.architecture
        if self.architectures and architecture not in self.architectures:
            raise InputError(
                f"{checkpoint.directory} is a {checkpoint.config.class_name}; {type(self).__name__} needs a "
                f"{' or '.join(self.architectures)}"
            )
        self.checkpoint = checkpoint
        self._set(self.settings_type.of(settings))

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), **vars(self.settings)), (self.checkpoint,)

    def _set(self, settings: TaskSettings) -> None:
        self.settings: S = settings  # type: ignore[assignment]
        self.resolve()

    def resolve(self) -> None:
        """Work out what follows from settings and checkpoint together; once, and not at each call.

        Raises:
            InputError: a setting that the model cannot take.
        """

    def replaced(self: Self, given: Mapping[str, Any]) -> Self:
        """The same task with other settings; itself where none are given.

        Raises:
            InputError: a setting that it does not have, or a value that it cannot take.
        """
        if not given:
            return self
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._set(self.settings.replaced(given))
        return other

    def preprocess(self, items: Sequence[Any]) -> Inputs:
        """What the model is to be asked about these items.

        Raises:
            InputError: an item that the model cannot take.
        """
        raise NotImplementedError

    def postprocess(self, outputs: Outputs) -> list[Any]:
        """An answer for each item, from what the model says."""
        raise NotImplementedError

    def rows(self, answer: Any) -> Iterator[list[Any]]:
        """An answer as rows of a table with `columns`."""
        if isinstance(answer, Mapping):
            yield [answer[name] for name in self.columns]
        else:
            for each in answer:
                yield from self.rows(each)

    @property
    def added_columns(self) -> dict[str, Any]:
        """What an answer adds to a row of a table: the columns and their types; none: tables do not take the task.

        A type is "string", "bool", "int", "float" (float64) or "float32"; a tuple with one a list of these; a dict of
        types a record.
        """
        return {}

    def added_values(self, answer: Any) -> list[Any]:
        """The values of `added_columns`; by default the whole answer is the only one."""
        return [answer]

    # How users call it.

    def arguments(self, *inputs: Any, **given: Any) -> tuple[Any, dict[str, Any]]:
        """The inputs and the settings of a call.

        Raises:
            InputError: arguments by place that nobody could tell apart.
        """
        if len(inputs) != 1:
            raise InputError(f"found {len(inputs)} inputs; expected one, which may be a list, and settings by name")
        return inputs[0], given

    def is_item(self, inputs: Any) -> bool:
        """Whether this is one item, and not several."""
        return isinstance(inputs, dict if self.text else str)

    def shaped(self, answers: list[Any], inputs: Any, given: Mapping[str, Any]) -> Any:
        """Answers in the form that a call has them: that of one item, or a list."""
        return answers[0] if self.is_item(inputs) else answers


def truncation_strategy(given: bool | str) -> str | None:
    """One of `TRUNCATION`, or None where nothing is to be cut."""
    if isinstance(given, bool):
        return TRUNCATION[0] if given else None
    return None if given == "do_not_truncate" else given


def whole_or_cut(checkpoint: Checkpoint, texts: Sequence[Text], truncation: bool | str) -> list[Part]:
    """What is read of each text at once: all of it, or what a setting of `TRUNCATES` leaves."""
    encodings = tokenize(checkpoint.tokenizer, texts)
    if strategy := truncation_strategy(truncation):
        length, side = checkpoint.max_length, checkpoint.tokenization.truncation_side
        return [truncated(each, length, strategy, side) for each in encodings]
    return wholes(encodings)


@dataclass(frozen=True, kw_only=True)
class LongTextSettings(TaskSettings):
    """What becomes of texts longer than the model."""

    long_text: str = setting(
        "windows",
        choice(*LONG_TEXT),
        'what becomes of a text of more tokens than `max_length`: "windows" reads overlapping windows that cover all '
        'of it (of a pair, windows of the longer text beside the other), "truncate" its first tokens, "error" refuses '
        'it; "sentences" reads sentences of any text one by one.',
    )
    max_length: int | None = setting(
        None,
        whole(LEAST_LENGTH),
        "tokens, special ones included, above which a text or pair is long; by default all the model takes, and where "
        "texts are cut what its tokenizer allows (model_max_length).",
        None,
    )
    stride: int | None = setting(
        None, whole(0), "tokens that neighbouring windows share; by default 128, or a quarter of `max_length`.", None
    )


L = TypeVar("L", bound=LongTextSettings)


class LongTextTask(Task[L]):
    """A task that reads texts of any length, or pairs of texts.

    Attributes:
        tokenizer: the checkpoint's.
        long_text: what becomes of long texts.
        max_length: tokens of a window.
        how: what `text.cut` takes beside the tokenizer and the texts.
        strategy: which text of a pair is cut, one of `TRUNCATION`.
    """

    strategy: str = TRUNCATION[0]
    settings_type: ClassVar[type[TaskSettings]] = LongTextSettings

    def resolve(self) -> None:
        self.tokenizer = self.checkpoint.tokenizer
        self.long_text = self.chosen_long_text()
        limit = self.checkpoint.config.max_position_embeddings
        check("max_length", whole(LEAST_LENGTH, limit), self.settings.max_length, None)
        self.max_length = self.settings.max_length or self.default_max_length()
        given = self.settings.stride
        check("stride", whole(0, self.max_length - 1), given, None)
        stride = default_stride(self.max_length) if given is None else given
        side, words = self.checkpoint.tokenization.truncation_side, self.checkpoint.tokenization.words
        self.how = self.long_text, self.max_length, stride, self.strategy, side, words

    def chosen_long_text(self) -> str:
        """What becomes of long texts, by all settings together."""
        return self.settings.long_text

    def default_max_length(self) -> int:
        """Tokens above which a text is long, where the settings say none.

        Where nothing is cut away, transformers reads all that the model takes, whatever the tokenizer allows.
        """
        is_cut = self.long_text == "truncate"
        return self.checkpoint.max_length if is_cut else self.checkpoint.config.max_position_embeddings

    def is_item(self, inputs: Any) -> bool:
        """As `Task.is_item`; a pair is a dict."""
        return isinstance(inputs, (str, dict))
