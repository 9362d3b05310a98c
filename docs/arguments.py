"""What calls take: `python docs/arguments.py` writes the page's tables, the types of keywords, and a docstring.

They are made of the records of settings and of the table of transformers' arguments, and `--check` says whether they
still are.
"""

import sys
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from textwrap import fill
from typing import Any

import npdistil.arguments as table
from npdistil.pipelines import TASKS, task_type
from npdistil.settings import UNSET, kind_of
from npdistil.tasks.base import TaskSettings

PAGE = Path(__file__).with_name("arguments.md")
KEYWORDS = Path(table.__file__).with_name("keywords.py")
PIPELINES = Path(table.__file__).with_name("pipelines.py")
LISTED = "\n    Settings of each task::\n\n"
START, END = "<!-- made by arguments.py -->\n", "<!-- until here -->\n"
RECORDS = {task_type(task).settings_type: None for task in TASKS}
APART = (
    "top_k",
    "return_all_scores",
    "threshold",
    "combine",
    "aggregation_strategy",
    "candidate_labels",
    "grouped_entities",
    "ignore_subwords",
)


def type_of(schema: Mapping[str, Any]) -> str:
    """A kind's JSON schema as a type."""
    if "enum" in schema:
        names = [each for each in schema["enum"] if isinstance(each, str)]
        booleans = ["bool"] * any(isinstance(each, bool) for each in schema["enum"])
        return " | ".join([*booleans, f"Literal[{', '.join(f'{name!r}' for name in names)}]"])
    if "oneOf" in schema:
        return " | ".join(map(type_of, schema["oneOf"]))
    known = {"integer": "int", "number": "float", "boolean": "bool", "string": "str", "array": "Sequence[str]"}
    return known[schema["type"]]


def foreign(call: str, settings: set[str] | None) -> list[str]:
    """Names of arguments of a call: those that mean something everywhere (None), or for a task with these settings."""
    return [
        name
        for (where, name), argument in table.TABLE.items()
        if where == call and (argument.needs in settings if settings is not None else not argument.needs)
    ]


def keywords() -> str:
    """The module of types."""
    lines = [
        '"""Types of the keywords that calls take. Made by docs/arguments.py of the records of settings.',
        "",
        "`Keywords` are the settings of a task, but for those that decide of what type an answer is, and arguments of",
        "transformers; `Made` has what `pipeline` takes besides.",
        '"""',
        "",
        "from collections.abc import Sequence",
        "from typing import Any, Literal, TypedDict",
        "",
        "",
        "class CallKeywords(TypedDict, total=False):",
        *(f"    {name}: Any" for name in foreign(table.CALL, None)),
        "",
        "",
        "class LoadingKeywords(TypedDict, total=False):",
        "    engine: str",
        "    precision: str | None",
        "    threads: int | None",
        "    config: Any",
        "    tokenizer: Any",
        *(f"    {name}: Any" for name in foreign(table.PIPELINE, None)),
    ]
    for record in RECORDS:
        name = record.__name__.removesuffix("Settings")
        own = {each.name: type_of(kind_of(each).schema) for each in fields(record)}
        more = [each for each in foreign(table.CALL, {*own}) if each not in (*own, *APART)]
        apart = () if name in ("Embedding", "Explanation") else APART
        lines += [
            "",
            "",
            f"class {name}Keywords(CallKeywords, total=False):",
            *(f"    {each}: {kind} | None".replace("'", '"') for each, kind in own.items() if each not in apart),
            *(f"    {each}: Any" for each in more),
            "",
            "",
            f"class {name}Made({name}Keywords, LoadingKeywords, total=False): ...",
        ]
    return "\n".join(lines) + "\n"


def settings(record: type[TaskSettings]) -> list[str]:
    """The table of a record's fields."""
    lines = ["| setting | default | |", "|---|---|---|"]
    for each in fields(record):
        default = "" if each.default in (UNSET, MISSING) else f"`{each.default!r}`"
        lines.append(f"| `{each.name}` | {default} | {each.metadata['about']} |".replace("{0}", "`{0}`"))
    return lines


def tables() -> str:
    """The tables in Markdown."""
    lines = ["| arguments | of | what becomes of them here |", "|---|---|---|"]
    for argument in table.ARGUMENTS:
        names = ", ".join(f"`{name}`" for name in argument.names.split(", "))
        about = argument.about if argument.about != "refused" else f"refused: {argument.instead}"
        lines.append(f"| {names} | {', '.join(f'`{call}`' for call in argument.calls)} | {about} |")
    for task in dict.fromkeys(TASKS[task] for task in TASKS):
        called = [name for name, place in TASKS.items() if place == task]
        lines += ["", f"## {called[0]}", "", *settings(task_type(called[0]).settings_type)]
    return "\n".join(lines) + "\n"


def page() -> str:
    """The page with the tables as they should be."""
    before, rest = PAGE.read_text(encoding="utf-8").split(START)
    return before + START + "\n" + tables() + "\n" + END + rest.split(END)[1]


def docstring() -> str:
    """The module of pipelines with the settings that the docstring of `pipeline` should list."""
    before, rest = PIPELINES.read_text(encoding="utf-8").split(LISTED)
    lines = []
    for record in RECORDS:
        called = [name for name in TASKS if task_type(name).settings_type is record]
        given = (each.name if each.default is UNSET else f"{each.name}={each.default!r}" for each in fields(record))
        text = f"{', '.join(called)}: {', '.join(given)}".replace("'", '"')
        lines.append(fill(text, 120, initial_indent=" " * 8, subsequent_indent=" " * 12))
    return before + LISTED + "\n".join(lines) + rest[rest.index("\n\n    Raises:") :]


if __name__ == "__main__":
    made = {PAGE: page(), KEYWORDS: keywords(), PIPELINES: docstring()}
    if "--check" in sys.argv:
        sys.exit(any(path.read_text(encoding="utf-8") != text for path, text in made.items()))
    for target, content in made.items():
        target.write_text(content, encoding="utf-8")
