"""How weights, multipliers and learning rates change with the width of a network: abc parametrizations."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from numbers import Rational
from typing import Any, Literal

import numpy as np

from wideangle._checks import check_choice, check_flag, check_integer

Exponents = tuple[Fraction, ...]

SCALINGS = ("standard", "ntk", "mup", "ip", "ip-llr", "ip-bias", "ip-non-centered", "hp")
"""Names that :func:`wideangle.parametrization.scaling` knows."""

WITH_BIASES = ("standard", "ntk", "mup")
"""Those of them that have exponents of biases although their networks have none."""

MAX_HIDDEN = 10_000
MAX_EXPONENT = MAX_HIDDEN
_HALF = Fraction(1, 2)
_FIELDS = ("a", "b", "c", "c_first", "bias_a", "bias_b", "bias_c", "bias_c_first")
_ADAM_FIELDS = ("adam_c", "adam_bias_c")


@dataclass(frozen=True, init=False, slots=True)
class Scaling:
    r"""Exponents of the width m with which a network of L hidden layers of that width is built and trained.

    Layer :math:`l = 1 \dots L+1` computes :math:`h^l = m^{-a_l} W^l x^{l-1} + m^{-a^b_l} B^l`, where
    :math:`x^l = \phi(h^l)`, :math:`x^0` is the input and :math:`h^{L+1}` the output. At the start
    :math:`W^l = m^{-b_l} U^l` and :math:`B^l = m^{-b^b_l} V^l`, where nothing about U and V depends on the width.
    Gradient descent has learning rate :math:`\eta\, m^{-c_l}` for :math:`W^l` and :math:`\eta\, m^{-c^b_l}` for
    :math:`B^l`, and may have others in its first step. All exponents are exact fractions.

    Parameters
    ----------
    a, b, c
        Of the weights: multiplier, initial size and learning rate, each L + 1 numbers, the output layer's last.
        Integers, fractions, strings such as ``"1/2"``, or floats, which are taken for what they are in binary.
    c_first
        Learning rates in the first step; default ``c``. It stays what it was with :func:`dataclasses.replace` of ``c``.
    bias_a, bias_b, bias_c, bias_c_first
        The same of the biases. Default ``a`` and ``b`` of biases are 0; ``bias_c`` is 0, and ``bias_c_first`` the same
        as ``bias_c``.
    adam_c, adam_bias_c
        Learning rates under Adam, whose steps do not depend on the size of gradients; the same in all steps. Default 0.
    centered
        Whether U has mean 0; default True. If not, sums over the inputs of a layer are of the order of their number.
    biases
        ``"none"`` (default): layers have none, and their exponents say what they would have; ``"zero"``: they start at
        zero; ``"random"``: V is random.
    drops_initial
        Whether the initial weights of layers 2 to L are taken out after the first step; default False.
    name
        What to call it; default ``"custom"``.

    Raises
    ------
    TypeError, ValueError
        If exponents are not numbers, not finite, or not L + 1 of them.

    References
    ----------
    Exponents a, b, c: Yang and Hu, arXiv 2011.14522, with the learning rate of each layer on its own and apart in the
    first step as in Hajjar, Chizat and Giraud, arXiv 2110.15596.

    Examples
    --------
    >>> import wideangle as wa
    >>> mine = wa.parametrization.Scaling(a=(0, "1/2", "1/2"), b=(0, 0, 0), c=(0, 0, 0))
    >>> mine.n_hidden, mine.a[1]
    (2, Fraction(1, 2))
    """

    name: str
    a: Exponents
    b: Exponents
    c: Exponents
    c_first: Exponents
    bias_a: Exponents
    bias_b: Exponents
    bias_c: Exponents
    bias_c_first: Exponents
    adam_c: Exponents
    adam_bias_c: Exponents
    centered: bool
    biases: str
    drops_initial: bool

    def __init__(
        self,
        a: Iterable[Any],
        b: Iterable[Any],
        c: Iterable[Any],
        *,
        c_first: Iterable[Any] | None = None,
        bias_a: Iterable[Any] | None = None,
        bias_b: Iterable[Any] | None = None,
        bias_c: Iterable[Any] | None = None,
        bias_c_first: Iterable[Any] | None = None,
        adam_c: Iterable[Any] | None = None,
        adam_bias_c: Iterable[Any] | None = None,
        centered: bool = True,
        biases: Literal["none", "zero", "random"] = "none",
        drops_initial: bool = False,
        name: str = "custom",
    ) -> None:
        fields: dict[str, Exponents] = {"a": _check_exponents("a", a, None)}
        count = len(fields["a"])
        given = {"b": b, "c": c, "bias_a": bias_a, "bias_b": bias_b, "bias_c": bias_c}
        given |= {"adam_c": adam_c, "adam_bias_c": adam_bias_c}
        for field, value in given.items():
            fields[field] = _check_exponents(field, (0,) * count if value is None else value, count)
        for field, value, otherwise in (("c_first", c_first, "c"), ("bias_c_first", bias_c_first, "bias_c")):
            fields[field] = fields[otherwise] if value is None else _check_exponents(field, value, count)
        if not isinstance(name, str):
            raise TypeError(f"name must be a string, got {name!r} ({type(name).__name__})")
        set_field = object.__setattr__
        for field in (*_FIELDS, *_ADAM_FIELDS):
            set_field(self, field, fields[field])
        set_field(self, "name", name)
        set_field(self, "centered", check_flag("centered", centered))
        set_field(self, "biases", check_choice("biases", biases, ("none", "zero", "random")))
        set_field(self, "drops_initial", check_flag("drops_initial", drops_initial))

    @property
    def n_hidden(self) -> int:
        """Number of hidden layers L."""
        return len(self.a) - 1

    def learning_rate_exponents(
        self, optimizer: Literal["sgd", "adam"] = "sgd", *, first: bool = False
    ) -> tuple[Exponents, Exponents]:
        """Return the exponents c of the weights and of the biases.

        Parameters
        ----------
        optimizer
            ``"sgd"`` (default) or ``"adam"``.
        first
            Those of the first step; default False.
        """
        if check_choice("optimizer", optimizer, ("sgd", "adam")) == "adam":
            return self.adam_c, self.adam_bias_c
        return (self.c_first, self.bias_c_first) if check_flag("first", first) else (self.c, self.bias_c)


def named_scaling(name: str, n_hidden: int) -> Scaling:
    """Return a scaling of the literature; see :func:`wideangle.parametrization.scaling`."""
    check_choice("name", name, SCALINGS)
    remedy = "give the number of hidden layers, such as 3"
    hidden = check_integer("n_hidden", n_hidden, low=1, high=MAX_HIDDEN, remedy=remedy)
    return Scaling(**_EXPONENTS[name](hidden), name=name)


def check_scaling(name: str, value: object) -> Scaling:
    """Return a scaling, or raise; ``name`` is what messages call it."""
    if not isinstance(value, Scaling):
        raise TypeError(
            f"{name} must be a Scaling, got {value!r} ({type(value).__name__}); "
            "give wideangle.parametrization.scaling('mup', 3) or a Scaling of your own"
        )
    return value


def _layers(first: Any, inner: Any, last: Any, hidden: int) -> Exponents:
    return (Fraction(first), *(Fraction(inner),) * (hidden - 1), Fraction(last))


def _standard(hidden: int) -> dict[str, Any]:
    starts = _layers(0, _HALF, _HALF, hidden)
    zero = _layers(0, 0, 0, hidden)
    return {"a": zero, "b": starts, "c": zero, "bias_b": starts}


def _ntk(hidden: int) -> dict[str, Any]:
    zero = _layers(0, 0, 0, hidden)
    return {
        "a": _layers(0, _HALF, _HALF, hidden),
        "b": zero,
        "c": zero,
        "adam_c": _layers(_HALF, 1, _HALF, hidden),
        "adam_bias_c": _layers(_HALF, _HALF, 0, hidden),
    }


def _mup(hidden: int) -> dict[str, Any]:
    return {
        "a": _layers(-_HALF, 0, _HALF, hidden),
        "b": _layers(_HALF, _HALF, _HALF, hidden),
        "c": _layers(0, 0, 0, hidden),
        "bias_a": _layers(-_HALF, -_HALF, 0, hidden),
        "bias_b": _layers(_HALF, _HALF, 0, hidden),
        "adam_c": _layers(_HALF, 1, _HALF, hidden),
        "adam_bias_c": _layers(_HALF, _HALF, 0, hidden),
    }


def _hybrid(hidden: int) -> dict[str, Any]:
    return _mup(hidden) | {"drops_initial": True}


def _integrable(hidden: int) -> dict[str, Any]:
    return {
        "a": _layers(0, 1, 1, hidden),
        "b": _layers(0, 0, 0, hidden),
        "c": _layers(-1, -2, -1, hidden),
    }


def _large_first_step(hidden: int) -> dict[str, Any]:
    outer = Fraction(-(hidden + 1), 2)
    return _integrable(hidden) | {"c_first": _layers(outer, Fraction(-(hidden + 2), 2), outer, hidden)}


def _with_biases(hidden: int) -> dict[str, Any]:
    inner = (Fraction(-(hidden - layer + 4), 2) for layer in range(2, hidden + 1))
    biases = (Fraction(-(hidden - layer + 2), 2) for layer in range(1, hidden + 1))
    return _integrable(hidden) | {
        "c_first": (Fraction(-(hidden + 1), 2), *inner, Fraction(-1)),
        "bias_c": _layers(-1, -1, 0, hidden),
        "bias_c_first": (*biases, Fraction(0)),
        "biases": "random",
    }


def _non_centered(hidden: int) -> dict[str, Any]:
    return _integrable(hidden) | {"centered": False}


_EXPONENTS = {
    "standard": _standard,
    "ntk": _ntk,
    "mup": _mup,
    "ip": _integrable,
    "ip-llr": _large_first_step,
    "ip-bias": _with_biases,
    "ip-non-centered": _non_centered,
    "hp": _hybrid,
}


def _check_exponents(name: str, value: Any, count: int | None) -> Exponents:
    remedy = "give one exponent for each hidden layer and one for the output layer, such as (0, '1/2', '1/2')"
    if isinstance(value, (str, bytes, set, frozenset, dict)) or not isinstance(value, Iterable):
        raise TypeError(f"{name} must be a sequence of exponents, got {value!r} ({type(value).__name__}); {remedy}")
    exponents = tuple(_check_exponent(f"{name}[{place}]", item) for place, item in enumerate(value))
    if count is None and not 2 <= len(exponents) <= MAX_HIDDEN + 1:
        raise ValueError(
            f"{name} must hold 2 to {MAX_HIDDEN + 1} exponents, for at least one hidden layer and the output layer, "
            f"got {len(exponents)}; {remedy}"
        )
    if count is not None and len(exponents) != count:
        raise ValueError(f"{name} must hold {count} exponents, as many as a, got {len(exponents)}; {remedy}")
    return exponents


def _check_exponent(name: str, value: Any) -> Fraction:
    remedy = "give an integer, a fraction, or a string such as '1/2'"
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, (Rational, str, float, int, Decimal)):
        raise TypeError(f"{name} must be a number, got {value!r} ({type(value).__name__}); {remedy}")
    try:
        exponent = Fraction(value)
    except (ValueError, OverflowError, ZeroDivisionError):
        raise ValueError(f"{name} must be a finite number, got {value!r}; {remedy}") from None
    if abs(exponent) > MAX_EXPONENT:
        raise ValueError(f"{name} must be at most {MAX_EXPONENT} in size, got {value!r}; {remedy}")
    return exponent
