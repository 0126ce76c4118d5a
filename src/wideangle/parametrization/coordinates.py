"""Does training move each layer of a network as its width scaling says? Sizes against width, with verdicts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from wideangle._checks import check_choice, check_integer, check_real, check_seed
from wideangle._provenance import provenance
from wideangle.activations import Activation
from wideangle.data import LabelledData
from wideangle.parametrization._arguments import check_labelled, check_threads, check_widths, with_progress
from wideangle.parametrization._coordinate_cases import module_case, network_cases
from wideangle.parametrization._coordinate_runs import Case, choose_rates
from wideangle.parametrization._coordinate_tables import QUANTITIES, coordinate_dataset
from wideangle.scalings import Scaling

if TYPE_CHECKING:
    import torch
    import xarray as xr

    from wideangle.reference.coordinate_modules import Rates

Array = NDArray[np.float64]

SOURCE = "Yang et al., arXiv 2203.03466; exponents as in wideangle.parametrization.classify"
BATCH = 64


def coordinate_check(
    scaling: Scaling | str | None,
    data: LabelledData,
    *,
    widths: Iterable[int] = (64, 128, 256, 512, 1024),
    depths: Iterable[int] | None = None,
    activations: Iterable[str | Activation] | None = None,
    n_steps: int = 4,
    n_seeds: int = 3,
    learning_rate: float | None = None,
    first_learning_rate: float | None = None,
    optimizer: Literal["sgd", "adam"] = "sgd",
    batch_size: int | None = None,
    expected: Scaling | str | None = None,
    module: Callable[[int], Any] | None = None,
    base_width: int | None = None,
    confidence: float = 0.95,
    tolerance: float = 0.25,
    seed: int = 0,
    n_threads: int = 1,
    progress: bool = False,
) -> xr.Dataset:
    r"""DOC"""
    checked = check_labelled(data)
    sizes = check_widths(widths, least=3)
    n_steps = check_integer("n_steps", n_steps, low=1, high=10_000, remedy="give a few steps, such as 4")
    n_seeds = check_integer("n_seeds", n_seeds, low=2, high=10_000, remedy="give at least 2, such as 3")
    kind = check_choice("optimizer", optimizer, ("sgd", "adam"))
    seed, n_threads = check_seed(seed), check_threads(n_threads)
    rates = tuple(
        None if rate is None else _positive(name, rate, "give a positive learning rate, such as 0.1")
        for name, rate in (("learning_rate", learning_rate), ("first_learning_rate", first_learning_rate))
    )
    tolerance = _positive("tolerance", tolerance, "give half the distance of exponents to be told apart, such as 0.25")
    confidence = _positive("confidence", confidence, "give a number between 0 and 1, such as 0.95", below=1.0)
    from wideangle.reference._torch import require_torch, torch_threads

    require_torch()
    with torch_threads(n_threads):
        if module is None:
            if base_width is not None:
                raise ValueError(f"base_width must be left out without a module, got {base_width!r}")
            cases = network_cases(scaling, expected, depths, activations, checked, kind)
        else:
            case = module_case(
                module,
                scaling,
                expected,
                depths,
                activations,
                base_width=base_width,
                narrowest=sizes[0],
                optimizer=kind,
                learning_rates=rates,
            )
            cases = [[case]]
        batch = _batch(checked, batch_size, seed)
        found = [[choose_rates(case, sizes[-1], batch, n_steps, *rates, seed=seed) for case in row] for row in cases]
        records = _record(cases, found, batch, sizes, n_steps, n_seeds, seed, progress)
    dataset = coordinate_dataset(cases, records, sizes, confidence=confidence, tolerance=tolerance, seed=seed)
    return _with_provenance(
        dataset,
        cases,
        found,
        data=checked.name,
        widths=sizes,
        n_steps=n_steps,
        n_seeds=n_seeds,
        optimizer=kind,
        batch_size=len(batch[0]),
        confidence=confidence,
        tolerance=tolerance,
        seed=seed,
    )


def _positive(name: str, value: Any, remedy: str, *, below: float = np.inf) -> float:
    number = check_real(name, value, remedy=remedy)
    if not 0.0 < number < below:
        limit = "" if below == np.inf else f" and below {below:g}"
        raise ValueError(f"{name} must be positive{limit}, got {value!r}; {remedy}")
    return number


def _batch(data: LabelledData, size: Any, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return samples drawn from the training set, in float64, and their labels."""
    from wideangle.reference.coordinates import as_batch

    count = len(data.x_train)
    chosen = min(BATCH, count)
    if size is not None:
        chosen = check_integer("batch_size", size, low=1, high=count, remedy=f"data has {count} training samples")
    drawn = np.random.Generator(np.random.Philox(seed)).permutation(count)[:chosen]
    return as_batch(data.x_train[drawn], data.y_train[drawn])


def _record(
    cases: Sequence[Sequence[Case]],
    rates: Sequence[Sequence[Rates]],
    batch: tuple[torch.Tensor, torch.Tensor],
    widths: tuple[int, ...],
    n_steps: int,
    n_seeds: int,
    seed: int,
    progress: bool,
) -> Array:
    """Train all networks and return their sizes, NaN where a network has no layer."""
    from wideangle.reference.coordinates import record_steps

    layers = 1 + max(row[0].n_hidden for row in cases)
    shape = (len(cases), len(cases[0]), len(widths), n_seeds)
    records = np.full((*shape, len(QUANTITIES), n_steps + 1, layers), np.nan)
    seeds = np.random.SeedSequence(seed).generate_state(len(widths) * n_seeds, np.uint64).reshape(len(widths), n_seeds)
    for place in with_progress(list(np.ndindex(shape)), progress):
        row, column, width, run = place
        case = cases[row][column]
        # PyTorch's own generators take seeds of 63 bits.
        trial = case.trial(widths[width], int(seeds[width, run] >> np.uint64(1)), rates[row][column])
        records[place][..., : case.n_hidden + 1] = record_steps(*trial, *batch, n_steps)
    return records


def _with_provenance(
    dataset: xr.Dataset, cases: Sequence[Sequence[Case]], rates: Sequence[Sequence[Rates]], **arguments: Any
) -> xr.Dataset:
    own = cases[0][0].scaling
    if own is not None:
        for name in ("learning_rate", "first_learning_rate"):
            values = [[getattr(found, name) or found.learning_rate for found in row] for row in rates]
            dataset[name] = (("depth", "activation"), np.array(values))
    scaling = "as the module brings it" if own is None else own.name
    dataset.attrs = provenance(
        "wideangle.parametrization.coordinate_check",
        source=SOURCE,
        scaling=scaling,
        expected=cases[0][0].expected.name,
        **arguments,
    )
    return dataset
