"""Pennyweight's training: a recipe and a data set in, a trained Keras model and its history out."""

from __future__ import annotations

from .history import History
from .recipes import RECIPES, Recipe
from .training import Trained, count_errors, train

__all__ = ["RECIPES", "History", "Recipe", "Trained", "count_errors", "train"]
