"""``wideangle predict`` and ``simulate``: the angle between two inputs, layer by layer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wideangle.cli._shared import Command, add_options, argument_errors, integers, show_progress

if TYPE_CHECKING:
    from wideangle.network import MLP


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


@click.command()
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


@click.command()
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
