"""Results as bytes: what comes back is what went in, to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wideangle.studies._packing import pack, unpack

ARRAYS = hnp.arrays(
    st.sampled_from([np.dtype(kind) for kind in ("f8", "f4", ">f8", "i8", "u1", "?", "U3", "M8[s]")]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
)


@given(st.dictionaries(st.text(max_size=5), ARRAYS, max_size=4))
def test_arrays_come_back_to_the_bit(arrays: dict[str, np.ndarray]) -> None:
    about, found = unpack(pack({"n": 3}, arrays))
    assert about == {"n": 3}
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()


def test_same_content_gives_the_same_bytes() -> None:
    values = np.arange(12.0).reshape(3, 4)
    assert pack({}, {"x": values}) == pack({}, {"x": np.asfortranarray(values)})


def test_bytes_that_are_missing_or_too_many_are_noticed() -> None:
    data = pack({}, {"x": np.arange(3.0)})
    for wrong in (data[:-1], data + b"0"):
        with pytest.raises(ValueError, match=r"results|buffer"):
            unpack(wrong)


def test_objects_are_refused() -> None:
    with pytest.raises(TypeError, match="x must hold numbers or text, got dtype object"):
        pack({}, {"x": np.array([object()])})
