"""config.json: aliases, defaults, and one clear error for anything that no DistilBERT can have."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from npdistil.checkpoint.config import SIZES, Config, read_config
from npdistil.checkpoint.folder import Folder
from npdistil.checkpoint.quantize import FORMAT
from npdistil.checkpoint.weights import expected_shapes
from npdistil.errors import CheckpointError, NpdistilError


def test_an_empty_config_is_transformers_default() -> None:
    assert dataclasses.asdict(Config.from_dict({})) == {
        "vocab_size": 30522,
        "max_position_embeddings": 512,
        "n_layers": 6,
        "n_heads": 12,
        "dim": 768,
        "hidden_dim": 3072,
        "activation": "gelu",
        "architecture": "DistilBertModel",
        "labels": ("LABEL_0", "LABEL_1"),
        "problem_type": None,
        "tied": True,
        "quantized": False,
        "label2id": {"LABEL_0": 0, "LABEL_1": 1},
        "model_type": "distilbert",
        "type_vocab_size": 1,
        "layer_norm_eps": 1e-12,
        "logit_function": None,
    }


def test_an_empty_config_of_a_bert_is_transformers_default() -> None:
    config, distilbert = Config.from_dict({"model_type": "bert"}), Config.from_dict({})
    assert config == dataclasses.replace(distilbert, model_type="bert", n_layers=12, type_vocab_size=2)
    assert config.class_name == "BertModel"


def test_a_bert_has_names_of_its_own() -> None:
    """`dim` and the like are no settings of BERT, and are not looked at, as in transformers."""
    own = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 3, "intermediate_size": 12}
    config = Config.from_dict({"model_type": "bert", "dim": 99, "activation": "?", "hidden_act": "relu"} | own)
    assert (config.dim, config.n_heads, config.n_layers, config.hidden_dim, config.activation) == (8, 2, 3, 12, "relu")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'; only 'absolute'"),
        ({"is_decoder": True}, "is_decoder is True; only False"),
        ({"add_cross_attention": True}, "add_cross_attention is True"),
        ({"embedding_size": 128}, "embedding_size is 128; only 768"),
        ({"type_vocab_size": 0}, "type_vocab_size is 0"),
        ({"type_vocab_size": 17}, "type_vocab_size is 17; expected a whole number from 1 to 16"),
        ({"layer_norm_eps": 0}, "layer_norm_eps is 0"),
        ({"layer_norm_eps": "1e-12"}, "layer_norm_eps is '1e-12'; expected a number"),
        ({"hidden_act": "xielu"}, "hidden_act is 'xielu'; known are gelu"),
        ({"architectures": ["BertForNextSentencePrediction"]}, "known are BertModel, BertForSequenceClassification"),
        ({"architectures": ["DistilBertModel"]}, "known are BertModel"),
    ],
)
def test_a_bert_that_is_another_kind_of_encoder_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(CheckpointError, match=says):
        Config.from_dict({"model_type": "bert"} | changes, "there/config.json")


@pytest.mark.parametrize("model_type", ["bert", "distilbert"])
@pytest.mark.parametrize(
    ("changes", "function"),
    [
        ({}, "sigmoid"),
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}}, "none"),
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid"}}, "sigmoid"),
        ({"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"}, "none"),
        ({"problem_type": "regression"}, "none"),
        ({"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity", "num_labels": 2}, "softmax"),
    ],
)
def test_a_cross_encoders_function_makes_its_score(model_type: str, changes: dict[str, Any], function: str) -> None:
    assert Config.from_dict({"model_type": model_type, "num_labels": 1} | changes).function == function


def test_another_function_of_a_cross_encoder_is_refused() -> None:
    own = {"sentence_transformers": {"activation_fn": "my.own.Function"}}
    with pytest.raises(CheckpointError, match=r"activation_fn is 'my\.own\.Function'; known of torch\.nn are Sigmoid"):
        Config.from_dict({"num_labels": 1} | own)


def test_aliases_mean_the_same() -> None:
    names = {"n_layers": "num_hidden_layers", "n_heads": "num_attention_heads", "dim": "hidden_size"}
    names["hidden_dim"] = "intermediate_size"
    settings = tiny.config()
    renamed = {names.get(name, name): value for name, value in settings.items()}
    assert renamed != settings
    assert Config.from_dict(renamed) == Config.from_dict(settings)


def test_aliases_may_repeat_but_not_contradict_each_other() -> None:
    assert Config.from_dict(tiny.config(hidden_size=8)).dim == 8
    with pytest.raises(CheckpointError, match=r"dim and hidden_size .*differ"):
        Config.from_dict(tiny.config(hidden_size=16))


def test_labels_stand_in_the_order_of_their_numbers_not_of_the_file() -> None:
    labels = {str(i): f"label {i}" for i in reversed(range(12))}
    assert Config.from_dict(tiny.config(id2label=labels)).labels == tuple(f"label {i}" for i in range(12))


def test_num_labels_names_labels_where_there_are_no_names() -> None:
    settings = tiny.config(id2label=None, num_labels=3)
    assert Config.from_dict(settings).labels == ("LABEL_0", "LABEL_1", "LABEL_2")


@pytest.mark.parametrize("name", [name for names, *_ in SIZES.values() for name in names])
@pytest.mark.parametrize("value", [0, -1, 2.0, "8", None, True, [8], {}, 2**63, 10**400, float("nan"), float("inf")])
def test_impossible_sizes_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(CheckpointError, match=f"here.json: {name} is .*whole number"):
        Config.from_dict(tiny.config() | {name: value}, "here.json")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model_type": "roberta"}, "model_type is 'roberta'"),
        ({"model_type": ["distilbert"]}, "model_type"),
        ({"model_type": None}, "model_type"),
        ({"n_heads": 3}, "not a multiple"),
        ({"activation": "swiglu"}, "activation is 'swiglu'"),
        ({"activation": None}, "activation"),
        ({"activation": ["gelu"]}, "activation"),
        ({"activation": {}}, "activation"),
        ({"problem_type": "classification"}, "problem_type"),
        ({"problem_type": ["regression"]}, "problem_type"),
        ({"architectures": ["BertForSequenceClassification"]}, "BertForSequenceClassification"),
        ({"architectures": [["DistilBertModel"]]}, "architectures"),
        ({"architectures": [{}]}, "architectures"),
        ({"architectures": [None]}, "architectures"),
        ({"architectures": "DistilBertModel"}, "architectures"),
        ({"architectures": {"DistilBertModel": 0}}, "architectures"),
        ({"architectures": 7}, "architectures"),
        ({"id2label": {}}, "id2label"),
        ({"id2label": []}, "id2label"),
        ({"id2label": "01"}, "id2label"),
        ({"id2label": 2}, "id2label"),
        ({"id2label": {"0": "A", "2": "C"}}, "id2label"),
        ({"id2label": {"1": "A", "2": "C"}}, "id2label"),
        ({"id2label": {"-1": "A", "0": "C"}}, "id2label"),
        ({"id2label": {"zero": "A"}}, "id2label"),
        ({"id2label": {"0": "A", "00": "B"}}, "id2label"),
        ({"id2label": {"9" * 5000: "A"}}, "id2label"),
        ({"id2label": {float("inf"): "A"}}, "id2label"),
        ({"id2label": {"0": None, "1": "B"}}, "id2label"),
        ({"id2label": {"0": ["A"], "1": "B"}}, "id2label"),
        ({"id2label": None, "num_labels": 0}, "num_labels"),
        ({"id2label": None, "num_labels": 1.5}, "num_labels"),
        ({"id2label": None, "num_labels": True}, "num_labels"),
        ({"id2label": None, "num_labels": 2**40}, "num_labels"),
        ({"tie_word_embeddings": "no"}, "tie_word_embeddings"),
        ({"tie_word_embeddings": None}, "tie_word_embeddings"),
    ],
)
def test_impossible_values_are_one_clear_error(changes: dict[str, Any], says: str) -> None:
    settings = tiny.config() | changes
    if changes.get("id2label", 0) is None:
        del settings["id2label"]
    with pytest.raises(CheckpointError, match=says) as caught:
        Config.from_dict(settings, "here.json")
    assert str(caught.value).startswith("here.json: ")
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "changes",
    [
        {"quant_method": "gptq"},
        {"quant_method": None},
        {"format": "pack-quantized"},
        {"config_groups": None},
        {"config_groups": {}},
        {"config_groups": []},
        {"config_groups": {"group_0": None}},
        {"config_groups": {"group_0": {"targets": ["Linear"]}}},
    ],
)
def test_other_quantisations_are_refused_with_what_was_found(changes: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match="quantization_config"):
        Config.from_dict(tiny.config(quantization_config=FORMAT | changes))


@pytest.mark.parametrize("whole", [{}, [], "int8", 8, True])
def test_a_quantization_config_that_says_nothing_is_refused(whole: object) -> None:
    with pytest.raises(CheckpointError, match="quantization_config"):
        Config.from_dict(tiny.config() | {"quantization_config": whole})


@pytest.mark.parametrize("part", ["weights", "input_activations"])
@pytest.mark.parametrize(
    "change",
    [{"num_bits": 4}, {"type": "float"}, {"symmetric": False}, {"strategy": "tensor"}, {"dynamic": "local"}],
)
def test_other_kinds_of_int8_are_refused(part: str, change: dict[str, Any]) -> None:
    group = FORMAT["config_groups"]["group_0"]
    groups = {"group_0": group | {part: group[part] | change}}
    with pytest.raises(CheckpointError, match=next(iter(change))):
        Config.from_dict(tiny.config(quantization_config=FORMAT | {"config_groups": groups}))


def test_the_one_quantisation_is_read() -> None:
    assert Config.from_dict(tiny.config(quantization_config=FORMAT)).quantized


def test_embeddings_need_no_int8_activations_and_linear_layers_do() -> None:
    for name, group in FORMAT["config_groups"].items():
        groups = {name: {part: value for part, value in group.items() if part != "input_activations"}}
        config = tiny.config(quantization_config=FORMAT | {"config_groups": groups})
        if group["targets"] == ["Embedding"]:
            assert Config.from_dict(config).quantized
        else:
            with pytest.raises(CheckpointError, match=r"group_0\.input_activations' has num_bits = None"):
                Config.from_dict(config)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "cannot be read"),
        (b"{", "cannot be read"),
        (b"\xff\xfe{}", "cannot be read"),
        (b"[]", "holds a list"),
        (b"null", "holds a NoneType"),
        (b"[" * 100_000, "cannot be read"),
        (b'{"dim": ' + b"9" * 5000 + b"}", "cannot be read|dim"),
        (b'{"dim": 1e400}', "dim"),
        (b'{"dim": NaN}', "dim"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=says) as caught:
        read_config(tmp_path)
    assert str(tmp_path / "config.json") in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json does not exist"):
        read_config(tmp_path)


def test_a_directory_in_the_files_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").mkdir()
    with pytest.raises(CheckpointError, match=r"config\.json"):
        read_config(tmp_path)


def test_json_is_read_as_utf8_whatever_the_locale(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes('{"0": "höher 東"}'.encode())
    assert Folder(tmp_path).json("x.json") == {"0": "höher 東"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
KEYS = [*tiny.config(), "hidden_size", "num_labels", "problem_type", "tie_word_embeddings", "quantization_config"]
PLAUSIBLE = {
    "id2label": st.dictionaries(st.integers(-1, 3).map(str) | st.text(max_size=3), JSON, max_size=4),
    "architectures": st.lists(st.sampled_from(sorted(tiny.HEADS)) | JSON, max_size=2),
    "quantization_config": st.fixed_dictionaries(
        {
            "quant_method": st.just("compressed-tensors"),
            "format": st.just("int-quantized"),
            "config_groups": st.dictionaries(st.text(max_size=2), JSON, max_size=2),
        }
    ),
}


@pytest.mark.parametrize(
    "groups", [{"\x1f": None}, {"a" * 5000: {}}, {"group_0": {"weights": {"num_bits": "9" * 5000}}}]
)
def test_a_refused_group_is_named_in_one_short_printable_line(groups: object) -> None:
    with pytest.raises(CheckpointError, match="quantization_config") as refused:
        Config.from_dict(tiny.config(quantization_config=FORMAT | {"config_groups": groups}))
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 600


@given(data=st.data(), keys=st.sets(st.sampled_from(KEYS), max_size=4))
def test_any_json_gives_a_config_or_a_checkpoint_error(data: st.DataObject, keys: set[str]) -> None:
    changes = {key: data.draw(JSON | PLAUSIBLE.get(key, st.nothing()), label=key) for key in sorted(keys)}
    try:
        config = Config.from_dict(json.loads(json.dumps(tiny.config() | changes)))
    except CheckpointError as error:
        assert isinstance(error, NpdistilError)
        assert str(error).isprintable()
    else:
        assert config.dim % config.n_heads == 0
        assert config.labels
        assert all(isinstance(label, str) for label in config.labels)
        assert all(n >= 1 for shape in expected_shapes(config, set()).values() for n in shape)


def test_a_layer_norm_epsilon_is_pointed_out_and_not_used_as_in_transformers() -> None:
    with pytest.warns(match="layer_norm_eps is 1e-05, a setting that DistilBERT does not have"):
        assert Config.from_dict(tiny.config(layer_norm_eps=1e-5)) == Config.from_dict(tiny.config())
    Config.from_dict(tiny.config(layer_norm_eps=1e-12))


def test_labels_may_be_numbers_and_may_be_alike() -> None:
    assert Config.from_dict(tiny.config(id2label={"0": 5, "1": 7})).labels == ("5", "7")
    assert Config.from_dict(tiny.config(id2label={"0": "x", "1": "x"})).label2id == {"x": 0}


@pytest.mark.parametrize(
    ("changes", "numbers"),
    [
        ({}, {"NEGATIVE": 0, "POSITIVE": 1}),
        ({"label2id": {"POSITIVE": 0, "NEGATIVE": "1"}}, {"POSITIVE": 0, "NEGATIVE": 1}),
        ({"label2id": {"yes": 0}, "id2label": None}, {"LABEL_0": 0, "LABEL_1": 1}),
        ({"label2id": {}}, {"NEGATIVE": 0, "POSITIVE": 1}),
    ],
    ids=str,
)
def test_numbers_of_labels_are_those_of_label2id(changes: dict[str, Any], numbers: dict[str, int]) -> None:
    assert Config.from_dict(tiny.config(**changes)).label2id == numbers


@pytest.mark.parametrize("value", [[1], "x", {"x": "y"}, {"x": None}, 5])
def test_a_broken_label2id_is_named(value: object) -> None:
    with pytest.raises(CheckpointError, match="label2id is"):
        Config.from_dict(tiny.config(label2id=value))
