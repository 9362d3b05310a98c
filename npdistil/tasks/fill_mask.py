"""Fill mask: the words that the model expects where a text has the mask token, as [MASK]."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..batch import Inputs, Outputs
from ..distilbert.heads import scores
from ..errors import InputError
from ..results import Filled
from ..settings import one_or_several, setting, split_at_commas, whole
from ..text import laid_out
from .base import TRUNCATES, Task, TaskSettings, whole_or_cut

# What `clean_up_tokenization_spaces` of tokenizer_config.json replaces, as transformers does, in this order.
CLEANED_UP = (
    *((f" {mark}", mark) for mark in ".?!,"),
    (" ' ", "'"),
    *((f" {ending}", ending) for ending in ("n't", "'m", "'s", "'ve", "'re")),
)


@dataclass(frozen=True, kw_only=True)
class FillMaskSettings(TaskSettings):
    """Settings of fill mask."""

    top_k: int = setting(5, whole(), "how many words to give for each mask, best first.")
    targets: str | Sequence[str] | None = setting(
        None,
        one_or_several("word", 1, split_at_commas),
        "a word or a list of words to choose among; scores are those among all words.",
        None,
    )
    truncation: bool | str = setting(
        False,
        TRUNCATES,
        "whether a text is cut at what the tokenizer and the model allow, as by `tokenizer_kwargs` in transformers "
        "(names of strategies differ for pairs alone); otherwise a longer one is refused.",
    )
    batch_size: int = setting(32, whole(), "texts that a thread runs at once; results do not depend on it.")


class FillMask(Task[FillMaskSettings]):
    """transformers' pipeline of that name: same arguments, same results.

    Two things differ: a target that is not one token of the vocabulary is refused, not replaced by the beginning of
    it; and a text of more tokens than the model has positions for is refused with its number of tokens, unless
    `truncation` says to cut it.

    Items are texts with the tokenizer's mask token, [MASK] for most, once or several times. The answer to a text with
    one mask is a list of {"score", "token", "token_str", "sequence"}, to one with several a list of such lists, one a
    mask. As in transformers, a list of one text gets that text's answer.
    """

    settings_type = FillMaskSettings
    architectures = ("DistilBertForMaskedLM",)
    columns = ("token_str", "score", "sequence")

    def resolve(self) -> None:
        self.tokenizer, special = self.checkpoint.tokenizer, self.checkpoint.special_tokens
        if "mask_token" not in special:
            raise InputError(
                f"{self.checkpoint.directory}: the tokenizer has no mask token; expected one in its vocabulary, named "
                "by mask_token in tokenizer_config.json"
            )
        self.mask_token = special["mask_token"]
        self.ids = self.checkpoint.special_ids
        self.candidates = self._candidates()

    def _candidates(self) -> Any:
        """Ids of the tokens to choose among."""
        targets = self.settings.targets
        if targets is None:
            return np.arange(self.checkpoint.config.vocab_size)
        ids = []
        for word in [targets] if isinstance(targets, str) else targets:
            known = self.tokenizer.token_to_id(word)
            if known is None:  # as the tokenizer writes it, in lower case for instance
                tokens = self.tokenizer.encode(word, add_special_tokens=False).ids
                known = tokens[0] if len(tokens) == 1 and tokens[0] != self.ids.get("unk_token") else None
            if known is None:
                raise InputError(f"the target {word!r} is not one token of the vocabulary")
            ids.append(known)
        return np.unique(ids)

    def preprocess(self, items: Sequence[Any]) -> Inputs:
        """As `Task.preprocess`; logits are wanted for the masks."""
        cuts = whole_or_cut(self.checkpoint, items, self.settings.truncation)
        inputs = laid_out([[each] for each in cuts])
        masks = [[i for i, token in enumerate(ids) if token == self.ids["mask_token"]] for ids in inputs.token_ids]
        if (bare := next((i for i, found in enumerate(masks) if not found), None)) is not None:
            where = " in what is left of it" if cuts[bare].truncated else ""
            raise InputError(f"text {bare} has no {self.mask_token}{where}")
        return replace(inputs, rows=masks)

    def postprocess(self, outputs: Outputs) -> list[list[Any]]:
        answers = []
        inputs = outputs.inputs
        for ids, masks, (logits,) in zip(inputs.token_ids, inputs.rows or (), outputs.by_item(), strict=True):
            filled = []
            for place, row in zip(masks, scores(logits, "softmax").astype(np.float32)[:, self.candidates], strict=True):
                best = np.argsort(-row, kind="stable")[: self.settings.top_k]
                filled.append(
                    [self._answer(ids, place, int(self.candidates[i]), row[i], len(masks) == 1) for i in best]
                )
            answers.append(filled[0] if len(filled) == 1 else filled)
        return answers

    def _answer(self, ids: Sequence[int], place: int, token: int, score: float, only: bool) -> Filled:
        """One word in its place. Special tokens are left out of the sequence, unless it has other masks to show."""
        filled = [each for each in (*ids[:place], token, *ids[place + 1 :]) if each != self.ids.get("pad_token")]
        word, sequence = self._decode([token], False), self._decode(filled, only)
        return {"score": float(score), "token": token, "token_str": word, "sequence": sequence}

    def _decode(self, ids: Sequence[int], skip_special_tokens: bool) -> str:
        text: str = self.tokenizer.decode(ids, skip_special_tokens=skip_special_tokens)
        if self.checkpoint.tokenization.clean_up_spaces:
            for found, instead in CLEANED_UP:
                text = text.replace(found, instead)
        return text

    def shaped(self, answers: list[Any], inputs: Any, given: Mapping[str, Any]) -> Any:
        """As `Task.shaped`; transformers does not wrap the answer to a list of one."""
        return answers[0] if len(answers) == 1 else answers
