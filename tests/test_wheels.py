"""A wheel has the kernels of one architecture and says so; the one for every system has none."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("hatchling")

ROOT = Path(__file__).parents[1]
if not (ROOT / "pyproject.toml").exists():
    pytest.skip("wheels are built from the source tree", allow_module_level=True)
KERNELS = ROOT / "npdistil" / "compiled" / "kernels"


def build(out: Path, wheel: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)],
        capture_output=True, text=True, check=False, cwd=ROOT, env=os.environ | {"NPDISTIL_WHEEL": wheel},
    )  # fmt: skip


@pytest.mark.parametrize("wheel", ["x86_64", "aarch64", "any"])
def test_each_wheel_has_its_files_and_its_tag(tmp_path: Path, wheel: str) -> None:
    done = build(tmp_path, wheel)
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        (metadata,) = (name for name in names if name.endswith(".dist-info/WHEEL"))
        lines = archive.read(metadata).decode().splitlines()
        found = {name: archive.read(name) for name in names if "/kernels/" in name}
    expected = {
        f"npdistil/compiled/kernels/{wheel}/{file.name}": file.read_bytes() for file in KERNELS.glob(f"{wheel}/*")
    }
    assert found == expected
    assert not [name for name in names if name.endswith(".so") and name not in expected]
    tags = {line.removeprefix("Tag: ") for line in lines if line.startswith("Tag: ")}
    if wheel == "any":
        assert tags == {"py3-none-any"}
        assert "Root-Is-Purelib: true" in lines
    else:
        platforms = (f"manylinux_2_17_{wheel}", f"manylinux2014_{wheel}", f"musllinux_1_1_{wheel}")
        assert tags == {f"py3-none-{platform}" for platform in platforms}
        assert "Root-Is-Purelib: false" in lines
    assert all(tag.rpartition("-")[2] in file.name for tag in tags)


def test_an_unknown_wheel_is_refused(tmp_path: Path) -> None:
    done = build(tmp_path, "ppc64le")
    assert done.returncode
    assert "known are aarch64, x86_64 and any" in done.stderr
