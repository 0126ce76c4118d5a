"""The numbers of the reproduction of arXiv 2110.15596: what is trained and checked in each panel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wideangle.papers.parametrization import ACTIVATIONS, N_HIDDEN, SHOWN
from wideangle.parametrization import compare, coordinate_check, train_widths
from wideangle.scalings import SCALINGS

if TYPE_CHECKING:
    import xarray as xr

    from wideangle.papers.parametrization import Job

DEPTHS = (1, 2, 3, 4, 5, 6)  # Hidden layers of panel (a): one less than layers.
CHECKED_DEPTH = 3  # Of panel (e).
WRONG = "standard"  # What is checked against the exponents of maximal update, to see that it is found out.
# Learning rates with which networks that can learn do so: found by trial on the digits, powers of ten and three apart.
LEARNING_RATES = {
    "relu": {"ip-llr": 0.3, "mup": 0.1, "ntk": 1.0, "ip-bias": 0.3, "ip-non-centered": 0.3, "ip": 1.0},
    "gelu": {"ip-llr": 0.1, "mup": 0.1, "ntk": 0.3, "ip-bias": 0.3, "ip-non-centered": 0.3, "ip": 1.0},
    "elu": {"ip-llr": 0.03, "mup": 0.3, "ntk": 1.0, "ip-bias": 0.3, "ip-non-centered": 0.3, "ip": 1.0},
    "tanh": {"ip-llr": 0.3, "mup": 1.0, "ntk": 3.0, "ip-bias": 0.3, "ip-non-centered": 1.0, "ip": 1.0},
}
# Of ip-bias: updates of order one are too small, since most of them shifts all samples alike; with GELU 10 diverges.
FIRST_RATES = {"relu": 10.0, "gelu": 5.0, "elu": 10.0, "tanh": 10.0}
HYBRID_HIDDEN = 3  # The least depth at which integrable networks do not learn.
HYBRID_STEPS = 100
SAMPLE = (1.0, 1.0)
POINTS = ((1.0, 1.0), (1.0, 0.0), (1.0, -0.5))
STEP = 1.5


def depths(job: Job, progress: bool) -> xr.Dataset:
    """Check integrable networks of several depths: :func:`wideangle.parametrization.coordinate_check`."""
    return coordinate_check(
        "ip",
        job.data,
        widths=job.widths,
        depths=DEPTHS,
        n_seeds=job.n_seeds,
        seed=job.seed,
        n_threads=job.n_threads,
        progress=progress,
    )


def checks(job: Job, progress: bool) -> xr.Dataset:
    """Check every scaling of the library, and one against the exponents of another.

    Returns
    -------
    xarray.Dataset
        Those of :func:`wideangle.parametrization.coordinate_check` for three ReLU layers, at the step that its verdicts
        are on, along ``check``, whose last entry is the wrong one.
    """
    import xarray as xr

    names = (*SCALINGS, f"{WRONG} for mup")
    runs = []
    for name in names:
        run = coordinate_check(
            name.partition(" ")[0],
            job.data,
            widths=job.widths,
            depths=(CHECKED_DEPTH,),
            n_seeds=job.n_seeds,
            expected="mup" if name not in SCALINGS else None,
            seed=job.seed,
            n_threads=job.n_threads,
            progress=progress,
        ).isel(depth=0, activation=0, drop=True)
        runs.append(run.isel(step=run["judged_step"].item(), drop=True))
    result: xr.Dataset = xr.concat(runs, xr.Variable("check", list(names)), combine_attrs="drop_conflicts")
    return result


def curves(job: Job, progress: bool) -> xr.Dataset:
    """Train networks of one width under six scalings, with four activations.

    Returns
    -------
    xarray.Dataset
        Those of :func:`wideangle.parametrization.train_widths` along ``activation``.
    """
    import xarray as xr

    runs = [
        train_widths(
            SHOWN,
            job.data,
            widths=(job.width,),
            n_hidden=N_HIDDEN,
            activation=activation,
            learning_rate=LEARNING_RATES[activation],
            first_learning_rate={"ip-bias": FIRST_RATES[activation]},
            n_steps=job.n_steps,
            batch_size=job.batch_size,
            record=(0, job.n_steps),
            n_probes=0,
            n_runs=job.n_runs,
            seed=job.seed,
            n_threads=job.n_threads,
            progress=progress,
        ).isel(width=0)
        for activation in ACTIVATIONS
    ]
    result: xr.Dataset = xr.concat(runs, xr.Variable("activation", list(ACTIVATIONS)), combine_attrs="drop_conflicts")
    return result


def hybrid(job: Job, progress: bool) -> xr.Dataset:
    """Train networks with a large first step beside hybrid ones from the same start, at several widths."""
    return train_widths(
        ("ip-llr", "hp"),
        job.data,
        widths=job.widths[:-1],
        n_hidden=HYBRID_HIDDEN,
        learning_rate=LEARNING_RATES["relu"]["ip-llr"],
        n_steps=HYBRID_STEPS,
        batch_size=job.batch_size,
        record=(0, 1, 10, HYBRID_STEPS),
        n_probes=64,
        n_runs=job.n_hybrid,
        seed=job.seed,
        n_threads=job.n_threads,
        progress=progress,
    )


def first_step(job: Job, progress: bool) -> xr.Dataset:
    """Compare the first step at infinite width with networks: :func:`wideangle.parametrization.compare`."""
    return compare(
        2,
        SAMPLE,
        POINTS,
        step=STEP,
        widths=(500, 1000, 2000, 4000, 8000),
        n_networks=job.n_compared,
        seed=job.seed,
        n_threads=job.n_threads,
        progress=progress,
    )
