"""Feature extraction and embeddings: shapes, pooling, scikit-learn's pipelines, and what is refused."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import npdistil
from npdistil import Embedder, pipeline
from npdistil.errors import CheckpointError, InputError
from npdistil.tasks.embedding import Embedding

Make = Callable[..., Path]
TEXTS = ["I like it!", "", "the film was boring", "a"]
LONG = "the film was good and i like it , not bad at all . " * 5


@pytest.fixture
def loaded(make: Make, engine: str) -> npdistil.Model:
    return npdistil.load(make(architectures=["DistilBertModel"]), engine=engine, threads=1)


@pytest.fixture
def extract(loaded: npdistil.Model) -> Any:
    return pipeline("feature-extraction", loaded)


def states(loaded: npdistil.Model, text: str) -> Any:
    return loaded.hidden_states([loaded.tokenizer.encode(text).ids])[0]


# The pipeline


def test_a_text_gives_its_hidden_states_as_nested_lists(extract: Any) -> None:
    found = extract("I like it!")
    assert found == states(extract.model, "I like it!")[None].tolist()
    assert (len(found), len(found[0]), len(found[0][0])) == (1, 6, 8)


def test_arrays_are_given_where_asked_for(extract: Any) -> None:
    found = extract("a", return_tensors=True)
    assert (found.shape, found.dtype) == ((1, 3, 8), np.float32)
    assert found.tolist() == extract("a")


def test_lists_iterators_and_batches_give_the_same(extract: Any) -> None:
    expected = [extract(text) for text in TEXTS]
    assert extract(TEXTS) == extract(TEXTS, batch_size=3) == expected
    lazy = extract(iter(TEXTS), batch_size=1)
    assert isinstance(lazy, Iterator)
    assert list(lazy) == expected


def test_a_long_text_is_refused_or_cut_as_asked(extract: Any) -> None:
    with pytest.raises(InputError, match=r"tokens; the model takes 1 to 24"):
        extract(LONG)
    (rows,) = extract(LONG, truncation=True)
    ids = extract.model.tokenizer.encode(LONG).ids
    assert rows == extract.model.hidden_states([[*ids[:23], ids[-1]]])[0].tolist()


@pytest.mark.parametrize("architecture", sorted(tiny.HEADS))
def test_a_model_with_any_head_will_do(make: Make, architecture: str) -> None:
    extract = pipeline("feature-extraction", make(architectures=[architecture]), engine="numpy")
    assert len(extract("a")[0]) == 3


@pytest.mark.parametrize(
    "settings", [{"return_tensors": "tf"}, {"truncation": 1.5}, {"batch_size": 0}, {"pool": "mean"}]
)
def test_wrong_settings_are_refused(extract: Any, settings: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        extract("a", **settings)


@pytest.mark.parametrize("inputs", [None, 5, [5], (5,), {"text": "a"}, "\ud800"])
def test_wrong_inputs_are_refused(extract: Any, inputs: Any) -> None:
    with pytest.raises(InputError):
        extract(inputs)


# One vector a text


def test_a_vector_is_the_mean_the_first_or_the_largest_of_the_hidden_states(loaded: npdistil.Model) -> None:
    rows = [states(loaded, text) for text in TEXTS]
    pools: dict[str, Callable[[Any], Any]] = {
        "mean": lambda each: each.mean(axis=0),
        "cls": lambda each: each[0],
        "max": lambda each: each.max(axis=0),
    }
    for pooling, pool in pools.items():
        found = Embedder(loaded, pooling=pooling).transform(TEXTS)
        assert found.shape == (4, 8)
        assert found.dtype == np.float32
        assert found == pytest.approx(np.stack([pool(each) for each in rows]), abs=1e-6)


def test_normalized_vectors_have_length_1(loaded: npdistil.Model) -> None:
    plain, unit = (Embedder(loaded, normalize=each).transform(TEXTS) for each in (False, True))
    assert np.linalg.norm(unit, axis=1) == pytest.approx(1, abs=1e-6)
    assert unit == pytest.approx(plain / np.linalg.norm(plain, axis=1, keepdims=True), abs=1e-6)


def test_a_texts_vector_has_the_same_bits_alone_and_in_any_batch(loaded: npdistil.Model) -> None:
    texts = [*TEXTS, LONG]
    alone = np.concatenate([Embedder(loaded).transform([text]) for text in texts])
    for size in (1, 2, 64):
        assert Embedder(loaded, batch_size=size).transform(texts).tobytes() == alone.tobytes()


def test_the_vector_of_a_long_text_is_the_mean_over_its_windows(loaded: npdistil.Model) -> None:
    parts = loaded.hidden_states(Embedding(loaded.checkpoint).preprocess([LONG]).token_ids)
    expected = np.mean([each.mean(axis=0) for each in parts], axis=0)
    assert Embedder(loaded).transform([LONG])[0] == pytest.approx(expected, abs=1e-6)
    with pytest.raises(InputError, match="24 are allowed"):
        Embedder(loaded, long_text="error").transform([LONG])


def stored(make: Make, **modes: bool) -> Path:
    directory = make(architectures=["DistilBertModel"])
    (directory / "1_Pooling").mkdir()
    (directory / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 8} | modes))
    return directory


@pytest.mark.parametrize(
    ("mode", "pooling"),
    [("pooling_mode_mean_tokens", "mean"), ("pooling_mode_cls_token", "cls"), ("pooling_mode_max_tokens", "max")],
)
def test_the_pooling_that_sentence_transformers_stored_is_used(make: Make, mode: str, pooling: str) -> None:
    modes = {
        f"pooling_mode_{each}": False for each in ("mean_tokens", "cls_token", "max_tokens", "weightedmean_tokens")
    }
    model = npdistil.load(stored(make, **modes | {mode: True}), engine="numpy")
    assert np.array_equal(Embedder(model).transform(TEXTS), Embedder(model, pooling=pooling).transform(TEXTS))


def test_a_stored_pooling_that_is_not_known_is_refused(make: Make) -> None:
    with pytest.raises(CheckpointError, match="1_Pooling.*pooling_mode_other_tokens"):
        npdistil.load(stored(make, pooling_mode_other_tokens=True), engine="numpy")


def test_no_texts_give_no_rows(loaded: npdistil.Model) -> None:
    assert Embedder(loaded).transform([]).shape == (0, 8)


@pytest.mark.parametrize("texts", ["one string", [5], [None], [("a",)], ["\ud800"]])
def test_wrong_texts_are_refused(loaded: npdistil.Model, texts: Any) -> None:
    with pytest.raises(InputError):
        Embedder(loaded).transform(texts)


@pytest.mark.parametrize("settings", [{"pooling": "sum"}, {"normalize": "l2"}, {"long_text": "cut"}])
def test_wrong_settings_of_an_embedder_are_refused(loaded: npdistil.Model, settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(settings))):
        Embedder(loaded, **settings).fit(TEXTS)


# scikit-learn


def test_an_embedder_is_a_step_of_scikit_learns_pipelines(make: Make) -> None:
    loaded = npdistil.load(make(architectures=["DistilBertModel"], dim=32), engine="numpy")
    texts = ["good film", "bad film", "very good", "very bad", "i like it", "i hate it"] * 3
    labels = ["yes", "no"] * 9
    classifier = make_pipeline(Embedder(loaded, normalize=True), LogisticRegression(C=10_000.0, max_iter=2000))
    classifier.fit(texts, labels)
    assert classifier.score(texts, labels) == 1
    assert classifier.predict_proba(["good film"]).shape == (1, 2)


def test_scikit_learn_can_copy_an_embedder_and_change_its_settings(make: Make) -> None:
    directory = str(make(architectures=["DistilBertModel"]))
    embedder = Embedder(directory, pooling="max", batch_size=3)
    copy = clone(embedder)
    assert copy is not embedder
    assert copy.get_params() == embedder.get_params()
    assert copy.set_params(pooling="cls", normalize=True) is copy
    assert (copy.pooling, copy.normalize, embedder.pooling) == ("cls", True, "max")
    with pytest.raises(InputError, match="unknown setting: size"):
        copy.set_params(size=5)
    assert np.array_equal(embedder.fit_transform(TEXTS), embedder.fit(TEXTS).transform(TEXTS))


# A directory of sentence-transformers, as its version 6 and as older ones write it

MODULE = "sentence_transformers.models."


def sentence_encoder(make: Make, folders: dict[str, tuple[str, Any]], **files: Any) -> Path:
    """`folders`: name -> type of the module and its config.json; `files`: other JSON files by name."""
    directory = make(architectures=["DistilBertModel"], prefix=False)
    listed = [{"idx": 0, "name": "0", "path": "", "type": f"{MODULE}Transformer"}]
    for folder, (kind, config) in folders.items():
        listed.append({"idx": len(listed), "name": str(len(listed)), "path": folder, "type": f"{MODULE}{kind}"})
        (directory / folder).mkdir(exist_ok=True)
        if config is not None:
            (directory / folder / "config.json").write_text(json.dumps(config))
    for name, content in ({"modules": listed} | files).items():
        (directory / f"{name}.json").write_text(json.dumps(content))
    return directory


def dense(directory: Path, folder: str = "2_Dense", into: int = 8, out: int = 3, bias: bool = True) -> dict[str, Any]:
    random = np.random.default_rng(5)
    arrays = {"linear.weight": random.normal(size=(out, into)).astype(np.float32)}
    if bias:
        arrays["linear.bias"] = random.normal(size=out).astype(np.float32)
    (directory / folder / "model.safetensors").write_bytes(tiny.serialized(arrays))
    return arrays


DENSE = {"in_features": 8, "out_features": 3, "bias": True}
TANH = "torch.nn.modules.activation.Tanh"
POOLED: dict[str, Callable[[Any], Any]] = {
    "mean": lambda x: x.mean(axis=0),
    "cls": lambda x: x[0],
    "max": lambda x: x.max(axis=0),
    "mean_sqrt_len_tokens": lambda x: x.sum(axis=0) / len(x) ** 0.5,
    "weightedmean": lambda x: np.average(x, axis=0, weights=np.arange(1, len(x) + 1)),
    "lasttoken": lambda x: x[-1],
}


@pytest.mark.parametrize("modes", [*POOLED, ["mean", "max"], ["lasttoken", "cls", "weightedmean"]], ids=str)
def test_every_pooling_is_read_from_a_folder_of_any_name(make: Make, modes: Any) -> None:
    directory = sentence_encoder(make, {"pool": ("Pooling", {"embedding_dimension": 8, "pooling_mode": modes})})
    loaded = npdistil.load(directory, engine="numpy")
    names = [modes] if isinstance(modes, str) else modes
    found = Embedder(loaded).transform(TEXTS)
    expected = [np.concatenate([POOLED[name](states(loaded, text)) for name in names]) for text in TEXTS]
    assert found == pytest.approx(np.stack(expected), abs=1e-5)
    asked = npdistil.load(make(architectures=["DistilBertModel"], prefix=False), engine="numpy")
    assert np.array_equal(Embedder(asked, pooling="+".join(names)).transform(TEXTS), found)


def test_old_modes_stand_side_by_side_in_their_old_order(make: Make) -> None:
    config = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True, "pooling_mode_max_tokens": False}
    loaded = npdistil.load(sentence_encoder(make, {"1_Pooling": ("Pooling", config)}), engine="numpy")
    assert loaded.checkpoint.sentence is not None
    assert loaded.checkpoint.sentence.pooling == "cls+mean"


@pytest.mark.parametrize("activation", [TANH, "torch.nn.modules.linear.Identity"])
def test_a_dense_module_and_a_length_of_1_follow(make: Make, activation: str) -> None:
    modules = {
        "1_Pooling": ("Pooling", {"pooling_mode": "mean"}),
        "2_Dense": ("Dense", DENSE | {"activation_function": activation}),
        "3_Normalize": ("Normalize", None),
    }
    directory = sentence_encoder(make, modules)
    arrays = dense(directory)
    loaded = npdistil.load(directory, engine="numpy")
    means = np.stack([states(loaded, text).mean(axis=0) for text in TEXTS])
    expected = means @ arrays["linear.weight"].T + arrays["linear.bias"]
    expected = np.tanh(expected) if activation == TANH else expected
    lengths = np.linalg.norm(expected, axis=1, keepdims=True)
    assert Embedder(loaded).transform(TEXTS) == pytest.approx(expected / lengths, abs=1e-5)
    assert Embedder(loaded, normalize=False).transform(TEXTS) == pytest.approx(expected, abs=1e-5)
    assert Embedder(loaded, truncate_dim=2).transform(TEXTS) == pytest.approx((expected / lengths)[:, :2], abs=1e-5)
    assert Embedder(loaded).transform([]).shape == (0, 3)
    with pytest.raises(InputError, match="makes 16 numbers; the model's Dense module takes 8"):
        Embedder(loaded, pooling="mean+max").transform(TEXTS)


def test_texts_are_cut_where_the_directory_says(make: Make) -> None:
    files = {"sentence_bert_config": {"max_seq_length": 6}}
    directory = sentence_encoder(make, {"1_Pooling": ("Pooling", {})}, **files)
    loaded = npdistil.load(directory, engine="numpy")
    ids = loaded.tokenizer.encode(LONG).ids
    cut = loaded.hidden_states([[*ids[:5], ids[-1]]])[0].mean(axis=0)
    assert Embedder(loaded).transform([LONG])[0] == pytest.approx(cut, abs=1e-6)
    longer = loaded.hidden_states([[*ids[:9], ids[-1]]])[0].mean(axis=0)
    assert Embedder(loaded, max_length=10).transform([LONG])[0] == pytest.approx(longer, abs=1e-6)
    assert not np.allclose(Embedder(loaded, long_text="windows").transform([LONG])[0], cut, atol=1e-3)


def test_prompts_are_put_before_texts(make: Make) -> None:
    prompts = {"prompts": {"query": "it is ", "film": "a film "}, "default_prompt_name": "film"}
    directory = sentence_encoder(make, {"1_Pooling": ("Pooling", {})}, config_sentence_transformers=prompts)
    plain = npdistil.load(make(architectures=["DistilBertModel"], prefix=False), engine="numpy")
    loaded = npdistil.load(directory, engine="numpy")
    for settings, prompt in [
        ({}, "a film "),
        ({"prompt_name": "query"}, "it is "),
        ({"prompt": "the "}, "the "),
        ({"prompt": ""}, ""),
        ({"prompt_name": "document"}, ""),
    ]:
        expected = Embedder(plain).transform([prompt + text for text in TEXTS])
        assert np.array_equal(Embedder(loaded, **settings).transform(TEXTS), expected), settings
    with pytest.raises(InputError, match=r"prompt_name is 'other'; known are query, document, film"):
        Embedder(loaded, prompt_name="other").transform(TEXTS)


@pytest.mark.parametrize("mode", ["mean", "cls", "weightedmean", "lasttoken"])
def test_a_prompt_that_does_not_count_is_left_out_of_the_pooling(make: Make, mode: str) -> None:
    config = {"pooling_mode": mode, "include_prompt": False}
    loaded = npdistil.load(sentence_encoder(make, {"1_Pooling": ("Pooling", config)}), engine="numpy")
    all_states = states(loaded, "it is good")  # [CLS] it is good [SEP]
    rest = all_states[3:]
    expected = np.average(rest, axis=0, weights=[4, 5]) if mode == "weightedmean" else POOLED[mode](rest)
    assert Embedder(loaded, prompt="it is ").transform(["good"])[0] == pytest.approx(expected, abs=1e-5)


def test_a_transformer_in_a_folder_of_its_own_is_found_and_quantized_there(make: Make, tmp_path: Path) -> None:
    inner = make(architectures=["DistilBertModel"], prefix=False)
    (inner / "sentence_bert_config.json").write_text('{"max_seq_length": 7}')
    directory = tmp_path / "outer"
    directory.mkdir()
    inner.rename(directory / "0_Transformer")
    (directory / "pool").mkdir()
    (directory / "pool" / "config.json").write_text('{"pooling_mode": "cls"}')
    paths = {"0_Transformer": "Transformer", "pool": "Pooling"}
    modules = [{"path": path, "type": MODULE + kind} for path, kind in paths.items()]
    (directory / "modules.json").write_text(json.dumps(modules))
    npdistil.quantize_checkpoint(directory, tmp_path / "int8")
    for each in (directory, tmp_path / "int8"):
        loaded = npdistil.load(each, engine="numpy")
        assert Embedder(loaded).transform(["a"])[0] == pytest.approx(states(loaded, "a")[0], abs=1e-6)
        assert loaded.checkpoint.max_length == 7
    assert sorted(p.name for p in (tmp_path / "int8").iterdir()) == ["0_Transformer", "modules.json", "pool"]


@pytest.mark.parametrize("kind", ["LayerNorm", "CNN", "Asym"])
def test_a_module_that_is_not_known_is_refused_by_name_where_vectors_are_wanted(make: Make, kind: str) -> None:
    directory = sentence_encoder(make, {"1_Pooling": ("Pooling", {}), "2_More": (kind, {})})
    loaded = npdistil.load(directory, engine="numpy")
    assert loaded.hidden_states([[2, 3]])[0].shape == (2, 8)  # other tasks do without
    with pytest.raises(CheckpointError, match=rf"modules\.json has the module {MODULE}{kind}"):
        Embedder(loaded).transform(TEXTS)


@pytest.mark.parametrize(
    ("modules", "files", "says"),
    [
        ({"1_Pooling": ("Pooling", {"pooling_mode": "median"})}, {}, r"1_Pooling/config\.json has the pooling"),
        ({"../out": ("Pooling", {})}, {}, r"'\.\./out' is not a folder inside"),
        ({"1_Pooling": ("Pooling", {})}, {"modules": []}, r"modules\.json holds \[\]"),
        ({}, {"modules": [{"path": "", "type": f"{MODULE}Pooling"}]}, "expected one Transformer"),
        ({}, {"modules": {"path": ""}}, r"modules\.json holds"),
        (
            {"1_Pooling": ("Pooling", {}), "2_Dense": ("Dense", DENSE | {"activation_function": "my.Own"})},
            {},
            "'my.Own'",
        ),
        ({"1_Pooling": ("Pooling", {}), "2_Dense": ("Dense", DENSE | {"module_input_name": "x"})}, {}, "'x'"),
        ({"1_Pooling": ("Pooling", {}), "2_Dense": ("Dense", DENSE)}, {}, r"2_Dense/model\.safetensors"),
        (
            {"1_Pooling": ("Pooling", {})},
            {"sentence_bert_config": {"max_seq_length": "all"}},
            "max_seq_length is 'all'",
        ),
        ({"1_Pooling": ("Pooling", {})}, {"config_sentence_transformers": {"prompts": [1]}}, r"prompts is \[1\]"),
        (
            {"1_Pooling": ("Pooling", {})},
            {"config_sentence_transformers": {"default_prompt_name": "x"}},
            "default_prompt_name is 'x'; its prompts are query, document",
        ),
    ],
)
def test_broken_modules_are_refused_with_file_and_key(make: Make, modules: Any, files: Any, says: str) -> None:
    with pytest.raises(CheckpointError, match=says) as refused:
        npdistil.load(sentence_encoder(make, modules, **files), engine="numpy")
    assert "\n" not in str(refused.value)


def test_dense_weights_of_another_shape_are_refused(make: Make) -> None:
    directory = sentence_encoder(make, {"1_Pooling": ("Pooling", {}), "2_Dense": ("Dense", DENSE)})
    dense(directory, into=9)
    with pytest.raises(CheckpointError, match=r"2_Dense/model\.safetensors has the tensors.*\(3, 9\)"):
        npdistil.load(directory, engine="numpy")
    (directory / "2_Dense" / "config.json").write_text(json.dumps(DENSE | {"in_features": 9}))
    with pytest.raises(CheckpointError, match="takes 9 numbers, and is given 8"):
        npdistil.load(directory, engine="numpy")


def test_a_cross_encoder_is_no_sentence_encoder(make: Make) -> None:
    assert npdistil.load(sentence_encoder(make, {}), engine="numpy").checkpoint.sentence is None
