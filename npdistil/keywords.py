"""Types of the keywords that calls take. Made by docs/arguments.py of the records of settings.

`Keywords` are the settings of a task, but for those that decide of what type an answer is, and arguments of
transformers; `Made` has what `pipeline` takes besides.
"""

from collections.abc import Sequence
from typing import Any, Literal, TypedDict


class CallKeywords(TypedDict, total=False):
    framework: Any
    num_workers: Any
    padding: Any
    pad_to_max_length: Any
    pad_to_multiple_of: Any
    padding_side: Any
    return_token_type_ids: Any
    return_attention_mask: Any
    verbose: Any
    add_special_tokens: Any
    tokenizer_kwargs: Any
    tokenize_kwargs: Any
    offset_mapping: Any


class LoadingKeywords(TypedDict, total=False):
    engine: str
    precision: str | None
    threads: int | None
    config: Any
    tokenizer: Any
    device: Any
    device_map: Any
    torch_dtype: Any
    dtype: Any
    use_fast: Any
    trust_remote_code: Any
    cache_dir: Any
    cache_folder: Any
    token: Any
    use_auth_token: Any
    revision: Any
    local_files_only: Any
    force_download: Any
    resume_download: Any
    proxies: Any
    mirror: Any
    etag_timeout: Any
    code_revision: Any
    subfolder: Any
    variant: Any
    gguf_file: Any
    model_kwargs: Any
    feature_extractor: Any
    image_processor: Any
    video_processor: Any
    processor: Any
    modelcard: Any
    args_parser: Any
    binary_output: Any
    pipeline_class: Any


class TextClassificationKeywords(CallKeywords, total=False):
    batch_size: int | None
    long_text: Literal["windows", "sentences", "truncate", "error"] | None
    max_length: int | None
    stride: int | None
    function_to_apply: Literal["none", "sigmoid", "softmax"] | None
    truncation: bool | Literal["longest_first", "only_first", "only_second", "do_not_truncate"] | None


class TextClassificationMade(TextClassificationKeywords, LoadingKeywords, total=False): ...


class TokenClassificationKeywords(CallKeywords, total=False):
    batch_size: int | None
    ignore_labels: Sequence[str] | None
    stride: int | None
    is_split_into_words: bool | None
    delimiter: str | None


class TokenClassificationMade(TokenClassificationKeywords, LoadingKeywords, total=False): ...


class QuestionAnsweringKeywords(CallKeywords, total=False):
    batch_size: int | None
    doc_stride: int | None
    max_answer_len: int | None
    max_seq_len: int | None
    max_question_len: int | None
    handle_impossible_answer: bool | None
    align_to_words: bool | None
    topk: Any


class QuestionAnsweringMade(QuestionAnsweringKeywords, LoadingKeywords, total=False): ...


class FillMaskKeywords(CallKeywords, total=False):
    batch_size: int | None
    targets: str | Sequence[str] | None
    truncation: bool | Literal["longest_first", "only_first", "only_second", "do_not_truncate"] | None


class FillMaskMade(FillMaskKeywords, LoadingKeywords, total=False): ...


class ZeroShotClassificationKeywords(CallKeywords, total=False):
    batch_size: int | None
    hypothesis_template: str | None
    multi_label: bool | None
    truncation: bool | None
    multi_class: Any


class ZeroShotClassificationMade(ZeroShotClassificationKeywords, LoadingKeywords, total=False): ...


class FeatureExtractionKeywords(CallKeywords, total=False):
    batch_size: int | None
    return_tensors: bool | Literal["np", "pt"] | None
    truncation: bool | Literal["longest_first", "only_first", "only_second", "do_not_truncate"] | None


class FeatureExtractionMade(FeatureExtractionKeywords, LoadingKeywords, total=False): ...


class EmbeddingKeywords(CallKeywords, total=False):
    batch_size: int | None
    long_text: Literal["windows", "sentences", "truncate", "error"] | None
    max_length: int | None
    stride: int | None
    pooling: str | None
    normalize: bool | None
    prompt_name: str | None
    prompt: str | None
    truncate_dim: int | None


class EmbeddingMade(EmbeddingKeywords, LoadingKeywords, total=False): ...


class MultipleChoiceKeywords(CallKeywords, total=False):
    batch_size: int | None


class MultipleChoiceMade(MultipleChoiceKeywords, LoadingKeywords, total=False): ...


class ExplanationKeywords(CallKeywords, total=False):
    batch_size: int | None
    label: str | None
    method: Literal["occlusion", "shapley"] | None
    samples: int | None


class ExplanationMade(ExplanationKeywords, LoadingKeywords, total=False): ...
