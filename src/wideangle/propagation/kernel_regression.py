"""What infinitely wide networks predict after training: Gaussian-process posterior and gradient flow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from wideangle._checks import check_real
from wideangle._provenance import provenance
from wideangle.propagation._inputs import Array, as_numbers, check_inputs

if TYPE_CHECKING:
    import xarray as xr

SOURCE = "Lee et al., arXiv 1902.06720, Corollary 1"
BLOCK = 256


def predict_mean_variance(
    train: tuple[ArrayLike, ArrayLike],
    test: ArrayLike,
    *,
    kernel: Callable[..., Any],
    noise: float = 0.0,
    time: float | ArrayLike | None = None,
) -> xr.Dataset:
    r"""Mean and variance, over initialisations, of infinitely wide networks trained by gradient flow on squared loss.

    At infinite width training is linear: all parameters move as in the first-order expansion about their initial
    values, and the output f after time t is an affine function of the outputs at initialisation. The loss is
    :math:`\frac12\sum_i (f(x_i) - y_i)^2`, a sum over samples and not their mean, and t is learning rate times steps;
    for a loss that is the mean over m samples give t/m.

    Parameters
    ----------
    train
        Inputs of shape (input, feature) and targets of shape (input,) or (input, output).
    test
        Inputs of shape (input, feature) at which to predict.
    kernel
        Function of two arrays of inputs, or of one for all its pairs, such as
        ``functools.partial(wa.propagation.nngp_kernel, net)``: training of the readout alone, or, with ``time=None``,
        the Bayesian posterior. ``functools.partial(wa.propagation.tangent_kernel, net)``: training of all parameters.
        Another function may return a Dataset with ``kernel``, and ``nngp`` if the covariance at initialisation is
        another one, or a plain array, which is both.
    noise
        Variance :math:`\lambda` of the targets' noise, default 0. It enters as in sampling from a posterior: parameters
        are pulled toward their initial values, :math:`\frac\lambda2|\theta - \theta_0|^2` in the loss, and every
        network has its own noise of variance :math:`\lambda` added to its targets.
    time
        Time or times t >= 0 of gradient flow; ``None`` (default) for its end.

    Returns
    -------
    xarray.Dataset
        ``mean(test_input, output)`` and ``variance(test_input)`` of f, the same for each output; without ``output`` if
        the targets are one-dimensional, and with a leading ``time`` if ``time`` is an array. The variance of the noise
        is not in it.

    Raises
    ------
    TypeError, ValueError
        If shapes do not fit, values are not finite, ``noise`` or a time is negative, or the kernel of the training
        inputs is not symmetric and positive semi-definite.

    Notes
    -----
    With :math:`\Theta` the tangent kernel, K the covariance at initialisation, X the training inputs, x a test input,

    .. math::

        A_t = \Theta_{xX}\,\frac{1 - e^{-(\Theta_{XX} + \lambda)t}}{\Theta_{XX} + \lambda}, \qquad
        E f_t = A_t y, \qquad
        \mathrm{Var} f_t = K_{xx} - 2 A_t K_{Xx} + A_t (K_{XX} + \lambda) A_t^{\mathsf T} .

    For :math:`\lambda = 0` this is arXiv 1902.06720. With noise (derived): the flow of the parameters,
    :math:`\dot\theta = -J^{\mathsf T}(f - y - \epsilon) - \lambda(\theta - \theta_0)`, keeps
    :math:`\theta - \theta_0 = J^{\mathsf T}a` with :math:`\dot a = -(\Theta_{XX} + \lambda)a + y + \epsilon - f_0`. For
    :math:`\Theta = K` and :math:`t \to \infty` mean and variance are those of the Gaussian-process posterior.

    Functions of :math:`\Theta_{XX}` are taken through its eigenvalues. Those below rounding, as many as there are
    repeated inputs, count as 0, and nothing is learned in their directions: targets that differ for equal inputs are
    averaged.

    References
    ----------
    J. Lee et al., arXiv 1902.06720, Corollary 1; arXiv 1711.00165 for the posterior.

    Examples
    --------
    >>> import functools
    >>> import numpy as np, wideangle as wa
    >>> angle = np.linspace(0, 2 * np.pi, 8, endpoint=False)
    >>> circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    >>> kernel = functools.partial(wa.propagation.tangent_kernel, wa.MLP((1,) * 2))
    >>> result = wa.propagation.predict_mean_variance(
    ...     (circle[::2], np.sin(angle[::2])), circle[1::2], kernel=kernel, time=[0.0, 1.0, 10.0]
    ... )
    >>> result["mean"].sel(test_input=0).round(3).values
    array([0.   , 0.524, 0.563])
    """
    import xarray as xr

    x, y = _check_train(train)
    inputs = check_inputs("test", test)
    if inputs.shape[1] != x.shape[1]:
        raise ValueError(
            f"test must have as many features as the training inputs, {x.shape[1]}, got shape {inputs.shape}; give "
            "inputs of one kind"
        )
    if not callable(kernel):
        raise TypeError(
            f"kernel must be a function of inputs, got {type(kernel).__name__}; give "
            "functools.partial(wa.propagation.tangent_kernel, net)"
        )
    noise = check_real("noise", noise, remedy="give the variance of the targets' noise, 0 or more")
    if noise < 0.0:
        raise ValueError(f"noise must not be negative, got {noise!r}; give a variance, 0 or more")
    times = _check_time(time)

    flow = _Flow.prepare(x, inputs, kernel, noise)
    targets = flow.vectors.T @ (y if y.ndim == 2 else y[:, None])
    means, variances = [], []
    for t in np.atleast_1d(np.inf if times is None else times):
        mean, variance = flow.at(float(t), targets)
        means.append(mean if y.ndim == 2 else mean[:, 0])
        variances.append(variance)
    array = times is not None and times.ndim == 1
    mean_dims = ("test_input", "output") if y.ndim == 2 else ("test_input",)
    leading = ("time",) if array else ()
    dataset = xr.Dataset(
        {
            "mean": ((*leading, *mean_dims), np.array(means) if array else means[0]),
            "variance": ((*leading, "test_input"), np.array(variances) if array else variances[0]),
        },
        {"time": times} if array else {},
    )
    dataset.attrs = provenance(
        "wideangle.propagation.predict_mean_variance",
        source=SOURCE,
        noise=noise,
        time=None if times is None else times.tolist(),
    )
    return dataset


@dataclass(frozen=True)
class _Flow:
    """Kernels in the eigenvectors of the training kernel."""

    vectors: Array
    values: Array  # eigenvalues of the tangent kernel; 0 where rounding leaves nothing of them
    noise: float
    across: Array  # tangent kernel of test and training inputs
    covariance_across: Array
    covariance: Array | None  # of the training inputs; None where it is the tangent kernel
    prior: Array  # variance of each test input

    @classmethod
    def prepare(cls, x: Array, inputs: Array, kernel: Callable[..., Any], noise: float) -> _Flow:
        tangent, nngp = _evaluate(kernel, (x,), (x.shape[0], x.shape[0]))
        asymmetry = np.abs(tangent - tangent.T).max()
        if asymmetry > 1e-8 * np.abs(tangent).max():
            raise ValueError(
                f"kernel must be symmetric, got values that differ by {asymmetry:.3g} across the diagonal for the "
                "training inputs; give a symmetric function"
            )
        values, vectors = np.linalg.eigh(0.5 * (tangent + tangent.T))
        rounding = max(10, x.shape[0]) * np.finfo(float).eps * np.abs(values).max()
        if values[0] < -max(1e-8 * values[-1], 100.0 * rounding):
            raise ValueError(
                f"kernel must be positive semi-definite, got an eigenvalue {values[0]:.3g} for the training inputs; "
                "give a covariance function"
            )
        shape = (inputs.shape[0], x.shape[0])
        across, nngp_across = _evaluate(kernel, (inputs, x), shape)
        prior = np.empty(inputs.shape[0])
        for start in range(0, inputs.shape[0], BLOCK):
            part = inputs[start : start + BLOCK]
            own, own_nngp = _evaluate(kernel, (part,), (part.shape[0], part.shape[0]))
            prior[start : start + BLOCK] = np.diagonal(own if own_nngp is None else own_nngp)
        covariance = None if nngp is None else vectors.T @ nngp @ vectors
        rotated = across @ vectors
        return cls(
            vectors,
            np.where(values > rounding, values, 0.0),
            noise,
            rotated,
            rotated if nngp_across is None else nngp_across @ vectors,
            covariance,
            prior,
        )

    def at(self, time: float, targets: Array) -> tuple[Array, Array]:
        """Mean and variance; ``targets`` are in the eigenvectors."""
        rates = self.values + self.noise
        learned = self.across * np.where(self.values > 0.0, _saturation(rates, time), 0.0)
        variance = self.prior - 2.0 * np.sum(learned * self.covariance_across, axis=1)
        if self.covariance is None:
            variance += learned**2 @ rates
        else:
            variance += np.sum((learned @ self.covariance) * learned, axis=1) + self.noise * np.sum(learned**2, axis=1)
        # Where all is known the terms cancel, and rounding can leave less than nothing.
        return learned @ targets, np.maximum(variance, 0.0)


def _saturation(rates: Array, time: float) -> Array:
    """(1 - exp(-rate time))/rate for rates of at least 0."""
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        return np.where(rates > 0.0, -np.expm1(-rates * time) / rates, time)


def _evaluate(
    kernel: Callable[..., Any], inputs: tuple[Array, ...], shape: tuple[int, int]
) -> tuple[Array, Array | None]:
    """The kernel's values, and the covariance where it is another one."""
    result = kernel(*inputs)
    variables = getattr(result, "data_vars", None)
    if variables is not None and "kernel" not in variables:
        raise ValueError(f"kernel must return a Dataset with 'kernel', got {list(variables)}; give such a variable")
    tangent = _check_kernel(result if variables is None else result["kernel"], shape)
    nngp = _check_kernel(result["nngp"], shape) if variables is not None and "nngp" in variables else None
    return tangent, nngp


def _check_kernel(values: Any, shape: tuple[int, int]) -> Array:
    remedy = "give a function of two arrays of inputs that returns (input, input_), without keep='layers'"
    array = as_numbers("the result of kernel", getattr(values, "values", values), remedy=remedy)
    if array.shape != shape:
        raise ValueError(f"kernel must return an array of shape {shape} for these inputs, got {array.shape}; {remedy}")
    return array


def _check_train(train: Any) -> tuple[Array, Array]:
    remedy = "give a pair (x, y) of training inputs (input, feature) and targets (input,) or (input, output)"
    if not isinstance(train, (tuple, list)) or len(train) != 2:
        raise TypeError(f"train must be a pair, got {type(train).__name__}; {remedy}")
    x = check_inputs("train[0]", train[0])
    y = as_numbers("train[1]", train[1], remedy=remedy)
    if y.ndim not in (1, 2) or y.shape[0] != x.shape[0] or 0 in y.shape:
        raise ValueError(
            f"train[1] must have a target for each of the {x.shape[0]} inputs, got shape {y.shape}; {remedy}"
        )
    return x, y


def _check_time(time: Any) -> Array | None:
    remedy = "give a time or a sequence of times, 0 or more, or None for the end of training"
    if time is None:
        return None
    times = as_numbers("time", time, remedy=remedy)
    if times.ndim > 1 or times.size == 0 or np.any(times < 0.0):
        raise ValueError(f"time must hold one or more times of at least 0, got {time!r}; {remedy}")
    return times
