"""The training response: what one example does to the output everywhere, by a real step and by the tangent kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from wideangle._checks import check_choice, check_flag, check_numbers, check_threads
from wideangle._provenance import provenance
from wideangle.losses import Loss
from wideangle.response._evaluation import check_evaluation_memory, check_points, evaluate
from wideangle.response._state import Array, States, check_trained, read_state
from wideangle.response._training_arguments import check_labels, check_learning_rate

if TYPE_CHECKING:
    import xarray as xr

KINDS = ("kernel", "step")
SOURCE = "tangent kernel times loss derivative, exact; steps of gradient descent on one sample"
_ROUNDINGS = 4  # by which inputs may differ that are taken for the same
_PAIRS = ("kernel", "readout_part", "hidden_part")


def training_response(
    state: xr.Dataset,
    x_train: ArrayLike,
    x_probe: ArrayLike,
    *,
    kind: str = "kernel",
    y_train: ArrayLike | None = None,
    learning_rate: float | None = None,
    n_threads: int | None = None,
    progress: bool = False,
) -> xr.Dataset:
    r"""Compute how the outputs of trained networks answer one more example, at every recorded time.

    A step of gradient descent with learning rate :math:`\eta` on the sample :math:`(x, y)` alone changes the output at
    :math:`x'` by

    .. math:: \Delta f(x') = -\eta\, \ell'(f(x), y)\, K(x', x) + O(\eta^2),

    and the training response is :math:`\Delta f/\eta`: the product of the loss derivative
    :math:`\ell' = \partial\ell/\partial f` and the tangent kernel, which is the sum of what the readout learns and what
    the hidden layers learn.

    Parameters
    ----------
    state
        What :func:`wideangle.response.simulate_training` returns, or a selection of networks and times from it.
    x_train
        Inputs of the examples, (train, feature).
    x_probe
        Where the outputs are looked at, (probe, feature).
    kind
        What ``response``, ``amplitude`` and ``shape`` are computed from: ``"kernel"`` (default), the limit of small
        learning rates; ``"step"``, a real step for each network, time and example.
    y_train
        Labels (train) of the examples, -1 or 1, or any number for the squared loss. By default those that the same
        inputs have in the training data of the state, the same up to rounding to float32 (or less) where ``x_train`` or
        the data of the state come in that type.
    learning_rate
        Of the real steps, default that of the training; without effect on ``kind="kernel"``. The response is exact to
        rounding however small it is: it is not the difference of two outputs, but what the changes of the activations
        add up to from layer to layer, each of which is computed without cancellation.
    n_threads
        Threads; default every processor available. Results do not depend on it.
    progress
        Whether to show a progress bar.

    Returns
    -------
    xarray.Dataset
        Over ``network``, ``time`` (those that the state has), ``train`` and ``probe``: ``response(…, train, probe)``;
        ``kernel(…, train, probe)`` and its ``readout_part`` and ``hidden_part``; ``loss_derivative(…, train)``;
        ``amplitude(…, train)``, the size of the response at the example itself, :math:`|\ell'| K(x, x)` for
        ``kind="kernel"``; ``shape(…, train, probe)``, the response over that at the example itself,
        :math:`K(x', x)/K(x, x)`, NaN where that is 0, as after a step in which the hinge is not active. NaN where a
        network has diverged. Coordinates ``x_train``, ``y_train`` and ``x_probe``. With ``kind="step"`` the attribute
        ``step_learning_rate``.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or shape, the state has no training data, an input of ``x_train`` without
        label is not in them or cannot be told from inputs with another label, or the result does not fit into memory;
        before any work.
    KeyboardInterrupt
        On Ctrl-C, within 0.2 s; nothing is left running.

    Notes
    -----
    The change of the activations of layer l by the step obeys, exactly (derived: insert the updated weights into
    :math:`z^l = W^l h^{l-1} + b^l`),

    .. math::
        \delta z^l(x') = W^l\, \delta h^{l-1}(x') - \eta\, \ell'\, D^l(x)\, \bigl(c_b^l + c_w^l\, h^{l-1}(x) \cdot
        (h^{l-1} + \delta h^{l-1})(x')\bigr),

    with the activations before the step, the rates :math:`c` of :func:`wideangle.response.tangent_kernel` and
    :math:`D^l = \partial f/\partial z^l`; :math:`\delta h^l = \phi(z^l + \delta z^l) - \phi(z^l)` is taken as
    :math:`\delta z^l` times a mean slope.

    References
    ----------
    arXiv 2405.04074, where the response is defined and taken apart; the law of responses: arXiv 2204.07291.

    Examples
    --------
    >>> import numpy as np
    >>> import wideangle as wa
    >>> net = wa.MLP((20,), bias_variance=0.1)
    >>> data = np.array([[-1.0], [0.5], [1.0]]), np.array([-1.0, 1.0, 1.0])
    >>> state = wa.response.simulate_training(net, data, n_networks=4, n_steps=8, learning_rate=0.05, seed=1)
    >>> probes = np.linspace(-1, 1, 5)[:, None]
    >>> response = wa.response.training_response(state, [[1.0]], probes)
    >>> dict(response.response.sizes)
    {'network': 4, 'time': 5, 'train': 1, 'probe': 5}
    >>> step = wa.response.training_response(state, [[1.0]], probes, kind="step", learning_rate=1e-9)
    >>> bool(np.allclose(step.response, response.response, rtol=0, atol=1e-6))
    True
    """
    import xarray as xr

    states = read_state(state)
    loss, _, _ = check_trained(states)
    train, probe = check_points("x_train", x_train, states), check_points("x_probe", x_probe, states)
    kind = check_choice("kind", kind, KINDS)
    labels = (
        _labels_of(train, states, _unit_of_rounding(x_train, state["x"]))
        if y_train is None
        else _check_labels(y_train, loss, len(train))
    )
    rate = _check_learning_rate(learning_rate, states) if kind == "step" or learning_rate is not None else None
    threads = check_threads(n_threads)
    progress = check_flag("progress", progress)
    check_evaluation_memory(states, len(train), len(probe), n_pairs=len(_PAIRS) + 2, n_singles=5)

    outputs = evaluate(states, train, keep=("outputs",), n_threads=threads)["outputs"]
    derivative = loss_derivative(loss, outputs, labels)
    raw = evaluate(
        states,
        train,
        probe,
        keep=(*_PAIRS, "diagonal"),
        loss_derivatives=derivative if kind == "step" else None,
        learning_rate=rate or 1.0,
        n_threads=threads,
        progress=progress,
    )
    _add_factors(raw, derivative, kind)
    coords: dict[str, Any] = {
        **states.coords,
        "train": np.arange(len(train)),
        "probe": np.arange(len(probe)),
        "x_train": (("train", "feature"), train),
        "y_train": ("train", labels),
        "x_probe": (("probe", "feature"), probe),
    }
    variables = {name: states.variable(raw[name], "train", "probe") for name in ("response", *_PAIRS, "shape")}
    variables |= {name: states.variable(raw[name], "train") for name in ("loss_derivative", "amplitude")}
    attrs = provenance("wideangle.response.training_response", source=SOURCE, kind=kind)
    if kind == "step":
        attrs["step_learning_rate"] = rate
    return xr.Dataset(variables, coords, {**states.attrs, **attrs})


def _add_factors(raw: dict[str, Array], derivative: Array, kind: str) -> None:
    """Add the loss derivative, amplitude and shape to kernels and steps, and without steps the response."""
    raw["loss_derivative"] = derivative
    whole, own = ("kernel", "diagonal") if kind == "kernel" else ("response", "own_response")
    with np.errstate(all="ignore"):
        raw["shape"] = raw[whole] / raw[own][..., None]
        raw["amplitude"] = np.abs(raw[own])
        if kind == "kernel":
            raw["response"] = -derivative[..., None] * raw["kernel"]
            raw["amplitude"] *= np.abs(derivative)


def loss_derivative(loss: Loss, outputs: Array, labels: Array) -> Array:
    r"""Return :math:`\partial\ell/\partial f`, element by element; NaN where an output is."""
    with np.errstate(over="ignore", invalid="ignore"):
        if loss.name == "squared":
            return outputs - labels
        return np.where(np.isnan(outputs), outputs, -labels * loss.force(labels * outputs))


def _check_labels(value: Any, loss: Loss, number: int) -> Array:
    """Return one label a sample."""
    remedy = "give a label for each row of x_train"
    labels = check_numbers("y_train", value, ndim=(1,), remedy=remedy)
    if labels.size != number:
        raise ValueError(f"y_train must have {number} label(s), got {labels.size}; {remedy}")
    return check_labels("y_train", labels, loss)


def _unit_of_rounding(*arrays: Any) -> float:
    """Return that of the coarsest type among those of arrays of numbers."""
    types = [np.asarray(array).dtype for array in arrays]
    return max(float(np.finfo(kind if kind.kind == "f" else np.float64).eps) for kind in types)


def _labels_of(train: Array, states: States, unit: float) -> Array:
    """Look up the labels of inputs among the training data, the very same ones, or else those within some roundings."""
    _, x, y = check_trained(states)
    known: dict[bytes, set[float]] = {}
    for row, label in zip(x + 0.0, y.tolist(), strict=True):  # + 0.0 makes 0.0 of -0.0
        known.setdefault(row.tobytes(), set()).add(label)
    result = np.empty(len(train))
    for i, row in enumerate(train + 0.0):
        labels = known.get(row.tobytes())
        if labels is None:
            near = np.abs(x - row).max(axis=1) <= _ROUNDINGS * unit * np.abs(row).max()
            labels = set(y[near].tolist())
        if len(labels) != 1:
            found = "not among the training data of state" if not labels else f"there with labels {sorted(labels)}"
            raise ValueError(f"x_train[{i}] is {found}, so that its label is unknown; give the labels as y_train")
        (result[i],) = labels
    return result


def _check_learning_rate(value: Any, states: States) -> float:
    if value is None and states.learning_rate is None:
        raise ValueError("learning_rate must be given for kind='step', as state has none; give one, such as 1e-3")
    return check_learning_rate(states.learning_rate if value is None else value)
