"""Tokenizers of other kinds than BERT's, with other names for their special tokens, small and trained on the spot."""

import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

CORPUS = [
    "Sarah Jessica Parker lives in New York City, and José lives in Berlin.",
    "It was a good film. It was a bad film! Was it a great film? I don't like it, but she's happy.",
    "the a film is good bad very not and i like hate it you love movie was boring great",
    "what who city paris lives in he she john where is it, e-mail: sarah@example.org (unaffable)",
    "A low lower lowest newer newest wide wider widest thing; nothing 1 23 456 was better.",
]
ROLES = ("cls_token", "pad_token", "sep_token", "unk_token", "mask_token")
ANGLE = {role: f"<{role.removesuffix('_token')}>" for role in ROLES}
KINDS = ("wordpiece", "byte-bpe", "suffix-bpe", "unigram", "wordlevel")


def build(kind: str, names: dict[str, str] = ANGLE) -> Tokenizer:
    """A trained tokenizer of one of `KINDS` that puts cls and sep around a text and sep after each text of a pair."""
    special = [AddedToken(names[role], normalized=False, special=True) for role in ROLES]
    unknown, size = names["unk_token"], 300
    tokenizer: Tokenizer
    trainer: Any
    if kind == "wordpiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token=unknown))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
        trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=special, show_progress=False)
    elif kind == "byte-bpe":
        tokenizer = Tokenizer(models.BPE(unk_token=unknown))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=2 * size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        )
    elif kind == "suffix-bpe":
        tokenizer = Tokenizer(models.BPE(unk_token=unknown, end_of_word_suffix="</w>"))
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.BPEDecoder()
        trainer = trainers.BpeTrainer(
            vocab_size=size, special_tokens=special, end_of_word_suffix="</w>", show_progress=False
        )
    elif kind == "unigram":
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=size, special_tokens=special, unk_token=unknown, show_progress=False
        )
    else:
        tokenizer = Tokenizer(models.WordLevel(unk_token=unknown))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        trainer = trainers.WordLevelTrainer(vocab_size=size, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    cls, sep = names["cls_token"], names["sep_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{cls} $A {sep} $B {sep}",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in (cls, sep)],
    )
    return tokenizer


def write(directory: Path, tokenizer: Tokenizer, names: dict[str, str] = ANGLE, **settings: Any) -> None:
    """tokenizer.json, and tokenizer_config.json with the names of the special tokens and `settings`."""
    tokenizer.save(str(directory / "tokenizer.json"))
    stored: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast"} | names | settings
    stored |= {"model_input_names": ["input_ids", "attention_mask"]}
    (directory / "tokenizer_config.json").write_text(json.dumps(stored))
