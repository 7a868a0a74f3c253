"""The model card: README.md of a bundle, generated from its manifest."""

from __future__ import annotations

from pennyweight.manifest import ArtifactSpec, EngineRecord, InputSpec, Manifest, OutputSpec
from pennyweight.tables import markdown_table
from pennyweight.verdicts import MAX_RELATIVE_ERROR
from pennyweight_data import Dataset

CARD_NAME = "README.md"
# What is said of outputs that name no single class, and what the figures call it.
NUMBERS = {"relative error": "relative_error", "SNR dB": "snr_db", "cosine": "cosine", "largest difference": "largest"}


def model_card(manifest: Manifest, data: Dataset) -> str:
    """Write the card: what the model is, what it was measured on, how well each artifact does, and its limits."""
    sections = [
        f"# {manifest.name}",
        _what(manifest),
        "## Data",
        _data(manifest, data),
        "## How well it does",
        _accuracy(manifest),
        "## Limits",
        _limits(manifest, data),
        "## Use",
        f'```python\nfrom pennyweight import load\n\nmodel = load("{manifest.name}")  # the path of this bundle\n```',
        "## Licence",
        f"Of the data: {data.licence}. The model's own licence is its author's to state.",
    ]
    return "\n\n".join(sections) + "\n"


def _what(manifest: Manifest) -> str:
    source, tool = manifest.source, manifest.producer["pennyweight"]
    lines = [
        f"A Keras model of {source['parameters']:,} parameters, exported {manifest.created} by Pennyweight {tool} from "
        f"`{source['name']}` (SHA-256 of its {source['digest_of']}: `{source['sha256'][:16]}…`).",
        "",
        *map(_input, manifest.inputs),
        *map(_output, manifest.outputs),
    ]
    for given in manifest.inputs:
        if given.image:
            kind = "antialiased " if given.image.antialias else ""
            lines.append(
                f"- Pictures become {given.image.colour}, resized {kind}{given.image.resize}, {given.image.fit}"
            )
    for output in manifest.outputs:
        if output.labels:
            whose = f" of `{output.name}`" if len(manifest.outputs) > 1 else ""
            lines.append(f"- Labels{whose}: {', '.join(output.labels)}")
    return "\n".join(lines)


def _input(given: InputSpec) -> str:
    values = f", values {given.range[0]:g} to {given.range[1]:g}" if given.range else ""
    return f"- Input `{given.name}`: {given.dtype} {_shape(given.shape)}{values}"


def _output(output: OutputSpec) -> str:
    return f"- Output `{output.name}`: float32 {_shape(output.shape)}, {output.meaning}"


def _data(manifest: Manifest, data: Dataset) -> str:
    used = manifest.evaluation["samples"] if manifest.evaluation else 0
    return (
        f"`{data.name}`: {data.train_rows:,} training and {data.test_rows:,} test samples ({data.split_note}). "
        f"Measured on {used:,} test samples, none of which calibrated the quantised artifacts."
    )


def names_one_class(manifest: Manifest) -> bool:
    """Say whether the model's one output names one class of a sample."""
    output = manifest.outputs[0]
    return len(manifest.outputs) == 1 and output.labelling == "single" and len(output.shape) == 1


def _accuracy(manifest: Manifest) -> str:
    numbers = not names_one_class(manifest)
    header = ["artifact", "engine", "bytes"]
    header += list(NUMBERS) if numbers else ["accuracy", "interval", "agreement"]
    rows = []
    for spec in manifest.artifacts:
        for record in spec.engines:
            cells = _number_cells(record) if numbers else _class_cells(record)
            size = f"{manifest.files[spec.name].size:,}" if spec.name in manifest.files else ""
            rows.append([spec.name, f"{record.engine} {record.version}", size, *cells, _verdict(record)])
    original = _original(manifest.artifacts)
    return f"{original}{markdown_table([*header, 'parity'], rows, left=2)}\n\n{_gate(manifest, numbers)}"


def _gate(manifest: Manifest, numbers: bool) -> str:
    gate = manifest.gate
    if numbers:
        return (
            "The relative error is the RMS of the difference over the standard deviation of the original's answers; "
            f"parity allows {gate.get('max_relative_error', MAX_RELATIVE_ERROR):g}. SNR is the same in decibels; the "
            "cosine is between both answers with the original's mean taken off. Several outputs stand in their order."
        )
    return (
        f"Parity allows a drop of {100 * gate['max_drop']:g} points at {gate['confidence']:.0%} confidence. "
        "Intervals are Wilson's; agreement is with the original model's answers."
    )


def _original(artifacts: tuple[ArtifactSpec, ...]) -> str:
    for spec in artifacts:
        for record in spec.engines:
            figures = record.figures
            if figures.get("original_accuracy") is not None:
                return (
                    f"The original Keras model: {figures['original_accuracy']:.2%} of {figures['samples']:,} "
                    f"({_interval(figures['original_interval'])}).\n\n"
                )
    return ""


def _class_cells(record: EngineRecord) -> list[str]:
    figures = record.figures
    if figures.get("accuracy") is None:
        return ["", "", f"{figures['agreement']:.2%}" if "agreement" in figures else ""]
    return [f"{figures['accuracy']:.2%}", _interval(figures["accuracy_interval"]), f"{figures['agreement']:.2%}"]


def _number_cells(record: EngineRecord) -> list[str]:
    return number_cells(record) + [""] * (0 if record.figures else len(NUMBERS))


def number_cells(record: EngineRecord) -> list[str]:
    """Give the figures of ``NUMBERS``, of several outputs in their order; an exact match has no SNR."""
    outputs = record.figures.get("outputs", ())
    columns = [[output.get(key) for output in outputs] for key in NUMBERS.values()] if outputs else []
    return [", ".join("–" if value is None else f"{value:.3g}" for value in column) for column in columns]


def _interval(interval: list[float]) -> str:
    return f"{interval[0]:.2%}–{interval[1]:.2%}"


def _verdict(record: EngineRecord) -> str:
    return record.verdict or f"not run: {record.reason}"


def _limits(manifest: Manifest, data: Dataset) -> str:
    engines = sorted({record.machine for spec in manifest.artifacts for record in spec.engines})
    lines = [
        f"- The figures hold for samples like those of `{data.name}`; other cameras or other light may do worse.",
        "- It always names one of its labels, also for an input that shows none of them."
        if names_one_class(manifest)
        else "- Its outputs are numbers; whether an input is like the training data, they don't say.",
        f"- Verdicts were made on {', '.join(engines) or 'no machine'}; elsewhere `pennyweight verify` and "
        "`pennyweight parity` make them anew.",
        "- Not meant for decisions about people, nor where a wrong answer does harm.",
    ]
    return "\n".join(lines)


def _shape(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, shape))})"
