"""Make the shared objects in `kernels/`: `python -m npdistil.compiled.build` makes all, `--check` compares.

The bytes are the same on every machine and with Python 3.11 to 3.13, if numba, llvmlite and ziglang have the versions
of TOOLS (`pip install "npdistil[kernels]"`).
"""

import argparse
import ast
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from .emit import TRIPLES
from .isa import BY_NAME, ISAS
from .kernels import FOLDER

TOOLS = {"numba": "0.68.1", "llvmlite": "0.50.0", "ziglang": "0.17.1"}
PYTHONS = ("3.11", "3.12", "3.13")
SOURCES = ("attention", "emit", "forward", "gemm", "isa", "layout", "rowwise", "share", "simd")


def source_digest() -> str:
    """SHA-256 of what the machine code depends on: the syntax trees of SOURCES without docstrings, and TOOLS."""
    digest = hashlib.sha256(json.dumps(TOOLS, sort_keys=True).encode())
    for name in SOURCES:
        tree = ast.parse((Path(__file__).parent / f"{name}.py").read_text(encoding="utf-8"))
        digest.update(f"\n{name} {_canonical(tree)}".encode())
    return digest.hexdigest()


def _canonical(node: Any) -> str:
    """A syntax tree as text that does not depend on Python's version, as `ast.dump` does."""
    if isinstance(node, list):
        return f"[{' '.join(_canonical(each) for each in node)}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = {name: value for name, value in ast.iter_fields(node) if value not in (None, [])}
    if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node, clean=False):
        fields["body"] = node.body[1:]
    return f"({type(node).__name__} {' '.join(f'{name}={_canonical(fields[name])}' for name in sorted(fields))})"


def names(architecture: str) -> list[str]:
    """The shared objects of an architecture."""
    asks = ["cpuid"] if architecture == "x86_64" else []
    return [*asks, *(isa.name for isa in ISAS if isa.architecture == architecture)]


def make(name: str, out: Path) -> None:
    """One shared object, in a process of its own."""
    # Settings of numba's and its state in this process change what it makes.
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("NUMBA_", "NPDISTIL_"))}
    with tempfile.TemporaryDirectory() as folder:
        object_file = Path(folder) / f"{name}.o"
        command = [sys.executable, "-m", f"{__package__}.emit", name, str(object_file), str(out)]
        path = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [clean.get("PYTHONPATH")])])
        subprocess.run(command, check=True, env=clean | {"PYTHONPATH": path})  # noqa: S603


def make_all(folder: Path) -> None:
    """All shared objects and manifests, into `folder`."""
    for architecture in TRIPLES:
        (folder / architecture).mkdir(parents=True, exist_ok=True)
        files = {}
        for name in names(architecture):
            file = folder / architecture / f"{name}.so"
            make(name, file)
            files[file.name] = _entry(name, file.read_bytes())
        manifest = {"sources": source_digest(), "tools": TOOLS, "triple": TRIPLES[architecture], "files": files}
        text = json.dumps(manifest, indent=1)
        (folder / architecture / "manifest.json").write_text(f"{text}\n", encoding="utf-8")


def _entry(name: str, content: bytes) -> dict[str, Any]:
    isa = BY_NAME.get(name)
    cpu, features = (isa.cpu, isa.features) if isa else ("x86-64", "")
    digest = hashlib.sha256(content).hexdigest()
    return {"cpu": cpu, "features": features, "size": len(content), "sha256": digest}


def check(wanted: list[str]) -> list[str]:
    """Make some of the files (none named: all) again; those that have other bytes than the committed ones."""
    changed = []
    with tempfile.TemporaryDirectory() as folder:
        for architecture in TRIPLES:
            for name in names(architecture):
                if not wanted or name in wanted:
                    made, committed = Path(folder) / f"{name}.so", FOLDER / architecture / f"{name}.so"
                    make(name, made)
                    if made.read_bytes() != committed.read_bytes():
                        changed.append(f"{architecture}/{name}.so")
    return changed


def wrong_tools() -> list[str]:
    """What stands in the way of the same bytes."""
    wrong = []
    for package, version in TOOLS.items():
        try:
            found = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found = "none"
        if found != version:
            wrong.append(f"{package} {version} is needed, {found} is installed")
    if platform.python_version().rpartition(".")[0] not in PYTHONS:
        wrong.append(f"Python {' or '.join(PYTHONS)} is needed, this is {platform.python_version()}")
    return wrong


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Make the shared objects of the compiled engine.")
    parser.add_argument("--check", nargs="*", metavar="NAME", help="make some or all elsewhere, and compare bytes")
    options = parser.parse_args()
    if wrong := wrong_tools():
        sys.exit("; ".join(wrong))
    elif options.check is None:
        make_all(FOLDER)
    elif changed := check(options.check):
        sys.exit(f"other bytes than those that are committed: {', '.join(changed)}")


if __name__ == "__main__":
    main()
