"""What objects look like in a notebook."""

from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

import npdistil

Make = Callable[..., Path]


class Text(HTMLParser):
    """The text of a page, and whether every element that is opened is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found, self.open = "", [""]
        self.feed(page)
        assert self.open == [""]

    def handle_starttag(self, tag: str, attrs: object) -> None:
        assert tag != "script"
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.found += data


@pytest.fixture
def model(make: Make) -> npdistil.Model:
    return npdistil.load(make(id2label={0: "<b>", 1: "good"}), engine="numpy", threads=1)


def test_an_explanation_shows_its_text_in_colour(model: npdistil.Model) -> None:
    text = 'a <good> film & no "bad" one'
    found = npdistil.explain(model, text)
    page = found._repr_html_()
    assert Text(page).found == f"{found.label} {found.scores[found.label]:.4f}{text}"
    assert page.count("rgba(") == len(found.words)
    strongest = max(found.words, key=lambda word: abs(word.value))
    assert f'title="{strongest.value:+.3f}" style="background: rgba(' in page


def test_a_model_and_a_pipeline_say_what_they_are(model: npdistil.Model) -> None:
    shown = Text(model._repr_html_()).found
    for each in ("DistilBertForSequenceClassification", "<b>, good", "2 layers, 8 wide", "numpy, float32, threads: 1"):
        assert each in shown
    pipe = npdistil.pipeline("sentiment-analysis", model, top_k=None, threshold=0.5)
    shown = Text(pipe._repr_html_()).found
    assert "TextClassificationPipeline" in shown
    assert "top_k=None, threshold=0.5" in shown
    assert "as they come" in npdistil.pipeline("sentiment-analysis", model)._repr_html_()
