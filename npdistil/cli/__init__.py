"""The command `npdistil`: results on standard output, everything else on standard error."""

import argparse
import errno
import importlib
import io
import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from difflib import get_close_matches
from typing import Any

from .. import __version__, settings
from ..errors import InputError, NpdistilError

FAILED = 2
SIGPIPE = 13  # of every system that has it
COMMANDS = {  # name -> the module here that has its options and runs it, and what it does
    "classify": ("task", "label texts, or lines on standard input"),
    "ner": ("task", "find names and other entities: class, word, score, first and last character"),
    "qa": ("task", "answer questions from a text: answer, score, first and last character"),
    "fill-mask": ("task", "words for [MASK]: word, score, text"),
    "zero-shot": ("task", "classify by labels of your own, with a model for natural language inference: label, score"),
    "choose": ("task", "which of several answers goes with a text best: its number, the answer, scores"),
    "embed": ("task", "a vector for each text, as JSON lines"),
    "explain": ("explain", "say how much each word adds to the log-odds of the label"),
    "info": ("info", "say what a model is and how it would run"),
    "eval": ("evaluate", "accuracy, F1 and confusion matrix on a labelled file"),
    "quantize": ("quantize", "write an int8 copy of a float checkpoint, and say what error that made"),
    "bench": ("bench", "measure throughput, latency and memory on this machine"),
    "serve": ("serve", "answer requests over HTTP, with a page to look at"),
    "completion": ("completion", "a script that has a shell complete commands and options"),
}
FILE_NAME = re.compile(r"\S+\.(csv|tsv|jsonl?|txt|parquet)(\.gz|\.zst)?", re.IGNORECASE)


def main(arguments: Sequence[str] | None = None, started: Callable[[], None] = lambda: None) -> int:
    """Run one command; returns the exit code: 0, 2 for any error, and 128 and its number after a signal.

    That is 130 after Ctrl-C, 143 after SIGTERM, and 141, as of other programs, where nobody reads the output any more.

    Args:
        arguments: by default those of the process.
        started: is called when the command's modules are imported, before it runs.
    """
    # OpenBLAS makes threads when NumPy is imported, which costs a short command a tenth of its time; both engines have
    # threads of their own.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        options = _parsed([*(sys.argv[1:] if arguments is None else arguments)])
        if sys.stdout is None:
            raise InputError("standard output is closed")
        if isinstance(sys.stdout, io.TextIOWrapper):  # not the locale's encoding, and no silent repair
            sys.stdout.reconfigure(encoding="utf-8", errors="strict")
        if sys.stderr is not None and sys.stderr.isatty():  # whoever waits sees what for
            logging.basicConfig(format="npdistil: %(message)s")
            logging.getLogger("npdistil").setLevel(logging.INFO)
        started()
        settings.OPTIONS = _names(options)
        options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt as stop:
        return 128 + (stop.args[0] if stop.args and isinstance(stop.args[0], int) else signal.SIGINT)
    except BrokenPipeError:  # the reader has seen enough, as `head` does
        _discard_output()
        return 128 + SIGPIPE
    except (NpdistilError, OSError, MemoryError, ImportError) as error:
        say("error", _reason(error))
        try:
            if sys.stdout is not None:
                sys.stdout.flush()
        except OSError:
            _discard_output()
        return FAILED
    finally:
        settings.OPTIONS = {}
    return 0


def _reason(error: BaseException) -> str:
    """What an error says; of memory and of modules it may say nothing, or pages that have the reason behind them."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return "out of memory" + f": {error}" * bool(str(error))
    if isinstance(error, ImportError) and not isinstance(error, NpdistilError):
        cause: BaseException = error
        while cause.__cause__:
            cause = cause.__cause__
        return f"a module cannot be imported: {cause}"
    if isinstance(error, OSError) and error.strerror:  # without the number
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def _names(options: argparse.Namespace) -> dict[str, str]:
    """Settings -> the options that they are."""
    given = vars(options).keys() - {"text", "run", "command"}
    return {name.removeprefix("no_"): f"--{name.replace('_', '-')}" for name in given}


def say(kind: str, text: str) -> None:
    """An error or a warning, as one line on standard error."""
    line = " ".join(text.split()).encode("utf-8", "backslashreplace").decode()
    print(f"npdistil: {kind}: {line}", file=sys.stderr)


def _discard_output() -> None:
    """What standard output did not take goes nowhere, or Python would try and complain once more at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def texts_of(options: argparse.Namespace) -> Iterator[str]:
    """The texts among the arguments, where "-" stands for the lines of standard input; without any, these lines.

    Raises:
        InputError: a line that is not UTF-8, standard input that is closed, or the name of a file.
    """
    for text in options.text:
        if os.path.isfile(text) or FILE_NAME.fullmatch(text):  # noqa: PTH113 - which raises for long texts
            raise InputError(
                f"{text} is the name of a file, and not a text; give each of its lines as a text with < {text}"
                + f", or its rows with --input {text}" * bool(hasattr(options, "input") and FILE_NAME.fullmatch(text))
            )
    for text in options.text or "-":
        if text == "-":
            yield from _lines_of_standard_input()
        else:
            yield text


def _lines_of_standard_input() -> Iterator[str]:
    if sys.stdin is None:
        raise InputError("standard input is closed, and there is no text among the arguments")
    for number, line in enumerate(sys.stdin.buffer, start=1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:  # noqa: PERF203
            raise InputError(
                f"standard input is not UTF-8: line {number} has the byte 0x{line[error.start]:02x} behind "
                f"{error.start} others; iconv -f ENCODING -t utf-8 converts it"
            ) from None


def _parsed(given: list[str]) -> argparse.Namespace:
    """The options of the command that is given; ends the process where they are wrong, as argparse does."""
    chosen = given[0] if given else ""
    parser, command = parsers(chosen)
    if chosen and not chosen.startswith("-") and chosen not in COMMANDS:
        parser.error(
            f"there is no command {chosen!r}{_meant(chosen, COMMANDS) or '; known are ' + ', '.join(COMMANDS)}"
        )
    options, unknown = parser.parse_known_args(given)
    if unknown:
        word = unknown[0].partition("=")[0]
        if word.startswith("--"):
            known = [name for action in command._actions for name in action.option_strings]
            command.error(f"there is no option {word}{_meant(word, known)}")
        dash = word.startswith("-")
        command.error(
            f"{unknown[0]!r} is one argument too many; "
            + ("put -- before texts that begin with a dash" if dash else "put texts side by side, behind the options")
        )
    return options


def _meant(word: str, known: Iterable[str]) -> str:
    near = get_close_matches(word, known, n=1, cutoff=0.75)
    return f"; did you mean {near[0]}?" if near else ""


class _Parser(argparse.ArgumentParser):
    def _print_message(self, message: str, file: Any = None) -> None:
        """Say what was asked for; argparse's own says nothing where there is no place for it."""
        if file is None or file is not sys.stdout:
            super()._print_message(message, file)
            return
        file.write(message)
        file.flush()


def parsers(chosen: str) -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    """Of all commands, by name alone, and of the chosen one, with its options; modules of others are not imported."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = _Parser(
        prog="npdistil",
        description="DistilBERT inference on a CPU: text in, labels out.",
        allow_abbrev=False,  # a slip is an error, and what it was short for may change
        epilog='examples:\n  npdistil classify "I like you. I love you."\n  npdistil classify --help',
        formatter_class=formatter,
    )
    parser.add_argument("-V", "--version", action="version", version=f"npdistil {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    found = parser
    for name, (module, about) in COMMANDS.items():
        description = f"{about[0].upper()}{about[1:]}."
        command = commands.add_parser(name, help=about, description=description, allow_abbrev=False)
        if name == chosen:
            found, command.formatter_class = command, formatter
            importlib.import_module(f".{module}", __name__).add_options(command, name)
    return parser, found
