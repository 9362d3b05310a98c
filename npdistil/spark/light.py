"""A pipeline of annotators on plain strings, without Spark's jobs."""

from collections.abc import Sequence
from typing import Any

from pyspark.ml import PipelineModel

from ..errors import InputError
from .annotation import Annotation
from .assembly import Assembler, Finisher
from .stages import KIND, Stage


class LightPipeline:
    """The annotators of a fitted pipeline, on strings and lists of them.

    Args:
        pipelineModel: whose first stage is a `DocumentAssembler` or `MultiDocumentAssembler`.
        parse_embeddings: whether annotations keep their vectors.
        output_cols: columns that are given; by default all.

    Raises:
        InputError: it is not fitted, or there is another stage than annotators and finishers.
    """

    def __init__(
        self, pipelineModel: PipelineModel, parse_embeddings: bool = False, output_cols: Sequence[str] | None = None
    ) -> None:
        self.pipeline_model, self.parse_embeddings = pipelineModel, parse_embeddings
        self.output_cols = list(output_cols or [])
        if not isinstance(pipelineModel, PipelineModel):
            raise InputError(
                f"expected a PipelineModel, found a {type(pipelineModel).__name__}; what `fit` gives is one"
            )
        for stage in pipelineModel.stages:
            if not isinstance(stage, Stage):
                raise InputError(f"{type(stage).__name__} needs Spark; a LightPipeline has annotators alone")
        if not pipelineModel.stages or not isinstance(pipelineModel.stages[0], Assembler):
            raise InputError("the first stage must be a DocumentAssembler or a MultiDocumentAssembler")

    def fullAnnotate(self, target: Any, optional_target: Any = None) -> list[dict[str, list[Annotation]]]:
        """The annotations of each text, by column.

        Args:
            target: a string or a list of them; None has no annotations.
            optional_target: as many, for a pipeline that reads two columns: contexts beside questions.

        Raises:
            InputError: something else.
        """
        given = [_texts(each) for each in (target, optional_target) if each is not None or each is target]
        first, *others = self.pipeline_model.stages
        names, _ = first._names()
        if len(given) != len(names) or len({len(each) for each in given}) != 1:
            raise InputError(f"expected as many texts for each of {', '.join(names)}")
        columns: dict[str, Sequence[Any]] = dict(zip(names, given, strict=True))
        kinds, finished = dict.fromkeys(names, "string"), None
        for stage in (first, *others):
            if isinstance(stage, Finisher):
                finished = stage.getOrDefault("inputCols")
            elif hasattr(stage, "outputAnnotatorType"):
                columns |= stage.of_plain(columns, kinds)
                kinds |= {each.name: each.metadata[KIND] for each in stage._columns()}
        kept = [name for name in columns if name not in names and name in (self.output_cols or finished or columns)]
        rows = [{name: columns[name][i] for name in kept} for i in range(len(given[0]))]
        if not self.parse_embeddings:
            for each in (each for row in rows for found in row.values() for each in found):
                each.embeddings = []
        return rows

    def annotate(self, target: Any, optional_target: Any = None) -> Any:
        """The results of annotations, by column: of a string a dict, of a list a list of these.

        Raises:
            InputError: as `fullAnnotate`.
        """
        rows = [
            {name: [each.result for each in found] for name, found in row.items()}
            for row in self.fullAnnotate(target, optional_target)
        ]
        return rows[0] if isinstance(target, str) else rows

    def transform(self, dataframe: Any) -> Any:
        """What the pipeline makes of a DataFrame."""
        return self.pipeline_model.transform(dataframe)


def _texts(target: Any) -> list[str | None]:
    texts = [target] if isinstance(target, str) else target
    if not isinstance(texts, list) or not all(each is None or isinstance(each, str) for each in texts):
        raise InputError(f"expected a string or a list of strings, found {target!r:.80}")
    return texts
