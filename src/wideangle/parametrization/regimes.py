"""Which scalings are the same, and what a network does under one of them as its width grows."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from wideangle._checks import check_choice
from wideangle.parametrization._sizes import Sizes
from wideangle.scalings import Exponents, Scaling, check_scaling, named_scaling

_MOST_STEPS = 1000


def scaling(name: str, n_hidden: int) -> Scaling:
    r"""Return a scaling of the literature with its exact exponents.

    Parameters
    ----------
    name
        - ``"standard"``: initial weights of size one over the root of the number of inputs, one learning rate for all;
        - ``"ntk"``: the same sizes as multipliers, which gives the tangent-kernel limit;
        - ``"mup"``: maximal update;
        - ``"ip"``: integrable, or mean-field: averages over neurons in place of sums;
        - ``"ip-llr"``: that with a large first step, by which networks of any depth leave their start;
        - ``"ip-bias"``: integrable with random biases that are not scaled with the width;
        - ``"ip-non-centered"``: integrable with initial weights of nonzero mean;
        - ``"hp"``: hybrid, ``"mup"`` with the initial weights of inner layers taken out after the first step.
    n_hidden
        Number L of hidden layers, from 1.

    Returns
    -------
    Scaling

    Raises
    ------
    TypeError, ValueError
        If the name is not known, or the number is not an integer from 1 on.

    Notes
    -----
    Exponents from Hajjar, Chizat and Giraud, arXiv 2110.15596, sections 2 to 6; ``"standard"``, ``"ntk"`` and
    ``"mup"`` also Yang and Hu, arXiv 2011.14522. As in the first of them only ``"ip-bias"`` has biases; ``"standard"``,
    ``"ntk"`` and ``"mup"`` hold the exponents of those that a network may have, as weights of an input that is
    always 1. Not in these papers: the exponents for Adam, under which every step changes a weight by as much as a step
    of gradient descent does, apart from ``"standard"``, which has one learning rate for all widths. Optimizers that act
    on whole matrices, such as Muon, are not covered.

    Examples
    --------
    >>> import wideangle as wa
    >>> s = wa.parametrization.scaling("ip-llr", 3)
    >>> [str(exponent) for exponent in s.c_first]
    ['-2', '-5/2', '-5/2', '-2']
    """
    return named_scaling(name, n_hidden)


def equivalent(s1: Scaling, s2: Scaling) -> bool:
    r"""Whether two scalings give the same network at every width and step of gradient descent, learnt biases apart.

    A layer's multiplier times :math:`m^{-\theta}`, its initial weights times :math:`m^{\theta}` and its learning rate
    times :math:`m^{2 \theta}` make no difference: :math:`(a, b, c) \to (a + \theta, b - \theta, c - 2 \theta)`, with a
    :math:`\theta` for each layer, and for its biases. Scalings that only agree in the limit, as ``"ip-llr"`` and
    ``"hp"`` do, are not equivalent.

    Parameters
    ----------
    s1, s2
        To be compared. Biases that start at zero count only where both have biases; the exponents for Adam do not.

    Raises
    ------
    TypeError
        If one is not a :class:`Scaling`.

    Notes
    -----
    Yang and Hu, arXiv 2011.14522, section 3.

    Examples
    --------
    >>> import wideangle as wa
    >>> mup = wa.parametrization.scaling("mup", 2)
    >>> mine = wa.parametrization.Scaling(a=(0, "1/2", 1), b=(0, 0, 0), c=(-1, -1, -1))
    >>> wa.parametrization.equivalent(mup, mine)
    True
    """
    one, other = check_scaling("s1", s1), check_scaling("s2", s2)
    if {one.biases, other.biases} == {"none", "random"}:
        return False
    both = "none" not in (one.biases, other.biases)
    return _invariants(one, both) == _invariants(other, both)


def _invariants(s: Scaling, with_biases: bool) -> tuple[object, ...]:
    def added(ones: Exponents, others: Exponents, factor: int) -> Exponents:
        return tuple(factor * one + other for one, other in zip(ones, others, strict=True))

    weights = (
        added(s.a, s.b, 1),
        added(s.a, s.c, 2),
        added(s.a, s.c_first, 2),
        s.centered,
        s.drops_initial and s.n_hidden > 1,
    )
    if not with_biases:
        return weights
    # Where biases start at zero it does not matter how large they could have been.
    start = added(s.bias_a, s.bias_b, 1) if s.biases == "random" else None
    return weights, s.biases, start, added(s.bias_a, s.bias_c, 2), added(s.bias_a, s.bias_c_first, 2)


@dataclass(frozen=True, slots=True)
class Regime:
    r"""What a network does under a scaling as its width m grows; sizes go like m to the exponents.

    Attributes
    ----------
    name
        ``"unstable"``: activations or outputs grow without bound, at the start or after some steps. ``"trivial"``: the
        output does not change in the limit. ``"kernel"``: it changes, while the activations of the last hidden layer do
        not, so that the network is a kernel machine. ``"feature-learning"``: both change.
    initial_output
        Exponent of the output before training.
    initial_activations
        Of the pre-activations of layers 1 to L before training.
    activation_updates
        Of the change of the pre-activations of layers 1 to L by training.
    output_update
        Of the change of the output by training; its own bias, which always learns, is left out.
    """

    name: Literal["trivial", "unstable", "kernel", "feature-learning"]
    initial_output: Fraction
    initial_activations: tuple[Fraction, ...]
    activation_updates: tuple[Fraction, ...]
    output_update: Fraction


def classify(scaling: Scaling, *, optimizer: Literal["sgd", "adam"] = "sgd") -> Regime:
    r"""Tell the regime of a scaling and the exponents that lead to it.

    Parameters
    ----------
    scaling
        With the same width for all hidden layers.
    optimizer
        ``"sgd"`` (default) or ``"adam"``.

    Returns
    -------
    Regime

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Notes
    -----
    Derived, for a generic activation, data and loss and a few steps of training. Sizes of activations and of
    back-propagated gradients are followed through the layers: a sum of m terms has m times their size where they are
    aligned, which a layer's update is with the activations and gradients that made it, and root m times their size
    where they are independent with mean zero, as with initial weights; only in the readout is the change of
    activations, being proportional to it, aligned with initial weights. For one learning rate and stable starts this
    gives the exponent r of Yang and Hu, arXiv 2011.14522, section 3: feature learning for r = 0, kernel regime for
    r > 0, where -r is the exponent of the last hidden layer's update.

    Activations that are small in the limit, as integrable scalings have them at the start, are taken to be of the size
    of the pre-activations, and their products with a layer's update to be aligned. So it is for ReLU, because of its
    kink at zero. A smooth odd activation does not (see :func:`predict_first_step`),
    and its sums over weights that are not centered are smaller, as its mean is zero. Steps of Adam are taken to be as
    large as its learning rate, however small gradients are: its epsilon must be smaller still.

    Examples
    --------
    >>> import wideangle as wa
    >>> wa.parametrization.classify(wa.parametrization.scaling("ntk", 3)).name
    'kernel'
    >>> regime = wa.parametrization.classify(wa.parametrization.scaling("ip", 4))
    >>> regime.name, str(regime.output_update)
    ('trivial', '-2')
    """
    sizes = Sizes(check_scaling("scaling", scaling))
    check_choice("optimizer", optimizer, ("sgd", "adam"))
    initial, initial_output = tuple(sizes.activations), sizes.output
    unstable = max(*initial, initial_output) > 0
    # Every update can only add to the sizes, which come to rest or grow from step to step, in the end beyond bounds.
    before: object = None
    for step in range(_MOST_STEPS):
        if unstable or before == sizes.state():
            break
        before = sizes.state()
        sizes.train(optimizer, first=step == 0)
        unstable = max(*sizes.activations, sizes.output) > 0
    else:
        unstable = True
    change, features = sizes.output_update, sizes.updates[-1]
    name: Literal["trivial", "unstable", "kernel", "feature-learning"] = (
        "unstable" if unstable else "trivial" if change < 0 else "kernel" if features < 0 else "feature-learning"
    )
    return Regime(name, initial_output, initial, tuple(sizes.updates), change)
