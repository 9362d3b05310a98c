"""A LoRA adapter beside a model (Hu et al. 2021, arXiv:2106.09685), merged into its weights as they are read.

Written by the library peft: adapter_config.json and adapter_model.safetensors. A weight W [out, in] becomes
W + scale * B @ A, with A [r, in] and B [out, r]; modules that were trained whole take the place of the model's.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..distilbert.encoder import Array
from ..errors import CheckpointError
from .bert import distilbert_name
from .folder import Folder
from .tensors import TensorFile, is_finite

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = re.compile(r"^base_model\.model\.")
# Settings that say how an adapter was trained, or that the names of its tensors say again.
HARMLESS = {
    "adapter_layers",
    "auto_mapping",
    "base_model_name_or_path",
    "exclude_modules",
    "fan_in_fan_out",  # of layers that store [in, out]; peft itself leaves it out of account for torch's, and so here
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "lora_dropout",
    "megatron_core",
    "modules_to_save",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
}
READ = {"peft_type", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "bias", "init_lora_weights"}
# These leave the model's own weights as they are; others (pissa, olora, ...) change them too.
STARTS = (None, True, False, "gaussian", "orthogonal", "eva", "lora_ga")


@dataclass(frozen=True)
class Adapter:
    """What is to be done to the weights of a model.

    Attributes:
        base: the model that it was trained on, as adapter_config.json names it.
        rank: r of its low-rank products.
        low_rank: name of a weight -> (B * scale, A).
        replaced: name of a tensor -> the one that takes its place.
        file: where the tensors are from.
    """

    base: str
    rank: int
    low_rank: Mapping[str, tuple[Array, Array]] = field(repr=False)
    replaced: Mapping[str, Array] = field(repr=False)
    file: TensorFile = field(repr=False)

    def merged(self, name: str, weight: Array) -> Array:
        """A tensor of the model with the adapter in it."""
        if name in self.replaced:
            return self.replaced[name]
        if name in self.low_rank:
            b, a = self.low_rank[name]
            product = np.zeros(weight.shape, np.float32)
            for column, row in zip(b.T, a, strict=True):  # a BLAS adds up in an order that depends on the processor
                product += np.outer(column, row)
            return weight.astype(np.float32, copy=False) + product
        return weight


def read_adapter(folder: Folder, model_type: str) -> Adapter | None:
    """The adapter of a directory, where it has one.

    Raises:
        CheckpointError: another kind of adapter, named, or one that is broken.
    """
    if not folder.has(CONFIG):
        return None
    path, config = folder.path / CONFIG, folder.object(CONFIG)
    if (kind := config.get("peft_type")) != "LORA":
        raise CheckpointError(f"{path}: peft_type is {kind!r:.80}; only LORA can be merged. {_advice(folder)}")
    unread = {
        name: value
        for name, value in config.items()
        if value not in (None, False, [], {}) and name not in HARMLESS | READ and name != "corda_config"
    }
    if config.get("init_lora_weights") not in STARTS:
        unread["init_lora_weights"] = config["init_lora_weights"]
    if config.get("bias", "none") != "none":
        unread["bias"] = config["bias"]
    if unread:
        found = ", ".join(f"{name} = {value!r:.80}" for name, value in sorted(unread.items()))
        raise CheckpointError(f"{path} has {found:.300}; plain LoRA and rsLoRA can be merged. {_advice(folder)}")
    if not folder.has(WEIGHTS):
        raise CheckpointError(f"{folder.path} has {CONFIG} and lacks {WEIGHTS}")
    file = TensorFile(folder, WEIGHTS)
    pairs: dict[str, dict[str, Array]] = {}
    replaced: dict[str, Array] = {}
    for tensor in file.shapes:
        array = file.read(tensor).astype(np.float32, copy=False)
        if not is_finite(array):
            raise CheckpointError(f"{file.path} has NaN or infinity in {tensor}")
        name = PREFIX.sub("", tensor).removeprefix(f"{model_type}.")
        if match := re.fullmatch(r"(.+)\.lora_(embedding_)?([AB])(?:\.weight)?", name):
            # An embedding's pair is stored the other way round: its table has a row a word.
            pairs.setdefault(match[1], {})[match[3]] = array.T if match[2] else array
        elif ".lora_" in name or "base_layer" in name:
            raise CheckpointError(f"{file.path} has {tensor}, which is no part of plain LoRA. {_advice(folder)}")
        else:
            name = name.replace(".modules_to_save.default", "")
            replaced[distilbert_name(name) if model_type == "bert" else name] = array
    low_rank = {}
    for module, pair in pairs.items():
        if set(pair) != {"A", "B"}:
            raise CheckpointError(f"{file.path} has one half only of the pair for {module}")
        a, b = pair["A"], pair["B"]
        if "embeddings" in module:
            a, b = b, a
        if a.ndim != 2 or b.ndim != 2 or len(a) != b.shape[1]:
            raise CheckpointError(f"{file.path}: the pair for {module} has the shapes {a.shape} and {b.shape}")
        name = f"{module}.weight"
        low_rank[distilbert_name(name) if model_type == "bert" else name] = (
            b * np.float32(_scale(config, path, module, len(a))),
            a,
        )
    return Adapter(str(config.get("base_model_name_or_path")), _number(config, path, "r"), low_rank, replaced, file)


def _advice(folder: Folder) -> str:
    return f"Merge it with peft's merge_and_unload() and save the model, or take {CONFIG} out of {folder.path}"


def _number(config: Mapping[str, Any], path: Any, name: str) -> Any:
    value = config.get(name, 8)  # as peft has it where nothing is said
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < 2**20:
        raise CheckpointError(f"{path}: {name} is {value!r:.80}; expected a number above 0")
    return value


def _scale(config: Mapping[str, Any], path: Any, module: str, rank: int) -> float:
    """lora_alpha / r, or with rsLoRA (Kalajdzievski 2023, arXiv:2312.03732) lora_alpha / sqrt(r)."""
    patterns = config.get("alpha_pattern") or {}
    own = next((alpha for pattern, alpha in patterns.items() if re.match(rf"(.*\.)?({pattern})$", module)), None)
    alpha = _number(config, path, "lora_alpha") if own is None else _number({"lora_alpha": own}, path, "lora_alpha")
    return float(alpha / (rank**0.5 if config.get("use_rslora") else rank))
