"""Fill mask: the words that the model expects where a text says [MASK]."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np

from ..checkpoint.tokenizer import SPECIAL
from ..distilbert import heads
from ..distilbert.encoder import Array, softmax
from ..errors import InputError
from ..model import Model
from ..text import tokenize
from .base import Task, check_count, run

MASK = SPECIAL["mask_token"]
Answer: TypeAlias = dict[str, Any]  # {"score": float, "token": int, "token_str": str, "sequence": str}


class FillMask(Task):
    """transformers' pipeline of that name: same arguments, same results.

    Two things differ: a target that is not one token of the vocabulary is refused, not replaced by the beginning of
    it; and a text of more tokens than the model has positions for is refused with its number of tokens, since only
    its writer knows which part of it to leave out.

    Each setting is also an argument of the call.

    Args:
        top_k: how many words to give for each mask, best first.
        targets: a word or a list of words to choose among; their scores are those among all words.
        batch_size: texts that are run at once.
    """

    architecture = "DistilBertForMaskedLM"

    def __init__(
        self, model: Model, *, top_k: int = 5, targets: str | Sequence[str] | None = None, batch_size: int = 32
    ) -> None:
        super().__init__(model, {"top_k": top_k, "targets": targets, "batch_size": batch_size})

    def check(self, chosen: dict[str, Any]) -> None:
        """Refuse values that the task cannot take."""
        super().check(chosen)
        check_count("top_k", chosen["top_k"])
        self._candidates(chosen["targets"])

    def __call__(self, inputs: Any, **settings: Any) -> Any:
        """Fill.

        Args:
            inputs: a text with one [MASK] or several, a list or an iterator of such texts.
            settings: as for the class.

        Returns:
            For a text with one mask a list of {"score", "token", "token_str", "sequence"}, for one with several a list
            of such lists, one a mask; for several texts a list, or a lazy iterator, of these.

        Raises:
            InputError: a text without [MASK], or what the model cannot take.
        """
        chosen = self.choose(settings)
        answers = run(inputs, (str,), chosen["batch_size"], lambda items: self._answers(items, chosen))
        return answers[0] if isinstance(inputs, list) and len(inputs) == 1 else answers

    def _candidates(self, targets: str | Sequence[str] | None) -> Array:
        """Ids of the tokens to choose among."""
        tokenizer = self.model.tokenizer
        if targets is None:
            return np.arange(self.model.config.vocab_size)
        if not isinstance(targets, (str, list, tuple)):
            raise InputError(f"targets is {targets!r:.80}; expected a word or a list of words")
        words = [targets] if isinstance(targets, str) else targets
        ids = []
        for word in words:
            known = tokenizer.token_to_id(word) if isinstance(word, str) else None
            if known is None and isinstance(word, str):  # as the tokenizer writes it, in lower case for instance
                tokens = tokenizer.encode(word, add_special_tokens=False).ids
                known = tokens[0] if len(tokens) == 1 else None
            if known is None:
                raise InputError(f"the target {word!r} is not one token of the vocabulary")
            ids.append(known)
        if not ids:
            raise InputError("targets is empty; expected a word or a list of words")
        return np.unique(ids)

    def _answers(self, items: list[Any], chosen: dict[str, Any]) -> Iterator[list[Any]]:
        model = self.model
        mask = model.tokenizer.token_to_id(MASK)
        token_ids = [encoding.ids for encoding in tokenize(model.tokenizer, items)]
        masks = [[i for i, token in enumerate(ids) if token == mask] for ids in token_ids]
        if (bare := next((i for i, found in enumerate(masks) if not found), None)) is not None:
            raise InputError(f"text {bare} has no {MASK}")
        candidates = self._candidates(chosen["targets"])
        hidden = model.hidden_states(token_ids)
        for ids, found, states in zip(token_ids, masks, hidden, strict=True):
            head, activation = model.checkpoint.head, model.config.activation
            logits = heads.masked_lm(states[found], **head, activation=activation, linear=model.encoder.linear)
            scores = softmax(logits)[:, candidates]
            answers = []
            for place, row in zip(found, scores, strict=True):
                best = np.argsort(-row, kind="stable")[: chosen["top_k"]]
                answers.append([self._answer(ids, place, int(candidates[i]), row[i], len(found) == 1) for i in best])
            yield answers[0] if len(answers) == 1 else answers

    def _answer(self, ids: list[int], place: int, token: int, score: float, only: bool) -> Answer:
        """One word in its place. Special tokens are left out of the sequence, unless it has other masks to show."""
        decode = self.model.tokenizer.decode
        sequence = decode([*ids[:place], token, *ids[place + 1 :]], skip_special_tokens=only)
        return {"score": float(score), "token": token, "token_str": decode([token]), "sequence": sequence}
