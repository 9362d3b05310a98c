"""The page of commands: `python docs/cli.py` writes it from the parsers of the command line; `--check` compares."""

import argparse
import sys
from pathlib import Path

from npdistil.cli import COMMANDS, parsers

PAGE = Path(__file__).with_name("cli.md")
HEAD = """# The command

`npdistil COMMAND --help` says the same of one command, and `python -m npdistil` is its other name. Results go to
standard output, everything else to standard error; the exit code is 0, 2 for any error, 130 after Ctrl-C, 143 after
SIGTERM, and 141 where nobody reads the output any more, as after `| head -1`. A service that either ends, after what it
had accepted, gives 0.
[Files](files.md) and [the service](serve.md) have pages of their own.

<!-- made by cli.py -->

"""


def cell(text: str) -> str:
    """A text in a table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def form(action: argparse.Action) -> str:
    """An option or an argument, with what it takes."""
    if action.choices and not isinstance(action, argparse.BooleanOptionalAction):
        value = "{" + ",".join(map(str, action.choices)) + "}"
    else:
        value = "" if action.nargs == 0 else str(action.metavar or action.dest.upper())
    if not action.option_strings:
        return {"*": f"`[{value} ...]`", "?": f"`[{value}]`"}.get(str(action.nargs), f"`{value}`")
    several = f"{value} [{value} ...]" if action.nargs == "+" else value
    return ", ".join(f"`{f'{option} {several}'.rstrip()}`" for option in action.option_strings)


def about(action: argparse.Action, command: argparse.ArgumentParser) -> str:
    """What an option is for, with its default where its help does not say it, and whether it must be given."""
    text = (action.help or "") % {"default": action.default, "prog": "npdistil"}
    default = action.default
    silent = default is None or default == argparse.SUPPRESS or isinstance(default, bool) or "default" in text
    text += "" if silent else f" (default {default})"
    for either in command._mutually_exclusive_groups:
        if action in either._group_actions:
            text += f" ({' or '.join(each.option_strings[0] for each in either._group_actions)} must be given)"
    return cell(text)


def section(name: str) -> str:
    """A command: what it does, an example, and a table for each group of its options."""
    command = parsers(name)[1]
    example = (command.epilog or "").split("\n  ")[1]
    lines = [f"## {name}", "", command.description or "", "", "```sh", example, "```", ""]
    for group in command._action_groups:
        actions = [action for action in group._group_actions if "--help" not in action.option_strings]
        if not actions:
            continue
        if group.description:
            lines += [f"{cell(group.description)}", ""]
        lines += [f"| {'options' if actions[0].option_strings else 'arguments'} | |", "|---|---|"]
        lines += [f"| {form(action)} | {about(action, command)} |" for action in actions]
        lines += [""]
    return "\n".join(lines)


def page() -> str:
    """All of it."""
    index = ["| command | |", "|---|---|"]
    index += [f"| [`{name}`](#{name}) | {cell(about)} |" for name, (_, about) in COMMANDS.items()]
    return HEAD + "\n".join(index) + "\n\n" + "\n".join(map(section, COMMANDS)) + "\n<!-- until here -->\n"


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(PAGE.read_text(encoding="utf-8") != page())
    PAGE.write_text(page(), encoding="utf-8")
