"""`npdistil completion`: what a shell needs to complete commands and options, made from their parsers."""

import argparse
import shlex

from . import COMMANDS, parsers
from .options import examples

BASH = """_npdistil() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} command=${{COMP_WORDS[1]}}
    if [ "$COMP_CWORD" = 1 ]; then COMPREPLY=($(compgen -W "{commands}" -- "$word")); return; fi
    case "$command $before" in
{values}
    esac
    case "$command $word" in
{options}
    esac
    COMPREPLY=($(compgen -f -- "$word"))
}}
complete -o filenames -F _npdistil npdistil
"""
ZSH = "autoload -Uz compinit bashcompinit && compinit && bashcompinit\n"  # zsh runs bash's functions


def add_options(command: argparse.ArgumentParser, name: str) -> None:
    """What it takes."""
    command.add_argument("shell", choices=("bash", "zsh", "fish"), metavar="SHELL", help="bash, zsh or fish")
    examples(
        command,
        'eval "$(npdistil completion bash)"  # in ~/.bashrc',
        'eval "$(npdistil completion zsh)"  # in ~/.zshrc',
        "npdistil completion fish > ~/.config/fish/completions/npdistil.fish",
    )
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print the script."""
    if options.shell == "fish":
        print(*_fish(), sep="\n")
    else:
        print((ZSH if options.shell == "zsh" else "") + _bash(), end="")


def _actions(command: str) -> list[argparse.Action]:
    return [action for action in parsers(command)[1]._actions if action.option_strings]


def _bash() -> str:
    values, options = [], []
    for name in COMMANDS:
        actions = _actions(name)
        words = " ".join(option for action in actions for option in action.option_strings)
        options.append(f"""    "{name} -"*) COMPREPLY=($(compgen -W "{words}" -- "$word")); return;;""")
        for action in actions:
            if action.choices:
                words = " ".join(map(str, action.choices))
                places = "|".join(f'"{name} {option}"' for option in action.option_strings)
                values.append(f"""    {places}) COMPREPLY=($(compgen -W "{words}" -- "$word")); return;;""")
    return BASH.format(commands=" ".join(COMMANDS), values="\n".join(values), options="\n".join(options))


def _fish() -> list[str]:
    lines = []
    for name, (_, about) in COMMANDS.items():
        lines.append(f"complete -c npdistil -n __fish_use_subcommand -fa {name} -d {shlex.quote(about)}")
        for action in _actions(name):
            words = ["complete", "-c", "npdistil", "-n", f"__fish_seen_subcommand_from {name}"]
            for option in action.option_strings:
                words += ["-l", option[2:]] if option.startswith("--") else ["-s", option[1:]]
            if action.choices:
                words += ["-xa", " ".join(map(str, action.choices))]
            elif action.nargs != 0:
                words.append("-r")
            help_ = (action.help or "").replace("%%", "%").partition(";")[0]
            lines.append(shlex.join([*words, "-d", help_]))
    return lines
