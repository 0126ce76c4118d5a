"""What a coordinate check is asked about: networks under scalings, or modules from a factory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from wideangle._checks import MAX_WIDTH, check_integer
from wideangle.activations import parse_activation
from wideangle.data import LabelledData
from wideangle.parametrization._coordinate_runs import Case
from wideangle.scalings import MAX_HIDDEN, WITH_BIASES, Scaling, check_scaling, named_scaling


def network_cases(
    scaling: Any, expected: Any, depths: Any, activations: Any, data: LabelledData, optimizer: str
) -> list[list[Case]]:
    """Return fully connected networks under a scaling, (depth, activation)."""
    from wideangle.reference.coordinate_modules import scaled_trial

    if scaling is None:
        raise TypeError("scaling must be a name or a Scaling, got None; only a module may come without")
    layers = _depths(depths, scaling, expected)
    phis = [parse_activation(phi, name="activations") for phi in _listed("activations", activations, ("relu",))]
    if len({str(phi) for phi in phis}) < len(phis):
        raise ValueError(f"activations must be different, got {[str(phi) for phi in phis]}")
    rows = []
    for hidden in layers:
        own = _for_depth("scaling", scaling, hidden)
        judged = own if expected is None else _for_depth("expected", expected, hidden)
        row = []
        for phi in phis:
            trial = scaled_trial(own, data.n_features, data.n_classes, phi)
            row.append(Case(str(phi), hidden, own, judged, optimizer, (phi,), trial))
        rows.append(row)
    return rows


def module_case(
    module: Callable[[int], Any],
    scaling: Any,
    expected: Any,
    depths: Any,
    activations: Any,
    *,
    base_width: int | None,
    widths: tuple[int, ...],
    optimizer: str,
    learning_rates: tuple[Any, Any],
    data: LabelledData,
) -> Case:
    """Return the networks of a factory."""
    from wideangle.reference.coordinate_modules import factory_trial, inspect_factory

    if activations is not None:
        raise ValueError(f"activations must be left out with a module, which has its own, got {activations!r}")
    remedy = "give the width from which the scaling counts, such as 64"
    base = widths[0]
    if base_width is not None:
        base = check_integer("base_width", base_width, low=1, high=MAX_WIDTH, remedy=remedy)
    facts = inspect_factory(module, widths[0], widths[-1], data.n_features, data.n_classes)
    hidden = facts.n_hidden
    if depths is not None and list(_listed("depths", depths, ())) != [hidden]:
        raise ValueError(f"depths must be left out with a module, which has {hidden} hidden layers, got {depths!r}")
    if scaling is None and expected is None:
        raise TypeError("scaling must be a name or a Scaling, got None; give what the module is to be judged by")
    if facts.trained_as_is and (base_width is not None or learning_rates != (None, None)):
        raise ValueError(
            "base_width, learning_rate and first_learning_rate must be left out where module returns an optimizer or "
            "parameter groups, as it is trained with those"
        )
    if not facts.trained_as_is and scaling is None:
        raise TypeError("scaling must be a name or a Scaling, got None; or let module return (module, optimizer)")
    own = None if facts.trained_as_is else _for_depth("scaling", scaling, hidden)
    name, value = ("scaling", scaling) if expected is None else ("expected", expected)
    judged = _for_depth(name, value, hidden)
    if facts.biases:
        judged = _with_biases(judged)
    label = " ".join(dict.fromkeys(str(phi) for phi in facts.activations)) or "module"
    return Case(label, hidden, own, judged, optimizer, facts.activations, factory_trial(module, own, base))


def _listed(name: str, value: Any, default: tuple[Any, ...]) -> tuple[Any, ...]:
    if value is None:
        return default
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise TypeError(f"{name} must be a sequence, got {value!r}; give a tuple, if only of one")
    listed = tuple(value)
    if not listed:
        raise ValueError(f"{name} must not be empty; give at least one, or leave it out")
    return listed


def _depths(depths: Any, *scalings: Any) -> tuple[int, ...]:
    fixed = [s.n_hidden for s in scalings if isinstance(s, Scaling)]
    default = (fixed[0],) if fixed else (3,)
    remedy = "give numbers of hidden layers, such as (2, 3)"
    layers = tuple(
        check_integer(f"depths[{place}]", hidden, low=1, high=MAX_HIDDEN, remedy=remedy)
        for place, hidden in enumerate(_listed("depths", depths, default))
    )
    if len(set(layers)) < len(layers):
        raise ValueError(f"depths must be different, got {list(layers)}; {remedy}")
    if any(hidden != count for hidden in layers for count in fixed):
        raise ValueError(
            f"depths must fit a Scaling, which is for one number of hidden layers, {fixed}, got {list(layers)}; leave "
            "depths out, or give the scaling by its name"
        )
    return layers


def _for_depth(name: str, value: Any, hidden: int) -> Scaling:
    if isinstance(value, str):
        return named_scaling(value, hidden)
    checked = check_scaling(name, value)
    if checked.n_hidden != hidden:
        raise ValueError(f"{name} must be for {hidden} hidden layers, got one for {checked.n_hidden}")
    return checked


def _with_biases(s: Scaling) -> Scaling:
    """Return a scaling whose exponents of biases count, where it has some for networks without."""
    if s.biases != "none" or s.name not in WITH_BIASES or s != named_scaling(s.name, s.n_hidden):
        return s
    names = ("a", "b", "c", "c_first", "bias_a", "bias_b", "bias_c", "bias_c_first", "adam_c", "adam_bias_c", "name")
    return Scaling(**{name: getattr(s, name) for name in names}, biases="random")
