"""Features from files that the tests write: what comes back, and what is refused without being unpickled."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from wideangle.reference.feature_files import read_features

torch = pytest.importorskip("torch")

RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(20, 6)).astype(np.float32)
READOUT = RNG.normal(size=(3, 6)).astype(np.float32)
BIAS = RNG.normal(size=3).astype(np.float32)
TARGETS = np.arange(20) % 3
ALL: dict[str, Any] = {"features": FEATURES, "readout": READOUT, "bias": BIAS, "targets": TARGETS}
DIMENSIONS = {
    "features": ("sample", "neuron"),
    "readout": ("class", "neuron"),
    "bias": ("class",),
    "targets": ("sample",),
}


def write(path: Path, arrays: Any) -> Path:
    """Write arrays, or one of them, in the format of the suffix."""
    if path.suffix == ".npy":
        np.save(path, arrays)
    elif path.suffix == ".npz":
        np.savez(path, **arrays)
    elif isinstance(arrays, dict):
        torch.save({name: torch.tensor(array) for name, array in arrays.items()}, path)
    else:
        torch.save(torch.tensor(arrays), path)
    return path


def assert_all(dataset: xr.Dataset, arrays: dict[str, Any]) -> None:
    assert set(dataset.data_vars) == set(arrays)
    for name, array in arrays.items():
        assert dataset[name].dims == DIMENSIONS[name]
        np.testing.assert_array_equal(dataset[name], array)
        assert dataset[name].dtype == array.dtype


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.target),))


@pytest.mark.parametrize("suffix", [".npz", ".pt", ".pth", ".PT"])
def test_entries_of_a_file(tmp_path: Path, suffix: str) -> None:
    assert_all(read_features(write(tmp_path / f"a{suffix}", ALL)), ALL)
    assert_all(read_features(str(write(tmp_path / f"b{suffix}", {"features": FEATURES}))), {"features": FEATURES})


@pytest.mark.parametrize("suffix", [".npz", ".pt"])
def test_names_of_entries(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a{suffix}", {"h": FEATURES, "w": READOUT, "b": BIAS, "y": TARGETS, "epoch": np.array(3)})
    assert_all(read_features(path, features="h", readout="w", bias="b", targets="y"), ALL)
    assert_all(read_features(path, features="h", targets="y"), {"features": FEATURES, "targets": TARGETS})


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".pt"])
def test_files_of_one_array_each(tmp_path: Path, suffix: str) -> None:
    def one(name: str) -> Path:
        return write(tmp_path / f"{name}{suffix}", {"arr_0": ALL[name]} if suffix == ".npz" else ALL[name])

    main = (
        write(tmp_path / "main.npz", {"features": FEATURES, "bias": 2 * BIAS}) if suffix == ".npz" else one("features")
    )
    paths = {f"{name}_path": one(name) for name in ("readout", "bias", "targets")}
    dataset = read_features(main, **paths)  # type: ignore[arg-type]
    assert_all(dataset, ALL)
    assert dataset.attrs["bias_path"] == str(tmp_path / f"bias{suffix}")


def test_a_named_entry_of_another_file(tmp_path: Path) -> None:
    main, other = write(tmp_path / "a.npy", FEATURES), write(tmp_path / "b.npz", {"readout": READOUT, "w": 2 * READOUT})
    np.testing.assert_array_equal(read_features(main, readout_path=other).readout, READOUT)
    np.testing.assert_array_equal(read_features(main, readout_path=other, readout="w").readout, 2 * READOUT)
    with pytest.raises(ValueError, match="found entries readout, w, expected 'bias'"):
        read_features(main, bias_path=other)


def test_npy_is_mapped_and_not_read(tmp_path: Path) -> None:
    base: Any = read_features(write(tmp_path / "a.npy", FEATURES)).features.values
    assert not base.flags.writeable
    while not isinstance(base, np.memmap):
        base = base.base
        assert base is not None


def test_types_of_numbers(tmp_path: Path) -> None:
    for array in (FEATURES.astype(">f8"), np.asfortranarray(FEATURES), FEATURES.astype(np.float16), TARGETS[:, None]):
        assert_all(read_features(write(tmp_path / "a.npy", array)), {"features": array})
        assert_all(read_features(write(tmp_path / "a.npz", {"features": array})), {"features": array})
    torch.save(torch.tensor(FEATURES).bfloat16().requires_grad_(), tmp_path / "a.pt")
    features = read_features(tmp_path / "a.pt").features
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, FEATURES, rtol=2.0**-8)
    labels = TARGETS.astype(np.uint8)
    dataset = read_features(write(tmp_path / "b.npz", {"features": FEATURES, "targets": labels}))
    assert dataset.targets.dtype == np.int64
    broken = np.where(FEATURES > 0, FEATURES, np.nan)
    np.testing.assert_array_equal(read_features(write(tmp_path / "c.npy", broken)).features, broken)


def test_formats_of_torch(tmp_path: Path) -> None:
    torch.save({"features": torch.tensor(FEATURES)}, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    assert_all(read_features(tmp_path / "a.pt"), {"features": FEATURES})
    layer = torch.nn.Linear(6, 3)
    torch.save({"features": torch.tensor(FEATURES), "state": layer.state_dict(), 3: None}, tmp_path / "b.pt")
    assert_all(read_features(tmp_path / "b.pt"), {"features": FEATURES})
    torch.save(layer.state_dict(), tmp_path / "c.pt")
    dataset = read_features(write(tmp_path / "d.pt", FEATURES), readout_path=tmp_path / "c.pt", readout="weight")
    np.testing.assert_array_equal(dataset.readout, layer.weight.detach())


def test_attributes_go_to_files(tmp_path: Path) -> None:
    dataset = read_features(write(tmp_path / "a.npz", ALL))
    dataset.to_netcdf(tmp_path / "features.nc", engine="h5netcdf")
    assert dataset.attrs["function"] == "wideangle.representation.read_features"
    assert dataset.attrs["path"] == str(tmp_path / "a.npz")


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("argument", ["path", "readout_path"])
def test_a_pickled_class_is_not_unpickled(tmp_path: Path, argument: str, nested: bool, new_format: bool) -> None:
    trap, path = tmp_path / "trap", tmp_path / "a.pt"
    content = {"features": torch.tensor(FEATURES), "more": Evil(trap)} if nested else Evil(trap)
    torch.save(content, path, _use_new_zipfile_serialization=new_format)
    main = write(tmp_path / "b.npy", FEATURES)
    with pytest.raises(ValueError, match=r"a\.pt: found no plain tensors \(it needs .*mkdir\).*never unp.*torch\.save"):
        read_features(path) if argument == "path" else read_features(main, readout_path=path)
    assert not trap.exists()
    # The trap works.
    torch.load(path, weights_only=False)
    assert trap.exists()


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".pt"])
def test_plain_pickles_and_object_arrays_are_not_unpickled(tmp_path: Path, suffix: str) -> None:
    trap, path = tmp_path / "trap", tmp_path / f"a{suffix}"
    path.write_bytes(pickle.dumps(Evil(trap)))
    with pytest.raises(ValueError, match="never unpickled"):
        read_features(path)
    if suffix != ".pt":
        objects = np.array([Evil(trap)], dtype=object)
        write(path, {"features": objects} if suffix == ".npz" else objects)
        with pytest.raises(ValueError, match=r"never unpickled.*numpy.savez"):
            read_features(path)
    assert not trap.exists()


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".pt"])
def test_damaged_files(tmp_path: Path, suffix: str) -> None:
    whole = write(tmp_path / f"a{suffix}", FEATURES if suffix == ".npy" else {"features": FEATURES}).read_bytes()
    path = tmp_path / f"b{suffix}"
    for cut in {0, 1, 5, 10, 40, 127, 128, 200, len(whole) // 2, len(whole) - 1}:
        path.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match=rf"b\{suffix}.*found no"):
            read_features(path)
    rng = np.random.default_rng(0)
    for _ in range(40):
        spoiled = bytearray(whole)
        for place in rng.integers(len(whole), size=8):
            spoiled[place] = rng.integers(256)
        path.write_bytes(spoiled)
        # Some bytes, such as those of a date, mean nothing to a reader.
        with contextlib.suppress(ValueError):
            read_features(path)


def test_checksums_and_strange_members_of_archives(tmp_path: Path) -> None:
    path = write(tmp_path / "a.npz", {"features": FEATURES})
    content = bytearray(path.read_bytes())
    content[content.index(FEATURES.tobytes()[:16]) + 3] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="CRC"):
        read_features(path)
    buffer = io.BytesIO()
    np.save(buffer, FEATURES)
    for body in (b"text", buffer.getvalue() + b"more"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("features.npy", body)
        with pytest.raises(ValueError, match="entry features: found no readable array"):
            read_features(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "text")
    with pytest.raises(ValueError, match="found no arrays"):
        read_features(path)


def test_a_header_that_announces_too_much(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f4", "fortran_order": False, "shape": (2**40, 2**10)})
    (tmp_path / "a.npy").write_bytes(buffer.getvalue() + bytes(100))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("features.npy", buffer.getvalue() + bytes(100))
    for name in ("a.npy", "a.npz"):
        with pytest.raises(ValueError, match="found no"):
            read_features(tmp_path / name)


@pytest.mark.parametrize("suffix", [".npz", ".pt"])
def test_missing_entries(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a{suffix}", {"feature": FEATURES, "weights": READOUT})
    with pytest.raises(ValueError, match=r"found entries feature, weights, expected 'features'.*features=\"feature\""):
        read_features(path)
    with pytest.raises(ValueError, match=r"expected 'weight'.*readout=\"weights\""):
        read_features(path, features="feature", readout="weight")
    torch.save([torch.zeros(2)], tmp_path / "b.pt")
    with pytest.raises(ValueError, match="found list, expected a tensor or a dict"):
        read_features(tmp_path / "b.pt")


@pytest.mark.parametrize("suffix", [".npy", ".pt"])
def test_names_in_a_file_of_one_array(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a{suffix}", FEATURES)
    with pytest.raises(ValueError, match=r"single array.*leave out readout, or readout_path for a file of its own"):
        read_features(path, readout="w")
    with pytest.raises(ValueError, match=r"single array.*expected an entry 'h'; leave out features"):
        read_features(path, features="h")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": FEATURES[0]}, r"features of shape \(6,\).*expected shape \(sample, neuron\)"),
        ({"features": FEATURES[:, :, None]}, "after pooling"),
        ({"features": FEATURES.astype(complex)}, "type complex128, expected numbers"),
        ({"features": FEATURES > 0}, "type bool, expected numbers"),
        ({"features": FEATURES[:0]}, "at least one"),
        ({"readout": READOUT.T}, "transposed"),
        ({"readout": READOUT[:, :5]}, r"\(3, 5\).*expected shape \(class, 6\), as there are 6 neurons"),
        ({"readout": READOUT[0]}, r"expected shape \(class, 6\)"),
        ({"bias": BIAS[:2]}, r"bias of shape \(2,\).*expected shape \(3,\)"),
        ({"bias": BIAS[:, None]}, r"bias of shape \(3, 1\)"),
        ({"targets": TARGETS[:5]}, r"expected shape \(20,\), as there are 20 samples"),
        ({"targets": np.eye(3)[TARGETS]}, "argmax"),
        ({"targets": TARGETS.astype(float)}, "type float64, expected integers.*astype"),
        ({"targets": TARGETS + 1}, "labels from 1 to 3, expected class numbers from 0 to 2"),
        ({"targets": TARGETS - 1}, "labels from -1 to 1"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    for suffix in (".npz", ".pt"):
        with pytest.raises(ValueError, match=message):
            read_features(write(tmp_path / f"a{suffix}", ALL | changes))


def test_bias_alone_counts_the_classes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.npz", {"features": FEATURES, "bias": BIAS[:2], "targets": TARGETS})
    with pytest.raises(ValueError, match="from 0 to 1"):
        read_features(path)


def test_tensors_that_are_no_arrays(tmp_path: Path) -> None:
    torch.save(torch.tensor(FEATURES).to_sparse(), tmp_path / "a.pt")
    torch.save(torch.zeros(3, 4, device="meta"), tmp_path / "b.pt")
    for name in ("a.pt", "b.pt"):
        with pytest.raises(ValueError, match="no plain array"):
            read_features(tmp_path / name)


def test_versions_of_torch_that_may_unpickle_read_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.pt", ALL)
    for version, safe in (("2.5.1+cpu", False), ("2.6.0", True)):
        monkeypatch.setattr(torch, "__version__", torch.torch_version.TorchVersion(version))
        if safe:
            assert_all(read_features(path), ALL)
        else:
            with pytest.raises(ValueError, match=r"found PyTorch 2\.5\.1\+cpu, expected 2\.6 or later"):
                read_features(path)


def test_paths(tmp_path: Path) -> None:
    main = write(tmp_path / "a.npy", FEATURES)
    with pytest.raises(FileNotFoundError, match=r"path: .*none\.npy does not exist"):
        read_features(tmp_path / "none.npy")
    with pytest.raises(FileNotFoundError, match=r"targets_path: .*none\.pt does not exist"):
        read_features(main, targets_path=tmp_path / "none.pt")
    with pytest.raises(ValueError, match=r"is a directory.*a\.npy"):
        read_features(tmp_path)
    with pytest.raises(ValueError, match=r"has the suffix '\.pkl'"):
        read_features(tmp_path / "a.pkl")
    with pytest.raises(TypeError, match="path must be a string or a path, got 3"):
        read_features(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="readout must be the name"):
        read_features(main, readout=READOUT)  # type: ignore[arg-type]
