"""Independent networks, several at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import TypeVar

from wideangle.reference._torch import torch_threads

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(
    train: Callable[[Item, Event], Result],
    items: Sequence[Item],
    *,
    n_threads: int,
    progress: bool = False,
    unit: str = "networks",
) -> list[Result]:
    """Return ``train(item, stopped)`` of all items, up to ``n_threads`` of them at a time.

    Each network has one thread of PyTorch, which makes better use of cores than one network with many does, and gives
    the same bits for any number of them. ``train`` returns as soon as the event is set, as on Ctrl-C and after an
    error.
    """
    stopped = Event()
    results = _one_by_one(train, items, stopped) if n_threads == 1 else _at_once(train, items, stopped, n_threads)
    return list(_with_bar(results, len(items), unit) if progress else results)


def _one_by_one(train: Callable[[Item, Event], Result], items: Sequence[Item], stopped: Event) -> Iterator[Result]:
    for item in items:
        with torch_threads(1):
            result = train(item, stopped)
        yield result


def _at_once(
    train: Callable[[Item, Event], Result], items: Sequence[Item], stopped: Event, n_threads: int
) -> Iterator[Result]:
    import torch

    # The number of PyTorch's threads is a setting of each thread of Python.
    with ThreadPoolExecutor(n_threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        futures = [pool.submit(train, item, stopped) for item in items]
        try:
            for future in futures:
                yield future.result()
        except BaseException:
            stopped.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _with_bar(results: Iterator[Result], total: int, unit: str) -> Iterator[Result]:
    # Not tqdm(disable=True), which starts a thread all the same.
    from tqdm import tqdm

    yield from tqdm(results, total=total, desc=unit)
