"""fill-mask over tokenizers of each kind, masks, targets and special tokens, against transformers' pipeline."""

from itertools import product
from pathlib import Path
from typing import Any

import other_tokenizers
import pytest
import transformers
from pipelines_compared import Matrix, write_model
from tokenizers import Tokenizer

import npdistil

BERT = {role: f"[{role.removesuffix('_token').upper()}]" for role in other_tokenizers.ROLES}
REPLACED = "a target that is no token is refused, not replaced by the beginning of it"
TARGETS = [
    *("film", "was", "s", "##s", "sw</w>", ["a", "is", "a"], "▁was", "Ġwas"),
    *("🙂", "unheardof", ["a", "東京"], "", "a film", ["New York", "a"], "Berlin"),
]


def texts(mask: str, sep: str, pad: str) -> list[Any]:
    return [
        f"It was a {mask} film.",
        f"{mask}",
        f"It's a {mask} film, isn't it?",
        f"I don't like {mask} and she 's {mask} !",
        f"{sep} a {mask} {pad} film {pad}",
        [f"It was a {mask} film."],
        [f"It was a {mask} film.", f"{mask} is {mask}"],
        "no mask",
    ]


def one_token_each(tokenizer: Tokenizer, targets: Any, unknown: str) -> bool:
    """Whether each target is a token, or becomes one that is not the unknown one."""
    for target in [targets] if isinstance(targets, str) else targets or ():
        if tokenizer.token_to_id(target) is None:
            tokens = tokenizer.encode(target, add_special_tokens=False).ids
            if len(tokens) != 1 or tokens[0] == tokenizer.token_to_id(unknown):
                return False
    return True


@pytest.mark.parametrize(
    ("names", "settings"),
    [
        (other_tokenizers.ANGLE, {}),
        (other_tokenizers.ANGLE, {"clean_up_tokenization_spaces": True}),
        (BERT, {"clean_up_tokenization_spaces": False}),
    ],
    ids=["angle", "cleaned up", "bert"],
)
@pytest.mark.parametrize("kind", other_tokenizers.KINDS)
def test_fill_mask(tmp_path: Path, kind: str, names: dict[str, str], settings: dict[str, Any]) -> None:
    tokenizer = other_tokenizers.build(kind, names)
    directory = write_model(tmp_path, tokenizer, "DistilBertForMaskedLM")
    other_tokenizers.write(directory, tokenizer, names, **settings)
    theirs = transformers.pipeline("fill-mask", str(directory), device="cpu")
    matrix = Matrix(npdistil.pipeline("fill-mask", directory), theirs)
    one, *others = texts(*(names[f"{role}_token"] for role in ("mask", "sep", "pad")))
    cases: list[tuple[Any, dict[str, Any]]] = [(text, {}) for text in others]
    cases += product([one, others[2]], [{"targets": each} for each in TARGETS])
    cases += [(one, {"top_k": 1}), (one, {"top_k": tokenizer.get_vocab_size()})]
    cases += [(one, {"top_k": 3, "targets": [*names.values()]})]
    for text, given in cases:
        replaced = not one_token_each(tokenizer, given.get("targets"), names["unk_token"])
        matrix.compare(text, on_purpose=REPLACED if replaced else "", **given)
    print(matrix)
