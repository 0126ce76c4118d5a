"""Integration of batches of initial-value problems."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wideangle._checks import (
    check_choice,
    check_flag,
    check_increasing,
    check_integer,
    check_memory,
    check_numbers,
    check_rtol,
    check_threads,
)
from wideangle._cpu import available_threads
from wideangle._provenance import provenance
from wideangle.integrators.events import Event

if TYPE_CHECKING:
    import xarray as xr

SOURCE = "adaptive Runge-Kutta and Rosenbrock methods; Hairer, Norsett, Wanner, Solving Ordinary Differential Equations"
METHODS = ("auto", "tsit5", "dop853", "rodas5p")


def integrate(
    rhs: Callable[..., Any],
    y0: ArrayLike,
    times: ArrayLike,
    *,
    params: ArrayLike | None = None,
    method: str = "auto",
    rtol: float = 1e-8,
    atol: ArrayLike = 1e-12,
    events: Event | Sequence[Event] | None = None,
    jacobian: Callable[..., Any] | None = None,
    max_steps: int = 100_000,
    n_threads: int | None = None,
    progress: bool = False,
) -> xr.Dataset:
    """Integrate batches of initial-value problems dy/dt = f(t, y, params).

    Every trajectory has its own steps, error control, events and status. Sixteen of them advance side by side in the
    lanes of vector registers, and threads share the batch; one that has ended makes room for the next at once.

    Parameters
    ----------
    rhs
        Function f(t, y, params, out) that writes the derivative of every component into ``out``; decorated with
        ``numba.njit``, or such that it can be. Where it does not branch on values it is compiled for lanes
        (:mod:`wideangle.integrators.elementwise` says how to write it), and else called for one trajectory after
        another, at several times the cost; ``attrs["rhs_in_lanes"]`` of the result says which. A component that it
        leaves unwritten counts as not finite, and so does everything when it raises.
    y0
        Values at ``times[0]``, (component,) or (trajectory, component), finite.
    times
        Output times, (time,), at least two and strictly increasing. Steps do not stop at them: values between come
        from the method's interpolant.
    params
        (parameter,) or (trajectory, parameter), finite; default None, for no parameters. An argument without the axis
        of trajectories, or with one of length 1, serves them all.
    method
        ``"dop853"``: Dormand-Prince pair of order 8 with interpolant of order 7. ``"tsit5"``: Tsitouras 5(4) with
        interpolant of order 4, for loose tolerances. ``"rodas5p"``: Rosenbrock method of order 5 for stiff problems.
        ``"auto"`` (default): tsit5 for ``rtol >= 1e-4``, else dop853; a trajectory whose steps turn out to be limited
        by stability goes on with rodas5p from where it stands.
    rtol, atol
        The estimated error of a step, divided by ``atol + rtol * |y|`` and squared, averages to at most 1 over the
        components. ``rtol`` in [1e-14, 0.1], default 1e-8; ``atol`` positive, one number or (component,), default
        1e-12.
    events
        An :class:`Event` or a list of them.
    jacobian
        Function f(t, y, params, out) that writes the derivative of slope i by component j into ``out[i, j]``, for
        rodas5p; default None, by central differences.
    max_steps
        Most steps of a trajectory, the rejected ones included, default 100,000.
    n_threads
        Threads; default every processor available. The results are the same bits with any number.
    progress
        Whether to show a progress bar.

    Returns
    -------
    xarray.Dataset
        ``y(trajectory, time, component)``, NaN after the end of a trajectory; by ``trajectory``: ``status`` (0
        finished, 1 terminal event, 2 step too small, 3 too many steps, 4 not finite), ``method`` with which it ended
        (0 tsit5, 1 dop853, 2 rodas5p), ``n_steps`` accepted, ``n_rejected``, ``n_evaluations`` of the right-hand side
        (those for Jacobians included) and ``final_time``. With events also ``event_time(trajectory, event,
        occurrence)``, ``event_y`` there with ``component``, both padded with NaN, and ``n_events(trajectory, event)``.
        There is an axis ``trajectory`` of length 1 where neither ``y0`` nor ``params`` has one. Trajectory k does not
        depend on the others: of a batch of 10 it is the same bits as of a batch of a million.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type, shape or range, or a function does not compile, before any work.
    KeyboardInterrupt
        On Ctrl-C, within 0.2 s; nothing is left running.

    Warns
    -----
    UserWarning
        If an event had more zeros than its ``max_count`` keeps.

    References
    ----------
    E. Hairer, S. P. Norsett and G. Wanner, *Solving Ordinary Differential Equations* I and II (DOP853, step control,
    test for stiffness); Ch. Tsitouras, Comput. Math. Appl. 62 (2011) 770; G. Steinebach, BIT 63 (2023) 27 (Rodas5P).
    The lanes are not in the literature: they are the same steps, taken for sixteen trajectories at once.

    Examples
    --------
    >>> import numba, numpy as np, wideangle as wa
    >>> @numba.njit
    ... def decay(t, y, params, out):
    ...     out[0] = -params[0] * y[0]
    >>> solution = wa.integrators.integrate(decay, [1.0], [0.0, 1.0], params=[[1.0], [2.0]])
    >>> bool(np.allclose(solution.y.sel(time=1.0, component=0), np.exp([-1.0, -2.0])))
    True
    >>> solution.status.values.tolist(), solution.attrs["rhs_in_lanes"]
    ([0, 0], 'True')
    """
    start, parameters = _check_batch(y0, params)
    output_times = _check_times(times)
    method = check_choice("method", method, METHODS)
    rtol = check_rtol(rtol)
    tolerance = _check_atol(atol, start.shape[1])
    max_steps = check_integer("max_steps", max_steps, low=1, high=2**53, remedy="give a number of steps, such as 10**6")
    n_threads = check_threads(n_threads) or available_threads()
    progress = check_flag("progress", progress)
    watched = _check_events(events)
    number = max(len(start), len(parameters))
    check_memory(
        8 * number * start.shape[1] * (output_times.size + sum((event.size or 1) * event.places for event in watched)),
        f"{number} trajectories at {output_times.size} times need",
        remedy="ask for fewer times or events, or integrate parts of the batch one after another",
    )
    from wideangle.integrators._compilation import compile_jacobian, compile_rhs
    from wideangle.integrators._running import Batch, run_batch

    compiled = compile_rhs("rhs", rhs)
    derivative = None if jacobian is None else compile_jacobian("jacobian", jacobian)
    batch = Batch(
        compiled,
        derivative,
        start,
        parameters,
        output_times,
        method,
        rtol,
        tolerance,
        max_steps,
        watched,
        n_threads,
        progress,
    )
    raw, found = run_batch(batch)
    _warn_of_events(found)
    dataset = _dataset(raw, found, output_times)
    dataset.attrs = provenance(
        "wideangle.integrators.integrate",
        source=SOURCE,
        rhs=getattr(rhs, "__qualname__", repr(rhs)),
        rhs_in_lanes=compiled.in_lanes,
        method=method,
        rtol=rtol,
        atol=float(tolerance[0]) if np.ndim(atol) == 0 else tolerance.tolist(),
        max_steps=max_steps,
    )
    return dataset


def _dataset(raw: Any, found: Any, times: NDArray[np.float64]) -> xr.Dataset:
    import xarray as xr

    from wideangle.integrators import _status

    status = {"flag_values": list(range(len(_status.MEANINGS))), "flag_meanings": " ".join(_status.MEANINGS)}
    method = {"flag_values": list(range(len(_status.METHODS))), "flag_meanings": " ".join(_status.METHODS)}
    dataset = xr.Dataset(
        {
            "y": (("trajectory", "time", "component"), raw.y),
            "status": ("trajectory", raw.status, status),
            "method": ("trajectory", raw.method, method),
            "n_steps": ("trajectory", raw.steps),
            "n_rejected": ("trajectory", raw.rejected),
            "n_evaluations": ("trajectory", raw.evaluations),
            "final_time": ("trajectory", raw.final_time),
        },
        {
            "trajectory": np.arange(raw.y.shape[0]),
            "time": times,
            "component": np.arange(raw.y.shape[2]),
        },
    )
    if found.size:
        dataset["event_time"] = (("trajectory", "event", "occurrence"), found.time)
        dataset["event_y"] = (("trajectory", "event", "occurrence", "component"), found.state)
        dataset["n_events"] = (("trajectory", "event"), found.count)
    return dataset


def _warn_of_events(found: Any) -> None:
    most = found.count.max(axis=0, initial=0)
    for event in np.flatnonzero(most > found.capacity):
        warnings.warn(
            f"event {event} had up to {most[event]} zeros in a trajectory, of which the first {found.capacity[event]} "
            "were kept; raise max_count of the Event to keep more",
            stacklevel=3,
        )


def _check_events(events: Any) -> list[Event]:
    given = [] if events is None else [events] if isinstance(events, Event) else events
    if not isinstance(given, (list, tuple)) or not all(isinstance(event, Event) for event in given):
        raise TypeError(f"events must be an Event or a list of them, got {events!r}; give Event(g, terminal=...)")
    return list(given)


def _check_batch(y0: Any, params: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return initial values and parameters as matrices of one or as many rows."""
    start = check_numbers("y0", y0, ndim=(1, 2), remedy="give (component,) or (trajectory, component)")
    remedy = "give (parameter,) or (trajectory, parameter)"
    parameters = np.empty((1, 0)) if params is None else check_numbers("params", params, ndim=(1, 2), remedy=remedy)
    start, parameters = np.atleast_2d(start), np.atleast_2d(parameters)
    if 1 not in (len(start), len(parameters), len(start) / len(parameters)):
        raise ValueError(
            f"y0 and params must agree in the number of trajectories, got shapes {start.shape} and {parameters.shape}; "
            "give one of them without the axis of trajectories to use it for all"
        )
    return start, parameters


def _check_times(times: Any) -> NDArray[np.float64]:
    remedy = "give strictly increasing times, the first of them that of y0"
    result = check_increasing("times", times, remedy=remedy)
    if result.size < 2:
        raise ValueError(f"times must have at least two values, got {result.tolist()}; {remedy}")
    return result


def _check_atol(value: Any, size: int) -> NDArray[np.float64]:
    remedy = "give one positive number, or one for each component"
    result = check_numbers("atol", value, ndim=(0, 1), remedy=remedy)
    if result.ndim == 1 and result.size != size:
        raise ValueError(
            f"atol must be a number or have one for each of {size} components, got {result.size}; {remedy}"
        )
    if not np.all(result > 0.0):
        raise ValueError(f"atol must be positive, got {value!r}; {remedy}")
    return np.ascontiguousarray(np.broadcast_to(result, (size,)))
