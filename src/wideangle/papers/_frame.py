"""What all reproductions share: checks before any work, the stages, and the outcome.

A reproduction has a module with its :class:`Job`, ``measure`` and ``reproduce``, of which the command line calls
:meth:`Job.prepare` and ``reproduce``; one with its claims (made by :mod:`wideangle.papers._verdicts`), one with its
figures, and one that describes its page (:mod:`wideangle.papers._page`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from wideangle._checks import check_seed
from wideangle._files import make_writable
from wideangle.data import LabelledData, load_digits, load_images

if TYPE_CHECKING:
    from wideangle.papers._page import Page
    from wideangle.reports import Claim

Announce = Callable[[str], None]
AnyJob = TypeVar("AnyJob", bound="Job")
Measurements = TypeVar("Measurements")


@dataclass(frozen=True, kw_only=True)
class Job(ABC):
    """What a reproduction will do, checked and ready to start.

    A paper adds the extent of its measurements as fields with defaults, and names those that are larger if the extent
    is to be full.

    Parameters
    ----------
    data
        To train on.
    out
        Existing, writable directory for the results.
    seed
        Seed of everything random in it.
    """

    data: LabelledData
    out: Path
    seed: int

    FULL: ClassVar[Mapping[str, Any]] = {}

    @property
    @abstractmethod
    def description(self) -> str:
        """One sentence on the extent of the training."""

    @property
    def lacking(self) -> str:
        """What the data must do and do not, such as ``"hold 10 samples, got 3"``; empty if they can be used."""
        return ""

    @classmethod
    def prepare(cls: type[AnyJob], *, data: Path | None = None, out: Path, full: bool = False, seed: int = 0) -> AnyJob:
        """Check everything that can fail before any work is done.

        Parameters
        ----------
        data
            Directory of IDX files or NPZ file to train on; scikit-learn's digits by default.
        out
            Directory to write to, made if it does not exist.
        full
            Take the extent ``FULL`` of the paper, where it has one, in place of the defaults.
        seed
            0 <= seed < 2**64; also splits the digits.

        Raises
        ------
        ValueError, TypeError
            If the seed or the data are unusable.
        OSError
            If ``data`` cannot be read or ``out`` cannot be written.
        ModuleNotFoundError
            If PyTorch is missing.
        """
        check_seed(seed)
        if find_spec("torch") is None:
            raise ModuleNotFoundError('training needs PyTorch; install it with: pip install "wideangle[reference]"')
        job = cls(data=load_digits(seed=seed) if data is None else load_images(data), out=out, seed=seed)
        if full:
            job = replace(job, **cls.FULL)
        if job.lacking:
            raise ValueError(f"data must {job.lacking} in {str(data)!r}; give another data set, or none for digits")
        make_writable(out)
        return job


def lacking_a_batch(data: LabelledData, size: int) -> str:
    """Return what data lack for training in batches of this size, see :attr:`Job.lacking`."""
    found = len(data.x_train)
    return "" if found >= size else f"hold at least one batch of {size} training samples, got {found}"


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
        From :meth:`Job.prepare`.
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
