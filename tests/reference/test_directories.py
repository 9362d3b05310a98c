"""Directories from the matrix: ids, logits, labels and vectors against the reference, and what either refuses."""

# ruff: noqa: B023 - `compare` calls what it is given at once
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
from sentence_transformers import SentenceTransformer

import npdistil

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
