"""Where a result came from, written into the attributes of every Dataset."""

from __future__ import annotations

from typing import Any

from wideangle._version import __version__
from wideangle.network import MLP


def provenance(function: str, *, source: str, net: MLP | None = None, **arguments: Any) -> dict[str, Any]:
    """Return attributes that NetCDF can hold: version, function, source and every argument of the call.

    ``None`` and booleans, which NetCDF does not know, become strings; tuples become lists; an integer beyond 63 bits
    becomes its decimal string.
    """
    attributes: dict[str, Any] = {"wideangle_version": __version__, "function": function, "source": source}
    if net is not None:
        attributes |= {
            "widths": list(net.widths),
            "activation": net.activation,
            "weight_variance": net.weight_variance,
            "bias_variance": net.bias_variance,
        }
    return attributes | {name: _plain(value) for name, value in arguments.items()}


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return str(value)
    if isinstance(value, int) and abs(value) >= 2**63:
        return str(value)
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value
