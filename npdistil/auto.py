"""Names by which transformers loads models and tokenizers: `from_pretrained` gives a `Model`, or a `Tokenizer`."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from .arguments import ENGINE, HUB, MODEL, TOKENIZER, check_same, read
from .checkpoint.folder import Folder
from .checkpoint.hub import find_model
from .checkpoint.sentence import read_modules
from .checkpoint.tokenizer import read_tokenization
from .errors import InputError
from .model import Model, load
from .settings import check_known
from .tokenizer import Tokenizer


class AutoModel:
    """A `Model` with any head.

    >>> AutoModelForSequenceClassification.from_pretrained("weights/minilm-l6-sst2").predict(["I love it."]).tolist()
    ['POSITIVE']
    """

    architecture: ClassVar[str] = ""

    def __init__(self, *given: Any, **named: Any) -> None:
        name = type(self).__name__
        raise InputError(f"{name} is made by {name}.from_pretrained(directory or name)")

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str] | None = None, **given: Any
    ) -> Model:
        """A model of a directory or a name on the Hub.

        Args:
            pretrained_model_name_or_path: as for `load`; None is the bundled model.
            given: engine, precision and threads, as for `load`; arguments of transformers.

        Raises:
            InputError: an argument that cannot be taken, or a model with another head; and what `load` raises.
        """
        own = _own(MODEL, given, (*ENGINE, *HUB))
        model = load(pretrained_model_name_or_path, **own)
        found = model.config.architecture
        if cls.architecture not in ("", found):
            raise InputError(f"{model.name_or_path} is a {found}; {cls.__name__} needs a {cls.architecture}")
        check_same(MODEL, given, model)
        return model


class AutoModelForSequenceClassification(AutoModel):
    """A `Model` that classifies texts."""

    architecture = "DistilBertForSequenceClassification"


class AutoModelForTokenClassification(AutoModel):
    """A `Model` that classifies tokens."""

    architecture = "DistilBertForTokenClassification"


class AutoModelForQuestionAnswering(AutoModel):
    """A `Model` that answers questions."""

    architecture = "DistilBertForQuestionAnswering"


class AutoModelForMaskedLM(AutoModel):
    """A `Model` that fills masks."""

    architecture = "DistilBertForMaskedLM"


class AutoModelForMultipleChoice(AutoModel):
    """A `Model` that chooses."""

    architecture = "DistilBertForMultipleChoice"


class AutoTokenizer:
    """A model's `Tokenizer`, read without the model."""

    def __init__(self, *given: Any, **named: Any) -> None:
        name = type(self).__name__
        raise InputError(f"{name} is made by {name}.from_pretrained(directory or name)")

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str] | None = None, **given: Any
    ) -> Tokenizer:
        """The tokenizer of a directory or of a name on the Hub.

        Args:
            pretrained_model_name_or_path: as for `load`; None is the bundled model.
            given: arguments of transformers.

        Raises:
            InputError: an argument that cannot be taken.
            CheckpointError: no tokenizer there, or a broken one.
        """
        own = _own(TOKENIZER, given, HUB)
        directory = find_model(pretrained_model_name_or_path, **own)
        folder, sentence, _ = read_modules(Folder(directory))
        config = folder.object("config.json")
        found = read_tokenization(folder, config.get("vocab_size", 2**31), config.get("tokenizer_class"))
        length = (sentence.max_length if sentence else None) or found.max_length or 2**31
        tokenizer = Tokenizer(found, str(directory), min(length, config.get("max_position_embeddings", 512)))
        check_same(TOKENIZER, given, tokenizer)
        return tokenizer


def _own(call: str, given: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The arguments of ours that a call's stand for."""
    own = read(call, given)
    check_known("argument", own, names, " and transformers' own")
    return own


# Other names, as transformers has them.
DistilBertModel = AutoModel
DistilBertForMaskedLM = AutoModelForMaskedLM
DistilBertForMultipleChoice = AutoModelForMultipleChoice
DistilBertForQuestionAnswering = AutoModelForQuestionAnswering
DistilBertForSequenceClassification = AutoModelForSequenceClassification
DistilBertForTokenClassification = AutoModelForTokenClassification
DistilBertTokenizer = DistilBertTokenizerFast = AutoTokenizer
