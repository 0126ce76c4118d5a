"""Numbers of any type and layout become float64, or are refused with the place of the first wrong one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from wideangle._checks import check_increasing, check_numbers, check_positive_real, check_rtol


@pytest.mark.parametrize("kind", [">f8", "<f4", "f2", ">i4", "u1", "longdouble"])
def test_numbers_of_any_type_and_layout(kind: str) -> None:
    given = np.arange(24).astype(kind).reshape(4, 6)[::2, ::3].T
    given.setflags(write=False)
    result = check_numbers("x", given, remedy="")
    assert result.dtype.str == np.dtype(np.float64).str
    assert result.flags.c_contiguous
    assert result.flags.writeable
    assert result.tolist() == [[0.0, 12.0], [3.0, 15.0]]


def test_numbers_are_a_copy() -> None:
    given = np.ones(3)
    check_numbers("x", given, remedy="")[0] = 2.0
    assert given.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("value", "options", "message"),
    [
        ([[1.0, 2.0], [np.nan, np.inf]], {}, r"x must be finite, got x\[1, 0\] = nan; give others"),
        (np.inf, {}, "x must be finite, got inf; give others"),
        (np.longdouble("1e400"), {}, "x must be finite, got inf"),
        ([3.0, -101.0], {"largest": 100.0}, r"x must be finite and at most 100 in size, got x\[1\] = -101.0"),
        ([[1.0]], {"ndim": (1,)}, r"x must have 1 dimension\(s\), got shape \(1, 1\)"),
        ([], {}, "x must not be empty"),
    ],
)
def test_wrong_numbers(value: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_numbers("x", value, remedy="give others", **options)


def test_increasing() -> None:
    assert check_increasing("t", [-1, 0, 5], remedy="").tolist() == [-1.0, 0.0, 5.0]
    assert check_increasing("t", [3], remedy="").tolist() == [3.0]
    with pytest.raises(ValueError, match=r"t must increase, got t\[1\] = 2\.0, t\[2\] = 2\.0; sort"):
        check_increasing("t", [1, 2, 2, 1], remedy="sort")
    with pytest.raises(ValueError, match=r"t must have 1 dimension\(s\)"):
        check_increasing("t", 1.0, remedy="sort")


def test_relative_tolerances() -> None:
    assert (check_rtol(1e-14), check_rtol(0.1)) == (1e-14, 0.1)
    for wrong in (0.9e-14, 0.11):
        with pytest.raises(ValueError, match=r"rtol must lie in \[1e-14, 0\.1\], got .*; give a relative tolerance"):
            check_rtol(wrong)


def test_positive_numbers() -> None:
    assert check_positive_real("x", 5e-324, remedy="") == 5e-324
    for wrong in (0.0, -0.0, -1, np.float32(-2)):
        with pytest.raises(ValueError, match=r"x must be positive, got .*; give more"):
            check_positive_real("x", wrong, remedy="give more")
    with pytest.raises(TypeError, match="x must be a real number"):
        check_positive_real("x", True, remedy="")
