"""Checks of what the mean-field model takes: kernels, aging, initial outputs and orders of samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wideangle._checks import check_array, check_memory, check_numbers, check_real
from wideangle.propagation._inputs import check_inputs
from wideangle.response._training_run import times_of_steps

if TYPE_CHECKING:
    import xarray as xr

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_AGING = "give None, a number, a function of time, one number a step, or a Dataset of wideangle.response.fit_aging"

_NOT_CHOSEN = {"undecided": "the responses do not tell which", "none": "none fits the responses"}


def check_probe(probe: Any, n_features: int) -> Array:
    """Return probes (probe, feature), none of them for None."""
    if probe is None:
        return np.empty((0, n_features))
    result = check_inputs("probe", probe)
    if result.shape[1] != n_features:
        raise ValueError(
            f"probe must have the {n_features} feature(s) of the data, got shape {result.shape}; give an array "
            f"(probe, {n_features})"
        )
    return result


def check_kernel(kernel: Any, x: Array, probe: Array) -> Array:
    """Return the kernel as (1, sample, point) of a matrix (point, sample) or a function of points and samples."""
    n_points, n_samples = len(x) + len(probe), len(x)
    name, remedy = "kernel", f"give an array (point, sample), here ({n_points}, {n_samples}): samples, then probes"
    check_memory(16 * n_points * n_samples, "the kernel needs", remedy="give fewer samples or probes")
    if callable(kernel):
        name = "kernel(points, samples)"
        remedy = f"return an array (point, sample), here ({n_points}, {n_samples})"
        kernel = kernel(np.concatenate([x, probe]), x.copy())
    values = check_numbers(name, kernel, ndim=(2,), remedy=remedy)
    if values.shape != (n_points, n_samples):
        raise ValueError(f"{name} must have shape ({n_points}, {n_samples}), got {values.shape}; {remedy}")
    return np.ascontiguousarray(values.T)[None]


def check_aging(
    aging: Any, first_step: int, n_steps: int, learning_rate: float, start_time: float
) -> tuple[Integers, Array]:
    """Return steps, and the plasticity (1, step) there; it is linear between them and constant outside."""
    import xarray as xr

    if aging is None:
        aging = 1.0
    if isinstance(aging, xr.Dataset):
        aging = _law_of_fit(aging)
    if callable(aging):
        check_memory(
            40 * n_steps, f"aging at each of {n_steps} steps needs", remedy="give a number, or run fewer steps"
        )
        steps = first_step + np.arange(n_steps + 1)
        times = times_of_steps(steps, learning_rate, first_step, start_time)
        values = _check_plasticity("aging(time)", aging(times), (n_steps + 1,), "of each time")
    elif np.ndim(aging) == 0 and not isinstance(aging, (str, bytes)):
        steps = np.array([first_step])
        values = _check_plasticity("aging", [check_real("aging", aging, remedy=_AGING)], (1,), "")
    else:
        steps = first_step + np.arange(max(n_steps, 1))
        values = _check_plasticity("aging", aging, (n_steps,), "of each step")
    return steps, values[None]


def _check_plasticity(name: str, value: Any, shape: tuple[int, ...], of_what: str) -> Array:
    values = check_numbers(name, value, ndim=(1,), remedy=_AGING)
    if values.shape != shape:
        raise ValueError(f"{name} must hold one number {of_what}, shape {shape}, got {values.shape}; {_AGING}")
    wrong = np.flatnonzero(values < 0.0)
    if wrong.size:
        raise ValueError(
            f"{name} must not be negative, got {values[wrong[0]]:g} at place {wrong[0]}; plasticity is a factor of the "
            "kernel, 0 or more"
        )
    return values


def _law_of_fit(fit: xr.Dataset) -> Callable[[Array], Array]:
    """Return the chosen law of a fit, 1 at time 0."""
    remedy = "give the Dataset of wideangle.response.fit_aging for one response"
    missing = [name for name in ("chosen", "tau", "gamma") if name not in fit]
    if missing:
        raise ValueError(f"aging must hold chosen, tau and gamma, and lacks {', '.join(missing)}; {remedy}")
    if fit.attrs.get("time_unit", "None") != "None":
        raise ValueError(
            "aging must be a law of gradient-flow time, got a fit with time_unit, whose times are in units of each "
            "network; fit without time_unit, or give a function of time"
        )
    if "factor" in fit.dims:
        if "kernel" not in fit["factor"].values:
            raise ValueError(
                f"aging must hold the factor 'kernel', got {list(fit['factor'].values)}; plasticity is "
                "the aging of the kernel"
            )
        fit = fit.sel(factor="kernel")
    if fit["chosen"].ndim:
        raise ValueError(f"aging must be of one response, got dimensions {fit['chosen'].dims}; {remedy}")
    law = str(fit["chosen"].item())
    if law == "constant":
        return np.ones_like
    if law not in ("exponential", "power law"):
        raise ValueError(
            f"aging must have chosen a law, got {law!r}: {_NOT_CHOSEN.get(law, 'there is no such law')}; fit longer "
            "records or more networks, or give a function of time, such as lambda t: (1 + t / tau) ** -gamma"
        )
    tau = fit["tau"].sel(law=law).item()
    gamma = fit["gamma"].sel(law=law).item()

    def factor(time: Array) -> Array:
        # What overflows is refused as not finite.
        with np.errstate(all="ignore"):
            exponent = time / tau if law == "exponential" else gamma * np.log1p(time / tau)
            return np.asarray(np.exp(-exponent))

    return factor


def check_initial(initial: Any, n_runs: int, n_points: int) -> Array:
    """Return initial outputs (run, point), of length 1 where all runs begin with the same."""
    remedy = f"give a number, or an array (point,) or (run, point), here ({n_runs}, {n_points}): samples, then probes"
    values = check_numbers("initial", initial, ndim=(0, 1, 2), remedy=remedy, largest=1e100)
    if values.ndim == 0:
        return np.full((1, n_points), values)
    values = np.atleast_2d(values)
    if values.shape not in ((1, n_points), (n_runs, n_points)):
        raise ValueError(
            f"initial must have shape ({n_points},) or ({n_runs}, {n_points}), got {values.shape}; {remedy}"
        )
    return values


def check_order(order: Any, *, n_runs: int, n_steps: int, n_samples: int) -> Integers:
    """Return the samples (run, step, batch) that an array names, of length 1 where all runs have the same."""
    remedy = (
        f"give integers (step,), (step, batch) or (run, step, batch) for {n_steps} step(s) of {n_runs} run(s), or "
        "None, 'permuted'"
    )
    values = check_array("order", order, ndim=(1, 2, 3), remedy=remedy)
    if values.dtype.kind not in "iu":
        raise TypeError(f"order must hold integers, got type {values.dtype}; {remedy}")
    if values.ndim < 3:
        values = (values if values.ndim == 2 else values[:, None])[None]
    if values.shape[0] not in (1, n_runs) or values.shape[1] != n_steps:
        raise ValueError(
            f"order must have {n_steps} step(s) and {n_runs} run(s), or no axis of runs, got shape "
            f"{np.shape(order)}; {remedy}"
        )
    filled = values == -1
    wrong = np.argwhere((values < -1) | (values >= n_samples) | filled & (np.arange(values.shape[2]) == 0))
    if not len(wrong):
        wrong = np.argwhere(filled[..., :-1] & ~filled[..., 1:])
    if len(wrong):
        raise ValueError(
            f"order must hold samples from 0 to {n_samples - 1}, and -1 only to fill up a batch, got "
            f"{values[tuple(wrong[0])]} at {tuple(map(int, wrong[0]))}; {remedy}"
        )
    return np.array(values, dtype=np.int64, order="C")
