"""A width scaling for a user's own module: initial weights and learning rates of each layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal

from wideangle._checks import check_choice
from wideangle.reference._torch import require_torch
from wideangle.reference.scaled import check_rate
from wideangle.scalings import WITH_BIASES, Scaling, check_scaling, named_scaling

if TYPE_CHECKING:
    import torch

_HALF = Fraction(1, 2)


@dataclass(frozen=True)
class _Layer:
    """A layer with weights: how many times as many inputs and outputs it has as in the base."""

    name: str
    module: Any
    inputs: Fraction
    outputs: Fraction


def apply_scaling(
    module: torch.nn.Module,
    scaling: Scaling | str,
    *,
    base_shapes: torch.nn.Module | Mapping[str, tuple[int, ...]],
    learning_rate: float,
    optimizer: Literal["sgd", "adam"] = "sgd",
) -> list[dict[str, Any]]:
    r"""Rescale the initial weights of a module of one's own, and return parameter groups with learning rates.

    The module is left as it is at the base width, and follows the scaling from there: with m for the ratio of its width
    to the base's, weights that were of size :math:`\sigma` at the base get the size :math:`\sigma\, m^{-(a+b)}`, and
    learning rates :math:`\eta\, m^{-(c + 2a)}`, with Adam :math:`\eta\, m^{-(c + a)}`. The multipliers are in both, so
    that nothing is added to the forward pass.

    Parameters
    ----------
    module
        Whose only parameters are those of Linear and Conv2d layers, registered from input to output. The first and the
        last of them have inputs, or outputs, of a fixed number, in all others both grow with the width. It must be as
        PyTorch initialises it, or else in any way by which weights go like one over the root of the number of inputs,
        and biases like that or are zero. Changed in place.
    scaling
        A :class:`wideangle.parametrization.Scaling` for as many hidden layers as there are layers but one, or a name.
        Not one that drops weights or whose weights are not centered: those need
        :func:`wideangle.reference.build_scaled_mlp`.
    base_shapes
        The same module at the base width, or the shapes of its parameters by name.
    learning_rate
        :math:`\eta`, that of the base.
    optimizer
        ``"sgd"`` (default) or ``"adam"``, for which the groups are meant.

    Returns
    -------
    list of dict
        A group for each parameter, for an optimizer of PyTorch: ``params``, ``lr``, ``name``, and ``first_lr``, to be
        put in the place of ``lr`` for the first step where the scaling has one of its own.

    Raises
    ------
    ImportError
        If PyTorch is not installed.
    TypeError, ValueError
        If there is a parameter of another layer, with its name; if shapes do not fit those of the base; if the scaling
        has no biases and the module has; before anything is changed.

    Notes
    -----
    Base shapes and the idea of changing nothing at the base width: Yang et al., arXiv 2203.03466. The exponents are
    those of the a-b-c symmetry, see :func:`wideangle.parametrization.equivalent`.

    Examples
    --------
    >>> import torch
    >>> import wideangle as wa
    >>> def make(width):
    ...     layers = [torch.nn.Linear(10, width), torch.nn.ReLU(), torch.nn.Linear(width, width)]
    ...     return torch.nn.Sequential(*layers, torch.nn.ReLU(), torch.nn.Linear(width, 3))
    >>> groups = wa.reference.apply_scaling(make(400), "mup", base_shapes=make(100), learning_rate=0.1)
    >>> [(group["name"], group["lr"]) for group in groups if group["name"].endswith("weight")]
    [('0.weight', 0.4), ('2.weight', 0.1), ('4.weight', 0.025)]
    >>> optimizer = torch.optim.SGD(groups)
    """
    require_torch()
    import torch

    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"module must be a torch.nn.Module, got {type(module).__name__}")
    kind = check_choice("optimizer", optimizer, ("sgd", "adam"))
    rate = check_rate("learning_rate", learning_rate)
    layers = _layers(module, _shapes(base_shapes))
    exponents = _check_fit(scaling, layers)
    width = _check_roles(layers)
    groups: list[dict[str, Any]] = []
    for place, layer in enumerate(layers):
        for part in ("weight", "bias"):
            parameter = getattr(layer.module, part)
            if parameter is None:
                continue
            prefix = "" if part == "weight" else "bias_"
            a = getattr(exponents, f"{prefix}a")[place]
            start = a + getattr(exponents, f"{prefix}b")[place]
            # It went like one over the root of the number of inputs.
            found = _HALF if layer.inputs != 1 else Fraction(0)
            with torch.no_grad():
                parameter.mul_(float(width) ** float(found - start))
            if part == "bias" and exponents.biases == "zero":
                torch.nn.init.zeros_(parameter)
            first, later = (_rate(exponents, prefix, place, kind, first) for first in (True, False))
            shift = 2 * a if kind == "sgd" else a
            groups.append(
                {
                    "params": [parameter],
                    "lr": rate * float(width) ** -float(later + shift),
                    "first_lr": rate * float(width) ** -float(first + shift),
                    "name": f"{layer.name}.{part}".lstrip("."),
                }
            )
    return groups


def _rate(scaling: Scaling, prefix: str, place: int, optimizer: Any, first: bool) -> Fraction:
    weights, biases = scaling.learning_rate_exponents(optimizer, first=first)
    return (biases if prefix else weights)[place]


def _shapes(base: Any) -> dict[str, tuple[int, ...]]:
    import torch

    if isinstance(base, torch.nn.Module):
        return {name: tuple(parameter.shape) for name, parameter in base.named_parameters()}
    if not isinstance(base, Mapping):
        raise TypeError(
            f"base_shapes must be a module or shapes by the names of its parameters, got {type(base).__name__}; give "
            "the module that you build at the base width"
        )
    shapes = {}
    for name, shape in base.items():
        if isinstance(shape, (str, bytes)) or not isinstance(shape, Iterable):
            raise TypeError(f"base_shapes[{name!r}] must be a shape, a tuple of integers, got {shape!r}")
        shapes[name] = tuple(int(n) for n in shape)
    return shapes


def check_layers(module: torch.nn.Module) -> list[tuple[str, Any]]:
    """Return the names and layers of a module that have parameters, or raise if one is not Linear or Conv2d."""
    import torch

    named = dict(module.named_parameters(remove_duplicate=False))
    if len({id(parameter) for parameter in named.values()}) < len(named):
        raise ValueError(f"module must not share parameters among layers, got {module!r}; give each layer its own")
    layers = []
    for name, part in module.named_modules():
        own = [parameter for parameter, _ in part.named_parameters(recurse=False)]
        if not own:
            continue
        if any(map(torch.nn.parameter.is_lazy, part.parameters(recurse=False))):
            raise TypeError(
                f"module must not have lazy layers, got {name or 'module'}: {part!r}; give its number of inputs"
            )
        if not isinstance(part, (torch.nn.Linear, torch.nn.Conv2d)) or set(own) > {"weight", "bias"}:
            raise TypeError(
                f"module must have parameters in Linear and Conv2d layers only, got {name or 'module'}: {part!r}; "
                "take that layer out, or leave it without parameters"
            )
        if getattr(part, "groups", 1) != 1:
            raise ValueError(f"{name} must not have groups, got {part!r}; give a Conv2d with groups=1")
        layers.append((name, part))
    return layers


def _layers(module: torch.nn.Module, base: dict[str, tuple[int, ...]]) -> list[_Layer]:
    named = dict(module.named_parameters(remove_duplicate=False))
    if set(named) != set(base):
        odd = sorted(set(named) ^ set(base))
        raise ValueError(f"base_shapes must have the parameters of module, differs in {', '.join(odd)}")
    layers = []
    for name, part in check_layers(module):
        prefix = f"{name}." if name else ""
        there, here = base[f"{prefix}weight"], tuple(part.weight.shape)
        if len(there) != len(here) or there[2:] != here[2:] or 0 in there:
            raise ValueError(f"{prefix}weight must have a shape like that of the base, {there}, got {here}")
        if part.bias is not None and base[f"{prefix}bias"] != there[:1]:
            raise ValueError(
                f"base_shapes must have a {prefix}bias of shape {there[:1]}, as {prefix}weight has shape {there}, got "
                f"{base[f'{prefix}bias']}"
            )
        layers.append(_Layer(name, part, Fraction(here[1], there[1]), Fraction(here[0], there[0])))
    return layers


def _check_fit(scaling: Any, layers: list[_Layer]) -> Scaling:
    if len(layers) < 2:
        raise ValueError(f"module must have at least two layers with weights, got {len(layers)}")
    checked = named_scaling(scaling, len(layers) - 1) if isinstance(scaling, str) else check_scaling("scaling", scaling)
    if checked.n_hidden != len(layers) - 1:
        raise ValueError(
            f"scaling must be for {len(layers) - 1} hidden layers, as module has {len(layers)} layers, got one for "
            f"{checked.n_hidden}; give its name, or one for that number"
        )
    if checked.drops_initial or not checked.centered:
        raise ValueError(
            f"scaling must neither drop weights nor have weights that are not centered, got {checked.name!r}; build "
            "such networks with wideangle.reference.build_scaled_mlp"
        )
    biased = [layer.name for layer in layers if layer.module.bias is not None]
    has_exponents = checked.name in WITH_BIASES and checked == named_scaling(checked.name, checked.n_hidden)
    if biased and checked.biases == "none" and not has_exponents:
        raise ValueError(
            f"scaling must say what biases do, as {biased[0] or 'module'} has some, got {checked.name!r}, which has "
            "none; build the module with bias=False, or give a Scaling with biases"
        )
    return checked


def _check_roles(layers: list[_Layer]) -> Fraction:
    """Return the ratio of the width to that of the base."""
    width = layers[0].outputs
    for place, layer in enumerate(layers):
        expected = (1 if place == 0 else width, 1 if place == len(layers) - 1 else width)
        if (layer.inputs, layer.outputs) != expected:
            raise ValueError(
                f"{layer.name} must have {expected[0]} times the inputs and {expected[1]} times the outputs of the "
                f"base, got {layer.inputs} and {layer.outputs}; multiply all widths between the first layer and the "
                "last by one factor, and nothing else"
            )
    return width
