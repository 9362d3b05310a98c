"""What one call may take: machine code that Ctrl-C waits for, memory, threads; and how NumPy is to treat underflow."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import npdistil
from npdistil.batch import MOST_ITEMS, Inputs
from npdistil.compiled.encoder import CALL_PRODUCTS
from npdistil.text import MOST_CHARACTERS, tokenize, tokenizing_on


@pytest.mark.parametrize("output", ["logits", "hidden_states", "mean"])
def test_a_forward_in_small_calls_has_the_same_bits(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = npdistil.load(engine="numpy")
    ids = [[101, *range(2000, 2000 + n), 102] for n in (3, 1, 8, 2, 30, 5)]
    inputs = Inputs(ids, output=output)
    whole = model.forward(inputs).values
    monkeypatch.setattr(model.encoder, "at_once", 12)
    called: list[int] = []
    real = model.encoder.encode

    def encode(ids: Any, *rest: Any, **more: Any) -> Any:
        called.append(len(ids))
        return real(ids, *rest, **more)

    monkeypatch.setattr(model.encoder, "encode", encode)
    assert [each.tobytes() for each in model.forward(inputs).values] == [each.tobytes() for each in whole]
    assert called == [8, 10, 4, 32, 7]
    with pytest.raises(npdistil.InputError, match="text 5 has the token id 99999"):
        model.logits([*ids[:5], [101, 99999, 102]])
    assert model.logits([]).shape == (0, 2)


def test_the_work_of_one_call_into_machine_code_is_bounded() -> None:
    model = npdistil.load(threads=1)
    if model.engine != "compiled":
        pytest.skip("no kernels for this machine")
    config = model.config
    products = config.n_layers * config.dim * (4 * config.dim + 2 * config.hidden_dim)
    assert 512 <= model.encoder.at_once <= CALL_PRODUCTS // products < 1000


INTERRUPTED = """
import os, signal, sys, threading, time
import npdistil
model = npdistil.load(threads=2)
model.predict(["warm"])
def interrupt():
    time.sleep(0.5)
    sent.append(time.process_time())  # which stands still while others have the cores
    os.kill(os.getpid(), signal.SIGINT)
sent = []
calls = {
    "logits": lambda: model.logits([[101, *range(2000, 2030), 102]] * 50_000),
    "texts": lambda: npdistil.pipeline("sentiment-analysis", model, batch_size=50_000)(["a good film"] * 50_000),
    "explain": lambda: npdistil.explain(model, "good " * 440, method="shapley"),
    "file": lambda: npdistil.annotate_file(npdistil.pipeline(model=model), sys.argv[2], sys.argv[2] + ".jsonl"),
}
try:
    threading.Thread(target=interrupt).start()
    calls[sys.argv[1]]()
except KeyboardInterrupt:
    print(time.process_time() - sent[0])
"""


@pytest.mark.parametrize("call", ["logits", "texts", "explain", "file"])
def test_ctrl_c_ends_a_call_soon(call: str, tmp_path: Path) -> None:
    rows = tmp_path / "in.txt"
    rows.write_text("".join(f"{i} {'good ' * 400}\n" for i in range(10_000)))
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, call, str(rows)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert float(done.stdout) < 5, done.stderr  # of the processor


def test_items_are_run_at_most_1024_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = npdistil.pipeline("sentiment-analysis", engine="numpy", threads=1)
    sizes: list[int] = []

    def run(model: npdistil.Model, task: Any, items: list[str]) -> list[str]:
        sizes.append(len(items))
        return items

    monkeypatch.setattr(npdistil.Model, "run", run)
    assert len(pipe(["good"] * 3000, batch_size=3000)) == 3000
    assert sizes == [MOST_ITEMS, MOST_ITEMS, 3000 - 2 * MOST_ITEMS]


def test_a_text_of_too_many_characters_is_refused_before_the_work() -> None:
    model = npdistil.load(engine="numpy")
    with pytest.raises(npdistil.InputError, match=r"text 1 has 2,097,153 characters; at most 2,097,152 are read"):
        model.predict(["good", "x" * (MOST_CHARACTERS + 1)])


@pytest.mark.parametrize("engine", ["numpy", "compiled"])
@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize(
    ("task", "settings", "given"),
    [
        ("text-classification", {}, "a good film"),
        ("ner", {"architectures": ["DistilBertForTokenClassification"]}, "a good film"),
        (
            "question-answering",
            {"architectures": ["DistilBertForQuestionAnswering"]},
            {"question": "who", "context": "john lives in paris and a good film in london"},
        ),
        ("fill-mask", {"architectures": ["DistilBertForMaskedLM"]}, "a [MASK] film"),
        ("embedding", {}, "a good film"),
        ("explanation", {}, "a good film"),
    ],
)
def test_how_numpy_treats_underflow_changes_no_answer(
    make: Callable[..., Path], engine: str, precision: str, task: Any, settings: dict[str, Any], given: Any
) -> None:
    directory = make(**settings)
    expected = npdistil.pipeline(task, directory, engine=engine, precision=precision)(given)
    with np.errstate(all="raise"):
        found = npdistil.pipeline(task, directory, engine=engine, precision=precision)(given)
        loaded = npdistil.load(directory, engine=engine, precision=precision)
        assert len(loaded.attentions([[1, 2, 3]])) == len(loaded.all_hidden_states([[1, 2, 3]])) == 1
    assert repr(found) == repr(expected)


@pytest.mark.parametrize("engine", ["numpy", "compiled"])
def test_how_numpy_treats_underflow_changes_no_answer_of_the_bundled_model(engine: str) -> None:
    texts = ["I love it.", "I hate it.", "word " * 600, ""]
    expected = npdistil.load(engine=engine).scores(texts)
    with np.errstate(all="raise"):
        model = npdistil.load(engine=engine)
        assert model.scores(texts).tobytes() == expected.tobytes()
        npdistil.explain(model, "I love it.")
        npdistil.Embedder(model, normalize=True).fit_transform(texts)


class Recorded:
    """A tokenizer's calls."""

    def __init__(self, fails: type[BaseException] | None = None) -> None:
        self.calls: list[Any] = []
        self.fails = fails

    def encode(self, text: str, pair: str | None = None, **how: Any) -> Any:
        self.calls.append(text)
        return text

    def encode_batch(self, texts: list[Any], **how: Any) -> list[Any]:
        if self.fails:
            raise self.fails
        self.calls.append(len(texts))
        return texts


class PanicException(BaseException):
    """What pyo3 raises where Rust panics."""


def test_the_tokenizers_threads_follow_the_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    texts: Any = ["a", "b", "c", "d", "e"]
    for threads, calls in ((None, [5]), (8, [5]), (4, [5]), (2, [2, 2, 1]), (1, texts)):
        recorded: Any = Recorded()
        if threads is None:
            assert tokenize(recorded, texts) == texts
        else:
            with tokenizing_on(threads):
                assert tokenize(recorded, texts) == texts
        assert recorded.calls == calls


def test_where_no_threads_can_be_started_texts_are_tokenised_on_this_one() -> None:
    recorded: Any = Recorded(PanicException)
    tokenize(recorded, ["a", "b"])
    assert recorded.calls == ["a", "b"]
    stopped: Any = Recorded(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        tokenize(stopped, ["a", "b"])


def test_one_thread_is_one_thread() -> None:
    """Of the operating system's, with a batch tokenised and run."""
    if not Path("/proc/self/task").exists():
        pytest.skip("needs /proc")
    code = """
import os, npdistil
model = npdistil.load(threads=1)
before = len(os.listdir("/proc/self/task"))
model.predict(["a good film of some length"] * 300)
npdistil.pipeline("sentiment-analysis", model)(["good", "bad"] * 100)
assert len(os.listdir("/proc/self/task")) == before, before
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
