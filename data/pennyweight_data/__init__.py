"""Pennyweight's data: files in, arrays with a named training and test part out."""

from __future__ import annotations

from .dataset import Dataset, make_dataset
from .digits import Digits, LabDigits, load_digits, load_lab_digits
from .quiet import quiet_stderr
from .rows import Rows, picked, pieces
from .sources import load_data
from .split import stratified_sample

__all__ = [
    "Dataset",
    "Digits",
    "LabDigits",
    "Rows",
    "load_data",
    "load_digits",
    "load_lab_digits",
    "make_dataset",
    "picked",
    "pieces",
    "quiet_stderr",
    "stratified_sample",
]
