"""Run on a target and on the workstation: every artifact's answers to a bundle's evaluation images, on every engine.

python answers.py BUNDLE ROWS OUT.npz
"""

from __future__ import annotations

import sys
import warnings

import numpy as np

from pennyweight import load, open_bundle
from pennyweight.engines import engines_for, is_installed


def main(path: str, rows: str, out: str) -> None:
    bundle = open_bundle(path)
    (images,) = bundle.evaluation().inputs.values()
    answers = {}
    for spec in bundle.manifest.artifacts:
        for engine in filter(is_installed, engines_for(spec.format)):
            with warnings.catch_warnings():
                # A bundle's verdict on an artifact is of no interest here: every one is to answer.
                warnings.simplefilter("ignore")
                with load(bundle, artifact=spec.name, engine=engine) as model:
                    answers[f"{spec.name} {engine} {model.engine.version}"] = model.predict(images[: int(rows)])
    np.savez(out, **answers)


main(*sys.argv[1:])
