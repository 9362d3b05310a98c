"""`npdistil explain`."""

import argparse
import json
import sys
from dataclasses import replace

from ..errors import InputError
from ..pipelines import pipeline
from ..tasks.explanation import ExplanationSettings, wants_colour
from ..text import is_empty
from . import texts_of
from .options import add_model, add_settings, add_texts, examples, loaded, settings_of


def add_options(command: argparse.ArgumentParser, name: str) -> None:
    """What it takes."""
    add_texts(command)
    add_model(command)
    add_settings(command, ExplanationSettings, "batch_size")
    command.add_argument("--format", choices=("text", "json", "html"), default="text", help="default: text")
    command.add_argument("--attention", action="store_true", help="give the attention of each layer and head too")
    examples(
        command,
        "npdistil explain 'Not bad at all.'",
        "npdistil explain --method shapley --label NEGATIVE 'Great cast, dreadful film.'",
        "npdistil explain --format html 'Not bad at all.' > why.html",
    )
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Explain one text after the other."""
    if options.attention and options.format == "text":
        raise InputError("--attention goes with --format json; html has it always")
    if options.format == "html" and len(options.text) != 1:
        raise InputError("--format html takes one text, as an argument")
    pipe = pipeline("explanation", loaded(options), **settings_of(options, ExplanationSettings))
    for number, text in enumerate(texts_of(options)):
        if is_empty(text):
            raise InputError(f"text {number} is empty: it has no words to explain")
        found = pipe(text)
        if options.attention or options.format == "html":
            found = replace(found, attention=pipe.model.attentions([pipe.model.tokenizer.encode(text).ids])[0])
        if options.format == "html":
            sys.stdout.write(found.as_html())
        elif options.format == "json":
            weights = {} if found.attention is None else {"attention": found.attention.tolist()}
            print(json.dumps(found.as_dict() | weights, ensure_ascii=False), flush=True)
        else:
            print(("\n" if number else "") + found.as_text(wants_colour(sys.stdout.isatty())), flush=True)
