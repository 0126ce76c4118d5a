"""Responses as given to fits of aging: arrays of networks and times, by factor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from wideangle._checks import as_plain, check_array, check_increasing, check_numbers
from wideangle.response._aging_alignment import align, common_times
from wideangle.response._aging_curves import LEAST_NETWORKS, LEAST_TIMES, Array

FACTORS = ("response", "loss_derivative", "kernel", "readout_part", "hidden_part", "amplitude")

_REMEDY = "give (time,), (network, time), or what wideangle.response.training_response returns"


@dataclass(frozen=True, eq=False)
class Responses:
    """Responses (time,) or (network, time) of each factor, ``None`` for one without name, finite, and their times.

    ``alignment`` holds the errors (time,) of the means by interpolation, where networks have units of time.
    """

    time: Array
    of_factor: dict[str | None, Array]
    n_dropped: dict[str | None, int]
    standard_error: Array | None
    alignment: dict[str | None, Array]

    @property
    def named(self) -> bool:
        """Whether there is a dimension of factors."""
        return None not in self.of_factor


def read_responses(response: Any, time: Any, standard_error: Any, time_unit: Any) -> Responses:
    """Check and sort out the arguments of :func:`wideangle.response.fit_aging`."""
    arrays, own_time = _arrays(response)
    if time is None and own_time is None:
        raise TypeError("time must be given, as response has no coordinate 'time'; give the times of its values")
    remedy = "give the times of the responses, 0 or more, as gradient-flow time or steps"
    times = check_increasing("time", own_time if time is None else as_plain(time), remedy=remedy)
    if times[0] < 0.0:
        raise ValueError(f"time must not be negative, got time[0] = {times[0]}; {remedy}")
    if len(times) < LEAST_TIMES:
        raise ValueError(
            f"time must have at least {LEAST_TIMES} values, got {len(times)}; three laws with up to three parameters "
            "cannot be told apart by fewer: record more times"
        )
    kept: dict[str | None, Array] = {}
    finite: dict[str | None, Any] = {}
    for name, values in arrays.items():
        kept[name], finite[name] = _finite("response" if name is None else name, values, len(times))
    dropped = {name: int(np.sum(~np.asarray(mask))) for name, mask in finite.items()}
    errors = _errors(standard_error, kept, len(times))
    if time_unit is None:
        return Responses(times, kept, dropped, errors, {})
    units = _units(_of_networks(time_unit, response), finite)
    scaled = common_times(times, units[np.any(list(finite.values()), axis=0)])
    aligned = {name: align(array, times, units[finite[name]], scaled) for name, array in kept.items()}
    return Responses(
        scaled,
        {name: values for name, (values, _) in aligned.items()},
        dropped,
        errors,
        {name: error for name, (_, error) in aligned.items()},
    )


def _arrays(response: Any) -> tuple[dict[str | None, Any], Any]:
    """Return the arrays of each factor, with network before time, and the coordinate of time if there is one."""
    variables = getattr(response, "data_vars", None)
    if variables is None and not hasattr(response, "dims"):
        return {None: as_plain(response)}, None
    if "time" not in response.dims:
        raise ValueError(f"response must have a dimension 'time', got {tuple(map(str, response.dims))}; {_REMEDY}")
    own_time = response["time"].values if "time" in response.coords else None
    if variables is None:
        return {None: _over_inputs(response)}, own_time
    present = [name for name in FACTORS if name in variables and "time" in response[name].dims]
    if not present:
        raise ValueError(f"response must hold one or more of {', '.join(FACTORS)}, got {list(variables)}; {_REMEDY}")
    return {name: _over_inputs(response[name]) for name in present}, own_time


def _over_inputs(variable: Any) -> Any:
    inputs = [dim for dim in variable.dims if dim not in ("network", "time")]
    if inputs:
        variable = abs(variable).mean(inputs, skipna=False)
    return variable.transpose("network", "time", missing_dims="ignore").values


def _finite(name: str, values: Any, n_times: int) -> tuple[Array, Any]:
    """Return the responses without the networks that have diverged, and which ones (network,) are kept."""
    array = check_array(name, values, ndim=(1, 2), remedy=_REMEDY)
    if array.shape[-1] != n_times:
        raise ValueError(f"{name} must have a value for each of {n_times} times, got shape {array.shape}; {_REMEDY}")
    if array.ndim == 1:
        return check_numbers(name, array, remedy="give a response that is finite at all times"), True
    result = array.astype(np.float64)
    finite = np.all(np.isfinite(result), axis=1)
    if not np.any(finite):
        raise ValueError(
            f"{name} must have a network with finite values at all times, got none of {len(result)}; "
            "choose earlier times or a smaller learning rate"
        )
    return np.ascontiguousarray(result[finite]), finite


def _of_networks(time_unit: Any, response: Any) -> Any:
    """Return the units in the order of the networks of a response, where both have a coordinate of these."""
    if not all(
        "network" in getattr(given, "coords", ()) and "network" in given.dims for given in (time_unit, response)
    ):
        return time_unit
    names, wanted = time_unit["network"].values.tolist(), response["network"].values.tolist()
    remedy = "give a unit for each network of the response, with the same coordinate"
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(
            f"time_unit must hold one number for each network, got several for network {twice!r}; {remedy}"
        )
    place = {name: k for k, name in enumerate(names)}
    missing = [name for name in wanted if name not in place]
    if missing:
        raise ValueError(
            f"time_unit must hold a number for each network, got none for network {missing[0]!r}; {remedy}"
        )
    return time_unit.isel(network=[place[name] for name in wanted])


def _units(time_unit: Any, finite: dict[str | None, Any]) -> Array:
    """Return the units (network,), which may be anything where a network is dropped."""
    remedy = "give a positive number for each network, such as 1 over its kernel"
    if any(np.ndim(mask) == 0 for mask in finite.values()):
        raise ValueError("time_unit is for networks, got responses without them; give responses (network, time)")
    if "network" not in getattr(time_unit, "dims", ("network",)):
        raise ValueError(
            f"time_unit must have the dimension 'network', got {tuple(map(str, time_unit.dims))}; {remedy}"
        )
    used = np.any(list(finite.values()), axis=0)
    array = check_array("time_unit", as_plain(time_unit), ndim=(1,), remedy=remedy)
    if len(array) != len(used):
        raise ValueError(f"time_unit must hold {len(used)} numbers, one for each network, got {len(array)}; {remedy}")
    result = array.astype(np.float64)
    wrong = np.flatnonzero(used & ~((result > 0.0) & (result < np.inf)))
    if len(wrong):
        raise ValueError(
            f"time_unit must be positive and finite, got time_unit[{wrong[0]}] = {result[wrong[0]]}; {remedy}"
        )
    return np.asarray(result)


def _errors(standard_error: Any, arrays: dict[str | None, Array], n_times: int) -> Array | None:
    if standard_error is None:
        return None
    remedy = "give one positive number for each time, with a response of shape (time,)"
    if any(array.ndim == 2 for array in arrays.values()) or len(arrays) > 1:
        raise ValueError(f"standard_error is for one curve, and the networks of response give the errors; {remedy}")
    result = check_numbers("standard_error", as_plain(standard_error), ndim=(1,), remedy=remedy)
    if len(result) != n_times or not np.all(result > 0.0):
        raise ValueError(f"standard_error must hold {n_times} positive numbers, got {result}; {remedy}")
    return result


def too_few(array: Array) -> bool:
    """Whether networks are too few to tell the covariance of their responses."""
    return array.ndim == 1 or len(array) < LEAST_NETWORKS
