"""Studies run, or gone on with, to the end."""

from __future__ import annotations

import math
import os
import warnings
from contextlib import closing
from typing import TYPE_CHECKING, Any

from wideangle._checks import check_flag, check_memory, check_positive_real
from wideangle.studies._executors import check_executor, workers_here
from wideangle.studies._layout import Layout, never_returned
from wideangle.studies._results import write_results
from wideangle.studies._samples import check_samples
from wideangle.studies._scheduling import Schedule
from wideangle.studies._store import Store
from wideangle.studies.study import Study

if TYPE_CHECKING:
    import xarray as xr


class StudyWarning(UserWarning):
    """Cells of a study failed; the others are there."""


def run(
    study: Study,
    store: str | os.PathLike[str],
    *,
    executor: Any = None,
    progress: bool = True,
    max_time: float | None = None,
    repair: bool = False,
) -> xr.Dataset:
    """Run a study, or go on with it, until it is finished, and return its results.

    Parameters
    ----------
    study
        What to compute.
    store
        Folder for the results, such as ``"angles.zarr"``: one that does not exist or is empty, or the store of the same
        study, which then goes on where it stood.
    executor
        Where to run: None (default) for threads on all cores of this machine; any executor of ``concurrent.futures``;
        or a ``dask.distributed.Client``. Its workers need the same version of wideangle, the module of a method of
        one's own, and, where samples are kept, the same file system. It is not shut down.
    progress
        Whether to show a bar with samples, rate and time left; default True.
    max_time
        Seconds after which no more work is begun. What is being computed is finished and kept, on Dask also what waits
        at a worker, altogether some seconds; and the next call goes on. Default None.
    repair
        Whether to compute anew what is damaged in the store, in place of refusing it; default False.

    Returns
    -------
    xarray.Dataset
        Over ``cell``, with the parameters of cells and ``method`` as coordinates: ``n_samples``, ``status`` (0
        complete, 1 partial, 2 failed, 3 not begun), and of each variable of the methods, with its own dimensions,
        ``_count``, ``_mean``, ``_variance``, their standard errors, ``_skewness`` and ``_excess_kurtosis``;
        ``_histogram`` with ``_underflow`` and ``_overflow``; ``_quantile`` over ``probability``; the samples
        themselves, if asked for; counts of events by their own names. What a cell does not have, such as layers beyond
        its depth, is NaN or 0. It is read from the store as it is used.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or range, an executor was shut down or closed before, or a block would
        exceed the memory of the machine, or one for each thread or process of this machine.
    OSError
        If the store cannot be written. What was committed before is kept.
    StoreError
        If the store is of another study or version, in use, or damaged.
    KeyboardInterrupt
        On Ctrl-C. What was committed before is kept.
    RuntimeError
        If the executor broke, or was shut down meanwhile. What was committed before is kept.

    Warns
    -----
    StudyWarning
        If cells failed. The others are finished, and the next call tries again.
    RuntimeWarning
        If a Dask cluster has had no workers for 10 s. The run waits for them.

    Notes
    -----
    A block is a pure function of the study and its number. Blocks of a cell merge in a binary tree over their numbers,
    whose shape no order of the work changes; so the results have the same bits for any executor, any number of workers,
    and any interruption. Each result is committed in one transaction before it counts. Samples are written by the
    workers and never pass through the scheduler.

    Examples
    --------
    >>> import tempfile, wideangle as wa
    >>> study = wa.studies.Study(
    ...     "simulate_angles", samples=4000, seed=1, parameters={"theta0": 0.1, "depth": 8}, grid={"width": [16, 64]}
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     results = wa.studies.run(study, f"{folder}/angles.zarr", progress=False).load()
    >>> results.log_sin2_mean.sel(layer=8).set_index(cell="width").sel(cell=64).round(1).item()
    -5.0
    """
    if not isinstance(study, Study):
        raise TypeError(f"study must be a wideangle.studies.Study, got {study!r}; see Study.from_toml for files")
    progress = check_flag("progress", progress)
    repair = check_flag("repair", repair)
    limit = math.inf
    if max_time is not None:
        limit = check_positive_real("max_time", max_time, remedy="give seconds, or None for no limit")
    check_executor(executor)
    place = Store(store)
    place.check_usable()
    plan = study.plan()
    if (n_workers := workers_here(executor)) is not None:
        check_memory(
            n_workers * plan.largest_block_bytes,
            f"{n_workers} blocks of up to {plan.block_size.max()} samples at a time need",
            remedy="give a smaller block_size, leave it out, or give an executor with fewer workers",
        )
    with place.locked():
        if place.is_complete and place.check_complete(study, repair=repair):
            place.clear()
            return place.open()
        with closing(place.open_journal(study, repair=repair)) as journal:
            if study.statistics.samples:
                place.samples_folder.mkdir(exist_ok=True)
                check_samples(place, plan, journal, repair=repair)
            journal.clear_failures()
            Schedule(study, plan, place, journal).go(executor, limit, progress)
            layout = Layout.of(journal)
            journal.note_failures([*layout.refused, *never_returned(study, layout, journal.done())])
            failures = journal.failures()
            unfinished = Schedule(study, plan, place, journal).unfinished() | {failure.cell for failure in failures}
            write_results(place, study, plan, journal, layout, unfinished=unfinished)
        if not unfinished:
            place.finish()
    if failures:
        first = failures[0]
        warnings.warn(
            f"{len(failures)} of {plan.n_cells} cells failed, the first one cell {first.cell} "
            f"({study.cells[first.cell]}): {first.message}. The others are kept; run again to try these anew",
            StudyWarning,
            stacklevel=2,
        )
    return place.open()
