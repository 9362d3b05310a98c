"""Measures the bundled model and writes the figures into its model card.

    python weights/card.py --float32 build/sst2/float32 --data ../shared/data

The card's text stays as it is; what stands between `<!-- measured -->` and `<!-- end -->` is replaced. Beside it go
`reliability.png`, `weights/measured.json` (the same figures) and `tests/behaviour.json`, which the tests hold the
model to. Needs `pip install "npdistil[train]"`.
"""

import argparse
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from detokenize import natural
from matplotlib.figure import Figure

import npdistil

Array = npt.NDArray[Any]

HERE = Path(__file__).parent
TESTS = HERE.parent / "tests"
BINS = 10  # of equal width, for the expected calibration error (Guo et al. 2017, arXiv:1706.04599)
LIMIT = 512  # tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--float32", type=Path, required=True, help="float32 checkpoint that the recipe wrote")
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared" / "data", help="holds sst2/ and long/")
    options = parser.parse_args()
    log = [json.loads(line) for line in (HERE / "runs.jsonl").read_text(encoding="utf-8").splitlines()]
    made = [record for record in log if not record.keys() & {"repeat", "tried"}]  # those led to no file that shipped
    temperature = [record for record in made if "temperature" in record][-1]["temperature"]

    bundled = npdistil.load(engine="numpy")
    models = {
        "float32": npdistil.load(options.float32, engine="numpy"),
        "int8": bundled,
        "int8, compiled engine": npdistil.load(engine="compiled"),
    }
    rows = (options.data / "sst2" / "dev.tsv").read_text(encoding="utf-8").split("\n")[1:]
    dev = [row.rsplit("\t", 1) for row in rows if row]
    labels = np.array([int(label) for _, label in dev])
    forms = {"treebank": [text for text, _ in dev], "natural": [natural(text) for text, _ in dev]}
    logits = {(name, form): logits_of(model, texts) for name, model in models.items() for form, texts in forms.items()}
    chosen = {key: values.argmax(1) for key, values in logits.items()}
    int8 = logits["int8", "treebank"]
    measured = {
        "right": {f"{name}, {form}": int((chosen[name, form] == labels).sum()) for name, form in logits},
        "rows": len(labels),
        "same_label_in_both_forms": {
            name: int((chosen[name, "treebank"] == chosen[name, "natural"]).sum()) for name in models
        },
        "same_label_in_both_precisions": int((chosen["float32", "treebank"] == chosen["int8", "treebank"]).sum()),
        "largest_logit_difference_of_precisions": float(np.abs(int8 - logits["float32", "treebank"]).max()),
        "temperature": temperature,
        "calibration_error": {
            "before": calibration_error(int8 * temperature, labels),
            "after": calibration_error(int8, labels),
            "after, fitted on the other half": split_calibration_error(int8 * temperature, labels),
        },
        "bytes": {path.name: path.stat().st_size for path in sorted(npdistil.bundled_model().glob("*.[js]*"))},
        "reviews": reviews(bundled, options.data / "long" / "imdb_600.jsonl"),
        "behaviour": behaviour(bundled),
    }
    plot(int8, int8 * temperature, labels, npdistil.bundled_model() / "reliability.png")
    write(HERE / "measured.json", json.dumps(measured, indent=2) + "\n")
    write(TESTS / "behaviour.json", json.dumps(measured["behaviour"], indent=2) + "\n")
    card = npdistil.bundled_model() / "README.md"
    text = card.read_text(encoding="utf-8")
    assert text.count("<!-- measured -->") == text.count("<!-- end -->") == 1
    section = "<!-- measured -->\n" + tables(measured) + "<!-- end -->"
    write(card, re.sub(r"<!-- measured -->.*<!-- end -->", lambda _: section, text, flags=re.DOTALL))
    print(tables(measured))


def write(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def logits_of(model: npdistil.Model, texts: list[str]) -> Array:
    """float32 [B, C] of texts that are no longer than the model."""
    return model.logits([encoding.ids for encoding in model.tokenizer.encode_batch(texts)])


def confidence(logits: Array) -> Array:
    """Score of the chosen label, [B]."""
    gap = np.abs(logits[:, 1] - logits[:, 0]).astype(np.float64)
    return 1 / (1 + np.exp(-gap))


def bins(logits: Array, labels: Array) -> list[tuple[int, float, float]]:
    """Texts, mean score and accuracy of each tenth of the range of scores that has any."""
    scores, right = confidence(logits), logits.argmax(1) == labels
    place = np.minimum((scores * BINS).astype(int), BINS - 1)
    inside = [place == i for i in range(BINS)]
    return [(int(at.sum()), float(scores[at].mean()), float(right[at].mean())) for at in inside if at.any()]


def calibration_error(logits: Array, labels: Array) -> float:
    """Mean distance of score and accuracy over the bins, weighted by their texts."""
    return sum(count * abs(score - accuracy) for count, score, accuracy in bins(logits, labels)) / len(labels)


def fitted_temperature(logits: Array, labels: Array) -> float:
    """The temperature of the least cross entropy."""
    signed = np.where(labels == 1, 1, -1) * (logits[:, 1] - logits[:, 0]).astype(np.float64)
    candidates = np.logspace(-1, 1, 401)
    return float(candidates[np.argmin([np.logaddexp(0, -signed / t).mean() for t in candidates])])


def split_calibration_error(logits: Array, labels: Array) -> float:
    """Each half of the rows with the temperature of the other half: what texts that were not fitted to would show."""
    odd = np.arange(len(labels)) % 2 == 1
    scaled = logits.copy()
    for half in (odd, ~odd):
        scaled[half] /= fitted_temperature(logits[~half], labels[~half])
    return calibration_error(scaled, labels)


def reviews(model: npdistil.Model, path: Path) -> dict[str, Any]:
    """Whole reviews: by windows, and by their first tokens alone."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    texts, labels = [row["text"] for row in rows], np.array([row["label"] for row in rows])
    long = np.array([len(encoding.ids) > LIMIT for encoding in model.tokenizer.encode_batch(texts)])
    found: dict[str, Any] = {"rows": len(rows), "rows_over_512_tokens": int(long.sum())}
    for name in ("windows", "truncate"):
        right = model.scores(texts, long_text=name).argmax(1) == labels
        found[name] = {"right": int(right.sum()), "right_of_long": int(right[long].sum())}
    return found


def behaviour(model: npdistil.Model) -> dict[str, dict[str, int]]:
    """Kind -> expected label -> how many lines there are and how often each label is the answer."""
    lines = (TESTS / "behaviour.tsv").read_text(encoding="utf-8").split("\n")[1:]
    rows = [line.split("\t") for line in lines if line]
    answers = model.predict([text for _, _, text in rows])
    found: dict[str, dict[str, int]] = {}
    for (kind, expected, _), answer in zip(rows, answers, strict=True):
        found.setdefault(kind, Counter())[f"{expected}, answered {answer}"] += 1
    return {kind: dict(sorted(counts.items())) for kind, counts in found.items()}


def plot(after: Array, before: Array, labels: Array, path: Path) -> None:
    figure = Figure(figsize=(7, 3.2), layout="tight")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, logits, name in zip(axes, (before, after), ("before", "after"), strict=True):
        found = bins(logits, labels)
        axis.plot([0.5, 1], [0.5, 1], color="grey", linewidth=1, linestyle="--")
        axis.plot([score for _, score, _ in found], [accuracy for _, _, accuracy in found], marker="o")
        for count, score, accuracy in found:
            axis.annotate(str(count), (score, accuracy), textcoords="offset points", xytext=(5, -11), fontsize=7)
        axis.set(title=f"{name}: error {calibration_error(logits, labels):.3f}", xlabel="mean score")
    axes[0].set_ylabel("share right")
    figure.savefig(path, dpi=80, metadata={"Software": None})


def percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f} %"


def tables(measured: dict[str, Any]) -> str:
    """The measured section of the card."""
    rows, right, same = measured["rows"], measured["right"], measured["same_label_in_both_forms"]
    error, review = measured["calibration_error"], measured["reviews"]
    lines = [
        f"| SST-2 dev, {rows} sentences | as it stands | as people type | same label in both forms |",
        "|---|---|---|---|",
    ]
    for name in same:
        treebank, typed = (right[f"{name}, {form}"] for form in ("treebank", "natural"))
        shares = f"{percent(treebank, rows)} ({treebank}) | {percent(typed, rows)} ({typed})"
        lines.append(f"| {name} | {shares} | {percent(same[name], rows)} ({same[name]}) |")
    both = measured["same_label_in_both_precisions"]
    lines += [
        "",
        f"int8 gives the label of float32 on {both} of {rows} sentences; their logits differ by at most "
        f"{measured['largest_logit_difference_of_precisions']:.2f}. `model.safetensors` has "
        f"{measured['bytes']['model.safetensors'] / 1e6:.1f} MB on disk, with tokenizer and configuration "
        f"{sum(measured['bytes'].values()) / 1e6:.1f} MB.",
        "",
        f"Expected calibration error on dev ({BINS} bins, int8): {error['before']:.3f} before and {error['after']:.3f} "
        f"after the temperature of {measured['temperature']:.2f}, which was fitted on the same sentences; "
        f"{error['after, fitted on the other half']:.3f} where each half of dev has the temperature of the other.",
        "",
        "![Accuracy by score, before and after; the numbers count sentences](reliability.png)",
        "",
        f"| {review['rows']} whole film reviews (IMDB) | right | right of the "
        f"{review['rows_over_512_tokens']} longer than 512 tokens |",
        "|---|---|---|",
    ]
    for name, what in (("windows", "in windows, as npdistil does by itself"), ("truncate", "the first 512 tokens")):
        found, long = review[name], review["rows_over_512_tokens"]
        shares = f"{percent(found['right'], review['rows'])} | {percent(found['right_of_long'], long)}"
        lines.append(f"| {what} | {shares} |")
    lines += [
        "",
        "| kind of text (`tests/behaviour.tsv`) | positive, right | negative, right | neutral, called positive |",
    ]
    lines.append("|---|---|---|---|")
    for kind, counts in measured["behaviour"].items():
        cells = []
        for expected, answer in (("POSITIVE", "POSITIVE"), ("NEGATIVE", "NEGATIVE"), ("neutral", "POSITIVE")):
            of = sum(count for name, count in counts.items() if name.startswith(f"{expected},"))
            cells.append(f"{counts.get(f'{expected}, answered {answer}', 0)} of {of}" if of else "")
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
