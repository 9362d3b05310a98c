"""Records of settings: each field is checked, and says the same to Python, to the command line and in JSON schema."""

import argparse
import copy
import inspect
import math
import pickle
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from npdistil.cli.options import add_settings, settings_of
from npdistil.errors import InputError
from npdistil.pipelines import TASKS, task_type
from npdistil.settings import UNSET, check, choice, flag, kind_of, number, strings, whole
from npdistil.tasks.base import TaskSettings
from npdistil.tasks.text_classification import TextClassificationSettings

RECORDS = sorted({task_type(task).settings_type for task in TASKS}, key=lambda record: record.__name__)


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (
            whole(),
            [1, 2**31 - 1, np.int64(3)],
            [0, 2**31, 10**30, 10**5000, -1, 1.0, True, "1", None, math.nan, np.float32(2)],
        ),
        (whole(0, 5), [0, 5], [6, -1]),
        (number(0, 1), [0.5, 1, np.float64(0.1)], [0, 10**400, 1.5, math.nan, math.inf, True, "0.5"]),
        (choice("a", "b"), ["a"], ["c", "", 1, None, ["a"]]),
        (flag(), [True, False], [0, 1, "yes", None]),
        (strings(1), [["a"], ("a", "b")], [[], "a", [1], None, b"a"]),
    ],
)
def test_each_kind_takes_its_values_and_no_others(kind: Any, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        check("x", kind, value)
    for value in bad:
        with pytest.raises(InputError, match=r"^x is .*; (expected|known)"):
            check("x", kind, value)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_every_field_has_a_kind_a_text_and_a_default_that_it_takes(record: type[TaskSettings]) -> None:
    made = record()
    for each in fields(record):
        assert each.metadata["about"].endswith(".")
        check(each.name, kind_of(each), getattr(made, each.name), *each.metadata["also"])
        assert kind_of(each).schema
    assert all(f"    {each.name}: " in record.described() for each in fields(record))


@pytest.mark.parametrize("task", TASKS)
def test_a_tasks_signature_and_documentation_are_its_settings(task: str) -> None:
    kind = task_type(task)
    names = [each.name for each in fields(kind.settings_type)]
    assert [*inspect.signature(kind).parameters][1:] == names
    assert all(f"{name}: " in (kind.__doc__ or "") for name in names)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_every_field_is_an_option_whose_default_is_the_records(record: type[TaskSettings]) -> None:
    parser = argparse.ArgumentParser()
    add_settings(parser, record)
    assert settings_of(parser.parse_args([]), record) == {}
    options = {option for action in parser._actions for option in action.option_strings}
    assert {f"--{each.name.replace('_', '-')}" for each in fields(record)} <= options


def test_options_become_settings() -> None:
    parser = argparse.ArgumentParser()
    add_settings(parser, TextClassificationSettings)
    options = parser.parse_args(
        "--top-k 0 --threshold 0.5 --long-text error --truncation only_first --stride 0".split()
    )
    given = settings_of(options, TextClassificationSettings)
    assert given == {"top_k": None, "threshold": 0.5, "long_text": "error", "truncation": "only_first", "stride": 0}


def test_a_name_that_is_no_setting_is_refused_with_those_that_are() -> None:
    with pytest.raises(InputError, match="unknown setting: batchsize; known are batch_size"):
        TaskSettings.of({"batchsize": 3})
    with pytest.raises(InputError, match="unknown setting: batchsize"):
        TaskSettings().replaced({"batchsize": 3})


def test_records_are_values_and_copies_of_unset_are_unset() -> None:
    record = TextClassificationSettings(threshold=0.5)
    assert record == pickle.loads(pickle.dumps(record)) == copy.deepcopy(record) == record.replaced({})
    assert pickle.loads(pickle.dumps(UNSET)) is copy.deepcopy(UNSET) is UNSET
    assert record.replaced({"threshold": None}) == TextClassificationSettings()
    with pytest.raises(AttributeError):
        record.threshold = 1.0  # type: ignore[misc]
