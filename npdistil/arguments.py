"""Arguments that transformers and sentence-transformers have and this package does not: what becomes of each.

One table, for every call that takes such arguments. An argument stands for settings of ours, or changes nothing here,
or is refused with what to write instead; None is always as if it had not been given.
"""

import numbers
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import InputError
from .settings import shown

# The calls that take them.
PIPELINE = "pipeline"  # and the classes of pipelines
CALL = "pipe"  # a pipeline's call; what is given here may be given to `pipeline` too
MODEL = "AutoModel"  # from_pretrained, and that of its relatives
TOKENIZER = "AutoTokenizer"  # from_pretrained, and that of its relatives
SENTENCES = "SentenceTransformer"
ENCODE = "encode"  # of a SentenceTransformer
LOADING = (PIPELINE, MODEL, TOKENIZER, SENTENCES)
FIRST = ("inputs", "sequences", "X", "data")  # names that transformers has for the first argument of a pipeline's call
ENGINE = ("engine", "precision", "threads")  # of `load`, as are those of the Hub
HUB = ("revision", "token", "cache_dir", "local_files_only")
HALVES = ("auto", "float32", "float", "float16", "half", "bfloat16")


@dataclass(frozen=True)
class Argument:
    """What becomes of an argument, which may have several names.

    Attributes:
        names: with commas between.
        calls: that take it.
        about: what becomes of it.
        takes: whether a value may be given.
        instead: how the error for another value goes on after "NAME is VALUE; ".
        becomes: settings, or arguments of `load`, that a value stands for beside the other arguments of its call.
        needs: a setting that a task must have, for the argument to mean anything there.
        same: what a model says of itself; another value is refused.
    """

    names: str
    calls: tuple[str, ...]
    about: str
    takes: Callable[[Any], bool] = lambda value: True
    instead: str = ""
    becomes: Callable[[Any, Mapping[str, Any]], Mapping[str, Any]] = lambda value, given: {}
    needs: str = ""
    same: Callable[[Any], Any] | None = None


def ignored(names: str, calls: tuple[str, ...], why: str) -> Argument:
    """Any value may be given, and nothing depends on it."""
    return Argument(names, calls, f"changes nothing: {why}")


def refused(names: str, calls: tuple[str, ...], instead: str, *but: Any) -> Argument:
    """No value may be given, but for those that ask for nothing."""
    return Argument(names, calls, "refused", _among(*but), instead)


def only(value: str, names: str, calls: tuple[str, ...], instead: str) -> Argument:
    """One value may be given."""
    return Argument(names, calls, f'"{value}"; others are refused', _among(value), instead)


def stored(names: str, calls: tuple[str, ...], about: str, same: Callable[[Any], Any], instead: str = "") -> Argument:
    """What a model or a tokenizer says of itself may be given."""
    return Argument(names, calls, about, instead=instead, same=same)


def renamed(names: str, calls: tuple[str, ...], about: str, to: str, needs: str = "") -> Argument:
    """A setting, or an argument of `load`, by another name, or by its own among transformers' arguments."""
    return Argument(names, calls, about, becomes=lambda value, given: {to: value}, needs=needs)


def lowered(name: str) -> Argument:
    """A setting whose choices transformers takes in any letter case, or as members of an enumeration."""

    def becomes(value: Any, given: Mapping[str, Any]) -> dict[str, Any]:
        value = getattr(value, "value", value)
        return {name: value.lower() if isinstance(value, str) else value}

    return Argument(name, (CALL,), "in any letter case", becomes=becomes, needs=name)


def inner(names: str, calls: tuple[str, ...], of: str, call: str, what: str = "arguments") -> Argument:
    """A dict of arguments of another call."""
    return Argument(
        names,
        calls,
        f"read as arguments of {of}",
        lambda value: isinstance(value, Mapping),
        f"expected a dict of {what}",
        lambda value, given: read(call, value),
    )


def strategy(name: str, about: str) -> Argument:
    """One of the two old arguments that stand for a strategy together, as transformers 4 has it."""

    def becomes(value: Any, given: Mapping[str, Any]) -> dict[str, Any]:
        joined = "first" if given.get("ignore_subwords") else "simple"
        return {"aggregation_strategy": joined if given.get("grouped_entities") else "none"}

    takes = _among(True, False)
    return Argument(name, (CALL,), about, takes, "known are False, True", becomes, "aggregation_strategy")


def _among(*values: Any) -> Callable[[Any], bool]:
    return lambda value: any(type(value) is type(each) and value == each for each in values)


def _cpu(device: Any) -> bool:
    if isinstance(device, numbers.Number):
        return isinstance(device, numbers.Integral) and device == -1
    return str(device) in ("cpu", "cpu:0", "-1")  # torch.device("cpu") too


def _on_cpu(devices: Any) -> bool:
    return _among("auto")(devices) or all(map(_cpu, devices.values() if isinstance(devices, Mapping) else [devices]))


def _dtype(value: Any) -> bool:
    name = "" if isinstance(value, numbers.Number) else str(getattr(value, "__name__", value))
    return name.removeprefix("torch.") in HALVES


def _nothing_of(value: Any) -> bool:
    return value is False or (isinstance(value, (Mapping, list, tuple)) and not value)


FETCHED = "where a name on the Hub is looked for, and what it is asked for with; means nothing for a directory"
ARGUMENTS = (
    Argument(
        "device",
        (PIPELINE, MODEL, SENTENCES, ENCODE),
        'the CPU: -1, "cpu" or `torch.device("cpu")`; others are refused',
        _cpu,
        'everything is computed on the CPU: leave device out, or give device="cpu"',
    ),
    Argument(
        "device_map",
        (PIPELINE, MODEL),
        'the CPU, or "auto"; others are refused',
        _on_cpu,
        "everything is computed on the CPU: leave device_map out",
    ),
    Argument(
        "torch_dtype, dtype",
        (PIPELINE, MODEL),
        "float32, and the halves of it, which only stand for it: numbers are float32's; "
        '`precision="int8"` is what is smaller and faster here',
        _dtype,
        'numbers are float32\'s: leave it out, or give precision="int8" for smaller and faster ones',
    ),
    ignored("framework", (CALL, MODEL), "there is one here, NumPy"),
    ignored("use_fast", LOADING, "the tokenizer is the fast one, whose token ids are the same"),
    ignored("trust_remote_code", LOADING, "no code of a model's is ever run"),
    renamed("cache_dir, cache_folder", LOADING, FETCHED, "cache_dir"),
    renamed("token, use_auth_token", LOADING, FETCHED, "token"),
    renamed("revision", LOADING, 'of a name on the Hub; with a directory, all but "main" are refused', "revision"),
    renamed("local_files_only", LOADING, FETCHED, "local_files_only"),
    ignored(
        "force_download, resume_download, proxies, mirror, etag_timeout, code_revision",
        LOADING,
        "`huggingface_hub` has its own settings of these",
    ),
    refused("subfolder, variant, gguf_file", LOADING, "download what is meant, and give its directory", "", "main"),
    refused("from_tf, from_flax", (MODEL,), "convert it to model.safetensors first", False),
    ignored(
        "low_cpu_mem_usage, attn_implementation, use_safetensors, torchscript, use_cache, return_dict, tie_weights, "
        "ignore_mismatched_sizes, offload_folder, max_memory, tp_plan",
        (MODEL,),
        "how a model is held and computed in torch",
    ),
    refused(
        "output_attentions, output_hidden_states",
        (MODEL,),
        "a model's `attentions(token_ids)` and `all_hidden_states(token_ids)` give them",
        False,
    ),
    refused(
        "load_in_8bit, load_in_4bit, quantization_config",
        (MODEL,),
        'give precision="int8" to `pipeline` or `load`',
        False,
    ),
    stored("num_labels", (MODEL,), "the number that the model has; others are refused", lambda m: m.config.num_labels),
    stored("id2label", (MODEL,), "the labels that the model has; others are refused", lambda m: m.config.id2label),
    stored("label2id", (MODEL,), "those that the model has; others are refused", lambda m: {**m.config.label2id}),
    stored(
        "problem_type",
        (MODEL,),
        "the model's; others are refused: `function_to_apply` says what makes scores of logits",
        lambda m: m.config.problem_type,
    ),
    inner("model_kwargs", (PIPELINE, SENTENCES), "`AutoModel.from_pretrained`", MODEL),
    Argument("config_kwargs, model_card_data", (SENTENCES,), "refused unless empty", _nothing_of, "leave it out"),
    inner("tokenizer_kwargs, processor_kwargs", (SENTENCES,), "`AutoTokenizer.from_pretrained`", TOKENIZER),
    ignored(
        "padding_side, add_prefix_space, legacy, model_input_names, tokenizer_type, tokenizer_file, vocab_file",
        (TOKENIZER,),
        "texts are never padded, and the model's tokenizer is used as it is stored",
    ),
    stored(
        "do_lower_case",
        (TOKENIZER,),
        "what the tokenizer does anyway; else refused",
        lambda t: bool(getattr(t.normalizer, "lowercase", False)),
        "tokenizer_config.json in the model's directory says it",
    ),
    stored(
        "model_max_length, max_length, max_len",
        (TOKENIZER,),
        "what the tokenizer says anyway; else refused: `max_length` is a setting of pipelines",
        lambda t: t.model_max_length,
    ),
    stored(
        "truncation_side", (TOKENIZER,), "what the tokenizer says anyway; else refused", lambda t: t.truncation_side
    ),
    stored(
        "clean_up_tokenization_spaces",
        (TOKENIZER,),
        "changes nothing here where it says what the tokenizer's directory says; else refused",
        lambda t: t.clean_up_tokenization_spaces,
    ),
    ignored("padding, truncation", (TOKENIZER,), "these are settings of a pipeline's call"),
    refused(
        "feature_extractor, image_processor, video_processor, processor, modelcard",
        (PIPELINE,),
        "texts alone are read here",
        "",
    ),
    refused("args_parser", (PIPELINE,), "calls are read as transformers' own reads them", ""),
    refused("binary_output", (PIPELINE,), "an answer is what a call returns; pickle that", False),
    refused("pipeline_class", (PIPELINE,), "the task says which class it is", ""),
    ignored("num_workers", (CALL,), "`threads` says how many share the work"),
    ignored("padding, pad_to_max_length, pad_to_multiple_of, padding_side", (CALL,), "texts are never padded"),
    ignored(
        "return_token_type_ids, return_attention_mask, verbose",
        (CALL,),
        "a DistilBERT has no token types, and no text is padded",
    ),
    Argument(
        "add_special_tokens",
        (CALL,),
        "True; False is refused",
        _among(True),
        "the model was trained with special tokens; `model.hidden_states(token_ids)` takes any ids",
    ),
    inner("tokenizer_kwargs, tokenize_kwargs", (CALL,), "the call itself", CALL, "arguments for the tokenizer"),
    refused("offset_mapping", (CALL,), "offsets are those of the model's own tokenizer", ""),
    lowered("function_to_apply"),
    lowered("aggregation_strategy"),
    strategy(
        "grouped_entities",
        'True is `aggregation_strategy="simple"`, or "first" beside `ignore_subwords=True`; False "none"',
    ),
    strategy(
        "ignore_subwords",
        'beside `grouped_entities=True`, True is `aggregation_strategy="first"`; alone it is "none", as there',
    ),
    renamed("multi_class", (CALL,), "`multi_label`", "multi_label", needs="multi_label"),
    renamed("topk", (CALL,), "`top_k`", "top_k", needs="max_answer_len"),
    ignored(
        "convert_to_numpy, show_progress_bar, pool, chunk_size",
        (ENCODE,),
        "vectors are NumPy's, and there is no bar and no pool of processes",
    ),
    refused("modules", (SENTENCES,), "give the directory that has modules.json", ""),
    only("torch", "backend", (SENTENCES,), "there is one backend here: leave it out"),
    only("sentence_embedding", "output_value", (ENCODE,), 'pipeline("feature-extraction") gives the states of tokens'),
    only("float32", "precision", (ENCODE,), "vectors are float32: quantise what comes back"),
    Argument(
        "normalize_embeddings",
        (ENCODE,),
        "`normalize`, where it is True",
        becomes=lambda value, given: {"normalize": True} if value else {},
    ),
)
TABLE = {(call, name): each for each in ARGUMENTS for call in each.calls for name in each.names.split(", ")}


def argument_of(call: str, name: str, settings: Collection[str]) -> Argument | None:
    """The argument of that name, where a call takes it."""
    found = TABLE.get((call, name))
    if found is None and call == PIPELINE:
        found = TABLE.get((CALL, name))
    return found if found and (not found.needs or found.needs in settings) else None


def read(call: str, given: Mapping[str, Any], settings: Collection[str] = ()) -> dict[str, Any]:
    """What arguments of a call stand for: settings of ours, and arguments of `load`.

    Args:
        call: which it is.
        given: its arguments by name. Those that the table does not have are left as they are.
        settings: names of the task's own settings.

    Raises:
        InputError: a value that cannot be taken; says what to write.
    """
    own: dict[str, Any] = {}
    stands_for: dict[str, Any] = {}
    for name, value in given.items():
        argument = argument_of(call, name, settings)
        if argument is None:
            own[name] = value
        elif value is not None and argument.same is None:
            if not argument.takes(value):
                raise InputError(f"{name} is {shown(value)}; {argument.instead}")
            stands_for |= argument.becomes(value, given)
    return stands_for | own


def check_same(call: str, given: Mapping[str, Any], of: Any) -> None:
    """What a model or tokenizer says of itself may be said again, and nothing else.

    Raises:
        InputError: an argument that says something else.
    """
    for name, value in given.items():
        argument = argument_of(call, name, ())
        if argument and argument.same and value is not None and value != (stored := argument.same(of)):
            raise InputError(
                f"{name} is {shown(value)}; {argument.instead or f'the directory says {stored!r:.80}: change it there'}"
            )


def tensor(array: Any) -> Any:
    """An array as torch's tensor where torch is installed, or as it is."""
    try:
        import torch
    except ImportError:
        return array
    return torch.from_numpy(np.ascontiguousarray(array))
