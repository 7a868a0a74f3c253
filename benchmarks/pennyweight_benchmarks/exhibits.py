"""The report's sections about the model itself: confusion, flipped samples, recall per class, layers, training."""

from __future__ import annotations

from collections.abc import Sequence

from . import charts
from .documents import EVIDENCE, HISTORY, LAYERS, Document, JsonObject
from .html import Content, Html, element, picture, table
from .runs import Run, row_name
from .sections import chart, section

FLIP_CLASSES = {"won": "good", "lost": "bad"}


def confusion_section(documents: Sequence[Document]) -> Html:
    """Set the confusion matrices side by side: the original's, and each artifact's that differs from it."""
    parts: list[Content] = []
    for document in _of(documents, EVIDENCE):
        content = document.content
        if content["original"]["confusion"] is None:
            continue
        kept: list[tuple[list[str], list[list[int]]]] = [(["the original"], content["original"]["confusion"])]
        for row in content["rows"]:
            if row.get("confusion") is None:
                continue
            same = next((k for k, (_, other) in enumerate(kept) if other == row["confusion"]), None)
            if same is None:
                kept.append(([row_name(row)], row["confusion"]))
            else:
                kept[same][0].append(row_name(row))
        tables = [_confusion(names, counts, content["labels"], kept[0][1]) for names, counts in kept]
        parts.append(element("div", *tables, class_="pair"))
    note = (
        "Rows are the true labels, columns the answers; the darker, the larger its share of the row. "
        "An outlined cell differs from the original's."
    )
    return section("Confusion", *parts, note=note)


def flips_section(documents: Sequence[Document]) -> Html:
    """Show the samples that an artifact answers unlike the original, with both probabilities."""
    parts: list[Content] = []
    for document in _of(documents, EVIDENCE):
        content = document.content
        if content.get("reason"):
            parts.append(element("p", f"{content['bundle']}: {content['reason']}."))
            continue
        flips, flipped = content["flips"], int(content.get("flipped", len(content["flips"])))
        if not flips:
            words = f"No artifact answers any of the {content['samples']:,} samples unlike the original."
            parts.append(element("p", words))
            continue
        some = f"{len(flips)} of {flipped:,}" if len(flips) < flipped else f"all {flipped:,}"
        words = f"{some} flipped samples, of {content['samples']:,}; first those that most artifacts answer otherwise."
        parts.append(element("p", words, class_="note"))
        parts.append(element("ul", *(_flip(one) for one in flips), class_="flips"))
    return section("Flipped samples", *parts)


def classes_section(runs: Sequence[Run]) -> Html:
    """Give recall per class beside the original's, for rows that were measured with labels."""
    parts: list[Content] = []
    for run in runs:
        rows = [row for row in run.rows if (row["parity"]["figures"] or {}).get("classes") and _changed(row)]
        if not rows:
            continue
        first = rows[0]["parity"]["figures"]["classes"]
        cells = []
        for k, one in enumerate(first):
            changes = [_points(row["parity"]["figures"]["classes"], k) for row in rows]
            cells.append([one["label"], f"{one['samples']:,}", f"{100 * one['original']:.2f}", *changes])
        header = ["class", "samples", "original %", *(row_name(row) for row in rows)]
        parts.append(table(header, cells, caption=f"{run.device}: recall, and the change in points"))
    note = "Recall is the share of a class's samples that are found. Rows that change no class are left out."
    return section("Recall per class", *parts, note=note)


def model_section(documents: Sequence[Document]) -> Html:
    """Draw the loss while training, and the error that quantisation brings, layer by layer."""
    return section("Training and layers", *_training(documents), *_layers(documents), class_="charts")


def _layers(documents: Sequence[Document]) -> list[Html]:
    drawn = []
    for number, document in enumerate(_of(documents, LAYERS)):
        rows = document.content["rows"]
        for index, artifact in enumerate(dict.fromkeys(row["artifact"] for row in rows)):
            own = [row for row in rows if row["artifact"] == artifact]
            title = f"Relative error per layer: {artifact}"
            found = [charts.Bar(row["layer"], [("e", 100 * row["relative_error"])], _percent(row)) for row in own]
            text = f"{title}: " + "; ".join(f"{row['layer']} {_percent(row)}" for row in own)
            with charts.drawing():
                figure = charts.svg(charts.bars(found, "% of the output's own spread"), f"layers{number}-{index}", text)
            cells = [[row["layer"], _percent(row)] for row in own]
            drawn.append(chart(figure, title, table(["layer", "relative error"], cells, caption=title)))
    return drawn


def numbers_section(runs: Sequence[Run]) -> Html:
    """Give the differences of outputs that name no label."""
    cells = []
    for run in runs:
        for row in run.rows:
            for output in (row["parity"]["figures"] or {}).get("outputs", []):
                figures = [output.get(name) for name in ("relative_error", "snr_db", "cosine", "largest")]
                texts = ["" if one is None else f"{one:.4g}" for one in figures]
                cells.append([row_name(row), str(output.get("name", "")), *texts, row["parity"]["status"]])
    header = ["row", "output", "relative error", "SNR, dB", "cosine", "largest", "parity"]
    return section("Outputs", table(header, cells, 2, caption="beside the original's outputs") if cells else None)


def _training(documents: Sequence[Document]) -> list[Html]:
    drawn = []
    for index, document in enumerate(_of(documents, HISTORY)):
        history = document.content
        losses = history["loss"]
        epochs = list(range(1, len(losses) + 1))
        title = f"Loss while training: {history.get('recipe', 'the model')}, {len(losses)} epochs"
        text = f"{title}, from {losses[0]:.4f} to {losses[-1]:.4f}, logarithmic"
        with charts.drawing():
            lines = charts.lines([charts.Series("loss", epochs, losses)], "epoch", "loss (cross-entropy)", ("y",))
            figure = charts.svg(lines, f"loss{index}", text)
        accuracies = history.get("accuracy") or [None] * len(losses)
        cells = [
            [str(epoch), f"{loss:.4f}", "" if accuracy is None else f"{100 * accuracy:.2f}"]
            for epoch, loss, accuracy in zip(epochs, losses, accuracies, strict=False)
        ]
        header = ["epoch", "loss", "accuracy % while training"]
        drawn.append(chart(figure, title, table(header, cells, caption=title)))
    return drawn


def _of(documents: Sequence[Document], kind: str) -> list[Document]:
    return [document for document in documents if document.kind == kind]


def _confusion(names: Sequence[str], counts: list[list[int]], labels: Sequence[str], original: list[list[int]]) -> Html:
    rows = []
    worst = max((_share(line, j) for i, line in enumerate(counts) for j in range(len(line)) if i != j), default=0)
    for i, line in enumerate(counts):
        cells = [_confusion_cell(line, i, j, worst, original[i][j]) for j in range(len(line))]
        rows.append(element("tr", element("th", labels[i], scope="row"), *cells))
    head = element("tr", element("td"), *(element("th", label, scope="col") for label in labels))
    wrong = sum(sum(line) for line in counts) - sum(line[i] for i, line in enumerate(counts))
    alike = f"; the same: {', '.join(names[1:])}" if len(names) > 1 else ""
    caption = element("caption", element("strong", names[0]), f": {wrong:,} wrong{alike}")
    whole = element("table", caption, element("thead", head), element("tbody", *rows), class_="confusion")
    return element("div", whole, class_="scroll", tabindex="0", role="region", aria_label=f"confusion of {names[0]}")


def _confusion_cell(line: list[int], i: int, j: int, worst: float, original: int) -> Html:
    right, count = i == j, line[j]
    if not count and count == original:
        return element("td")
    # Errors are rare: on the scale of the right answers they would all look white.
    strength = _share(line, j) * 0.55 if right else 0.1 + 0.7 * _share(line, j) / worst if worst else 0
    style = f"--strength:{100 * strength:.0f}%"
    words = f"{'right' if right else 'wrong'}{'' if count == original else ' changed'}"
    title = None if count == original else f"the original: {original}"
    return element("td", str(count), class_=words, style=style, title=title)


def _share(line: list[int], column: int) -> float:
    return line[column] / max(sum(line), 1)


def _flip(flip: JsonObject) -> Html:
    label, (before, certainty) = flip.get("label"), flip["original"]
    image = picture(flip.get("picture"), f"sample {flip['index']}" + (f", a {label}" if label is not None else ""))
    right = label is not None and before == label
    kinds = {"won" if one["answer"][0] == label else "lost" if right else "other" for one in flip["answers"]}
    kind = next(iter(kinds)) if len(kinds) == 1 else "other"
    words = {"won": "won", "lost": "lost", "other": "both wrong" if label is not None else "changed"}[kind]
    # Engines of one artifact mostly agree, so the answers are said once with all who give them.
    said: dict[tuple[str, float], list[str]] = {}
    for one in flip["answers"]:
        said.setdefault((one["answer"][0], round(float(one["answer"][1]), 2)), []).append(row_name(one))
    answers = [
        element("li", f"{who[0] if len(who) == 1 else _together(who)}: ", _answer(text, probability))
        for (text, probability), who in said.items()
    ]
    truth = element("p", "label ", element("b", label)) if label is not None else None
    badge = element("span", words, class_=f"badge {FLIP_CLASSES.get(kind, 'open')}")
    original = element("li", "original: ", _answer(before, certainty))
    head = element("div", element("p", badge), truth)
    return element("li", element("div", image, head, class_="head"), element("ul", original, *answers))


def _together(names: Sequence[str]) -> str:
    """Name rows in short: one artifact's engines after it, many rows by their number."""
    artifacts = {name.partition(" on ")[0] for name in names}
    if len(artifacts) > 1:
        return f"{len(names)} rows"
    return f"{artifacts.pop()} on {len(names)} engines"


def _answer(label: str, probability: float) -> Html:
    return element("b", f"{label}\u00a0·\u00a0{100 * float(probability):.0f}\u00a0%")


def _changed(row: JsonObject) -> bool:
    return any(one["recall"] != one["original"] for one in row["parity"]["figures"]["classes"])


def _points(classes: Sequence[JsonObject], index: int) -> str:
    if index >= len(classes):
        return ""
    change = 100 * (classes[index]["recall"] - classes[index]["original"])
    return f"{change:+.2f}" if abs(change) >= 0.005 else "0"


def _percent(row: JsonObject) -> str:
    return f"{100 * row['relative_error']:.3g} %"
