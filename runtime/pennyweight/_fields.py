"""Typed reading of a JSON object: each method gives one field or raises a BundleError that names it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from .errors import BundleError


class Fields:
    """One JSON object and where it stands."""

    def __init__(self, content: dict[str, Any], where: str) -> None:
        self._content = content
        self._where = where

    def _fail(self, key: str, wanted: str) -> NoReturn:
        raise BundleError(f"{self._where}: field {key!r} must be {wanted}; export the model again")

    def text(self, key: str) -> str:
        """Give a string."""
        value = self._content.get(key)
        if not isinstance(value, str):
            self._fail(key, "a text")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """Give a list of strings."""
        value = self._content.get(key)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self._fail(key, "a list of texts")
        return tuple(value)

    def flag(self, key: str) -> bool:
        """Give a boolean."""
        value = self._content.get(key)
        if not isinstance(value, bool):
            self._fail(key, "true or false")
        return value

    def whole(self, key: str, least: int = 0) -> int:
        """Give an integer of at least ``least``."""
        value = self._content.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 2**63:
            self._fail(key, f"a whole number of at least {least}")
        return value

    def optional_whole(self, key: str) -> int | None:
        """Give an integer or None."""
        value = self._content.get(key)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or abs(value) >= 2**31):
            self._fail(key, "a whole number or null")
        return value

    def optional_number(self, key: str) -> float | None:
        """Give a finite number or None."""
        value = self._content.get(key)
        return None if value is None else self._number(key, value)

    def optional_pair(self, key: str) -> tuple[float, float] | None:
        """Give two finite numbers or None."""
        value = self._content.get(key)
        if value is None:
            return None
        if not isinstance(value, list) or len(value) != 2:
            self._fail(key, "two numbers or null")
        return self._number(key, value[0]), self._number(key, value[1])

    def _number(self, key: str, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > 1e300 or math.isnan(value):
            self._fail(key, "a finite number")
        return float(value)

    def shape(self, key: str) -> tuple[int, ...]:
        """Give a list of sizes, each at least 1."""
        value = self._content.get(key)
        if not isinstance(value, list) or not all(
            isinstance(item, int) and not isinstance(item, bool) and 0 < item < 2**31 for item in value
        ):
            self._fail(key, "a list of sizes")
        return tuple(value)

    def choice(self, key: str, allowed: Sequence[str]) -> str:
        """Give a string that is among ``allowed``."""
        value = self.text(key)
        if value not in allowed:
            self._fail(key, f"one of {', '.join(allowed)}")
        return value

    def optional_choice(self, key: str, allowed: Sequence[str]) -> str | None:
        """Give a string that is among ``allowed``, or None."""
        return None if self._content.get(key) is None else self.choice(key, allowed)

    def mapping(self, key: str) -> dict[str, Any]:
        """Give a JSON object as it stands."""
        value = self._content.get(key)
        if not isinstance(value, dict):
            self._fail(key, "an object")
        return value

    def optional_mapping(self, key: str) -> dict[str, Any] | None:
        """Give a JSON object as it stands, or None."""
        return None if self._content.get(key) is None else self.mapping(key)

    def optional_object(self, key: str) -> Fields | None:
        """Give a JSON object for typed reading, or None."""
        value = self.optional_mapping(key)
        return None if value is None else Fields(value, f"{self._where}: {key}")

    def objects(self, key: str, default: object = None) -> list[Fields]:
        """Give a list of JSON objects for typed reading; ``default`` stands for a list that isn't there."""
        value = self._content.get(key, default)
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            self._fail(key, "a list of objects")
        return [Fields(item, f"{self._where}: {key}[{index}]") for index, item in enumerate(value)]

    def named_objects(self, key: str) -> Iterator[tuple[str, Fields]]:
        """Give the JSON objects of a JSON object, each with its name."""
        for name, item in self.mapping(key).items():
            if not isinstance(item, dict):
                self._fail(key, "an object of objects")
            yield name, Fields(item, f"{self._where}: {key}[{name[:60]}]")
