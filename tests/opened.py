"""transformers' answers to token ids, in batches of similar length."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoModelForSequenceClassification

Array = npt.NDArray[Any]


def opened(directory: Path) -> Any:
    """A sequence classifier as transformers opens it."""
    return AutoModelForSequenceClassification.from_pretrained(directory, dtype=torch.float32).eval()


def logits_of(model: Any, token_ids: Sequence[Sequence[int]], size: int = 16) -> Array:
    """float32 [B, C]."""
    order = sorted(range(len(token_ids)), key=lambda i: len(token_ids[i]))
    out = np.empty((len(order), model.config.num_labels), np.float32)
    for first in range(0, len(order), size):
        some = order[first : first + size]
        longest = max(len(token_ids[i]) for i in some)
        ids = torch.tensor([[*token_ids[i], *[0] * (longest - len(token_ids[i]))] for i in some])
        mask = torch.tensor([[1] * len(token_ids[i]) + [0] * (longest - len(token_ids[i])) for i in some])
        with torch.inference_mode():
            out[some] = model(input_ids=ids, attention_mask=mask).logits.numpy()
    return out
