"""Where studies run: threads of this machine, or a Dask cluster."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import click

_DASK_TIMEOUT = 10.0  # seconds


@contextmanager
def executor_of(threads: int | None, dask: str | None) -> Iterator[Any]:
    """Give the executor that the options mean."""
    from wideangle._checks import check_threads

    if dask is not None and threads is not None:
        raise ValueError("--threads is for this machine and --dask for a cluster; give one or the other")
    if dask is not None:
        with dask_client(dask) as client:
            yield client
    elif threads is not None:
        pool = ThreadPoolExecutor(check_threads(threads), thread_name_prefix="wideangle-study")
        try:
            yield pool
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    else:
        yield None


@contextmanager
def dask_client(address: str) -> Iterator[Any]:
    """Give a client of the Dask cluster at an address."""
    import logging

    try:
        import distributed
    except ImportError as error:
        raise ImportError('--dask needs distributed: pip install "wideangle[distributed]"') from error
    check_scheme(address)
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # errors come as exceptions too
    try:
        check_answer(address)
        open_client: Any = distributed.Client
        client = open_client(address, timeout=_DASK_TIMEOUT, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        reason = str(error) or f"no answer in {_DASK_TIMEOUT:g} s"
        raise OSError(
            f"--dask: no scheduler answers at {address!r} ({reason}); start one, and give its address, such as "
            "tcp://127.0.0.1:8786"
        ) from error
    with client:
        n_cores = sum(client.ncores().values())
        about = f"{n_cores} cores" if n_cores else "no workers yet, and waits for them"
        click.echo(f"the cluster at {address} has {about}", err=True)
        yield client


def check_scheme(address: str) -> None:
    """Refuse addresses of protocols that Dask does not speak here, such as that of its dashboard."""
    from distributed.comm.registry import backends

    scheme, found, _ = address.partition("://")
    if not found or scheme in backends:
        return
    what = "a page in the browser, such as the dashboard" if scheme in ("http", "https") else "something else"
    raise ValueError(
        f"--dask must be the address of a scheduler, which begins with {'://, '.join(sorted(backends))}://, got "
        f"{address!r}, that of {what}; give what the scheduler prints, such as tcp://127.0.0.1:8786"
    )


def check_answer(address: str) -> None:
    """Raise OSError or ValueError if nothing listens at an address.

    A client that cannot connect leaves threads and loops behind, which may block those of the next one.
    """
    import socket

    from distributed.comm.addressing import get_address_host_port, parse_address

    scheme, _ = parse_address(address)
    if scheme in ("tcp", "tls"):
        host, port = get_address_host_port(address, strict=True)
        with socket.create_connection((host, port), timeout=_DASK_TIMEOUT):
            pass
