"""DistilBERT on NumPy arrays: the specification, which imports nothing of this package outside of this folder."""

from .encoder import ACTIVATIONS as ACTIVATIONS
from .encoder import attention_weights as attention_weights
from .encoder import block as block
from .encoder import embed as embed
from .encoder import embedding as embedding
from .encoder import encode as encode
from .encoder import feed_forward as feed_forward
from .encoder import gelu as gelu
from .encoder import hidden_states as hidden_states
from .encoder import layer_norm as layer_norm
from .encoder import linear as linear
from .encoder import quantize_rows as quantize_rows
from .encoder import relu as relu
from .encoder import self_attention as self_attention
from .encoder import softmax as softmax
from .encoder import split_heads as split_heads
from .heads import masked_lm as masked_lm
from .heads import multiple_choice as multiple_choice
from .heads import question_answering as question_answering
from .heads import sequence_classification as sequence_classification
from .heads import token_classification as token_classification
