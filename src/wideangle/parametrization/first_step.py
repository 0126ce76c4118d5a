"""Infinitely wide integrable networks after one large step, for which only a few numbers a layer are left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wideangle._checks import check_integer, check_memory, check_numbers, check_real, check_seed
from wideangle._provenance import provenance
from wideangle.activations import Activation, parse_activation
from wideangle.parametrization._expectations import (
    Slopes,
    gaussian_mean,
    pair_mean,
    rectified_product,
)
from wideangle.parametrization._first_step_particles import predict_batch
from wideangle.scalings import MAX_HIDDEN

if TYPE_CHECKING:
    import xarray as xr

Array = NDArray[np.float64]

SOURCE = "ip-llr after one step at infinite width, Hajjar, Chizat and Giraud, arXiv 2110.15596; recursion derived"
_ROUNDINGS = 16 * float(np.finfo(np.float64).eps)
_LARGEST = 1e50  # of the size of inputs and steps: squares of their products are floats


def predict_first_step(
    n_hidden: int,
    x0: ArrayLike,
    x: ArrayLike,
    *,
    step: ArrayLike,
    activation: str | Activation = "relu",
    weight_variance: float | None = None,
    n_particles: int = 2**17,
    seed: int = 0,
) -> xr.Dataset:
    r"""Predict the output of an ``"ip-llr"`` network at infinite width after its first step of gradient descent.

    Parameters
    ----------
    n_hidden
        Number L of hidden layers, from 1.
    x0
        The training sample, (feature), or a batch (sample, feature). Features are taken as they are: initial weights
        of the first layer have variance ``weight_variance`` over the number of features.
    x
        Where to predict, (feature) or (input, feature).
    step
        :math:`s = -\eta\, \ell'(f_0)` with :math:`f_0 = 0`, the learning rate times minus the derivative of the loss;
        not zero. For a batch one number for each sample, with its share in the mean loss, or one for all.
    activation
        Name of :math:`\phi`, as for :class:`wideangle.MLP`; default ``"relu"``.
    weight_variance
        Of the entries of U of layers 1 to L; 1 for the output layer. By default gradients keep their size: 2 for
        ReLU, 4 for GELU and SiLU, 1 for tanh, ELU and sin, 16 for sigmoid, in general 1 over the mean square of the
        slopes of :math:`\phi` at both sides of zero. From two hidden layers on an activation must be zero at zero.
    n_particles
        For a batch of two and more: number of neurons drawn for each layer, from 1,000, in 16 equal groups; default
        131,072.
    seed
        For a batch, from 0; default 0.

    Returns
    -------
    xarray.Dataset
        Without ``input`` if x is one point, without ``sample`` if x0 is.

        - ``output(input)``: :math:`f_1(x)`;
        - ``alpha(layer, sample, input)``: overlaps :math:`\alpha_l = E[\hat x^l_0(x_0)\, x^l_1(x)]` of a layer's
          activations before the step, scaled to order one, with those after it; layers 1 to L;
        - ``output_error(input)``: of ``output``; for piecewise linear activations what roundings may amount to, for
          others the difference of two quadratures and roundings, for a batch one standard error;
        - ``alpha_error``: the same of ``alpha``.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, before any work; if the result overflows.

    Notes
    -----
    Derived. In the limit the pre-activations of layers 2 to L vanish at the start, like :math:`m^{-(l-1)/2}`. Divided
    by that they are Gaussians :math:`\hat h^l` of variance :math:`q_l`, on which :math:`\phi` acts through its slopes
    at zero, as :math:`\phi_0`. So are back-propagated gradients :math:`G^l`, independent of them. The update of layer
    l is :math:`s\, \phi'(h^l) G^l\, \hat x^{l-1}_0`, so that with :math:`u = U^1 x`

    .. math::
        h^1_1(x) = u(x) + s\, x_0 \cdot x\, \phi'(u(x_0))\, G^1, \qquad
        h^l_1(x) = s\, \alpha_{l-1}\, \phi_0'(\hat h^l)\, G^l, \qquad
        f_1 = E[(G^L + s\, \hat x^L_0)\, \phi(h^L_1)] .

    For ReLU and one sample, with :math:`q = 2|x_0|^2/d`, :math:`c = 2 x_0 \cdot x/d` and
    :math:`\sigma'^2 = 2 |x|^2/d + (s\, x_0 \cdot x)^2`, this is
    :math:`\alpha_1 = \sqrt q\, \sigma' J(\arccos c/(\sqrt q\, \sigma'))/2\pi` with
    :math:`J(\theta) = \sin\theta + (\pi - \theta) \cos\theta`, :math:`\alpha_l = |s\, \alpha_{l-1}| \sqrt q/2\pi`,
    and, for L from 2 on, :math:`f_1 = s\, \alpha_{L-1}/4 + s\, \alpha_L`. A network of width m differs by the order
    of :math:`m^{-1/2}`.

    With an activation that is smooth at zero, :math:`\alpha_l = 0` for l from 2 on, as the mean of
    :math:`\hat x^l_0` is zero: from three hidden layers on the first step leaves the output at 0. This is not in the
    paper, whose theorems are about positively homogeneous activations.

    Examples
    --------
    >>> import wideangle as wa
    >>> first = wa.parametrization.predict_first_step(2, [1.0, 1.0], [[1.0, 1.0], [1.0, -1.0]], step=1.0)
    >>> first.output.values.round(4)
    array([0.5445, 0.1512])
    """
    checked = check_inputs(n_hidden, x0, x, activation=activation, weight_variance=weight_variance)
    steps = check_steps(step, x0)
    n_particles = check_integer(
        "n_particles", n_particles, low=1000, high=10**8, remedy="give a number such as 100_000"
    )
    seed = check_seed(seed)

    n_hidden, samples, points, phi, variance = checked
    with np.errstate(over="ignore", invalid="ignore"):
        if len(samples) == 1:
            network = _OneSample(phi, variance, n_hidden, samples[0], float(steps[0]))
            method = "closed form" if phi.homogeneous else "quadrature"
            predicted = network.closed(points) if phi.homogeneous else network.by_quadrature(points)
        else:
            needed = 8 * n_particles * 6 * (len(samples) + len(points))
            check_memory(needed, "neurons drawn for this batch need", remedy="give fewer n_particles or points")
            method = "particles"
            predicted = predict_batch(phi, variance, n_hidden, samples, points, steps, n_particles, seed)
    if not all(np.all(np.isfinite(values)) for values in predicted):
        raise ValueError(
            f"step must leave outputs that are floats, got {step!r} with {n_hidden} hidden layers, for which they "
            "overflow; give a smaller step, inputs or weight_variance"
        )
    attributes = provenance(
        "wideangle.parametrization.predict_first_step",
        source=SOURCE,
        method=method,
        n_hidden=n_hidden,
        step=steps.tolist(),
        activation=str(phi),
        weight_variance=variance,
        n_particles=n_particles,
        seed=seed,
    )
    return _dataset(predicted, np.ndim(x0) == 1, np.ndim(x) == 1, attributes)


class Inputs(NamedTuple):
    """Checked arguments that describe a network and what it sees; samples and points (..., feature) are matrices."""

    n_hidden: int
    samples: Array
    points: Array
    phi: Activation
    variance: float


def check_inputs(n_hidden: Any, x0: Any, x: Any, *, activation: Any, weight_variance: Any) -> Inputs:
    """Return the arguments in their common form, or raise."""
    remedy = "give the number of hidden layers, such as 3"
    n_hidden = check_integer("n_hidden", n_hidden, low=1, high=MAX_HIDDEN, remedy=remedy)
    remedy = "give a training sample (feature) or (sample, feature)"
    samples = check_numbers("x0", x0, ndim=(1, 2), largest=_LARGEST, remedy=remedy)
    remedy = "give points (feature) or (input, feature)"
    points = check_numbers("x", x, ndim=(1, 2), largest=_LARGEST, remedy=remedy)
    if samples.shape[-1] != points.shape[-1]:
        raise ValueError(
            f"x must have the {samples.shape[-1]} features of x0, got shape {points.shape}; give points of one space"
        )
    phi = parse_activation(activation)
    if n_hidden > 1 and float(phi.value(0.0)) != 0.0:
        raise ValueError(
            f"activation must be zero at zero with {n_hidden} hidden layers, got {str(phi)!r}: outputs then start from"
            " a constant that grows with the width; choose 'tanh', which is a sigmoid about its middle"
        )
    return Inputs(n_hidden, np.atleast_2d(samples), np.atleast_2d(points), phi, _check_variance(weight_variance, phi))


def check_steps(step: Any, x0: Any) -> Array:
    """Return one step for each sample, of which there is one if x0 has one dimension, or raise."""
    count = 1 if np.ndim(x0) == 1 else len(x0)
    remedy = "give the learning rate times minus the derivative of the loss, such as 1.0, or one for each sample"
    values = check_numbers("step", step, ndim=(0, 1), largest=_LARGEST, remedy=remedy)
    if values.ndim == 1 and len(values) != count:
        raise ValueError(f"step must be one number or {count}, one for each sample of x0, got {len(values)}; {remedy}")
    if not np.any(values):
        raise ValueError(f"step must not be zero, got {step!r}; {remedy}")
    return np.array(np.broadcast_to(values, (count,)))


class _OneSample(NamedTuple):
    """The recursion for one training sample."""

    phi: Activation
    variance: float
    n_hidden: int
    sample: Array
    step: float

    def closed(self, points: Array) -> tuple[Array, Array, Array, Array]:
        """For piecewise linear activations, all points at once."""
        above, below = slopes = Slopes(*self.phi.slopes_at_zero)
        d = len(self.sample)
        q = self.variance * float(self.sample @ self.sample) / d
        products = points @ self.sample
        kappa = self.step * products
        gradient = self._gradient_variances(slopes)
        # Of the pre-activation of the sample, and, on either side of its zero, of that of the point after the step.
        covariance = self.variance * products / d
        root = np.sqrt(q)
        along = covariance / root if q > 0.0 else np.zeros_like(products)
        residuals = points - _projection(points, self.sample)
        off = np.sqrt(self.variance / d) * np.linalg.norm(residuals, axis=1)
        halves, both = [], []
        for sign, slope in ((1.0, above), (-1.0, below)):
            spread = np.hypot(off, kappa * slope * np.sqrt(gradient[0]))
            product = rectified_product(root * np.hypot(along, spread), sign * covariance, root * spread)
            halves.append(below * sign * covariance / 2.0 + (above - below) * product)
            # P(both positive) = (pi - angle)/2 pi.
            angle = np.arctan2(spread, sign * along)
            both.append((below * 0.5 + (above - below) * (np.pi - angle) / (2.0 * np.pi)) * slope)
        alphas = [above * halves[0] - below * halves[1]]
        # What roundings of products and residuals amount to, which may cancel.
        steepest = max(abs(above), abs(below))
        lengths = np.linalg.norm(points, axis=1) * np.linalg.norm(self.sample)
        moved = np.abs(self.step) * lengths * steepest * np.sqrt(gradient[0])
        errors = [_ROUNDINGS * (d + 4) * steepest**2 * (self.variance * lengths / d + root * moved)]
        norm = q * self.variance * slopes.mean_square
        for layer in range(2, self.n_hidden + 1):
            factor = np.abs(self.step) * np.sqrt(norm * gradient[layer - 1]) / (2.0 * np.pi)
            factor = factor * (above - below) * (above * abs(above) - below * abs(below))
            alphas.append(factor * np.abs(alphas[-1]))
            errors.append(np.abs(factor) * errors[-1] + _ROUNDINGS * np.abs(alphas[-1]))
            norm *= self.variance * slopes.mean_square
        if self.n_hidden == 1:
            output = kappa * (both[0] + both[1]) + self.step * alphas[0]
            error = _ROUNDINGS * (d + 4) * np.abs(self.step) * lengths * steepest**2 + np.abs(self.step) * errors[0]
        else:
            # E[Z phi(c Z)] = c E[phi'(c Z)] on either side.
            mean = self.step * (0.5 * (above + below)) ** 2
            output = mean * alphas[-2] + self.step * alphas[-1]
            error = np.abs(mean) * errors[-2] + np.abs(self.step) * errors[-1]
        return output, np.array(alphas), error, np.array(errors)

    def by_quadrature(self, points: Array) -> tuple[Array, Array, Array, Array]:
        """For activations that are smooth at zero."""
        results = [self._at(point) for point in points]
        outputs, alphas, errors, alpha_errors = (np.array(list(some)) for some in zip(*results, strict=True))
        return outputs, alphas.T, errors, alpha_errors.T

    def _at(self, point: Array) -> tuple[float, Array, float, Array]:
        phi, s = self.phi, self.step
        slopes = Slopes(*phi.slopes_at_zero)
        d, product = len(point), float(self.sample @ point)
        q = self.variance * float(self.sample @ self.sample) / d
        gradient = self._gradient_variances(slopes)
        alphas, errors = np.zeros(self.n_hidden), np.zeros(self.n_hidden)
        if q == 0.0:
            # The sample is zero: no weight of the first layer moves, and it has no activation to learn from.
            return 0.0, alphas, 0.0, errors
        slope = product / float(self.sample @ self.sample)
        residual = point - slope * self.sample
        free = self.variance * float(residual @ residual) / d
        kappa = s * product

        def spread(u: Array) -> Array:
            return np.asarray(np.sqrt(free + kappa**2 * gradient[0] * phi.derivative(u) ** 2))

        alphas[0], errors[0] = pair_mean(phi.value, phi.value, np.sqrt(q), slope, spread)
        if self.n_hidden == 1:
            mean, error = pair_mean(phi.derivative, phi.derivative, np.sqrt(q), slope, spread)
            return kappa * mean + s * alphas[0], alphas, abs(kappa) * error + abs(s) * errors[0], errors
        # From the second layer on the overlaps vanish: a smooth activation is linear at zero, and the mean of x0 is 0.
        c = s * float(alphas[self.n_hidden - 2]) * slopes.above
        mean, error = gaussian_mean(phi.derivative, abs(c))
        reached = abs(s * slopes.above) * float(errors[self.n_hidden - 2])
        return c * mean, alphas, abs(c) * error + reached, errors

    def _gradient_variances(self, slopes: Slopes) -> Array:
        """Of G of layers 1 to L."""
        return np.asarray(np.power(self.variance * slopes.mean_square, np.arange(self.n_hidden - 1.0, -0.5, -1.0)))


def _projection(points: Array, onto: Array) -> Array:
    square = float(onto @ onto)
    return np.asarray(np.outer(points @ onto / square, onto)) if square > 0.0 else np.zeros_like(points)


def _check_variance(value: Any, phi: Activation) -> float:
    if value is None:
        return phi.gradient_preserving_variance
    remedy = "give a positive variance, such as 2.0"
    variance = check_real("weight_variance", value, remedy=remedy)
    if not 1.0 / _LARGEST <= variance <= _LARGEST:
        raise ValueError(f"weight_variance must be positive and at most {_LARGEST:g}, got {value!r}; {remedy}")
    return variance


def _dataset(
    predicted: tuple[Array, Array, Array, Array], one_sample: bool, one_point: bool, attributes: dict[str, Any]
) -> xr.Dataset:
    import xarray as xr

    output, alpha, output_error, alpha_error = predicted
    if alpha.ndim == 2:
        alpha, alpha_error = alpha[:, None], alpha_error[:, None]
    dims = ("layer", "sample", "input")
    dataset = xr.Dataset(
        {
            "output": ("input", output),
            "alpha": (dims, alpha),
            "output_error": ("input", output_error),
            "alpha_error": (dims, alpha_error),
        },
        {"layer": np.arange(1, len(alpha) + 1)},
        attributes,
    )
    if one_sample:
        dataset = dataset.isel(sample=0)
    return dataset.isel(input=0) if one_point else dataset
