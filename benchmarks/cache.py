"""Many small measurements in the cache: files on the disk and times, as bundles and as one file each.

    python benchmarks/cache.py [--records N] [--frames N] [--folder PATH]

Writes made-up measurements (5,000 of eight frames by default) once as files of their own, as the cache did before it
had bundles, and once into a store; then looks all of them up, and as many that are not there. Both sides check every
record that they find. Prints the number of files, their bytes, and microseconds per record, and what a million records
would be: one of the 256 folders of a store is filled with its share of them. --folder says on which disk.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vmaf_research.measure.features import CANONICAL_6
from vmaf_research.measure.provenance import Store, recorded, seal, sha256_bytes, write_json

MILLION = 1_000_000


def made_up(records: int, frames: int) -> dict[str, dict]:
    "Measurements by key, with numbers as long as those of libvmaf."
    random = np.random.default_rng(0)
    names = ("vmaf", *CANONICAL_6)
    values = random.random((records, len(names), frames)).round(6)
    keys = [sha256_bytes(str(number).encode()) for number in range(records)]
    columns = (dict(zip(names, each.tolist(), strict=True)) for each in values)
    return {key: {"columns": each} for key, each in zip(keys, columns, strict=True)}


class OneFileEach:
    "The cache before it had bundles."

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"

    def load(self, key: str) -> dict | None:
        return recorded(self.path(key), {"key": key})

    def save(self, key: str, facts: dict) -> None:
        write_json(self.path(key), seal({"key": key, **facts}), durable=False)


def microseconds(work: Callable[[str], object], keys: list[str], expected: bool) -> float:
    "Per key; what is found is counted."
    started = time.perf_counter()
    found = sum(work(key) is not None for key in keys)
    spent = time.perf_counter() - started
    assert found == len(keys) * expected
    return 1e6 * spent / len(keys)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=5_000)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    facts = made_up(asked.records, asked.frames)
    others = [key[::-1] for key in facts]
    print(f"{asked.records:,} records of {asked.frames} frames\n{'':14}{'files':>8}{'MiB':>8}", end="")
    print("".join(f"{name:>12}" for name in ("save µs", "found µs", "missed µs")))
    with tempfile.TemporaryDirectory(dir=asked.folder) as place:
        sides = {"one file each": OneFileEach(Path(place, "each")), "bundles": Store(Path(place, "store"))}
        for name, side in sides.items():
            started = time.perf_counter()
            for key, value in facts.items():
                side.save(key, value)
            times = [1e6 * (time.perf_counter() - started) / len(facts)]
            times += [microseconds(side.load, list(facts), True), microseconds(side.load, others, False)]
            sizes = [path.stat().st_size for path in side.folder.rglob("*.*")]
            print(f"{name:14}{len(sizes):8,}{sum(sizes) / 2**20:8.1f}{''.join(f'{each:12,.0f}' for each in times)}")
        folder, keys = Store(Path(place, "one")), [f"00{number:062x}" for number in range(MILLION // 256)]
        for key in keys:
            folder.save(key, {})
        files = 256 * len(list(folder.folder.rglob("*.*")))
        found = microseconds(folder.load, keys, True)
    print(f"with a million records: about {files:,} files, {found:,.0f} µs to find a small one")


if __name__ == "__main__":
    main()
