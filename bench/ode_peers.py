"""Gradient starvation of two modes in SciPy, in a scalar Numba loop, in diffrax where it is installed, and here.

Run as a script, this prints times in pairs at the same tolerance, with the errors that each reaches, and a table of
time against error for several tolerances.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit, prange

import wideangle as wa
from bench.timing import in_pairs

Array = npt.NDArray[np.float64]
END = 1000.0
ATOL = 1e-12


def problem(number: int) -> tuple[Array, Array]:
    """Return initial margins (trajectory, mode) and frequencies (trajectory, 1) at random."""
    draws = np.random.default_rng(0).random((number, 3))
    return 1e-3 * 10.0 ** draws[:, :2], 0.05 + 0.45 * draws[:, 2:]


@njit(cache=True)
def starvation(t: Any, m: Any, params: Any, out: Any) -> None:
    """Slopes of two margins under cross-entropy, the second in a fraction of the samples."""
    common, rare = 1.0 / (1.0 + math.exp(m[0])), 1.0 / (1.0 + math.exp(m[0] + m[1]))
    out[0] = 2.0 * m[0] * ((1.0 - params[0]) * common + params[0] * rare)
    out[1] = 2.0 * m[1] * params[0] * rare


def scipy_runs(method: str, y0: Array, params: Array, rtol: float, atol: float = ATOL) -> Array:
    """Integrate one trajectory after another with solve_ivp."""
    from scipy.integrate import solve_ivp

    def slopes(t: float, m: Array, frequency: float) -> list[float]:
        common, rare = 1.0 / (1.0 + math.exp(m[0])), 1.0 / (1.0 + math.exp(m[0] + m[1]))
        slope = 2.0 * m[0] * ((1.0 - frequency) * common + frequency * rare)
        return [slope, 2.0 * m[1] * frequency * rare]

    ends = []
    for start, (frequency,) in zip(y0, params, strict=True):
        run = solve_ivp(slopes, (0.0, END), start, method, args=(frequency,), rtol=rtol, atol=atol)
        ends.append(run.y[:, -1])
    return np.array(ends)


# The Dormand-Prince pair 5(4), rows of the stages and weights of the error.
_DP5 = np.array(
    [
        [1 / 5, 0, 0, 0, 0, 0, 0],
        [3 / 40, 9 / 40, 0, 0, 0, 0, 0],
        [44 / 45, -56 / 15, 32 / 9, 0, 0, 0, 0],
        [19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729, 0, 0, 0],
        [9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656, 0, 0],
        [35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0],
        [71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40],
    ]
)


@njit(parallel=True, cache=True)
def _numba_dp5(y0: Array, params: Array, rtol: float, atol: float, end: float) -> Array:
    number, n = y0.shape
    ends = np.empty_like(y0)
    for trajectory in prange(number):
        y, point, k = y0[trajectory].copy(), np.empty(n), np.empty((7, n))
        t, h = 0.0, 1e-2
        starvation(t, y, params[trajectory], k[0])
        while t < end:
            h = min(h, end - t)
            for stage in range(1, 7):
                for i in range(n):
                    total = 0.0
                    for j in range(stage):
                        total += _DP5[stage - 1, j] * k[j, i]
                    point[i] = y[i] + h * total
                starvation(t, point, params[trajectory], k[stage])
            error = 0.0
            for i in range(n):
                total = 0.0
                for j in range(7):
                    total += _DP5[6, j] * k[j, i]
                error += (h * total / (atol + rtol * max(abs(y[i]), abs(point[i])))) ** 2
            error = math.sqrt(error / n)
            if error <= 1.0:
                t += h
                for i in range(n):
                    y[i], k[0, i] = point[i], k[6, i]
            h *= min(10.0, max(0.2, 0.9 * max(error, 1e-10) ** -0.2))
        ends[trajectory] = y
    return ends


def numba_dp5(y0: Array, params: Array, rtol: float) -> Array:
    """Integrate with a plain adaptive loop over trajectories on every core."""
    return np.asarray(_numba_dp5(y0, params, rtol, ATOL, END))


@cache
def _diffrax_solver(rtol: float) -> Any:
    import diffrax
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)

    def slopes(t: Any, m: Any, frequency: Any) -> Any:
        common, rare = jax.nn.sigmoid(-m[0]), jax.nn.sigmoid(-m[0] - m[1])
        slope = 2.0 * m[0] * ((1.0 - frequency[0]) * common + frequency[0] * rare)
        return jnp.stack([slope, 2.0 * m[1] * frequency[0] * rare])

    def one(start: Any, frequency: Any) -> Any:
        control = diffrax.PIDController(rtol=rtol, atol=ATOL)
        term, solver = diffrax.ODETerm(slopes), diffrax.Tsit5()
        run = diffrax.diffeqsolve(term, solver, 0.0, END, 1e-2, start, frequency, stepsize_controller=control)
        return run.ys[-1]

    return jax.jit(jax.vmap(one))


def diffrax_tsit5(y0: Array, params: Array, rtol: float) -> Array:
    """Integrate all at once with diffrax under vmap and jit."""
    return np.asarray(_diffrax_solver(rtol)(y0, params))


def wideangle_runs(y0: Array, params: Array, rtol: float, method: str = "auto") -> Array:
    """Integrate with this package."""
    run = wa.integrators.integrate(starvation, y0, [0.0, END], params=params, method=method, rtol=rtol, atol=ATOL)
    return np.asarray(run.y[:, -1].values)


# Name, how to run it, and trajectories in a measurement.
PEERS: dict[str, tuple[Callable[[Array, Array, float], Array], int]] = {
    "SciPy DOP853": (partial(scipy_runs, "DOP853"), 100),
    "SciPy LSODA": (partial(scipy_runs, "LSODA"), 100),
    "Numba loop, Dormand-Prince 5(4), every core": (numba_dp5, 20_000),
    "diffrax Tsit5, vmap and jit": (diffrax_tsit5, 10_000),
}
OWN: dict[str, Callable[[Array, Array, float], Array]] = {
    "wideangle dop853": partial(wideangle_runs, method="dop853"),
    "wideangle tsit5": partial(wideangle_runs, method="tsit5"),
}


def installed() -> dict[str, tuple[Callable[[Array, Array, float], Array], int]]:
    """Return the peers that can be imported."""
    import importlib.util

    return {name: peer for name, peer in PEERS.items() if "diffrax" not in name or importlib.util.find_spec("diffrax")}


def relative_error(run: Callable[[Array, Array, float], Array], rtol: float, number: int = 50) -> float:
    """Return the median over trajectories of the larger relative error of the two margins."""
    y0, params = problem(number)
    return float(np.median(np.abs(run(y0, params, rtol) / truth(number) - 1.0).max(axis=1)))


@cache
def truth(number: int) -> Array:
    """Return the margins at the end from SciPy at its tightest tolerance."""
    return scipy_runs("DOP853", *problem(number), 3e-14, 1e-20)


def main() -> None:
    """Print the times of every peer beside those of wideangle, and time against error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rtol", type=float, default=1e-8)
    parser.add_argument("--trajectories", type=int, default=100_000)
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    ours = partial(wideangle_runs, *problem(options.trajectories), options.rtol)
    for name, (peer, number) in installed().items():
        theirs, own, _ = in_pairs(partial(peer, *problem(number), options.rtol), ours, pairs=options.pairs)
        times = 1e6 * theirs.median / number, 1e6 * own.median / options.trajectories
        print(f"{name}: {times[0]:.3g} us a trajectory; wideangle {times[1]:.3g} us; ratio {times[0] / times[1]:.3g}")
    print("\nmethod, rtol, error, us a trajectory")
    for name, (run, number) in {**installed(), **{name: (run, 20_000) for name, run in OWN.items()}}.items():
        for rtol in (1e-4, 1e-6, 1e-8, 1e-10, 1e-12):
            time, _, _ = in_pairs(partial(run, *problem(number), rtol), lambda: None, pairs=3)
            print(f"{name}, {rtol:g}, {relative_error(run, rtol):.2g}, {time.median / number * 1e6:.3g}")


if __name__ == "__main__":
    main()
