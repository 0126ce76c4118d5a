"""Checks of arguments that the functions on networks of several widths share, and their progress bar."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable
from typing import Any, TypeVar

from wideangle._checks import MAX_WIDTH, check_integer
from wideangle.data import LabelledData

Item = TypeVar("Item")


def check_widths(value: Any, *, least: int) -> tuple[int, ...]:
    """Return widths that increase, ``least`` of them or more."""
    remedy = f"give at least {least} increasing widths, such as {(250, 500, 1000)[:least]}"
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise TypeError(f"widths must be a sequence of integers, got {value!r}; {remedy}")
    widths = tuple(
        check_integer(f"widths[{place}]", width, low=2, high=MAX_WIDTH, remedy=remedy)
        for place, width in enumerate(value)
    )
    if len(widths) < least or any(one >= other for one, other in itertools.pairwise(widths)):
        raise ValueError(f"widths must be at least {least} and increase, got {list(widths)}; {remedy}")
    return widths


def check_labelled(value: Any) -> LabelledData:
    """Return data with labels, or raise."""
    if not isinstance(value, LabelledData):
        raise TypeError(
            f"data must be labelled, a wideangle.data.LabelledData, got {type(value).__name__}; give "
            "wideangle.data.load_digits(seed=0), or LabelledData(x_train, y_train, x_test, y_test, name='mine')"
        )
    return value


def check_threads(value: Any) -> int:
    """Return a number of threads."""
    return check_integer("n_threads", value, low=1, high=1024, remedy="give 1 or more")


def with_progress(items: Collection[Item], show: bool, *, unit: str = "networks") -> Iterable[Item]:
    """Iterate, with a progress bar if asked."""
    if not show:
        return items
    from tqdm import tqdm

    progress: Iterable[Item] = tqdm(items, total=len(items), desc=unit)
    return progress
