"""A model directory, as the Hugging Face Hub has it -> one object, checked by name, shape, type and value."""

import hashlib
import os
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import numpy as np
from tokenizers import Tokenizer, normalizers

from ..distilbert.encoder import Array, Params
from ..distilbert.heads import SHAPES
from ..errors import CheckpointError
from ..forks import loading, loads
from .adapter import CONFIG as ADAPTER_CONFIG
from .adapter import Adapter, read_adapter
from .bert import DECODER_BIAS, POOLER, TYPES, bert_name, distilbert_name, with_types
from .config import Config, architecture_of
from .folder import Folder, printable
from .sentence import Dense, SentenceEncoder, read_modules
from .tensors import TensorFile, is_finite, listed
from .tokenizer import FILES as TOKENIZER_FILES
from .tokenizer import Tokenization, read_tokenization

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
TABLES = ("embeddings.word_embeddings.weight", "embeddings.position_embeddings.weight", TYPES)
# Buffers that older versions of transformers saved: 0, 1, 2, ... and zeros.
IGNORED = {"embeddings.position_ids", "embeddings.token_type_ids"}
Self = TypeVar("Self")
COMPILED = "_orig_mod."  # what torch.compile puts into names


class Weights:
    """The tensors of a model's files, with an adapter merged, by DistilBERT's names without the prefix.

    A tensor is read when it is asked for and not held, so that an engine that packs it need not share memory with a
    second copy; while anybody holds it, that one is given again.
    """

    def __init__(self, files: Sequence[TensorFile], adapter: Adapter | None, model_type: str) -> None:
        self.files, self.adapter = files, adapter
        self.places: dict[str, tuple[TensorFile, str]] = {}
        self.renamed: set[str] = set()
        self.shapes: dict[str, tuple[int, ...]] = {}
        for file in files:
            for tensor, shape in file.shapes.items():
                name = tensor.replace(COMPILED, "")
                if name != tensor:
                    self.renamed.add(tensor)
                name = name.removeprefix(f"{model_type}.")
                if name.endswith((".gamma", ".beta")):  # the names of TensorFlow
                    name = name.replace(".gamma", ".weight").replace(".beta", ".bias")
                if model_type == "bert":
                    name = distilbert_name(name)
                if name in IGNORED:
                    continue
                if name in self.places:
                    raise CheckpointError(f"{file.path}: {name} is there twice")
                self.places[name], self.shapes[name] = (file, tensor), shape
        if model_type == "bert" and DECODER_BIAS in self.places:
            place, shape = self.places.pop(DECODER_BIAS), self.shapes.pop(DECODER_BIAS)
            self.places.setdefault("vocab_projector.bias", place)
            self.shapes.setdefault("vocab_projector.bias", shape)
        if adapter:
            self.shapes |= {name: array.shape for name, array in adapter.replaced.items()}
        self.held: list[Array] = []  # what is wanted again soon
        self._shared: WeakValueDictionary[str, Array] = WeakValueDictionary()

    def read(self, name: str) -> Array:
        """A tensor: float32, or int8; embedding tables that are stored so stay float16.

        Raises:
            CheckpointError: a type that is no weight's, or a file that has changed since it was opened.
        """
        array = self._shared.get(name)
        if array is None:
            own = self.adapter.replaced.get(name) if self.adapter else None
            if own is None:
                file, tensor = self.places[name]
                own = file.read(tensor)
                if own.dtype == np.float64 or (own.dtype == np.float16 and name not in TABLES):
                    with np.errstate(over="ignore"):  # becomes infinity, which is refused
                        own = own.astype(np.float32)
                own = self.adapter.merged(name, own) if self.adapter else own
            self._shared[name] = array = own
        return array

    def alias(self, name: str, of: str) -> None:
        """Give a tensor a second name."""
        self.places[name], self.shapes[name] = self.places[of], self.shapes[of]

    def tree(self, names: Iterable[str]) -> Params:
        """Dotted names as nested dicts of arrays."""
        root: Params = {}
        for name in names:
            *parents, leaf = name.split(".")
            node = root
            for parent in parents:
                node = node.setdefault(parent, {})
            node[leaf] = self.read(name)
        return root

    def types(self) -> str:
        """The types that tensors are stored in, as the format calls them."""
        return ", ".join(sorted({kind for file in self.files for kind in file.dtypes.values()}))


class Unchanging:
    """What never changes, so that a copy of it is itself, however deep, and shares the weights."""

    def __copy__(self: Self) -> Self:
        return self

    def __deepcopy__(self: Self, memo: Any) -> Self:
        return self


@dataclass(frozen=True, eq=False)
class Checkpoint(Unchanging):
    """What a model directory holds: all of it is read when this is made, and nothing of it changes afterwards.

    A pickle of it is its directory and its fingerprint, and of the bundled model the fingerprint alone: where it is
    loaded, the directory must hold the same files.

    Attributes:
        directory: where it is, from the root of the file system on.
        config: sizes, labels and head.
        embeddings: the part of `params` of that name. A BERT's token types are in its positions (bert.py).
        head: the parameters of the head that `config.architecture` names.
        own_tokenization: the tokenizer and what goes with it; None where the directory has none.
        sentence: how sentence-transformers makes vectors with it; None where it is not one of these directories.
        adapter: the LoRA adapter that is merged into the weights, if there is one.
        encoder_folder: where in the directory the model itself is; "" unless modules.json says otherwise.
        files: what was read besides weights, by path inside the directory: SHA-256.
        weights: the tensors.
        module_files: with the weights of `sentence.modules`.
    """

    directory: Path
    config: Config
    embeddings: Params = field(repr=False)
    head: Params = field(repr=False)
    own_tokenization: Tokenization | None
    sentence: SentenceEncoder | None
    adapter: Adapter | None
    encoder_folder: str
    files: Mapping[str, str] = field(repr=False)
    weights: Weights = field(repr=False)
    module_files: Sequence[TensorFile] = field(repr=False)

    @property
    def params(self) -> Params:
        """The encoder's tree as `encoder.encode` takes it.

        Embedding tables have the type of the file (float32, float16, or int8 with a `weight_scale`); all else is
        float32, but for the weights of int8 layers. The blocks are read anew where nobody holds them.

        Raises:
            CheckpointError: the files have changed since they were loaded.
        """
        names = [name for name in self.weights.shapes if name.startswith("transformer.layer.")]
        layer = self.weights.tree(names)["transformer"]["layer"]
        return {"embeddings": self.embeddings, "layer": [layer[str(i)] for i in range(self.config.n_layers)]}

    @property
    def name(self) -> str:
        """The last part of the directory's path, of characters that can be printed."""
        return printable(self.directory.name)

    @property
    def size(self) -> int:
        """Bytes of the weights on disk."""
        return sum(file.size for file in self.weights.files)

    @property
    def tokenization(self) -> Tokenization:
        """The tokenizer and what goes with it.

        Raises:
            CheckpointError: the directory has none; token ids can be used without.
        """
        if self.own_tokenization is None:
            raise CheckpointError(
                f"{self.directory / self.encoder_folder} has neither {' nor '.join(TOKENIZER_FILES)}, so texts cannot "
                "become token ids"
            )
        return self.own_tokenization

    @property
    def tokenizer(self) -> Tokenizer:
        """The `tokenizers.Tokenizer`; neither truncates nor pads.

        Raises:
            CheckpointError: the directory has none; token ids can be used without.
        """
        return self.tokenization.tokenizer

    @property
    def max_length(self) -> int:
        """Tokens, special ones included, at which a text is cut where cutting is asked for.

        What sentence-transformers or the tokenizer say, and never more than the model has positions for.
        """
        own = self.sentence.max_length if self.sentence else None
        tokenizer = self.own_tokenization.max_length if self.own_tokenization else None
        return min(own or tokenizer or 2**31, self.config.max_position_embeddings)

    @property
    def has_token_types(self) -> bool:
        """Whether tokens of a pair's second text are told from the first's: in a BERT, unless its tokenizer does not.

        So it is with the tokenizer class of DistilBERT, for one.
        """
        given = self.own_tokenization.token_types if self.own_tokenization else True
        return self.config.model_type == "bert" and given

    @property
    def special_tokens(self) -> Mapping[str, str]:
        """Role ("mask_token", "unk_token", ...) -> token, as far as the tokenizer has them."""
        return self.own_tokenization.special_tokens if self.own_tokenization else {}

    @property
    def special_ids(self) -> dict[str, int | None]:
        """Role -> the token's number."""
        return {role: self.tokenizer.token_to_id(token) for role, token in self.special_tokens.items()}

    def release(self) -> None:
        """Let go of what an engine may have packed; `params` reads it again."""
        self.weights.held = []

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that was read, the same for the same files wherever they lie; worked out when asked for.

        Raises:
            CheckpointError: weights have changed since they were loaded.
        """
        found = dict(self.files)
        adapter = [self.adapter.file] if self.adapter else []
        for file in (*self.weights.files, *self.module_files, *adapter):
            found[file.path.relative_to(self.directory).as_posix()] = file.digest()
        lines = "".join(f"{digest} {name}\n" for name, digest in sorted(found.items()))
        return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()

    def __reduce__(self) -> tuple[Any, ...]:
        with loading:
            from .hub import bundled_model

        try:
            bundled = self.directory.samefile(bundled_model())
        except (CheckpointError, OSError):
            bundled = False
        return read_again, (None if bundled else os.fspath(self.directory), self.fingerprint)


@loads
def read_checkpoint(directory: str | os.PathLike[str]) -> Checkpoint:
    """Read and check a model directory.

    Raises:
        CheckpointError: anything missing, broken, of another shape or type, or not finite; says all of it at once.

    Example:
        >>> import npdistil
        >>> checkpoint = npdistil.read_checkpoint(npdistil.bundled_model())
        >>> checkpoint.config.labels, checkpoint.params["embeddings"]["word_embeddings"]["weight"].shape
        (('NEGATIVE', 'POSITIVE'), (30522, 384))
    """
    directory = Path(directory)
    if not os.path.isdir(directory):  # noqa: PTH112 - Path.is_dir raises for names that are too long
        raise CheckpointError(f"{directory} is not a directory with a model: expected config.json and {SINGLE} in it")
    directory = directory.absolute()
    root = Folder(directory)
    folder, sentence, module_files = read_modules(root)
    if folder.has(ADAPTER_CONFIG) and not folder.has("config.json"):
        base = folder.object(ADAPTER_CONFIG).get("base_model_name_or_path")
        raise CheckpointError(
            f"{folder.path} holds an adapter, not a model: put {ADAPTER_CONFIG} and its weights beside config.json and "
            f"{SINGLE} of the model that it belongs to, {base!r:.200}"
        )
    raw = folder.object("config.json", needed=True)
    config = Config.from_dict(raw, str(folder.path / "config.json"))
    adapter = read_adapter(folder, config.model_type)
    if adapter and config.quantized:
        raise CheckpointError(f"{folder.path} is int8 and has an adapter; merge the adapter into the float model first")
    weights = Weights([TensorFile(folder, name) for name in weight_names(folder)], adapter, config.model_type)
    if not raw.get("architectures"):
        config = replace(config, architecture=architecture_of(weights.shapes))
    if config.architecture == "DistilBertForMaskedLM":
        config = replace(config, tied=_is_tied(config, weights, folder))
    names = _checked(config, weights, folder)
    tree = weights.tree(name for name in names if not name.startswith("transformer."))
    if config.model_type == "bert":
        table = with_types(tree["embeddings"]["position_embeddings"], tree["embeddings"].pop("token_type_embeddings"))
        tree["embeddings"]["position_embeddings"] = {"weight": table}
    if sentence:
        _check_widths(config, sentence, root)
    has_tokenizer = any(folder.has(name) for name in TOKENIZER_FILES)
    class_name = raw.get("tokenizer_class")
    if not class_name and config.model_type == "bert":
        class_name = "BertTokenizer"
    tokenization = read_tokenization(folder, config.vocab_size, class_name) if has_tokenizer else None
    if tokenization and sentence and sentence.do_lower_case:
        own = tokenization.tokenizer.normalizer
        steps = [normalizers.Lowercase(), *([own] if own else [])]
        tokenization.tokenizer.normalizer = normalizers.Sequence(steps)
    return Checkpoint(
        directory=directory,
        config=config,
        embeddings=tree["embeddings"],
        head=_head(config, tree),
        own_tokenization=tokenization,
        sentence=sentence,
        adapter=adapter,
        encoder_folder=folder.path.relative_to(root.path).as_posix() if folder is not root else "",
        files=dict(root.digests),
        weights=weights,
        module_files=module_files,
    )


def read_again(directory: str | None, fingerprint: str) -> Checkpoint:
    """The checkpoint that a pickle stands for; None is the bundled model.

    Raises:
        CheckpointError: the directory is gone, or its files are not those that were pickled.
    """
    with loading:
        from .hub import bundled_model
    path = bundled_model() if directory is None else Path(directory)
    if not os.path.isdir(path):  # noqa: PTH112 - as in `read_checkpoint`
        raise CheckpointError(
            f"{path} is gone: a pickle of a model names its directory and does not hold it; put the directory there, "
            "or load the model from where it is"
        )
    found = read_checkpoint(path)
    if found.fingerprint != fingerprint:
        raise CheckpointError(
            f"{path} has changed since its model was pickled: its files have the fingerprint {found.fingerprint:.12}, "
            f"and the pickle says {fingerprint:.12}; load the model again and pickle that"
        )
    return found


def weight_names(folder: Folder) -> list[str]:
    """The safetensors files of a model: one, or the shards that an index names."""
    path = folder.path
    if folder.has(SINGLE):
        return [SINGLE]
    if folder.has(INDEX):
        index = folder.json(INDEX)
        weight_map = index.get("weight_map") if isinstance(index, dict) else None
        if not isinstance(weight_map, dict) or not weight_map:
            raise CheckpointError(f"{path / INDEX} has no weight_map, which should name a file for each tensor")
        names = sorted({str(name) for name in weight_map.values()})
        if strange := [name for name in names if Path(name).name != name]:
            raise CheckpointError(f"{path / INDEX} names files outside of its folder: {', '.join(strange)}")
        if missing := [name for name in names if not folder.has(name)]:
            raise CheckpointError(f"{path} lacks shards that its index names: {', '.join(missing)}")
        return names
    if pickled := [*path.glob("*.bin"), *path.glob("*.pt"), *path.glob("*.pth")]:
        raise CheckpointError(
            f"{pickled[0]} is a pickle, which can run any code when it is opened, and is not read. "
            "Convert it once, where torch and transformers are installed: python -c 'import sys; from transformers "
            "import AutoModelForSequenceClassification as M; "
            f"M.from_pretrained(sys.argv[1]).save_pretrained(sys.argv[1])' {path}"
        )
    raise CheckpointError(f"{path} has neither {SINGLE} nor {INDEX}")


def expected_shapes(config: Config, scales: set[str]) -> dict[str, tuple[int, ...]]:
    """Name -> shape of each tensor that a checkpoint of this configuration has, without the prefix.

    `scales` are the names among these that end in `weight_scale` and are there: those layers are int8.
    """
    sizes = {"D": config.dim, "F": config.hidden_dim, "V": config.vocab_size, "C": len(config.labels)}
    shapes: dict[str, tuple[int, ...]] = {
        TABLES[0]: (config.vocab_size, config.dim),
        TABLES[1]: (config.max_position_embeddings, config.dim),
    }
    if config.model_type == "bert":
        shapes[TYPES] = (config.type_vocab_size, config.dim)
    linears: dict[str, tuple[Any, Any]] = dict(SHAPES[config.architecture])
    norms = ["embeddings.LayerNorm"]
    for i in range(config.n_layers):
        layer = f"transformer.layer.{i}"
        linears |= {f"{layer}.attention.{name}": ("D", "D") for name in ("q_lin", "k_lin", "v_lin", "out_lin")}
        linears |= {f"{layer}.ffn.lin1": ("F", "D"), f"{layer}.ffn.lin2": ("D", "F")}
        norms += [f"{layer}.sa_layer_norm", f"{layer}.output_layer_norm"]
        if config.quantized:
            scales = scales | {f"{name}.weight_scale" for name in linears if name.startswith(layer)}
    if "vocab_projector" in linears:
        norms.append("vocab_layer_norm")
    for name, letters in linears.items():
        out, width = (sizes.get(letter, letter) for letter in letters)
        shapes |= {f"{name}.weight": (out, width), f"{name}.bias": (out,)}
    for name in norms:
        shapes |= {f"{name}.weight": (config.dim,), f"{name}.bias": (config.dim,)}
    if config.tied:
        shapes.pop("vocab_projector.weight", None)
    if config.quantized:
        weights = {name.removesuffix("_scale") for name in scales}
        shapes |= {f"{name}_scale": (shape[0], 1) for name, shape in shapes.items() if name in weights}
    return shapes


def _is_tied(config: Config, weights: Weights, folder: Folder) -> bool:
    """Whether the projector of a masked LM is the table of word embeddings.

    A file may have both although config.json says that they are one: where they differ, each is used, and where only
    the projector is there it is the table too, as in transformers.
    """
    table, projector = TABLES[0], "vocab_projector.weight"
    if not config.tied or config.quantized or projector not in weights.shapes:
        return config.tied
    if table not in weights.shapes:
        weights.alias(table, projector)
        return True
    if weights.shapes[table] != weights.shapes[projector] or np.array_equal(
        weights.read(table), weights.read(projector)
    ):
        return True
    warnings.warn(
        f"{folder.path} has a {projector} that is not its word embeddings, although config.json says that they are "
        "tied; it is used as it is, as in transformers",
        stacklevel=3,
    )
    return False


def _checked(config: Config, weights: Weights, folder: Folder) -> Collection[str]:
    """The names of the tensors that a model of this configuration has, once each was found as it should be."""
    shapes = dict(weights.shapes)
    if config.tied:
        shapes.pop("vocab_projector.weight", None)
    if config.model_type == "bert" and POOLER.rstrip(".") not in SHAPES[config.architecture]:  # it is often there
        shapes = {name: shape for name, shape in shapes.items() if not name.startswith(POOLER)}
    expected = expected_shapes(config, {name for name in shapes if name.endswith("weight_scale")})
    int8 = {name for name in expected if f"{name}_scale" in expected}
    beside = {name: list(shape) for name, shape in shapes.items() if name not in expected}
    inside = {name for name in beside if name.startswith(("transformer.", "embeddings."))}
    adapted = weights.adapter.low_rank if weights.adapter else {}
    right = [name for name, shape in expected.items() if shapes.get(name) == shape]
    wrong: dict[str, dict[str, object]] = {
        "missing": {name: list(shape) for name, shape in expected.items() if name not in shapes},
        "unexpected": {name: shape for name, shape in beside.items() if name in inside},
        "of another shape": {
            name: f"{list(shapes[name])} for {list(shape)}"
            for name, shape in expected.items()
            if name in shapes and shapes[name] != shape
        },
        "that the adapter has and the model has not": {
            name: [len(b), a.shape[1]] for name, (b, a) in adapted.items() if expected.get(name) != (len(b), a.shape[1])
        },
        "of the wrong type": {},
        "not finite": {},
    }
    if not wrong["that the adapter has and the model has not"]:
        weights.held = [weights.read(name) for name in right]  # until an engine has what it needs
        for name, array in zip(right, weights.held, strict=True):
            if (array.dtype == np.int8) != (name in int8):
                wrong["of the wrong type"][name] = f"{array.dtype} for {'int8' if name in int8 else 'a float'}"
            elif not is_finite(array):
                wrong["not finite"][name] = "NaN or infinity"
    shown = bert_name if config.model_type == "bert" else str
    stray: dict[str, object] = {shown(name): shape for name, shape in beside.items() if name not in inside}
    named = {what: {shown(name): said for name, said in names.items()} for what, names in wrong.items() if names}
    if found := "; ".join(f"{what}: {listed(names)}" for what, names in named.items()):
        also = f"; unexpected: {listed(stray)}" if stray else ""
        raise CheckpointError(
            f"{folder.path} does not hold the {config.class_name} that its config.json says: {found}{also}"
        )
    if stray:
        warnings.warn(
            f"{folder.path} has tensors that are no part of a {config.class_name}, and are left out: {listed(stray)}",
            stacklevel=3,
        )
    if weights.renamed:
        warnings.warn(
            f"{folder.path} has {len(weights.renamed)} tensors with {COMPILED} in their names, which torch.compile "
            "puts there; they are read without",
            stacklevel=3,
        )
    return expected


def _check_widths(config: Config, sentence: SentenceEncoder, root: Folder) -> None:
    """That each linear layer behind the pooling takes what comes before it."""
    width = config.dim * len(sentence.pooling.split("+"))
    for module in sentence.modules:
        if isinstance(module, Dense):
            out, into = module.params["weight"].shape
            if into != width:
                raise CheckpointError(f"{root.path} has a Dense module that takes {into} numbers, and is given {width}")
            width = out


def _head(config: Config, tree: Params) -> Params:
    head = {name: layer for name, layer in tree.items() if name != "embeddings"}
    if config.tied and "vocab_projector" in head:
        head["vocab_projector"] |= tree["embeddings"]["word_embeddings"]
    return {name: dequantized(layer) for name, layer in head.items()}


def dequantized(layer: Params) -> Params:
    """An int8 layer as the float32 layer that it stands for; any other with its weight in float32."""
    weight = layer["weight"].astype(np.float32, copy=False)
    if "weight_scale" in layer:
        weight = weight * layer["weight_scale"]
    return {"weight": weight} | {name: array for name, array in layer.items() if not name.startswith("weight")}
