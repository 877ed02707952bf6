"""Where the page keeps its results."""

import json
import shutil
import stat
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from BrainGenLib.browser.shelf import Shelf, Source
from BrainGenLib.case import Case
from BrainGenLib.errors import BadInput


def case(value):
    return Case({"T1w": np.full((4, 5, 6), value, np.float32)}, None, np.eye(4), provenance={"value": value})


def test_cases_come_back_in_their_order_and_only_their_owner_reads_them(tmp_path):
    folder = tmp_path / "kept"
    shelf = Shelf(folder)
    for number in range(12):
        shelf.keep(f"case {number}", case(number), of=Source("case 0", "T1w") if number else None)
    shelf.remove("case 3")
    assert {stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.glob("0*"))} == {0o700}
    shelf._lock.release()
    again = Shelf(folder)
    assert again.names == [f"case {number}" for number in range(12) if number != 3]
    found, of = again.load("case 11")
    assert (found.images["T1w"][0, 0, 0], found.provenance, of) == (11, {"value": 11}, ("case 0", "T1w"))
    again.keep("one more", case(0))
    assert len(list(folder.glob("0*"))) == 12


def test_labels_find_their_own_scan_and_never_another_of_its_name(tmp_path):
    shelf = Shelf(tmp_path)
    shelf.keep("scan", case(1))
    shelf.keep("labels", case(2), of=Source("scan", "T1w"))
    shelf.remove("scan")
    shelf.keep("scan", case(3))
    shelf.keep("others", case(4), of=Source("scan", "T1w"))
    # As earlier versions wrote it.
    about = json.loads((tmp_path / "000002" / "about.json").read_text(encoding="utf-8"))
    shelf.keep("old", case(5))
    (tmp_path / "000005" / "about.json").write_text(json.dumps({"name": "old", "of": "scan"}))
    shelf._lock.release()
    again = Shelf(tmp_path)
    assert [again.load(name)[1] for name in ("labels", "others", "old")] == [None, ("scan", "T1w"), None]
    assert "scan" not in json.dumps(about["of"])


def test_a_case_that_is_written_again_replaces_itself_when_it_is_whole(tmp_path, monkeypatch):
    shelf = Shelf(tmp_path)
    shelf.keep("labels", case(1))
    shelf.keep("of them", case(0), of=Source("labels", "T1w"))
    with monkeypatch.context() as patch:
        patch.setattr(Case, "save", full)
        with pytest.raises(OSError, match="No space"):
            shelf.keep("labels", case(2))
    assert shelf.load("labels")[0].provenance == {"value": 1}
    shelf.keep("labels", case(3))
    assert sorted(path.name for path in tmp_path.glob("0*")) == ["000002", "000003"]
    # Killed before the older one went.
    shutil.copytree(tmp_path / "000003", tmp_path / "000004")
    shelf._lock.release()
    again = Shelf(tmp_path)
    assert again.load("labels")[0].provenance == {"value": 3}
    assert again.load("of them")[1] == ("labels", "T1w")
    assert sorted(path.name for path in tmp_path.glob("0*")) == ["000002", "000004"]
    save = Case.save
    monkeypatch.setattr(Case, "save", lambda self, folder: (again.remove("labels"), save(self, folder)))
    again.keep("labels", case(4))
    assert again.names == ["of them"]
    assert [path.name for path in tmp_path.glob("0*")] == ["000002"]


def full(*_):
    raise OSError(28, "No space left on device")


def test_a_folder_of_the_user_stays_as_it_is(tmp_path):
    tmp_path.chmod(0o755)
    (tmp_path / "download.part").mkdir()
    Shelf(tmp_path).keep("one", case(1))
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "000001").stat().st_mode) == 0o700
    assert (tmp_path / "download.part").exists()


def test_two_apps_do_not_share_a_folder(tmp_path):
    first = Shelf(tmp_path)
    with pytest.raises(BadInput, match="give this one another with --results"):
        Shelf(tmp_path)
    first._lock.release()
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot be kept"):
        Shelf(tmp_path / "file")


def test_what_was_being_written_or_belongs_to_nobody_is_no_case(tmp_path):
    shelf = Shelf(tmp_path)
    shelf.keep("whole", case(1))
    shelf._lock.release()
    (tmp_path / "000002.part" / "case").mkdir(parents=True)
    (tmp_path / "000003").mkdir()
    (tmp_path / "000004").mkdir()
    (tmp_path / "000004" / "about.json").write_text("{")
    again = Shelf(tmp_path)
    assert again.names == ["whole"]
    assert not (tmp_path / "000002.part").exists()
    again.keep("next", case(2))
    assert again.load("next")[0].provenance == {"value": 2}


def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch):
    shelf = Shelf(tmp_path)
    monkeypatch.setattr(Case, "save", full)
    with pytest.raises(OSError, match="No space"):
        shelf.keep("lost", case(1))
    assert shelf.names == []
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_cases_that_are_kept_at_once_do_not_meet(tmp_path, monkeypatch):
    shelf, arrived = Shelf(tmp_path), threading.Barrier(3)
    save = Case.save
    monkeypatch.setattr(Case, "save", lambda self, folder: (arrived.wait(10), save(self, folder)))
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda number: shelf.keep(f"case {number}", case(number)), range(3)))
    assert sorted(shelf.load(f"case {number}")[0].provenance["value"] for number in range(3)) == [0, 1, 2]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["000001", "000002", "000003"]


def test_what_is_removed_while_it_is_written_does_not_come_back(tmp_path, monkeypatch):
    shelf = Shelf(tmp_path)
    save = Case.save
    monkeypatch.setattr(Case, "save", lambda self, folder: (shelf.remove("one"), save(self, folder)))
    shelf.keep("one", case(1))
    assert (shelf.names, [path for path in tmp_path.iterdir() if path.is_dir()]) == ([], [])
