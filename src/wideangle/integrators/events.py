"""What to look for along a trajectory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any

from wideangle._checks import check_flag, check_integer

MAX_COUNT = 10**6


@dataclass(frozen=True)
class Event:
    """A zero of a function g(t, y, params) along a trajectory.

    Parameters
    ----------
    function
        ``numba.njit`` function g(t, y, params) that returns a number; with ``size``, g(t, y, params, out) that writes
        so many.
    terminal
        Whether a zero ends the trajectory; default False.
    direction
        1 for zeros where g rises, -1 where it falls, 0 (default) for both.
    size
        How many numbers the function writes, each an event of its own; default None, for one that it returns.
    max_count
        How many zeros of each number are kept, default 64; further ones are counted, and a warning says so. Of a
        terminal event there is only one.

    Notes
    -----
    A change of sign between the ends of a step is located on the dense output. Two zeros of the same function within
    one step leave no change of sign and are missed; a tighter ``rtol`` shortens the steps. A zero at the first time
    does not count.

    Examples
    --------
    >>> import numba, wideangle as wa
    >>> @numba.njit
    ... def fall(t, y, params, out):
    ...     out[0], out[1] = y[1], -9.81
    >>> @numba.njit
    ... def ground(t, y, params):
    ...     return y[0]
    >>> event = wa.integrators.Event(ground, terminal=True, direction=-1)
    >>> flight = wa.integrators.integrate(fall, [10.0, 0.0], [0.0, 5.0], events=event)
    >>> round(float(flight.event_time[0, 0, 0]), 6), int(flight.status[0])
    (1.427843, 1)
    """

    function: Callable[..., Any]
    _: KW_ONLY
    terminal: bool = False
    direction: int = 0
    size: int | None = None
    max_count: int = 64

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise TypeError(f"function must be a function, got {self.function!r}; give g(t, y, params)")
        check_flag("terminal", self.terminal)
        remedy = "give 1 for rising zeros, -1 for falling ones, 0 for both"
        check_integer("direction", self.direction, low=-1, high=1, remedy=remedy)
        if self.size is not None:
            check_integer("size", self.size, low=1, high=MAX_COUNT, remedy="give how many numbers the function writes")
        check_integer("max_count", self.max_count, low=1, high=MAX_COUNT, remedy="give how many zeros to keep")

    @property
    def places(self) -> int:
        """How many zeros are kept of each number."""
        return 1 if self.terminal else self.max_count
