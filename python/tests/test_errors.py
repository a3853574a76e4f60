"""Exceptions."""

import pickle

import pytest

import slaf
from slaf import _slaf
from slaf._errors import KINDS, from_kind


def test_kinds_are_those_of_rust():
    assert list(KINDS) == _slaf.error_kinds()


@pytest.mark.parametrize("kind", KINDS)
def test_every_exception(kind):
    error = from_kind(kind, "what is wrong", "a.h5ad: /X")
    assert isinstance(error, slaf.SlafError)
    assert (error.kind, error.message, error.location) == (kind, "what is wrong", "a.h5ad: /X")
    assert str(error) == "a.h5ad: /X: what is wrong"
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.kind, str(again)) == (type(error), kind, str(error))
    assert getattr(slaf, type(error).__name__) is type(error)


def test_every_class_has_a_builtin_beside_it():
    for cls in KINDS.values():
        assert len(cls.__bases__) == 2
        assert cls.__bases__[1].__module__ == "builtins"


def test_kinds_of_the_future_are_still_slaf_errors():
    assert from_kind("brand-new", "text").kind == "brand-new"
