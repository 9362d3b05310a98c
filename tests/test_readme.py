"""The README's examples run, and print what it says."""

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def test_python_examples_print_what_the_readme_says() -> None:
    source = "\n".join(block for language, block in BLOCKS if language == "python" and ">>>" in block)
    example = doctest.DocTestParser().get_doctest(source, {}, "README", str(README), 0)
    assert example.examples
    report: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE).run(example, out=report.append)
    assert not report, "".join(report)


def console_examples() -> list[tuple[str, str]]:
    text = "".join(block for language, block in BLOCKS if language == "console")
    return [(command, shown) for command, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", text, re.MULTILINE)]


@pytest.mark.parametrize(("command", "shown"), [pytest.param(*each, id=each[0]) for each in console_examples()])
def test_console_examples_print_what_the_readme_says(command: str, shown: str) -> None:
    command = re.sub(r"^pip install \S+ && ", "", command)  # installing is CI's part
    if command.startswith("pytest"):
        pytest.skip("this is the command that runs now")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | {"PATH": path},
    )
    assert done.returncode == 0, done.stderr
    expected = re.escape(shown).replace(re.escape("..."), ".*")
    assert re.fullmatch(expected, done.stdout), f"printed:\n{done.stdout}\nthe README says:\n{shown}"


def test_the_file_tree_names_every_file_of_the_package() -> None:
    tree = next(block for language, block in BLOCKS if language == "" and block.startswith("npdistil/"))
    package = README.parent / "npdistil"
    public = {path.name for path in package.glob("*.py")} - {"__init__.py", "__main__.py", "errors.py"}
    assert not {name for name in public if f"  {name} " not in tree}


def test_links_in_the_readme_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)", README.read_text(encoding="utf-8"))
    assert links
    assert not [link for link in links if not link.startswith("http") and not (README.parent / link).exists()]
