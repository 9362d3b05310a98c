"""The tokenizer of a model directory: tokenizer.json, or vocab.txt, with what the files beside them say."""

import mmap
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from ..errors import CheckpointError
from ..forks import loads
from .folder import Folder
from .words import Words, words_of

FILES = ("tokenizer.json", "vocab.txt")  # the first that is there is read
MEMORY = 32  # bytes that each byte of the first becomes in memory
LEAST = 2**24  # bytes that small work may take
SETTINGS, SPECIAL_TOKENS, ADDED_TOKENS = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"
SPECIAL = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}
# Classes of transformers that read vocab.txt as BERT does, and obey do_lower_case; each with and without "Fast".
BERT_CLASSES = (
    "BertTokenizer",
    "DistilBertTokenizer",
    "DPRContextEncoderTokenizer",
    "DPRQuestionEncoderTokenizer",
    "DPRReaderTokenizer",
    "ElectraTokenizer",
    "LayoutLMTokenizer",
    "LxmertTokenizer",
    "MobileBertTokenizer",
    "SqueezeBertTokenizer",
)


@dataclass(frozen=True)
class Tokenization:
    """A tokenizer, and what else a directory says of how texts become tokens.

    Attributes:
        tokenizer: neither truncates nor pads, whatever its file says: long texts are the caller's to cut.
        special_tokens: role ("mask_token", "unk_token", ...) -> token; those that its vocabulary has.
        added_tokens: what was added to the vocabulary of the model's own words, special or not.
        max_length: model_max_length of tokenizer_config.json; None where it says none.
        truncation_side: "right" where a text that is too long loses its end, "left" where it loses its beginning.
        clean_up_spaces: whether blanks before marks are taken away when tokens become a text.
        token_types: whether a model that has token types is given them.
    """

    tokenizer: Tokenizer
    special_tokens: Mapping[str, str]
    added_tokens: tuple[str, ...]
    max_length: int | None = None
    truncation_side: str = "right"
    clean_up_spaces: bool = False
    token_types: bool = True

    @property
    @loads  # functools.cached_property has a lock of its own before Python 3.12, which a fork would freeze
    def words(self) -> Words | None:
        """What remembers the words of texts, where the tokenizer looks at one after the other; made once."""
        made = self.__dict__
        if "made of words" not in made:
            made["made of words"] = words_of(self.tokenizer)
        found: Words | None = made["made of words"]
        return found


def reserve(size: int) -> None:
    """Make sure that the tokenizer's library will find memory; where it finds none it ends the process.

    Args:
        size: bytes that it takes.

    Raises:
        MemoryError: there are not so many left, and `LEAST` more.
    """
    try:
        mmap.mmap(-1, LEAST + size).close()
    except (OSError, OverflowError):
        raise MemoryError(f"the tokenizer needs {(LEAST + size) / 1e6:,.0f} MB more than there are left") from None


@loads
def read_tokenization(folder: Folder, vocab_size: int, class_name: str | None = None) -> Tokenization:
    """The tokenizer of a model with `vocab_size` rows in its embedding table.

    Args:
        folder: where its files are.
        vocab_size: rows of the embedding table.
        class_name: `tokenizer_class` of config.json, which counts where tokenizer_config.json has none.

    Raises:
        CheckpointError: no tokenizer, a broken one, or one with more tokens than the model has rows.
    """
    settings = folder.object(SETTINGS)
    if not settings.get("extra_special_tokens"):  # the name since transformers 5
        settings["extra_special_tokens"] = settings.pop("additional_special_tokens", None)
    if settings.get("added_tokens_decoder") is None:  # before transformers 4.34 these had files of their own
        settings = settings | folder.object(SPECIAL_TOKENS)
    class_name = str(settings.get("tokenizer_class") or class_name or "DistilBertTokenizer")
    is_bert = class_name.removesuffix("Fast") in BERT_CLASSES
    if folder.has(FILES[0]):
        tokenizer = _from_json(folder, settings, is_bert)
    elif not folder.has(FILES[1]):
        raise CheckpointError(f"{folder.path} has neither {' nor '.join(FILES)}, so texts cannot become token ids")
    elif not is_bert:
        raise CheckpointError(
            f"{folder.path}: tokenizer_class is {class_name!r:.80}, whose words are not read from {FILES[1]}; "
            f"open it with transformers and save its {FILES[0]}"
        )
    else:
        tokenizer = _from_vocabulary(folder, settings)
    side = settings.get("truncation_side") or (tokenizer.truncation or {}).get("direction", "right")
    if side not in ("left", "right"):
        raise CheckpointError(f"{folder.path / SETTINGS}: truncation_side is {side!r:.80}; known are left, right")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    _add_tokens(tokenizer, folder, settings, vocab_size)
    _try(tokenizer, folder.path)
    if _flag(settings, "split_special_tokens", False):
        tokenizer.encode_special_tokens = True
    # One by one, which takes a third of the time and memory that the vocabulary as a dict does.
    vocabulary = [token for token in map(tokenizer.id_to_token, range(vocab_size)) if token is not None]
    if len(vocabulary) < tokenizer.get_vocab_size():  # unless two have one number, some have no row
        size = 1 + max(tokenizer.get_vocab().values())
        if size > vocab_size:
            raise CheckpointError(
                f"{folder.path}: the tokenizer has {size} tokens, but the model only {vocab_size} rows of embeddings: "
                "they do not belong together"
            )
    unknown = getattr(tokenizer.model, "unk_token", None)
    if unknown is not None and tokenizer.model.token_to_id(unknown) is None:  # added tokens do not count
        raise CheckpointError(
            f"{folder.path}: {unknown}, the tokenizer's token for unknown words, is not in its vocabulary"
        )
    _warn_of_letter_case(folder.path, tokenizer, vocabulary)
    special = _special_tokens(settings)
    if unknown is not None:
        special["unk_token"] = unknown
    return Tokenization(
        tokenizer,
        {role: token for role, token in special.items() if tokenizer.token_to_id(token) is not None},
        tuple(token.content for _, token in sorted(tokenizer.get_added_tokens_decoder().items())),
        _max_length(folder, settings),
        side,
        # transformers leaves words alone that keep their own blanks
        bool(_flag(settings, "clean_up_tokenization_spaces", False)) and not isinstance(tokenizer.model, models.BPE),
        _token_types(folder, settings, class_name),
    )


def _token_types(folder: Folder, settings: Mapping[str, Any], class_name: str) -> bool:
    names = settings.get("model_input_names")
    if names is None:
        class_name = class_name.removesuffix("Fast")
        return class_name in BERT_CLASSES and class_name != "DistilBertTokenizer"
    if not isinstance(names, list):
        raise CheckpointError(f"{folder.path / SETTINGS}: model_input_names is {names!r:.80}; expected a list")
    return "token_type_ids" in names


def _try(tokenizer: Tokenizer, directory: Path) -> None:
    """CheckpointError where not even one letter can be tokenised.

    A template that names special tokens which it does not have makes the library panic, with an exception of its own
    that is no Exception and cannot be imported.
    """
    try:
        tokenizer.encode("a")
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # noqa: BLE001 - a panic is no Exception
        raise CheckpointError(f"{directory}: its tokenizer cannot tokenise a text: {error}") from None


def _max_length(folder: Folder, settings: Mapping[str, Any]) -> int | None:
    length = settings.get("model_max_length", settings.get("max_len"))
    if length is None:
        return None
    if not isinstance(length, (int, float)) or isinstance(length, bool) or not length >= 1:
        raise CheckpointError(
            f"{folder.path / SETTINGS}: model_max_length is {length!r:.80}; expected a number above 0"
        )
    return int(length) if length < 2**31 else None  # 1e30 is transformers' way to say that it does not know


def _add_tokens(tokenizer: Tokenizer, folder: Folder, settings: Mapping[str, Any], vocab_size: int) -> None:
    """Add what tokenizer_config.json and the files of older versions name, in transformers' order.

    Tokens with numbers come first, by number; then the special ones that are not there yet, without numbers.

    Raises:
        CheckpointError: a token that would get another number than the one that it has in the files.
    """
    named = [settings[key] for key in settings if key.endswith("_token") and _content(settings[key])]
    more = [settings.get(key) or [] for key in ("extra_special_tokens", "additional_special_tokens")]
    more = [[*each.values()] if isinstance(each, dict) else each for each in more]
    if not all(isinstance(each, list) and all(map(_content, each)) for each in more):
        raise CheckpointError(f"{folder.path / SETTINGS}: extra_special_tokens is {more!r:.80}; expected strings")
    special = {_content(token) for token in (*named, *more[0])}
    named += more[0] or more[1]
    numbered: dict[int, AddedToken] = {}
    source = folder.path / SETTINGS
    try:
        if (decoder := settings.get("added_tokens_decoder")) is not None:
            for number, token in decoder.items():
                numbered[int(number)] = _token(token)
        elif folder.has(ADDED_TOKENS):
            source = folder.path / ADDED_TOKENS
            for content, number in folder.object(ADDED_TOKENS).items():
                is_special = content in special
                numbered[int(number)] = AddedToken(content, normalized=not is_special, special=is_special)
        own = {token.content: token for token in tokenizer.get_added_tokens_decoder().values()}
        new = [token for _, token in sorted(numbered.items()) if repr(own.get(token.content)) != repr(token)]
        for token in new:
            token.special = token.special or token.content in special
        there = own.keys() | {token.content for token in new}
        beside = {_content(token): _token(token, special=True) for token in named if _content(token) not in there}
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(f"{source} has added tokens that cannot be read: {error}") from None
    tokenizer.add_tokens(new)
    for number, token in numbered.items():
        if (got := tokenizer.token_to_id(token.content)) != number:
            raise CheckpointError(
                f"{source}: {token.content!r:.80} has the number {number}, but the vocabulary leaves it {got}"
            )
    # Special tokens without a row in the model can stand in no text.
    room = vocab_size - tokenizer.get_vocab_size()
    fitting = []
    for content, token in beside.items():
        is_known = tokenizer.token_to_id(content) is not None
        room -= not is_known
        if is_known or room >= 0:
            fitting.append(token)
    tokenizer.add_tokens(fitting)


def _token(given: Any, special: bool = False) -> AddedToken:
    """An added token from a string or from an object with its settings."""
    if isinstance(given, str):
        return AddedToken(given, special=special)
    settings = {name: value for name, value in given.items() if name not in ("__type", "id")}
    return AddedToken(**(settings | ({"special": True} if special else {})))


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


def _from_json(folder: Folder, settings: Mapping[str, Any], is_bert: bool) -> Tokenizer:
    """The file's own tokenizer, with what tokenizer_config.json says of letter case and accents.

    Where the two disagree transformers follows the latter, in BERT's classes. It also assumes lower case where the
    latter is silent, which turns a cased model's words into unknown ones; there the file is followed.
    """
    path = folder.path / FILES[0]
    content = folder.read(FILES[0])
    reserve(MEMORY * len(content))
    try:
        tokenizer = Tokenizer.from_str(content.decode("utf-8"))
    except Exception as error:  # noqa: BLE001 - the library raises Exception itself and no narrower class
        raise CheckpointError(f"{path} is not a tokenizer: {error}") from None
    own = tokenizer.normalizer
    if is_bert and isinstance(own, normalizers.BertNormalizer):
        tokenizer.normalizer = _normalizer(settings, own.lowercase, own.strip_accents, own.handle_chinese_chars)
    if is_bert and tokenizer.post_processor is None and isinstance(tokenizer.model, models.WordPiece):
        tokenizer.post_processor = _between_special_tokens(_special_tokens(settings), tokenizer.get_vocab(), path)
    return tokenizer


def _between_special_tokens(special: Mapping[str, str], vocabulary: Mapping[str, int], path: Path) -> Any:
    """The step that puts a text between the special tokens."""
    if absent := [special[role] for role in ("cls_token", "sep_token") if special[role] not in vocabulary]:
        raise CheckpointError(f"{path} lacks the special tokens {', '.join(absent)}")
    return processors.BertProcessing(
        *((special[role], vocabulary[special[role]]) for role in ("sep_token", "cls_token"))
    )


def _normalizer(
    settings: Mapping[str, Any], lowercase: bool, strip_accents: bool | None, chinese: bool
) -> normalizers.BertNormalizer:
    """BERT's clean-up of text: tokenizer_config.json's settings, and the given ones where it is silent."""
    return normalizers.BertNormalizer(
        clean_text=True,
        lowercase=bool(_flag(settings, "do_lower_case", lowercase)),
        strip_accents=_flag(settings, "strip_accents", strip_accents),
        handle_chinese_chars=bool(_flag(settings, "tokenize_chinese_chars", chinese)),
    )


def _flag(settings: Mapping[str, Any], name: str, default: bool | None) -> bool | None:
    value = settings.get(name, default)
    if value is not None and not isinstance(value, bool):
        raise CheckpointError(f"{SETTINGS}: {name} is {value!r}; expected true or false")
    return default if value is None else value


def _from_vocabulary(folder: Folder, settings: Mapping[str, Any]) -> Tokenizer:
    """BERT's WordPiece (Devlin et al. 2018) from a list of tokens, one a line, set up as transformers does."""
    path = folder.path / FILES[1]
    content = folder.read(FILES[1])
    try:
        lines = content.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from None
    tokens = [line.rstrip("\r") for line in (lines[:-1] if lines[-1] == "" else lines)]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    special = _special_tokens(settings)
    if absent := [token for token in special.values() if token not in vocabulary]:
        raise CheckpointError(f"{path} lacks the special tokens {', '.join(absent)}")
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=special["unk_token"]))
    tokenizer.add_special_tokens([token for token in tokens if token in special.values()])
    tokenizer.normalizer = _normalizer(settings, True, None, True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = _between_special_tokens(special, vocabulary, path)
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def _special_tokens(settings: Mapping[str, Any]) -> dict[str, str]:
    """Role -> token: what the settings say, and BERT's where they are silent."""
    return {role: _content(settings.get(role)) or default for role, default in SPECIAL.items()}


def _content(token: object) -> str:
    """A token in tokenizer_config.json is a string, or an object that holds it as `content`; "" is none."""
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else ""
