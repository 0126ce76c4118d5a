"""Features of a trained network from files. Nothing is ever unpickled."""

from __future__ import annotations

import difflib
import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wideangle._provenance import provenance
from wideangle.reference._torch import require_torch

if TYPE_CHECKING:
    import xarray as xr

SOURCE = "files; arXiv 2106.03485 takes the last hidden layer"

# CVE-2025-32434
_SAFE_TORCH = "2.6"
_SUFFIXES = (".npy", ".npz", ".pt", ".pth")
_SAFE = (
    "files are never unpickled, which would run whatever code they hold; where you trust the file, load it yourself "
    "and save plain numbers, with numpy.savez(path, features=..., readout=...) or "
    'torch.save({"features": tensor, "readout": tensor}, path)'
)


def read_features(
    path: str | os.PathLike[str],
    *,
    features: str = "features",
    readout: str = "readout",
    bias: str = "bias",
    targets: str = "targets",
    readout_path: str | os.PathLike[str] | None = None,
    bias_path: str | os.PathLike[str] | None = None,
    targets_path: str | os.PathLike[str] | None = None,
) -> xr.Dataset:
    """Read the activations of a layer, and what reads them out, from files of NumPy or PyTorch.

    Parameters
    ----------
    path
        A file with the suffix .npy (features alone, mapped into memory rather than read), .npz, or .pt or .pth (a
        tensor, which is the features, or a dict of tensors). Only the latter two need PyTorch, which loads them with
        ``weights_only=True``. Nothing is ever unpickled otherwise.
    features, readout, bias, targets
        Names of the entries in the file, by default these words. Features have to be there; of the others, those whose
        name is not the default one.
    readout_path, bias_path, targets_path
        Files, of the same formats, from which that array is taken instead: the only one in the file, or the entry of
        the name above. By default, None.

    Returns
    -------
    xarray.Dataset
        ``features`` (sample, neuron) and those found of ``readout`` (class, neuron), ``bias`` (class) and ``targets``
        (sample), int64, so that the network's output is features @ readout.T + bias. Numbers are of the type in the
        file, bfloat16 becoming float32; features and readout that are not finite stay as they are.

    Raises
    ------
    FileNotFoundError
        If a file does not exist.
    ImportError
        If a file is PyTorch's, which is not installed.
    TypeError
        If an argument is not a name or a path.
    ValueError
        If a path is a directory or has another suffix; a file is damaged, cut off, or would have to be unpickled; an
        entry is missing; shapes, types or labels do not fit together; or a file is PyTorch's and PyTorch older than
        2.6.

    Notes
    -----
    Up to PyTorch 2.5 a file could run code even with ``weights_only=True`` (CVE-2025-32434), and up to 2.9 a crafted
    one could corrupt memory (CVE-2026-24747). Read files of unknown origin with a later one, or as .npz.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> import wideangle as wa
    >>> rng = np.random.default_rng(1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder, "layer.npz")
    ...     np.savez(file, features=rng.normal(size=(50, 8)), weights=rng.normal(size=(3, 8)))
    ...     dataset = wa.representation.read_features(file, readout="weights")
    >>> dict(dataset.sizes)
    {'sample': 50, 'neuron': 8, 'class': 3}
    """
    import xarray as xr

    names = {"features": features, "readout": readout, "bias": bias, "targets": targets}
    for argument, name in names.items():
        if not isinstance(name, str):
            raise TypeError(f"{argument} must be the name of an entry in the file, got {name!r}; give a string")
    paths = {"features": path, "readout": readout_path, "bias": bias_path, "targets": targets_path}
    located = {key: _locate(key, value) for key, value in paths.items() if key == "features" or value is not None}

    main = _open(located["features"])
    arrays = {"features": main.take("features", features)}
    for key in ("readout", "bias", "targets"):
        if key in located:
            arrays[key] = _open(located[key]).take_only(key, names[key])
        elif names[key] in main.names or names[key] != key:
            arrays[key] = main.take(key, names[key])
    sources = {key: str(located.get(key, located["features"])) for key in arrays}
    _check(arrays, sources)

    dimensions = {
        "features": ("sample", "neuron"),
        "readout": ("class", "neuron"),
        "bias": ("class",),
        "targets": ("sample",),
    }
    arguments: dict[str, Any] = {key: names[key] for key in arrays}
    arguments |= {"path" if key == "features" else f"{key}_path": str(value) for key, value in located.items()}
    attributes = provenance("wideangle.representation.read_features", source=SOURCE, **arguments)
    return xr.Dataset({key: (dimensions[key], array) for key, array in arrays.items()}, attrs=attributes)


class _Entries(NamedTuple):
    """What a file holds: named arrays, or a single one without a name."""

    path: Path
    names: tuple[str, ...]
    read: Callable[[str], NDArray[Any]]

    def take(self, argument: str, name: str) -> NDArray[Any]:
        """Return an entry, or raise with the names of those that there are."""
        if name in self.names or (not self.names and argument == name == "features"):
            return self.read(name)
        if not self.names:
            other = "" if argument == "features" else f", or {argument}_path for a file of its own"
            raise ValueError(
                f"{self.path}: found a single array without a name, expected an entry {name!r}; leave out {argument}"
                f"{other}"
            )
        close = difflib.get_close_matches(name, self.names, n=1, cutoff=0.4) or self.names[:1]
        raise ValueError(
            f"{self.path}: found entries {', '.join(self.names[:20])}, expected {name!r}; give the name of the entry, "
            f'such as {argument}="{close[0]}"'
        )

    def take_only(self, argument: str, name: str) -> NDArray[Any]:
        """Return the entry of this name, or the only one."""
        if name == argument and len(self.names) < 2:
            return self.read(self.names[0] if self.names else name)
        return self.take(argument, name)


def _locate(key: str, value: Any) -> Path:
    argument = "path" if key == "features" else f"{key}_path"
    expected = "an .npy, .npz, .pt or .pth file"
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"{argument} must be a string or a path, got {value!r}; give {expected}")
    path = Path(value)
    if path.is_dir():
        files = ", ".join(sorted(entry.name for entry in path.iterdir() if entry.suffix in _SUFFIXES)[:10])
        raise ValueError(
            f"{argument}: {path} is a directory, expected {expected}; give one of its files, {files or 'it has none'}"
        )
    if path.suffix.lower() not in _SUFFIXES:
        raise ValueError(f"{argument}: {path} has the suffix {path.suffix!r}, expected {expected}; save it as one")
    if not path.exists():
        raise FileNotFoundError(f"{argument}: {path} does not exist; give {expected}")
    return path


def _open(path: Path) -> _Entries:
    # A file that may not be opened is not a damaged one, so that error passes.
    with path.open("rb"):
        pass
    suffix = path.suffix.lower()
    return _open_npy(path) if suffix == ".npy" else _open_npz(path) if suffix == ".npz" else _open_pt(path)


def _open_npy(path: Path) -> _Entries:
    def read(_: str) -> NDArray[Any]:
        try:
            return np.lib.format.open_memmap(path, mode="r")
        except Exception as error:  # whatever a damaged file raises
            raise ValueError(f"{path}: found no array of numbers in NumPy's format ({error}); {_SAFE}") from error

    return _Entries(path, (), read)


def _open_npz(path: Path) -> _Entries:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
    except Exception as error:
        raise ValueError(f"{path}: found no readable .npz archive ({error}); {_SAFE}") from error
    names = tuple(member.removesuffix(".npy") for member in members if member.endswith(".npy"))
    if not names:
        raise ValueError(f"{path}: found no arrays in the archive; {_SAFE}")

    def read(name: str) -> NDArray[Any]:
        try:
            with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as stream:
                array: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
                # Reading on to the end has the checksum verified.
                if stream.read(1):
                    raise ValueError("bytes after the end of the array")
                return array
        except Exception as error:
            raise ValueError(f"{path}, entry {name}: found no readable array of numbers ({error}); {_SAFE}") from error

    return _Entries(path, names, read)


def _open_pt(path: Path) -> _Entries:
    require_torch()
    import torch

    if torch.__version__ < _SAFE_TORCH:
        raise ValueError(
            f"{path}: found PyTorch {torch.__version__}, expected {_SAFE_TORCH} or later, before "
            "which a file could run code even with weights_only=True; upgrade PyTorch, or save the arrays with "
            "numpy.savez"
        )
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # PyTorch's own message advises to unpickle after all.
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"it needs {named[1]}" if named else "it is damaged, or not PyTorch's"
        raise ValueError(f"{path}: found no plain tensors ({what}); {_SAFE}") from error
    if isinstance(loaded, torch.Tensor):
        return _Entries(path, (), lambda _: _from_tensor(str(path), loaded))
    held = loaded if isinstance(loaded, dict) else {}
    tensors = {name: value for name, value in held.items() if isinstance(name, str) and isinstance(value, torch.Tensor)}
    if not tensors:
        raise ValueError(f"{path}: found {type(loaded).__name__}, expected a tensor or a dict of tensors; {_SAFE}")
    return _Entries(path, tuple(tensors), lambda name: _from_tensor(f"{path}, entry {name}", tensors[name]))


def _from_tensor(source: str, tensor: Any) -> NDArray[Any]:
    import torch

    try:
        plain = tensor.detach()
        exact = plain.dtype in (torch.float16, torch.float32, torch.float64)
        array: NDArray[Any] = (plain.float() if plain.is_floating_point() and not exact else plain).numpy()
        return array
    except (TypeError, RuntimeError) as error:
        raise ValueError(
            f"{source}: found a tensor that is no plain array ({error}); save tensor.to_dense()"
        ) from error


def _check(arrays: dict[str, NDArray[Any]], sources: dict[str, str]) -> None:
    """Raise if arrays do not fit together; labels become int64."""

    def refuse(key: str, expected: str, remedy: str) -> None:
        array = arrays[key]
        found = f"{key} of shape {array.shape} and type {array.dtype}"
        raise ValueError(f"{sources[key]}: found {found}, expected {expected}; {remedy}")

    for key, array in arrays.items():
        if array.dtype.kind not in "fiu" or array.size == 0:
            refuse(key, "numbers, at least one", "save real numbers")
    if arrays["features"].ndim != 2:
        refuse("features", "shape (sample, neuron)", "save the layer after pooling, with .reshape(n_samples, -1)")
    n_samples, width = arrays["features"].shape
    n_classes = None
    if "readout" in arrays:
        shape = arrays["readout"].shape
        if len(shape) == 2 and shape[1] != width and shape[0] == width:
            refuse("readout", f"shape (class, {width})", "it is transposed, save readout.T")
        if len(shape) != 2 or shape[1] != width:
            remedy = "save the weights of the layer that reads these features out"
            refuse("readout", f"shape (class, {width}), as there are {width} neurons", remedy)
        n_classes = shape[0]
    if "bias" in arrays:
        shape = arrays["bias"].shape
        if len(shape) != 1 or n_classes not in (None, shape[0]):
            size = "class" if n_classes is None else n_classes
            refuse("bias", f"shape ({size},), a number for each class", "save the bias of the readout")
        n_classes = shape[0]
    if "targets" in arrays:
        labels = arrays["targets"]
        if labels.shape != (n_samples,):
            remedy = "save a label for each sample, for one-hot labels targets.argmax(axis=1)"
            refuse("targets", f"shape ({n_samples},), as there are {n_samples} samples", remedy)
        if labels.dtype.kind == "f":
            refuse("targets", "integers", "save targets.astype('int64')")
        low, high = int(labels.min()), int(labels.max())
        top = 2**31 if n_classes is None else n_classes
        if low < 0 or high >= top:
            raise ValueError(
                f"{sources['targets']}: found labels from {low} to {high}, expected class numbers from 0 to {top - 1}; "
                "number the classes from 0, as the rows of the readout"
            )
        arrays["targets"] = labels.astype(np.int64)
