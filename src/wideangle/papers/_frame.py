"""What all reproductions share: checks before any work, the stages, and the outcome.

A reproduction has a module with its job and with ``prepare``, ``measure`` and ``reproduce``, which the command line
calls; one with its claims (made by :mod:`wideangle.papers._verdicts`), one with its figures, and one that describes its
page (:mod:`wideangle.papers._page`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from wideangle._checks import check_seed
from wideangle.data import LabelledData, load_digits, load_images

if TYPE_CHECKING:
    from wideangle.papers._page import Page
    from wideangle.reports import Claim

Announce = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Job(ABC):
    """What a reproduction will do, checked and ready to start.

    Parameters
    ----------
    out
        Existing, writable directory for the results.
    seed
        Seed of everything random in it.
    """

    out: Path
    seed: int

    @property
    @abstractmethod
    def description(self) -> str:
        """One sentence on the extent of the training."""


AnyJob = TypeVar("AnyJob", bound=Job)
Measurements = TypeVar("Measurements")


@dataclass(frozen=True)
class Reproduction(Generic[Measurements]):
    """Outcome of a reproduction.

    Parameters
    ----------
    claims
        The claims, each with its verdict.
    measurements
        The numbers behind them.
    report
        Path of report.html; figures and the NetCDF file of all numbers lie beside it.
    """

    claims: tuple[Claim, ...]
    measurements: Measurements
    report: Path


def silent(text: str) -> None:
    """Announce nothing."""


def prepare_training(data: Path | None, seed: int) -> LabelledData:
    """Check the seed and that PyTorch is installed, and return the data to train on.

    Parameters
    ----------
    data
        Directory of IDX files or NPZ file; None for scikit-learn's digits.
    seed
        0 <= seed < 2**64; splits the digits.

    Raises
    ------
    ValueError, TypeError
        If the seed or the data are unusable.
    OSError
        If ``data`` cannot be read.
    ModuleNotFoundError
        If PyTorch is missing.
    """
    check_seed(seed)
    if find_spec("torch") is None:
        raise ModuleNotFoundError('training needs PyTorch; install it with: pip install "wideangle[reference]"')
    return load_digits(seed=seed) if data is None else load_images(data)


def carry_out(
    job: AnyJob,
    measure: Callable[..., Measurements],
    judge: Callable[[Measurements], tuple[Claim, ...]],
    describe: Callable[[AnyJob, Measurements], Page[Any]],
    *,
    announce: Announce,
    progress: bool,
) -> Reproduction[Measurements]:
    """Measure, judge, draw and write.

    Parameters
    ----------
    job
        From ``prepare`` of the paper.
    measure
        Called with the job, ``announce`` and ``progress``, computes every number.
    judge
        Returns the claims in the order of the panels.
    describe
        Returns what the page shows.
    announce
        Called with a line of text before each stage.
    progress
        Show progress bars of the long stages.
    """
    from wideangle.papers._page import write

    measurements = measure(job, announce=announce, progress=progress)
    claims = judge(measurements)
    announce("Drawing figures, writing report ...")
    report = write(describe(job, measurements), job, measurements, claims)
    return Reproduction(claims=claims, measurements=measurements, report=report)
