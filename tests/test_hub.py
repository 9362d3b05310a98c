"""Names and paths -> directories: the Hub's local cache, and when the network may be touched."""

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tiny

import npdistil
from npdistil.checkpoint.hub import bundled_model, find_model, hub_cache
from npdistil.errors import CheckpointError, InputError, MissingExtraError

Make = Callable[..., Path]
VARIABLES = (
    "HF_HOME",
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "XDG_CACHE_HOME",
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
)
COMMIT = "0123456789abcdef0123456789abcdef01234567"

# Any socket ends the run, with a code of its own.
NO_NETWORK = """
import sys
def refuse(event, arguments):
    if event.startswith("socket."):
        import os
        os.write(2, f"network: {event} {arguments}".encode())
        os._exit(77)
sys.addaudithook(refuse)
"""
FIND = """
import npdistil
try:
    print(npdistil.load(sys.argv[1], engine="numpy").checkpoint.directory)
except npdistil.NpdistilError as error:
    print(type(error).__name__, error)
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the test's own, and no variable of the user's."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    directory = tmp_path / "cache"
    monkeypatch.setenv("HF_HUB_CACHE", str(directory))
    return directory


def put(cache: Path, name: str, commit: str = COMMIT) -> Path:
    """A model in the layout of the Hub's cache: blobs, snapshots that link to them, and a branch."""
    repository = cache / f"models--{name.replace('/', '--')}"
    blobs = tiny.write(repository / "blobs")
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    for blob in blobs.iterdir():
        (snapshot / blob.name).symlink_to(Path("..") / ".." / "blobs" / blob.name)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    return snapshot


def alone(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if name not in VARIABLES} | environment
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=environ,
    )


# The cache


def test_a_name_in_the_cache_is_the_snapshot_of_its_main_branch(cache: Path) -> None:
    snapshot = put(cache, "someone/some-model_1.0")
    old = snapshot.parent / "old"
    old.mkdir()
    assert find_model("someone/some-model_1.0") == snapshot
    assert npdistil.load("someone/some-model_1.0", engine="numpy").predict(["good"]).shape == (1,)


def test_a_name_without_an_owner_is_found_under_its_old_and_its_new_place(cache: Path) -> None:
    new = put(cache, "distilbert/distilbert-base-uncased-finetuned-sst-2-english")
    assert find_model("distilbert-base-uncased-finetuned-sst-2-english") == new
    old = put(cache, "distilbert-base-uncased-finetuned-sst-2-english")
    assert find_model("distilbert-base-uncased-finetuned-sst-2-english") == old


def test_a_trailing_line_break_in_the_branch_is_no_part_of_it(cache: Path) -> None:
    snapshot = put(cache, "a/b")
    (snapshot.parents[1] / "refs" / "main").write_text(f"{COMMIT}\n")
    assert find_model("a/b") == snapshot


@pytest.mark.parametrize("broken", ["no branch", "no snapshot", "no config.json"])
def test_a_cache_that_holds_a_name_only_in_part_is_not_used(
    cache: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    snapshot = put(cache, "a/b")
    if broken == "no branch":
        (snapshot.parents[1] / "refs" / "main").unlink()
    elif broken == "no snapshot":
        snapshot.rename(snapshot.with_name("elsewhere"))
    else:
        (snapshot / "config.json").unlink()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CheckpointError, match="a/b is neither a directory here nor in the Hub's cache"):
        find_model("a/b")


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "home/.cache/huggingface/hub"),
        ({"XDG_CACHE_HOME": "xdg"}, "xdg/huggingface/hub"),
        ({"XDG_CACHE_HOME": "xdg", "HF_HOME": "hf"}, "hf/hub"),
        ({"HF_HOME": "hf", "HUGGINGFACE_HUB_CACHE": "old"}, "old"),
        ({"HF_HOME": "hf", "HUGGINGFACE_HUB_CACHE": "old", "HF_HUB_CACHE": "new"}, "new"),
        ({"HF_HUB_CACHE": ""}, "home/.cache/huggingface/hub"),
        ({"HF_HUB_CACHE": "~/there"}, "home/there"),
        ({"HF_HUB_CACHE": "$HOME/there"}, "home/there"),
    ],
)
def test_the_cache_is_where_huggingface_hub_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: str
) -> None:
    monkeypatch.delenv("HF_HUB_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name, value in variables.items():
        relative = bool(value) and value[0] not in "~$"
        monkeypatch.setenv(name, str(tmp_path / value) if relative else value)
    assert hub_cache() == tmp_path / expected


@pytest.mark.parametrize("variables", [{}, {"HF_HOME": "/x"}, {"HF_HUB_CACHE": "~/y"}, {"XDG_CACHE_HOME": "/z"}])
def test_huggingface_hub_itself_looks_in_the_same_place(variables: dict[str, str]) -> None:
    pytest.importorskip("huggingface_hub")
    code = (
        "from huggingface_hub.constants import HF_HUB_CACHE; from npdistil.checkpoint.hub import hub_cache; "
        "print(HF_HUB_CACHE); print(hub_cache())"
    )
    done = alone(code, **variables)
    theirs, ours = done.stdout.splitlines()
    assert ours == theirs, done.stderr


# The network


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
@pytest.mark.parametrize("value", ["1", "true", "YES", "on"])
def test_offline_opens_no_socket(tmp_path: Path, variable: str, value: str) -> None:
    settings = {variable: value, "HF_HUB_CACHE": str(tmp_path / "none")}
    done = alone(NO_NETWORK + FIND, "someone/not-there", **settings)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(
        "CheckpointError someone/not-there is neither a directory here nor in the Hub's cache"
    )


def test_a_name_in_the_cache_opens_no_socket(cache: Path) -> None:
    snapshot = put(cache, "a/b")
    done = alone(NO_NETWORK + FIND, "a/b", HF_HUB_CACHE=str(cache))
    assert done.stdout == f"{snapshot}\n", done.stderr


@pytest.mark.parametrize("path", ["./no/such", "/no/such", "no/such/model", "../such", "~/no-such", "such/", "."])
def test_a_path_opens_no_socket_even_where_nothing_is_there(cache: Path, path: str) -> None:
    done = alone(NO_NETWORK + FIND, path, HF_HUB_CACHE=str(cache))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("CheckpointError ")


def test_a_name_that_is_nowhere_does_reach_for_the_network(cache: Path) -> None:
    """The proof that the tests above can fail."""
    pytest.importorskip("huggingface_hub")
    done = alone(NO_NETWORK + FIND, "someone/not-there", HF_HUB_CACHE=str(cache))
    assert (done.returncode, done.stderr[:8]) == (77, "network:")


def test_a_hub_that_cannot_be_reached_is_one_clear_error(cache: Path) -> None:
    pytest.importorskip("huggingface_hub")
    refused = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_CACHE": str(cache)}
    done = alone("import sys" + FIND, "someone/not-there", **refused)
    assert done.stdout.startswith("CheckpointError someone/not-there is not a directory here, and could not be had")
    assert done.stdout.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_a_download_without_huggingface_hub_names_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r'huggingface_hub.*pip install "npdistil\[hub\]"'):
        find_model("someone/not-there")


# Paths


def test_a_directory_goes_before_a_name_in_the_cache(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(cache, "a/b")
    tiny.write(tmp_path / "a" / "b")
    monkeypatch.chdir(tmp_path)
    assert find_model("a/b") == Path("a/b")


def test_a_path_object_is_never_a_name(cache: Path) -> None:
    put(cache, "a/b")
    assert find_model(Path("a/b")) == Path("a/b")


def test_a_tilde_is_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    tiny.write(tmp_path / "model")
    assert find_model("~/model") == tmp_path / "model"


@pytest.mark.parametrize("name", ["x" * 97, "x" * 5000, "a b", "a/b/c", "a\x00b", "-\n", "é//"])
def test_what_cannot_be_a_name_is_a_directory_that_is_not_there(name: str) -> None:
    with pytest.raises(CheckpointError, match="not a directory with a model"):
        npdistil.load(name)


def test_an_empty_name_is_refused_and_not_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="the name of the model is empty"):
        find_model("")
    assert find_model(".").samefile(tmp_path)


def test_the_bundled_model_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert bundled_model().is_absolute()
    assert find_model() == find_model(None) == bundled_model()
    assert (bundled_model() / "config.json").exists()


# What is there in part, and a user without a home


@pytest.mark.parametrize("absent", ["model.safetensors", "config.json"])
@pytest.mark.parametrize("way", ["no link", "a link that leads nowhere"])
def test_a_model_that_is_in_the_cache_in_part_is_named_offline(
    cache: Path, monkeypatch: pytest.MonkeyPatch, absent: str, way: str
) -> None:
    snapshot = put(cache, "a/b")
    (snapshot / absent).unlink() if way == "no link" else (snapshot / absent).resolve().unlink()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CheckpointError, match="a/b is .*HF_HUB_OFFLINE forbids to download it") as refused:
        find_model("a/b")
    if absent == "model.safetensors":
        assert "without" in str(refused.value)


@pytest.mark.parametrize("absent", ["model.safetensors", "tokenizer.json"])
def test_what_is_missing_in_the_cache_is_fetched(cache: Path, absent: str) -> None:
    pytest.importorskip("huggingface_hub")
    (put(cache, "a/b") / absent).unlink()
    done = alone(NO_NETWORK + FIND, "a/b", HF_HUB_CACHE=str(cache))
    assert (done.returncode, done.stderr[:8]) == (77, "network:")


def test_token_ids_need_no_tokenizer_in_the_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = put(cache, "a/b")
    (snapshot / "tokenizer.json").unlink()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    model = npdistil.load("a/b", engine="numpy")
    assert model.logits([[2, 3]]).shape == (1, 2)
    with pytest.raises(CheckpointError, match=r"neither tokenizer\.json nor vocab\.txt"):
        model.predict(["a"])


def test_a_user_without_a_home_gets_an_error_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(path: Path) -> Path:
        if str(path).startswith("~"):
            raise RuntimeError("Could not determine home directory.")
        return path

    monkeypatch.delenv("HF_HUB_CACHE")
    monkeypatch.setattr(Path, "expanduser", nobody)
    for name in ("~/model", "someone/some-model"):
        with pytest.raises(CheckpointError, match="this user has none: set HOME"):
            find_model(name)
    directory = tiny.write(tmp_path / "model")
    assert find_model(directory) == directory
    assert find_model() == bundled_model()


WRONG: dict[str, Any] = {"revision": 5, "token": 5, "cache_dir": 5, "local_files_only": "no"}


@pytest.mark.parametrize("name", WRONG)
def test_an_argument_of_another_type_is_refused_wherever_the_model_is(make: Make, name: str) -> None:
    everywhere: list[Any] = [None, "minilm-l6-sst2", make(), "owner/name"]
    for where in everywhere:
        opened: list[Callable[..., Any]] = [
            npdistil.load,
            npdistil.AutoModel.from_pretrained,
            npdistil.AutoTokenizer.from_pretrained,
            partial(npdistil.pipeline, "text-classification"),
        ]
        for each in opened:
            with pytest.raises(InputError, match=f"^{name} is {WRONG[name]!r}; "):
                each(where, **{name: WRONG[name]})


def test_a_directory_has_no_other_revision_than_main(make: Make) -> None:
    directory = make()
    everywhere: list[Any] = [None, "minilm-l6-sst2", directory, str(directory)]
    for where in everywhere:
        assert npdistil.load(where, engine="numpy", revision="main").config.labels == ("NEGATIVE", "POSITIVE")
        with pytest.raises(InputError, match="^revision is 'v2', but .* is a directory, which has no revisions"):
            npdistil.load(where, revision="v2")
    with pytest.raises(InputError, match="revision belong to `load`; this model is loaded already"):
        npdistil.pipeline("text-classification", npdistil.load(directory, engine="numpy"), revision="v2")
