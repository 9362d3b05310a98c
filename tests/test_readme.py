"""The examples of the README and of docs/ run, and print what they say."""

import doctest
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import sides
import tiny

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
PAGES_IDS = [page.name for page in PAGES]
# What the README calls my-...: its texts in a vocabulary that has their words.
MODELS: dict[str, dict[str, object]] = {
    "my-ner": {"architectures": ["DistilBertForTokenClassification"], "id2label": {"0": "B-PER", "1": "B-LOC"}},
    "my-qa": {"architectures": ["DistilBertForQuestionAnswering"]},
    "my-mlm": {"architectures": ["DistilBertForMaskedLM"]},
    "my-nli": {"id2label": {"0": "contradiction", "1": "neutral", "2": "entailment"}},
    "my-choice": {"architectures": ["DistilBertForMultipleChoice"]},
    "my-distilbert": {},
}


def blocks(page: Path) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = re.findall(r"```(\w*)\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    return found


@pytest.mark.parametrize("page", [page for page in PAGES if ">>>" in page.read_text(encoding="utf-8")], ids=str)
def test_python_examples_print_what_the_page_says(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, settings in MODELS.items():
        tiny.write(tmp_path / name, max_position_embeddings=64, **settings)  # type: ignore[arg-type]
    shutil.copy(ROOT / "tests" / "behaviour.tsv", tmp_path)
    monkeypatch.chdir(tmp_path)
    source = "\n".join(block for language, block in blocks(page) if language == "python" and ">>>" in block)
    example = doctest.DocTestParser().get_doctest(source, {}, page.name, str(page), 0)
    assert example.examples
    report: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE).run(example, out=report.append)
    assert not report, "".join(report)


@pytest.mark.parametrize(
    "page", [README, *(ROOT / "docs" / name for name in ("first-steps.md", "files.md"))], ids=lambda page: page.name
)
def test_console_examples_print_what_the_page_says(page: Path, tmp_path: Path) -> None:
    """One after the other, as somebody who reads it types them."""
    text = "".join(block for language, block in blocks(page) if language == "console")
    examples = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", text, re.MULTILINE)
    npdistil = f'npdistil() {{ {shlex.quote(sys.executable)} -m npdistil "$@"; }}'  # this one, wherever it is installed
    ran = 0
    for command, shown in examples:
        command = re.sub(r"^pip install \S+ && ", "", command)  # installing is CI's part
        if command.startswith("pytest"):  # this is what runs now
            continue
        done = subprocess.run(
            ["sh", "-c", f"{npdistil}\n{command}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,  # as a terminal shows both
            text=True,
            timeout=300,
            check=False,
            cwd=tmp_path,
        )
        assert done.returncode == 0, f"$ {command}\n{done.stdout}"
        expected = re.escape(shown).replace(re.escape("..."), ".*")
        assert re.fullmatch(expected, done.stdout), f"$ {command}\n{done.stdout}\nthe page says:\n{shown}"
        ran += 1
    assert ran == len(examples) - (page == README)  # its tests, which are running


COLUMNS = [
    pytest.param(ours, id=f"{path.stem}-{number}")
    for path in sorted((ROOT / "docs").glob("from-*.md"))
    for number, (_, ours) in enumerate(sides.pairs(path.name))
]


@pytest.mark.parametrize("source", COLUMNS)
def test_our_column_runs(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both columns together are compared in tests/reference, where the other libraries are."""
    sides.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert sides.run(source)


def test_every_pair_of_columns_is_found() -> None:
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("from-*.md")]
    shells = sum(text.count("sides\n```sh\n") for text in texts)
    assert len(COLUMNS) + shells == sum(text.count("{container} sides") for text in texts) > 6


def test_the_file_tree_names_every_file_of_the_package() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    tree = page.partition("## Files and folders")[2]
    public = {path.name for path in (ROOT / "npdistil").glob("*.py")} - {"__init__.py", "__main__.py", "errors.py"}
    assert not {name for name in public if f"  {name} " not in tree}


@pytest.mark.parametrize("page", PAGES, ids=PAGES_IDS)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+)", text) + re.findall(r"^```{(?:literal)?include} (\S+)", text, re.MULTILINE)
    assert links
    assert not [link for link in links if not link.startswith("http") and not (page.parent / link).exists()]
