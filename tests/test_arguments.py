"""arguments and errors: what is refused, and what the errors are."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastscnn.base.arguments import is_number, whole
from fastscnn.base.errors import ArgumentError, FastSCNNError, missing_extra, unknown


@given(st.integers())
def test_whole_numbers_are_taken_as_they_are(value: int) -> None:
    assert whole("size", value, least=value) == value


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.int64])
def test_integers_of_numpy_become_ints(dtype: type[np.integer[Any]]) -> None:
    assert type(whole("size", dtype(7))) is int


@given(st.one_of(st.floats(), st.text(), st.booleans(), st.none(), st.binary(), st.complex_numbers(), st.tuples(st.integers())))
def test_any_other_type_is_refused(value: Any) -> None:
    with pytest.raises(ArgumentError, match=r"^threads: must be a whole number, at least 1, not "):
        whole("threads", value)


def test_range() -> None:
    with pytest.raises(ArgumentError, match=r"^threads: must be from 1 to 4, not 5\.$"):
        whole("threads", 5, 1, 4)
    with pytest.raises(ArgumentError, match=r"^streams: must be at least 1, not 0\.$"):
        whole("streams", 0)


def test_argument_errors_are_value_errors() -> None:
    error = unknown("backend", "onx", ("onnx", "torch"))
    assert isinstance(error, FastSCNNError)
    assert isinstance(error, ValueError)
    assert str(error) == "There is no backend 'onx'. Did you mean 'onnx'? Known: onnx, torch."
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (ArgumentError, str(error))


def test_a_missing_extra_is_named_with_both_ways_to_install_it() -> None:
    message = "Training needs the extra 'train': install fastscnn[train], or from a checkout: pip install '.[train]'."
    assert str(missing_extra("Training", "train")) == message


@pytest.mark.parametrize("value", [0, -1.5, 1e308, 10**308, np.float32(2), np.int64(-3)])
def test_finite_numbers(value: Any) -> None:
    assert is_number(value)


@pytest.mark.parametrize("value", [True, np.True_, "1", None, 1j, np.nan, np.inf, -np.inf, np.float32("nan"), 10**309])
def test_no_finite_numbers(value: Any) -> None:
    assert not is_number(value)
