"""A model's tokenizer, as it is asked for names and ids of tokens."""

from dataclasses import dataclass
from typing import Any

from .checkpoint.tokenizer import Tokenization
from .errors import InputError

# Methods that transformers' tokenizers have under another name, or do not need -> what to write.
INSTEAD = {
    "tokenize": "encode(text, add_special_tokens=False).tokens",
    "encode_plus": "encode(text)",
    "batch_encode_plus": "encode_batch(texts)",
    "batch_decode": "decode_batch(ids)",
    "convert_ids_to_tokens": "id_to_token(id)",
    "convert_tokens_to_ids": "token_to_id(token)",
    "save_pretrained": 'save("tokenizer.json")',
}


@dataclass(frozen=True)
class Tokenizer:
    """The `tokenizers.Tokenizer` of a model, all of whose methods it has, and what its directory says beside it.

    It neither truncates nor pads. `mask_token`, `mask_token_id` and those of the other special tokens are attributes.

    Attributes:
        tokenization: what was read.
        name_or_path: where.
        model_max_length: tokens that texts are cut to where cutting is asked for.
    """

    tokenization: Tokenization
    name_or_path: str
    model_max_length: int

    def __repr__(self) -> str:
        return f"<npdistil.Tokenizer of {self.name_or_path}: {len(self)} tokens>"

    def __len__(self) -> int:
        return int(self.tokenization.tokenizer.get_vocab_size())

    def __call__(self, *texts: Any, **given: Any) -> Any:
        """Refused, because models here take texts.

        Raises:
            InputError: always; says what to write.
        """
        raise InputError(
            "models take texts here: model.predict([text]), model.scores([text]), or what npdistil.pipeline returns; "
            "tokenizer.encode(text).ids are token ids, of which model.logits([ids]) gives the logits"
        )

    @property
    def vocab_size(self) -> int:
        """Tokens of the vocabulary, without those that were added to it."""
        return int(self.tokenization.tokenizer.get_vocab_size(with_added_tokens=False))

    @property
    def truncation_side(self) -> str:
        """Which end of a text is cut away: "right" or "left"."""
        return self.tokenization.truncation_side

    @property
    def clean_up_tokenization_spaces(self) -> bool:
        """Whether blanks before marks are taken away when tokens become a text."""
        return self.tokenization.clean_up_spaces

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "tokenization":  # when a copy is made, which has nothing yet
            raise AttributeError(name)
        role = name.removesuffix("_id")
        if role in self.tokenization.special_tokens:
            token = self.tokenization.special_tokens[role]
            return token if role == name else self.tokenization.tokenizer.token_to_id(token)
        if name in INSTEAD:
            raise AttributeError(f"there is no tokenizer.{name} here: write tokenizer.{INSTEAD[name]}")
        return getattr(self.tokenization.tokenizer, name)

    def belongs(self, other: Any) -> bool:
        """Whether another tokenizer, of this package, transformers or tokenizers, makes the same tokens of texts."""
        other = getattr(other, "tokenization", other)
        other = getattr(other, "backend_tokenizer", getattr(other, "tokenizer", other))
        own = self.tokenization.tokenizer
        try:
            return bool(
                own.get_vocab() == other.get_vocab()
                and str(own.normalizer) == str(other.normalizer)
                and str(own.pre_tokenizer) == str(other.pre_tokenizer)
            )
        except AttributeError:
            return False
