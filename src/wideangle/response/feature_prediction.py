"""What of the reduction of the feature space by stochastic training can be derived."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wideangle._checks import check_flag, check_integer, check_real
from wideangle._provenance import provenance
from wideangle.losses import Loss
from wideangle.response._network_functions import Layers, preactivations, select
from wideangle.response._state import States, check_trained, read_state
from wideangle.response.responses import loss_derivative

if TYPE_CHECKING:
    import xarray as xr

Array = NDArray[np.float64]

PARTS = ("descent", "sampling", "label noise")

THEORY = (
    "imbalance_change is exact for one step; curvature_rate holds at zero squared loss, for small steps and as long as "
    "no activation of a training sample crosses a kink"
)
MEASUREMENT = (
    "that imbalances and curvature go down in this way makes units align and die is not derived: participation ratio, "
    "effective rank and numbers of active and distinct units are measured (feature_space), as is everything for losses "
    "other than the squared one beyond a single step"
)

_BLOCK = 256


class _Noise(NamedTuple):
    batch: int
    correction: float  # of the variance of a mean over the batch by drawing without replacement
    amount: float


def predict_feature_reduction(
    state: Any,
    *,
    batch: Literal["full"] | int = 1,
    noise: float | None = None,
    learning_rate: float | None = None,
    replacement: bool = True,
) -> xr.Dataset:
    r"""Predict how stochastic training moves a network with one hidden layer where gradient flow would not.

    For :math:`f = \sum_i a_i \phi(w_i \cdot x + b_i) + c` with a homogeneous activation, gradient flow conserves the
    imbalance :math:`a_i^2 - |w_i|^2 - b_i^2` of each unit. A step of size :math:`\eta` changes it by

    .. math:: \eta^2 \Bigl[ \Bigl(\overline{g \phi(h_i)}\Bigr)^2
              - a_i^2 \Bigl| \overline{g \phi'(h_i) (x, 1)} \Bigr|^2 \Bigr]

    with the derivative g of the loss and means over the batch: terms of first order cancel, as
    :math:`a_i \phi(h_i) = a_i \phi'(h_i) h_i`. The expectation over batches and labels is the value for all samples
    without noise plus variances over the size of the batch, so noise adds to what large steps do.

    Parameters
    ----------
    state
        What :func:`simulate_training` returns, with one hidden layer, a homogeneous activation and a trained readout.
        Factors of the learning rates are taken into account: a square is divided by its own.
    batch
        Samples of a step, or ``"full"``; default 1.
    noise
        Standard deviation of normal noise of the labels for the squared loss, probability that a sign is changed for
        the others; default None, no noise.
    learning_rate
        Default that of the state.
    replacement
        Whether the batch is drawn with replacement, default True. Otherwise it is the first of an epoch.

    Returns
    -------
    xarray.Dataset
        With the dimensions of the state, such as ``network`` and ``time``; NaN for networks that have diverged:

        - ``imbalance(unit)`` and ``imbalance_change(part, unit)``, its expected change in one step, exact, as the sum
          of the parts ``"descent"`` (all samples, expected labels), ``"sampling"`` and ``"label noise"``;
        - ``curvature``: mean of :math:`K(x_i, x_i)` over the training samples, which is the trace of the Hessian of
          the squared loss where that is zero;
        - ``curvature_rate``, for the squared loss with noise of standard deviation s and a batch of B: its change per
          unit of time. With label noise, parameters drift within the set of zero loss down the gradient of
          :math:`(\eta s^2/4B)\,\mathrm{tr} H` (Blanc et al.), so the rate is :math:`-\eta s^2/4B` times the squared
          length of the gradient of the curvature, that part taken off which would change an output;
        - ``loss``: over the training samples, where ``curvature_rate`` asks for zero.

        The attributes ``theory`` and ``measurement`` say what is derived and what is not.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Notes
    -----
    G. Blanc, N. Gupta, G. Valiant, P. Valiant, "Implicit regularization for deep neural networks driven by an
    Ornstein-Uhlenbeck like process", 2020; A. Damian, T. Ma, J. D. Lee, "Label noise SGD provably prefers flat global
    minimizers", 2021, whose potential is the same for small :math:`\eta`. The imbalance of one step: derived.

    A case solved: for :math:`f = a b x` and one sample :math:`a^2 - b^2` becomes
    :math:`(1 - \eta^2 g^2 x^2)(a^2 - b^2)` in each step. Near zero loss the residual is an autoregressive process with
    :math:`E g^2 = s^2 / (1 - \eta K/2)` and :math:`K = (a^2 + b^2) x^2`, so that the imbalance decays in time at the
    rate :math:`\eta s^2 x^2`, as the potential says, to first order in :math:`\eta`.

    Examples
    --------
    >>> import wideangle as wa
    >>> net, data = wa.MLP((1,), activation="linear"), ([[1.0]], [1.0])
    >>> state = wa.response.simulate_training(
    ...     net, data, n_networks=3, n_steps=8, learning_rate=0.1, loss="squared", biases=False, seed=1
    ... )
    >>> predicted = wa.response.predict_feature_reduction(state.isel(time=-1), noise=0.5)
    >>> rate = predicted["imbalance_change"].sel(part="label noise") / predicted["imbalance"]
    >>> rate.squeeze("unit").values.round(6).tolist()
    [-0.0025, -0.0025, -0.0025]
    """
    import xarray as xr

    states = read_state(state)
    loss, x, _ = check_trained(states)
    _check_network(states)
    kind = _check_noise(states, len(x), batch, noise, replacement)
    eta = _check_learning_rate(learning_rate, states)
    drifts = loss.name == "squared" and kind.amount > 0.0

    number, units = len(states), states.sizes[1]
    values: dict[str, NDArray[Any]] = {
        "imbalance": np.full((number, units), math.nan),
        "imbalance_change": np.full((number, len(PARTS), units), math.nan),
        "curvature": np.full(number, math.nan),
        "loss": np.full(number, math.nan),
    }
    if drifts:
        values["curvature_rate"] = np.full(number, math.nan)
    rows = np.flatnonzero(states.usable)
    for first in range(0, len(rows), _BLOCK):
        block = rows[first : first + _BLOCK]
        for name, found in _predict(select(states.layers, block), states, eta, kind, drifts).items():
            values[name][block] = found
    trailing = {"imbalance": ("unit",), "imbalance_change": ("part", "unit")}
    return xr.Dataset(
        {name: states.variable(array, *trailing.get(name, ())) for name, array in values.items()},
        states.coords | {"part": list(PARTS)},
        provenance(
            "wideangle.response.predict_feature_reduction",
            source="one step exactly (derived); drift by label noise (Blanc et al. 2020; Damian, Ma, Lee 2021)",
            activation=str(states.activation),
            loss=str(loss),
            batch=batch,
            noise=noise,
            learning_rate=eta,
            replacement=replacement,
            theory=THEORY,
            measurement=MEASUREMENT,
        ),
    )


def _check_network(states: States) -> None:
    if len(states.sizes) != 3 or not states.activation.homogeneous:
        raise ValueError(
            f"state must have one hidden layer and a homogeneous activation (relu, leaky_relu, abs, linear), got "
            f"{states.activation} in a network {'-'.join(map(str, states.sizes))}; measure with feature_space instead"
        )
    if not min(*states.weight_rates) > 0.0:
        raise ValueError("state must have trained weights in both layers; measure with feature_space instead")
    biases = states.layers[0][1]
    if states.bias_rates[0] == 0.0 and np.any(biases[np.isfinite(biases)] != 0.0):
        raise ValueError("state has hidden biases that are not trained; the imbalance needs them trained, or zero")


def _check_noise(states: States, n_samples: int, batch: Any, noise: float | None, replacement: bool) -> _Noise:
    drawn = check_flag("replacement", replacement)
    if isinstance(batch, str) and batch == "full":
        size, correction = n_samples, 0.0
    else:
        high = 10**9 if drawn else n_samples
        remedy = "give the number of samples of a step, or 'full'"
        size = check_integer("batch", batch, low=1, high=high, remedy=remedy)
        correction = 1.0 if drawn else (n_samples - size) / max(n_samples - 1, 1)
    if noise is None:
        return _Noise(size, correction, 0.0)
    squared = states.loss is not None and states.loss.name == "squared"
    remedy = "give the standard deviation of the labels" if squared else "give the probability of a wrong label"
    amount = check_real("noise", noise, remedy=remedy)
    if not 0.0 <= amount <= (1e100 if squared else 1.0):
        raise ValueError(f"noise must lie in [0, {'1e100' if squared else '1'}], got {noise!r}; {remedy}")
    return _Noise(size, correction, amount)


def _check_learning_rate(learning_rate: float | None, states: States) -> float:
    remedy = "give the size of a step"
    if learning_rate is None and states.learning_rate is None:
        raise ValueError(f"learning_rate must be given, as state has none; {remedy}")
    given = states.learning_rate if learning_rate is None else learning_rate
    result = check_real("learning_rate", given, remedy=remedy)
    if result <= 0.0:
        raise ValueError(f"learning_rate must be above 0, got {given!r}; {remedy}")
    return result


def _predict(layers: Layers, states: States, eta: float, kind: _Noise, drifts: bool) -> dict[str, Array]:
    loss, x, y = check_trained(states)
    (w, b), (a, _) = layers[0], (layers[1][0][:, 0], layers[1][1])
    (c_w, c_a), (c_b, c_out) = states.weight_rates, states.bias_rates
    z = preactivations(layers, states.activation, x)
    f = z[-1][:, 0]
    phi, slope = states.activation.value(z[0]), states.activation.derivative(z[0])
    # Gradients of the output at each sample, times the roots of their rates: (state, unit, sample[, feature and 1]).
    inputs = np.concatenate([math.sqrt(c_w) * x, np.full((len(x), 1), math.sqrt(c_b))], axis=1)
    outer = math.sqrt(c_a) * phi
    inner = (a[..., None] * slope)[..., None] * inputs

    mean, variance = _force_moments(loss, f, y, kind.amount)
    square = outer**2 - (inner**2).sum(axis=3)
    average = (mean[:, None] * outer).mean(axis=2) ** 2
    average -= ((mean[:, None, :, None] * inner).mean(axis=2) ** 2).sum(axis=2)
    sampling = kind.correction / kind.batch * ((mean[:, None] ** 2 * square).mean(axis=2) - average)
    noisy = (variance[:, None] * square).mean(axis=2) / kind.batch
    imbalance = a**2 / c_a - (w**2).sum(axis=2) / c_w
    values = {
        "imbalance": imbalance - (b**2 / c_b if c_b > 0.0 else 0.0),
        "imbalance_change": eta**2 * np.stack([average, sampling, noisy], axis=1),
        "curvature": (outer**2 + (inner**2).sum(axis=3)).sum(axis=1).mean(axis=1) + c_out,
        "loss": (0.5 * (f - y) ** 2 if loss.name == "squared" else loss.value(y * f)).mean(axis=1),
    }
    if drifts:
        gradient = _curvature_gradient(outer, a[..., None] * slope**2, slope, inputs, c_a)
        jacobian = np.concatenate([outer[:, :, None], inner.swapaxes(2, 3)], axis=2).reshape(len(a), -1, len(x))
        constant = np.full((len(a), 1, len(x)), math.sqrt(c_out))
        free = _free_part(gradient, np.concatenate([jacobian, constant], axis=1))
        values["curvature_rate"] = -eta * kind.amount**2 / (4.0 * kind.batch) * (free**2).sum(axis=1)
    return values


def _force_moments(loss: Loss, f: Array, y: Array, noise: float) -> tuple[Array, Array]:
    """Return mean and variance over noise of the derivative of the loss (state, sample)."""
    here = loss_derivative(loss, f, y)
    if loss.name == "squared":
        return here, np.full_like(here, noise**2)
    wrong = loss_derivative(loss, f, -y)
    return (1.0 - noise) * here + noise * wrong, noise * (1.0 - noise) * (wrong - here) ** 2


def _curvature_gradient(outer: Array, by_readout: Array, slope: Array, inputs: Array, rate: float) -> Array:
    """Return the gradient of the curvature over the parameters times the roots of their rates: (state, parameter)."""
    root = math.sqrt(rate)
    readout = 2.0 * root * (by_readout * (inputs**2).sum(axis=1)).mean(axis=2, keepdims=True)
    hidden = 2.0 * root * ((outer * slope)[..., None] * inputs).mean(axis=2)
    gradient = np.concatenate([readout, hidden], axis=2).reshape(len(outer), -1)
    return np.concatenate([gradient, np.zeros((len(outer), 1))], axis=1)


def _free_part(vectors: Array, jacobian: Array) -> Array:
    """Return what is left of vectors (state, parameter) orthogonal to the columns (state, parameter, sample)."""
    products = np.matmul(jacobian.swapaxes(1, 2), jacobian)
    along = np.matmul(jacobian.swapaxes(1, 2), vectors[..., None])
    # Samples that no change can tell apart make the products singular.
    shares = np.matmul(np.linalg.pinv(products, rcond=1e-12, hermitian=True), along)
    free: Array = vectors - np.matmul(jacobian, shares)[..., 0]
    return free
