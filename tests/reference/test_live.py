"""Logits, labels, pipelines and token ids against transformers and torch, on the same texts, now."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from opened import Array, logits_of, opened
from safetensors.numpy import load_file, save_file
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    pipeline,
)

import npdistil
from npdistil.errors import InputError

Dev = tuple[list[str], Array]
LOGITS = 5e-5  # largest difference of float32 logits
NEAR = 0.25  # two int8 computations may choose otherwise where a text's two logits are closer than this, and
UNDECIDED = 2  # so often, of 872


@pytest.fixture(scope="session")
def full_size(bundled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DistilBERT of 66 million random weights, as transformers saves it, with the bundled model's tokenizer."""
    directory = tmp_path_factory.mktemp("full") / "distilbert"
    torch.manual_seed(0)
    config = DistilBertConfig(num_labels=2, initializer_range=0.05)
    DistilBertForSequenceClassification(config).eval().save_pretrained(directory)
    AutoTokenizer.from_pretrained(bundled).save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def float32_copy(bundled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model with its weights as the float32 numbers that they stand for."""
    directory = tmp_path_factory.mktemp("float32")
    tensors = load_file(bundled / "model.safetensors")
    scales = {name.removesuffix("_scale"): tensors.pop(name) for name in [*tensors] if name.endswith("weight_scale")}
    floats = {name: array.astype(np.float32) * scales.get(name, np.float32(1)) for name, array in tensors.items()}
    save_file(floats, directory / "model.safetensors", {"format": "pt"})
    config = json.loads((bundled / "config.json").read_text())
    config.pop("quantization_config")
    (directory / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (directory / name).write_bytes((bundled / name).read_bytes())
    return directory


def ids_of(model: npdistil.Model, texts: list[str]) -> list[list[int]]:
    return [encoding.ids for encoding in model.tokenizer.encode_batch(texts)]


def close(got: Array, expected: Array, most: float) -> None:
    difference = float(np.abs(got - expected).max())
    print(f"largest difference of logits {difference:.1e}")
    assert got.shape == expected.shape
    assert difference <= most


@pytest.fixture(scope="session")
def full_size_logits(full_size: Path, dev: Dev) -> Array:
    return logits_of(opened(full_size), ids_of(npdistil.load(full_size, engine="numpy"), dev[0]))


def test_float32_logits_of_a_full_size_model(full_size: Path, full_size_logits: Array, dev: Dev, engine: str) -> None:
    model = npdistil.load(full_size, engine=engine)
    assert (model.engine, model.precision) == (engine, "float32")
    close(model.logits(ids_of(model, dev[0])), full_size_logits, LOGITS)


def test_states_and_attentions_of_every_layer(float32_copy: Path) -> None:
    model = npdistil.load(float32_copy)
    theirs = AutoModelForSequenceClassification.from_pretrained(float32_copy, attn_implementation="eager").eval()
    for ids in ids_of(model, ["I like you.", "Not bad at all, was it?"]):
        with torch.inference_mode():
            out = theirs(torch.tensor([ids]), output_hidden_states=True, output_attentions=True)
        (states,), (weights,) = model.all_hidden_states([ids]), model.attentions([ids])
        assert np.abs(states - torch.cat(out.hidden_states).numpy()).max() <= LOGITS
        assert np.abs(weights - torch.cat(out.attentions).numpy()).max() <= LOGITS


@pytest.fixture(scope="session")
def bundled_float32_logits(float32_copy: Path, dev: Dev) -> Array:
    return logits_of(opened(float32_copy), ids_of(npdistil.load(float32_copy, engine="numpy"), dev[0]))


def test_float32_logits_of_the_bundled_model(
    bundled: Path, float32_copy: Path, bundled_float32_logits: Array, dev: Dev, engine: str
) -> None:
    """Both the copy of its weights in float32, and the file itself asked for in float32."""
    for directory in (float32_copy, bundled):
        model = npdistil.load(directory, engine=engine, precision="float32")
        close(model.logits(ids_of(model, dev[0])), bundled_float32_logits, LOGITS)


@pytest.fixture(scope="session")
def bundled_int8_logits(bundled: Path, dev: Dev) -> Array:
    """The bundled model as transformers opens it with compressed-tensors."""
    return logits_of(opened(bundled), ids_of(npdistil.load(bundled, engine="numpy"), dev[0]))


def agree(got: Array, expected: Array) -> None:
    """The same labels, save where a byte that rounds to its neighbour, and what grows from it, can turn them."""
    gaps, theirs = got[:, 1] - got[:, 0], expected[:, 1] - expected[:, 0]
    turned = np.abs(theirs)[(gaps > 0) != (theirs > 0)]
    print(f"other label on {len(turned)} of {len(got)}; gaps differ by at most {np.abs(gaps - theirs).max():.3f}")
    assert (turned < NEAR).all()
    assert len(turned) <= UNDECIDED


def test_int8_labels_of_the_bundled_model(bundled: Path, bundled_int8_logits: Array, dev: Dev, engine: str) -> None:
    model = npdistil.load(bundled, engine=engine)
    assert (model.engine, model.precision) == (engine, "int8")
    agree(model.logits(ids_of(model, dev[0])), bundled_int8_logits)


def test_both_engines_give_the_same_int8_labels(bundled: Path, dev: Dev) -> None:
    pytest.importorskip("numba")
    numpy_one, compiled = (npdistil.load(bundled, engine=engine) for engine in ("numpy", "compiled"))
    ids = ids_of(numpy_one, dev[0])
    agree(compiled.logits(ids), numpy_one.logits(ids))


def test_int8_has_no_fewer_sentences_of_dev_right_than_float32(bundled: Path, dev: Dev, engine: str) -> None:
    """Against the float32 checkpoint that it was made from, which is not shipped: its figure is on record."""
    texts, labels = dev
    measured = json.loads((Path(__file__).parents[2] / "weights" / "measured.json").read_text(encoding="utf-8"))
    right = int((npdistil.load(bundled, engine=engine).scores(texts).argmax(axis=1) == labels).sum())
    print(f"right of {len(labels)}: {right}; float32 {measured['right']['float32, treebank']}")
    assert right >= measured["right"]["float32, treebank"]


def test_a_quantized_checkpoint_opens_in_transformers_and_agrees(full_size: Path, dev: Dev, tmp_path: Path) -> None:
    """In the first block: most rows are equal there, the others have a number that rounded to the next byte.

    Later blocks say nothing. Through random weights such a byte grows, until the two are as far from each other as from
    float32, whichever way embeddings are stored.
    """
    npdistil.quantize_checkpoint(full_size, tmp_path / "int8")
    model, theirs, floats = npdistil.load(tmp_path / "int8"), opened(tmp_path / "int8"), npdistil.load(full_size)
    ids = ids_of(model, dev[0][:64])
    with torch.inference_mode():
        expected = [theirs(torch.tensor([each]), output_hidden_states=True).hidden_states[:2] for each in ids]
    rows = [np.concatenate([states[i][0].numpy() for states in expected]) for i in range(2)]  # [T, D] each
    got, exact = (
        [np.concatenate([states[i] for states in each.all_hidden_states(ids)]) for i in range(2)]
        for each in (model, floats)
    )
    close(got[0], rows[0], 1e-5)
    equal, by_chance = ((np.abs(each[1] - rows[1]).max(axis=1) < 1e-4).mean() for each in (got, exact))
    print(f"after the first block {equal:.1%} of {len(rows[1])} rows are equal, {by_chance:.1%} to those of float32")
    assert equal > 0.7
    assert by_chance < 0.01


@pytest.mark.parametrize(
    "settings", [{}, {"top_k": None}, {"top_k": 1}, {"function_to_apply": "sigmoid"}, {"top_k": 2}], ids=str
)
@pytest.mark.parametrize("one", [True, False], ids=["one text", "several"])
def test_the_text_classification_pipeline(float32_copy: Path, settings: dict[str, Any], one: bool) -> None:
    texts: Any = "I like you." if one else ["I like you.", "What a mess!", "Not bad at all, was it?", ""]
    theirs = pipeline("text-classification", str(float32_copy), device="cpu")(texts, **settings)
    ours = npdistil.pipeline("text-classification", float32_copy)(texts, **settings)
    same(ours, theirs)


def same(ours: Any, theirs: Any) -> None:
    """Equal, but for floats, which are near."""
    assert type(ours) is type(theirs)
    if isinstance(ours, dict):
        assert list(ours) == list(theirs)
        for name, value in ours.items():
            same(value, theirs[name])
    elif isinstance(ours, list):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            same(one, other)
    else:
        assert ours == (pytest.approx(theirs, abs=2e-5) if isinstance(ours, float) else theirs)


@pytest.fixture(params=["DistilBert", "Bert"])
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def small(name: str, directory: Path, tokenizer: Path, **settings: Any) -> Path:
    """A small model of random weights with another head, as transformers saves it."""
    import transformers

    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "initializer_range": 0.3}
    if name.startswith("Bert"):
        config: Any = transformers.BertConfig(intermediate_size=128, layer_norm_eps=1e-5, **sizes, **settings)
    else:
        config = DistilBertConfig(hidden_dim=128, **sizes, **settings)
    getattr(transformers, name)(config).eval().save_pretrained(directory)
    own = transformers.BertTokenizer if name.startswith("Bert") else AutoTokenizer
    own.from_pretrained(tokenizer).save_pretrained(directory)
    return directory


TEXT = "I am Sarah and I live in London, but my sister Anna lives in New York City."


@pytest.mark.parametrize("strategy", ["none", "simple", "first", "average", "max"])
def test_the_token_classification_pipeline(
    bundled: Path, tmp_path: Path, strategy: str, engine: str, kind: str
) -> None:
    labels = dict(enumerate(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]))
    directory = small(f"{kind}ForTokenClassification", tmp_path, bundled, id2label=labels)
    theirs = pipeline("token-classification", str(directory), aggregation_strategy=strategy, device="cpu")(TEXT)
    ours = npdistil.pipeline("ner", directory, aggregation_strategy=strategy, engine=engine)(TEXT)  # type: ignore[call-overload]
    assert len(ours) == len(theirs) > 0
    for one, other in zip(ours, theirs, strict=True):
        assert {k: v for k, v in one.items() if k != "score"} == {k: v for k, v in other.items() if k != "score"}
        assert one["score"] == pytest.approx(float(other["score"]), abs=2e-5)


@pytest.mark.parametrize(
    "call",
    [
        lambda fill: fill("a [MASK] film"),
        lambda fill: fill("a [MASK] film [MASK].", top_k=2),
        lambda fill: fill(["a [MASK] film", "[MASK] it"]),
        lambda fill: fill("a [MASK] film", targets=["good", "bad"]),
    ],
)
def test_the_fill_mask_pipeline(
    bundled: Path, tmp_path: Path, call: Callable[[Any], Any], engine: str, kind: str
) -> None:
    directory = small(f"{kind}ForMaskedLM", tmp_path, bundled)
    same(
        call(npdistil.pipeline("fill-mask", directory, engine=engine)),
        call(pipeline("fill-mask", str(directory), device="cpu")),
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"candidate_labels": ["film", "sport"]},
        {"candidate_labels": "film, sport ,food", "multi_label": True},
        {"candidate_labels": ["a", "b"], "hypothesis_template": "It is about {}."},
    ],
    ids=str,
)
def test_the_zero_shot_pipeline(
    bundled: Path, tmp_path: Path, settings: dict[str, Any], engine: str, kind: str
) -> None:
    labels = {0: "contradiction", 1: "neutral", 2: "entailment"}
    numbers = {name: i for i, name in labels.items()}
    directory = small(f"{kind}ForSequenceClassification", tmp_path, bundled, id2label=labels, label2id=numbers)
    theirs = pipeline("zero-shot-classification", str(directory), device="cpu")
    ours = npdistil.pipeline("zero-shot-classification", directory, engine=engine)
    for texts in (TEXT, [TEXT, "a film"]):
        same(ours(texts, **settings), theirs(texts, **settings))


def test_the_feature_extraction_pipeline(bundled: Path, tmp_path: Path, engine: str, kind: str) -> None:
    directory = small(f"{kind}Model", tmp_path, bundled)
    theirs = pipeline("feature-extraction", str(directory), device="cpu")
    ours = npdistil.pipeline("feature-extraction", directory, engine=engine)
    same(ours(TEXT), theirs(TEXT))
    same(ours([TEXT, "a film"]), theirs([TEXT, "a film"]))


def test_any_text_gets_the_token_ids_of_the_reference(bundled: Path, naughty: list[str]) -> None:
    theirs = AutoTokenizer.from_pretrained(bundled)
    model = npdistil.load(bundled, engine="numpy")
    expected = theirs(naughty, truncation=False)["input_ids"]
    assert ids_of(model, naughty) == expected


def test_any_text_gets_an_answer(bundled: Path, naughty: list[str], engine: str) -> None:
    scores = npdistil.load(bundled, engine=engine).predict_proba(naughty)
    assert np.isfinite(scores).all()
    assert np.allclose(scores.sum(axis=1), 1)


def test_a_million_characters_get_an_answer(bundled: Path) -> None:
    text = "An hour too long. " * 55_556
    assert len(text) > 1_000_000
    assert npdistil.load(bundled).predict([text])[0] == "NEGATIVE"


def test_lone_surrogates_are_refused_in_words(bundled: Path) -> None:
    with pytest.raises(InputError, match="lone surrogate"):
        npdistil.load(bundled, engine="numpy").predict(["a \ud800 b"])
