"""Results of a study from its store alone: all of them, or those that there are so far."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from wideangle._checks import check_flag
from wideangle.studies._coordinates import cell_coordinates
from wideangle.studies._journal import Journal, StoreError
from wideangle.studies._layout import Layout
from wideangle.studies._results import STATES, attributes_of, dataset_of
from wideangle.studies._store import COMPLETE, Store
from wideangle.studies.status import cell_states, check_readable, snapshot, study_of

if TYPE_CHECKING:
    import xarray as xr

_COMPLETE = STATES.index(COMPLETE)


def load(store: str | os.PathLike[str], *, verify: bool = True) -> xr.Dataset:
    """Return the results of a store: all, or those that an unfinished study has so far.

    Parameters
    ----------
    store
        Folder that :func:`run` was given.
    verify
        Whether to compare all files with their checksums first; default True.

    Returns
    -------
    xarray.Dataset
        As from :func:`run`. Finished results are read from the store as they are used. Unfinished ones are in memory;
        ``status`` says which cells are complete. Kept samples are there once nothing but cells that failed is left to
        do, and are read from the store as they are used, so use them before you run the study again; until then the
        attribute ``samples`` says that they are to come. Nothing is written.

    Raises
    ------
    OSError
        If there is no study in that place, or it cannot be read.
    StoreError
        If the store is damaged, or of another format.

    Examples
    --------
    >>> import tempfile, wideangle as wa
    >>> study = wa.studies.Study("simulate_angles", samples=4000, seed=1, parameters={"theta0": 0.1, "widths": [16, 8]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     results = wa.studies.run(study, f"{folder}/angles.zarr", progress=False)
    ...     again = wa.studies.load(f"{folder}/angles.zarr")
    >>> again.sizes["cell"], again.sizes["layer"]
    (1, 3)
    """
    verify = check_flag("verify", verify)
    place = Store(store)
    while True:
        check_readable(place)
        if place.is_complete:
            if verify:
                place.verified_attributes()
            return place.open()
        try:
            with snapshot(place) as journal:
                return _results_so_far(place, journal, verify=verify)
        except (OSError, StoreError):
            if not place.is_complete:
                raise


def _results_so_far(place: Store, journal: Journal, *, verify: bool) -> xr.Dataset:
    study, about = study_of(place, journal)
    if verify and (damage := journal.check()):
        raise place.damaged("; ".join(damage[:3]))
    layout = Layout.of(journal)
    done = layout.fitting(journal.done())
    states = np.array([STATES.index(state) for state in cell_states(study, journal)], dtype=np.int8)
    result = dataset_of(study, journal, done, layout, states, cell_coordinates(study), range(len(study.cells)))
    samples = _gathered_samples(place, layout, result, verify=verify) if study.statistics.samples else {}
    result.update(samples)
    result.attrs = attributes_of(study, about, is_complete=False, has_samples=bool(samples))
    return result


def _gathered_samples(place: Store, layout: Layout, so_far: xr.Dataset, *, verify: bool) -> dict[str, xr.Variable]:
    """Return the arrays of kept samples; none if the last run has not written those of what is done now."""
    if place.is_locked() or not place.has_results:
        return {}
    if verify:
        place.verified_attributes()
    with place.reading_results():
        written = place.open()
        of_cells = [(each["n_samples"].values, each["status"].values == _COMPLETE) for each in (written, so_far)]
    if not all(np.array_equal(*pair) for pair in zip(*of_cells, strict=True)):
        return {}
    return {name: written[name].variable for name in layout.sample_forms() if name in written}
