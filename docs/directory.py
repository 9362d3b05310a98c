"""What a model directory may contain and what is made of it: `python docs/directory.py` writes the table of the page.

Each row is a file, a key in it or a kind of tensor, what is made of it, and whether that is also what the reference
makes of it: transformers 5 for the model and its tokenizer, peft for adapters, sentence-transformers 6 for vectors.
"""

import sys
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).with_name("checkpoints.md")
START, END = "<!-- made by directory.py -->\n", "<!-- until here -->\n"


class Row(NamedTuple):
    """A row of the table."""

    file: str
    what: str
    made_of_it: str
    reference: str = "the same"


ROWS = [
    Row(
        "config.json",
        "model_type",
        "`distilbert`, or absent, or `bert`; anything else is refused by its name",
        "opens others",
    ),
    Row(
        "config.json",
        "vocab_size, max_position_embeddings, n_layers, n_heads, dim, hidden_dim",
        "sizes, also as num_hidden_layers, num_attention_heads, hidden_size, intermediate_size, of which a `bert` has "
        "no others; two names that differ are refused",
        "does not know intermediate_size",
    ),
    Row(
        "config.json",
        "activation; hidden_act of a `bert`",
        "any of transformers' without parameters of its own; others are refused with the list",
        "prelu, xielu and sqrtsoftplus too",
    ),
    Row(
        "config.json",
        "type_vocab_size",
        "of a `bert`, 1 to 16 token types; a pair is refused by a model that has too few",
        "an IndexError for such a pair",
    ),
    Row(
        "config.json",
        "position_embedding_type, is_decoder, add_cross_attention, embedding_size",
        "of a `bert`, refused where they ask for more than an encoder with a table of positions",
        "ignores or opens them",
    ),
    Row(
        "config.json",
        "sentence_transformers.activation_fn, sbert_ce_default_activation_function",
        "with one label, whether its score is the logit or the sigmoid of it; other functions are refused",
        "the same in CrossEncoder; pipelines do not look",
    ),
    Row("config.json", "architectures", "the head; where it is absent, null or empty the tensors say which it is"),
    Row("config.json", "id2label, num_labels", "the labels; names that are numbers become strings", "keeps numbers"),
    Row("config.json", "label2id", "decides which label is entailment in zero-shot classification"),
    Row("config.json", "problem_type", "what makes scores of logits"),
    Row("config.json", "tie_word_embeddings", "whether a masked LM projects with the word embeddings"),
    Row(
        "config.json",
        "layer_norm_eps",
        "used in a `bert`; not a setting of DistilBERT: a warning, and 1e-12 is used",
        "the same, unsaid",
    ),
    Row("config.json", "tokenizer_class", "counts where tokenizer_config.json names none"),
    Row(
        "config.json",
        "quantization_config",
        "int8 of compressed-tensors, per channel and token; others are refused",
        "opens others",
    ),
    Row(
        "model.safetensors", "float32, float16, bfloat16, int8 with scales", "read; embeddings stay as they are stored"
    ),
    Row("model.safetensors", "float64", "rounded to float32; what does not fit is refused"),
    Row(
        "model.safetensors",
        "NaN, infinity, other shapes, missing tensors",
        "refused, all of them in one message",
        "opens",
    ),
    Row("model.safetensors", "names with and without the prefix `distilbert.` or `bert.`", "the same tensor"),
    Row(
        "model.safetensors",
        "token_type_embeddings of a `bert`",
        "added to the positions; tokens get the types that the tokenizer gives, in a pair 1 for the second text",
    ),
    Row(
        "model.safetensors",
        "pooler of a `bert`",
        "the first layer of the head for sequences and for choices; elsewhere unused, but kept in copies",
    ),
    Row(
        "model.safetensors",
        "`gamma` and `beta` of layer norms",
        "weight and bias, of every layer norm",
        "LayerNorm's only",
    ),
    Row("model.safetensors", "`_orig_mod.` in names", "left out of them, with a warning", "leaves random numbers"),
    Row(
        "model.safetensors",
        "tensors outside of embeddings and blocks that the head does not have",
        "left out, named in one warning; inside, as a block too many, they are an error",
        "leaves out both",
    ),
    Row("model.safetensors", "vocab_projector.weight beside word embeddings", "used where it differs, with a warning"),
    Row("model.safetensors", "vocab_projector.weight alone", "is the table of word embeddings too"),
    Row("model.safetensors.index.json", "weight_map", "the shards, all of which must be there, in the same folder"),
    Row("*.bin, *.pt, *.pth", "pickles", "refused unopened, with the command that converts them", "opens some"),
    Row(
        "adapter_config.json",
        "peft_type LORA",
        "plain LoRA and rsLoRA are merged, with alpha_pattern, rank_pattern and "
        "modules_to_save; fan_in_fan_out changes nothing here",
    ),
    Row("adapter_config.json", "other kinds; DoRA, biases, pissa and the like", "refused by name", "opens most"),
    Row(
        "adapter_config.json",
        "without a model beside it",
        "refused, with the name of the model that it belongs to",
        "downloads that model",
    ),
    Row("adapter_model.safetensors", "all tensors", "each must have its place in the model"),
    Row(
        "tokenizer.json",
        "the whole",
        "the tokenizer, whatever class is named beside it",
        "builds BERT's anew from its words",
    ),
    Row("tokenizer.json", "truncation", "its direction counts where truncation_side is not there; nothing else of it"),
    Row(
        "vocab.txt",
        "the whole",
        "BERT's WordPiece, where tokenizer_class is BERT's or absent; others are refused by name",
    ),
    Row("vocab.txt", "a byte order mark", "left out", "takes it for a part of the first token"),
    Row(
        "tokenizer_config.json",
        "do_lower_case, strip_accents, tokenize_chinese_chars",
        "win over tokenizer.json, in BERT's classes; where they are absent tokenizer.json counts",
        "takes lower case for granted",
    ),
    Row(
        "tokenizer_config.json",
        "added_tokens_decoder",
        "added to the vocabulary; a number that it cannot have is refused",
        "gives another number",
    ),
    Row(
        "tokenizer_config.json",
        "extra_special_tokens, additional_special_tokens, unk_token, mask_token, ...",
        "special tokens, added where the model has a row for them",
        "adds them always",
    ),
    Row("tokenizer_config.json", "model_max_length, max_len", "where texts are cut when cutting is asked for"),
    Row(
        "tokenizer_config.json",
        "truncation_side",
        "which end is cut away, and from which windows of a context or of a text with entities are counted",
    ),
    Row(
        "tokenizer_config.json",
        "clean_up_tokenization_spaces",
        "whether blanks before marks go where fill-mask shows a text, but for BPE",
    ),
    Row(
        "tokenizer_config.json",
        "model_input_names",
        "whether a `bert` is given token types; where it is absent the class says: BERT's does, DistilBERT's does not",
    ),
    Row("tokenizer_config.json", "split_special_tokens", "whether special tokens in a text are only text"),
    Row(
        "special_tokens_map.json, added_tokens.json",
        "the whole",
        "read where there is no added_tokens_decoder",
        "the same, but for objects in a list, which it cannot read",
    ),
    Row("modules.json", "Transformer", "its folder holds the model and the tokenizer"),
    Row("modules.json", "Pooling", "one, in a folder of any name: every mode, old names and new, several side by side"),
    Row("modules.json", "Dense", "weights, bias, residual, and an activation of torch", "Tanh for other activations"),
    Row("modules.json", "Normalize, Dropout", "length 1; nothing"),
    Row(
        "modules.json",
        "other modules",
        "refused by name where vectors are wanted; other tasks do without",
        "opens more",
    ),
    Row("1_Pooling/config.json", "without a modules.json", "counts", "takes the mean"),
    Row("sentence_bert_config.json", "max_seq_length", "where texts are cut, instead of model_max_length"),
    Row("sentence_bert_config.json", "do_lower_case", "capital letters are taken away first"),
    Row("config_sentence_transformers.json", "prompts, default_prompt_name", "what is put before texts"),
    Row("config_sentence_transformers.json", "truncate_dim", "how many numbers of a vector are kept"),
    Row(
        "all of them",
        "a pointer of Git LFS, a link that leads nowhere, no permission",
        "refused as what it is",
        "refuses, in other words",
    ),
]


def table() -> str:
    """The table in Markdown; a file's name stands in its first row only."""
    lines = ["| file | what is in it | what is made of it | in the reference |", "|---|---|---|---|"]
    last = ""
    for row in ROWS:
        name = (
            "" if row.file == last else ", ".join(f"`{file}`" if "." in file else file for file in row.file.split(", "))
        )
        lines.append(f"| {name} | {row.what} | {row.made_of_it} | {row.reference} |")
        last = row.file
    return "\n".join(lines) + "\n"


def page() -> str:
    """The page with the table as it should be."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(START)
    return before + START + "\n" + table() + "\n" + END + rest.split(END)[1]


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(page() != PAGE.read_text(encoding="utf-8"))
    PAGE.write_text(page(), encoding="utf-8")
