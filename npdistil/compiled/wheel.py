"""What is published: `python -m npdistil.compiled.wheel DIRECTORY` makes the sdist and all wheels, and checks each.

hatchling builds them and asks the class here which kernels a wheel gets. NPDISTIL_WHEEL is an architecture of
`npdistil/compiled/kernels`, for whose Linux the wheel then is (glibc and musl, because the kernels need no library by
name), or `any`: no kernels, for every other system. By default it is what this machine is.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from email import message_from_bytes
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

KERNELS = "npdistil/compiled/kernels"
MODEL = "weights/minilm-l6-sst2"
TAG = "py3-none-manylinux_2_17_{0}.manylinux2014_{0}.musllinux_1_1_{0}"
SBOM = "npdistil.cdx.json"


class Kernels(BuildHookInterface):
    """Adds the kernels, which pyproject.toml leaves out of wheels, the tag, and what the kernels were made with."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """As hatchling calls it, before each build."""
        if version == "editable":  # uses the tree as it is
            return
        kinds = known(Path(self.root))
        wheel = os.environ.get("NPDISTIL_WHEEL") or own(kinds)
        if wheel not in kinds:
            raise ValueError(f"NPDISTIL_WHEEL is {wheel!r}; known are {', '.join(kinds[:-1])} and any")
        if wheel == "any":
            return
        build_data["pure_python"] = False
        build_data["tag"] = TAG.format(wheel)
        build_data["force_include"][f"{KERNELS}/{wheel}"] = f"{KERNELS}/{wheel}"
        self.scratch = tempfile.TemporaryDirectory()
        file = Path(self.scratch.name) / SBOM
        file.write_bytes(bill_of_materials(Path(self.root), wheel, self.metadata.version))
        build_data["sbom_files"].append(str(file))


def known(root: Path) -> list[str]:
    """The kinds of wheels: an architecture each, and `any`."""
    return [*sorted(folder.name for folder in (root / KERNELS).iterdir()), "any"]


def own(kinds: list[str]) -> str:
    """What this machine's Python can use."""
    machine = os.uname().machine if hasattr(os, "uname") else ""
    return machine if sys.platform == "linux" and sys.maxsize > 2**32 and machine in kinds else "any"


def bill_of_materials(root: Path, architecture: str, version: str) -> bytes:
    """What the shared objects of an architecture were made with, as their manifest has it, in CycloneDX 1.6 (JSON).

    The objects are the components; the tools, of which nothing runs or is distributed, stand in the formulation.
    """
    manifest = json.loads((root / KERNELS / architecture / "manifest.json").read_bytes())
    files = [
        {
            "type": "file",
            "name": f"{KERNELS}/{architecture}/{name}",
            "hashes": [{"alg": "SHA-256", "content": entry["sha256"]}],
        }
        for name, entry in manifest["files"].items()
    ]
    tools = [
        {"type": "library", "name": name, "version": tool, "purl": f"pkg:pypi/{name}@{tool}"}
        for name, tool in manifest["tools"].items()
    ]
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "library", "name": "npdistil", "version": version}},
        "components": files,
        "formulation": [{"components": tools}],
    }
    return f"{json.dumps(bill, indent=1)}\n".encode()


def expected(root: Path, kind: str, version: str) -> dict[str, bytes]:
    """Every file that a wheel has, and its bytes, but for what the builder writes into .dist-info itself."""
    files = {}
    for path in sorted(path for path in (root / "npdistil").rglob("*") if path.is_file()):
        name = path.relative_to(root).as_posix()
        other = name.startswith(f"{KERNELS}/") and not name.startswith(f"{KERNELS}/{kind}/")
        if "__pycache__" not in path.parts and not other:
            files[name] = path.read_bytes()
    files |= {f"npdistil/{MODEL}/{path.name}": path.read_bytes() for path in (root / MODEL).iterdir()}
    info = f"npdistil-{version}.dist-info"
    files |= {f"{info}/licenses/{name}": (root / name).read_bytes() for name in ("LICENSE", "NOTICE")}
    if kind != "any":
        files[f"{info}/sboms/{SBOM}"] = bill_of_materials(root, kind, version)
    return files


def wrong(wheel: Path, root: Path, kind: str) -> list[str]:
    """What a wheel has that it should not, or lacks, beside the tree that it was made of."""
    version = wheel.name.split("-")[1]
    info = f"npdistil-{version}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        found = {name: archive.read(name) for name in archive.namelist()}
    written = {f"{info}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt")}
    wanted = expected(root, kind, version)
    problems = [f"lacks {name}" for name in sorted((wanted.keys() | written) - found.keys())]
    problems += [f"should not have {name}" for name in sorted(found.keys() - wanted.keys() - written)]
    problems += [f"has other bytes in {name}" for name in wanted if found.get(name, wanted[name]) != wanted[name]]
    tags = "py3-none-any" if kind == "any" else TAG.format(kind)
    if wheel.name != f"npdistil-{version}-{tags}.whl":
        problems.append(f"should be named for {tags}")
    about = message_from_bytes(found.get(f"{info}/WHEEL", b""))
    python, abi, platforms = tags.split("-")
    if sorted(about.get_all("Tag", [])) != sorted(f"{python}-{abi}-{each}" for each in platforms.split(".")):
        problems.append(f"should have the tags {tags} in {info}/WHEEL")
    if about["Root-Is-Purelib"] != str(kind == "any").lower():
        problems.append(f"has the wrong Root-Is-Purelib in {info}/WHEEL")
    return [f"{wheel.name} {problem}" for problem in problems]


def build(root: Path, target: str, out: Path, kind: str = "any") -> Path:
    """An sdist or a wheel, made by hatchling's hook of PEP 517; RuntimeError with what it says where it fails."""
    code = "import sys, hatchling.build as b; print(getattr(b, sys.argv[1])(sys.argv[2]))"
    out.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(  # noqa: S603 - nothing of it comes from outside
        [sys.executable, "-c", code, f"build_{target}", str(out.resolve())],
        cwd=root, env=os.environ | {"NPDISTIL_WHEEL": kind}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr)
    return out / done.stdout.split()[-1]


def unpack(sdist: Path, into: Path) -> Path:
    """The tree that is in an sdist."""
    with tarfile.open(sdist) as archive:
        archive.extractall(into, filter="data")
    (tree,) = into.iterdir()
    return tree


def main() -> None:
    """The command: wheels are made of the sdist, and compared with the tree that this file is in."""
    parser = argparse.ArgumentParser(
        prog="python -m npdistil.compiled.wheel", description="Make the sdist and all wheels."
    )
    parser.add_argument("out", type=Path, metavar="DIRECTORY")
    out = parser.parse_args().out
    root = Path(__file__).parents[2]
    if not (root / "pyproject.toml").exists():
        sys.exit(f"{root} is not the source tree: run this from a clone")
    sdist = build(root, "sdist", out)
    made, problems = [sdist], []
    with tempfile.TemporaryDirectory() as scratch:
        tree = unpack(sdist, Path(scratch))
        for kind in known(root):
            made.append(build(tree, "wheel", out, kind))
            problems += wrong(made[-1], root, kind)
    for file in made:
        print(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file}")  # noqa: T201
    if problems:
        sys.exit("\n".join(problems))


if __name__ == "__main__":
    main()
