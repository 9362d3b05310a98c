"""What README, docs and package claim, and what holds it: `python tests/claims.py` brings claims.tsv up to date.

A claim is a sentence with a figure, a guarantee or a comparison, in README.md, SECURITY.md, on a page of docs/, or in
the docstring of a package or a module. Of pages, code and tables that scripts write are left out: other tests compare
these with what wrote them. A line of claims.tsv is a file, what holds the claim, and the sentence:

- `tests/test_x.py::test_name`: a test; several stand side by side, with blanks between;
- `.ci/steps.py::wheel`: a step of continuous integration;
- a file that is committed: results of a measurement, or a source that is itself what the sentence tells of;
- `example`: the page's own code, which is run by a test and whose output is compared, or which makes what is shown;
- `-`: advice, a definition, or a word that is no promise where it stands.
"""

import ast
import difflib
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "tests" / "claims.tsv"
UNITS = (
    r"%|ms|µs|s|kB|MB|GB|GiB|KiB|MiB|TB|seconds?|minutes?|hours?|days?|bytes?|bits?|times|tokens?|characters?|texts?|reviews"
    r"|sentences|phrases|positions|heads|layers|processes|megabytes|threads?|cores?|CPUs?|lines?|files?|tests?|packages|directories|rows|requests|numbers|parameters"
)
NUMBERS = (
    "two|three|four|five|six|seven|eight|nine|ten|twelve|fifteen|a hundred|a thousand|a million|half(?: of)?(?: the)?"
    "|(?:a )?quarter(?: of)?(?: the)?|hundreds of|thousands of"
)
FIGURE = (
    rf"\b(?:\d[\d,.^]*(?: to \d[\d,.]*)?|{NUMBERS})\s?(?:[a-z]+ )?(?:{UNITS})(?!\w)"
    r"|\d,\d{3}|\d(?:\.\d+)?e-\d|\ba (?:third|fifth|tenth) of"
)
GUARANTEE = (
    r"\b(?:never|always|nothing|all|none|cannot|exact(?:ly)?|whatever|lost)\b|\bevery"
    r"|\bsame (?:bits|bytes|answers?|labels?|results?|numbers|scores|vectors)\b"
    r"|\bno (?:row|text|byte|network|HOME|download|compiler|torch|padding|mask|code|result|part|request|page|disk)\b"
    r"|\bnot? (?:one|a single)\b|\bwithout (?:network|a|any|padding|loss)\b"
    r"|\bdo(?:es)? not (?:depend|change|grow|touch)\b|\bany (?:batch|order|number|thread)"
)
COMPARISON = (
    r"\b(?:faster|slower|smaller|larger|cheaper|quicker|sooner|better|worse|fewer|ahead(?! of time)|best|fastest)\b"
    r"|\bas (?:fast|large|much|many|small) as\b|\b(?:less|more) (?:memory|time|than)\b"
)
CLAIM = re.compile(f"{FIGURE}|{GUARANTEE}|{COMPARISON}")


def pages() -> dict[str, str]:
    """The prose of each file that makes claims, by its path."""
    found = {}
    for path in [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]:
        found[path.relative_to(ROOT).as_posix()] = prose(path.read_text(encoding="utf-8"))
    for path in sorted((ROOT / "npdistil").rglob("*.py")):
        if docstring := ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))):
            found[path.relative_to(ROOT).as_posix()] = re.sub(r">>> .*\n(.+\n?)*", "", docstring)
    return found


def prose(markdown: str) -> str:
    """A page without code, tables that scripts write, and where links lead."""
    text = re.sub(r"\A---\n.*?\n---\n", "", markdown.replace("**", ""), flags=re.DOTALL)
    text = re.sub(r"^ *(`{3,})[^\n]*\n.*?^ *\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"<!-- (?!until|end)[^>]*-->.*?<!-- (?:until here|end[^>]*) -->", "", text, flags=re.DOTALL)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return re.sub(r"^(?::::.*|\|[- |]*\||\$\$.*\$\$)$", "", text, flags=re.MULTILINE)


def sentences(text: str) -> list[str]:
    """The sentences of a text, each on one line; an item and a row of a table end one too, and headings are none."""
    paragraphs = re.split(r"\n\s*\n|\n(?=\s*(?:[-*|#>]|\d+\.) ?)", text)
    found = []
    for paragraph in paragraphs:
        line = re.sub(r"^(?:[-*>]+|\d+\.) ", "", " ".join(paragraph.split()))
        if line and not line.startswith("#"):  # a heading
            found += re.split(r"(?<=[a-zA-Z0-9)`*\"$][.!?])(?<! al\.) (?=[A-Z0-9`\"*$]|[a-z_]+[/.]\w)", line)
    return found


def claims() -> list[tuple[str, str]]:
    """File and sentence of each claim."""
    return [(page, each) for page, text in pages().items() for each in sentences(text) if CLAIM.search(each)]


def key(page: str, sentence: str) -> tuple[str, str]:
    """What a claim is found by: its words, whatever the marks and the emphasis between them."""
    return page, " ".join(re.findall(r"[\w.%]+", sentence.lower())).rstrip(".")


def table() -> list[tuple[str, str, str]]:
    """The lines of claims.tsv: file, holders, sentence."""
    lines = TABLE.read_text(encoding="utf-8").splitlines() if TABLE.exists() else []
    return [(page, holders, sentence) for page, holders, sentence in (line.split("\t") for line in lines)]


@cache
def functions(path: Path) -> set[str]:
    """The names of the functions in a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}


def missing_holder(page: str, holder: str) -> bool:
    """Whether there is no such test, file or example."""
    if holder == "-":
        return False
    if holder == "example":
        text = (ROOT / page).read_text(encoding="utf-8")
        return not re.search(r">>> |^```console|^```\{code-cell\}", text, re.MULTILINE)
    file, _, name = holder.partition("::")
    if file.startswith(".ci/") and not (ROOT / ".ci").exists():  # in an sdist
        return False
    path = ROOT / file
    return not path.is_file() or (bool(name) and name not in functions(path))


def main() -> None:
    """Writes claims.tsv anew, in the order of the pages; what is new has a `?`, and the holders of a line like it."""
    known = {key(page, sentence): holders for page, holders, sentence in table()}
    found = {key(*claim): claim for claim in claims()}
    stale = {where: holders for where, holders in known.items() if where not in found}
    lines = []
    for where, (page, sentence) in found.items():
        like = difflib.get_close_matches(where[1], [words for other, words in stale if other == page], 1)
        holders = known.get(where) or f"?{stale[page, like[0]].lstrip('?') if like else ''}"
        lines.append(f"{page}\t{holders}\t{sentence}\n")
        if "?" in holders:
            print(lines[-1], end="")
    TABLE.write_text("".join(lines), encoding="utf-8")
    print(f"{sum('?' in line.split(chr(9))[1] for line in lines)} of {len(lines)} lines lack what holds them")


if __name__ == "__main__":
    main()
