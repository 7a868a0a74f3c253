"""Write samples as the runtime reads them, piece by piece."""

from __future__ import annotations

import zipfile
from typing import IO, Any

import numpy as np

from pennyweight.samples import Samples
from pennyweight_data import pieces


def write_samples(file: IO[bytes], samples: Samples) -> None:
    """Write what ``pack_samples`` gives, to the byte, with only a piece of each array in memory at a time."""
    arrays = {f"inputs/{name}": array for name, array in samples.inputs.items()}
    arrays.update({f"outputs/{name}": array for name, array in samples.outputs.items()})
    if samples.labels is not None:
        arrays["labels"] = samples.labels
    layout: Any = np.lib.format
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                header = {"descr": layout.dtype_to_descr(array.dtype), "fortran_order": False, "shape": array.shape}
                layout.write_array_header_1_0(member, header)
                for piece in pieces(array):
                    member.write(np.ascontiguousarray(piece).tobytes())
