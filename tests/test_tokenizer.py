"""Tokenizers from a directory: tokenizer.json or vocab.txt, casing and accents, and what is refused."""

import json
import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

import npdistil
from npdistil.checkpoint.folder import Folder
from npdistil.checkpoint.tokenizer import read_tokenization
from npdistil.checkpoint.words import words_of
from npdistil.errors import CheckpointError, InputError, NpdistilError
from npdistil.text import tokenize

SIZE = len(tiny.VOCABULARY)


def read_tokenizer(directory: Path, vocab_size: int) -> Tokenizer:
    return read_tokenization(Folder(directory), vocab_size).tokenizer


def written(directory: Path, kind: str, **settings: Any) -> Tokenizer:
    directory.mkdir(exist_ok=True)
    tiny.write_tokenizer(directory, kind, **settings)
    return read_tokenizer(directory, 30522)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokenizer, Tokenizer]:
    return written(tmp_path_factory.mktemp("json"), "json"), written(tmp_path_factory.mktemp("vocab"), "vocab")


@given(text=st.text(max_size=40) | st.text(alphabet="a bé東ко[SEP]#", max_size=20))
def test_vocab_txt_and_tokenizer_json_give_the_same_tokens(both: tuple[Tokenizer, Tokenizer], text: str) -> None:
    from_json, from_vocab = both
    one, other = from_json.encode(text), from_vocab.encode(text)
    assert one.ids == other.ids
    assert one.offsets == other.offsets
    assert one.special_tokens_mask == other.special_tokens_mask


ODD = "a bcé東ко\u0301\u0308\u0085\u00a0\u200b\t\n\x0b\x1c[SEP]#Σσİ\ufffd\0.,"


@given(texts=st.lists(st.text(max_size=40) | st.text(alphabet=ODD, max_size=20), max_size=5))
def test_ids_made_of_those_of_words_are_the_librarys_own(both: tuple[Tokenizer, Tokenizer], texts: list[str]) -> None:
    for tokenizer in both:
        words = words_of(tokenizer)
        assert words is not None
        for _ in range(2):  # the second time all words are known
            found = words.encodings(texts, tokenizer.encode_batch)
            for one, other in zip(found, tokenizer.encode_batch(texts), strict=True):
                assert (one.ids, len(one)) == (other.ids, len(other))
                assert one.offsets == other.offsets
                assert one.sequence_ids == other.sequence_ids


def test_no_more_words_are_remembered_than_have_room(
    both: tuple[Tokenizer, Tokenizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("npdistil.checkpoint.words.MOST", 50)
    words = words_of(both[0])
    assert words is not None
    texts = [f"film {i} {i + 1} a" for i in range(100)]
    for text in texts:
        (found,) = words.encodings([text], both[0].encode_batch)
        assert found.ids == both[0].encode(text).ids
        assert sum(map(len, words.known)) <= 50 + len(text)


@pytest.mark.parametrize(
    "token",
    [
        AddedToken("new york", normalized=False),
        AddedToken("film", normalized=True),
        AddedToken("[X]", lstrip=True, normalized=False),
        AddedToken("[X]", rstrip=True, normalized=False),
    ],
    ids=str,
)
def test_tokenizers_whose_words_depend_on_their_neighbours_are_asked_for_whole_texts(
    tmp_path: Path, token: AddedToken
) -> None:
    tokenizer = written(tmp_path, "json")
    assert words_of(tokenizer)
    tokenizer.add_tokens([token])
    assert words_of(tokenizer) is None


@pytest.mark.parametrize("kind", ["json", "vocab"])
def test_texts_and_pairs_stand_between_the_special_tokens(tmp_path: Path, kind: str) -> None:
    tokenizer = written(tmp_path, kind)
    assert tokenizer.encode("I like it!").tokens == ["[CLS]", "i", "like", "it", "!", "[SEP]"]
    assert tokenizer.encode("a", "film").tokens == ["[CLS]", "a", "[SEP]", "film", "[SEP]"]
    assert tokenizer.encode("a [MASK] [SEP]").tokens == ["[CLS]", "a", "[MASK]", "[SEP]", "[SEP]"]
    assert tokenizer.encode("qqq ☃").tokens == ["[CLS]", "q", "##q", "##q", "[UNK]", "[SEP]"]


@pytest.mark.parametrize("kind", ["json", "vocab"])
@pytest.mark.parametrize(
    ("given_settings", "tokens"),
    [
        ({}, ["caf", "##e"]),
        ({"do_lower_case": True}, ["caf", "##e"]),
        ({"do_lower_case": True, "strip_accents": False}, ["caf", "##é"]),
        ({"do_lower_case": True, "strip_accents": None}, ["caf", "##e"]),
        ({"do_lower_case": False}, ["[UNK]"]),
        ({"do_lower_case": False, "strip_accents": True}, ["[UNK]"]),
    ],
)
def test_casing_and_accents_are_those_of_tokenizer_config(
    tmp_path: Path, kind: str, given_settings: dict[str, Any], tokens: list[str]
) -> None:
    says = nullcontext() if given_settings.get("do_lower_case", True) else pytest.warns(match="keeps capital letters")
    with says:
        tokenizer = written(tmp_path, kind, **given_settings)
    assert tokenizer.encode("Café", add_special_tokens=False).tokens == tokens


@pytest.mark.parametrize("kind", ["json", "vocab"])
def test_a_lower_case_tokenizer_over_a_cased_vocabulary_is_pointed_out(tmp_path: Path, kind: str) -> None:
    vocabulary = [*tiny.VOCABULARY, "Paris"]
    tiny.write_tokenizer(tmp_path, kind, vocabulary, do_lower_case=True)
    with pytest.warns(match="takes capital letters away, but its vocabulary has some"):
        read_tokenizer(tmp_path, len(vocabulary))


@pytest.mark.parametrize("kind", ["json", "vocab"])
def test_cased_models_keep_small_letters_apart_from_capitals(tmp_path: Path, kind: str) -> None:
    vocabulary = [*tiny.VOCABULARY, "I", "Café"]
    tiny.write_tokenizer(tmp_path, kind, vocabulary, do_lower_case=False)
    tokens = read_tokenizer(tmp_path, len(vocabulary)).encode("I Café i", add_special_tokens=False).tokens
    assert tokens == ["I", "Café", "i"]


def test_chinese_characters_are_words_of_their_own_unless_the_config_says_no(tmp_path: Path) -> None:
    assert written(tmp_path, "vocab").encode("東京", add_special_tokens=False).tokens == ["東", "京"]
    apart = written(tmp_path, "vocab", tokenize_chinese_chars=False)
    assert apart.encode("東京", add_special_tokens=False).tokens == ["[UNK]"]


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", ["", "\n"])
def test_lines_of_a_vocabulary_may_end_in_either_way(tmp_path: Path, line_end: str, last: str) -> None:
    content = line_end.join(tiny.VOCABULARY) + (line_end if last else "")
    (tmp_path / "vocab.txt").write_bytes(content.encode())
    tokenizer = read_tokenizer(tmp_path, SIZE)
    assert tokenizer.get_vocab() == {token: i for i, token in enumerate(tiny.VOCABULARY)}


def test_only_line_feeds_end_a_line_of_a_vocabulary(tmp_path: Path) -> None:
    tiny.write_tokenizer(tmp_path, "vocab", [*tiny.VOCABULARY[:20], "\x85", "\u2028", "\x0b", *tiny.VOCABULARY[20:]])
    assert read_tokenizer(tmp_path, 500).token_to_id(tiny.VOCABULARY[20]) == 23


def test_other_special_tokens_may_be_named(tmp_path: Path) -> None:
    vocabulary = ["<cls>", "<sep>", "<unk>", "<pad>", "<mask>", "a"]
    names = {"cls_token": "<cls>", "sep_token": {"content": "<sep>", "lstrip": False}, "unk_token": "<unk>"}
    tiny.write_tokenizer(tmp_path, "vocab", vocabulary, pad_token="<pad>", mask_token="<mask>", **names)
    assert read_tokenizer(tmp_path, 6).encode("a x").tokens == ["<cls>", "a", "<unk>", "<sep>"]


def test_truncation_and_padding_in_the_file_are_switched_off(tmp_path: Path) -> None:
    tokenizer = written(tmp_path, "json")
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=40)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert len(read_tokenizer(tmp_path, SIZE).encode("a film is good").ids) == 6


# What is refused


def refused(directory: Path, says: str, vocab_size: int = SIZE) -> None:
    with pytest.raises(CheckpointError, match=says):
        read_tokenizer(directory, vocab_size)


def test_a_directory_without_a_tokenizer_says_so(tmp_path: Path) -> None:
    refused(tmp_path, r"neither tokenizer\.json nor vocab\.txt")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b'{"model": {"type": "Nope"}}', b"[" * 10**5])
def test_a_broken_tokenizer_json_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    refused(tmp_path, r"tokenizer\.json")


@pytest.mark.parametrize("content", [b"{", b"[]", b"null", b"\xff", b'"x"'])
def test_a_broken_tokenizer_config_is_named(tmp_path: Path, content: bytes) -> None:
    tiny.write_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_bytes(content)
    refused(tmp_path, r"tokenizer_config\.json")


@pytest.mark.parametrize("name", ["do_lower_case", "strip_accents", "tokenize_chinese_chars"])
@pytest.mark.parametrize("kind", ["json", "vocab"])
def test_flags_that_are_no_booleans_are_named(tmp_path: Path, kind: str, name: str) -> None:
    settings: dict[str, Any] = {name: "yes"}
    tiny.write_tokenizer(tmp_path, kind, **settings)
    refused(tmp_path, name)


@pytest.mark.parametrize("kind", ["json", "vocab"])
def test_a_vocabulary_larger_than_the_table_is_refused_with_both_sizes(tmp_path: Path, kind: str) -> None:
    tiny.write_tokenizer(tmp_path, kind)
    refused(tmp_path, f"{SIZE} tokens.*{SIZE - 1}", SIZE - 1)
    read_tokenizer(tmp_path, SIZE)


def test_a_vocabulary_with_gaps_is_measured_by_its_largest_id(tmp_path: Path) -> None:
    tiny.write_tokenizer(tmp_path)
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    content["model"]["vocab"]["film"] = 500
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    refused(tmp_path, "500|501")
    read_tokenizer(tmp_path, 501)


def test_added_tokens_count(tmp_path: Path) -> None:
    tokenizer = written(tmp_path, "json")
    tokenizer.add_tokens(["brandnew"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    refused(tmp_path, f"{SIZE + 1} tokens")


def test_the_message_names_the_directory_when_a_model_first_needs_its_tokenizer(make: Callable[..., Path]) -> None:
    directory = make(tokenizer=None)
    model = npdistil.load(directory, engine="numpy")
    assert model.logits([[2, 3]]).shape == (1, 2)
    with pytest.raises(CheckpointError, match=str(directory)):
        model.predict(["a"])


@pytest.mark.parametrize("missing", ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"])
def test_a_vocabulary_without_a_special_token_is_refused(tmp_path: Path, missing: str) -> None:
    tiny.write_tokenizer(tmp_path, "vocab", [token for token in tiny.VOCABULARY if token != missing])
    refused(tmp_path, rf"vocab\.txt.*\{missing}")


@pytest.mark.parametrize("content", [b"", b"\xff\n", b"\n\n"])
def test_a_broken_vocabulary_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "vocab.txt").write_bytes(content)
    refused(tmp_path, r"vocab\.txt")


def test_a_tokenizer_json_whose_unknown_token_is_unknown_itself_is_refused_or_gives_a_clear_error(
    make: Callable[..., Path],
) -> None:
    directory = make()
    content = json.loads((directory / "tokenizer.json").read_text())
    content["model"]["unk_token"] = "[NOT THERE]"
    (directory / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(NpdistilError):
        npdistil.load(directory, engine="numpy").predict(["☃"])


def test_a_word_level_tokenizer_json_is_read_as_it_stands(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "?": 1}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert read_tokenizer(tmp_path, 2).encode("a b a").ids == [0, 1, 0]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    directory = tmp_path_factory.mktemp("fuzzed")
    tiny.write_tokenizer(directory, vocabulary=[*tiny.VOCABULARY[:30]])
    return directory, (directory / "tokenizer.json").read_text()


def test_an_unknown_token_that_is_only_an_added_one_is_refused(good: tuple[Path, str], tmp_path: Path) -> None:
    whole = json.loads(good[1])
    whole["model"]["vocab"]["[UNKNOWN]"] = whole["model"]["vocab"].pop("[UNK]")
    (tmp_path / "tokenizer.json").write_text(json.dumps(whole))
    with pytest.raises(CheckpointError, match=r"\[UNK\], the tokenizer's token for unknown words"):
        read_tokenizer(tmp_path, SIZE)


@pytest.mark.filterwarnings("ignore:.*the tokenizer (keeps|takes)")
@given(data=st.data())
@settings(max_examples=150)
def test_changed_tokenizer_files_load_or_are_refused(good: tuple[Path, str], data: st.DataObject) -> None:
    directory, text = good
    start = data.draw(st.integers(0, len(text) - 1))
    stop = start + data.draw(st.integers(0, 30))
    insert = data.draw(st.sampled_from(["", "null", "0", '"x"', "{}", "[]", "-1", "99999999999", ",", '"[UNK]"']))
    (directory / "tokenizer.json").write_text(text[:start] + insert + text[stop:])
    try:
        tokenizer = read_tokenizer(directory, SIZE)
        ids = tokenize(tokenizer, ["I like ☃", ""])[0].ids
    except (CheckpointError, InputError):
        pass
    else:
        assert all(0 <= i < SIZE for i in ids)


# What stands beside tokenizer.json and vocab.txt

TEXT = "<user> got Covid19 [E1]"
ADDED = {"<user>": SIZE, "covid19": SIZE + 1, "[E1]": SIZE + 2}


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))


def token(content: str, special: bool = False) -> dict[str, Any]:
    flags = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": not special, "special": special}
    return {"content": content} | flags


@pytest.mark.parametrize("kind", ["json", "vocab"])
@pytest.mark.parametrize("place", ["added_tokens.json", "added_tokens_decoder"])
def test_tokens_that_were_added_by_a_slow_tokenizer_are_words_of_their_own(
    tmp_path: Path, kind: str, place: str
) -> None:
    decoder = {str(number): token(content) for content, number in ADDED.items()}
    settings: dict[str, Any] = {"added_tokens_decoder": decoder} if place == "added_tokens_decoder" else {}
    tiny.write_tokenizer(tmp_path, kind, **settings)
    if place == "added_tokens.json":
        write_json(tmp_path / place, ADDED)
    found = read_tokenization(Folder(tmp_path), SIZE + 3)
    user, *got, covid, e1 = found.tokenizer.encode(TEXT, add_special_tokens=False).ids
    assert [user, covid, e1] == [*ADDED.values()]
    assert len(got) == 3
    assert {*ADDED} < {*found.added_tokens}
    refused(tmp_path, f"{SIZE + 3} tokens, but the model only {SIZE + 2}", SIZE + 2)


@pytest.mark.parametrize("kind", ["json", "vocab"])
@pytest.mark.parametrize("place", ["additional_special_tokens", "extra_special_tokens", "special_tokens_map.json"])
def test_special_tokens_are_found_wherever_a_version_wrote_them(tmp_path: Path, kind: str, place: str) -> None:
    names = ["<user>", token("[E1]", special=True)]
    settings: dict[str, Any] = {} if place.endswith("json") else {place: names}
    tiny.write_tokenizer(tmp_path, kind, **settings)
    if place.endswith("json"):
        write_json(tmp_path / place, {"additional_special_tokens": names, "mask_token": "[MASK]"})
    tokens = read_tokenizer(tmp_path, SIZE + 2).encode("<user> film [E1]", add_special_tokens=False).tokens
    assert tokens == ["<user>", "film", "[E1]"]


def test_a_token_whose_number_the_vocabulary_does_not_leave_it_is_refused(tmp_path: Path) -> None:
    tiny.write_tokenizer(tmp_path, "vocab")
    write_json(tmp_path / "added_tokens.json", {"<user>": SIZE + 5})
    refused(tmp_path, f"added_tokens.json: '<user>' has the number {SIZE + 5}, but.*{SIZE}", 500)


@pytest.mark.parametrize("content", [{"x": "y"}, {"x": None}, {"x": [1]}, [1]])
def test_broken_added_tokens_are_named(tmp_path: Path, content: Any) -> None:
    tiny.write_tokenizer(tmp_path, "vocab")
    write_json(tmp_path / "added_tokens.json", content)
    refused(tmp_path, r"added_tokens\.json", 500)


@pytest.mark.parametrize("settings", [{"added_tokens_decoder": {"5": "x"}}, {"added_tokens_decoder": [1]}])
def test_broken_added_tokens_decoders_are_named(tmp_path: Path, settings: dict[str, Any]) -> None:
    tiny.write_tokenizer(tmp_path, "vocab", **settings)
    refused(tmp_path, r"tokenizer_config\.json has added tokens that cannot be read|has the number 5", 500)


@pytest.mark.parametrize("name", ["BertJapaneseTokenizer", "RobertaTokenizer", "NobodysTokenizer"])
def test_a_vocabulary_of_another_class_than_berts_is_refused_by_name(tmp_path: Path, name: str) -> None:
    tiny.write_tokenizer(tmp_path, "vocab", tokenizer_class=name)
    refused(tmp_path, f"tokenizer_class is '{name}'.*save its tokenizer.json")
    tiny.write_tokenizer(tmp_path, "json", tokenizer_class=name)
    assert read_tokenizer(tmp_path, SIZE).encode("a film").tokens == ["[CLS]", "a", "film", "[SEP]"]


def test_the_class_may_stand_in_config_json(make: Callable[..., Path]) -> None:
    directory = make(tokenizer="vocab", tokenizer_class="BertJapaneseTokenizer")
    write_json(directory / "tokenizer_config.json", {})
    with pytest.raises(CheckpointError, match="tokenizer_class is 'BertJapaneseTokenizer'"):
        npdistil.load(directory, engine="numpy")


@pytest.mark.parametrize("name", ["PreTrainedTokenizerFast", "TokenizersBackend", "RobertaTokenizerFast"])
def test_do_lower_case_is_not_for_classes_that_have_no_such_setting(tmp_path: Path, name: str) -> None:
    tokenizer = written(tmp_path, "json", tokenizer_class=name, do_lower_case=False)
    assert tokenizer.encode("A Film", add_special_tokens=False).tokens == ["a", "film"]


def test_a_byte_order_mark_before_a_vocabulary_is_no_part_of_its_first_token(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(tiny.VOCABULARY), encoding="utf-8-sig")
    assert read_tokenizer(tmp_path, SIZE).token_to_id(tiny.VOCABULARY[0]) == 0


@pytest.mark.parametrize(
    ("settings", "length", "side"),
    [
        ({}, None, "right"),
        ({"model_max_length": 16}, 16, "right"),
        ({"model_max_length": 16.0, "truncation_side": "left"}, 16, "left"),
        ({"model_max_length": 1e30}, None, "right"),
        ({"max_len": 64}, 64, "right"),
    ],
    ids=str,
)
def test_lengths_and_the_side_that_is_cut_are_read(
    tmp_path: Path, settings: dict[str, Any], length: int | None, side: str
) -> None:
    tiny.write_tokenizer(tmp_path, **settings)
    found = read_tokenization(Folder(tmp_path), SIZE)
    assert (found.max_length, found.truncation_side) == (length, side)


@pytest.mark.parametrize("settings", [{"model_max_length": 0}, {"model_max_length": "512"}, {"truncation_side": "up"}])
def test_impossible_lengths_and_sides_are_named(tmp_path: Path, settings: dict[str, Any]) -> None:
    tiny.write_tokenizer(tmp_path, **settings)
    refused(tmp_path, next(iter(settings)))


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_text_is_cut_at_the_length_and_on_the_side_that_the_tokenizer_says(
    make: Callable[..., Path], side: str
) -> None:
    directory = make()
    tiny.write_tokenizer(directory, model_max_length=4, truncation_side=side)
    model = npdistil.load(directory, engine="numpy")
    task = npdistil.pipeline("text-classification", model, truncation=True).processor
    ids = model.tokenizer.encode("the film a good").ids
    assert [[*each] for each in task.preprocess(["the film a good"]).token_ids] == [
        [*ids[:3], 3] if side == "right" else [2, *ids[-3:]]
    ]
    whole = npdistil.pipeline("text-classification", model).processor.preprocess(["the film a good"])
    assert [[*each] for each in whole.token_ids] == [ids]  # where nothing is cut away all is read at once


def test_special_tokens_are_known_by_their_role(tmp_path: Path) -> None:
    vocabulary = ["<cls>", "<sep>", "<unk>", "<pad>", "<mask>", "a"]
    roles = {f"{name}_token": f"<{name}>" for name in ("cls", "sep", "unk", "pad", "mask")}
    tiny.write_tokenizer(tmp_path, "vocab", vocabulary, **roles)
    assert read_tokenization(Folder(tmp_path), 6).special_tokens == roles


def test_a_template_without_its_special_tokens_is_refused_when_it_is_read(tmp_path: Path) -> None:
    made = json.loads(written(tmp_path, "json").to_str())
    letter = {"Sequence": {"id": "A", "type_id": 0}}
    first = {"SpecialToken": {"id": "[CLS]", "type_id": 0}}
    made["post_processor"] = {"type": "TemplateProcessing", "single": [first, letter], "pair": [], "special_tokens": {}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(made))
    with pytest.raises(CheckpointError, match="cannot tokenise a text"):
        read_tokenizer(tmp_path, 30522)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("name", ["tokenizer.json", "config.json", "model.safetensors"])
def test_a_named_pipe_in_a_directory_is_refused_and_not_waited_for(tmp_path: Path, name: str) -> None:
    tiny.write(tmp_path / "model")
    (tmp_path / "model" / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / "model" / name)
    with pytest.raises(CheckpointError, match="no regular file"):
        npdistil.load(tmp_path / "model")


def test_a_tokenizer_that_was_changed_gives_a_text_the_same_ids_alone_and_in_a_batch(tmp_path: Path) -> None:
    for change in (
        lambda tokenizer: tokenizer.add_tokens(["film"]),
        lambda tokenizer: tokenizer.enable_truncation(4),
        lambda tokenizer: setattr(tokenizer.normalizer, "lowercase", False),
    ):
        model = npdistil.load(tiny.write(tmp_path / "model", max_position_embeddings=24))
        pipe, texts = npdistil.pipeline("text-classification", model=model), ["A good bad film", "a very good bad film"]
        pipe(texts)
        change(model.tokenizer)
        assert pipe(texts) == [pipe(text)[0] for text in texts]
