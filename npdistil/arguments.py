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
        becomes: settings, or arguments of `load`, that a value stands for.
        together: the same, of all arguments of the call.
        needs: a setting that a task must have, for the argument to mean anything there.
        same: what a model says of itself; another value is refused.
    """

    names: str
    calls: tuple[str, ...]
    about: str
    takes: Callable[[Any], bool] = lambda value: True
    instead: str = ""
    becomes: Callable[[Any], Mapping[str, Any]] = lambda value: {}
    together: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda given: {}
    needs: str = ""
    same: Callable[[Any], Any] | None = None


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


def _mapping(value: Any) -> bool:
    return isinstance(value, Mapping)


def _lower(name: str) -> Callable[[Any], dict[str, Any]]:
    """A choice in any letter case, or a member of transformers' enumeration of it."""

    def becomes(value: Any) -> dict[str, Any]:
        value = getattr(value, "value", value)
        return {name: value.lower() if isinstance(value, str) else value}

    return becomes


def _renamed(name: str) -> Callable[[Any], dict[str, Any]]:
    return lambda value: {name: value}


def _strategy(given: Mapping[str, Any]) -> dict[str, Any]:
    """The strategy that the two old arguments stand for together, as transformers 4 has it."""
    joined = "first" if given.get("ignore_subwords") else "simple"
    return {"aggregation_strategy": joined if given.get("grouped_entities") else "none"}


def _inner(call: str) -> Callable[[Any], dict[str, Any]]:
    """A dict of arguments of another call."""
    return lambda given: read(call, given)


def _nothing_of(value: Any) -> bool:
    return value is False or (isinstance(value, (Mapping, list, tuple)) and not value)


FETCHED = "where a name on the Hub is looked for, and what it is asked for with; means nothing for a directory"
DIRECTORY = "download what is meant, and give its directory"
TEXTS = "texts alone are read here"
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
    Argument("framework", (CALL, MODEL), "changes nothing: there is one here, NumPy"),
    Argument("use_fast", LOADING, "changes nothing: the tokenizer is the fast one, whose token ids are the same"),
    Argument("trust_remote_code", LOADING, "changes nothing: no code of a model's is ever run"),
    Argument("cache_dir, cache_folder", LOADING, FETCHED, becomes=_renamed("cache_dir")),
    Argument("token, use_auth_token", LOADING, FETCHED, becomes=_renamed("token")),
    Argument(
        "revision",
        LOADING,
        'of a name on the Hub; with a directory, all but "main" are refused',
        becomes=_renamed("revision"),
    ),
    Argument("local_files_only", LOADING, FETCHED, becomes=_renamed("local_files_only")),
    Argument(
        "force_download, resume_download, proxies, mirror, etag_timeout, code_revision",
        LOADING,
        "changes nothing: `huggingface_hub` has its own settings of these",
    ),
    Argument(
        "subfolder, variant, gguf_file",
        LOADING,
        "refused",
        _among("", "main"),
        DIRECTORY,
    ),
    Argument("from_tf, from_flax", (MODEL,), "refused", _among(False), "convert it to model.safetensors first"),
    Argument(
        "low_cpu_mem_usage, attn_implementation, use_safetensors, torchscript, use_cache, return_dict, tie_weights, "
        "ignore_mismatched_sizes, offload_folder, max_memory, tp_plan",
        (MODEL,),
        "changes nothing: how a model is held and computed in torch",
    ),
    Argument(
        "output_attentions, output_hidden_states",
        (MODEL,),
        "refused",
        _among(False),
        "a model's `attentions(token_ids)` and `all_hidden_states(token_ids)` give them",
    ),
    Argument(
        "load_in_8bit, load_in_4bit, quantization_config",
        (MODEL,),
        "refused",
        _among(False),
        'give precision="int8" to `pipeline` or `load`',
    ),
    Argument(
        "num_labels", (MODEL,), "the number that the model has; others are refused", same=lambda m: m.config.num_labels
    ),
    Argument(
        "id2label",
        (MODEL,),
        "the labels that the model has; others are refused",
        same=lambda m: m.config.id2label,
    ),
    Argument(
        "label2id", (MODEL,), "those that the model has; others are refused", same=lambda m: {**m.config.label2id}
    ),
    Argument(
        "problem_type",
        (MODEL,),
        "the model's; others are refused: `function_to_apply` says what makes scores of logits",
        same=lambda m: m.config.problem_type,
    ),
    Argument(
        "model_kwargs",
        (PIPELINE, SENTENCES),
        "read as arguments of `AutoModel.from_pretrained`",
        _mapping,
        "expected a dict of arguments",
        _inner(MODEL),
    ),
    Argument("config_kwargs, model_card_data", (SENTENCES,), "refused unless empty", _nothing_of, "leave it out"),
    Argument(
        "tokenizer_kwargs, processor_kwargs",
        (SENTENCES,),
        "read as arguments of `AutoTokenizer.from_pretrained`",
        _mapping,
        "expected a dict of arguments",
        _inner(TOKENIZER),
    ),
    Argument(
        "padding_side, add_prefix_space, legacy, model_input_names, tokenizer_type, tokenizer_file, vocab_file",
        (TOKENIZER,),
        "changes nothing: texts are never padded, and the model's tokenizer is used as it is stored",
    ),
    Argument(
        "do_lower_case",
        (TOKENIZER,),
        "what the tokenizer does anyway; else refused",
        instead="tokenizer_config.json in the model's directory says it",
        same=lambda t: bool(getattr(t.normalizer, "lowercase", False)),
    ),
    Argument(
        "model_max_length, max_length, max_len",
        (TOKENIZER,),
        "what the tokenizer says anyway; else refused: `max_length` is a setting of pipelines",
        same=lambda t: t.model_max_length,
    ),
    Argument(
        "truncation_side",
        (TOKENIZER,),
        "what the tokenizer says anyway; else refused",
        same=lambda t: t.truncation_side,
    ),
    Argument(
        "clean_up_tokenization_spaces",
        (TOKENIZER,),
        "changes nothing here where it says what the tokenizer's directory says; else refused",
        same=lambda t: t.clean_up_tokenization_spaces,
    ),
    Argument(
        "padding, truncation",
        (TOKENIZER,),
        "changes nothing: these are settings of a pipeline's call",
    ),
    Argument(
        "feature_extractor, image_processor, video_processor, processor, modelcard",
        (PIPELINE,),
        "refused",
        _among(""),
        TEXTS,
    ),
    Argument("args_parser", (PIPELINE,), "refused", _among(""), "calls are read as transformers' own reads them"),
    Argument("binary_output", (PIPELINE,), "refused", _among(False), "an answer is what a call returns; pickle that"),
    Argument("pipeline_class", (PIPELINE,), "refused", _among(""), "the task says which class it is"),
    Argument("num_workers", (CALL,), "changes nothing: `threads` says how many share the work"),
    Argument(
        "padding, pad_to_max_length, pad_to_multiple_of, padding_side",
        (CALL,),
        "changes nothing: texts are never padded",
    ),
    Argument(
        "return_token_type_ids, return_attention_mask, verbose",
        (CALL,),
        "changes nothing: a DistilBERT has no token types, and no text is padded",
    ),
    Argument(
        "add_special_tokens",
        (CALL,),
        "True; False is refused",
        _among(True),
        "the model was trained with special tokens; `model.hidden_states(token_ids)` takes any ids",
    ),
    Argument(
        "tokenizer_kwargs, tokenize_kwargs",
        (CALL,),
        "read as arguments of the call itself",
        _mapping,
        "expected a dict of arguments for the tokenizer",
        _inner(CALL),
    ),
    Argument("offset_mapping", (CALL,), "refused", _among(""), "offsets are those of the model's own tokenizer"),
    Argument(
        "function_to_apply",
        (CALL,),
        "in any letter case",
        becomes=_lower("function_to_apply"),
        needs="function_to_apply",
    ),
    Argument(
        "aggregation_strategy",
        (CALL,),
        "in any letter case",
        becomes=_lower("aggregation_strategy"),
        needs="aggregation_strategy",
    ),
    Argument(
        "grouped_entities",
        (CALL,),
        'True is `aggregation_strategy="simple"`, or "first" beside `ignore_subwords=True`; False "none"',
        _among(True, False),
        "known are False, True",
        together=_strategy,
        needs="aggregation_strategy",
    ),
    Argument(
        "ignore_subwords",
        (CALL,),
        'beside `grouped_entities=True`, True is `aggregation_strategy="first"`; alone it is "none", as there',
        _among(True, False),
        "known are False, True",
        together=_strategy,
        needs="aggregation_strategy",
    ),
    Argument("multi_class", (CALL,), "`multi_label`", becomes=_renamed("multi_label"), needs="multi_label"),
    Argument("topk", (CALL,), "`top_k`", becomes=_renamed("top_k"), needs="max_answer_len"),
    Argument(
        "convert_to_numpy, show_progress_bar, pool, chunk_size",
        (ENCODE,),
        "changes nothing: vectors are NumPy's, and there is no bar and no pool of processes",
    ),
    Argument("modules", (SENTENCES,), "refused", _among(""), "give the directory that has modules.json"),
    Argument(
        "backend",
        (SENTENCES,),
        '"torch"; others are refused',
        _among("torch"),
        "there is one backend here: leave it out",
    ),
    Argument(
        "output_value",
        (ENCODE,),
        '"sentence_embedding"; others are refused',
        _among("sentence_embedding"),
        'pipeline("feature-extraction") gives the states of tokens',
    ),
    Argument(
        "precision",
        (ENCODE,),
        '"float32"; others are refused',
        _among("float32"),
        "vectors are float32: quantise what comes back",
    ),
    Argument(
        "normalize_embeddings",
        (ENCODE,),
        "`normalize`, where it is True",
        becomes=lambda v: {"normalize": True} if v else {},
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
            stands_for |= {**argument.becomes(value), **argument.together(given)}
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
