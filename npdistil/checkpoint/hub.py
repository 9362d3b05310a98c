"""Model names -> directories: the bundled model, a path, or a name on the Hugging Face Hub."""

import os
import re
import warnings
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, InputError, MissingExtraError
from ..forks import loading
from ..settings import Kind, check, flag, shown, string
from .folder import Folder
from .sentence import MODULES, read_modules
from .tokenizer import FILES as TOKENIZER_FILES
from .weights import weight_names

BUNDLED = "minilm-l6-sst2"
CARDS_NAME = "en.classify.distilbert_sequence.sst2"  # by which a classifier of sentiments is loaded beside Spark NLP
PLACE = Kind("expected a directory", lambda value: isinstance(value, (str, os.PathLike)))
TOKEN = Kind("expected a string, True or False", lambda value: isinstance(value, (str, bool)))
HUB_NAME = re.compile(r"(?=.{1,96}$)[\w-][\w.-]*(/[\w-][\w.-]*)?")
WANTED = ("*.json", "*.safetensors", "*vocab.txt")  # of a repository on the Hub, in folders too
TOKENIZER = "a tokenizer"
TRUE = ("1", "ON", "YES", "TRUE")  # as huggingface_hub reads its switches


def bundled_model() -> Path:
    """The directory of the model that comes with this package: in the wheel, or beside the package in its source.

    >>> bundled_model().name
    'minilm-l6-sst2'
    """
    package = Path(__file__).parents[1]
    places = [package / "weights" / BUNDLED, package.parent / "weights" / BUNDLED]
    for place in places:
        if (place / "config.json").exists():
            return place
    raise CheckpointError(f"the bundled model is not installed: it should be in {' or '.join(map(str, places))}")


def find_model(
    path_or_name: str | os.PathLike[str] | None = None,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
) -> Path:
    """The directory of a model: None, or its name, is the bundled one; a directory is itself; else a Hub name.

    The bundled model also stands, with a warning, for the one that NLU and Spark NLP call `CARDS_NAME`.

    A Hub name ("distilbert-base-uncased-finetuned-sst-2-english", "owner/name") is looked up in the Hub's local
    cache, then downloaded with `huggingface_hub`. HF_HUB_OFFLINE=1 forbids the download. A path never touches the
    network.

    Args:
        path_or_name: what is looked for.
        revision: a branch, tag or commit of a Hub name; None is "main". A directory has no other.
        token: for the Hub, as `huggingface_hub` takes it.
        cache_dir: the Hub's cache, where it is not in its own place.
        local_files_only: as HF_HUB_OFFLINE=1.

    Raises:
        CheckpointError: no such directory, or a name that is not in the cache while offline or on the Hub.
        InputError: neither a path nor a name; or an argument that is of another type, or means nothing for it.
        MissingExtraError: a download without `huggingface_hub`.
    """
    check("revision", string(), revision, None)
    check("token", TOKEN, token, None)
    check("cache_dir", PLACE, cache_dir, None)
    check("local_files_only", flag(), local_files_only)
    directory = _directory(path_or_name)
    if directory is not None:
        if revision not in (None, "main"):
            raise InputError(
                f"revision is {shown(revision)}, but {directory} is a directory, which has no revisions: leave it out"
            )
        return directory
    name = str(path_or_name)
    cache = hub_cache() if cache_dir is None else _expanded(Path(cache_dir))
    cached = _in_cache(name, cache, revision or "main")
    missing = _missing(cached) if cached else []
    if cached and not missing:
        return cached
    offline = any(os.environ.get(name, "").upper() in TRUE for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))
    if offline or local_files_only:
        if cached and missing == [TOKENIZER]:
            return cached  # token ids can be used without, and texts get an error that says what is missing
        where = f"neither a directory here nor in the Hub's cache {cache}"
        if cached:
            where = f"in the Hub's cache without {' and '.join(missing)} ({cached})"
        raise CheckpointError(
            f"{name} is {where}, and {'HF_HUB_OFFLINE' if offline else 'local_files_only'} forbids to download it"
        )
    return _download(name, revision=revision, token=token, cache_dir=cache_dir)


def _directory(path_or_name: str | os.PathLike[str] | None) -> Path | None:
    """The directory that is meant; None where it is a name on the Hub."""
    is_text = isinstance(path_or_name, str)
    if is_text and path_or_name in (BUNDLED, CARDS_NAME) and not os.path.exists(path_or_name):  # noqa: PTH110
        if path_or_name == CARDS_NAME:
            warnings.warn(f"{CARDS_NAME} is not what Spark NLP has under it, but the bundled model", stacklevel=4)
        path_or_name = None
    if path_or_name is None:
        return bundled_model()
    if not isinstance(path_or_name, (str, os.PathLike)):
        raise InputError(
            f"the model is a {type(path_or_name).__name__}; expected a directory, a name on the Hub or what "
            "`npdistil.load` returns. A model of torch is saved first, with its tokenizer: "
            "model.save_pretrained(directory), tokenizer.save_pretrained(directory)"
        )
    if is_text and not path_or_name:  # pathlib's is the working directory, and a variable that is not set no model
        raise InputError("the name of the model is empty; expected a directory or a name on the Hub")
    path = _expanded(Path(path_or_name))
    if is_text and HUB_NAME.fullmatch(str(path_or_name)) and not os.path.exists(path):  # noqa: PTH110
        return None
    return path  # whether it holds a model, and exists at all, is for who reads it to say


def _expanded(path: Path) -> Path:
    """The path with the home directory for a tilde.

    Raises:
        CheckpointError: nobody knows where that is: no HOME, and a user without an entry in the system's list.
    """
    try:
        return path.expanduser()
    except RuntimeError:
        raise CheckpointError(
            f"{path} stands for a home directory, and this user has none: set HOME, or give the whole path"
        ) from None


def _missing(snapshot: Path) -> list[str]:
    """What a model in the cache lacks: a download may have been for one file only, or have been broken off."""
    folder = Folder(snapshot)
    try:
        folder = read_modules(folder)[0]
        names = ["config.json", *weight_names(folder)]
        weights = [name for name in names if not (folder.path / name).exists()]  # links may lead nowhere
    except CheckpointError:
        weights = ["its weights"]
    if [*snapshot.glob("*.bin")]:
        weights = []  # a pickle, which is refused with the command that converts it
    tokenizer = any((folder.path / name).exists() for name in TOKENIZER_FILES)
    return weights + ([] if tokenizer else [TOKENIZER])


def hub_cache() -> Path:
    """The Hub's cache directory, found as huggingface_hub finds it.

    Raises:
        CheckpointError: it is in the home directory, and this user has none.
    """
    environ = os.environ
    default_home = Path(environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    home = Path(environ.get("HF_HOME") or default_home)
    cache = environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE") or home / "hub"
    return _expanded(Path(os.path.expandvars(cache)))


def _in_cache(name: str, cache: Path, revision: str) -> Path | None:
    """The snapshot of a branch, tag or commit, where it holds a model."""
    for full_name in (name, f"distilbert/{name}"):  # names without an owner were moved to one
        repository = cache / f"models--{full_name.replace('/', '--')}"
        try:
            commit = (repository / "refs" / revision).read_text().strip()
        except (OSError, ValueError):
            commit = revision
        snapshot = repository / "snapshots" / commit
        if any(os.path.exists(snapshot / name) for name in ("config.json", MODULES)):  # noqa: PTH110 - never raises
            return snapshot
    return None


def _download(name: str, **how: Any) -> Path:
    try:
        with loading:
            from huggingface_hub import snapshot_download
            from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ImportError:
        raise MissingExtraError("huggingface_hub", "hub") from None
    try:
        return Path(snapshot_download(name, allow_patterns=list(WANTED), **how))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"{name} is not a directory here, and could not be had from the Hugging Face Hub: {reason}"
        ) from None
