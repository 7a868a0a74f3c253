"""The manifest: what a bundle says of itself, parsed strictly and written canonically.

The value types are NamedTuples, not dataclasses: they are built at import, and a dataclass costs five to
ten times as much there, which a cold start on a Pi would pay. For the same reason annotations aren't postponed here:
each would be compiled once more when its NamedTuple is built.
"""

import hashlib
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Optional

from ._fields import Fields
from .errors import BundleError, IntegrityError

FORMAT = "pennyweight-bundle"
VERSION = 1
MANIFEST_NAME = "manifest.json"
MAX_MANIFEST_BYTES = 8 * 2**20
DTYPES = ("uint8", "int8", "int16", "int32", "int64", "float16", "float32", "bool")
ARTIFACT_FORMATS = ("tflite", "onnx")
VERDICTS = ("pass", "fail", "inconclusive")
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")

JsonObject = dict[str, Any]


class ImagePreparation(NamedTuple):
    """How a picture becomes the model's input.

    ``colour`` is "gray" or "rgb" (the order in training); ``height`` and ``width`` are in pixels; ``resize`` is
    "bilinear" or "nearest", antialiased or not; ``fit`` is "stretch", "crop" (centre) or "pad" with ``pad_value``.
    """

    colour: str
    height: int
    width: int
    resize: str = "bilinear"
    antialias: bool = True
    fit: str = "stretch"
    pad_value: int = 0


class InputSpec(NamedTuple):
    """One input of the model: shape without the batch, dtype, and the range of its values where there is one."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    range: Optional[tuple[float, float]] = None
    image: Optional[ImagePreparation] = None


class OutputSpec(NamedTuple):
    """One output: ``meaning`` is "probabilities", "logits" or "raw"; ``labelling`` "single", "multi" or "none".

    A single-label output of shape (1,) is binary: its one number is the probability of class 1.
    """

    name: str
    shape: tuple[int, ...]
    meaning: str
    labelling: str
    labels: tuple[str, ...] = ()


class Wire(NamedTuple):
    """How one input or output travels inside an artifact.

    ``name`` is the model's name for it, ``tensor`` the file's. Where ``scale`` and ``zero_point`` are set, the
    model's value = scale × (wire value − zero_point), in the model's own units (pixels for an image).
    """

    name: str
    tensor: str
    dtype: str
    scale: Optional[float] = None
    zero_point: Optional[int] = None


class EngineRecord(NamedTuple):
    """What happened when one engine tried an artifact: on which machine, whether it loaded and ran, the verdict."""

    engine: str
    version: str
    machine: str
    loaded: bool
    ran: bool
    verdict: Optional[str]
    reason: str = ""
    figures: Mapping[str, Any] = _NOTHING


class ArtifactSpec(NamedTuple):
    """One model file: its format, precision, wires, operators by type, and how each engine fared with it."""

    name: str
    format: str
    precision: str
    inputs: tuple[Wire, ...]
    outputs: tuple[Wire, ...]
    operators: Mapping[str, int] = _NOTHING
    float_operators: Mapping[str, str] = _NOTHING
    converter: Mapping[str, Any] = _NOTHING
    calibration: Optional[JsonObject] = None
    engines: tuple[EngineRecord, ...] = ()

    def record_for(self, engine: str, version: str, machine: str) -> Optional[EngineRecord]:
        """Give the record made with exactly this engine, version and machine, or None."""
        for record in self.engines:
            if (record.engine, record.version, record.machine) == (engine, version, machine):
                return record
        return None


class FileRecord(NamedTuple):
    """A file's SHA-256 (hexadecimal) and its size in bytes."""

    sha256: str
    size: int


class Gap(NamedTuple):
    """An artifact that was to be made and could not be, and why: the tool's word, with the operator that is missing."""

    artifact: str
    reason: str


class Manifest(NamedTuple):
    """All that a bundle says of itself; see ``docs/bundle.md``."""

    name: str
    created: str
    producer: JsonObject
    source: JsonObject
    inputs: tuple[InputSpec, ...]
    outputs: tuple[OutputSpec, ...]
    files: Mapping[str, FileRecord]
    artifacts: tuple[ArtifactSpec, ...]
    evaluation: Optional[JsonObject] = None
    golden: Mapping[str, Any] = _NOTHING
    gate: Mapping[str, Any] = _NOTHING
    licence: str = ""
    gaps: tuple[Gap, ...] = ()

    def artifact(self, name: str) -> ArtifactSpec:
        """Give the artifact called ``name``; raise BundleError naming those that exist."""
        for spec in self.artifacts:
            if spec.name == name:
                return spec
        known = ", ".join(spec.name for spec in self.artifacts)
        raise BundleError(f"bundle {self.name!r} has no artifact {name!r}; it has {known}")


def plain_json(value: Any) -> Any:
    """Give the value types above as plain dictionaries and lists."""
    if hasattr(value, "_asdict"):
        return {key: plain_json(item) for key, item in value._asdict().items()}
    if isinstance(value, (list, tuple)):
        return [plain_json(item) for item in value]
    if isinstance(value, Mapping):
        return {key: plain_json(item) for key, item in value.items()}
    return value


def canonical_digest(content: JsonObject) -> str:
    """Give the SHA-256 of ``content`` without its own "sha256", as canonical JSON (sorted keys, no spaces, UTF-8)."""
    rest = {key: value for key, value in content.items() if key != "sha256"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def dump_manifest(manifest: Manifest) -> bytes:
    """Write the manifest as UTF-8 JSON that ends with the digest of itself."""
    content = {"format": FORMAT, "version": VERSION, **plain_json(manifest)}
    content["sha256"] = canonical_digest(content)
    return (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def parse_manifest(raw: bytes, where: str) -> Manifest:
    """Parse and check a manifest; ``where`` names it in errors.

    Raises:
        BundleError: it is no manifest, of a later version, too large, or a field is missing or of the wrong type.
        IntegrityError: its digest isn't that of its content.
    """
    content = _decode(raw, where)
    if content.get("format") != FORMAT:
        raise BundleError(f"{where}: this is no Pennyweight manifest; export the model again")
    version = content.get("version")
    if version != VERSION or isinstance(version, bool):
        raise BundleError(
            f"{where}: bundle version {str(version)[:20]}, this runtime reads {VERSION}; update pennyweight"
        )
    if content.get("sha256") != canonical_digest(content):
        raise IntegrityError(f"{where}: the manifest was changed after it was written; copy the bundle again")
    manifest = _manifest(Fields(content, where))
    _check_references(manifest, where)
    return manifest


def is_file_name(name: str) -> bool:
    """Say whether ``name`` may be a file of a bundle: plain letters, digits, dot, dash, underscore; no folder."""
    return 0 < len(name) <= 100 and name[0] in _LETTERS and _LETTERS.union("._-").issuperset(name)


def _decode(raw: bytes, where: str) -> JsonObject:
    if len(raw) > MAX_MANIFEST_BYTES:
        raise BundleError(
            f"{where}: a manifest of {len(raw)} bytes (limit {MAX_MANIFEST_BYTES}); this is no bundle of ours"
        )
    try:
        content = json.loads(raw.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{where}: the manifest is not readable JSON; copy the bundle again") from error
    if not isinstance(content, dict):
        raise BundleError(f"{where}: this is no Pennyweight manifest; export the model again")
    return content


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def _manifest(fields: Fields) -> Manifest:
    return Manifest(
        name=fields.text("name"),
        created=fields.text("created"),
        producer=fields.mapping("producer"),
        source=fields.mapping("source"),
        inputs=tuple(_input(item) for item in fields.objects("inputs")),
        outputs=tuple(_output(item) for item in fields.objects("outputs")),
        files={
            name: FileRecord(item.text("sha256"), item.whole("size")) for name, item in fields.named_objects("files")
        },
        artifacts=tuple(_artifact(item) for item in fields.objects("artifacts")),
        evaluation=fields.optional_mapping("evaluation"),
        golden=fields.mapping("golden"),
        gate=fields.mapping("gate"),
        licence=fields.text("licence"),
        gaps=tuple(Gap(item.text("artifact"), item.text("reason")) for item in fields.objects("gaps", [])),
    )


def _input(fields: Fields) -> InputSpec:
    image = fields.optional_object("image")
    return InputSpec(
        name=fields.text("name"),
        shape=fields.shape("shape"),
        dtype=fields.choice("dtype", DTYPES),
        range=fields.optional_pair("range"),
        image=_image(image) if image else None,
    )


def _image(fields: Fields) -> ImagePreparation:
    return ImagePreparation(
        colour=fields.choice("colour", ("gray", "rgb")),
        height=fields.whole("height", least=1),
        width=fields.whole("width", least=1),
        resize=fields.choice("resize", ("bilinear", "nearest")),
        antialias=fields.flag("antialias"),
        fit=fields.choice("fit", ("stretch", "crop", "pad")),
        pad_value=fields.whole("pad_value"),
    )


def _output(fields: Fields) -> OutputSpec:
    return OutputSpec(
        name=fields.text("name"),
        shape=fields.shape("shape"),
        meaning=fields.choice("meaning", ("probabilities", "logits", "raw")),
        labelling=fields.choice("labelling", ("single", "multi", "none")),
        labels=fields.texts("labels"),
    )


def _wire(fields: Fields) -> Wire:
    return Wire(
        name=fields.text("name"),
        tensor=fields.text("tensor"),
        dtype=fields.choice("dtype", DTYPES),
        scale=fields.optional_number("scale"),
        zero_point=fields.optional_whole("zero_point"),
    )


def _artifact(fields: Fields) -> ArtifactSpec:
    return ArtifactSpec(
        name=fields.text("name"),
        format=fields.choice("format", ARTIFACT_FORMATS),
        precision=fields.text("precision"),
        inputs=tuple(_wire(item) for item in fields.objects("inputs")),
        outputs=tuple(_wire(item) for item in fields.objects("outputs")),
        operators=fields.mapping("operators"),
        float_operators=fields.mapping("float_operators"),
        converter=fields.mapping("converter"),
        calibration=fields.optional_mapping("calibration"),
        engines=tuple(_engine(item) for item in fields.objects("engines")),
    )


def _engine(fields: Fields) -> EngineRecord:
    return EngineRecord(
        engine=fields.text("engine"),
        version=fields.text("version"),
        machine=fields.text("machine"),
        loaded=fields.flag("loaded"),
        ran=fields.flag("ran"),
        verdict=fields.optional_choice("verdict", VERDICTS),
        reason=fields.text("reason"),
        figures=fields.mapping("figures"),
    )


def _check_references(manifest: Manifest, where: str) -> None:
    for name in manifest.files:
        if not is_file_name(name) or name == MANIFEST_NAME:
            raise BundleError(f"{where}: {name[:60]!r} can't be a bundle's file; export the model again")
    inputs, outputs = [spec.name for spec in manifest.inputs], [spec.name for spec in manifest.outputs]
    if not inputs or not outputs or not manifest.artifacts:
        raise BundleError(f"{where}: a bundle needs an input, an output and an artifact; export the model again")
    for artifact in manifest.artifacts:
        if artifact.name not in manifest.files:
            raise BundleError(f"{where}: the artifact {artifact.name!r} isn't among its files; export the model again")
        for wires, names in ((artifact.inputs, inputs), (artifact.outputs, outputs)):
            if sorted(wire.name for wire in wires) != sorted(names):
                raise BundleError(f"{where}: the artifact {artifact.name!r} doesn't wire {', '.join(names)}")
    for spec in manifest.outputs:
        classes = 2 if spec.shape == (1,) and spec.labelling == "single" else (spec.shape or (0,))[-1]
        if spec.labels and len(spec.labels) != classes:
            raise BundleError(f"{where}: output {spec.name!r} has {classes} classes and {len(spec.labels)} labels")
