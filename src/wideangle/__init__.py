"""Deep networks at finite and infinite width: predicted, simulated, trained and compared.

Every quantity can be had in up to four ways, and the verb of a function says which: ``predict_*`` is a closed form
or a quadrature, ``simulate_*`` an ensemble of random networks, ``train_*`` real training in PyTorch, ``compare_*``
two or more of them side by side with errors and z-scores.

The submodules load when they are first used, so that ``import wideangle`` costs no more than importing NumPy.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

from wideangle._version import __version__
from wideangle.network import MLP, NetworkWeights

if TYPE_CHECKING:
    from wideangle import (
        data,
        dynamics,
        integrators,
        parametrization,
        propagation,
        reference,
        reports,
        representation,
        response,
        statistics,
        studies,
    )

_SUBMODULES = (
    "data",
    "dynamics",
    "integrators",
    "parametrization",
    "propagation",
    "reference",
    "reports",
    "representation",
    "response",
    "statistics",
    "studies",
)

__all__ = [
    "MLP",
    "NetworkWeights",
    "__version__",
    "data",
    "dynamics",
    "integrators",
    "parametrization",
    "propagation",
    "reference",
    "reports",
    "representation",
    "response",
    "statistics",
    "studies",
]


def __getattr__(name: str) -> ModuleType:
    if name in _SUBMODULES:
        return importlib.import_module(f"wideangle.{name}")
    raise AttributeError(f"module 'wideangle' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
