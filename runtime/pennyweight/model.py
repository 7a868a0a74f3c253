"""A loaded model: checks its inputs once, speaks the wire's language, and answers."""

from __future__ import annotations

import weakref
from _thread import allocate_lock  # threading's own Lock, without the rest of threading at a cold start
from collections.abc import Mapping
from typing import Any, Callable, Union, overload

import numpy as np

from .classification import Label, binary, fast_classify, fast_prepare, highest
from .engines import Engine, first_line
from .errors import EngineError, InputError, OutputKindError
from .inputs import admit_batch, admit_one
from .manifest import ArtifactSpec, Manifest, OutputSpec
from .quantization import from_wire, to_wire

Array = Any  # np.ndarray[Any, Any] can't be subscripted at run time on numpy 1.21
Inputs = Union[Array, Mapping[str, Array]]

# A batch is cut so that one piece's inputs stay below this; an engine's buffers are a small multiple of them.
PIECE_BYTES = 16 * 2**20
PIECE_ROWS = 1024


class Model:
    """One artifact on one engine. Make it with ``load``.

    It may be called from several threads: calls take turns. For parallel inference give each thread its own model.
    """

    def __init__(self, manifest: Manifest, artifact: ArtifactSpec, engine: Engine, threads: int, reason: str) -> None:
        self.manifest = manifest
        self.artifact = artifact
        self.engine = engine
        self.threads = threads
        self.reason = reason
        self._lock = allocate_lock()
        self._inputs = {spec.name: spec for spec in manifest.inputs}
        self._outputs = {spec.name: spec for spec in manifest.outputs}
        self._wires_in = {wire.name: wire.tensor for wire in artifact.inputs}
        self._wires_out = {wire.name: wire.tensor for wire in artifact.outputs}
        self._to = {wire.name: to_wire(self._inputs[wire.name], wire) for wire in artifact.inputs}
        self._from = {wire.name: from_wire(self._outputs[wire.name], wire) for wire in artifact.outputs}
        self._open = True
        self._install_fast_classify()

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes' names in the order of the output; raises OutputKindError where there is no single label."""
        spec = self._single_output()
        if spec.labels:
            return spec.labels
        return tuple(str(index) for index in range(2 if spec.shape == (1,) else spec.shape[-1]))

    def predict(self, images: Inputs) -> Any:
        """Answer a batch.

        Args:
            images: (n, *shape) in the input's dtype; for several inputs a mapping from name to such arrays.

        Returns:
            (n, *output shape) float32: probabilities for a classifier; for several outputs a dictionary by name.

        Raises:
            InputError: a shape, dtype or value that the model can't take.
            EngineError: the engine failed.
        """
        arrays = admit_batch(images, self._inputs)
        self._require_open()
        rows = len(next(iter(arrays.values())))
        step = self._piece_rows(arrays)
        with self._lock:
            parts = [self._piece(arrays, start, min(start + step, rows)) for start in range(0, rows, step)]
        results = {name: self._joined(name, parts) for name in self._outputs}
        return results if len(results) > 1 else next(iter(results.values()))

    @overload
    def classify(self, image: Inputs, top: None = None, colour: str | None = None) -> Label: ...

    @overload
    def classify(self, image: Inputs, top: int, colour: str | None = None) -> list[Label]: ...

    def classify(self, image: Inputs, top: int | None = None, colour: str | None = None) -> Label | list[Label]:
        """Name one image's class.

        Args:
            image: one input of the model's shape and dtype, without a batch axis; with ``colour`` any picture.
            top: give the ``top`` most probable classes as a list instead.
            colour: what the picture's channels are; it is prepared as ``prepare`` does. Without it never.

        Returns:
            (label, probability). A tie takes the lowest index. A binary output says class 1 from 0.5 on.

        Raises:
            InputError: a shape, dtype or value that the model can't take.
            OutputKindError: the model's output has no single label.
            EngineError: the engine failed.
        """
        # A model with one input answers plain calls through ``fast_classify``, which stands before this method.
        if colour is not None:
            image = self.prepare(image, colour)
        if top is not None:
            return self._ranked(image, top)
        spec = self._single_output()
        name_of = binary(self.labels) if spec.shape == (1,) else highest(self.labels)
        return name_of(self._one(image))

    def prepare(self, image: Array, colour: str) -> Array:
        """Turn a picture or camera frame into this model's input, as the manifest says.

        Args:
            image: uint8 (H, W), (H, W, 3) or (H, W, 4), any strides.
            colour: "gray", "rgb", "bgr", "rgba" or "bgra": what its channels are.

        Raises:
            UsageError: an unknown colour, or a model that takes no single image.
            InputError: pixels whose shape or dtype doesn't fit the colour.
        """
        from .prepare import prepare

        return prepare(image, colour, self.manifest.inputs[0])

    def describe(self) -> dict[str, Any]:
        """Say which artifact, engine and number of threads answer, and why they were chosen."""
        return {
            "bundle": self.manifest.name,
            "artifact": self.artifact.name,
            "precision": self.artifact.precision,
            "engine": self.engine.name,
            "engine_version": self.engine.version,
            "threads": self.threads,
            "reason": self.reason,
        }

    def steps(self) -> tuple[Callable[[Any], Any], Callable[[Any], Any], Callable[[Any], Any]]:
        """Give what one answer is made of, for measuring: prepare, run and finish, each taking what the last gave.

        The first takes one sample, as ``classify`` does; the last gives the label, or the numbers by output.
        """
        parts = self._fast_parts()
        if parts is not None:
            spec, convert, run, finish = parts
            return fast_prepare(spec, convert), run, finish

        def prepare(sample: Any) -> dict[str, Array]:
            feed = {}
            for name, array in admit_one(sample, self._inputs).items():
                to = self._to[name]
                feed[self._wires_in[name]] = np.ascontiguousarray(array[None] if to is None else to(array[None]))
            return feed

        def finish_all(results: dict[str, Array]) -> dict[str, Array]:
            answers = {}
            for name, tensor in self._wires_out.items():
                end = self._from[name]
                answers[name] = results[tensor] if end is None else end(results[tensor])
            return answers

        return prepare, self.engine.bind(1), finish_all

    def close(self) -> None:
        """Let go of the engine; the model can't be used afterwards."""
        with self._lock:
            self.__dict__.pop("classify", None)
            self._open = False
            self.engine.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<pennyweight.Model {self.manifest.name}: {self.artifact.name} on {self.engine.name}>"

    def _require_open(self) -> None:
        if not self._open:
            raise InputError("this model was closed; load it again")

    def _single_output(self) -> OutputSpec:
        for spec in self._outputs.values():
            if len(self._outputs) == 1 and spec.labelling == "single" and len(spec.shape) == 1:
                return spec
        raise OutputKindError(f"{self.manifest.name}: its output has no single label to name; use predict")

    def _ranked(self, image: Inputs, top: int) -> list[Label]:
        labels, row = self.labels, self._one(image)[0]
        if row.shape == (1,):
            row = np.array([1 - row[0], row[0]], np.float32)
        order = np.argsort(-row, kind="stable")[: max(int(top), 0)]
        return [(labels[index], float(row[index])) for index in order]

    def _install_fast_classify(self) -> None:
        parts = self._fast_parts()
        if parts is not None:
            # An attribute of the instance goes before the class's method: one call less for every image.
            wanted, convert, run, finish = parts
            self.__dict__["classify"] = fast_classify(wanted, convert, run, finish, self._lock, self._general())

    def _fast_parts(self) -> Any:
        """Give the one input, its conversion, the engine's call and what names its answer; None for other models."""
        spec = self.manifest.outputs[0]
        if len(self._inputs) > 1 or len(self._outputs) > 1 or spec.labelling != "single" or len(spec.shape) != 1:
            return None
        ((name, wanted),) = self._inputs.items()
        run, convert = self.engine.bind_one(1), self._from[spec.name]
        name_of = binary(self.labels) if spec.shape == (1,) else highest(self.labels)
        finish = name_of if convert is None else lambda result: name_of(convert(result))
        return wanted, self._to[name], run, finish

    def _general(self) -> Callable[[Any, Any, Any], Any]:
        # A weak reference, as a cycle would keep the engine's buffers until the garbage collector comes round.
        this = weakref.ref(self)

        def general(image: Any, top: Any, colour: Any) -> Any:
            model = this()
            if model is None:
                raise InputError("this model was closed; load it again")
            if colour is not None and top is None:
                return model.classify(model.prepare(image, colour))
            return Model.classify(model, image, top, colour)

        return general

    def _one(self, inputs: Inputs) -> Array:
        answer = self.predict({name: array[None] for name, array in admit_one(inputs, self._inputs).items()})
        return next(iter(answer.values())) if isinstance(answer, dict) else answer

    def _piece_rows(self, arrays: dict[str, Array]) -> int:
        if self.engine.inputs[0].shape[:1] == (1,):
            return 1  # a file with a fixed batch
        one = sum(array[:1].nbytes for array in arrays.values()) or 1
        return int(max(1, min(PIECE_ROWS, PIECE_BYTES // one)))

    def _piece(self, arrays: dict[str, Array], start: int, stop: int) -> dict[str, Array]:
        feed: dict[str, Array] = {}
        for name, array in arrays.items():
            part, convert = array[start:stop], self._to[name]
            feed[self._wires_in[name]] = np.ascontiguousarray(part if convert is None else convert(part))
        results = self._run(feed, stop - start)
        answers = {}
        for name, tensor in self._wires_out.items():
            finish = self._from[name]
            answers[name] = results[tensor] if finish is None else finish(results[tensor])
        return answers

    def _run(self, feed: dict[str, Array], rows: int) -> dict[str, Array]:
        try:
            return self.engine.bind(rows)(feed)
        except Exception as error:
            raise EngineError(
                f"{self.engine.name} failed on {self.artifact.name} with {rows} inputs: {first_line(error)}"
            ) from error

    def _joined(self, name: str, parts: list[dict[str, Array]]) -> Array:
        if len(parts) == 1:
            return parts[0][name]
        if not parts:
            return np.zeros((0, *self._outputs[name].shape), np.float32)
        return np.concatenate([part[name] for part in parts])
