"""What an embedder relies on before the first text: light imports, no network, no HOME, read-only disks."""

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import npdistil

HEAVY = ("numba", "llvmlite", "torch", "transformers", "huggingface_hub", "tqdm", "sklearn")


def run(code: str, **settings: Any) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False, **settings
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_imports_nothing_optional() -> None:
    loaded = run("import sys, npdistil, npdistil.cli; print(*sys.modules)").split()
    assert not [name for name in loaded if name.split(".")[0] in HEAVY]


def test_the_numpy_engine_imports_nothing_optional() -> None:
    code = "import sys, npdistil; npdistil.load(engine='numpy').predict(['good']); print(*sys.modules)"
    assert not [name for name in run(code).split() if name.split(".")[0] in HEAVY]


def test_the_specification_imports_numpy_and_the_standard_library_alone() -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); import distilbert; print(*sys.modules)"
    folder = str(Path(npdistil.__file__).parent)
    loaded = subprocess.run(
        [sys.executable, "-c", code, folder], capture_output=True, text=True, timeout=300, check=True
    ).stdout.split()
    ours = {name.split(".")[0] for name in loaded} - set(sys.stdlib_module_names) - {"distilbert", "__main__"}
    assert not {name for name in ours if name in (*HEAVY, "safetensors", "tokenizers", "npdistil")}


def test_the_main_job_makes_no_network_call() -> None:
    """Any socket that is not local to the machine fails the run."""
    code = """
import sys
def refuse(event, arguments):
    if event.startswith("socket.") and event != "socket.__new__":
        raise SystemExit(f"network: {event} {arguments}")
sys.addaudithook(refuse)
import npdistil
print(npdistil.load(engine="numpy").predict(["I like you. I love you."])[0])
"""
    assert run(code) == "POSITIVE\n"


def test_works_without_home_or_any_other_variable(tmp_path: Path) -> None:
    code = "import npdistil; print(*npdistil.load(engine='numpy').predict(['good']))"
    assert run(f"import sys; sys.path[:] = {sys.path!r}; {code}", env={}, cwd=tmp_path) == "POSITIVE\n"


def test_every_public_name_exists_and_says_what_it_is() -> None:
    for name in vars(npdistil)["__all__"]:
        assert getattr(npdistil, name).__doc__, name


def test_type_checkers_programs_and_a_star_are_told_the_same_public_names() -> None:
    """By parsing: each name stands once in what is imported for type checkers, as itself, and in `_MODULES`."""
    source = ast.parse(Path(npdistil.__file__).read_text(encoding="utf-8"))
    checked = next(
        node for node in source.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    assigned = {ast.unparse(node.targets[0]): node.value for node in source.body if isinstance(node, ast.Assign)}
    modules: dict[str, tuple[str, ...]] = ast.literal_eval(assigned["_MODULES"])
    for_types: list[tuple[str, str]] = []
    for node in checked.body:
        assert isinstance(node, ast.ImportFrom)
        assert all(alias.asname == alias.name for alias in node.names)
        for_types += [("." * node.level + (node.module or ""), alias.name) for alias in node.names]
    submodules = {name for module, name in for_types if module == "."}
    at_run_time = [(module, name) for module, names in modules.items() for name in names]
    assert sorted(each for each in for_types if each[0] != ".") == sorted(at_run_time)
    assert vars(npdistil)["__all__"] == sorted({name for _, name in for_types})
    assert len(for_types) == len({name for _, name in for_types})
    assert submodules == {"results", "util"}  # those that `__getattr__` gives
    for name in submodules:
        assert getattr(npdistil, name).__name__ == f"npdistil.{name}"


LAYERS = [  # each imports only what stands before it
    ["errors", "distilbert", "forks"],
    ["settings", "arguments", "util", "results", "keywords", "notebook"],
    ["checkpoint"],
    ["batch", "tokenizer"],
    ["text"],
    ["tasks", "compiled"],
    ["engine"],
    ["model"],
    ["auto"],
    ["pipelines"],
    ["estimators", "bench", "sentence_transformer"],
    ["files", "serve", "spark"],
    ["cli"],
]
ROOT = Path(npdistil.__file__).parent


@pytest.mark.parametrize("name", [name for layer in LAYERS[:-1] for name in layer])
def test_lower_layers_do_not_import_upper_ones(name: str) -> None:
    place = next(i for i, layer in enumerate(LAYERS) if name in layer)
    upper = {each for layer in LAYERS[place + 1 :] for each in layer}
    files = [*(ROOT / name).rglob("*.py")] if (ROOT / name).is_dir() else [ROOT / f"{name}.py"]
    assert files
    for file in files:
        package = ["npdistil", *file.relative_to(ROOT).parts[:-1]]
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                base = package[: len(package) - node.level + 1] if node.level else []
                full = [*base, *(node.module or "").split(".")] if node.module else base
                names = [full[1]] if len(full) > 1 else [alias.name for alias in node.names]
                if full[:1] == ["npdistil"]:
                    assert not upper & set(names), f"{file.name} imports {names}"
