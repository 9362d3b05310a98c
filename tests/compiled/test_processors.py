"""What a model answers on the kernels has the same bits whatever NumPy and BLAS make of the processor."""

import hashlib
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import tiny

from npdistil.engine import why_not_compiled

SCRIPT = """
import sys
from pathlib import Path
import numpy as np
import npdistil
from npdistil.checkpoint.adapter import Adapter
from npdistil.distilbert import heads

root, texts = Path(sys.argv[1]), ["a good film", "a very bad film, not good !", "john hates paris", "i like it"]
texts += [f"{one} and {other}" for one in texts for other in texts]
for name in ("classification", "bert", "sigmoid"):
    print([each.scores(texts).tobytes().hex() for each in [npdistil.load(root / name, engine="compiled")]])
print(npdistil.pipeline("text-classification", engine="compiled")(texts, top_k=None))
print(npdistil.pipeline("ner", root / "ner", engine="compiled")(texts))
print(npdistil.pipeline("fill-mask", root / "fill", engine="compiled")([f"{text} [MASK]" for text in texts]))
print(npdistil.pipeline("zero-shot-classification", root / "nli", engine="compiled")(texts, ["good", "bad", "boring"]))
answers = npdistil.pipeline("question-answering", root / "qa", engine="compiled")
print(answers([{"question": "who ?", "context": text} for text in texts]))
embedder = npdistil.Embedder(npdistil.load(root / "vectors", engine="compiled"), normalize=True)
print(embedder.transform(texts).tobytes().hex())
print(npdistil.explain(npdistil.load(root / "classification", engine="compiled"), texts[5]))
draw = np.random.default_rng(0)
weight, x, b, a = (draw.standard_normal(shape, np.float32) for shape in ((90, 70), 70, (90, 8), (8, 70)))
for activation in heads.DENSE_ACTIVATIONS:
    print(heads.unit(heads.dense(x, activation, weight, shortcut=weight)).tobytes().hex())
print(Adapter("", 8, {"some": (b, a)}, {}, None).merged("some", weight).tobytes().hex())
"""


def answers(root: Path, **variables: str) -> str:
    here = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, str(root)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(here)} | variables,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") > 15
    return hashlib.sha256(done.stdout.encode()).hexdigest()


@pytest.fixture
def models(tmp_path: Path) -> Path:
    labels = {"0": "entailment", "1": "neutral", "2": "contradiction"}
    tiny.write(tmp_path / "classification", id2label=labels)
    tiny.write(tmp_path / "nli", id2label=labels)
    tiny.write(tmp_path / "sigmoid", problem_type="multi_label_classification")
    tiny.write_bert(tmp_path / "bert")
    for name, head in (("ner", "TokenClassification"), ("fill", "MaskedLM"), ("qa", "QuestionAnswering")):
        tiny.write(tmp_path / name, architectures=[f"DistilBertFor{head}"])
    tiny.write(tmp_path / "vectors", architectures=["DistilBertModel"])
    return tmp_path


def test_without_what_numpy_and_blas_have_for_this_processor(models: Path) -> None:
    if reason := why_not_compiled():
        pytest.skip(reason)
    here = answers(models)
    core = "numpy._core" if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else "numpy.core"
    umath = import_module(f"{core}._multiarray_umath")
    found = " ".join(name for name in umath.__cpu_dispatch__ if umath.__cpu_features__[name])
    if not found:
        pytest.skip("NumPy has nothing for this processor beyond what it has for all of its kind")
    assert answers(models, NPY_DISABLE_CPU_FEATURES=found) == here
    assert answers(models, OPENBLAS_CORETYPE="Prescott" if os.uname().machine == "x86_64" else "ARMV8") == here
