"""A directory of sentence-transformers: what makes a vector of hidden states, and the texts that go before others."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..distilbert.encoder import Params
from ..distilbert.heads import DENSE_ACTIVATIONS, POOLING
from ..errors import CheckpointError
from .folder import Folder
from .tensors import TensorFile, is_finite

MODULES, PROMPTS = "modules.json", "config_sentence_transformers.json"
# Of the Transformer, the first that is there; newer versions write the first name only.
LENGTHS = (
    "sentence_bert_config.json",
    "sentence_distilbert_config.json",
    "sentence_roberta_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
)
OLD_MODES = {  # in the order in which vectors stand side by side
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
INPUT = "sentence_embedding"  # what a module after the pooling works on


@dataclass(frozen=True)
class Dense:
    """A linear layer behind the pooling: what `heads.dense` takes."""

    params: Params = field(repr=False)
    activation: str


@dataclass(frozen=True)
class Normalize:
    """Vectors are scaled to length 1."""


@dataclass(frozen=True)
class SentenceEncoder:
    """How sentence-transformers makes a vector of a text with this directory.

    Attributes:
        pooling: one of `heads.POOLING`, or several with + between, whose vectors stand side by side.
        include_prompt: whether the tokens of a prompt go into the pooling.
        modules: what is done with the vector then, in order.
        prompts: name -> what is put before a text.
        default_prompt_name: the one that is used where none is asked for.
        max_length: tokens, special ones included, at which a text is cut.
        truncate_dim: how many numbers of a vector are kept.
        do_lower_case: whether texts lose their capital letters before anything else.
        refusal: why no vector can be made as the directory says; "" where it can.
    """

    pooling: str = "mean"
    include_prompt: bool = True
    modules: tuple[Dense | Normalize, ...] = ()
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt_name: str | None = None
    max_length: int | None = None
    truncate_dim: int | None = None
    do_lower_case: bool = False
    refusal: str = ""


def read_modules(root: Folder) -> tuple[Folder, SentenceEncoder | None, list[TensorFile]]:
    """The folder of the Transformer, what follows it, and the files with weights of that.

    The folder is the directory itself, and there is no sentence encoder, where it is not one of sentence-transformers;
    a cross-encoder, whose only module is its Transformer, has none either.

    Raises:
        CheckpointError: a file that is broken or says what nobody can mean. A module that is not known is no error
            here, because every other task can do without: see `SentenceEncoder.refusal`.
    """
    modules = _modules(root)
    if not modules:
        return root, None, []
    path = root.path / MODULES
    transformers = [folder for kind, folder in modules if kind.rpartition(".")[2] == "Transformer"]
    if len(transformers) != 1 or modules[0][0].rpartition(".")[2] != "Transformer":
        names = ", ".join(kind for kind, _ in modules)
        raise CheckpointError(f"{path} has the modules {names:.200}; expected one Transformer, before all others")
    encoder = root.inside(transformers[0])
    if len(modules) == 1:
        return encoder, None, []
    found: dict[str, Any] = {"modules": ()}
    refusal, files = "", []
    for kind, name in modules[1:]:
        module, last = root.inside(name), kind.rpartition(".")[2]
        if not kind.startswith("sentence_transformers."):
            last = ""
        if last == "Pooling" and "pooling" not in found:
            found |= _pooling(module)
        elif last == "Dense" and "pooling" in found:
            dense, file = _dense(module)
            found["modules"] += (dense,)
            files.append(file)
        elif last == "Normalize" and "pooling" in found:
            _check_names(module, module.object("config.json"))
            found["modules"] += (Normalize(),)
        elif last != "Dropout":  # which does nothing when it is not trained
            known = "one Pooling, then Dense, Normalize, Dropout"
            refusal = refusal or f"{path} has the module {kind[:120]}; known behind the Transformer are {known}"
    if "pooling" not in found:
        refusal = refusal or f"{path} has no Pooling, so it makes no vector of a text"
    return encoder, SentenceEncoder(**(found | _lengths(encoder) | _prompts(root)), refusal=refusal), files


def _modules(root: Folder) -> list[tuple[str, str]]:
    """Type and folder of each module."""
    if not root.has(MODULES):
        # What sentence-transformers would not look at either; but a pooling is not there for nothing.
        pooling = "1_Pooling"
        known = root.has("config.json") and root.inside(pooling).has("config.json")
        return [
            ("sentence_transformers.models.Transformer", ""),
            ("sentence_transformers.models.Pooling", pooling),
        ] * known
    listed = root.json(MODULES)
    try:
        modules = [(module["type"], module["path"]) for module in listed]
    except (KeyError, TypeError):
        modules = []
    if not modules or not all(isinstance(each, str) for module in modules for each in module):
        raise CheckpointError(
            f"{root.path / MODULES} holds {listed!r:.80}; expected a list of modules with type and path"
        )
    return modules


def _pooling(folder: Folder) -> dict[str, Any]:
    path = folder.path / "config.json"
    config = folder.object("config.json")
    modes = config.get("pooling_mode")
    if modes is None:
        modes = [mode for name, mode in OLD_MODES.items() if config.get(name)] or ["mean"]
        strange = [name for name in config if name.startswith("pooling_mode_") and name not in OLD_MODES]
        modes += [name for name in strange if config[name]]
    modes = [modes] if isinstance(modes, str) else modes
    if not isinstance(modes, list) or not modes or not all(isinstance(m, str) and m in POOLING for m in modes):
        raise CheckpointError(f"{path} has the pooling {modes!r:.200}; known are {', '.join(POOLING)}")
    return {"pooling": "+".join(modes), "include_prompt": config.get("include_prompt", True) is not False}


def _check_names(folder: Folder, config: Mapping[str, Any]) -> None:
    for name in ("module_input_name", "module_output_name"):
        if config.get(name) not in (None, INPUT):
            raise CheckpointError(
                f"{folder.path / 'config.json'}: {name} is {config[name]!r:.80}; only {INPUT!r} can be used"
            )


def _dense(folder: Folder) -> tuple[Dense, TensorFile]:
    path = folder.path / "config.json"
    config = folder.object("config.json")
    _check_names(folder, config)
    activation = str(config.get("activation_function", "torch.nn.modules.activation.Tanh"))
    name = activation.rpartition(".")[2]
    if not activation.startswith("torch.nn.") or name not in DENSE_ACTIVATIONS:
        raise CheckpointError(
            f"{path}: activation_function is {activation[:120]!r}; known of torch.nn are {', '.join(DENSE_ACTIVATIONS)}"
        )
    if not folder.has("model.safetensors") and folder.has("pytorch_model.bin"):
        raise CheckpointError(
            f"{folder.path / 'pytorch_model.bin'} is a pickle, which can run any code when it is opened, and is not "
            "read; open and save the directory once with sentence-transformers, which writes model.safetensors"
        )
    file = TensorFile(folder, "model.safetensors")
    sizes = [config.get(name) for name in ("out_features", "in_features")]
    expected: dict[str, tuple[Any, ...]] = {"linear.weight": (*sizes,)}
    if config.get("bias", True):
        expected["linear.bias"] = (sizes[0],)
    if config.get("use_residual") and sizes[0] != sizes[1]:
        expected["residual.weight"] = (*sizes,)
    if file.shapes != expected:
        raise CheckpointError(f"{file.path} has the tensors {file.shapes}; {path} says {expected}")
    arrays = {name: file.read(name).astype(np.float32, copy=False) for name in expected}
    if wrong := [name for name, array in arrays.items() if not is_finite(array)]:
        raise CheckpointError(f"{file.path} has NaN or infinity in {', '.join(wrong)}")
    params: Params = {name.partition(".")[2]: arrays[name] for name in expected if name.startswith("linear.")}
    if config.get("use_residual"):
        params["shortcut"] = arrays.get("residual.weight", np.eye(*arrays["linear.weight"].shape, dtype=np.float32))
    return Dense(params, name), file


def _lengths(folder: Folder) -> dict[str, Any]:
    name = next((name for name in LENGTHS if folder.has(name)), LENGTHS[0])
    config = folder.object(name)
    return {
        "max_length": _count(folder.path / name, config, "max_seq_length"),
        "do_lower_case": config.get("do_lower_case") is True,
    }


def _prompts(root: Folder) -> dict[str, Any]:
    path, config = root.path / PROMPTS, root.object(PROMPTS)
    prompts = config.get("prompts") or {}
    if not isinstance(prompts, dict) or not all(isinstance(text, (str, type(None))) for text in prompts.values()):
        raise CheckpointError(f"{path}: prompts is {prompts!r:.80}; expected each name mapped to a text")
    prompts = {"query": "", "document": ""} | {name: text or "" for name, text in prompts.items()}
    default = config.get("default_prompt_name")
    if default is not None and default not in prompts:
        raise CheckpointError(f"{path}: default_prompt_name is {default!r:.80}; its prompts are {', '.join(prompts)}")
    return {"prompts": prompts, "default_prompt_name": default, "truncate_dim": _count(path, config, "truncate_dim")}


def _count(path: "os.PathLike[str]", config: Mapping[str, Any], name: str) -> int | None:
    value = config.get(name)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise CheckpointError(f"{path}: {name} is {value!r:.80}; expected a whole number above 0")
    return value
