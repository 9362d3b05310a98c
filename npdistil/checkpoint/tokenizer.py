"""The tokenizer of a model directory: tokenizer.json, or vocab.txt with tokenizer_config.json."""

import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from ..errors import CheckpointError
from .config import read_json

FILES = ("tokenizer.json", "vocab.txt")  # the first that is there is read
SPECIAL = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}


@dataclass(frozen=True)
class Tokenization:
    """A tokenizer, and what else a directory says of how texts become tokens, and tokens texts.

    Attributes:
        tokenizer: neither truncates nor pads, whatever its file says: long texts are the caller's to cut.
        special_tokens: role ("mask_token", "unk_token", ...) -> token; those that its vocabulary has.
        max_length: model_max_length of tokenizer_config.json; None where it says none.
        truncation_side: "right" where a text that is too long loses its end, "left" where it loses its beginning.
        clean_up_spaces: whether blanks before marks are taken away when tokens become a text.
    """

    tokenizer: Tokenizer
    special_tokens: Mapping[str, str]
    max_length: int | None = None
    truncation_side: str = "right"
    clean_up_spaces: bool = False


def read_tokenization(directory: Path, vocab_size: int) -> Tokenization:
    """The tokenizer of a model with `vocab_size` rows in its embedding table, and what is said beside it.

    Raises:
        CheckpointError: as `read_tokenizer`.
    """
    tokenizer = read_tokenizer(directory, vocab_size)
    settings: dict[str, Any] = {}
    for file in ("tokenizer_config.json", "special_tokens_map.json"):
        if (directory / file).exists() and "added_tokens_decoder" not in settings:
            settings |= read_json(directory / file)
    special = {role: _content(settings.get(role), default) for role, default in SPECIAL.items()}
    if (unknown := getattr(tokenizer.model, "unk_token", None)) is not None:
        special["unk_token"] = unknown
    length = settings.get("model_max_length")
    return Tokenization(
        tokenizer,
        {role: token for role, token in special.items() if tokenizer.token_to_id(token) is not None},
        int(length) if isinstance(length, (int, float)) and 1 <= length < 2**31 else None,
        "left" if settings.get("truncation_side") == "left" else "right",
        # transformers leaves it out where words keep their blanks
        settings.get("clean_up_tokenization_spaces") is True and not isinstance(tokenizer.model, models.BPE),
    )


def read_tokenizer(directory: Path, vocab_size: int) -> Tokenizer:
    """The tokenizer of a model with `vocab_size` rows in its embedding table.

    Neither truncates nor pads, whatever its file says: long texts are the caller's to cut, and rows are packed.

    Raises:
        CheckpointError: no tokenizer, a broken one, or one with more tokens than the model has rows.
    """
    path = directory / "tokenizer_config.json"
    settings = read_json(path) if path.exists() else {}
    if not isinstance(settings, dict):
        raise CheckpointError(f"{path} holds a {type(settings).__name__}, not an object")
    if (directory / FILES[0]).exists():
        tokenizer = _from_json(directory / FILES[0], settings)
    elif (directory / FILES[1]).exists():
        tokenizer = _from_vocabulary(directory / FILES[1], settings)
    else:
        raise CheckpointError(f"{directory} has neither {' nor '.join(FILES)}, so texts cannot become token ids")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    vocabulary = tokenizer.get_vocab()
    size = 1 + max(vocabulary.values(), default=-1)  # more than there are tokens, where ids are left out
    if size > vocab_size:
        raise CheckpointError(
            f"{directory}: the tokenizer has {size} tokens, but the model only {vocab_size} rows of embeddings: "
            "they do not belong together"
        )
    unknown = getattr(tokenizer.model, "unk_token", None)
    if unknown is not None and tokenizer.model.token_to_id(unknown) is None:  # added tokens do not count
        raise CheckpointError(
            f"{directory}: {unknown}, the tokenizer's token for unknown words, is not in its vocabulary"
        )
    _warn_of_letter_case(directory, tokenizer, vocabulary)
    return tokenizer


def _warn_of_letter_case(directory: Path, tokenizer: Tokenizer, vocabulary: Iterable[str]) -> None:
    """Say so where the tokenizer keeps capitals that its vocabulary lacks: their words would all be unknown ones.

    Model cards confuse the two; that of DistilBERT fine-tuned on SST-2 calls an uncased model case-sensitive.
    """
    own = tokenizer.normalizer
    if not isinstance(own, normalizers.BertNormalizer):
        return
    special = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    words = "".join(token for token in vocabulary if token not in special and token[:1] != "[")  # as [unused1]
    has_capitals = re.search("[A-Z]", words)
    if not own.lowercase and not has_capitals:
        found = "keeps capital letters, but its vocabulary has none: words with capitals become unknown ones"
    elif own.lowercase and has_capitals:
        found = "takes capital letters away, but its vocabulary has some, which no text will ever reach"
    else:
        return
    warnings.warn(f"{directory}: the tokenizer {found}; see do_lower_case in tokenizer_config.json", stacklevel=2)


def _from_json(path: Path, settings: dict[str, Any]) -> Tokenizer:
    """The file's own tokenizer, with what tokenizer_config.json says of letter case and accents.

    Where the two disagree transformers follows the latter. It also assumes lower case where the latter is silent,
    which turns a cased model's words into unknown ones; there the file is followed.
    """
    try:
        tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # noqa: BLE001 - the library raises Exception itself and no narrower class
        raise CheckpointError(f"{path} is not a tokenizer: {error}") from None
    own = tokenizer.normalizer
    if isinstance(own, normalizers.BertNormalizer) and settings.get("tokenizer_class") != "PreTrainedTokenizerFast":
        tokenizer.normalizer = _normalizer(settings, own.lowercase, own.strip_accents, own.handle_chinese_chars)
    return tokenizer


def _normalizer(
    settings: dict[str, Any], lowercase: bool, strip_accents: bool | None, chinese: bool
) -> normalizers.BertNormalizer:
    """BERT's clean-up of text: tokenizer_config.json's settings, and the given ones where it is silent."""
    return normalizers.BertNormalizer(
        clean_text=True,
        lowercase=bool(_flag(settings, "do_lower_case", lowercase)),
        strip_accents=_flag(settings, "strip_accents", strip_accents),
        handle_chinese_chars=bool(_flag(settings, "tokenize_chinese_chars", chinese)),
    )


def _flag(settings: dict[str, Any], name: str, default: bool | None) -> bool | None:
    value = settings.get(name, default)
    if value is not None and not isinstance(value, bool):
        raise CheckpointError(f"tokenizer_config.json: {name} is {value!r}; expected true or false")
    return default if value is None else value


def _from_vocabulary(path: Path, settings: dict[str, Any]) -> Tokenizer:
    """BERT's WordPiece (Devlin et al. 2018) from a list of tokens, one a line, set up as transformers does."""
    try:
        lines = path.read_bytes().decode("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from None
    tokens = [line.rstrip("\r") for line in (lines[:-1] if lines[-1] == "" else lines)]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    special = {role: _content(settings.get(role), default) for role, default in SPECIAL.items()}
    if absent := [token for token in special.values() if token not in vocabulary]:
        raise CheckpointError(f"{path} lacks the special tokens {', '.join(absent)}")
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=special["unk_token"]))
    tokenizer.add_special_tokens([token for token in tokens if token in special.values()])
    tokenizer.normalizer = _normalizer(settings, True, None, True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [(special[role], vocabulary[special[role]]) for role in ("sep_token", "cls_token")]
    tokenizer.post_processor = processors.BertProcessing(*ends)
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def _content(token: object, default: str) -> str:
    """A token in tokenizer_config.json is a string, or an object that holds it as `content`."""
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else default
