"""The command line: ``wideangle predict | simulate | analyze-representation | reproduce | info``.

Commands import what they need when they run, so that ``--help`` answers at once.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from wideangle._version import __version__

if TYPE_CHECKING:
    from wideangle.network import MLP

Command = TypeVar("Command", bound=Callable[..., Any])

EXIT_BAD_ARGUMENTS = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, what a shell expects.


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 done, 2 bad arguments (one line on standard error), 130 interrupted.

    Parameters
    ----------
    arguments
        Command and options; those of the process by default.
    """
    try:
        status = cli.main(args=arguments, prog_name="wideangle", standalone_mode=False)
    except click.ClickException as error:
        click.echo(f"wideangle: {' '.join(error.format_message().split())}", err=True)
        status = EXIT_BAD_ARGUMENTS
    except (click.Abort, KeyboardInterrupt):
        click.echo("wideangle: interrupted", err=True)
        status = EXIT_INTERRUPTED
    sys.exit(status)


@contextmanager
def argument_errors() -> Iterator[None]:
    """Turn the errors with which the library refuses arguments into one line for the terminal."""
    try:
        yield
    except (ValueError, TypeError, OSError, ImportError) as error:
        raise click.ClickException(str(error)) from error


def show_help_without_command(context: click.Context) -> None:
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="wideangle")
@click.pass_context
def cli(context: click.Context) -> None:
    """Deep networks at finite and infinite width: predicted, simulated, trained and compared.

    \b
    Example:
      wideangle predict --width 256 --depth 32 --theta0 0.1
    """
    show_help_without_command(context)


def add_options(command: Command, options: Sequence[Callable[[Command], Command]]) -> Command:
    """Add options that several commands have, in the order in which --help lists them."""
    for option in reversed(options):
        command = option(command)
    return command


def network_options(command: Command) -> Command:
    """Add the options that say which network and which angle."""
    options = (
        click.option("--width", type=int, metavar="N", help="Width of every hidden layer [default: 256]."),
        click.option("--depth", type=int, metavar="L", help="Number of hidden layers [default: 32]."),
        click.option("--widths", metavar="N1,N2,...", help="Widths one by one, in place of --width and --depth."),
        click.option(
            "--theta0", type=float, default=0.1, show_default=True, help="Angle between the inputs in radians, (0, pi]."
        ),
    )
    return add_options(command, options)


def network(width: int | None, depth: int | None, widths: str | None) -> MLP:
    """Return the network that the options describe."""
    from wideangle.network import MLP

    if widths is None:
        depth = 32 if depth is None else depth
        if depth < 1:
            raise ValueError(f"--depth must be at least 1, got {depth}; give a number of hidden layers, such as 32")
        return MLP((256 if width is None else width,) * depth)
    if width is not None or depth is not None:
        raise ValueError("--widths takes the place of --width and --depth; give one or the other")
    return MLP(integers("--widths", widths))


def integers(option: str, text: str) -> list[int]:
    """Return the integers of an option that takes several."""
    try:
        return [int(item) for item in text.split(",")]
    except ValueError:
        raise ValueError(f"{option} must be integers with commas between, such as 20,8,40,12, got {text!r}") from None


@cli.command()
@network_options
@click.option(
    "--method",
    default="finite-width",
    show_default=True,
    help="finite-width, finite-width-linear, small-angle, infinite-width, expansion or exact.",
)
@click.option("--order", type=int, help="Highest power of 1/n of the expansion, 1 to 3 [default: 3].")
def predict(
    width: int | None, depth: int | None, widths: str | None, theta0: float, method: str, order: int | None
) -> None:
    """Predict the angle between two inputs, layer by layer.

    Prints the mean and standard deviation of ln sin^2 theta over random networks, and the angle that this mean
    stands for.

    \b
    Example:
      wideangle predict --widths 20,8,40,12 --theta0 1.5 --method small-angle
    """
    from wideangle.propagation import predict_angles

    with argument_errors():
        net = network(width, depth, widths)
        prediction = predict_angles(net, theta0, method=method, order=order)
    columns = {
        "mean ln sin2": prediction["log_sin2"].values,
        "sd": prediction["variance"].values ** 0.5,
        "theta": prediction["theta"].values,
    }
    echo_layers(net, columns)


@cli.command()
@network_options
@click.option("--samples", type=int, default=10_000, show_default=True, help="Number of random networks.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed; the same seed gives the same networks.")
@click.option("--threads", type=int, help="Number of threads [default: every core]; the result is the same for any.")
@click.option("--progress/--no-progress", default=None, help="Progress bar [default: if standard error is a terminal].")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE.nc", help="Also write the result as NetCDF.")
def simulate(
    width: int | None,
    depth: int | None,
    widths: str | None,
    theta0: float,
    samples: int,
    seed: int,
    threads: int | None,
    progress: bool | None,
    out: Path | None,
) -> None:
    """Simulate the angle between two inputs in an ensemble of random networks.

    Prints mean and variance of ln sin^2 theta over the networks in which both inputs survive and stay apart, with
    standard errors, and how many collapsed to one direction or died, up to each layer.

    \b
    Example:
      wideangle simulate --width 64 --depth 10 --samples 1000000 --seed 1 --out angles.nc
    """
    from wideangle.propagation import simulate_angles

    with argument_errors():
        net = network(width, depth, widths)
        if out is not None:
            check_writable(out)
        result = simulate_angles(
            net, theta0, n_samples=samples, seed=seed, n_threads=threads, progress=show_progress(progress)
        )
    columns = {
        "mean ln sin2": result["mean"].values,
        "+-": result["mean_standard_error"].values,
        "variance": result["variance"].values,
        " +-": result["variance_standard_error"].values,
        "survivors": result["survivors"].values,
        "collapsed": result["collapsed"].values,
        "dead": result["dead"].values,
    }
    echo_layers(net, columns)
    if out is not None:
        result.to_netcdf(out, engine="h5netcdf")
        click.echo(f"wrote {out}", err=True)


def feature_options(command: Command) -> Command:
    """Add the options that say where features, and what reads them out, are."""
    place = click.Path(path_type=Path)
    names = ("features", "readout", "bias", "targets")
    options = [
        click.option(f"--{name}", default=name, show_default=True, metavar="NAME", help=f"Entry with the {name}.")
        for name in names
    ]
    options += [
        click.option(
            f"--{name}-file", f"{name}_path", type=place, metavar="FILE", help=f"File with the {name}, if another."
        )
        for name in names[1:]
    ]
    return add_options(command, options)


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
@feature_options
@click.option(
    "--training-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Features and targets of the training samples, in entries of the same names, for their errors.",
)
@click.option("--chunk-sizes", metavar="W1,W2,...", help="Neurons of a chunk [default: powers of two, and the width].")
@click.option("--chunks", "n_chunks", type=int, default=40, show_default=True, help="Random chunks of each size.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the chunks.")
@click.option("--ridge", type=float, default=1e-8, show_default=True, help="Penalty of the regressions.")
@click.option("--asymptotic-error", type=float, metavar="E", help="Error of ever wider layers [default: fitted].")
@click.option("--critical-width", type=float, metavar="W", help="Critical width [default: from the spectrum].")
@click.option(
    "--missing",
    type=click.Choice(["raise", "drop"]),
    default="raise",
    show_default=True,
    help="What to do with samples whose activations are not finite.",
)
@click.option("--threads", "n_threads", type=int, help="Number of threads [default: every core].")
@click.option("--progress/--no-progress", default=None, help="Progress bar [default: if standard error is a terminal].")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("wideangle-representation"), show_default=True, metavar="DIR"
)
def analyze_representation(
    file: Path,
    training_file: Path | None,
    chunk_sizes: str | None,
    asymptotic_error: float | None,
    critical_width: float | None,
    n_threads: int | None,
    progress: bool | None,
    out: Path,
    **options: Any,
) -> None:
    """Say how redundant a layer is, from its activations in FILE: .npy, .npz, or .pt without pickles.

    FILE holds features, of shape (sample, neuron), of test samples; for errors of chunks also the readout
    (class, neuron), its bias, and targets. Prints what random chunks know of the layer, how many clones it consists
    of, or why the data cannot decide; writes report.html, the figure as PNG and SVG, and all numbers as NetCDF.

    \b
    Example:
      wideangle analyze-representation layer.npz --training-file training.npz --out layer-report
    """
    from wideangle._files import make_writable
    from wideangle.reports import claims_table
    from wideangle.representation.file_analysis import analyze, prepare

    chunks = {name: options.pop(name) for name in ("n_chunks", "seed", "ridge", "missing")}
    with argument_errors():
        sizes = None if chunk_sizes is None else integers("--chunk-sizes", chunk_sizes)
        fit = {"asymptotic_error": asymptotic_error, "critical_width": critical_width}
        chunks["chunk_sizes"] = sizes
        job = prepare(file, files=options, training_path=training_file, chunks=chunks, fit=fit)
        make_writable(out)
        analysis = analyze(job, out, n_threads=n_threads, progress=show_progress(progress))
    width = terminal_width()
    click.echo(f"{analysis.table}\n")
    for sentence in analysis.findings:
        click.echo(textwrap.fill(sentence, width))
    click.echo("")
    if analysis.claims:
        click.echo(f"{claims_table(analysis.claims, width=width)}\n")
    click.echo(f"Report, figures and numbers: {analysis.report}")


@cli.group(invoke_without_command=True)
@click.pass_context
def reproduce(context: click.Context) -> None:
    """Reproduce a paper: figures, numbers, and a verdict on each of its claims.

    \b
    Example:
      wideangle reproduce propagation --out report
    """
    show_help_without_command(context)


def reproduction_options(paper: str, seed_of: str) -> Callable[[Command], Command]:
    """Add the options that every reproduction has; ``seed_of`` says of what the seed is."""
    place = click.Path(path_type=Path)
    data_help = "MNIST-format IDX files (a directory) or an NPZ file to train on [default: the digits of scikit-learn]."
    options = (
        click.option("--data", type=place, metavar="PATH", help=data_help),
        click.option("--out", type=place, default=Path(f"wideangle-{paper}"), show_default=True, metavar="DIR"),
        click.option("--seed", type=int, default=0, show_default=True, help=f"Seed of {seed_of}."),
    )
    return lambda command: add_options(command, options)


@reproduce.command()
@reproduction_options("propagation", "the ensemble, the data split and training")
@click.option("--full", is_flag=True, help="Ten training runs of each architecture instead of one.")
def propagation(**options: Any) -> None:
    """Angles between two inputs of a random ReLU network (arXiv 2302.09712 and 2306.01513).

    Writes report.html, figures as PNG and SVG, and all numbers as NetCDF; prints a table of claims with verdicts.
    Takes about two minutes on two cores; needs the part [reference] (PyTorch).

    \b
    Example:
      wideangle reproduce propagation --data mnist/ --out mnist-report --full
    """
    from wideangle.papers import propagation

    run_reproduction(propagation, options)


@reproduce.command()
@reproduction_options("dynamics", "initial values, the data split and training")
def dynamics(**options: Any) -> None:
    """Learning dynamics of two-layer ReLU networks (arXiv 1809.06848).

    Writes report.html, figures as PNG and SVG, and all numbers as NetCDF; prints a table of claims with verdicts.
    Takes about a minute on two cores, and once another for compiling; needs the part [reference] (PyTorch).

    \b
    Example:
      wideangle reproduce dynamics --seed 1 --out dynamics-report
    """
    from wideangle.papers import dynamics

    run_reproduction(dynamics, options)


@reproduce.command()
@reproduction_options("parametrization", "initial weights, the data split and batches")
@click.option("--full", is_flag=True, help="Width 1024, batches of 512, 600 steps, five networks of each kind.")
def parametrization(**options: Any) -> None:
    """Width scalings of deep networks: integrable, maximal-update, kernel (arXiv 2110.15596).

    Writes report.html, figures as PNG and SVG, and all numbers as NetCDF; prints a table of claims with verdicts.
    Takes about three minutes on two cores; needs the part [reference] (PyTorch).

    \b
    Example:
      wideangle reproduce parametrization --data cifar10.npz --out cifar10-report
    """
    from wideangle.papers import parametrization

    run_reproduction(parametrization, options)


@reproduce.command()
@reproduction_options("representation", "initial weights, the data split, batches and chunks")
@click.option("--full", is_flag=True, help="Ten networks of each kind, and widths up to 512.")
def representation(**options: Any) -> None:
    """Redundant representations in wide networks: chunks and clones (arXiv 2106.03485).

    Writes report.html, figures as PNG and SVG, and all numbers as NetCDF; prints a table of claims with verdicts.
    Takes about three minutes on two cores; needs the part [reference] (PyTorch).

    \b
    Example:
      wideangle reproduce representation --seed 1 --out representation-report
    """
    from wideangle.papers import representation

    run_reproduction(representation, options)


def run_reproduction(paper: ModuleType, options: dict[str, Any]) -> None:
    """Check the options of a paper's module, reproduce the paper, and print what was found, and where."""
    from wideangle.reports import claims_table

    with argument_errors():
        job = paper.Job.prepare(**options)
    result = paper.reproduce(job, announce=lambda text: click.echo(text, err=True), progress=show_progress(None))
    click.echo(claims_table(result.claims, width=terminal_width()))
    click.echo(f"\n{job.description}")
    click.echo(f"Report, figures and numbers: {result.report}")


@cli.command()
def info() -> None:
    """Show the version, the CPU paths of the kernel, the number of threads and the optional parts found.

    \b
    Example:
      wideangle info
    """
    from importlib.metadata import PackageNotFoundError, version
    from importlib.util import find_spec

    from wideangle._cpu import active_cpu_path, available_threads, cpu_paths

    with argument_errors():
        active = active_cpu_path()
    paths = ", ".join(f"{path} (in use)" if path == active else path for path in cpu_paths())
    rows = [("wideangle", __version__), ("Python", sys.version.split()[0]), ("CPU paths", paths)]
    rows.append(("threads", f"{available_threads()} (processors available to this process)"))
    for package, part in (("torch", "reference"), ("distributed", "distributed")):
        found = f'not found: pip install "wideangle[{part}]"'
        if find_spec(package) is not None:
            try:
                found = version(package)
            except PackageNotFoundError:
                found = "found, version unknown"
        rows.append((package, found))
    for name, value in rows:
        click.echo(f"{name:<12} {value}")


def terminal_width() -> int:
    return min(shutil.get_terminal_size((110, 24)).columns, 160)


def show_progress(asked: bool | None) -> bool:
    return sys.stderr.isatty() if asked is None else asked


def check_writable(path: Path) -> None:
    """Refuse a file that could not be written, before the work whose result it is to hold."""
    if path.is_dir():
        raise ValueError(f"--out must be a file, got the directory {str(path)!r}; name a file in it, such as angles.nc")
    if not path.absolute().parent.is_dir():
        raise ValueError(f"--out must lie in an existing directory, got {str(path)!r}; create its directory first")
    if not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        raise ValueError(f"--out must be writable, got {str(path)!r}; choose another place or change its permissions")


def echo_layers(net: MLP, columns: dict[str, Any]) -> None:
    """Print columns of numbers by layer; layer 0 is the input, which has no width."""
    click.echo("  ".join(["layer", "   width", *(f"{name:>12}" for name in columns)]))
    for layer, width in enumerate(["-", *net.widths]):
        cells = (column[layer] for column in columns.values())
        texts = (f"{cell:>12d}" if cell.dtype.kind in "iu" else f"{cell:>12.6g}" for cell in cells)
        click.echo("  ".join([f"{layer:>5}", f"{width:>8}", *texts]))
