"""Packing and unpacking returns the same floats."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from occ_lab.metrics import packing


@given(
    hnp.arrays(np.float32, st.integers(0, 50), elements=st.floats(allow_nan=False, width=32))
    | hnp.arrays(np.float64, st.integers(0, 50), elements=st.floats(allow_nan=False))
)
def test_packing_loses_nothing(scores: np.ndarray) -> None:
    packed = packing.pack(np.sort(scores))
    unpacked = packing.unpack(*packed)
    assert unpacked.dtype == scores.dtype
    assert len(packed[0]) == scores.nbytes // 2
    np.testing.assert_array_equal(unpacked, np.sort(scores))
