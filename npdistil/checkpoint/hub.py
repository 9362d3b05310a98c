"""Model names -> directories: the bundled model, a path, or a name on the Hugging Face Hub."""

import os
import re
from pathlib import Path

from ..errors import CheckpointError, MissingExtraError

BUNDLED = "minilm-l6-sst2"
HUB_NAME = re.compile(r"(?=.{1,96}$)[\w-][\w.-]*(/[\w-][\w.-]*)?")
WANTED = ("*.json", "*.safetensors", "vocab.txt")  # of a repository on the Hub
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


def find_model(path_or_name: str | os.PathLike[str] | None = None) -> Path:
    """The directory of a model: None is the bundled one; a directory is itself; else a Hub name.

    A Hub name ("distilbert-base-uncased-finetuned-sst-2-english", "owner/name") is looked up in the Hub's local
    cache, then downloaded with `huggingface_hub`. HF_HUB_OFFLINE=1 forbids the download. A path never touches the
    network.

    Raises:
        CheckpointError: no such directory, or a name that is not in the cache while offline or on the Hub.
        MissingExtraError: a download without `huggingface_hub`.
    """
    if path_or_name is None:
        return bundled_model()
    path = Path(path_or_name).expanduser()
    if not isinstance(path_or_name, str) or not HUB_NAME.fullmatch(path_or_name) or os.path.exists(path):  # noqa: PTH110
        return path  # whether it holds a model, and exists at all, is for who reads it to say
    if cached := _in_cache(path_or_name):
        return cached
    if any(os.environ.get(name, "").upper() in TRUE for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")):
        raise CheckpointError(
            f"{path_or_name} is neither a directory here nor in the Hub's cache {hub_cache()}, and HF_HUB_OFFLINE "
            "forbids to download it"
        )
    return _download(path_or_name)


def hub_cache() -> Path:
    """The Hub's cache directory, found as huggingface_hub finds it."""
    environ = os.environ
    default_home = Path(environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    home = Path(environ.get("HF_HOME") or default_home)
    cache = environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE") or home / "hub"
    return Path(os.path.expandvars(cache)).expanduser()


def _in_cache(name: str) -> Path | None:
    """The snapshot that the cache's main branch points to, where it holds a model."""
    for full_name in (name, f"distilbert/{name}"):  # names without an owner were moved to one
        repository = hub_cache() / f"models--{full_name.replace('/', '--')}"
        try:
            commit = (repository / "refs" / "main").read_text().strip()
        except OSError:
            continue
        snapshot = repository / "snapshots" / commit
        if (snapshot / "config.json").exists():
            return snapshot
    return None


def _download(name: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ImportError:
        raise MissingExtraError("huggingface_hub", "hub") from None
    try:
        return Path(snapshot_download(name, allow_patterns=list(WANTED)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"{name} is not a directory here, and could not be had from the Hugging Face Hub: {reason}"
        ) from None
