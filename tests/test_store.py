"""The store of small records: many writers at once, kills, damage, and folders from before there were bundles."""

import os
import random
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from vmaf_research.measure import provenance
from vmaf_research.measure.core import Record
from vmaf_research.measure.provenance import Store, json_bytes, seal, write_bytes, write_json


def key_of(number):
    return f"ab{number:062x}"


def fill(store, numbers):
    return {number: store.save(key_of(number), {"number": number, "noise": [number / 7] * 9}) for number in numbers}


def bundles(store):
    return sorted(store.folder.rglob("*.zip"))


def work(folder, seed):
    "Save records in an order of its own, and look for those that were seen; returns what was not found."
    store, dice, seen, lost = Store(folder), random.Random(seed), [], []
    for number in dice.sample(range(150), 150):
        if store.load(key_of(number)) is None:
            fill(store, [number])
        seen.append(number)
        lost += [each for each in dice.sample(seen, min(3, len(seen))) if store.load(key_of(each)) is None]
    return lost


def test_writers_at_once_lose_nothing(tmp_path):
    with ProcessPoolExecutor(3, get_context("fork")) as pool:
        assert [*pool.map(work, [tmp_path] * 3, range(3))] == [[], [], []]
    store = Store(tmp_path)
    assert [store.load(key_of(number))["number"] for number in range(150)] == [*range(150)]
    fill(store, range(150, 160))
    names = [path.name for path in tmp_path.rglob("*.*")]
    assert len(names) < 20 and not [name for name in names if name.startswith(".")]


KILLED = """
import sys
from pathlib import Path
from test_store import Store, fill
for number in range(10_000):
    fill(Store(Path(sys.argv[1])), [number])
    print(number, flush=True)
"""


def test_a_kill_at_any_moment_loses_nothing(tmp_path):
    for wait in (0.0, 0.03, 0.11):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path])}
        command = [sys.executable, "-c", KILLED, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
            said = [process.stdout.readline() for _ in range(10)]
            time.sleep(wait)
            process.kill()
            said += process.stdout.readlines()
        last = max(int(line) for line in said if line.endswith(b"\n"))
        store = Store(tmp_path)
        assert all(store.load(key_of(number))["number"] == number for number in range(last + 1))


def test_what_a_kill_left_is_swept_after_a_day(tmp_path):
    store = Store(tmp_path)
    fill(store, range(7))
    parts = [tmp_path / "ab" / f".x.0123456{number}.part.zip" for number in range(2)]
    for part in parts:
        part.write_bytes(b"half")
    os.utime(parts[0], (0, 0))
    fill(store, [7])
    assert [part.exists() for part in parts] == [False, True]


def test_loose_files_of_before_are_read_and_bundled(tmp_path):
    store = Store(tmp_path)
    before = {number: seal({"key": key_of(number), "number": number}) for number in range(20)}
    for number, record in before.items():
        write_json(store.path(key_of(number)), record)
    large = seal({"key": key_of(99), "noise": [1.25] * 150_000})
    write_json(store.path(key_of(99)), large)
    assert all(store.load(key_of(number)) == record for number, record in before.items()) and not bundles(store)
    fill(store, [20])
    assert all(store.load(key_of(number)) == record for number, record in before.items())
    (bundle,) = bundles(store)
    assert store.files(map(key_of, [*range(21), 99])) == {bundle, store.path(key_of(99))}
    assert store.load(key_of(99)) == large and len(zipfile.ZipFile(bundle).namelist()) == 21
    assert store.files([key_of(1000)]) == set() and store.load("cd" * 32) is None


def test_a_large_cache_of_before_is_bundled_bit_by_bit(tmp_path):
    store, left = Store(tmp_path), []
    for number in range(300):
        write_json(store.path(key_of(number)), seal({"key": key_of(number), "number": number}), durable=False)
    for number in range(300, 304):
        fill(store, [number])
        left.append(len(list(tmp_path.rglob("*.json"))))
    assert left == [173, 46, 0, 1]
    assert [store.load(key_of(number))["number"] for number in range(304)] == [*range(304)]
    assert [len(zipfile.ZipFile(path).namelist()) for path in bundles(store)].count(128) == 2


def test_damage_is_noticed_and_made_good(tmp_path):
    store = Store(tmp_path)
    saved = fill(store, range(8))
    (bundle,), dice, missed = bundles(store), random.Random(0), 0
    whole = bundle.read_bytes()
    for _ in range(40):
        damaged = bytearray(whole)
        damaged[dice.randrange(len(whole))] ^= 1 << dice.randrange(8)
        bundle.write_bytes(dice.choice([bytes(damaged), bytes(damaged), whole[: dice.randrange(len(whole))]]))
        provenance._bundled_keys.cache_clear()
        for number, record in saved.items():
            found = store.load(key_of(number))
            missed += found is None
            assert found in (None, record)
    assert missed
    at = whole.index(key_of(3).encode()) + 75  # in the data of a record
    bundle.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    provenance._bundled_keys.cache_clear()
    assert [number for number in saved if store.load(key_of(number)) is None] == [3]
    assert fill(store, [3]) == {3: saved[3]}
    fill(store, range(8, 15))  # eight loose files: all is joined, and only the whole one stays
    assert [store.load(key_of(number)) for number in saved] == [*saved.values()]
    (joined,) = bundles(store)
    assert joined != bundle and zipfile.ZipFile(joined).testzip() is None
    joined.write_bytes(b"no zip file")
    provenance._bundled_keys.cache_clear()
    assert store.load(key_of(0)) is None
    fill(store, range(8))
    assert [store.load(key_of(number)) for number in saved] == [*saved.values()] and len(bundles(store)) == 1


class Two(Record):
    number: int
    second: int


def test_a_record_of_another_form_or_a_damaged_one_gives_way(tmp_path):
    store = Store(tmp_path)
    fill(store, range(8))
    assert store.load(key_of(0), Two) is None
    damaged = json_bytes(seal({"key": key_of(1), "number": 1})).replace(b'"number": 1', b'"number": 2')
    write_bytes(store.path(key_of(1)), damaged)
    store.save(key_of(0), {"number": 0, "second": 1})
    later = time.time() + 4  # zip files know times to two seconds
    os.utime(store.path(key_of(0)), (later, later))
    fill(store, range(8, 15))
    assert len(bundles(store)) == 1
    assert store.load(key_of(0), Two)["second"] == 1 and store.load(key_of(1))["number"] == 1
    assert store.path(key_of(1)).read_bytes() == damaged  # nobody asked for it to be made again


def test_a_bundle_that_another_process_joined_meanwhile(tmp_path, monkeypatch):
    store = Store(tmp_path)
    fill(store, range(8))
    (old,) = bundles(store)
    unpatched, listings = provenance._bundles, []

    def listed_too_early(folder):
        listings.append(folder)
        if len(listings) == 1:
            fill(store, range(8, 16))
            return [old]
        return unpatched(folder)

    monkeypatch.setattr(provenance, "_bundles", listed_too_early)
    assert store.load(key_of(5))["number"] == 5
    assert not old.exists() and len(listings) == 2


@pytest.mark.parametrize(("place", "name"), [(zipfile.ZipFile, "writestr"), (Path, "unlink")])
def test_records_are_kept_where_bundles_cannot_be(tmp_path, monkeypatch, place, name):
    allowed = getattr(place, name)

    def fail(self, *given, **named):
        if ".part" in getattr(self, "name", ""):
            return allowed(self, *given, **named)
        raise PermissionError(13, "Permission denied")

    store = Store(tmp_path)
    fill(store, range(7))
    with monkeypatch.context() as patch:
        patch.setattr(place, name, fail)
        fill(store, [7, 8])
    assert all(store.load(key_of(number)) for number in range(9)) and len(list(tmp_path.rglob("*.json"))) == 9
    fill(store, [9])
    assert all(store.load(key_of(number)) for number in range(10))
    assert len(bundles(store)) == len(list(tmp_path.rglob("*.*"))) == 1
