"""Where tasks run: threads of this process, any executor of ``concurrent.futures``, or a Dask cluster."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

from wideangle._cpu import available_threads
from wideangle._progress import stopped_by
from wideangle.studies._samples import SamplesNotWrittenError

_DEFAULT_WORKERS = 8  # of an executor that does not say how many it has


class Workers(NamedTuple):
    """Something to submit tasks to."""

    submit: Callable[..., Future[Any]]
    number: Callable[[], int]
    is_remote: bool


@contextmanager
def workers_of(executor: Any) -> Iterator[Workers]:
    """Give the workers of an executor, by default threads, one for each core."""
    if executor is None:
        n_threads = available_threads()
        pool, over = ThreadPoolExecutor(n_threads, thread_name_prefix="wideangle-study"), threading.Event()
        try:
            yield Workers(lambda *work: pool.submit(_run_until, over, *work), lambda: n_threads, False)
        finally:
            over.set()
            pool.shutdown(wait=True, cancel_futures=True)
    elif _is_dask(executor):
        with executor.get_executor(pure=False, retries=10) as pool:
            yield Workers(pool.submit, lambda: max(sum(executor.ncores().values()), 1), True)
    else:
        n_workers = getattr(executor, "_max_workers", None) or _DEFAULT_WORKERS
        yield Workers(executor.submit, lambda: n_workers, not isinstance(executor, ThreadPoolExecutor))


def _run_until(over: threading.Event, function: Callable[..., Any], *arguments: Any) -> Any:
    with stopped_by(over):
        return function(*arguments)


def check_executor(executor: Any) -> None:
    """Refuse what tasks cannot be submitted to."""
    if executor is None or isinstance(executor, Executor) or _is_dask(executor):
        return
    if not callable(getattr(executor, "submit", None)):
        raise TypeError(
            "executor must be None, an executor of concurrent.futures, or a dask.distributed Client, got "
            f"{executor!r}; for a Dask cluster give executor=Client(address)"
        )
    if getattr(executor, "asynchronous", False):
        raise ValueError(
            "executor must be a synchronous Dask client, got an asynchronous one; leave out asynchronous=True"
        )


def explained(problem: Exception) -> Exception:
    """Return the error that a run ends with, when a task could not be run."""
    text, kept = f"{type(problem).__name__}: {problem}", "everything that was finished is kept"
    if isinstance(problem, SamplesNotWrittenError):
        return OSError(f"{problem}; {kept}: free some space, see that workers reach the folder, and run again")
    if isinstance(problem, BrokenExecutor):
        return RuntimeError(f"the executor lost its workers ({text}); {kept}: run again with a new one")
    return RuntimeError(f"a task could not be run on its worker ({text}); {kept}: run again when this is mended")


def _is_dask(executor: Any) -> bool:
    return callable(getattr(executor, "get_executor", None)) and callable(getattr(executor, "ncores", None))
