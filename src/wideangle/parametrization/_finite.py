"""Networks of several finite widths under ip-llr and hp, trained from common starts, and what is fitted to them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wideangle._checks import check_choice, check_integer, check_seed
from wideangle.activations import Activation
from wideangle.parametrization._arguments import check_threads, check_widths, with_progress
from wideangle.parametrization._conditional import ConditionalMLP, Weights, train_conditional
from wideangle.scalings import named_scaling

if TYPE_CHECKING:
    import xarray as xr

Array = NDArray[np.float64]

METHODS = ("conditional", "pytorch")
SCALINGS = ("ip-llr", "hp")


class Training(NamedTuple):
    """What networks of every width are trained on; see :func:`train_conditional` for ``descent``."""

    n_hidden: int
    phi: Activation
    variance: float
    samples: Array
    points: Array
    n_outputs: int
    descent: Callable[[int, Array], Array]
    n_steps: int


class Networks(NamedTuple):
    """Checked arguments that say which networks are trained and how."""

    widths: tuple[int, ...]
    n_networks: int
    seed: int
    n_threads: int
    method: str

    @property
    def arguments(self) -> dict[str, Any]:
        """Those that results depend on."""
        return {"widths": self.widths, "n_networks": self.n_networks, "seed": self.seed, "method": self.method}


def check_networks(widths: Any, n_networks: Any, seed: Any, n_threads: Any, method: Any) -> Networks:
    """Return the arguments in their common form, or raise."""
    sizes = check_widths(widths, least=3)
    n_networks = check_integer("n_networks", n_networks, low=2, high=10**6, remedy="give a number such as 256")
    checked = Networks(
        sizes, n_networks, check_seed(seed), check_threads(n_threads), check_choice("method", method, METHODS)
    )
    if checked.method == "pytorch":
        from wideangle.reference._torch import require_torch

        require_torch()
    return checked


def train_networks(task: Training, networks: Networks, *, progress: bool) -> Array:
    """Return outputs (scaling, width, network, step, input, unit) after every step."""
    widths, n_networks, seed, n_threads, method = networks
    seeds = np.random.SeedSequence(seed).generate_state(len(widths) * n_networks, np.uint64)
    places = [(widths[k // n_networks], int(own)) for k, own in enumerate(seeds)]
    if method == "pytorch":
        from wideangle.reference._side_by_side import side_by_side

        outputs = side_by_side(
            lambda place, stopped: _train_whole(task, *place, stopped), places, n_threads=n_threads, progress=progress
        )
    else:
        outputs = list(with_progress(_train_conditionally(task, places, n_threads), progress, total=len(places)))
    shape = (len(widths), n_networks, *outputs[0].shape)
    return np.array(np.moveaxis(np.array(outputs).reshape(shape), 2, 0))


def _train_conditionally(task: Training, places: list[tuple[int, int]], n_threads: int) -> Iterator[Array]:
    n_inputs = task.samples.shape[1]
    scalings = [named_scaling(name, task.n_hidden) for name in SCALINGS]

    def one(place: tuple[int, int]) -> Array:
        width, seed = place
        rng = np.random.default_rng(seed)
        weights = Weights(width, task.n_hidden, n_inputs, task.n_outputs, task.variance, rng)
        models = (ConditionalMLP(scaling, width, weights, task.phi) for scaling in scalings)
        return np.array(
            [train_conditional(model, task.samples, task.points, task.descent, task.n_steps) for model in models]
        )

    pool = ThreadPoolExecutor(n_threads)
    try:
        yield from pool.map(one, places)
    finally:
        # An interrupt does not wait for networks that have not begun.
        pool.shutdown(cancel_futures=True)


def _train_whole(task: Training, width: int, seed: int, stopped: Event) -> Array:
    from wideangle.reference import build_scaled_mlp
    from wideangle.reference.scaled import train_steps

    outputs = []
    for name in SCALINGS:
        if stopped.is_set():
            break
        model = build_scaled_mlp(
            named_scaling(name, task.n_hidden),
            width,
            n_inputs=task.samples.shape[1],
            n_outputs=task.n_outputs,
            seed=seed,
            activation=task.phi,
            weight_variance=task.variance,
        )
        outputs.append(train_steps(model, task.samples, task.points, task.descent, task.n_steps))
    return np.array(outputs)


def compare_outputs(outputs: Array, limit: Array, limit_error: Array, widths: tuple[int, ...]) -> xr.Dataset:
    """Return outputs (scaling, width, network, input, unit) with their limit (input, unit) and what fits say."""
    import xarray as xr

    m = np.array(widths, np.float64)
    intercept, error = extrapolate(outputs, m)
    squares = (np.mean(d**2, axis=(-2, -1)) for d in (outputs[0] - limit, outputs[0] - outputs[1]))
    gaps: dict[str, Any] = {}
    for name, square in zip(("", "hybrid_"), squares, strict=True):
        rate, rate_error = fit_rate(square, m)
        gaps |= {f"{name}gap": ("width", np.sqrt(square.mean(axis=1)))}
        gaps |= {f"{name}rate": ((), rate), f"{name}rate_error": ((), rate_error)}
    distance, both = intercept - limit, np.hypot(error, limit_error)
    # Where the input is 0 so is every output.
    z = np.divide(distance, both, out=np.where(distance == 0.0, 0.0, np.inf), where=both > 0.0)
    fitted, point = ("scaling", "input", "unit"), ("input", "unit")
    return xr.Dataset(
        {
            "output": (("scaling", "width", "network", "input", "unit"), outputs),
            "predicted": (point, limit),
            "predicted_error": (point, limit_error),
            "extrapolated": (fitted, intercept),
            "extrapolated_error": (fitted, error),
            "z": (fitted, z),
            **gaps,
        },
        {"scaling": list(SCALINGS), "width": list(widths)},
    )


def extrapolate(outputs: Array, widths: Array) -> tuple[Array, Array]:
    r"""Return intercept and standard error, (scaling, ...), of a parabola in :math:`m^{-1/2}`.

    A line is not enough: with small activations the next order is as large as the first up to widths of thousands.
    """
    # Variances of few networks are too uncertain to be weights; their law, inverse to the width, is not.
    roots = np.sqrt(widths)
    design = np.stack([np.ones_like(roots), 1.0 / roots, 1.0 / widths], axis=1)
    weights = np.linalg.pinv(design * roots[:, None])[0] * roots
    intercept = np.einsum("w,sw...->s...", weights, outputs.mean(axis=2))
    variance = outputs.var(axis=2, ddof=1) / outputs.shape[2]
    return intercept, np.sqrt(np.einsum("w,sw...->s...", weights**2, variance))


def fit_rate(squares: Array, widths: Array) -> tuple[float, float]:
    r"""Return r and its standard error, where a gap is proportional to :math:`m^r \exp(k m^{-1/2})` with any k.

    The gap is the root of the mean over networks of squares (width, network). Without k the next order would make r
    more negative than it is in the limit.
    """
    design = np.stack([np.ones_like(widths), np.log(widths), widths**-0.5], axis=1)
    weights = np.linalg.pinv(design)[1]
    count = squares.shape[1]
    total = squares.sum(axis=1)
    if not np.all(total[:, None] - squares > 0.0):
        return math.nan, math.nan
    # Networks of different widths are independent: each is left out by itself.
    variance = 0.0
    for place in range(len(widths)):
        left = np.log((total[place] - squares[place]) / (count - 1)) * weights[place] / 2.0
        variance += (count - 1) / count * float(np.sum((left - left.mean()) ** 2))
    return float(weights @ np.log(total / count) / 2.0), math.sqrt(variance)
