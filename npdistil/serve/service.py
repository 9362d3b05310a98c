"""What requests are answered with: each is items of a task, and the queue runs what a model's forward would."""

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import fields, replace
from functools import lru_cache
from pathlib import Path
from threading import get_ident
from time import perf_counter, time
from typing import Any, TypeVar, cast

import numpy as np
from tokenizers import Encoding, Tokenizer

from .. import __version__
from ..batch import Inputs, check_ids, chunks, pack
from ..errors import InputError, NpdistilError
from ..model import Model
from ..pipelines import TASKS, task_type
from ..settings import kind_of
from ..tasks.base import Task
from ..tasks.embedding import Embedding
from ..tasks.explanation import packed
from ..tasks.text_classification import TextClassification
from ..tasks.token_classification import TokenClassification
from ..text import LONG, tokenize, tokenizing_on
from .batching import SPENT, Batcher, Metrics, OverloadedError, UnavailableError
from .requests import COMPARED, SIMILARITY, ApiError, is_batch, is_ids, read, read_fields
from .settings import Settings

Result = TypeVar("Result")

EXPLANATION, ZERO_SHOT = "explanation", "zero-shot-classification"
DEFAULTS: dict[str, dict[str, Any]] = {  # where the Hugging Face Inference API has others than a pipeline
    name: {"top_k": None} for name in ("text-classification", "sentiment-analysis")
}
PYTHON_ONLY = ("batch_size", "return_tensors")  # settings that mean nothing to a client
TEMPLATE = 200  # characters of a hypothesis_template: it is written out once for each label
QUICK = (TextClassification, TokenClassification, Embedding)  # on short texts the event loop does not wait for them
FEW = 64  # texts, among which none is long, that it does
PIECE = 65_536  # characters that are tokenised at a time
CUT_TOKENS = 400  # that a piece of a text may have more than its share: special ones, and of words that it cuts
ATTENTION_TOKENS = 128  # of a text whose attention is given: it is an array of their square for each head
STATE_NUMBERS = 2**20  # hidden states of a request: as many as the vectors of the most texts that it may have
FRESH = 1.0  # seconds after which the model is run again to say whether it can
AT_A_TIME = 8  # bodies of one request that are begun
MASKS = 128  # of a request: each has a score for every word of the vocabulary


class LimitedTokenizer:
    """A tokenizer that stops when texts have more tokens than a request may have.

    Tokens take much more memory than their text, and windows of a long text more still.
    """

    def __init__(self, tokenizer: Tokenizer, most: int) -> None:
        self._tokenizer, self._most = tokenizer, most

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def encode(self, *text: Any, **how: Any) -> Encoding:
        """As `Tokenizer.encode`; ApiError above the limit."""
        encoding = self._tokenizer.encode(*text, **how)
        if len(encoding) > self._most:
            check_tokens([len(encoding)], self._most)
        return encoding

    def encode_batch(self, texts: Sequence[Any], **how: Any) -> list[Encoding]:
        """As `Tokenizer.encode_batch`; ApiError above the limit, as soon as it is passed."""
        for text in texts:
            if isinstance(text, str) and len(text) > self._most:
                self._check_long(text)
        found: list[Encoding] = []
        for piece in chunks(texts, max(1, PIECE // max(1, max(map(_characters, texts), default=1)))):
            found += self._tokenizer.encode_batch(piece, **how)
            check_tokens(map(len, found), self._most)
        return found

    def _check_long(self, text: str) -> None:
        """ApiError as soon as it is sure that one text has too many tokens; a cut through a word makes a few more."""
        found = 0
        for start in range(0, len(text), PIECE):
            (piece,) = self._tokenizer.encode_batch([text[start : start + PIECE]])
            found += max(0, len(piece) - CUT_TOKENS)
            if found > self._most:
                raise ApiError(413, "Validation", f"more than {found} tokens; at most {self._most} a request")


def check_tokens(counts: Iterable[int], most: int, where: str = "") -> None:
    """ApiError if there are more tokens than a request may have."""
    if (tokens := sum(counts)) > most:
        raise ApiError(413, "Validation", f"{tokens} tokens{where}; at most {most} a request")


class Service:
    """A model behind the endpoints.

    Attributes:
        tasks: those that the model's head allows, by name.
        own: the name of the one that it was made for.
        held: bytes of bodies whose requests are not answered.
    """

    def __init__(self, model: Model, settings: Settings) -> None:
        self.model, self.settings = model, settings
        self.name, self.revision = _name(model.checkpoint.directory.resolve())
        self.name = settings.served_model_name or self.name
        self.started, self.held = int(time()), 0
        self.metrics = Metrics()
        self.tokenizer = cast(Tokenizer, LimitedTokenizer(model.checkpoint.tokenizer, settings.max_request_tokens))
        checkpoint, self.words = model.checkpoint, None
        if checkpoint.own_tokenization:
            limited = replace(checkpoint.tokenization, tokenizer=self.tokenizer)
            self.words = limited.words
            if self.words:  # of short texts, so that the limit need not be asked
                self.words.for_one, self.words.tokenizer = True, model.checkpoint.tokenizer
            checkpoint = replace(checkpoint, own_tokenization=limited)
        self.checkpoint = checkpoint
        self.tasks: dict[str, Task[Any]] = {}
        for name in TASKS:
            with suppress(InputError):  # it needs another head, or other labels
                self.tasks[name] = task_type(name)(checkpoint)
        architecture = model.config.architecture
        self.own = next((name for name, task in self.tasks.items() if architecture in task.architectures), "embedding")
        self.is_reranker = self.own == "text-classification" and len(model.config.labels) == 1
        self.variant = lru_cache(64)(self._variant)  # of a few settings only
        self.first = self.tasks["embedding"].preprocess(["A first text."])
        self.endpoints: dict[str, Callable[..., Awaitable[Any]]] = {
            "/predict": self.predict,
            "/rerank": self.rerank,
            "/embed": self.embed,
            "/embed_all": self.embed_all,
            "/embed_sparse": self.embed_sparse,
            "/similarity": self.similarity,
            "/tokenize": self.tokenize,
            "/decode": self.decode,
            "/explain": self.explain,
            "/v1/embeddings": self.openai,
            "/embeddings": self.openai,
            "/vertex": self.vertex,
            "/": self.infer,
        }
        self.batcher = Batcher(
            model.forward,
            model.on_one_thread().forward,
            model.threads,
            settings.max_batch_tokens,
            settings.max_queue_tokens,
            settings.gather_ms / 1000,
            self.metrics,
        )
        self.aside = ThreadPoolExecutor(1, "npdistil-aside")  # a client that leaves does not make place for another

    def warm_up(self) -> None:
        """Run once, so that no request pays for what is lazy, and what is wrong with the model shows.

        Raises:
            CheckpointError, InputError, EngineError: as the model does.
        """
        self.model.forward(self.first)

    @asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncIterator[None]:
        """The queue from the start to the end of the application; servers without lifespans start it by requests."""
        with suppress(UnavailableError):  # /health tells
            self.batcher.start()
        yield
        self.batcher.stop()

    # Any task.

    def task(self, name: str) -> Task[Any]:
        """A task with its default settings.

        Raises:
            ApiError: the model has another head, or other labels.
        """
        if name not in self.tasks:
            config = self.model.config
            labels = f" with the labels {', '.join(config.labels):.80}" * (self.own == "text-classification")
            raise ApiError(424, "Backend", f"{name} is no task for this model, a {config.class_name}{labels}")
        return self.tasks[name]

    def _variant(self, name: str, truncation_direction: str | None = None, **given: Any) -> Task[Any]:
        """A task with other settings, and another side on which texts that are truncated lose their tokens."""
        task, tokenization = self.task(name), self.checkpoint.own_tokenization
        if truncation_direction is None or tokenization is None:
            return task.replaced(given)
        sided = replace(tokenization, truncation_side=truncation_direction.lower())
        return type(task)(replace(self.checkpoint, own_tokenization=sided), **given)

    def _embedding(
        self, truncate: bool = False, prompt_name: str | None = None, dimensions: int | None = None, **given: Any
    ) -> Embedding:
        """The task of vectors, with the fields of a request."""
        stored = self.checkpoint.sentence
        if prompt_name is not None and not (stored and any(stored.prompts.values())):
            raise InputError(f"prompt_name is {prompt_name!r:.80}; the model has no prompts")
        given |= {"long_text": "truncate" if truncate else "windows", "prompt_name": prompt_name}
        whole: Any = self.variant("embedding")
        if dimensions is not None and dimensions > whole.width:
            raise InputError(f"dimensions is {dimensions}; the model's vectors have {whole.width}")
        task: Any = self.variant("embedding", truncate_dim=dimensions, **given)
        return task

    def _text(self, given: str | list[int], number: int) -> str:
        """A text, or the one that has these token ids."""
        if isinstance(given, str):
            return given
        given = [*map(int, given)]
        check_tokens([len(given)], self.settings.max_request_tokens)
        text = ""
        if max(given) < self.model.config.vocab_size:
            text = self.tokenizer.decode(given[1:-1], skip_special_tokens=False)
        if self.tokenizer.encode(text).ids != given:
            first, last = self.tokenizer.encode("").ids[:1], self.tokenizer.encode("").ids[-1:]
            raise InputError(
                f"input {number}: these are not the token ids of a text, as /tokenize gives them with this model, from "
                f"{first} to {last}; send the text itself"
            )
        return text

    def _texts(self, items: Sequence[Any]) -> list[str]:
        return [self._text(each, i) for i, each in enumerate(items)]

    async def answers(
        self, task: Task[Any], items: Any, prepare: Callable[[Any], Inputs] | None = None
    ) -> tuple[list[Any], Inputs]:
        """An answer for each item, and what the model was asked; `prepare` may stand for the task's preprocess.

        Raises:
            ApiError, InputError, OverloadedError: beyond a limit, not of the right form, or the queue is full.
        """
        if not isinstance(items, list) or not items:
            raise InputError(f"expected an input or a list of them, found {items!r:.80}")
        characters = sum(map(_characters, items))
        if spent := SPENT.get():
            spent.characters += characters
        quick = isinstance(task, QUICK) and characters < LONG and len(items) <= FEW
        texts = len(items) * max(1, len(getattr(task, "hypotheses", ())))  # each label is read with each text
        inputs = await self._prepared(quick, texts, prepare or task.preprocess, items)
        self._check(inputs)
        if quick:
            return await self.batcher.run(inputs, task.postprocess), inputs
        return await self.run(False, task.postprocess, await self.batcher.run(inputs)), inputs

    async def _prepared(
        self, quick: bool, texts: int, prepare: Callable[[Sequence[Any]], Result], items: Sequence[Any]
    ) -> Result:
        """`prepare(items)`; none of it where there are too many texts, or the queue is full anyway."""
        if texts > (most := self.settings.max_request_texts):
            raise ApiError(413, "Validation", f"{texts} texts; at most {most} a request")
        self.batcher.check_capacity(0)
        if quick:
            self._trust_words()
        began = perf_counter()
        with tokenizing_on(1 if quick else None):  # to wake others for short texts would take longer than they do
            result = await self.run(quick, prepare, items)
        seconds = perf_counter() - began
        self.metrics.tokenize_seconds.observe(seconds)
        if spent := SPENT.get():
            spent.tokenization += seconds
        return result

    def _trust_words(self) -> None:
        """Look once for all requests of a turn of the event loop whether the tokenizer was changed."""
        words = self.words
        if words and words.trusted != get_ident() and words.is_same():
            words.trusted = get_ident()
            asyncio.get_running_loop().call_soon(setattr, words, "trusted", None)

    async def run(self, quick: bool, function: Callable[[Any], Result], argument: Any) -> Result:
        """The function's result; unless it is quick, beside the event loop, and one at a time."""
        if quick:
            return function(argument)
        try:
            future = asyncio.get_running_loop().run_in_executor(self.aside, function, argument)
        except RuntimeError as error:
            raise UnavailableError(f"the thread for long texts does not start: {error}") from None
        try:
            return await future
        finally:
            del future  # which has the error, which has this frame, and those with the tokens

    def _check(self, inputs: Inputs, where: str = "") -> None:
        """What the queue would suffer from."""
        config, token_ids = self.model.config, inputs.token_ids
        if any(len(ids) > config.max_position_embeddings for ids in token_ids):
            check_ids(*pack(token_ids), config.vocab_size, config.max_position_embeddings)  # else for others too
        check_tokens(map(len, token_ids), self.settings.max_request_tokens, where)
        if inputs.output == "hidden_states":
            check_tokens(map(len, token_ids), STATE_NUMBERS // config.dim, " whose hidden states are asked for")
        if (masks := sum(map(len, inputs.rows or ()))) > MASKS:
            raise ApiError(413, "Validation", f"{masks} masks; at most {MASKS} a request")

    # The endpoints.

    def default(self, body: Mapping[str, Any]) -> str:
        """The endpoint that `POST /` stands for: the protocol's own for such a model, or the hosted form."""
        inputs = body.get("inputs")
        if isinstance(inputs, dict) and {*inputs} == {*COMPARED}:
            return "/similarity"
        if "parameters" in body or "options" in body:
            return "/"
        if self.own == "embedding":
            return "/embed"
        if self.is_reranker and "inputs" not in body:
            return "/rerank"
        return "/predict" if self.own == "text-classification" else "/"

    async def infer(
        self, inputs: Any, name: str = "", parameters: dict[str, Any] | None = None, options: Any = None
    ) -> Any:
        """The form of the Hugging Face Inference API, and `/pipeline/NAME`: as `npdistil.pipeline` answers.

        Two answers are as its client reads them: a string's labels have a list around them, and labels that were given
        are a list too.
        Without a name it is what the model was made for, or zero-shot classification where labels are given.
        """
        given, hosted = parameters or {}, not name
        name = name or (ZERO_SHOT if "candidate_labels" in given else self.own)
        task = self.task(name)
        mask = self.checkpoint.special_tokens.get("mask_token", "[MASK]")
        if hosted and name == "text-classification" and mask in _parts(inputs):
            self.task("fill-mask")
        try:
            given = DEFAULTS.get(name, {}) | self._parameters(task, given)
            task = await self.run(isinstance(task, QUICK), task.replaced, given)
            answers, _ = await self.answers(task, [inputs] if task.is_item(inputs) else inputs)
        except InputError as error:
            raise InputError(f"{name}: {error}") from None
        if name == ZERO_SHOT:
            answers = [_ranked(answer) for answer in answers]
        answer = task.shaped(answers, inputs, given)
        return [answer] if isinstance(task, TextClassification) and isinstance(inputs, str) else answer

    def _parameters(self, task: Task[Any], given: dict[str, Any]) -> dict[str, Any]:
        """The settings; InputError for what is not a client's to set, or would cost more than any answer is worth."""
        if name := next((name for name in PYTHON_ONLY if name in given), None):
            raise InputError(f"{name} is no parameter of a request")
        most = self.model.config.max_position_embeddings
        for name in (each.name for each in fields(task.settings_type) if kind_of(each).schema.get("type") == "integer"):
            value = given.get(name)
            if isinstance(value, (int, float)) and value > most:
                raise InputError(f"{name} is {value}; expected at most {most}, the tokens that the model reads at once")
            if isinstance(value, float) and value.is_integer():  # JSON has one kind of numbers
                given = {**given, name: int(value)}
        template = given.get("hypothesis_template")
        if isinstance(template, str) and (len(template) > TEMPLATE or "{" in template.replace("{}", "")):
            raise InputError(f"hypothesis_template is {template!r:.80}; expected {{}} in at most {TEMPLATE} characters")
        return given

    async def predict(self, inputs: Any, truncate: bool = False, raw_scores: bool = False, **side: Any) -> Any:
        """`/predict`: every label with its score, best first."""
        function = "none" if raw_scores else None
        task: Any = self.variant(
            "text-classification", top_k=None, truncation=truncate, function_to_apply=function, **side
        )
        lists = [[each] if isinstance(each, str) else each for each in (inputs if is_batch(inputs) else [inputs])]
        texts = [each[0] if len(each) == 1 else tuple(each) for each in lists]
        answers, _ = await self.answers(task, texts, task.laid_out)
        return answers if is_batch(inputs) else answers[0]

    async def rerank(
        self,
        query: str,
        texts: list[str],
        raw_scores: bool = False,
        return_text: bool = False,
        top_n: int | None = None,
        **how: Any,
    ) -> Any:
        """`/rerank`: how well each text goes with the query, best first."""
        if not self.is_reranker:
            raise ApiError(424, "Backend", "the model is no re-ranker, a classifier with one label")
        answers = await self.predict([[query, text] for text in texts], raw_scores=raw_scores, **how)
        ranks: list[dict[str, Any]] = [
            {"index": i} | ({"text": texts[i]} if return_text else {}) | {"score": label["score"]}
            for i, (label,) in enumerate(answers)
        ]
        return sorted(ranks, key=lambda rank: -rank["score"])[:top_n]

    async def embed(self, inputs: Any, normalize: bool = True, **how: Any) -> Any:
        """`/embed`: a vector for each text."""
        return (await self._vectors(inputs, normalize=normalize, **how))[0]

    async def _vectors(self, inputs: Any, **how: Any) -> tuple[list[Any], Inputs]:
        """A vector for each text, and what the model read."""
        task = self._embedding(**how)
        return await self.answers(task, _listed(inputs), lambda items: task.preprocess(self._texts(items)))

    async def embed_all(self, inputs: Any, truncate: bool = False, prompt_name: str | None = None, **side: Any) -> Any:
        """`/embed_all`: the hidden states of every token of each text."""
        prompt = self._embedding(prompt_name=prompt_name).prompt
        task = self.variant("feature-extraction", truncation=truncate, return_tensors=True, **side)
        answers, _ = await self.answers(
            task, _listed(inputs), lambda items: task.preprocess([prompt + text for text in self._texts(items)])
        )
        return [states[0] for states in answers]

    async def embed_sparse(self, **given: Any) -> Any:
        """`/embed_sparse`: refused, as the protocol has it for models that are not SPLADE's."""
        raise ApiError(424, "Backend", "the model has no sparse embeddings, which need SPLADE pooling")

    async def similarity(self, inputs: Any, parameters: Mapping[str, Any] | None = None) -> Any:
        """`/similarity`: the cosine of a sentence with each of some others."""
        if not inputs["sentences"]:
            raise ApiError(400, "Empty", "sentences is an empty list")
        how = read_fields(SIMILARITY, parameters or {})
        texts = [inputs["source_sentence"], *inputs["sentences"]]
        (source, *others), _ = await self._vectors(texts, normalize=True, **how)
        return (np.array(others) * source).sum(axis=1)

    async def openai(
        self, encoding_format: str = "float", dimensions: int | None = None, **given: Any
    ) -> dict[str, Any]:
        """`/v1/embeddings`: a vector for each text, in the form of OpenAI."""
        vectors, inputs = await self._vectors(given["input"], normalize=True, dimensions=dimensions)
        tokens = sum(map(len, inputs.token_ids))
        if encoding_format == "base64":
            vectors = [base64.b64encode(vector.astype("<f4").tobytes()).decode() for vector in vectors]
        return {
            "object": "list",
            "data": [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(vectors)],
            "model": self.name,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }

    async def vertex(self, instances: list[dict[str, Any]]) -> Any:
        """`/vertex`: several bodies of `POST /`."""
        if len(instances) > (most := self.settings.max_request_texts):
            raise ApiError(413, "Validation", f"{len(instances)} instances; at most {most} a request")
        bodies = await self.run(
            False, lambda some: [(path := self.default(each), read(path, each)) for each in some], instances
        )
        turns = asyncio.Semaphore(AT_A_TIME)

        async def one(path: str, body: dict[str, Any]) -> Any:
            async with turns:
                return await self.endpoints[path](**body)

        work = [asyncio.ensure_future(one(*each)) for each in bodies]
        try:
            return {"predictions": await asyncio.gather(*work)}
        finally:
            for each in work:
                each.cancel()

    async def tokenize(self, inputs: Any, add_special_tokens: bool = True, prompt_name: str | None = None) -> Any:
        """`/tokenize`: the tokens of each text."""
        prompt = self._embedding(prompt_name=prompt_name).prompt if prompt_name is not None else ""
        texts = [prompt + text for text in _listed(inputs)]
        quick = sum(map(len, texts)) < LONG and len(texts) <= FEW

        def tokens(some: Sequence[str]) -> list[list[dict[str, Any]]]:
            encodings = tokenize(self.tokenizer, some)
            return [_tokens(text, each, add_special_tokens) for text, each in zip(some, encodings, strict=True)]

        return await self._prepared(quick, len(texts), tokens, texts)

    async def decode(self, ids: Any, skip_special_tokens: bool = True) -> Any:
        """`/decode`: the text of each list of token ids."""
        lists = ids if is_batch(ids) else [ids]
        known = self.model.config.vocab_size
        check_tokens(map(len, lists), self.settings.max_request_tokens)

        def texts(some: Sequence[list[Any]]) -> list[str]:
            if (most := max(map(max, some))) >= known:
                raise InputError(f"ids has {most}; the vocabulary has ids 0 to {known - 1}")
            whole = [[*map(int, each)] for each in some]
            return self.tokenizer.decode_batch(whole, skip_special_tokens=skip_special_tokens)

        return await self._prepared(sum(map(len, lists)) < LONG, len(lists), texts, lists)

    async def explain(self, inputs: str, attention: bool = False, **given: Any) -> Any:
        """`/explain`: how much each word adds to a label."""
        task = self.task(EXPLANATION).replaced(given)
        variants = await self._prepared(False, 1, task.preprocess, [inputs])
        if attention and (tokens := len(variants.token_ids[0])) > ATTENTION_TOKENS:
            raise InputError(f"the text has {tokens} tokens; attention is given for at most {ATTENTION_TOKENS}")
        self._check(variants, f" in {len(variants.token_ids)} variants of the text")
        (found,) = await self.run(False, task.postprocess, await self.batcher.run(variants))
        weights = None
        if attention:
            (weights,) = (await self.batcher.run(Inputs(variants.token_ids[:1], output="attentions"))).values
        return found.as_dict() | {"attention": packed(weights)}

    def info(self) -> dict[str, Any]:
        """`/info`: what runs here, and what it takes."""
        model, settings = self.model, self.settings
        labels = dict(enumerate(model.config.labels))
        embedding: Any = self.tasks["embedding"]
        kind: dict[str, Any] = {"embedding": {"pooling": embedding.pooling}}
        if self.own == "text-classification":
            classes = {"id2label": labels, "label2id": {name: i for i, name in labels.items()}}
            kind = {"reranker" if self.is_reranker else "classifier": classes}
        return {
            "model_id": self.name,
            "model_sha": self.revision,
            "model_dtype": model.precision,
            "served_model_name": self.name,
            "model_type": kind,
            "task": self.own,
            "max_concurrent_requests": settings.max_connections,
            "max_input_length": model.config.max_position_embeddings,
            "max_batch_tokens": settings.max_batch_tokens,
            "max_batch_requests": None,
            "max_client_batch_size": settings.max_request_texts,
            "max_request_tokens": settings.max_request_tokens,
            "max_body_bytes": settings.max_body_bytes,
            "auto_truncate": False,
            "tokenization_workers": 1,
            "engine": model.engine,
            "threads": model.threads,
            "version": __version__,
            "sha": None,
            "docker_label": None,
        }

    def models(self) -> dict[str, Any]:
        """`/v1/models`: the one, in the form of OpenAI."""
        model = {"id": self.name, "object": "model", "created": self.started, "owned_by": "npdistil"}
        return {"object": "list", "data": [model]}

    async def health(self) -> dict[str, Any]:
        """`/health`: whether the model runs: it is run once, unless it just has been.

        Raises:
            ApiError: it does not.
        """
        began = perf_counter()
        if began - self.batcher.delivered > FRESH:
            try:
                await asyncio.wait_for(self.batcher.run(self.first), self.settings.timeout)
            except asyncio.TimeoutError:
                raise ApiError(503, "Unhealthy", f"no answer within {self.settings.timeout:g} s") from None
            except OverloadedError as error:  # busy is not ill, as long as the queue moves
                if began - self.batcher.delivered > self.settings.timeout:
                    raise ApiError(503, "Unhealthy", str(error)) from None
            except NpdistilError as error:
                raise ApiError(503, "Unhealthy", str(error)) from None
            except Exception as error:  # noqa: BLE001 - whatever it is, the model does not run
                raise ApiError(503, "Unhealthy", f"the model does not run: {type(error).__name__}") from None
        return {
            "status": "ok",
            "model": self.name,
            "ran_seconds_ago": round(perf_counter() - self.batcher.delivered, 3),
        }


def _name(directory: Path) -> tuple[str, str | None]:
    """A model's name and revision, from its directory; that of the Hub's cache is models--OWNER--NAME/snapshots/SHA."""
    if directory.parent.name == "snapshots" and directory.parents[1].name.startswith("models--"):
        return "/".join(directory.parents[1].name.split("--")[1:]), directory.name
    return directory.name, None


def _ranked(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The labels of zero-shot classification, as those of text classification."""
    return [{"label": label, "score": score} for label, score in zip(answer["labels"], answer["scores"], strict=True)]


def _listed(texts: Any) -> list[Any]:
    return [texts] if isinstance(texts, str) or is_ids(texts) else texts


def _parts(inputs: Any) -> str:
    """All texts of a request's inputs."""
    if isinstance(inputs, str):
        return inputs
    parts = inputs.values() if isinstance(inputs, dict) else inputs if isinstance(inputs, list) else ()
    return "\n".join(map(_parts, parts))


def _characters(item: Any) -> int:
    """Of a text, a pair, a list of words or a record of these; a token id counts as one."""
    if isinstance(item, str):
        return len(item)
    parts = item.values() if isinstance(item, dict) else item if isinstance(item, (list, tuple)) else ()
    return sum(len(part) if isinstance(part, str) else 1 for part in parts)


def _tokens(text: str, encoding: Encoding, special: bool) -> list[dict[str, Any]]:
    rows = zip(encoding.ids, encoding.tokens, encoding.special_tokens_mask, encoding.offsets, strict=True)
    return [
        {"id": i, "text": token, "special": True, "start": None, "stop": None}
        if mark
        else {"id": i, "text": text[start:stop], "special": False, "start": start, "stop": stop}
        for i, token, mark, (start, stop) in rows
        if special or not mark
    ]
