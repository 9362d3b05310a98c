"""`npdistil serve`."""

import argparse
import importlib.util
import os
from pathlib import Path

from ..errors import InputError, MissingExtraError
from ..serve.settings import Settings
from .options import add_model, add_settings, examples, loaded, settings_of

PACKAGES = ("starlette", "httptools", "prometheus_client")


def add_options(command: argparse.ArgumentParser, name: str) -> None:
    """What it takes."""
    command.add_argument("--host", default="127.0.0.1", metavar="H", help="default 127.0.0.1: this machine only")
    command.add_argument("--port", type=int, default=8080, metavar="N", help="default 8080; 0: any that is free")
    command.add_argument(
        "--token-file", type=Path, metavar="FILE", help="ask clients for the token in this file, or in NPDISTIL_TOKEN"
    )
    command.add_argument(
        "--allow-origin",
        nargs="+",
        default=argparse.SUPPRESS,
        metavar="URL",
        help="pages of these origins may use it (CORS); default: none",
    )
    command.add_argument(
        "--allow-host",
        nargs="+",
        default=argparse.SUPPRESS,
        metavar="NAME",
        help="hosts that requests may be for; default: this machine's own names where it answers only this machine, "
        "else any",
    )
    add_settings(command, Settings, "token", "allow_origin", "allow_host")
    add_model(command)
    examples(
        command,
        "npdistil serve",
        "NPDISTIL_TOKEN=secret npdistil serve --host 0.0.0.0 --port 8000 --model ./my-distilbert",
    )
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    for package in PACKAGES:
        if not importlib.util.find_spec(package):
            raise MissingExtraError(package, "serve")
    from ..serve.server import serve

    given = settings_of(options, Settings)
    if (token := os.environ.get("NPDISTIL_TOKEN")) is not None:  # one that is set to nothing is a mistake, and refused
        given["token"] = token
    if options.token_file:
        try:
            given["token"] = options.token_file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"the token cannot be read: {error}") from None
    serve(loaded(options), options.host, options.port, Settings(**given))
