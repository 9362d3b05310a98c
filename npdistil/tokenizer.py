"""The tokenizer of a model directory: tokenizer.json, or vocab.txt with tokenizer_config.json."""

from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from .config import read_json
from .errors import CheckpointError

SPECIAL = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}


def read_tokenizer(directory: Path, vocab_size: int) -> Tokenizer:
    """The tokenizer of a model with `vocab_size` rows in its embedding table.

    Neither truncates nor pads, whatever its file says: long texts are the caller's to cut, and rows are packed.

    Raises:
        CheckpointError: no tokenizer, a broken one, or one with more tokens than the model has rows.
    """
    if (directory / "tokenizer.json").exists():
        tokenizer = _from_json(directory / "tokenizer.json")
    elif (directory / "vocab.txt").exists():
        tokenizer = _from_vocabulary(directory)
    else:
        raise CheckpointError(f"{directory} has neither tokenizer.json nor vocab.txt, so texts cannot become token ids")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if tokenizer.get_vocab_size() > vocab_size:
        raise CheckpointError(
            f"{directory}: the tokenizer has {tokenizer.get_vocab_size()} tokens, but the model only {vocab_size} "
            "rows of embeddings: they do not belong together"
        )
    return tokenizer


def _from_json(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # noqa: BLE001 - the library raises Exception itself and no narrower class
        raise CheckpointError(f"{path} is not a tokenizer: {error}") from None


def _from_vocabulary(directory: Path) -> Tokenizer:
    """BERT's WordPiece (Devlin et al. 2018) from a list of tokens, one a line, set up as transformers does."""
    path = directory / "vocab.txt"
    try:
        lines = path.read_bytes().decode("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from None
    tokens = [line.rstrip("\r") for line in (lines[:-1] if lines[-1] == "" else lines)]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    settings = read_json(directory / "tokenizer_config.json") if (directory / "tokenizer_config.json").exists() else {}
    special = {role: _content(settings.get(role), default) for role, default in SPECIAL.items()}
    if absent := [token for token in special.values() if token not in vocabulary]:
        raise CheckpointError(f"{path} lacks the special tokens {', '.join(absent)}")
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=special["unk_token"]))
    tokenizer.add_special_tokens([token for token in tokens if token in special.values()])
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        lowercase=settings.get("do_lower_case", True),
        strip_accents=settings.get("strip_accents"),
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [(special[role], vocabulary[special[role]]) for role in ("sep_token", "cls_token")]
    tokenizer.post_processor = processors.BertProcessing(*ends)
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def _content(token: object, default: str) -> str:
    """A token in tokenizer_config.json is a string, or an object that holds it as `content`."""
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else default
