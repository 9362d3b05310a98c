"""The page in a real browser: typing, colours, attention, files, errors, a server that is gone, widths and keys."""

import csv
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from service_client import Server, running

import npdistil


def opened(page: Page, server: Server) -> Page:
    page.goto(f"http://127.0.0.1:{server.port}/")
    page.wait_for_selector("#words p")
    return page


def typed(page: Page, text: str) -> None:
    with page.expect_response("**/explain"):
        page.fill("#text", text)


def test_scores_follow_what_is_typed(page: Page, server: Server) -> None:
    opened(page, server)
    page.fill("#text", "")
    expect(page.locator("#scores")).to_be_empty()
    page.locator("#text").press_sequentially("It is a mess.", delay=20)
    expect(page.locator("#scores .bar").first).to_contain_text("NEGATIVE")
    page.fill("#text", "It is a joy.")
    expect(page.locator("#scores .bar").first).to_contain_text("POSITIVE")
    scores = [float(text) for text in page.locator("#scores .bar b").all_text_contents()]
    _, answer = server.ask("/predict", {"inputs": "It is a joy."})
    assert scores == [round(each["score"], 4) for each in answer]


def test_words_are_coloured_by_what_they_add(page: Page, server: Server) -> None:
    opened(page, server)
    text = "\U0001f44d Great cast, dreadful film."
    typed(page, text)
    expect(page.locator("#words p")).to_have_text(text)
    _, found = server.ask("/explain", {"inputs": text, "method": "shapley"})
    shown = page.locator("#words .word")
    expect(shown).to_have_count(len(found["words"]))
    assert shown.all_text_contents() == [word["text"] for word in found["words"]]
    away = [word["text"] for word in found["words"] if word["value"] < 0]
    assert away
    assert page.locator("#words .word.away").all_text_contents() == away
    colours = shown.evaluate_all("nodes => nodes.map((node) => getComputedStyle(node).backgroundColor)")
    assert len(set(colours)) > 2


def test_another_label_can_be_explained(page: Page, server: Server) -> None:
    opened(page, server)
    typed(page, "A joy from start to end.")
    with page.expect_response("**/explain"):
        page.select_option("#label", "NEGATIVE")
    expect(page.locator("#towards")).to_contain_text("push towards NEGATIVE")


def test_attention_shows_where_a_token_looks_in_the_head_that_is_chosen(page: Page, server: Server) -> None:
    opened(page, server)
    typed(page, "Not bad at all.")
    expect(page.locator("#attention")).to_be_hidden()
    model = npdistil.load(engine="numpy")
    weights = model.attentions([model.tokenizer.encode("Not bad at all.").ids])[0]
    page.click("#attended summary")
    expect(page.locator("#attention canvas")).to_have_count(1)
    page.locator("#attention select").first.select_option(index=3)
    page.locator("#attention select").last.select_option(index=4)
    page.locator("#attention .tokens button", has_text="bad").click()
    expect(page.locator("#attention .map .hint").last).to_have_text("Layer 4, head 5: where \u201cbad\u201d looks")
    shown = page.locator("#attention .tokens button").evaluate_all("nodes => nodes.map((node) => Number(node.title))")
    assert shown == pytest.approx(weights[3, 4, 2], abs=0.01)


def test_attention_is_asked_for_only_where_it_is_looked_at(page: Page, server: Server) -> None:
    opened(page, server)
    asked: list[bool] = []
    page.on("request", lambda each: asked.append(each.post_data_json["attention"]) if "explain" in each.url else None)
    typed(page, "A joy.")
    page.click("#attended summary")
    expect(page.locator("#attention canvas")).to_have_count(1)
    page.fill("#text", "antidisestablishmentarianism " * 26)
    drawn = "Not drawn: the text has more than 128 tokens."
    expect(page.locator("#attention")).to_have_text(drawn)  # the numpy engine explains it
    assert asked == [False, True, False]


def test_several_texts_make_a_table_that_sorts_and_saves(page: Page, server: Server, tmp_path: Path) -> None:
    opened(page, server)
    texts = ["A mess.", 'He said "no", twice.', "A joy."]
    page.fill("#texts", "\n".join(texts) + "\n\n")
    page.click("#score")
    rows = page.locator("#table tbody tr")
    expect(rows).to_have_count(3)
    page.locator("#table th button", has_text="score").click()
    scores = [float(each) for each in page.locator("#table td.number").all_text_contents()]
    assert scores == sorted(scores, reverse=True)
    page.locator("#table th button", has_text="text").click()
    assert page.locator("#table td:first-child").all_text_contents() == sorted(texts)
    expect(page.locator("#histogram")).to_be_visible()
    with page.expect_download() as download:
        page.click("#save")
    download.value.save_as(tmp_path / "labels.csv")
    with (tmp_path / "labels.csv").open(newline="", encoding="utf-8-sig") as file:
        saved = list(csv.DictReader(file))
    assert [row["text"] for row in saved] == texts
    for row in saved:
        _, answer = server.ask("/predict", {"inputs": row["text"]})
        assert (row["label"], float(row["score"])) == (answer[0]["label"], answer[0]["score"])


def test_what_is_saved_is_the_file_with_labels_and_no_formulas(page: Page, server: Server, tmp_path: Path) -> None:
    opened(page, server)
    given = [
        ["id", "review", "label"],
        ["-1", '=HYPERLINK("//x","A joy")', "@x"],
        ["2", "A mess.", "+1"],
        ["3", "-", ""],
        ["4", " ", "no text"],
    ]
    with (tmp_path / "x.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(given)
    page.set_input_files("#file", str(tmp_path / "x.csv"))
    expect(page.locator("#progress")).to_have_text("4 texts")
    page.locator("#table th button", has_text="score").click()
    with page.expect_download() as download:
        page.click("#save")
    download.value.save_as(tmp_path / "labels.csv")
    content = (tmp_path / "labels.csv").read_bytes()
    assert content.startswith(b"\xef\xbb\xbf")  # or spreadsheets take it for another encoding
    head, *rows = csv.reader(content.decode("utf-8-sig").splitlines())
    assert head == ["id", "review", "label", "npdistil label", "score"]
    assert [row[:3] for row in rows] == [
        ["-1", '\'=HYPERLINK("//x","A joy")', "'@x"],
        ["2", "A mess.", "+1"],
        ["3", "'-", ""],
        ["4", " ", "no text"],
    ]
    assert rows.pop()[3:] == ["", ""]
    for text, row in zip((each[1] for each in given[1:-1]), rows, strict=True):
        _, answer = server.ask("/predict", {"inputs": text})
        assert (row[3], float(row[4])) == (answer[0]["label"], answer[0]["score"])


def test_labels_stand_in_one_line_and_texts_in_their_direction(page: Page, server: Server) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    opened(page, server)
    hebrew = "\u05e1\u05e8\u05d8 \u05e0\u05d4\u05d3\u05e8."
    typed(page, hebrew)
    page.fill("#texts", hebrew + "\n" + "A rather long text, " * 5)
    page.click("#score")
    labels = page.locator("#table td.label")
    expect(labels).to_have_count(2)
    lines = labels.evaluate_all(
        "nodes => nodes.map((node) => { const r = document.createRange();"
        " r.selectNodeContents(node); return r.getClientRects().length; })"
    )
    assert lines == [1, 1]
    for place in ("#text", "#words p", "#table td.text >> nth=0"):
        assert page.locator(place).evaluate("node => getComputedStyle(node).direction") == "rtl", place
    assert page.locator("#table td.text").nth(1).evaluate("node => getComputedStyle(node).direction") == "ltr"


def test_a_hint_is_clear_of_the_ring_around_what_it_is_for(page: Page, server: Server) -> None:
    opened(page, server)
    page.focus("#text")
    gap = page.evaluate(
        "find('text').getBoundingClientRect().top"
        " - document.querySelector('label[for=text]').getBoundingClientRect().bottom"
    )
    assert gap >= 3  # 2 px wide, 1 px off


def test_a_csv_file_with_quotes_and_line_breaks_is_scored(page: Page, server: Server, tmp_path: Path) -> None:
    opened(page, server)
    texts = [f'A joy, number {i}.\nReally, a \u201cjoy\u201d, and "good".' for i in range(150)]
    path = tmp_path / "reviews.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["id", "review"], *([i, text] for i, text in enumerate(texts))])
    page.set_input_files("#file", str(path))
    expect(page.locator("#progress")).to_have_text("150 texts")
    assert page.locator("#table td:first-child").all_text_contents() == texts
    assert page.locator("#column option:checked").text_content() == "review"


def test_texts_that_the_service_cannot_take_do_not_keep_the_others_from_it(page: Page) -> None:
    with running("--max-request-texts", "5", "--max-request-tokens", "4000") as server:
        opened(page, server)
        texts = [f"A joy, number {i}." for i in range(12)]
        texts[7] = "good " * 5000
        page.fill("#texts", "\n".join(texts))
        page.click("#score")
        expect(page.locator("#progress")).to_have_text("12 texts")
        labels = page.locator("#table td:nth-child(2)").all_text_contents()
        assert [label.split(":")[0] for label in labels] == ["POSITIVE"] * 7 + ["not scored"] + ["POSITIVE"] * 4


def test_of_two_runs_that_wait_for_the_server_the_later_one_counts(page: Page) -> None:
    with running() as server:
        opened(page, server)
        port = server.port
    for text in ("OLD", "NEW"):
        page.fill("#texts", text)
        page.click("#score")
        expect(page.locator("#trouble")).to_contain_text("does not answer")
    with running("--port", str(port)):
        expect(page.locator("#table td").first).to_have_text("NEW")
        expect(page.locator("#trouble")).to_be_hidden()
        page.wait_for_timeout(500)
        assert page.locator("#table td:first-child").all_text_contents() == ["NEW"]


def test_semicolons_may_part_the_columns_of_a_csv_file(page: Page, server: Server, tmp_path: Path) -> None:
    opened(page, server)
    (tmp_path / "x.csv").write_text(
        'id; review\n1;A mess, really.\n2; "A joy; a ""delight"", truly"\n', encoding="utf-8"
    )
    page.set_input_files("#file", str(tmp_path / "x.csv"))
    expect(page.locator("#progress")).to_have_text("2 texts")
    texts = page.locator("#table td:first-child").all_text_contents()
    assert texts == ["A mess, really.", 'A joy; a "delight", truly']


def test_a_file_can_be_dropped(page: Page, server: Server) -> None:
    opened(page, server)
    page.evaluate(
        """() => { const data = new DataTransfer();
        data.items.add(new File(["text\\nA joy.\\nA mess.\\n"], "x.csv", { type: "text/csv" }));
        const drop = new DragEvent("drop", { dataTransfer: data, bubbles: true });
        document.getElementById("texts").dispatchEvent(drop); }"""
    )
    expect(page.locator("#table tbody tr")).to_have_count(2)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", b"text\n", "has no rows"),
        ("x.csv", b"text\n\xff\n", "is not UTF-8"),
        ("x.csv", b'text\n"A joy.\nA mess.\n', "never closed"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    page: Page, server: Server, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    opened(page, server)
    page.fill("#texts", "A joy.")
    page.click("#score")
    expect(page.locator("#table td")).to_have_count(3)
    (tmp_path / name).write_bytes(content)
    page.set_input_files("#file", str(tmp_path / name))
    expect(page.locator("#trouble")).to_contain_text(message)
    expect(page.locator("#table")).to_be_empty()  # of another text
    expect(page.locator("#save")).to_be_hidden()


def test_a_text_that_is_too_long_to_explain_is_scored_and_says_so(page: Page, server: Server) -> None:
    opened(page, server)
    page.fill("#text", "good " * 600)
    expect(page.locator("#towards")).to_contain_text("Not explained: the text has 602 tokens")
    expect(page.locator("#scores .bar").first).to_contain_text("POSITIVE")


def test_a_server_that_is_gone_is_waited_for(page: Page) -> None:
    with running() as server:
        opened(page, server)
        port = server.port
    page.fill("#text", "It is a mess.")
    expect(page.locator("#trouble")).to_contain_text("does not answer")
    with running("--port", str(port)):
        expect(page.locator("#trouble")).to_be_hidden()
        expect(page.locator("#scores .bar").first).to_contain_text("NEGATIVE")


def test_a_token_is_asked_for(page: Page) -> None:
    with running(environment={"NPDISTIL_TOKEN": "secret"}) as server:
        page.goto(f"http://127.0.0.1:{server.port}/")
        expect(page.locator("#trouble")).to_contain_text("a token is needed")
        page.fill("#token", "guess")
        page.keyboard.press("Enter")
        expect(page.locator("#trouble")).to_contain_text("this is not the token")
        page.fill("#token", "secret")
        page.keyboard.press("Enter")
        page.wait_for_selector("#words p")
        expect(page.locator("#access")).to_be_hidden()


def test_everything_can_be_reached_with_the_keyboard(page: Page, server: Server) -> None:
    opened(page, server)
    page.click("#attended summary")
    expect(page.locator("#attention canvas")).to_have_count(1)
    page.focus("#text")
    reached = []
    for _ in range(30):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("document.activeElement.id || document.activeElement.parentNode.textContent.slice(0, 5)")
        )
    assert {"label", "Layer", "Head ", "texts", "score", "choose"} <= set(reached)


def test_for_a_model_without_classes_it_says_what_answers(page: Page, make: Any) -> None:
    with running("--model", str(make(architectures=["DistilBertModel"]))) as server:
        page.goto(f"http://127.0.0.1:{server.port}/")
        expect(page.locator("#other")).to_contain_text("for embedding: POST /embed answers")
        expect(page.locator("#text")).to_be_hidden()
        expect(page.locator("#trouble")).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1100])
def test_nothing_is_wider_than_the_screen_and_text_stands_out(
    page: Page, server: Server, width: int, scheme: str
) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})
    opened(page, server)
    typed(page, "Averyveryverylongwordthatneverends" * 5 + " dreadful")
    page.fill("#texts", "Averyveryverylongwordthatneverends" * 5)
    page.click("#score")
    page.wait_for_selector("#table td")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    shades = page.evaluate(
        "['color', 'backgroundColor'].map((name) => getComputedStyle(document.body)[name].match(/\\d+/g).map(Number))"
    )
    ink, paper = (sum(shade) / 3 for shade in shades)
    assert abs(ink - paper) > 180
    assert (paper < 128) == (scheme == "dark")


def test_the_html_file_of_explain_works_from_disk(page: Page, tmp_path: Path) -> None:
    found = npdistil.explain(npdistil.load(engine="numpy"), "Great cast, dreadful film.", attention=True)
    path = tmp_path / "why.html"
    path.write_text(found.as_html(), encoding="utf-8")
    page.goto(path.as_uri())
    expect(page.locator("#words p")).to_have_text("Great cast, dreadful film.")
    page.click("#attended summary")
    expect(page.locator("#attention canvas")).to_have_count(1)
    page.locator("#attention .tokens button").first.click()
    expect(page.locator("#scores .bar")).to_have_count(2)
