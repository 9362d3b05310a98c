"""Text classification: transformers' calls and results, settings, lazy iterators, long texts, and what is refused."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

import npdistil
from npdistil import pipeline
from npdistil.errors import InputError, MissingExtraError, NpdistilError

Make = Callable[..., Path]
FIVE = {str(i): name for i, name in enumerate(("anger", "fear", "joy", "love", "none"))}
MULTI: dict[str, Any] = {"id2label": FIVE, "problem_type": "multi_label_classification"}
TEXT, OTHER = "I like it!", "the film was boring"
PAIR = {"text": "who lives in paris ?", "text_pair": "john"}
LONG = "the film was good and i like it , not bad at all . " * 20


@pytest.fixture
def five(make: Make) -> Any:
    return pipeline("text-classification", make(id2label=FIVE), engine="numpy")


@pytest.fixture
def multi(make: Make) -> Any:
    return pipeline("text-classification", make(**MULTI), engine="numpy")


def logits(task: Any, *texts: str | tuple[str, str]) -> Any:
    rows = [task.model.tokenizer.encode(*([text] if isinstance(text, str) else text)).ids for text in texts]
    return task.model.logits(rows).astype(np.float64)


def shape(answer: Any) -> Any:
    """Lists and their lengths; a dict is an "answer"."""
    if isinstance(answer, list):
        return [shape(each) for each in answer]
    assert list(answer) == ["label", "score"]
    assert type(answer["label"]) is str
    assert type(answer["score"]) is float
    return "answer"


# Shapes, as transformers 5 has them


A = "answer"


@pytest.mark.parametrize(
    ("inputs", "settings", "expected"),
    [
        (TEXT, {}, [A]),
        ([TEXT], {}, [A]),
        ([TEXT, OTHER], {}, [A, A]),
        ([], {}, []),
        (PAIR, {}, A),
        ([PAIR, TEXT], {}, [A, A]),
        (TEXT, {"top_k": 1}, [A]),
        (TEXT, {"top_k": 3}, [A, A, A]),
        (TEXT, {"top_k": None}, [A] * 5),
        (TEXT, {"top_k": 9}, [A] * 5),
        ([TEXT], {"top_k": 1}, [[A]]),
        ([TEXT, OTHER], {"top_k": 2}, [[A, A], [A, A]]),
        (PAIR, {"top_k": None}, [A] * 5),
        ([PAIR], {"top_k": 2}, [[A, A]]),
    ],
)
def test_answers_have_the_shape_of_transformers(five: Any, inputs: Any, settings: Any, expected: Any) -> None:
    assert shape(five(inputs, **settings)) == expected


@pytest.mark.parametrize(("inputs", "expected"), [(TEXT, [[A, A]]), ([TEXT, OTHER], [[A, A], [A, A]]), (PAIR, [A, A])])
def test_top_k_given_beforehand_wraps_a_single_text_once_more_as_in_transformers(
    make: Make, inputs: Any, expected: Any
) -> None:
    classify = pipeline("text-classification", make(id2label=FIVE), engine="numpy", top_k=2)
    assert shape(classify(inputs)) == expected


def test_labels_come_best_first(five: Any) -> None:
    answer = five(TEXT, top_k=None)
    assert [each["label"] for each in answer] == [list(FIVE.values())[i] for i in (-logits(five, TEXT)[0]).argsort()]
    scores = [each["score"] for each in answer]
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) == pytest.approx(1, abs=1e-12)
    assert five(TEXT, top_k=2) == answer[:2]
    assert five(TEXT) == answer[:1]


def test_equal_scores_come_in_the_order_of_the_labels(make: Make) -> None:
    settings = tiny.config(id2label=FIVE)
    arrays = tiny.tensors(settings)
    arrays["classifier.weight"][:], arrays["classifier.bias"][:] = 0, 0
    classify = pipeline("text-classification", make(id2label=FIVE, arrays=arrays), engine="numpy")
    assert classify(TEXT, top_k=None) == [{"label": label, "score": 0.2} for label in FIVE.values()]


def test_results_are_pythons_own_numbers_and_become_json(five: Any) -> None:
    import json

    answer = five([TEXT, PAIR], top_k=None)
    assert json.loads(json.dumps(answer)) == answer


# Scores


@pytest.mark.parametrize(
    ("problem_type", "labels", "function"),
    [
        (None, 1, "sigmoid"),
        (None, 2, "softmax"),
        (None, 5, "softmax"),
        ("single_label_classification", 1, "sigmoid"),
        ("single_label_classification", 2, "softmax"),
        ("multi_label_classification", 1, "sigmoid"),
        ("multi_label_classification", 5, "sigmoid"),
        ("regression", 1, "none"),
        ("regression", 2, "none"),
    ],
)
def test_the_function_is_chosen_by_problem_type_and_number_of_labels(
    make: Make, problem_type: str | None, labels: int, function: str
) -> None:
    directory = make(id2label={str(i): f"L{i}" for i in range(labels)}, problem_type=problem_type)
    classify = pipeline("text-classification", directory, engine="numpy")
    assert classify(TEXT, top_k=None) == classify(TEXT, top_k=None, function_to_apply=function)  # type: ignore[call-overload]
    others = {"none", "sigmoid", "softmax"} - {function}
    assert all(classify(TEXT, top_k=None, function_to_apply=other) != classify(TEXT, top_k=None) for other in others)  # type: ignore[call-overload]


def test_functions_do_what_they_say(five: Any) -> None:
    raw = logits(five, TEXT)[0]
    expected = {"none": raw, "sigmoid": 1 / (1 + np.exp(-raw)), "softmax": np.exp(raw) / np.exp(raw).sum()}
    for function, scores in expected.items():
        answer = {each["label"]: each["score"] for each in five(TEXT, top_k=None, function_to_apply=function)}
        assert [answer[label] for label in FIVE.values()] == pytest.approx(scores.tolist(), rel=1e-12)


def test_a_pair_is_scored_as_a_pair(five: Any) -> None:
    raw = logits(five, (PAIR["text"], PAIR["text_pair"]))[0]
    assert five(PAIR)["score"] == pytest.approx((np.exp(raw) / np.exp(raw).sum()).max())
    assert five(PAIR) != five({"text": PAIR["text"]})
    assert five({"text": TEXT}) == five(TEXT)[0]
    assert five({"text": TEXT, "text_pair": None}) == five({"text": TEXT, "text_pair": ""}) == five(TEXT)[0]


def test_a_threshold_leaves_out_labels_that_do_not_reach_it(multi: Any) -> None:
    everything = multi(TEXT, top_k=None)
    border = everything[2]["score"]
    assert multi(TEXT, threshold=border, top_k=None) == everything[:3]
    assert multi(TEXT, threshold=border, top_k=2) == everything[:2]
    assert multi([TEXT], threshold=border) == [everything[:3]]
    assert multi([TEXT], threshold=1.5) == [[]]
    assert multi([TEXT], threshold=-1) == [everything]


def test_a_setting_of_the_call_goes_before_one_given_beforehand(make: Make) -> None:
    classify = pipeline("text-classification", make(id2label=FIVE), engine="numpy", function_to_apply="none", top_k=3)
    assert (
        classify([TEXT], function_to_apply="softmax", top_k=None)[0]
        == pipeline("text-classification", classify.model, top_k=None)([TEXT])[0]
    )


# Lists and iterators


def test_batches_change_nothing(five: Any) -> None:
    texts = [TEXT, OTHER, "", LONG, PAIR, "a"] * 3
    expected = five(texts, top_k=None)
    for size in (1, 2, 7, 1000):
        assert five(texts, top_k=None, batch_size=size) == expected
    assert [five([text], top_k=None)[0] for text in texts] == expected


def test_an_iterator_is_answered_lazily_and_in_batches(five: Any) -> None:
    drawn: list[int] = []

    def endless() -> Iterator[str]:
        for i in range(10**9):
            drawn.append(i)
            yield TEXT if i % 2 else OTHER

    answers = five(endless(), batch_size=4)
    assert isinstance(answers, Iterator)
    assert drawn == []
    assert next(answers) == five(OTHER)[0]
    assert len(drawn) == 4
    assert [next(answers) for _ in range(4)] == five([TEXT, OTHER, TEXT, OTHER])
    assert len(drawn) == 8


def test_an_iterator_may_be_short_empty_or_of_pairs(five: Any) -> None:
    assert list(five(iter([]))) == []
    assert list(five(iter([PAIR, TEXT]), batch_size=64)) == [five(PAIR), five(TEXT)[0]]
    assert list(five(map(str, [TEXT]), top_k=2)) == [five(TEXT, top_k=2)]


def test_settings_of_an_iterator_are_checked_at_the_call(five: Any) -> None:
    with pytest.raises(InputError, match="top_k"):
        five(iter([TEXT]), top_k=0)


def test_what_is_wrong_in_an_iterator_is_said_when_it_is_reached(five: Any) -> None:
    answers = five(iter([TEXT, 5]), batch_size=1)
    assert next(answers) == five(TEXT)[0]
    with pytest.raises(InputError, match="from text 1 on, text 0 is a int: 5"):
        next(answers)


# Long texts


def test_a_long_text_is_the_mean_of_its_windows_and_never_an_error(five: Any) -> None:
    assert five(LONG, top_k=None) == five(LONG, top_k=None, long_text="windows", combine="mean")
    expected = dict(zip(FIVE.values(), five.model.predict_proba([LONG])[0], strict=True))
    assert {each["label"]: each["score"] for each in five(LONG, top_k=None)} == pytest.approx(expected)


def test_pairs_may_be_long_on_either_side(five: Any) -> None:
    words, few = "the film was good and i like it " * 6, "bad"
    for pair in ({"text": words, "text_pair": few}, {"text": few, "text_pair": words}):
        assert five(pair, top_k=None) != five(pair, top_k=None, truncation=True)
        windows = five(pair, combine="none")
        text = max(pair.values(), key=len)
        assert len(windows) > 1
        assert (windows[0]["start"], windows[-1]["end"]) == (0, len(text.rstrip()))
    both = {"text": words, "text_pair": words}
    with pytest.raises(InputError, match="shorten the other text of the pair, or the stride, or give truncation"):
        five(both)
    cut = {
        "text": "the film was good and i like it the film",
        "text_pair": "the film was good and i like it the film was",
    }
    assert five(both, truncation=True) == five(cut)
    assert five(both, long_text="truncate") == five(cut) | {"truncated": True}
    few_both = {"text": words, "text_pair": few}
    assert five(few_both, truncation="only_first", max_length=9) == five(
        {"text": "the film was good and", "text_pair": few}
    )
    assert five(few_both, truncation="longest_first", max_length=9) == five(few_both, truncation=True, max_length=9)
    assert five(few_both, truncation="do_not_truncate") == five(few_both)


def test_texts_are_cut_to_what_the_tokenizer_says_and_on_its_side(make: Make) -> None:
    directory = make()
    tiny.write_tokenizer(directory, model_max_length=5, truncation_side="left")
    classify = pipeline("text-classification", directory, engine="numpy")
    assert classify("the film was not good", truncation=True) == classify("was not good")
    assert classify("the film was not good", long_text="truncate") == [
        classify("was not good")[0] | {"truncated": True}
    ]
    assert classify("the film was not good", truncation=True, max_length=6) == classify("film was not good")
    assert classify("the film was not good") != classify("was not good")


@pytest.mark.parametrize("truncation", [True, "longest_first", "only_first"])
@pytest.mark.parametrize("long_text", ["error", "sentences"])
def test_truncation_beside_a_long_text_that_does_not_cut_is_refused(five: Any, truncation: Any, long_text: str) -> None:
    with pytest.raises(InputError, match=f"truncation` is .*, which cuts texts, and `long_text` is '{long_text}'"):
        five("a film", truncation=truncation, long_text=long_text)
    assert five("a film", truncation=truncation, long_text="truncate") == five("a film")
    assert five("a film", truncation=False, long_text=long_text) == five("a film")


def test_truncation_gives_transformers_shape_and_long_text_truncate_says_what_it_did(five: Any) -> None:
    (plain,) = five(LONG, truncation=True)
    assert list(plain) == ["label", "score"]
    (noted,) = five(LONG, long_text="truncate")
    assert noted == plain | {"truncated": True}
    assert five(TEXT, long_text="truncate") == five(TEXT)


def test_a_shorter_max_length_makes_texts_long(five: Any) -> None:
    text = "the film was very good and i like it"
    assert five(text, truncation=True, max_length=5) == five("the film was")
    with pytest.raises(InputError, match="text 0 has 11 tokens; 5 are allowed"):
        five(text, long_text="error", max_length=5)


def test_parts_are_given_one_by_one_with_their_places(five: Any) -> None:
    text = "I like it. The film is boring!  a"
    (parts,) = five([text], long_text="sentences", combine="none")
    assert [text[part["start"] : part["end"]] for part in parts] == ["I like it.", "The film is boring!", "a"]
    assert [{"label": part["label"], "score": part["score"]} for part in parts] == five(
        ["I like it.", "The film is boring!", "a"]
    )


# What is refused


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"top_k": 0}, "top_k is 0; expected a whole number from 1 to"),
        ({"top_k": -1}, "top_k is -1"),
        ({"top_k": 1.0}, "top_k is 1.0"),
        ({"top_k": True}, "top_k is True"),
        ({"top_k": "all"}, "top_k is 'all'"),
        ({"function_to_apply": "tanh"}, "function_to_apply is 'tanh'; known are none, sigmoid, softmax"),
        ({"function_to_apply": 1}, "function_to_apply is 1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": "8"}, "batch_size is '8'"),
        ({"truncation": "longest"}, "truncation is 'longest'; known are True, False, longest_first, only_first"),
        ({"truncation": 1}, "truncation is 1"),
        ({"threshold": "high"}, "threshold is 'high'"),
        ({"threshold": True}, "threshold is True"),
        ({"threshold": float("nan")}, "threshold is nan"),
        ({"long_text": "cut"}, "long_text is 'cut'"),
        ({"combine": "sum"}, "combine is 'sum'"),
        ({"max_length": 100}, "max_length is 100"),
        ({"topk": 1}, "unknown setting: topk; known are batch_size, long_text"),
        ({"return_all_scores": 1}, "return_all_scores is 1"),
    ],
)
def test_wrong_settings_are_refused_by_name(five: Any, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        five(TEXT, **settings)
    with pytest.raises(InputError, match=says):
        pipeline("text-classification", five.model, **settings)


@pytest.mark.parametrize(
    "inputs",
    [
        None,
        5,
        b"good",
        {TEXT},
        {"text_pair": "a"},
        {},
        {"text": "a", "txt_pair": "b"},
        [["a", "b"]],
        [None],
        (TEXT, None),
        {"text": 5},
        {"text": None},
        {"text": "a", "text_pair": 5},
        [{"text": ["a"]}],
        "\ud800",
        [TEXT, "a\udcff"],
        np.array(TEXT),
        np.array([[TEXT, OTHER]]),
    ],
)
def test_inputs_that_are_no_text_are_refused(five: Any, inputs: Any) -> None:
    with pytest.raises(InputError):
        five(inputs)


@pytest.mark.parametrize("task", ["", "text_classification", "summarization", 5])
def test_unknown_tasks_are_refused_with_those_that_are_known(make: Make, task: Any) -> None:
    with pytest.raises(InputError, match="known are text-classification, sentiment-analysis"):
        pipeline(task, make())


def test_another_head_is_refused_by_name(make: Make) -> None:
    with pytest.raises(InputError, match="is a DistilBertModel; TextClassification needs a"):
        pipeline("text-classification", make(architectures=["DistilBertModel"]), engine="numpy")


def test_a_loaded_model_brings_its_own_engine_precision_and_threads(five: Any) -> None:
    assert pipeline("text-classification", five.model).model is five.model
    for settings in ({"engine": "numpy"}, {"precision": "int8"}, {"threads": 1}):
        with pytest.raises(InputError, match="belong to `load`"):
            pipeline("text-classification", five.model, **settings)


def test_engine_precision_and_threads_reach_the_model(make: Make, engine: str) -> None:
    task = pipeline("sentiment-analysis", make(), engine=engine, precision="int8", threads=1)
    assert isinstance(task, npdistil.Pipeline)
    assert (task.model.engine, task.model.precision, task.model.threads) == (engine, "int8", 1)
    assert shape(task(TEXT)) == [A]


def test_the_bundled_model_is_the_default(bundled: Path) -> None:
    classify = pipeline("sentiment-analysis", engine="numpy")
    assert classify.model.checkpoint.directory == bundled
    assert [each["label"] for each in classify(["I love it.", "I hate it."])] == ["POSITIVE", "NEGATIVE"]


def test_errors_are_the_projects_own_and_pythons_kind_too() -> None:
    assert issubclass(InputError, (NpdistilError, ValueError))
    assert issubclass(MissingExtraError, ImportError)


@pytest.fixture(scope="module")
def classify(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return pipeline("text-classification", npdistil.load(tiny.write(tmp_path_factory.mktemp("m")), engine="numpy"))


@given(text=st.text(max_size=60))
def test_any_text_is_answered(classify: Any, text: str) -> None:
    (answer,) = classify(text)
    assert answer["label"] in ("NEGATIVE", "POSITIVE")
    assert 0.5 <= answer["score"] <= 1


@given(text=st.text(max_size=20), place=st.integers(0, 20), code=st.integers(0xD800, 0xDFFF))
def test_any_lone_surrogate_is_refused_with_its_place(classify: Any, text: str, place: int, code: int) -> None:
    place = min(place, len(text))
    with pytest.raises(InputError, match=f"U\\+{code:04X} at character {place};"):
        classify(text[:place] + chr(code) + text[place:])
