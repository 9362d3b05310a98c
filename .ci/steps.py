"""The steps of `.ci/run`: each makes what it needs in a scratch folder, two run side by side, and all must pass.

Needs Python 3.10 or newer with venv, git, a package index, and Java 17 and Chromium or the right to install them.
"""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

ROOT = Path(__file__).resolve().parents[1]
TORCH = "torch==2.13.0"  # the version the figures are from; later ones may differ in the last bits
CORE_TYPES = ("Haswell", "Sandybridge", "Nehalem")  # OpenBLAS picks its kernels by itself: others than this machine's
SIDE_BY_SIDE = 2
apt = threading.Lock()


class Shell:
    """A step's log, and its environment in which commands run; the first that fails ends the step."""

    def __init__(self, name: str, scratch: Path, log: TextIO) -> None:
        self.name, self.scratch, self.log = name, scratch, log
        self.environment = os.environ | {
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "TRANSFORMERS_VERBOSITY": "error",
        }

    def venv(self, python: str = sys.executable, name: str = "") -> Path:
        """A fresh virtual environment, active from here on."""
        folder = self.scratch / (name or self.name)
        self.run([python, "-m", "venv", str(folder)])
        self.environment |= {"VIRTUAL_ENV": str(folder), "PATH": f"{folder}/bin:{os.environ['PATH']}"}
        self.run("python --version")
        return folder

    def run(self, command: str | Sequence[str], cwd: Path = ROOT, **variables: str) -> str:
        """What a command prints, on standard output and error; RuntimeError with what matters of it if it fails."""
        words = shlex.split(command) if isinstance(command, str) else [*command]
        self.log.write(f"$ {shlex.join(words)}\n")
        self.log.flush()
        process = subprocess.Popen(
            words, cwd=cwd, env=self.environment | variables, text=True, errors="replace",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert process.stdout
        lines = []
        for line in process.stdout:
            self.log.write(line)
            self.log.flush()
            lines.append(line)
        if process.wait():
            raise RuntimeError(f"{telling(lines)}exit code {process.returncode}: {shlex.join(words)}")
        return "".join(lines)

    def apt(self, executable: str, package: str) -> None:
        """Debian's package, where the executable is not there yet."""
        with apt:
            if not shutil.which(executable):
                self.run("apt-get update -qq")
                self.run(f"apt-get install -y -qq --no-install-recommends {package}")


def telling(lines: Sequence[str]) -> str:
    """What tells why a command failed: all from pytest's failures on, or its last lines."""
    lines = [line for line in lines if not line.startswith("WARNING: Location ")]  # of pip, once a package and folder
    starts = [i for i, line in enumerate(lines) if re.fullmatch(r"=+ (ERRORS|FAILURES) =+\n", line)]
    return "".join(lines[starts[0] if starts else -120 :])


def pythons(first: tuple[int, int] = (3, 10), last: tuple[int, int] = (3, 99)) -> list[str]:
    """Every Python on the machine from one version to another, oldest first."""
    folders = [*map(Path, os.environ["PATH"].split(os.pathsep))]
    folders += [*Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob("versions/3.*/bin")]
    found = {}
    for path in (
        path for folder in folders for path in folder.glob("python3*") if re.fullmatch(r"python3(\.\d+)?", path.name)
    ):
        code = "import sys, venv, ensurepip; print(sys.version_info[0], sys.version_info[1], sys.executable)"
        done = subprocess.run([path, "-c", code], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            major, minor, executable = done.stdout.split(maxsplit=2)
            found[int(major), int(minor)] = executable.strip()
    return [found[version] for version in sorted(found) if first <= version <= last]


def readme_command(number: int) -> str:
    """One of the README's lines that start with `$ pip install`, without the prompt."""
    lines = re.findall(r"^\$ (pip install .*)", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    return str(lines[number - 1])


def lowest() -> list[str]:
    """The lowest versions that pyproject.toml allows of what the tests need."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    core = re.search(r"^dependencies = (\[.*?\])", text, re.MULTILINE | re.DOTALL)
    assert core
    extras = [re.search(rf"^{name} = (\[.*?\])$", text, re.MULTILINE | re.DOTALL) for name in EXTRAS_OF_TESTS]
    found = re.findall(r'"([\w-]+)>=([\d.]+)', " ".join(match[1] for match in (core, *extras) if match))
    return [f"{name}=={version}" for name, version in found]


EXTRAS_OF_TESTS = ("jit", "fast", "files", "frames", "hub", "progress", "serve", "test")


def lint(shell: Shell) -> None:
    shell.venv()
    shell.run('pip install -q ".[lint]"')
    shell.run("ruff format --check")
    shell.run("ruff check")
    shell.run("mypy")
    shell.run("python tests/typed/check.py")


def first_command(shell: Shell) -> None:
    """The README's, and what docs/minimal.md installs instead where every megabyte counts."""
    shell.venv()
    shell.run(["bash", "-euc", readme_command(1)])
    shell.run("pip list")
    shell.venv(name="lean")
    page = (ROOT / "docs" / "minimal.md").read_text(encoding="utf-8")
    for line in re.findall(r"^pip install (?:numpy|--no-deps) .*", page, re.MULTILINE):
        shell.run(line)
    packages = shell.run("pip list --format=freeze").split()
    if strange := {each.partition("==")[0] for each in packages} - {
        "numpy",
        "safetensors",
        "tokenizers",
        "npdistil",
        "pip",
        "setuptools",
    }:
        raise RuntimeError(f"installed beside the core: {strange}")
    if not (answer := shell.run(["npdistil", "classify", "I like you. I love you."])).startswith("POSITIVE"):
        raise RuntimeError(f"the answer is {answer!r}")


def second_command(shell: Shell) -> None:
    shell.venv()
    shell.run(["bash", "-euc", readme_command(2)])


def lowest_versions(shell: Shell) -> None:
    shell.venv(pythons()[0])
    shell.run(["pip", "install", "-q", ".[test]", *lowest()])
    shell.run("pip list")
    shell.run("pytest -q -m 'not once'")


def newest_python(shell: Shell) -> None:
    shell.venv(pythons()[-1])
    shell.run('pip install -q --upgrade ".[test]"')
    shell.run("pip list")
    shell.run("pytest -q -m 'not once'")


def blas(shell: Shell) -> None:
    """A model says the same on other kernels of OpenBLAS; tests/test_blas.py holds that bits depend on nothing else."""
    shell.venv()
    shell.run('pip install -q ".[test]"')
    for core in CORE_TYPES:
        tests = "tests/test_engine.py tests/test_specification.py tests/test_golden.py tests/serve/test_service.py"
        which = "engines_give or test_specification or test_golden or depend_on_who_else_asks"
        shell.run(f"pytest -q {tests} -k 'not compiled and ({which})'", OPENBLAS_CORETYPE=core)


def reference(shell: Shell) -> None:
    shell.venv()
    shell.run(f"pip install -q {TORCH}")
    shell.run('pip install -q ".[reference]"')
    shell.run("pytest -q -n 0 -p no:randomly tests/reference -rA --no-header")


def on_spark(*requirements: str) -> Callable[[Shell], None]:
    def step(shell: Shell) -> None:
        shell.apt("java", "openjdk-17-jre-headless")
        shell.venv()
        shell.run(["pip", "install", "-q", ".[test,spark]", "spark-nlp", *requirements])
        shell.run("pytest -q -n 0 -p no:randomly tests/spark")

    return step


def data_tools(shell: Shell) -> None:
    shell.venv()
    shell.run(
        ["pip", "install", "-q", ".[test]", "daft", "dask[dataframe]", "datasets", "duckdb", "polars", "ray[data]"]
    )
    shell.run("pytest -q -n 0 -p no:randomly -rs tests/tools")


def page(shell: Shell) -> None:
    shell.apt("chromium", "chromium")
    shell.venv()
    shell.run('pip install -q ".[web]"')
    shell.run("pytest -q -n 0 -p no:randomly tests/web")


def clients(shell: Shell) -> None:
    """What people call services with, against a running one; their own warnings are theirs."""
    shell.venv(pythons((3, 11), (3, 13))[0])  # for which all of them are made
    shell.run('pip install -q ".[clients]"')
    shell.run("pip list")
    shell.run("pytest -q -n 0 -p no:randomly -W ignore -rs tests/clients")


def site(shell: Shell) -> None:
    shell.venv()
    shell.run('pip install -q ".[docs]"')
    target = shell.scratch / "site"
    shell.run(f"sphinx-build -q -W --keep-going docs {target}")
    # No page may ask another host for anything but where a reader goes by a link.
    asks = re.compile(r'<(script|img|link|iframe)[^>]+(src|href)="(https?:)?//')
    if asking := [path.name for path in target.rglob("*.html") if asks.search(path.read_text(encoding="utf-8"))]:
        raise RuntimeError(f"pages that ask other hosts: {asking}")


def kernels(shell: Shell) -> None:
    """The committed shared objects have the bytes that anybody makes of the sources."""
    shell.venv(pythons((3, 11), (3, 13))[0])
    shell.run('pip install -q ".[kernels]"')
    shell.run("pip install -q --no-deps -e .")  # or the check would be of the installed copy
    shell.run("python -m npdistil.compiled.build --check")


def musl(shell: Shell) -> None:
    """What docs/minimal.md says of Alpine: the core's dependencies are wheels there, none is built."""
    for machine in ("x86_64", "aarch64"):
        shell.run(
            f"{sys.executable} -m pip download -q --only-binary :all: --implementation cp --python-version 3.13 "
            f"--platform musllinux_1_2_{machine} --platform musllinux_1_1_{machine} "
            f"--dest {shell.scratch}/musl-{machine} numpy safetensors tokenizers"
        )


def wheel(shell: Shell) -> None:
    """What is published, made and checked by its one command; the sdist gives the same wheel where there is nothing.

    And the main job from the wheel alone, on the oldest and the newest Python: no extras, no HOME, nothing writable.
    """
    folder = shell.venv()
    shell.run("pip install -q hatchling twine")
    dist = shell.scratch / "dist"
    shell.run(f"python -m npdistil.compiled.wheel {dist}")
    shell.run(["twine", "check", "--strict", *map(str, dist.iterdir())])
    (sdist,), (made,) = dist.glob("*.tar.gz"), dist.glob(f"*manylinux*_{os.uname().machine}.whl")
    again = shell.scratch / "again"
    here_alone = [*offline(shell), "env", "-i", f"PATH={folder}/bin"]  # where no compiler is
    options = ["--no-index", "--no-build-isolation", "--no-deps", "--wheel-dir", str(again)]
    shell.run([*here_alone, f"{folder}/bin/pip", "wheel", *options, str(sdist)])
    if (again / made.name).read_bytes() != made.read_bytes():
        raise RuntimeError("the sdist gave another wheel without network and compiler")
    page = (ROOT / "docs" / "minimal.md").read_text(encoding="utf-8")
    (collect, install) = re.findall(r"^pip (?:wheel|install --no-index) .* wheels.*$", page, re.MULTILINE)
    shell.run(collect.replace(" wheels", f" {shell.scratch}/wheels"))
    shell.venv(name="offline")
    shell.run([*offline(shell), *shlex.split(install.replace(" wheels", f" {shell.scratch}/wheels"))])
    for python in (pythons()[0], pythons()[-1]):
        _bare(shell, made, python)


def offline(shell: Shell) -> list[str]:
    """The words before a command that has no network, where that can be."""
    words = ["unshare", "--net", "--map-root-user"]
    if subprocess.run([*words, "true"], capture_output=True, check=False).returncode:
        shell.log.write("the network cannot be cut off on this machine\n")
        return []
    return words


def _bare(shell: Shell, made: Path, python: str) -> None:
    folder = shell.venv(python, f"bare-{Path(python).parents[1].name}")
    shell.run(["pip", "install", "-q", str(made)])
    shell.run(["python", "-c", "import importlib.util; assert not importlib.util.find_spec('numba')"])
    shell.run(["pip", "install", "-q", "--dry-run", "npdistil[files]"])  # of what is installed, from wherever it came
    shell.run(["chmod", "-R", "a-w", str(folder)])
    path = shell.environment["PATH"]
    answer = shell.run(
        [*offline(shell), "env", "-i", f"PATH={path}", "npdistil", "classify", "I like you. I love you."], cwd=Path("/")
    )
    shell.run(["chmod", "-R", "u+w", str(folder)])
    if not answer.startswith("POSITIVE"):
        raise RuntimeError(f"the answer is {answer!r}")


@dataclass(frozen=True)
class Step:
    """A part of the whole."""

    name: str
    work: Callable[[Shell], None]


STEPS = [  # the longest first
    Step("tests", second_command),
    Step("reference", reference),
    Step("lowest", lowest_versions),
    Step("newest", newest_python),
    Step("spark-4", on_spark("pyspark[connect]>=4")),
    Step("spark-3", on_spark("pyspark<4", "pyarrow<18")),  # the last with NumPy 1, which this Spark wants
    Step("data-tools", data_tools),
    Step("blas", blas),
    Step("docs", site),
    Step("page", page),
    Step("clients", clients),
    Step("wheel", wheel),
    Step("kernels", kernels),
    Step("lint", lint),
    Step("readme", first_command),
    Step("musl", musl),
]


def run(step: Step, scratch: Path) -> tuple[Step, float, str, Path]:
    """A step's time, what went wrong, and its log."""
    log = scratch / f"{step.name}.log"
    began = time.monotonic()
    error = ""
    with log.open("w", encoding="utf-8") as stream:
        try:
            step.work(Shell(step.name, scratch, stream))
        except (RuntimeError, OSError, subprocess.SubprocessError) as wrong:
            error = str(wrong)
    return step, time.monotonic() - began, error, log


def main() -> int:
    """Run the steps that are named, or all; 1 if one fails."""
    parser = argparse.ArgumentParser(prog=".ci/run", description=__doc__)
    parser.add_argument("step", nargs="*", help=", ".join(step.name for step in STEPS) + "; none: all")
    names = parser.parse_args().step
    if unknown := set(names) - {step.name for step in STEPS}:
        parser.error(f"no step {', '.join(unknown)}; there are {', '.join(step.name for step in STEPS)}")
    chosen = [step for step in STEPS if not names or step.name in names]
    began, failed, tests = time.monotonic(), [], []
    with tempfile.TemporaryDirectory(prefix="npdistil-ci-") as folder, ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        waiting: set[Future[tuple[Step, float, str, Path]]] = {pool.submit(run, step, Path(folder)) for step in chosen}
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for step, seconds, error, log in (each.result() for each in done):
                counts = re.findall(r"^(?:=+ )?(\d+ passed.*)$", log.read_text(encoding="utf-8"), re.MULTILINE)
                print(f"\n=== {step.name}: {'FAILED' if error else 'passed'}, {seconds:.0f} s", flush=True)
                print(error or "\n".join(counts), flush=True)
                failed += [step.name] * bool(error)
                tests += [
                    f"{step.name}: {each}" for each in re.findall(r"^(?:FAILED|ERROR) tests/.*", error, re.MULTILINE)
                ]
        subprocess.run(["chmod", "-R", "u+w", folder], check=False)  # or it cannot be removed
    print(
        f"\n{len(chosen) - len(failed)} of {len(chosen)} steps passed in {time.monotonic() - began:.0f} s", flush=True
    )
    if failed:
        print("\n".join([f"failed: {', '.join(failed)}", *tests]))
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
