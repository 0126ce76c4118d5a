"""The modes of the theory against the networks they stand for: gradient flow, and gradient descent in PyTorch."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from wideangle._checks import check_choice
from wideangle._provenance import provenance
from wideangle.dynamics._arguments import check_positive, check_times
from wideangle.dynamics._growth import Array
from wideangle.dynamics._separability import SeparabilityWarning
from wideangle.dynamics.modes import check_modes, simulate_modes
from wideangle.losses import Loss, parse_loss

if TYPE_CHECKING:
    import xarray as xr

SOURCE = "modes of arXiv 1809.06848 against their networks"
ARCHITECTURES = ("diagonal", "relu")
_LARGEST_RATE, _RATES = 0.1, 4
# Below this a run is not gradient descent any more but its rounding.
_LEAST_ERROR = 1e-12


def compare_training(
    features: ArrayLike,
    probabilities: ArrayLike,
    margins0: ArrayLike,
    times: ArrayLike,
    *,
    loss: str | Loss = "cross-entropy",
    imbalance: ArrayLike = 0.0,
    depth: int = 2,
    architecture: str = "diagonal",
    learning_rates: ArrayLike | None = None,
    rtol: float = 1e-10,
) -> xr.Dataset:
    r"""Compare coupled modes with the gradient flow of a network and with its training at decreasing steps.

    Three ways to the same margins, which share no code: the equations of :func:`simulate_modes`, with one variable a
    mode; the gradient flow of all parameters of a network; and gradient descent on them in PyTorch, in float64, whose
    distance from the flow must fall in proportion to the learning rate. The order is fitted and reported.

    Parameters
    ----------
    features, probabilities, margins0, times, loss, imbalance, depth
        As for :func:`simulate_modes`, of a single trajectory. ``imbalance`` is :math:`z^2 - u^2` here, with the sign it
        has: readout squared less projection squared. Modes of depth 2 or more start from margins that are not 0.
    architecture
        ``"diagonal"`` (default): f(x) is the sum over modes of x_k times a product of D factors, on inputs F.
        ``"relu"``: one hidden ReLU layer with all its weights, on inputs of which each has a feature of its own (F with
        one positive entry in each row and column) and labels 1 and -1 in turn; depth 2. There a mode may start from a
        negative margin only with a negative imbalance: other neurons die.
    learning_rates
        At least three different steps, each at most the last time. Default: 0.1 or, if that is smaller, a 200th of the
        last time, then halved three times.
    rtol
        Relative error allowed in a step of the two integrations.

    Returns
    -------
    xarray.Dataset
        - ``modes(mode, time)``: margins of :func:`simulate_modes`;
        - ``flow(mode, time)``: of the gradient flow of all parameters;
        - ``trained(learning_rate, mode, time)``: of gradient descent, between its steps by linear interpolation;
        - ``flow_error``: largest difference of flow and modes, relative to the largest margin;
        - ``training_error(learning_rate)``: the same for training and flow;
        - ``order``, ``order_standard_error``: slope of ln training_error against ln learning_rate by least squares.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, before any work.
    ImportError
        If PyTorch is missing.

    Examples
    --------
    >>> import wideangle as wa
    >>> steps = [0.1, 0.05, 0.025]
    >>> runs = wa.dynamics.compare_training([[1, 0], [1, 1]], [0.5, 0.5], [0.1, 0.1], [2, 4], learning_rates=steps)
    >>> bool(runs.flow_error < 1e-8), round(float(runs.order), 1)
    (True, 1.0)
    """
    problem = check_modes(features, probabilities, margins0, imbalance, depth)
    if len(problem.margins0) != 1 or not problem.single:
        raise ValueError("margins0, probabilities and imbalance must be those of one trajectory; call for each in turn")
    kind = parse_loss(loss)
    output_times = check_times(times)
    architecture = check_choice("architecture", architecture, ARCHITECTURES)
    start, gap = problem.margins0[0], problem.imbalance[0]
    if problem.depth > 1 and np.any((start == 0.0) & (gap == 0.0)):
        raise ValueError("margins0 must not be 0 in a balanced mode, which stays there; give a small number")
    if problem.depth > 1 and np.any((start < 0.0) & (gap == 0.0)):
        raise ValueError(f"margins0 must be positive in a balanced mode, got {start.min()}; give products of factors")
    rates = _check_rates(learning_rates, float(output_times[-1]))
    if architecture == "relu":
        _check_own_features(problem.features, problem.depth)
        if np.any((start < 0.0) & (gap >= 0.0)):
            raise ValueError(
                f"imbalance must be negative where margins0 is, for architecture='relu', got {gap.tolist()} with "
                f"{start.tolist()}; a ReLU neuron passes through zero only from a projection larger than its readout"
            )

    factors = _factors(start, gap, problem.depth)
    shares = problem.probabilities[0]
    modes = simulate_modes(
        problem.features, shares, start, output_times, loss=kind, imbalance=np.abs(gap), depth=problem.depth, rtol=rtol
    )["margins"].values
    if architecture == "relu":
        flow = _flow_of_two_layers(problem.features, shares, factors, output_times, kind, rtol)
    else:
        flow = _flow_of_factors(problem.features, shares, factors, output_times, kind, rtol)
    trained = np.stack(
        [_train(architecture, problem.features, shares, factors, output_times, kind, rate) for rate in rates]
    )
    dataset = _dataset(output_times, rates, modes, flow, trained)
    dataset.attrs = provenance(
        "wideangle.dynamics.compare_training",
        source=SOURCE,
        features=problem.features.ravel().tolist(),
        probabilities=shares.tolist(),
        margins0=start.tolist(),
        imbalance=gap.tolist(),
        loss=kind.name,
        depth=problem.depth,
        architecture=architecture,
        rtol=rtol,
    )
    return dataset


def _check_rates(value: Any, end: float) -> Array:
    if end == 0.0:
        raise ValueError("times must end after 0; give a time up to which to train")
    if value is None:
        return np.asarray(min(_LARGEST_RATE, end / 200.0) * 0.5 ** np.arange(_RATES), np.float64)
    remedy = "give at least three different steps, such as [0.1, 0.05, 0.025]"
    rates = check_positive("learning_rates", value, ndim=(1,), remedy=remedy)
    if np.unique(rates).size < max(3, rates.size):
        raise ValueError(f"learning_rates must be three different numbers or more, got {rates.tolist()}; {remedy}")
    if rates.max() > end:
        raise ValueError(f"learning_rates must be at most the last time, {end:g}, got {rates.max():g}; {remedy}")
    return rates


def _check_own_features(features: Array, depth: int) -> None:
    own = np.count_nonzero(features, axis=0).tolist() + np.count_nonzero(features, axis=1).tolist()
    if depth != 2 or np.any(features < 0.0) or set(own) != {1}:
        raise ValueError(
            "features must have one positive entry in each row and column, and depth must be 2, for "
            f"architecture='relu', got {features.tolist()} and {depth}; otherwise take 'diagonal'"
        )


def _factors(margins: Array, gap: Array, depth: int) -> Array:
    """Return factors (factor, mode): equal ones, or readout and projection with their difference of squares."""
    if depth != 2:
        return margins[None] if depth == 1 else np.tile(margins ** (1.0 / depth), (depth, 1))
    large = np.sqrt(0.5 * (np.hypot(gap, 2.0 * margins) + np.abs(gap)))
    small = np.abs(margins) / large
    readout = np.copysign(np.where(gap >= 0.0, large, small), margins)
    return np.stack([readout, np.where(gap >= 0.0, small, large)])


def _flow_of_factors(features: Array, shares: Array, factors: Array, times: Array, loss: Loss, rtol: float) -> Array:
    """Return margins (mode, time) under gradient flow of the factors themselves, with SciPy."""
    from scipy.integrate import solve_ivp

    def products(some: Array) -> Array:
        result: Array = np.prod(some, axis=0)
        return result

    def others(some: Array) -> Array:
        """Product of all factors but one, for each."""
        ones = np.ones((1, some.shape[1]))
        before = np.cumprod(np.concatenate([ones, some[:-1]]), axis=0)
        after = np.cumprod(np.concatenate([ones, some[:0:-1]]), axis=0)[::-1]
        result: Array = before * after
        return result

    def field(_: float, y: Array, pushing: Array) -> Array:
        some = y.reshape(factors.shape)
        margins = features @ products(some)
        force = pushing if loss.name == "hinge" else loss.force(margins)
        result: Array = (others(some) * (features.T @ (shares * force))).ravel()
        return result

    def reaches_one(row: Array) -> Any:
        def event(_: float, y: Array, pushing: Array) -> float:
            return float(row @ products(y.reshape(factors.shape))) - 1.0

        vars(event).update(terminal=True, direction=1)
        return event

    # The hinge is smooth between the times at which a type reaches 1, where the integration begins again.
    result = np.repeat(products(factors)[:, None], times.size, axis=1)
    now, clock, left = factors.ravel(), 0.0, times > 0.0
    pushing = (features @ products(factors) < 1.0).astype(float)
    while np.any(left):
        watched = np.flatnonzero(pushing * (loss.name == "hinge"))
        piece = solve_ivp(
            field,
            (clock, times[-1]),
            now,
            method="DOP853",
            t_eval=times[left],
            args=(pushing,),
            events=[reaches_one(features[tau]) for tau in watched],
            rtol=max(rtol, 1e-13),
            atol=1e-100,
        )
        if len(piece.t) > 0:
            reached = np.flatnonzero(left)[: len(piece.t)]
            result[:, reached] = products(piece.y.reshape(*factors.shape, -1))
            left[reached] = False
        if piece.status != 1:
            break
        which = next(k for k, found in enumerate(piece.t_events) if found.size)
        clock, now = float(piece.t_events[which][0]), piece.y_events[which][0]
        pushing[watched[which]] = 0.0
    return result


def _flow_of_two_layers(features: Array, shares: Array, factors: Array, times: Array, loss: Loss, rtol: float) -> Array:
    """Return margins (mode, time) under gradient flow of a ReLU network."""
    from wideangle.dynamics.two_layer import simulate_two_layer

    x, y, weights, readout = _two_layers(features, factors)
    with warnings.catch_warnings():
        # Inputs of one class are orthogonal here, and each neuron sees one of them alone: nothing that it warns of.
        warnings.simplefilter("ignore", SeparabilityWarning)
        run = simulate_two_layer(x, y, weights, readout, times, loss=loss, probabilities=shares, rtol=rtol)
    return _per_mode(features, run["margins"].values.T)


def _two_layers(features: Array, factors: Array) -> tuple[Array, Array, Array, Array]:
    """Return inputs, labels, weights and readout: sample and neuron of each mode along an axis, labels in turn."""
    modes = features.shape[1]
    labels_of_modes = np.where(np.arange(modes) % 2 == 0, 1.0, -1.0)
    labels: Array = (features > 0.0).astype(np.float64) @ labels_of_modes
    return features, labels, np.diag(factors[1]), labels_of_modes * factors[0]


def _per_mode(features: Array, margins: Array) -> Array:
    """Return what each mode is from the margins (type, ...) of its own type."""
    own = np.argmax(features > 0.0, axis=0)
    strengths = features[own, np.arange(features.shape[1])]
    result: Array = margins[own] / strengths.reshape(-1, *[1] * (margins.ndim - 1))
    return result


def _train(
    architecture: str, features: Array, shares: Array, factors: Array, times: Array, loss: Loss, rate: float
) -> Array:
    """Return margins (mode, time) of gradient descent, with straight lines between its steps."""
    from wideangle.reference import train_full_batch
    from wideangle.reference.factors import DiagonalNetwork, TwoLayerNetwork

    steps = int(np.ceil(times[-1] / rate - 1e-9))
    options: dict[str, Any] = {"loss": loss, "learning_rate": rate, "steps": steps, "probabilities": shares}
    if architecture == "relu":
        x, y, weights, readout = _two_layers(features, factors)
        rows = _per_mode(features, train_full_batch(TwoLayerNetwork(weights, readout), x, y, **options).T)
    else:
        network = DiagonalNetwork(factors)
        rows = train_full_batch(
            network, features, np.ones(len(features)), record=lambda _: network.modes(), **options
        ).T
    clock = rate * np.arange(steps + 1)
    return np.stack([np.interp(times, clock, row) for row in rows])


def _dataset(times: Array, rates: Array, modes: Array, flow: Array, trained: Array) -> xr.Dataset:
    import xarray as xr

    scale = np.max(np.abs(modes))
    errors = np.max(np.abs(trained - flow), axis=(1, 2)) / scale
    used = np.isfinite(errors) & (errors > _LEAST_ERROR)
    order, uncertainty = np.nan, np.nan
    if np.count_nonzero(used) >= 3:
        x, y = np.log(rates[used]), np.log(errors[used])
        x = x - x.mean()
        order = float(x @ y / (x @ x))
        rest = y - y.mean() - order * x
        uncertainty = float(np.sqrt(rest @ rest / (x.size - 2) / (x @ x)))
    return xr.Dataset(
        {
            "modes": (("mode", "time"), modes),
            "flow": (("mode", "time"), flow),
            "trained": (("learning_rate", "mode", "time"), trained),
            "flow_error": ((), np.max(np.abs(flow - modes)) / scale),
            "training_error": ("learning_rate", errors),
            "order": ((), order),
            "order_standard_error": ((), uncertainty),
        },
        {"learning_rate": rates, "mode": np.arange(len(modes)), "time": times},
    )
