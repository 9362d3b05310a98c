"""Calls as public scripts write them, with the import changed and nothing else: each runs, or says what to write.

A call has the kind that it stands for, and how many of the calls that were looked at are of that kind, where they were
counted.
"""

from typing import Any, NamedTuple

C, N, Q, F, Z, H = "CLASSIFIER", "TAGGER", "READER", "FILLER", "JUDGE", "BARE"  # directories of models, by their heads
TEXT = '"I love it, John."'
# What each of these directories has.
HEADS: dict[str, dict[str, Any]] = {
    "CLASSIFIER": {},
    "TAGGER": {
        "architectures": ["DistilBertForTokenClassification"],
        "id2label": {0: "O", 1: "B-PER", 2: "I-PER"},
    },
    "READER": {"architectures": ["DistilBertForQuestionAnswering"]},
    "FILLER": {"architectures": ["DistilBertForMaskedLM"]},
    "JUDGE": {
        "id2label": {0: "contradiction", 1: "neutral", 2: "entailment"},
        "label2id": {"contradiction": 0, "neutral": 1, "entailment": 2},
    },
    "BARE": {"architectures": ["DistilBertModel"]},
}


class Call(NamedTuple):
    """A call: Python source, in which the names of directories are strings, and what it says where it is refused."""

    kind: str
    source: str
    refused: str = ""


def auto(head: str, task: str, model: str, call: str) -> str:
    return (
        f"from npdistil import AutoTokenizer, {head}, pipeline\n"
        f"tokenizer = AutoTokenizer.from_pretrained({model})\nmodel = {head}.from_pretrained({model})\n"
        f"pipe = pipeline('{task}', model=model, tokenizer=tokenizer)\nanswer = pipe({call})"
    )


def one(task: str, model: str, given: str, call: str = TEXT, then: str = "") -> str:
    return (
        f"from npdistil import pipeline\npipe = pipeline({task!r}, model={model}{given})\nanswer = pipe({call})\n{then}"
    )


ASK = 'question="Who?", context="John lives in Paris."'
LABELS = 'candidate_labels=["food", "film"]'
MASK = '"a [MASK] film"'
CALLS = [
    Call("plain", one("sentiment-analysis", C, "")),
    Call("plain", 'from npdistil import pipeline\nanswer = pipeline("sentiment-analysis")(["a", "b"])'),
    Call("plain", one("ner", N, "")),
    Call("plain", one("question-answering", Q, "", ASK)),
    Call("plain", one("fill-mask", F, "", MASK)),
    Call("plain", one("zero-shot-classification", Z, "", f"{TEXT}, {LABELS}")),
    Call("plain", one("feature-extraction", H, "")),
    Call("Auto classes", auto("AutoModelForSequenceClassification", "sentiment-analysis", C, TEXT)),
    Call("Auto classes", auto("AutoModelForTokenClassification", "ner", N, TEXT)),
    Call("Auto classes", auto("AutoModelForQuestionAnswering", "question-answering", Q, ASK)),
    Call("Auto classes", auto("AutoModelForMaskedLM", "fill-mask", F, MASK)),
    Call("Auto classes", auto("AutoModel", "feature-extraction", H, TEXT)),
    Call(
        "Auto classes", auto("AutoModelForSequenceClassification", "zero-shot-classification", Z, f"{TEXT}, {LABELS}")
    ),
    Call("Auto classes", auto("DistilBertForSequenceClassification", "text-classification", C, TEXT)),
    Call("Auto classes", auto("DistilBertForTokenClassification", "token-classification", N, TEXT)),
    Call("Auto classes", auto("DistilBertForQuestionAnswering", "question-answering", Q, ASK)),
    Call(
        "Auto classes",
        f"from npdistil import DistilBertTokenizerFast, DistilBertForSequenceClassification, pipeline\n"
        f"tokenizer = DistilBertTokenizerFast.from_pretrained({C}, do_lower_case=True)\n"
        f"model = DistilBertForSequenceClassification.from_pretrained({C}, num_labels=2).to('cpu')\nmodel.eval()\n"
        f"answer = pipeline('sentiment-analysis', model=model, tokenizer=tokenizer, device=-1)({TEXT})",
    ),
    Call("device", one("sentiment-analysis", C, ", device=-1")),
    Call("device", one("ner", N, ', device="cpu"')),
    Call("device", one("question-answering", Q, ", device=-1", ASK)),
    Call("device", one("ner", N, ', device_map="auto"')),
    Call("device", one("sentiment-analysis", C, ", device=0"), "device is 0; everything is computed on the CPU"),
    Call("device", one("sentiment-analysis", C, ', device="cuda:0"'), "everything is computed on the CPU"),
    Call("no model", 'from npdistil import pipeline\npipeline("ner")', 'no model is bundled for "ner"'),
    Call("no model", 'from npdistil import pipeline\npipeline("question-answering")', "no model is bundled"),
    Call("no model", 'from npdistil import pipeline\npipeline("fill-mask")', "no model is bundled"),
    Call("no model", 'from npdistil import pipeline\npipeline("zero-shot-classification")', "no model is bundled"),
    Call("no model", 'from npdistil import pipeline\npipeline("ner", grouped_entities=True)', "no model is bundled"),
    Call("tokenizer by name", one("sentiment-analysis", C, f", tokenizer={C}")),
    Call("tokenizer by name", one("ner", N, f", tokenizer={N}")),
    Call("tokenizer by name", one("question-answering", Q, f", tokenizer={Q}", ASK)),
    Call("return_all_scores", one("sentiment-analysis", C, ", return_all_scores=True")),
    Call("return_all_scores", one("sentiment-analysis", C, "", f"[{TEXT}], return_all_scores=True")),
    Call("return_all_scores", one("text-classification", C, ', return_all_scores=True, function_to_apply="SIGMOID"')),
    Call("accepted", one("sentiment-analysis", C, ', framework="pt"')),
    Call("accepted", one("ner", N, ', model_kwargs={"cache_dir": "/nowhere"}')),
    Call("accepted", one("sentiment-analysis", C, ', token="hf_x"')),
    Call("accepted", one("sentiment-analysis", C, ", use_auth_token=True")),
    Call("accepted", one("sentiment-analysis", C, ', torch_dtype="auto"')),
    Call("accepted", one("sentiment-analysis", C, "", f"{TEXT}, padding=True, truncation=True, max_length=20")),
    Call("accepted", one("sentiment-analysis", C, ", batch_size=8, num_workers=2", f"[{TEXT}] * 3")),
    Call("accepted", one("ner", N, ', use_fast=True, revision="main", trust_remote_code=True')),
    Call("accepted", one("fill-mask", F, "", f"{MASK}, tokenizer_kwargs={{'padding': True}}")),
    Call("accepted", one("fill-mask", F, "", f"{MASK} + ' a' * 99, tokenizer_kwargs={{'truncation': True}}")),
    Call("accepted", one("feature-extraction", H, "", f"{TEXT}, tokenize_kwargs={{'truncation': True}}")),
    Call("grouped_entities", one("ner", N, ", grouped_entities=True")),
    Call("grouped_entities", one("ner", N, ', aggregation_strategy="SIMPLE"')),
    Call("grouped_entities", one("ner", N, "", f"{TEXT}, grouped_entities=True, ignore_subwords=True")),
    Call("what it says", one("sentiment-analysis", C, "", TEXT, "pipe.tokenizer.encode('a').ids")),
    Call("what it says", one("sentiment-analysis", C, "", TEXT, "assert str(pipe.device) == 'cpu'")),
    Call(
        "what it says",
        one("sentiment-analysis", C, "", TEXT, "pipe.model.config.id2label[0], pipe.model.config.num_labels"),
    ),
    Call(
        "what it says",
        one("sentiment-analysis", C, "", TEXT, "assert pipe.model.name_or_path and pipe.task == 'sentiment-analysis'"),
    ),
    Call("what it says", one("fill-mask", F, "", MASK, "pipe(f'a {pipe.tokenizer.mask_token} film')")),
    Call("no task", f"from npdistil import pipeline\nanswer = pipeline(model={N})({TEXT})"),
    Call("no task", f"from npdistil import pipeline\nanswer = pipeline(model={C}, top_k=None)({TEXT})"),
    Call("return_tensors", one("feature-extraction", H, "", f'{TEXT}, return_tensors="pt"', "answer.shape")),
    Call("return_tensors", one("feature-extraction", H, ", return_tensors=True", TEXT, "answer.shape")),
    *(
        Call(
            "classes",
            f"from npdistil import {name}, {head}, AutoTokenizer\npipe = {name}(model={head}.from_pretrained({model}), "
            f"tokenizer=AutoTokenizer.from_pretrained({model}))\nanswer = pipe({call})",
        )
        for name, head, model, call in (
            ("TextClassificationPipeline", "AutoModelForSequenceClassification", C, TEXT),
            ("TokenClassificationPipeline", "AutoModelForTokenClassification", N, TEXT),
            ("QuestionAnsweringPipeline", "AutoModelForQuestionAnswering", Q, ASK),
            ("FillMaskPipeline", "AutoModelForMaskedLM", F, MASK),
            ("ZeroShotClassificationPipeline", "AutoModelForSequenceClassification", Z, f"{TEXT}, {LABELS}"),
            ("FeatureExtractionPipeline", "AutoModel", H, TEXT),
        )
    ),
    Call(
        "classes",
        one("ner", N, "").replace("import pipeline", "import Pipeline, pipeline") + "assert isinstance(pipe, Pipeline)",
    ),
    Call("names of arguments", one("question-answering", Q, "", '"Who?", "John lives in Paris."')),
    Call("names of arguments", one("question-answering", Q, "", '{"question": "Who?", "context": "John."}, topk=1')),
    Call(
        "names of arguments",
        one("question-answering", Q, ", top_k=None", "X={'question': 'Who?', 'context': 'John.'}"),
    ),
    Call(
        "names of arguments", one("zero-shot-classification", Z, "", f"sequences=[{TEXT}], {LABELS}, multi_class=True")
    ),
    Call("names of arguments", one("zero-shot-classification", Z, "", f"{TEXT}, 'food, film', multi_label=True")),
    Call("names of arguments", one("ner", N, "", f"inputs={TEXT}")),
    Call("names of arguments", one("fill-mask", F, ", top_k=None", f"{MASK}, top_k=None")),
    Call(
        "names of arguments",
        f"from npdistil import pipeline\nanswer = pipeline('sentiment-analysis', {C}).predict([{TEXT}])",
    ),
    Call(
        "model of torch",
        "from npdistil import pipeline\nclass DistilBertForSequenceClassification:\n"
        "    def save_pretrained(self, directory): pass\n"
        "pipeline('sentiment-analysis', model=DistilBertForSequenceClassification())",
        "save_pretrained",
    ),
    Call(
        "by hand",
        f"import npdistil\nmodel = npdistil.AutoModelForSequenceClassification.from_pretrained({C})\n"
        f"inputs = npdistil.AutoTokenizer.from_pretrained({C})({TEXT}, return_tensors='pt')",
        "model.predict",
    ),
    Call(
        "by hand",
        f"import npdistil\nmodel = npdistil.AutoModelForSequenceClassification.from_pretrained({C})\n"
        "model(input_ids=[[1]], attention_mask=[[1]])",
        "model.predict",
    ),
    Call("by hand", f"import npdistil\nnpdistil.load({C}).logits([2, 3])", "in a list"),
    Call("by hand", f"import npdistil\nnpdistil.load({C}).scores('I love it.')", "in a list"),
    *(
        Call(
            "SentenceTransformer",
            f"from npdistil import SentenceTransformer, util\nmodel = SentenceTransformer({H}{given})\n{rest}",
        )
        for given, rest in (
            ("", "answer = model.encode('a')\nassert answer.ndim == 1"),
            (
                "",
                "answer = model.encode(['a', 'b'], batch_size=1, show_progress_bar=False)\nassert answer.shape[0] == 2",
            ),
            (", device='cpu'", "answer = model.encode(['a'], normalize_embeddings=True, convert_to_numpy=True)"),
            ("", "answer = util.cos_sim(model.encode('a'), model.encode('b'))"),
            (
                "",
                "answer = util.pytorch_cos_sim(model.encode('a', convert_to_tensor=True), [[1.0] * 8])[0][0].item()",
            ),
            ("", "answer = model.similarity(model.encode(['a']), model.encode(['b', 'c']))"),
            ("", "answer = model.similarity_pairwise(model.encode(['a']), model.encode(['b']))"),
            ("", "answer = model.get_sentence_embedding_dimension()"),
            ("", "model.max_seq_length = 10\nanswer = model.encode('a')"),
            (", cache_folder='/nowhere', trust_remote_code=True, revision=None", "answer = model.encode('a')"),
            ("", "model = model.to('cpu')\nanswer = model.encode(['a'], prompt='query: ')"),
            ("", "answer = model.encode(['a'], prompt_name='query')"),
            (
                "",
                "answer = util.semantic_search(model.encode(['a']), model.encode(['b', 'c']), top_k=1)[0]",
            ),
        )
    ),
]
