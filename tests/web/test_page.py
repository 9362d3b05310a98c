"""The page in a real browser: typing, colours, attention, files, errors, a server that is gone, widths and keys."""

import csv
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from service_client import Server, running

import npdistil


def opened(page: Page, server: Server) -> Page:
    page.goto(f"http://127.0.0.1:{server.port}/")
    page.wait_for_selector("#attention .maps button")
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
    model = npdistil.load(engine="numpy")
    weights = model.attentions([model.tokenizer.encode("Not bad at all.").ids])[0]
    expect(page.locator("#attention .maps button")).to_have_count(72)
    page.locator("#attention .maps button").nth(3 * 12 + 4).click()
    page.locator("#attention .tokens button", has_text="bad").click()
    expect(page.locator("#attention .hint")).to_have_text("Layer 4, head 5: where \u201cbad\u201d looks")
    shown = page.locator("#attention .tokens button").evaluate_all("nodes => nodes.map((node) => Number(node.title))")
    assert shown == pytest.approx(weights[3, 4, 2], abs=0.01)


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
    with (tmp_path / "labels.csv").open(newline="", encoding="utf-8") as file:
        saved = list(csv.DictReader(file))
    assert [row["text"] for row in saved] == sorted(texts)
    for row in saved:
        _, answer = server.ask("/predict", {"inputs": row["text"]})
        assert (row["label"], float(row["score"])) == (answer[0]["label"], answer[0]["score"])


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
    (tmp_path / name).write_bytes(content)
    page.set_input_files("#file", str(tmp_path / name))
    expect(page.locator("#trouble")).to_contain_text(message)


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
        page.fill("#token", "secret")
        page.keyboard.press("Enter")
        page.wait_for_selector("#attention .maps button")
        expect(page.locator("#access")).to_be_hidden()


def test_everything_can_be_reached_with_the_keyboard(page: Page, server: Server) -> None:
    opened(page, server)
    page.focus("#text")
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.ariaLabel"))
        if reached[-1] == "layer 1, head 1":  # one stop for all, and arrows from there
            for key in ("ArrowDown",) * 7 + ("ArrowRight",) * 13:
                page.keyboard.press(key)
            reached.append(page.evaluate("document.activeElement.ariaLabel"))
    assert {"label", "layer 6, head 12", "texts", "score", "choose"} <= set(reached)
    assert sum("layer" in (each or "") for each in reached[: reached.index("choose")]) == 2


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
    expect(page.locator("#attention .maps button")).to_have_count(72)
    page.locator("#attention .tokens button").first.click()
    expect(page.locator("#scores .bar")).to_have_count(2)
