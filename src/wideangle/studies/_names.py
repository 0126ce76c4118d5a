"""Names in the results: what each variable adds to them, and names that cannot be there or would be there twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

MOMENTS = {
    "count": "number of samples with a finite value",
    "mean": "mean over samples",
    "variance": "unbiased variance over samples",
    "mean_standard_error": "standard error of the mean",
    "variance_standard_error": "standard error of the variance",
    "skewness": "skewness over samples",
    "excess_kurtosis": "excess kurtosis over samples",
}
_OF_STORE = ("cell", "method", "n_samples", "probability", "sample", "status")
_SUFFIXES = {
    "moments": tuple(f"_{name}" for name in MOMENTS),
    "histogram": ("_histogram", "_underflow", "_overflow", "_bin", "_bin_left", "_bin_right"),
    "quantiles": ("_quantile",),
    "total": ("",),
    "samples": ("",),
}
LONGEST_NAME = 100


def check_names(
    dims: Mapping[str, tuple[str, ...]], kinds: Mapping[str, Collection[str]], coordinates: Collection[str]
) -> None:
    """Refuse variables that the results cannot hold; ``kinds`` are those of accumulators, and "samples" if kept."""
    all_dims = dict.fromkeys(dim for each in dims.values() for dim in each)
    for what, names in (("variable", dims), ("dimension", all_dims)):
        for name in names:
            _check_name(what, name)
    for name, each in dims.items():
        if len(set(each)) < len(each):
            raise ValueError(f"the dimensions of {name!r} must have different names, got {each}; rename one of them")
    owners = [
        (f"{name}{suffix}", name) for name, found in kinds.items() for kind in found for suffix in _SUFFIXES[kind]
    ]
    owners += [(dim, "a dimension") for dim in all_dims] + [(f"{name}_of_cell", name) for name in coordinates]
    owners += [(name, "every store") for name in _OF_STORE]
    counts = Counter(field for field, _ in owners)
    twice = next((field for field, number in counts.items() if number > 1), None)
    if twice is not None:
        of = ", ".join(repr(owner) if owner in dims else owner for field, owner in owners if field == twice)
        raise ValueError(f"the results would hold {twice!r} twice (of {of}); rename what the method returns")


def is_name(name: Any) -> bool:
    """Whether an array in the store can be called so: its files are in a folder of that name."""
    is_text = isinstance(name, str) and name.isprintable()
    return is_text and 0 < len(name.encode()) <= LONGEST_NAME and not set(name) & set("/\\.")


def shortened(name: Any) -> str:
    """Return a name for an error."""
    shown = repr(name)
    return shown if len(shown) < 200 else f"{shown[:200]}..."


def _check_name(what: str, name: Any) -> None:
    if not is_name(name):
        raise ValueError(
            f"a {what} must have a name of 1 to {LONGEST_NAME} bytes without '/', '\\' and '.', got "
            f"{shortened(name)}; rename it"
        )
