"""No claim of README, docs and docstrings without what holds it: see claims.py."""

import claims
import pytest

if not (claims.ROOT / "docs").exists():
    pytest.skip("claims are read from the source tree", allow_module_level=True)

LINES = claims.table()


def test_every_claim_has_a_line_of_what_holds_it() -> None:
    known = {claims.key(page, sentence) for page, _, sentence in LINES}
    missing = [claim for claim in claims.claims() if claims.key(*claim) not in known]
    assert not missing, "`python tests/claims.py` adds their lines, with a ? for what holds them"


def test_every_line_is_of_a_claim_that_is_made_once() -> None:
    made = {claims.key(*claim) for claim in claims.claims()}
    keys = [claims.key(page, sentence) for page, _, sentence in LINES]
    left = [sentence for (_, _, sentence), key in zip(LINES, keys, strict=True) if key not in made]
    assert not left, "`python tests/claims.py` removes them"
    assert len(keys) == len(set(keys))


def test_everything_that_holds_a_claim_exists() -> None:
    held = [(page, holder) for page, holders, _ in LINES for holder in holders.split(" ")]
    assert not [(page, holder) for page, holder in held if claims.missing_holder(page, holder)]


def test_most_claims_are_held_by_more_than_a_word() -> None:
    assert sum(holders == "-" for _, holders, _ in LINES) < len(LINES) / 5


@pytest.mark.parametrize(
    "sentence",
    [
        "It takes 12 ms.",
        "A text of 1,024 tokens is read.",
        "It differs by 1e-3 at most.",
        "It is never cut.",
        "No row is lost.",
        "The answers have the same bits.",
        "Results do not depend on the batch.",
        "int8 is faster.",
        "It needs no network.",
    ],
)
def test_figures_guarantees_and_comparisons_are_claims(sentence: str) -> None:
    assert claims.CLAIM.search(sentence)
    assert not claims.CLAIM.search("It opens a directory and reads what is there.")


def test_code_and_tables_that_scripts_write_make_no_claims_and_items_and_rows_do() -> None:
    page = (
        "# Always\n\nNever. In a [page\nof](x.md) all\nwords.\n\n- Every item.\n- A row.\n\n"
        "| nothing | b |\n|---|---|\n\n"
        "```python\nnever = 1\n```\n\n<!-- made by x.py -->\nalways\n<!-- until here -->\n"
    )
    assert claims.sentences(claims.prose(page)) == [
        "Never.", "In a page of all words.", "Every item.", "A row.", "| nothing | b |"
    ]  # fmt: skip


def test_lines_may_wrap_otherwise_and_emphasis_may_change() -> None:
    key = claims.key("p", "A text is **never** cut, in `any` batch.")
    assert key == claims.key("p", "a text is never cut in any batch")
    assert key != claims.key("p", "A text is never cut, in 5 batches.")


@pytest.mark.parametrize(
    "holder",
    ["tests/test_no.py::test_x", "tests/test_claims.py::test_that_is_not_there", "benchmarks/no.json", "?", ""],
)
def test_what_is_not_there_holds_nothing(holder: str) -> None:
    assert claims.missing_holder("README.md", holder)
    assert not claims.missing_holder("README.md", "tests/test_claims.py::test_what_is_not_there_holds_nothing")
