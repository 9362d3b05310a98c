"""What is published: a wheel has the kernels of one architecture and says so; the one for every system has none."""

import json
import re
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("hatchling")

import npdistil
from npdistil.compiled import wheel
from npdistil.compiled.build import TOOLS, names

ROOT = Path(__file__).parents[1]
if not (ROOT / "pyproject.toml").exists():
    pytest.skip("wheels are built from the source tree", allow_module_level=True)


@pytest.mark.parametrize("kind", ["x86_64", "aarch64", "any"])
def test_each_wheel_has_the_files_of_the_tree_their_bytes_and_its_tag(tmp_path: Path, kind: str) -> None:
    made = wheel.build(ROOT, "wheel", tmp_path, kind)
    assert not wheel.wrong(made, ROOT, kind)
    with zipfile.ZipFile(made) as archive:
        found = set(archive.namelist())
    kernels = {f"npdistil/compiled/kernels/{kind}/{name}.so" for name in names(kind)}
    assert {name for name in found if name.endswith(".so")} == kernels
    assert bool(kernels) == (kind != "any")
    model = {f"npdistil/weights/minilm-l6-sst2/{name}" for name in ("config.json", "model.safetensors", "README.md")}
    assert found > model | {"npdistil/page/index.html", "npdistil/py.typed", "npdistil/distilbert/encoder.py"}


def test_a_file_too_many_too_few_or_changed_and_a_wrong_name_are_found(tmp_path: Path) -> None:
    made = wheel.build(ROOT, "wheel", tmp_path, "any")
    changed = tmp_path / made.name.replace("-any", "-win32")
    with zipfile.ZipFile(made) as source, zipfile.ZipFile(changed, "w") as target:
        for name in source.namelist():
            if name != "npdistil/page/page.js":
                target.writestr(name, source.read(name) + b"#" * (name == "npdistil/model.py"))
        target.writestr("npdistil/stranger.so", b"")
    found = [problem.partition(" ")[2] for problem in wheel.wrong(changed, ROOT, "any")]
    assert found == [
        "lacks npdistil/page/page.js",
        "should not have npdistil/stranger.so",
        "has other bytes in npdistil/model.py",
        "should be named for py3-none-any",
    ]


@pytest.mark.parametrize("architecture", ["x86_64", "aarch64"])
def test_the_bill_of_materials_names_the_pinned_tools_and_every_shared_object(architecture: str) -> None:
    bill = json.loads(wheel.bill_of_materials(ROOT, architecture, "1.2"))
    (formula,) = bill["formulation"]
    assert {each["purl"] for each in formula["components"]} == {f"pkg:pypi/{name}@{TOOLS[name]}" for name in TOOLS}
    files = {Path(each["name"]).stem: each["hashes"][0]["content"] for each in bill["components"]}
    assert files.keys() == {*names(architecture)}
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in files.values())


def test_an_unknown_wheel_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="known are aarch64, x86_64 and any"):
        wheel.build(ROOT, "wheel", tmp_path, "ppc64le")


def test_the_changelog_begins_with_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\S+)", text, re.MULTILINE)[0] == npdistil.__version__
