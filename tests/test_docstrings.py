"""Examples in docstrings run, and print what they say."""

import doctest
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny

import npdistil
from npdistil import files
from npdistil.distilbert import encoder, heads

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
# Made of others that have an example: one of their own would only be longer.
COMPOUND = {"embed", "block", "hidden_states", "encode", "int8_product"}
VARIANTS = {"gelu_tanh", "laplace", "mish", "relu", "silu", "sigmoid"}


PUBLIC = [
    *filter(inspect.isfunction, (getattr(npdistil, name) for name in vars(npdistil)["__all__"])),
    files.annotate_file,
]


@pytest.mark.parametrize("thing", [npdistil, encoder, heads, *PUBLIC], ids=lambda thing: thing.__name__)
def test_examples_print_what_they_say(thing: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.write(tmp_path / "my-distilbert")
    monkeypatch.chdir(tmp_path)
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    for example in doctest.DocTestFinder().find(thing, globs=vars(inspect.getmodule(thing)).copy()):
        runner.run(example, out=report.append)
    assert not report, "".join(report)
    assert runner.summarize(verbose=False).attempted


@pytest.mark.parametrize("module", [encoder, heads], ids=lambda module: module.__name__)
def test_every_function_of_the_specification_has_an_example(module: Any) -> None:
    def own(member: object) -> bool:  # not what Python adds: from 3.14 on a module has a function __annotate__
        return inspect.isfunction(member) and member.__module__ == module.__name__ and member.__name__[:2] != "__"

    functions: list[tuple[str, Callable[..., Any]]] = inspect.getmembers(module, own)
    without = {name for name, function in functions if ">>> " not in (function.__doc__ or "")}
    assert not without - COMPOUND - VARIANTS
