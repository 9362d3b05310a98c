"""What commands share: options made of settings' records, the model's options, texts, and a progress bar."""

import argparse
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import Field, fields
from pathlib import Path
from threading import Event, Thread
from typing import Any

from ..engine import ENGINES, PRECISIONS
from ..errors import InputError, MissingExtraError
from ..model import Model, load
from ..settings import Settings, kind_of

MODEL_HELP = "directory or name on the Hugging Face Hub; default: the bundled sentiment classifier"


TEXTS_HELP = "{}; none, or -: each line of standard input is one; an empty one has no answer"


def examples(command: argparse.ArgumentParser, *lines: str) -> None:
    """What stands at the end of a command's help."""
    command.epilog = "\n  ".join(("examples:", *lines))


def add_settings(
    command: argparse.ArgumentParser, record: type[Settings], *left_out: str, defaults: Mapping[str, Any] | None = None
) -> None:
    """An option for each field of a record: `top_k` is --top-k; the command may have other defaults."""
    for each in fields(record):
        if each.name in left_out:
            continue
        kind, about = kind_of(each), _for_a_shell(each, record)
        option: dict[str, Any] = {"dest": each.name, "default": argparse.SUPPRESS}
        default = (defaults or {}).get(each.name, each.default)
        if isinstance(default, (int, float, str)) and not isinstance(default, bool):
            about += f" (default {default})".replace("%", "%%")
        if kind.choices == (False, True):
            option["action"] = "store_true" if each.default is False else argparse.BooleanOptionalAction
        elif kind.choices:
            option["choices"] = kind.choices
        else:
            option |= {"type": kind.parse, "metavar": {int: "N", float: "X", str: "TEXT"}.get(kind.parse, "A,B,C")}  # type: ignore[call-overload]
        command.add_argument(f"--{each.name.replace('_', '-')}", help=about, **option)
    command.set_defaults(**(defaults or {}))


def _for_a_shell(each: Field[Any], record: type[Settings]) -> str:
    """What a field is for, in words of the command line."""
    about = each.metadata["about"].rstrip(".").replace("%", "%%")
    for other in fields(record):
        about = about.replace(f"`{other.name}`", f"--{other.name.replace('_', '-')}")
    if kind_of(each).choices == (False, True):
        return re.sub(r"^True (\w+)s\b", r"\1", about)
    if each.metadata["also"] and _is_zero_free(each):
        return re.sub(r"\bNone\b", "0", about) if "None" in about else f"{about}; 0 is the default"
    return about


def settings_of(options: argparse.Namespace, record: type[Settings]) -> dict[str, Any]:
    """The settings that were given."""
    given = {each: getattr(options, each.name) for each in fields(record) if hasattr(options, each.name)}
    return {each.name: None if value == 0 and _is_zero_free(each) else value for each, value in given.items()}


def _is_zero_free(each: Any) -> bool:
    """Whether a field takes None and not 0, so that 0 can say None on the command line."""
    return None in each.metadata["also"] and kind_of(each).parse is int and not kind_of(each).takes(0)


def add_model(command: argparse.ArgumentParser, about: str = MODEL_HELP) -> None:
    """--model and how it runs."""
    command.add_argument("--model", metavar="MODEL", help=about)
    add_engine(command)


def add_engine(command: argparse.ArgumentParser) -> None:
    """How a model runs."""
    command.add_argument("--engine", choices=ENGINES, default="auto", help="default: compiled where it can run")
    command.add_argument("--precision", choices=PRECISIONS, help="default: the checkpoint's own")
    command.add_argument("--threads", type=int, metavar="N", help="default: the CPUs that this process may use")


def loaded(options: argparse.Namespace) -> Model:
    """The model that the options name."""
    return load(options.model, engine=options.engine, precision=options.precision, threads=options.threads)


def add_texts(command: argparse.ArgumentParser, what: str = "texts") -> None:
    """Texts as arguments."""
    command.add_argument("text", nargs="*", metavar="TEXT", help=TEXTS_HELP.format(what))


def read_text(path: Path) -> str:
    """The content of a file of text.

    Raises:
        InputError: it is not UTF-8.
        OSError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig")  # a mark at the start is of the file and not of the text
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: {error}") from None


def progress_bar() -> Any:
    """The progress bar's class, or None where nobody would see it or it is not installed."""
    if sys.stderr is None or not sys.stderr.isatty():
        return None
    try:
        from tqdm import tqdm
    except ImportError:
        print(f"no progress bar: {MissingExtraError('tqdm', 'progress')}", file=sys.stderr)
        return None
    return tqdm


@contextmanager
def ticking(bar: Any, seconds: float = 1.0) -> Iterator[Any]:
    """A progress bar until it is done, drawn again every second, however long a batch takes."""
    done = Event()

    def tick() -> None:
        while not done.wait(seconds):
            bar.refresh()

    with bar:
        thread = Thread(target=tick, daemon=True)
        with suppress(RuntimeError):  # the system gives no more threads
            thread.start()
        try:
            yield bar
        finally:
            done.set()
            if thread.ident is not None:
                thread.join()
