"""The shared objects that are in the tree: made of these sources, and asking for nothing but three functions."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import elf
import pytest

from npdistil.compiled import build, emit
from npdistil.compiled.isa import BY_NAME
from npdistil.compiled.kernels import FOLDER, SYMBOL, system

COMMITTED = Path(__file__).parents[2] / "npdistil" / "compiled" / "kernels"  # an installed copy has one architecture
FILES = [(architecture, name) for architecture in emit.TRIPLES for name in build.names(architecture)]


@pytest.mark.parametrize("architecture", emit.TRIPLES)
def test_the_manifest_is_of_these_sources_and_these_files(architecture: str) -> None:
    manifest = json.loads((COMMITTED / architecture / "manifest.json").read_text())
    assert manifest["sources"] == build.source_digest(), (
        "kernel sources changed, and the files did not: run `python -m npdistil.compiled.build`"
    )
    assert manifest["tools"] == build.TOOLS
    files = {file.name: file.read_bytes() for file in (COMMITTED / architecture).glob("*.so")}
    assert files.keys() == manifest["files"].keys() == {f"{name}.so" for name in build.names(architecture)}
    for name, content in files.items():
        entry = manifest["files"][name]
        assert (entry["size"], entry["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
        if isa := BY_NAME.get(name.removesuffix(".so")):
            assert (entry["cpu"], entry["features"]) == (isa.cpu, isa.features)


def test_no_other_file_is_in_the_folder() -> None:
    assert {file.name for file in COMMITTED.rglob("*") if file.is_file() and file.suffix != ".so"} == {"manifest.json"}


def test_docstrings_and_comments_do_not_change_the_digest_and_anything_else_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in build.SOURCES:
        (tmp_path / f"{name}.py").write_text((Path(build.__file__).parent / f"{name}.py").read_text())
    monkeypatch.setattr(build, "__file__", str(tmp_path / "build.py"))
    before = build.source_digest()
    source = tmp_path / "share.py"
    text = source.read_text()
    assert "How threads share out work" in text
    source.write_text("# a comment\n" + text.replace("How threads share out work", "Other words"))
    assert build.source_digest() == before
    source.write_text(text.replace("SLEEP = 50", "SLEEP = 51"))
    assert build.source_digest() != before


@pytest.mark.parametrize(("architecture", "name"), FILES)
def test_a_file_has_its_entry_and_asks_for_three_functions(architecture: str, name: str) -> None:
    found = elf.read(COMMITTED / architecture / f"{name}.so")
    assert found.machine == architecture
    if name == "cpuid":
        assert (found.defined, found.imported) == (["npdistil_cpuid", "npdistil_xgetbv"], [])
    else:
        assert (found.defined, sorted(found.imported)) == ([SYMBOL], sorted(emit.IMPORTED))
    needs = {elf.DT_NEEDED, elf.DT_RPATH, elf.DT_RUNPATH, elf.DT_TEXTREL, elf.DT_INIT, elf.DT_INIT_ARRAY}
    assert not needs & found.tags.keys(), "no library by name, no path, no code that runs by itself or is changed"
    assert found.tags[elf.DT_FLAGS] & elf.DF_BIND_NOW
    assert not found.tags[elf.DT_FLAGS] & elf.DF_TEXTREL
    (stack,) = (flags for kind, flags, _, _ in found.segments if kind == elf.PT_GNU_STACK)
    assert not stack & elf.PF_X
    for kind, flags, _, alignment in found.segments:
        assert flags & (elf.PF_X | elf.PF_W) != elf.PF_X | elf.PF_W
        assert kind != elf.PT_LOAD or alignment == 65536


@pytest.mark.once
@pytest.mark.skipif(bool(build.wrong_tools()), reason="; ".join(build.wrong_tools()))
def test_the_same_bytes_are_made_again() -> None:
    # Of the large ones one, which takes some 20 s; `python -m npdistil.compiled.build --check` makes all of them.
    done = subprocess.run(
        [sys.executable, "-m", "npdistil.compiled.build", "--check", "cpuid", "dotprod"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_extra_has_the_versions_that_the_bytes_depend_on() -> None:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert f"kernels = {json.dumps([f'{name}=={version}' for name, version in build.TOOLS.items()])}" in text


LOADER = """
#include <dlfcn.h>
#include <stdio.h>
int main(int count, char **files) {
    for (int i = 1; i < count; i++)
        if (!dlopen(files[i], RTLD_NOW)) return puts(dlerror());
    return 0;
}
"""


@pytest.mark.parametrize("compiler", ["gcc", "musl-gcc"])
def test_a_process_of_either_c_library_resolves_every_symbol(tmp_path: Path, compiler: str) -> None:
    if not shutil.which(compiler):
        pytest.skip(f"needs {compiler}")
    (tmp_path / "loader.c").write_text(LOADER)
    subprocess.run([compiler, "-o", tmp_path / "loader", tmp_path / "loader.c", "-ldl"], check=True)
    files = sorted((FOLDER / system()).glob("*.so"))
    done = subprocess.run([tmp_path / "loader", *files], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
