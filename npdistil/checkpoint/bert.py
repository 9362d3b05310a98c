"""A BERT as the DistilBERT that it is: tensors by DistilBERT's names, and token types added to positions."""

import numpy as np

from ..distilbert.encoder import Array, Params, embedding

TYPES = "embeddings.token_type_embeddings.weight"
POOLER = "pre_classifier."
DECODER_BIAS = "cls.predictions.decoder.bias"  # a second name of the bias that stands beside it
# Part of a name in BERT's checkpoints -> in DistilBERT's; of what begins alike, the longer first.
NAMES = {
    "encoder.layer.": "transformer.layer.",
    ".attention.self.query.": ".attention.q_lin.",
    ".attention.self.key.": ".attention.k_lin.",
    ".attention.self.value.": ".attention.v_lin.",
    ".attention.output.dense.": ".attention.out_lin.",
    ".attention.output.LayerNorm.": ".sa_layer_norm.",
    ".intermediate.dense.": ".ffn.lin1.",
    ".output.dense.": ".ffn.lin2.",
    ".output.LayerNorm.": ".output_layer_norm.",
    "pooler.dense.": POOLER,
    "cls.predictions.transform.dense.": "vocab_transform.",
    "cls.predictions.transform.LayerNorm.": "vocab_layer_norm.",
    "cls.predictions.decoder.weight": "vocab_projector.weight",
    "cls.predictions.bias": "vocab_projector.bias",
}


def distilbert_name(name: str) -> str:
    """The name that a tensor of BERT's has in DistilBERT; both without the model's prefix.

    >>> distilbert_name("encoder.layer.0.attention.self.query.weight")
    'transformer.layer.0.attention.q_lin.weight'
    """
    for theirs, ours in NAMES.items():
        name = name.replace(theirs, ours)
    return name


def bert_name(name: str) -> str:
    """The other way round.

    >>> bert_name("transformer.layer.0.ffn.lin2.weight")
    'encoder.layer.0.output.dense.weight'
    """
    for theirs, ours in NAMES.items():
        name = name.replace(ours, theirs)
    return name


def with_types(position_embeddings: Params, token_type_embeddings: Params) -> Array:
    """The position table of all token types: float32 [types * P, D], row t * P + p being position p of type t."""
    positions, types = (
        embedding(np.arange(len(table["weight"])), **table) for table in (position_embeddings, token_type_embeddings)
    )
    return (types[:, None] + positions).reshape(-1, positions.shape[1])
