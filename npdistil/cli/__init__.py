"""The command `npdistil`: results on standard output, everything else on standard error."""

import argparse
import importlib
import io
import logging
import os
import sys
from collections.abc import Iterator, Sequence

from .. import __version__
from ..errors import InputError, NpdistilError

FAILED, INTERRUPTED = 2, 130
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
    "bench": ("bench", "measure throughput, latency and memory on this machine; a table, then one line of JSON"),
    "serve": ("serve", "answer requests over HTTP, with a page to look at"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 2 for any error, 130 after Ctrl-C."""
    given = sys.argv[1:] if arguments is None else [*arguments]
    options = _parser(given[0] if given else "").parse_args(given)
    if sys.stdout is None:
        print("npdistil: error: standard output is closed", file=sys.stderr)
        return FAILED
    # Not the locale's encoding, and no silent repair of what is not UTF-8.
    for stream, encoding in ((sys.stdin, "utf-8-sig"), (sys.stdout, "utf-8")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding=encoding, errors="strict")
    if sys.stderr is not None and sys.stderr.isatty():  # whoever waits sees what for
        logging.basicConfig(format="npdistil: %(message)s")
        logging.getLogger("npdistil").setLevel(logging.INFO)
    try:
        options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader has seen enough, as `head` does
        _discard_output()
        return FAILED
    except (NpdistilError, OSError) as error:
        print(f"npdistil: error: {' '.join(str(error).split())}", file=sys.stderr)
        try:
            sys.stdout.flush()
        except OSError:
            _discard_output()
        return FAILED
    return 0


def _discard_output() -> None:
    """What standard output did not take goes nowhere, or Python would try and complain once more at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def texts_of(options: argparse.Namespace) -> Iterator[str]:
    """The texts among the arguments, or else the lines of standard input.

    Raises:
        InputError: a line that is not UTF-8.
    """
    yield from options.text
    if options.text:
        return
    try:
        for line in sys.stdin or ():  # None where it is closed
            yield line.rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise InputError(f"standard input is not UTF-8: {error}") from None


def _parser(chosen: str) -> argparse.ArgumentParser:
    """All commands by name, and the options of the chosen one; the others' modules are not imported."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="npdistil",
        description="DistilBERT inference on a CPU: text in, labels out.",
        epilog='examples:\n  npdistil classify "I like you. I love you."\n  npdistil classify --help',
        formatter_class=formatter,
    )
    parser.add_argument("--version", action="version", version=f"npdistil {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (module, about) in COMMANDS.items():
        command = commands.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.")
        if name == chosen:
            command.formatter_class = formatter
            importlib.import_module(f".{module}", __name__).add_options(command, name)
    return parser
