"""SentenceTransformer: the task "embedding", called as sentence-transformers' class of that name is."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from .arguments import ENCODE, ENGINE, HUB, SENTENCES, check_same, read, tensor
from .distilbert.encoder import Array
from .errors import InputError
from .pipelines import EmbeddingPipeline, as_model
from .settings import Kind, check, check_known, choice, string
from .tokenizer import Tokenizer
from .util import SIMILARITIES

PROMPTS = Kind(
    "expected a dict of strings",
    lambda value: isinstance(value, Mapping) and all(string().takes(each) for pair in value.items() for each in pair),
)
DOCUMENTS = ("document", "passage", "corpus")  # names of the prompt of documents, the first that is there


class SentenceTransformer:
    """Vectors of texts: `SentenceTransformer(directory).encode(texts)`.

    Texts are cut at `max_seq_length`, as there.

    Args:
        model_name_or_path: what `load` takes, or a loaded `Model`.
        device: the CPU.
        prompts: name -> what is put before a text; by default those of the model's directory.
        default_prompt_name: the one that is used where none is asked for.
        similarity_fn_name: "cosine", "dot", "euclidean" or "manhattan".
        truncate_dim: how many numbers of a vector are kept.
        given: engine, precision and threads, as for `load`; sentence-transformers' other arguments.

    Attributes:
        model: the `Model`.
        device: "cpu".

    Raises:
        InputError: an argument that cannot be taken; and what `load` raises.

    Example:
        >>> import npdistil
        >>> vectors = npdistil.SentenceTransformer("my-distilbert").encode(["a film", "the film"])
        >>> vectors.shape
        (2, 8)
    """

    device = "cpu"

    def __init__(
        self,
        model_name_or_path: Any = None,
        *,
        device: Any = None,
        prompts: Mapping[str, str] | None = None,
        default_prompt_name: str | None = None,
        similarity_fn_name: str | None = None,
        truncate_dim: int | None = None,
        **given: Any,
    ) -> None:
        if model_name_or_path is None:
            raise InputError("give a directory, a name on the Hub or what `npdistil.load` returns")
        own = read(SENTENCES, {"device": device, **given})
        check_known("argument", own, (*ENGINE, *HUB), " and those of there")
        similarity: Any = "cosine" if similarity_fn_name is None else similarity_fn_name
        self.similarity_fn_name = getattr(similarity, "value", similarity)
        check("similarity_fn_name", choice(*SIMILARITIES), self.similarity_fn_name)
        self.model = as_model(model_name_or_path, own)
        check_same("AutoModel", given.get("model_kwargs") or {}, self.model)
        stored = self.model.checkpoint.sentence
        check("prompts", PROMPTS, prompts, None)
        self.prompts = {**(stored.prompts if stored else {}), **(prompts or {})} or {"query": "", "document": ""}
        self.default_prompt_name = default_prompt_name
        if default_prompt_name is None and stored:
            self.default_prompt_name = stored.default_prompt_name
        if self.default_prompt_name is not None:
            check("default_prompt_name", choice(*self.prompts), self.default_prompt_name)
        self._truncate_dim = truncate_dim
        self._max_seq_length: int | None = None
        self._make()

    def __repr__(self) -> str:
        return f"<npdistil.SentenceTransformer on {self.model!r}: {self.get_sentence_embedding_dimension()} numbers>"

    def _make(self) -> None:
        self._pipeline = EmbeddingPipeline(
            self.model, long_text="truncate", truncate_dim=self._truncate_dim, max_length=self._max_seq_length
        )
        self._embedding: Any = self._pipeline.processor

    def encode(
        self,
        sentences: Any = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        output_value: str | None = "sentence_embedding",
        precision: str = "float32",
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: Any = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        **given: Any,
    ) -> Any:
        """Vectors of texts: float32 [D] of a string, and [B, D] of several.

        Args:
            sentences: a string, or what `text.items_of` takes: strings, or pairs as {"text", "text_pair"}.
            prompt_name: which of `prompts` is put before every text.
            prompt: what is put before every text, instead of one with a name.
            batch_size: texts that a thread runs at once; vectors do not depend on it.
            show_progress_bar: changes nothing.
            output_value: "sentence_embedding".
            precision: "float32".
            convert_to_numpy: False gives a list of torch's tensors, where torch is installed.
            convert_to_tensor: whether to give a tensor of torch's, where torch is installed.
            device: the CPU.
            normalize_embeddings: whether vectors are scaled to length 1.
            truncate_dim: how many numbers of a vector are kept.
            given: sentence-transformers' other arguments.

        Raises:
            InputError: a text or an argument that cannot be taken.
        """
        if "inputs" in given:  # its name there since version 6
            sentences = given.pop("inputs")
        read_as = {"output_value": output_value, "precision": precision, "device": device} | given
        own = read(ENCODE, read_as | {"normalize_embeddings": normalize_embeddings})
        own |= {"batch_size": batch_size, "truncate_dim": truncate_dim, "prompt": self._prompt(prompt, prompt_name)}
        one = isinstance(sentences, (str, dict))
        vectors = [*self._pipeline([sentences] if one else sentences, **own)]
        if one:
            return tensor(vectors[0]) if convert_to_tensor or not convert_to_numpy else vectors[0]
        if not (convert_to_tensor or convert_to_numpy):
            return [*map(tensor, vectors)]
        width = truncate_dim or self.get_sentence_embedding_dimension()
        found: Array = np.stack(vectors) if vectors else np.empty((0, width), np.float32)
        return tensor(found) if convert_to_tensor else found

    def encode_query(self, sentences: Any = None, prompt_name: str | None = None, **given: Any) -> Any:
        """As `encode`, with the prompt of queries where there is one."""
        named = prompt_name or ("query" if given.get("prompt") is None and "query" in self.prompts else None)
        return self.encode(sentences, named, **given)

    def encode_document(self, sentences: Any = None, prompt_name: str | None = None, **given: Any) -> Any:
        """As `encode`, with the prompt of documents where there is one."""
        known = [name for name in DOCUMENTS if given.get("prompt") is None and name in self.prompts]
        return self.encode(sentences, prompt_name or next(iter(known), None), **given)

    def _prompt(self, prompt: str | None, name: str | None) -> str:
        """What is put before every text."""
        name = self.default_prompt_name if name is None else name
        if prompt is not None or name is None:
            return prompt or ""
        check("prompt_name", choice(*self.prompts), name)
        return self.prompts[name]

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """How near each vector is to each other, by `similarity_fn_name`: float32 [A, B]."""
        return SIMILARITIES[self.similarity_fn_name][0](embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """The same of the vectors at the same place: float32 [B]."""
        return SIMILARITIES[self.similarity_fn_name][1](embeddings1, embeddings2)

    def get_sentence_embedding_dimension(self) -> int:
        """Numbers of a vector."""
        return int(self._embedding.width)

    get_embedding_dimension = get_sentence_embedding_dimension

    @property
    def truncate_dim(self) -> int | None:
        """How many numbers of a vector are kept."""
        return self._truncate_dim

    @property
    def max_seq_length(self) -> int:
        """Tokens, special ones included, at which a text is cut."""
        return int(self._embedding.max_length)

    @max_seq_length.setter
    def max_seq_length(self, value: int | None) -> None:
        before, self._max_seq_length = self._max_seq_length, value
        try:
            self._make()
        except InputError:
            self._max_seq_length = before
            raise

    def get_max_seq_length(self) -> int:
        """As `max_seq_length`."""
        return self.max_seq_length

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's."""
        return self.model.tokenizer

    def tokenize(self, texts: Any) -> Any:
        """Refused: texts go to `encode`.

        Raises:
            InputError: always.
        """
        return self.tokenizer(texts)

    def to(self, device: Any = None, *more: Any, **given: Any) -> "SentenceTransformer":
        """Itself, which is on the CPU.

        Raises:
            InputError: another device.
        """
        self.model.to(device)
        return self

    def eval(self) -> "SentenceTransformer":
        """Itself: there is no training here."""
        return self

    def cpu(self) -> "SentenceTransformer":
        """Itself."""
        return self

    def save(self, path: str | os.PathLike[str], *more: Any, **given: Any) -> None:
        """Refused: nothing here changes a model.

        Raises:
            InputError: always.
        """
        raise InputError(f"a model does not change here: copy {self.model.name_or_path} to {path}")

    save_pretrained = save
