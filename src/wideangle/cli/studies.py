"""``wideangle study``: Monte Carlo studies described in a file."""

from __future__ import annotations

import itertools
import re
import shlex
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wideangle.cli._executors import executor_of
from wideangle.cli._shared import Command, add_options, argument_errors, show_help_without_command, show_progress

if TYPE_CHECKING:
    from wideangle.studies import Plan, Status, Study

_SHOWN = 20  # cells of a plan
_MOST = 60  # characters of a cell's parameters
_UNITS = {"": 1.0, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_EXIT_FAILED_CELLS = 1
_LONGEST_WATCH = 86400.0  # seconds


@click.group(invoke_without_command=True)
@click.pass_context
def study(context: click.Context) -> None:
    """Run Monte Carlo studies: grids of ensembles in one file, resumable and the same on any machine.

    \b
    Example:
      wideangle study run angles.toml
    """
    show_help_without_command(context)


file_argument = click.argument("file", type=click.Path(path_type=Path))
store_option = click.option(
    "--store", type=click.Path(path_type=Path), metavar="DIR", help="Folder of the results [default: FILE with .zarr]."
)


def run_options(command: Command) -> Command:
    """Add the options of commands that compute."""
    options = (
        store_option,
        click.option("--threads", type=int, metavar="N", help="Number of threads [default: every core]."),
        click.option("--dask", metavar="ADDRESS", help="Run on this Dask cluster, such as tcp://scheduler:8786."),
        click.option(
            "--max-time", metavar="TIME", help="Begin no more work after 90, 10min or 2h [default: no limit]."
        ),
        click.option(
            "--progress/--no-progress", default=None, help="Progress bar [default: if standard error is a terminal]."
        ),
        click.option("--repair", is_flag=True, help="Compute anew what is damaged in the store."),
    )
    return add_options(command, options)


@study.command()
@file_argument
@click.option("--blocks", is_flag=True, help="List all blocks in place of the first cells.")
def plan(file: Path, blocks: bool) -> None:
    """Say what the study in FILE will take: cells, blocks, samples, time and memory.

    Nothing is run. Times are estimates, good to a factor of about three.

    \b
    Example:
      wideangle study plan angles.toml
    """
    with study_errors():
        described = read_study(file)
        planned = described.plan()
    if blocks:
        click.echo(f"{'cell':>7}  {'block':>9}  {'first sample':>16}  {'samples':>12}")
        for block in planned.blocks():
            click.echo(f"{block.cell:>7}  {block.block:>9}  {block.first_sample:>16}  {block.n_samples:>12}")
        return
    click.echo(f"{described.name or file.stem}, study {described.identity[:12]}")
    echo_plan(described, planned)


@study.command()
@file_argument
@run_options
def run(file: Path, **options: Any) -> None:
    """Run the study in FILE, or go on with it.

    What is finished is kept at every instant: after Ctrl-C, a crash or --max-time the same command goes on, and the
    results have the same bits as without the interruption. Exits with 1 if cells failed.

    \b
    Example:
      wideangle study run angles.toml --store results.zarr --max-time 2h
    """
    with study_errors():
        described = read_study(file)
        store = options.pop("store") or file.with_suffix(".zarr")
        from wideangle.studies._store import Store

        if Store(store).exists and not Store(store).is_complete:
            click.echo(f"{store} is there: going on with it", err=True)
        compute(described, store, resume_command(file, store), **options)


@study.command()
@file_argument
@run_options
def resume(file: Path, **options: Any) -> None:
    """Go on with a study that was begun; FILE is its description or its store.

    \b
    Example:
      wideangle study resume angles.toml --threads 1
    """
    with study_errors():
        store = store_of(file, options.pop("store"))
        described = study_in(store) if file.is_dir() else read_study(file)
        compute(described, store, resume_command(file, store), **options)


@study.command()
@file_argument
@store_option
@click.option("--watch", type=float, metavar="SECONDS", help="Repeat so often until the run ends.")
def status(file: Path, store: Path | None, watch: float | None) -> None:
    """Say how far a study is, also while another process runs it; FILE is its description or its store.

    \b
    Example:
      wideangle study status angles.toml --watch 5
    """
    from wideangle.studies import status as read_status

    with study_errors():
        if watch is not None and not 0.0 < watch <= _LONGEST_WATCH:
            raise ValueError(
                f"--watch must be a positive number of seconds, at most {_LONGEST_WATCH:.0f}, a day, got {watch}; give "
                "such as 5"
            )
        place = store_of(file, store)
        look_for_modules_beside(file)
        found = read_status(place)
        click.echo(str(found))
        note_other_study(file, found)
        while watch is not None and found.is_running:
            time.sleep(watch)
            found = read_status(place)
            click.echo(f"\n{found}")


@study.command()
@file_argument
@store_option
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE.html", help="[default: beside the store]")
def report(file: Path, store: Path | None, out: Path | None) -> None:
    """Write what is known of a study as one HTML page with tables and figures; FILE is its description or its store.

    The page needs no network. An unfinished study gives the results so far.

    \b
    Example:
      wideangle study report angles.toml --out angles.html
    """
    from wideangle.studies import write_report

    with study_errors():
        place = store_of(file, store)
        look_for_modules_beside(file)
        written = write_report(place, out)
    click.echo(f"wrote {written}")


@contextmanager
def study_errors() -> Iterator[None]:
    """Turn errors of studies, their stores and executors into one line, and interruptions into those of the shell."""
    from wideangle.studies import StoreError

    with argument_errors():
        try:
            yield
        except StoreError as error:
            raise click.ClickException(str(error)) from error


def read_study(file: Path) -> Study:
    """Return the study of a file; methods of one's own are also looked for in the folder of the file."""
    from wideangle.studies import Study

    if file.is_dir():
        raise IsADirectoryError(
            f"FILE must be the description of a study, got the folder {str(file)!r}; give a TOML file"
        )
    if not file.exists():
        raise FileNotFoundError(f"FILE {str(file)!r} does not exist; give the TOML file that describes a study")
    look_for_modules_beside(file)
    return Study.from_toml(file)


def look_for_modules_beside(file: Path) -> None:
    """Let methods of one's own be imported from the folder of the file."""
    folder = str(file.absolute().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)


def store_of(file: Path, store: Path | None) -> Path:
    """Return the store that FILE and --store mean, which must be there."""
    from wideangle.studies._store import Store
    from wideangle.studies.status import check_readable

    if store is None:
        store = file if file.is_dir() or file.suffix == ".zarr" else file.with_suffix(".zarr")
    check_readable(Store(store))
    return store


def resume_command(file: Path, store: Path) -> str:
    """Return the command that goes on with a study, as a shell takes it."""
    option = [] if store in (file, file.with_suffix(".zarr")) else ["--store", str(store)]
    return shlex.join(["wideangle", "study", "resume", str(file), *option])


def study_in(store: Path) -> Study:
    """Return the study whose store it is."""
    from wideangle.studies import Study
    from wideangle.studies._store import Store

    look_for_modules_beside(store)
    return Study.from_dict(Store(store).study_table())


def note_other_study(file: Path, found: Status) -> None:
    """Say so if the file was changed since its study was begun."""
    if not file.is_file():
        return
    try:
        if read_study(file).identity != found.identity:
            click.echo(f"note: {file} describes another study now, with another identity", err=True)
    except (OSError, TypeError, ValueError) as error:  # such as data that are looked for in another folder
        click.echo(f"note: whether {file} describes this study cannot be told here ({error})", err=True)


def compute(
    described: Study,
    store: Path,
    go_on: str,
    *,
    threads: int | None,
    dask: str | None,
    max_time: str | None,
    progress: bool | None,
    repair: bool,
) -> None:
    """Run a study where the options say, and print how far it came."""
    from wideangle.studies import StudyWarning
    from wideangle.studies import run as run_study
    from wideangle.studies import status as read_status
    from wideangle.studies._executors import NoWorkersWarning

    limit = None if max_time is None else seconds(max_time)
    try:
        with executor_of(threads, dask) as executor, warnings.catch_warnings():
            warnings.simplefilter("ignore", StudyWarning)  # the status names the cells that failed
            warnings.simplefilter("always", NoWorkersWarning)
            warnings.showwarning = note_warning
            run_study(
                described, store, executor=executor, progress=show_progress(progress), max_time=limit, repair=repair
            )
    except KeyboardInterrupt:
        # After the ^C of the terminal.
        click.echo(f"\nwhat is finished is kept; go on with: {go_on}", err=True)
        raise click.Abort from None
    except RuntimeError as error:
        raise click.ClickException(str(error)) from error
    found = read_status(store)
    click.echo(str(found))
    report_it = shlex.join(["wideangle", "study", "report", str(store)])
    if found.is_complete:
        click.echo(f"read it with xarray.open_zarr({str(store)!r}), or: {report_it}")
    else:
        click.echo(f"go on with: {go_on}")
    if found.failures:
        raise click.exceptions.Exit(_EXIT_FAILED_CELLS)


def note_warning(message: Warning | str, *place: Any, **more: Any) -> None:
    """Print a warning without the place in the code that it comes from."""
    click.echo(f"note: {message}", err=True)


def seconds(text: str) -> float:
    """Return the seconds of a time such as 90, 10min or 2h."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*)\s*", text)
    if match is None or match[2] not in _UNITS or not float(match[1]) > 0.0:
        raise ValueError(f"--max-time must be a time such as 90, 90s, 10min, 2h or 1d, got {text!r}")
    return float(match[1]) * _UNITS[match[2]]


def echo_plan(described: Study, planned: Plan) -> None:
    """Print a plan with its first cells."""
    import math

    from wideangle._cpu import available_threads
    from wideangle.studies.planning import duration

    click.echo(str(planned))
    n_threads = available_threads()
    if not math.isnan(planned.total_seconds):
        click.echo(f"time on the {n_threads} cores of this machine: {duration(planned.total_seconds / n_threads)}")
    if described.stop is not None:
        click.echo("these are the most: cells end earlier by the stopping rule")
    click.echo(f"\n{'cell':>7}  {'blocks':>9}  {'of samples':>12}  {'time':>9}  method and parameters")
    for number, cell in enumerate(itertools.islice(described.cells, _SHOWN)):
        took = planned.seconds[number]
        time_text = "unknown" if math.isnan(took) else duration(took)
        text = str(cell) if len(str(cell)) <= _MOST else f"{str(cell)[: _MOST - 3]}..."
        size, n_blocks = planned.block_size[number], planned.n_blocks[number]
        click.echo(f"{number:>7}  {n_blocks:>9}  {size:>12}  {time_text:>9}  {text}")
    if planned.n_cells > _SHOWN:
        click.echo(f"and {planned.n_cells - _SHOWN} more cells")
