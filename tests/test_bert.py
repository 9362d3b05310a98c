"""A BERT is opened as the DistilBERT that it is: token types, pooler, layer norms of its own; in every task."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tiny
from safetensors.numpy import load_file

import npdistil
from npdistil.batch import Inputs
from npdistil.cli.info import described
from npdistil.distilbert import encoder, heads
from npdistil.errors import CheckpointError, InputError
from npdistil.text import laid_out, tokenize, wholes

Array = npt.NDArray[Any]
PAIR = ("who lives in paris ?", "john lives in the city")
HEADS = (
    "ForSequenceClassification",
    "ForMultipleChoice",
    "ForTokenClassification",
    "ForQuestionAnswering",
    "ForMaskedLM",
    "ForPreTraining",
    "Model",
)


def normed(x: Array, arrays: dict[str, Array], name: str, eps: float) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + eps)
    return centred / deviation * arrays[f"{name}.weight"] + arrays[f"{name}.bias"]


def applied(x: Array, arrays: dict[str, Array], name: str) -> Array:
    return x @ arrays[f"{name}.weight"].T + arrays[f"{name}.bias"]


def bert(directory: Path, ids: list[int], types: list[int]) -> dict[str, Array]:
    """BERT as the paper has it (arXiv:1810.04805), one text at a time, in float64, from the files themselves."""
    config = json.loads((directory / "config.json").read_text())
    stored = load_file(directory / "model.safetensors")
    arrays = {name.removeprefix("bert."): array.astype(np.float64) for name, array in stored.items()}
    eps, n_heads = config["layer_norm_eps"], config["num_attention_heads"]
    act = encoder.ACTIVATIONS[config["hidden_act"]]
    tables = {
        name: arrays[f"embeddings.{name}_embeddings.weight"]
        for name in ("word", "position", "token_type")
        if f"embeddings.{name}_embeddings.weight" in arrays
    }
    x = arrays["embeddings.word_embeddings.weight"][ids] + tables["position"][: len(ids)] + tables["token_type"][types]
    x = normed(x, arrays, "embeddings.LayerNorm", eps)
    for i in range(config["num_hidden_layers"]):
        at = f"encoder.layer.{i}."
        q, k, v = (
            applied(x, arrays, f"{at}attention.self.{name}").reshape(len(ids), n_heads, -1).transpose(1, 0, 2)
            for name in ("query", "key", "value")
        )
        weights = encoder.softmax(q @ k.transpose(0, 2, 1) / q.shape[-1] ** 0.5)
        context = (weights @ v).transpose(1, 0, 2).reshape(len(ids), -1)
        x = normed(
            x + applied(context, arrays, f"{at}attention.output.dense"), arrays, f"{at}attention.output.LayerNorm", eps
        )
        inner = act(applied(x, arrays, f"{at}intermediate.dense"))
        x = normed(x + applied(inner, arrays, f"{at}output.dense"), arrays, f"{at}output.LayerNorm", eps)
    found = {"states": x}
    if "classifier.weight" in arrays:
        has_pooler = "pooler.dense.weight" in arrays
        first = np.tanh(applied(x[:1], arrays, "pooler.dense")) if has_pooler else x
        found["logits"] = applied(first, arrays, "classifier")
    if "qa_outputs.weight" in arrays:
        found["logits"] = applied(x, arrays, "qa_outputs")
    if "cls.predictions.bias" in arrays:
        inner = act(applied(x, arrays, "cls.predictions.transform.dense"))
        inner = normed(inner, arrays, "cls.predictions.transform.LayerNorm", eps)
        found["logits"] = inner @ arrays["embeddings.word_embeddings.weight"].T + arrays["cls.predictions.bias"]
    return found


def asked(model: npdistil.Model, output: str = "logits") -> Array:
    (encoding,) = tokenize(model.checkpoint.tokenizer, [PAIR])
    return model.forward(laid_out([wholes([encoding])], output=output)).values[0]


@pytest.mark.parametrize("eps", [1e-12, 1e-2])
@pytest.mark.parametrize("head", HEADS)
def test_every_head_gives_what_bert_does(tmp_path: Path, head: str, eps: float, engine: str) -> None:
    directory = tiny.write_bert(tmp_path, head, layer_norm_eps=eps)
    model = npdistil.load(directory, engine=engine)
    ids = model.tokenizer.encode(*PAIR).ids
    first = ids.index(3) + 1
    expected = bert(directory, ids, [0] * first + [1] * (len(ids) - first))
    assert np.abs(asked(model, "hidden_states") - expected["states"]).max() < 1e-5
    if head == "Model":
        with pytest.raises(InputError, match="is a BertModel, which has no head"):
            asked(model)
    else:
        assert np.abs(asked(model) - expected["logits"]).max() < 1e-5
    # And the same without its types is another text.
    without = model.hidden_states([ids])[0]
    assert np.abs(without - bert(directory, ids, [0] * len(ids))["states"]).max() < 1e-5
    assert np.abs(without - expected["states"]).max() > 0.01


def test_the_specification_takes_the_same_positions(tmp_path: Path) -> None:
    checkpoint = npdistil.read_checkpoint(tiny.write_bert(tmp_path, layer_norm_eps=1e-3))
    config, ids = checkpoint.config, checkpoint.tokenizer.encode(*PAIR).ids
    types = np.array(checkpoint.tokenizer.encode(*PAIR).type_ids)
    positions = np.arange(len(ids)) + types * 24
    states = encoder.encode(
        np.array(ids), np.array([0, len(ids)]), **checkpoint.params, **config.encoder_settings, positions=positions
    )
    expected = bert(tmp_path, ids, types.tolist())
    assert np.abs(states - expected["states"]).max() < 1e-5
    logits = heads.sequence_classification(states[:1], **checkpoint.head, pooler="tanh")
    assert np.abs(logits - expected["logits"]).max() < 1e-5


def test_token_types_may_be_given_with_token_ids(tmp_path: Path, engine: str) -> None:
    model = npdistil.load(tiny.write_bert(tmp_path), engine=engine)
    rows, types = [[2, 5, 3, 6, 3], [2, 3], [2, 7, 3]], [[0, 0, 0, 1, 1], [1, 0], [1, 1, 1]]
    expected = [bert(tmp_path, ids, kinds) for ids, kinds in zip(rows, types, strict=True)]
    assert np.allclose(model.logits(rows, types), [each["logits"][0] for each in expected], atol=1e-5)
    for states, each in zip(model.hidden_states(rows, types), expected, strict=True):
        assert np.allclose(states, each["states"], atol=1e-5)
    for states, each in zip(model.all_hidden_states(rows, types), expected, strict=True):
        assert np.allclose(states[-1], each["states"], atol=1e-5)
    assert not np.allclose(model.attentions(rows[:1], types[:1])[0], model.attentions(rows[:1])[0])


@pytest.mark.parametrize(
    ("types", "says"),
    [
        ([[0, 0, 2]], "token types go from 0 to 2; the model has 0 to 1"),
        ([[0, 0, -1]], "token types go from -1"),
        ([[0, 0]], "other lengths"),
        ([[0, 0, 0.5]], "not a flat list of whole numbers"),
    ],
)
def test_token_types_that_the_model_has_not(tmp_path: Path, types: Any, says: str, engine: str) -> None:
    model = npdistil.load(tiny.write_bert(tmp_path), engine=engine)
    with pytest.raises(InputError, match=says):
        model.hidden_states([[2, 5, 3]], types)


def test_a_distilbert_does_not_look_at_token_types(tmp_path: Path, engine: str) -> None:
    model = npdistil.load(tiny.write(tmp_path), engine=engine)
    assert np.array_equal(model.logits([[2, 5, 3]], [[0, 1, 7]]), model.logits([[2, 5, 3]]))


@pytest.mark.parametrize("types", [1, 3])
def test_another_number_of_token_types(tmp_path: Path, types: int, engine: str) -> None:
    model = npdistil.load(tiny.write_bert(tmp_path, type_vocab_size=types), engine=engine)
    assert np.allclose(
        model.hidden_states([[2, 5, 3]], [[0, 0, types - 1]])[0],
        bert(tmp_path, [2, 5, 3], [0, 0, types - 1])["states"],
        atol=1e-5,
    )
    if types == 1:  # and not the wrong answer: the reference has an IndexError
        with pytest.raises(InputError, match="the model has 0 to 0"):
            asked(model)


@pytest.mark.parametrize(
    ("settings", "typed"),
    [
        ({"tokenizer_class": "BertTokenizerFast"}, True),
        ({"tokenizer_class": None}, True),
        ({"tokenizer_class": "DistilBertTokenizer"}, False),
        ({"tokenizer_class": "PreTrainedTokenizerFast"}, False),
        ({"model_input_names": ["input_ids", "attention_mask"]}, False),
        (
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
            },
            True,
        ),
    ],
    ids=str,
)
def test_the_tokenizer_says_whether_texts_of_a_pair_have_types(
    tmp_path: Path, settings: dict[str, Any], typed: bool
) -> None:
    directory = tiny.write_bert(tmp_path)
    tiny.write_tokenizer(directory, **({"tokenizer_class": "BertTokenizer"} | settings))
    model = npdistil.load(directory, engine="numpy")
    encoding = model.tokenizer.encode(*PAIR)
    types = encoding.type_ids if typed else [0] * len(encoding.ids)
    assert np.allclose(asked(model), bert(directory, encoding.ids, types)["logits"], atol=1e-5)


def test_windows_and_cuts_of_pairs_keep_their_types(tmp_path: Path, engine: str) -> None:
    model = npdistil.load(tiny.write_bert(tmp_path), engine=engine)
    classify: Any = npdistil.pipeline("text-classification", model, function_to_apply="none", top_k=None)
    pair = ("john lives in paris", "the film was good and i like it " * 4)
    for settings in ({"truncation": True}, {"truncation": "only_second"}, {"stride": 4}):
        inputs = classify.processor.replaced(settings).preprocess([{"text": pair[0], "text_pair": pair[1]}])
        for ids, types in zip(inputs.token_ids, inputs.token_type_ids, strict=True):
            first = ids.index(3) + 1
            assert types == [0] * first + [1] * (len(ids) - first)
            assert len(ids) == 24
        expected = [
            bert(tmp_path, ids, types)["logits"][0]
            for ids, types in zip(inputs.token_ids, inputs.token_type_ids, strict=True)
        ]
        got = {
            each["label"]: each["score"] for each in classify([{"text": pair[0], "text_pair": pair[1]}], **settings)[0]
        }
        assert [got["NEGATIVE"], got["POSITIVE"]] == pytest.approx(np.mean(expected, axis=0).tolist(), abs=1e-5)
        assert (len(expected) > 1) == ("stride" in settings)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_answers_depend_on_no_neighbour(tmp_path: Path, engine: str, precision: str) -> None:
    model = npdistil.load(tiny.write_bert(tmp_path), engine=engine, precision=precision)
    rows = [[2, 5, 3, 6, 3], [2, 3], [2, 7, 3, *range(5, 25)], [2, 8, 3]] * 5
    types = [[0, 0, 0, 1, 1], [0, 0], [0] * 3 + [1] * 20, [0, 0, 0]] * 5
    together = model.logits(rows, types)
    alone = [model.logits([ids], [kinds])[0] for ids, kinds in zip(rows, types, strict=True)]
    assert np.array_equal(together, alone)


@pytest.mark.parametrize("head", HEADS)
def test_an_int8_copy_keeps_names_types_and_pooler(tmp_path: Path, head: str, engine: str) -> None:
    directory = tiny.write_bert(tmp_path / "float", head, layer_norm_eps=1e-3, prefix=head != "Model")
    npdistil.quantize_checkpoint(directory, tmp_path / "int8")
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("float", "int8"))
    assert {name.removesuffix("_scale") for name in after} == {*before}
    model, copy = (npdistil.load(tmp_path / name, engine=engine) for name in ("float", "int8"))
    assert copy.precision == "int8"
    assert copy.config.class_name == ("BertForMaskedLM" if head == "ForPreTraining" else f"Bert{head}")
    assert np.abs(asked(copy, "hidden_states") - asked(model, "hidden_states")).max() < 0.1
    ignored = json.loads((tmp_path / "int8" / "config.json").read_text())["quantization_config"]["ignore"]
    linears = {name.removesuffix(".weight") for name in before if before[name].ndim == 2 and "embeddings" not in name}
    assert {name for name in linears if f"{name}.weight_scale" not in after} == {
        name for name in ignored if name in linears
    }


def test_a_pooler_that_the_head_does_not_use_is_no_stray_tensor(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    settings = tiny.bert_config("ForTokenClassification")
    pooler = {name: array for name, array in tiny.bert_tensors(settings, "Model").items() if "pooler" in name}
    arrays = tiny.bert_tensors(settings, "ForTokenClassification") | pooler
    model = npdistil.load(tiny.write_bert(tmp_path, "ForTokenClassification", arrays=arrays), engine="numpy")
    assert [*model.checkpoint.head] == ["classifier"]
    assert not recwarn.list


def test_tensors_are_named_as_the_file_names_them(tmp_path: Path) -> None:
    arrays = tiny.bert_tensors(tiny.bert_config(), "ForSequenceClassification")
    del arrays["bert.encoder.layer.1.attention.self.key.bias"]
    arrays["bert.pooler.dense.weight"] = arrays["bert.pooler.dense.weight"][:3]
    directory = tiny.write_bert(tmp_path, arrays=arrays)
    says = (
        r"BertForSequenceClassification .* missing: encoder\.layer\.1\.attention\.self\.key\.bias \(\[8\]\); of another"
    )
    with pytest.raises(CheckpointError, match=says + r" shape: pooler\.dense\.weight"):
        npdistil.load(directory)


@pytest.mark.parametrize("name", ["cls.predictions.bias", "cls.predictions.decoder.bias"])
def test_the_bias_of_a_masked_lm_goes_by_either_name(tmp_path: Path, name: str) -> None:
    arrays = tiny.bert_tensors(tiny.bert_config("ForMaskedLM"), "ForMaskedLM")
    plain = npdistil.load(tiny.write_bert(tmp_path / "plain", "ForMaskedLM", arrays=arrays), engine="numpy")
    arrays["cls.predictions.decoder.bias"] = arrays["cls.predictions.bias"]
    both = npdistil.load(tiny.write_bert(tmp_path / "both", "ForMaskedLM", arrays=arrays), engine="numpy")
    arrays = {n: a for n, a in arrays.items() if "bias" not in n or "predictions" not in n or n == name or "trans" in n}
    one = npdistil.load(tiny.write_bert(tmp_path / "one", "ForMaskedLM", arrays=arrays), engine="numpy")
    assert np.array_equal(asked(plain), asked(both))
    assert np.array_equal(asked(plain), asked(one))


def test_architectures_may_be_absent(tmp_path: Path) -> None:
    for head in HEADS:
        if head not in ("ForMultipleChoice", "ForPreTraining"):  # whose tensors are those of others
            directory = tiny.write_bert(tmp_path / head, head, architectures=None)
            assert npdistil.read_checkpoint(directory).config.class_name == f"Bert{head}"


def test_every_task_reads_pairs_with_types(tmp_path: Path, engine: str) -> None:
    """Each against the logits of the same token ids with the types that the tokenizer gives."""

    def values(model: npdistil.Model, text: str, pair: str) -> Array:
        encoding = model.tokenizer.encode(text, pair)
        assert any(encoding.type_ids)
        return model.forward(Inputs([encoding.ids], token_type_ids=[encoding.type_ids])).values[0]

    nli = {"0": "contradiction", "1": "entailment"}
    model = npdistil.load(tiny.write_bert(tmp_path / "nli", id2label=nli), engine=engine)
    judge = npdistil.pipeline("zero-shot-classification", model)
    got = judge("the film", candidate_labels=["good", "bad"], hypothesis_template="it is {}")
    logits = [values(model, "the film", f"it is {label}")[0, 1] for label in got["labels"]]
    assert got["scores"] == pytest.approx(encoder.softmax(np.array(logits)).tolist(), abs=1e-6)

    model = npdistil.load(tiny.write_bert(tmp_path / "choice", "ForMultipleChoice"), engine=engine)
    got = npdistil.pipeline("multiple-choice", model)({"text": "who is john ?", "choices": ["he", "paris is"]})  # type: ignore[assignment]
    logits = [values(model, "who is john ?", choice)[0, 0] for choice in ("he", "paris is")]
    assert got["scores"] == pytest.approx(encoder.softmax(np.array(logits)).tolist(), abs=1e-6)

    model = npdistil.load(tiny.write_bert(tmp_path / "qa", "ForQuestionAnswering"), engine=engine)
    task: Any = npdistil.pipeline("question-answering", model)
    (outputs,) = model.forward(task.processor.preprocess([{"question": PAIR[0], "context": PAIR[1]}])).values
    assert np.array_equal(outputs, values(model, *PAIR))

    model = npdistil.load(tiny.write_bert(tmp_path / "vectors", "Model"), engine=engine)
    vector = npdistil.pipeline("embedding", model)({"text": PAIR[0], "text_pair": PAIR[1]})
    assert np.allclose(vector, asked(model, "hidden_states").mean(axis=0), atol=1e-6)


def test_a_served_batch_keeps_types_apart(tmp_path: Path) -> None:
    batching = pytest.importorskip("npdistil.serve.batching")
    single, pair = Inputs([[2, 5, 3], [2, 3]]), Inputs([[2, 5, 3, 6, 3]], token_type_ids=[[0, 0, 0, 1, 1]])
    queued = [batching.Queued(inputs, None, None) for inputs in (single, pair, single)]
    together = batching._together([(queued[0], 1, 2), (queued[1], 0, 1), (queued[2], 0, 2)])
    assert together.token_ids == [[2, 3], [2, 5, 3, 6, 3], [2, 5, 3], [2, 3]]
    assert together.token_type_ids == [[0, 0], [0, 0, 0, 1, 1], [0, 0, 0], [0, 0]]
    assert batching._together([(queued[0], 0, 2)]).token_type_ids is None


def test_an_adapter_of_a_bert_is_merged(tmp_path: Path) -> None:
    directory = tiny.write_bert(tmp_path)
    random = np.random.default_rng(5)
    a, b = random.normal(size=(2, 8)).astype(np.float32), random.normal(size=(8, 2)).astype(np.float32)
    name = "bert.encoder.layer.1.attention.self.query"
    start = f"base_model.model.{name}."
    arrays = {f"{start}lora_A.weight": a, f"{start}lora_B.weight": b}
    classifier = {
        f"classifier.{n}": random.normal(size=s).astype(np.float32) for n, s in (("weight", (2, 8)), ("bias", 2))
    }
    (directory / "adapter_model.safetensors").write_bytes(
        tiny.serialized(arrays | {f"base_model.model.{n}": array for n, array in classifier.items()})
    )
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 6, "alpha_pattern": {"self.query": 4}}
    (directory / "adapter_config.json").write_text(json.dumps(config))
    whole = load_file(directory / "model.safetensors") | classifier
    whole[f"{name}.weight"] = whole[f"{name}.weight"] + 2 * b @ a
    merged = tiny.write_bert(tmp_path / "merged", arrays=whole)
    one, other = (npdistil.load(each, engine="numpy") for each in (directory, merged))
    assert np.allclose(asked(one), asked(other), atol=1e-6)


def test_info_says_what_was_read(tmp_path: Path) -> None:
    arrays = tiny.bert_tensors(tiny.bert_config(id2label={"0": "x"}), "ForSequenceClassification")
    function = {"activation_fn": "torch.nn.modules.linear.Identity"}
    directory = tiny.write_bert(tmp_path / "float", id2label={"0": "x"}, sentence_transformers=function)
    npdistil.quantize_checkpoint(directory, tmp_path / "int8")
    for name in ("float", "int8"):
        rows = described(npdistil.read_checkpoint(tmp_path / name))
        assert rows["architecture"] == "BertForSequenceClassification, 2 token types"
        assert rows["labels"] == "x (none)"
        assert rows["parameters"] == f"{sum(array.size for array in arrays.values()):,}"
