"""Pennyweight's data: files in, arrays with a named training and test part out."""

from __future__ import annotations

from .dataset import Dataset, Values, make_dataset, strata, take_rows
from .digits import Digits, LabDigits, load_digits, load_lab_digits
from .quiet import quiet_stderr
from .rows import Rows, StoredRows, piece_rows, pieces
from .sources import load_data
from .split import stratified_sample

__all__ = [
    "Dataset",
    "Digits",
    "LabDigits",
    "Rows",
    "StoredRows",
    "Values",
    "load_data",
    "load_digits",
    "load_lab_digits",
    "make_dataset",
    "piece_rows",
    "pieces",
    "quiet_stderr",
    "strata",
    "stratified_sample",
    "take_rows",
]
