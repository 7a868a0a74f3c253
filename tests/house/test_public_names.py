from __future__ import annotations

import importlib

import pytest

PACKAGES = ["pennyweight", "pennyweight_data", "pennyweight_train", "pennyweight_export", "pennyweight_benchmarks"]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_exists_and_says_what_it_is(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__doc__
    assert sorted(module.__all__) == list(dict.fromkeys(sorted(module.__all__)))
    for name in module.__all__:
        value = getattr(module, name)
        assert not name.startswith("_") or name == "__version__"
        if callable(value):
            assert value.__doc__, f"{package}.{name}"


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = importlib.import_module("pennyweight").nonsense
