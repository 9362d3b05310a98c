"""What users write, for type checkers: a line with "# refused" must be an error, and no other."""

from collections.abc import Iterator

import npdistil
from npdistil import Model, Pipeline, TextClassificationPipeline, pipeline

model: Model = npdistil.load("my-distilbert", engine="numpy", threads=2)
texts: list[str] = ["I love it.", "I hate it."]

classify = pipeline("sentiment-analysis", model, device=-1, batch_size=8)
label: str = classify("I love it.")[0]["label"]
scores: list[float] = [answer["score"] for answer in classify(texts)]
one: str = classify({"text": "I love it.", "text_pair": "Why?"})["label"]
lazy: Iterator[str] = (answer["label"] for answer in classify(iter(texts)))
every: list[str] = [each["label"] for each in classify(texts, top_k=None)[0]]
checked: TextClassificationPipeline[npdistil.results.Label] = classify
general: Pipeline = classify

rank = pipeline("text-classification", "my-distilbert", top_k=2, truncation="only_first")
best: str = rank(texts)[0][0]["label"]
everything = pipeline("text-classification", return_all_scores=True)
first: float = everything(["I love it."])[0][0]["score"]

ner = pipeline("ner", "my-ner", aggregation_strategy="simple")
group: str = ner("John lives in Paris.")[0]["entity_group"]
tokens = pipeline("token-classification", "my-ner", ignore_labels=[])
entity: str = tokens(("John lives in Paris.",))[0][0]["entity"]

answer = pipeline("question-answering", "my-qa", top_k=1)
found: str = answer(question="Who?", context="John.")["answer"]
again: int = answer({"question": "Who?", "context": "John."})["start"]
judge = pipeline("zero-shot-classification", "my-nli")
best_label: str = judge("a text", ["food", "film"], multi_label=True)["labels"][0]
vectors = pipeline("embedding", pooling="mean", normalize=True)
width: int = vectors("a text").shape[0]
value: float = pipeline("explanation")("a text").words[0].value

own: Pipeline = pipeline(model=model)
named: list[str] = model.predict(texts).tolist()
cosine = npdistil.util.cos_sim(npdistil.SentenceTransformer("my-sentences").encode(texts), [[1.0]])

pipeline("sentimental")  # refused
pipeline("sentiment-analysis", topk=3)  # refused
pipeline("sentiment-analysis", batch_size="8")  # refused
pipeline("sentiment-analysis", long_text="cut")  # refused
pipeline("ner", "my-ner", aggregation_strategy="joined")  # refused
pipeline("ner", "my-ner", top_k=3)  # refused
pipeline("embedding", model=5)  # refused
classify("I love it.", topk=3)  # refused
classify("I love it.", function_to_apply="gelu")  # refused
classify(5)  # refused
classify("I love it.")["label"]  # refused
classify(texts)[0]["lable"]  # refused
tokens("John")[0]["entity_group"]  # refused
ner("John")[0]["entity"]  # refused
judge(texts, hypothesis=3)  # refused
vectors("a text", normalize="yes")  # refused
npdistil.load("my-distilbert", device="cpu")  # refused
model.scores(texts, combine=3)  # refused
