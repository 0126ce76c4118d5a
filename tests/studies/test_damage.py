"""Bits that flip and files that end too soon: refused by name or without effect, and repaired to the same bytes."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import wideangle as wa
from wideangle.studies._journal import Journal
from wideangle.studies._salvage import salvage
from wideangle.studies.study import Study

Contents = Callable[[Path], dict[str, bytes]]


def run(table: dict[str, Any], store: Path, **options: Any) -> None:
    with ThreadPoolExecutor(1) as pool:
        wa.studies.run(Study.from_dict(table), store, executor=pool, progress=False, **options).close()


@pytest.fixture(scope="module")
def begun(
    tables: dict[str, dict[str, Any]], children: Any, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """The function that returns a store whose run was killed on its way, by the name of the study."""
    folder = tmp_path_factory.mktemp("begun")
    for name, table in tables.items():
        assert (
            children.run(table, folder / name, threads=1, action="kill", at=400 if name == "walk" else 120)["status"]
            == -9
        )
        assert (folder / name / "journal.sqlite").exists()
    return lambda name: folder / name


def flipped(data: bytes, bit: int) -> bytes:
    result = bytearray(data)
    result[bit // 8] ^= 1 << bit % 8
    return bytes(result)


def assert_named_or_harmless(
    table: dict[str, Any], store: Path, expected: dict[str, bytes], contents: Contents, case: object
) -> bool:
    """Run what is damaged, and repair it if that is refused; whether it was refused."""
    message = ""
    try:
        run(table, store)
    except (wa.studies.StoreError, OSError) as error:
        message = str(error)
        run(table, store, repair=True)
    assert contents(store) == expected, case
    assert not message or store.name in message, case
    return bool(message)


def places_of(data: bytes, number: int) -> list[int]:
    """Return bits of a journal: of its header, of the heads of its pages, and from everywhere."""
    choose = random.Random(2)
    pages = len(data) // 4096
    header = [choose.randrange(100 * 8) for _ in range(number // 4)]
    heads = [choose.randrange(pages) * 4096 * 8 + choose.randrange(40 * 8) for _ in range(number // 4)]
    everywhere = [choose.randrange(len(data) * 8) for _ in range(number - len(header) - len(heads))]
    return header + heads + everywhere


def flips_in_journal(number: int, begun: Any, tables: Any, undisturbed: Any, contents: Contents, folder: Path) -> None:
    journal = (begun("stop") / "journal.sqlite").read_bytes()
    refused = 0
    for bit in places_of(journal, number):
        store = folder / f"bit-{bit}"
        shutil.copytree(begun("stop"), store)
        (store / "journal.sqlite").write_bytes(flipped(journal, bit))
        refused += assert_named_or_harmless(tables["stop"], store, undisturbed["stop"], contents, bit)
        shutil.rmtree(store)
    assert refused > 0


def test_wrong_bits_in_the_journal(
    begun: Any, tables: Any, undisturbed: Any, contents: Contents, tmp_path: Path
) -> None:
    flips_in_journal(8, begun, tables, undisturbed, contents, tmp_path)


@pytest.mark.slow
def test_many_wrong_bits_in_the_journal(
    begun: Any, tables: Any, undisturbed: Any, contents: Contents, tmp_path: Path
) -> None:
    flips_in_journal(80, begun, tables, undisturbed, contents, tmp_path)


def test_all_wrong_bits_in_the_journal_are_found_by_its_check(begun: Any, tables: Any, tmp_path: Path) -> None:
    # Without the run around it, so that many can be tried: what is read is what was written.
    table = tables["stop"]
    study = Study.from_dict(table)
    path = tmp_path / "journal.sqlite"
    data = (begun("stop") / "journal.sqlite").read_bytes()
    path.write_bytes(data)

    def read() -> Any:
        try:
            journal = Journal(path)
        except wa.studies.StoreError:
            return None
        try:
            about, damage = journal.about(), journal.check()
            if damage:
                return None
            return about, {
                (cell, node): journal.read(cell, node).to_bytes()
                for cell, nodes in journal.done().items()
                for node in nodes
            }
        except (wa.studies.StoreError, OSError):
            return None
        finally:
            journal.close()

    about, nodes = read()
    assert about["identity"] == study.identity
    assert len(nodes) > 1
    n_found = 0
    for bit in places_of(data, 800):
        path.write_bytes(flipped(data, bit))
        found = read()
        n_found += found is None
        if found is not None:
            assert found[0] == about
            assert found[1].items() <= nodes.items(), bit
    assert n_found > 150


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_journals_that_end_too_soon(
    share: float, begun: Any, tables: Any, undisturbed: Any, contents: Contents, tmp_path: Path
) -> None:
    store = shutil.copytree(begun("stop"), tmp_path / "store")
    data = (store / "journal.sqlite").read_bytes()
    (store / "journal.sqlite").write_bytes(data[: int(share * len(data))])
    assert assert_named_or_harmless(tables["stop"], store, undisturbed["stop"], contents, share)


def test_journals_that_are_nonsense(
    begun: Any, tables: Any, undisturbed: Any, contents: Contents, tmp_path: Path
) -> None:
    store = shutil.copytree(begun("stop"), tmp_path / "store")
    (store / "journal.sqlite").write_bytes(b"nonsense" * 1000)
    assert assert_named_or_harmless(tables["stop"], store, undisturbed["stop"], contents, "nonsense")


def test_repair_keeps_what_is_sound(begun: Any, tables: Any, tmp_path: Path) -> None:
    store = shutil.copytree(begun("stop"), tmp_path / "store")
    study = Study.from_dict(tables["stop"])
    journal = Journal(store / "journal.sqlite")
    before = journal.done()
    assert len(before) > 1
    assert 1 in before
    journal._database.execute("UPDATE nodes SET n_samples = n_samples + 1 WHERE cell = 1")
    journal.close()
    with pytest.raises(wa.studies.StoreError, match=r"cell 1.*repair"):
        run(tables["stop"], store)
    salvage(store / "journal.sqlite", {"identity": study.identity}, 3)
    journal = Journal(store / "journal.sqlite")
    after = journal.done()
    journal.close()
    assert after == {cell: nodes for cell, nodes in before.items() if cell != 1}


def test_a_lost_journal_does_not_make_partial_results_finished(
    tables: Any, undisturbed: Any, contents: Contents, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    run(tables["stop"], store, max_time=1e-9)
    assert (store / ".zgroup").exists()
    (store / "journal.sqlite").unlink()
    with pytest.raises(wa.studies.StoreError, match="journal of an unfinished run is missing"):
        run(tables["stop"], store)
    run(tables["stop"], store, repair=True)
    assert contents(store) == undisturbed["stop"]


def test_every_file_of_a_finished_store_is_checked(
    tables: Any, undisturbed: Any, contents: Contents, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    run(tables["walk"], store)
    choose = random.Random(3)
    files = [name for name, data in undisturbed["walk"].items() if data]
    assert len(files) > 50
    for name in files:
        path, data = store / name, (store / name).read_bytes()
        for damaged in (flipped(data, choose.randrange(8 * len(data))), data[:-1], b"", None):
            if damaged is None:
                path.unlink()
            else:
                path.write_bytes(damaged)
            with pytest.raises(wa.studies.StoreError, match="damaged") as refused:
                wa.studies.run(Study.from_dict(tables["walk"]), store, progress=False)
            assert "repair=True" in str(refused.value)
            if name != "checksums.json":
                assert name in str(refused.value), name
        path.write_bytes(data)
    assert contents(store) == undisturbed["walk"]


@pytest.mark.parametrize("name", [".zgroup", ".zattrs", "checksums.json", "x_mean/0.0", "few_mean/.zarray"])
def test_repair_of_a_finished_store(
    name: str, tables: Any, undisturbed: Any, contents: Contents, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    run(tables["stop"], store)
    (store / name).unlink()
    with pytest.raises(wa.studies.StoreError, match="damaged"):
        run(tables["stop"], store)
    run(tables["stop"], store, repair=True)
    assert contents(store) == undisturbed["stop"]


def test_a_chunk_that_nobody_wrote_is_found(tables: Any, tmp_path: Path) -> None:
    store = tmp_path / "store"
    run(tables["stop"], store)
    shutil.copy(store / "x_mean/0.0", store / "x_mean/1.0")
    with pytest.raises(wa.studies.StoreError, match=r"x_mean/1\.0"):
        run(tables["stop"], store)


@pytest.mark.parametrize("damage", ["flip", "cut", "missing", "swapped"])
def test_damaged_files_of_samples(
    damage: str, begun: Any, tables: Any, undisturbed: Any, contents: Contents, tmp_path: Path
) -> None:
    store = shutil.copytree(begun("walk"), tmp_path / "store")
    first, second = sorted((store / ".samples").glob("0-*.npz"))[:2]
    data = first.read_bytes()
    if damage == "missing":
        first.unlink()
    elif damage == "swapped":
        shutil.copy(second, first)
    else:
        first.write_bytes(flipped(data, 4 * len(data)) if damage == "flip" else data[:-10])
    with pytest.raises(wa.studies.StoreError, match=r"samples.*repair"):
        run(tables["walk"], store)
    run(tables["walk"], store, repair=True)
    assert contents(store) == undisturbed["walk"]


def test_forgotten_files_of_samples(
    begun: Any, tables: Any, undisturbed: Any, contents: Contents, tmp_path: Path
) -> None:
    store = shutil.copytree(begun("walk"), tmp_path / "store")
    journal = Journal(store / "journal.sqlite")
    journal._database.execute("DELETE FROM files WHERE cell = 0 AND block = 1")
    journal.close()
    with pytest.raises(wa.studies.StoreError, match="samples of cell 0, block 1"):
        run(tables["walk"], store)
    run(tables["walk"], store, repair=True)
    assert contents(store) == undisturbed["walk"]


@pytest.mark.parametrize("damaged", ["checksums.json", ".zattrs", ".zmetadata", "state", "journal"])
def test_repair_leaves_the_results_of_another_study(
    damaged: str, tables: Any, contents: Contents, tmp_path: Path
) -> None:
    """Whose they are stands in several places, of which one may be damaged."""
    store = tmp_path / "store"
    run(tables["stop"], store, **({"max_time": 1e-9} if damaged == "journal" else {}))
    if damaged == "state":
        text = (store / ".zattrs").read_text(encoding="utf-8")
        (store / ".zattrs").write_text(text.replace('"complete"', '"complett"'), encoding="utf-8")
    elif damaged == "journal":
        (store / "journal.sqlite").write_bytes(b"nonsense" * 1000)
    else:
        (store / damaged).write_text("x" + (store / damaged).read_text(encoding="utf-8")[1:], encoding="utf-8")
    before = contents(store)
    with pytest.raises(wa.studies.StoreError, match="holds another study"):
        run({**tables["stop"], "seed": 6}, store, repair=True)
    assert {name: data for name, data in contents(store).items() if name != ".lock"} == {
        name: data for name, data in before.items() if name != ".lock"
    }
    run(tables["stop"], store, repair=True)


def test_repair_leaves_results_that_nothing_names(tables: Any, contents: Contents, tmp_path: Path) -> None:
    store = tmp_path / "store"
    run(tables["stop"], store)
    for name in (".zattrs", ".zmetadata"):
        (store / name).write_bytes(b"{")
    before = contents(store)
    with pytest.raises(wa.studies.StoreError, match="nothing in it says of which study"):
        run(tables["stop"], store, repair=True)
    assert contents(store) == before


def test_repair_leaves_a_journal_of_another_study(begun: Any, tables: Any, tmp_path: Path) -> None:
    """Its results say whose they are, though the description does not."""
    store = shutil.copytree(begun("stop"), tmp_path / "store")
    journal = Journal(store / "journal.sqlite")
    done = journal.done()
    journal._database.execute("UPDATE about SET value = 'x' WHERE key IN ('identity', 'study')")
    journal.close()
    with pytest.raises(wa.studies.StoreError, match="results of another study"):
        run({**tables["stop"], "seed": 6}, store, repair=True)
    journal = Journal(store / "journal.sqlite")
    assert journal.done() == done
    journal.close()
    run(tables["stop"], store, repair=True)
