"""Write docs/scaling.md: what large corpora cost, worked out from costs per frame that are measured here and now.

    python docs/scaling.py [--rows N]

Takes some minutes: it encodes and measures three clips of 960x540 in several ways, and runs benchmarks/scale.py.
Processor seconds are counted, not the clock, so that other work on the machine disturbs little.
"""

import argparse
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from vmaf_research import measure
from vmaf_research.corpora.embedded import SCENES, write_scene
from vmaf_research.corpora.jobs import run_jobs
from vmaf_research.corpora.scored import extract_scored
from vmaf_research.measure.encode import encode
from vmaf_research.measure.engine import find_engine, run_ffmpeg
from vmaf_research.measure.features import CANONICAL_6
from vmaf_research.measure.loopback import encode_and_measure
from vmaf_research.measure.provenance import Store
from vmaf_research.measure.video import input_arguments, open_clip

PAGE = Path(__file__).with_name("scaling.md")
SCALE = Path(__file__).parents[1] / "benchmarks" / "scale.py"
CODEC, PRESET = "libx264", "veryfast"
FRAMES = 48  # of each clip that is measured
QUALITIES = (23, 29, 35, 41)
CORES = 64
GIB = 2**30


@dataclass(frozen=True)
class Corpus:
    "A corpus that is worked out on paper."

    name: str
    clips: int
    frames: int  # of a clip

    @property
    def rows(self) -> int:
        "Frames of all encodes."
        return self.clips * self.frames * len(QUALITIES)

    @property
    def pairs(self) -> int:
        return self.clips * len(QUALITIES)


CORPORA = (
    Corpus("KoNViD-1k", 1200, 225),
    Corpus("KoNViD-150k", 150_000, 240),
    Corpus("a million clips", 1_000_000, 240),
)


def processor_seconds(work: Callable[[], object]) -> float:
    "Of this process and the processes that it waits for."

    def now() -> float:
        usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(usage.ru_utime + usage.ru_stime for usage in usages)

    before = now()
    work()
    return now() - before


def make_videos(folder: Path) -> list[Path]:
    "Three photographs in motion, 960x540, as mp4."
    folder.mkdir()
    videos = []
    for number, scene in enumerate(scene for scene in SCENES if scene.source in ("astronaut", "chelsea", "grass")):
        clip = write_scene(scene, folder / "scene.y4m", 960, 540, FRAMES)
        videos.append(folder / f"{1000 + number}.mp4")
        run_ffmpeg([*input_arguments(clip), "-c:v", "libx264", "-crf", "15", str(videos[-1])])
        clip.path.unlink()
    return videos


def cost_of_frames(videos: list[Path], folder: Path) -> dict[str, float]:
    "Processor seconds per frame of each way of working; the least of two rounds."
    clips = [open_clip(video) for video in videos]
    out = folder / "encode.mp4"

    def two_steps(features: str) -> None:
        for clip in clips:
            measure(clip, encode(clip, out, CODEC, 35, PRESET), features=features)

    def one_step(features: str) -> None:
        for clip in clips:
            encode_and_measure(clip, out, CODEC, 35, PRESET, features=features)

    ways = {
        "decode the source": lambda: [open_clip(video) for video in videos],
        "encode and measure in one process, canonical six": lambda: one_step("canonical6"),
        "encode and measure in one process, `fast` features": lambda: one_step("fast"),
        "encode, check, measure in two steps, `fast` features": lambda: two_steps("fast"),
    }
    found = {name: min(processor_seconds(work) for _ in range(2)) for name, work in ways.items()}
    return {name: seconds / (FRAMES * len(videos)) for name, seconds in found.items()}


def sizes_on_disk(videos: list[Path], folder: Path) -> dict[str, float]:
    "Bytes per frame or per pair of what an extraction leaves."
    options = {"features": "fast", "qualities": QUALITIES, "cache": folder / "cache", "progress": False}
    made = extract_scored(videos[0].parent, folder / "t.parquet", **options)
    pairs, rows = made.extraction.pair_count, made.extraction.rows
    stored = [path.stat().st_size for path in (folder / "cache").rglob("*.json")]
    encodes = [path.stat().st_size for path in (folder / "t.corpus" / "dis").glob("*.mp4")]
    return {
        "encode": sum(encodes) / rows,
        "cache": sum(stored) / rows,
        "table": made.extraction.table.stat().st_size / rows,
        "manifest": made.extraction.manifest.stat().st_size / pairs,
    }


def files_in_cache(pairs: int) -> int:
    "What so many measurements are on the disk: one of the 256 folders is filled with its share."
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        for number in range(pairs // 256):
            store.save(f"00{number:062x}", {})
        return 256 * len(list(Path(folder).rglob("*.*")))


def seconds_per_job(jobs: int = 20_000) -> float:
    "Of the clock, that handing out a job costs which does nothing."
    started = time.perf_counter()
    run_jobs(abs, [(number,) for number in range(jobs)], progress=False)
    return (time.perf_counter() - started) / jobs


def run_scale(rows: int) -> tuple[str, float]:
    "What benchmarks/scale.py prints, and the bytes per row that loading needs."
    done = subprocess.run([sys.executable, str(SCALE), "--rows", str(rows)], capture_output=True, text=True, check=True)
    load = next(line for line in done.stdout.splitlines() if line.startswith("load "))
    peak, idle = (int(word.replace(",", "")) for word in load.split()[1:3])
    return done.stdout.rstrip(), (peak - idle) * 2**20 / rows


def amount(size: float) -> str:
    "Bytes for people."
    if size < 0.1 * GIB:
        return f"{size / 2**20:.2g} MiB"
    return f"{size / GIB:,.0f} GiB" if size >= 10 * GIB else f"{size / GIB:.2g} GiB"


def corpus_table(seconds: float, sizes: dict[str, float], loaded: float) -> str:
    "What each corpus needs."
    rows = {
        "clips × qualities": [f"{each.clips:,} × {len(QUALITIES)}" for each in CORPORA],
        "rows": [f"{each.rows / 1e6:,.1f} M" for each in CORPORA],
        "core hours": [f"{each.rows * seconds / 3600:,.0f}" for each in CORPORA],
        f"days on {CORES} cores": [f"{each.rows * seconds / 86400 / CORES:,.2g}" for each in CORPORA],
        "encodes": [amount(each.rows * sizes["encode"]) for each in CORPORA],
        "cache of measurements": [amount(each.rows * sizes["cache"]) for each in CORPORA],
        "files in the cache": [f"{files_in_cache(each.pairs):,}" for each in CORPORA],
        "FULL_FEATURES table": [amount(each.rows * sizes["table"]) for each in CORPORA],
        "manifest": [amount(each.pairs * sizes["manifest"]) for each in CORPORA],
        "memory of loading for evaluation": [amount(each.rows * loaded) for each in CORPORA],
    }
    head = f"| | {' | '.join(each.name for each in CORPORA)} |\n|---|{'---:|' * len(CORPORA)}\n"
    return head + "\n".join(f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items())


def write_page(rows: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        videos = make_videos(folder / "videos")
        costs, sizes = cost_of_frames(videos, folder), sizes_on_disk(videos, folder)
    handed_out = seconds_per_job()
    printed, loaded = run_scale(rows)
    fast = costs["encode and measure in one process, `fast` features"]
    two = costs["encode, check, measure in two steps, `fast` features"]
    last = CORPORA[-1]
    canonical = len(CANONICAL_6)
    date, engine = datetime.now(UTC).date().isoformat(), find_engine()
    per_frame = "\n".join(f"| {way} | {1000 * cost:.2f} ms |" for way, cost in costs.items())
    PAGE.write_text(
        f"""# Large corpora

<!-- Written by docs/scaling.py. Change that script, not this page. -->

What KoNViD-150k and a million clips would cost, worked out from costs per frame. `python docs/scaling.py` measured
them on {date} ({platform.machine()}, {os.cpu_count()} cores, ffmpeg {engine.ffmpeg_version}) and wrote this page.
Nobody has run corpora of this size with this package yet: the tables below are multiplications.

## A frame

Processor time of one core for a frame of 960×540, of three photographs in motion, {FRAMES} frames each, with {CODEC}
{PRESET} at CRF 35:

| | processor time per frame |
|---|---:|
{per_frame}

One process for both saves {1 - fast / two:.0%} of the two steps, which decode the source again and the encode twice.
An encode at CRF {QUALITIES[0]} to {QUALITIES[-1]} takes {sizes["encode"]:,.0f} bytes per frame on average, a stored
measurement {sizes["cache"]:,.0f}, the table {sizes["table"]:,.0f}. The manifest takes {sizes["manifest"]:,.0f} bytes
per pair. Raw video would take {960 * 540 * 3 // 2:,} bytes per frame; none is stored.

## A corpus

Each clip encoded at CRF {", ".join(map(str, QUALITIES))} (`vmaf-research extract konvid … --crf 23,29,35,41`), `fast`
features, {CORPORA[1].frames} frames a clip ({CORPORA[0].frames} in KoNViD-1k):

{corpus_table(fast, sizes, loaded)}

## Memory

Tables are written pair by pair and read in blocks, each number straight to its place. What
`python benchmarks/scale.py --rows {rows}` printed:

```text
{printed}
```

Loading needs {loaded:.0f} bytes per row: {8 * (canonical + 2)} for {canonical} features, the score and the frame
number, 8 for the numbers of source and clip, the rest for buffers. Tables that are not sorted by source, clip and
frame need 8 more for the place of every row. `load-several` reads four of those as one data set, `load-csv` one file.

## More machines

`--scheduler tcp://HOST:8786` gives the jobs to a dask cluster (extra `[cluster]`; see `corpora.jobs`). **All
machines see the same files under the same paths**: the videos, the folder of the output, and the cache, which
`VMAF_RESEARCH_CACHE` puts where all see it. Before anything begins every worker is asked for its version, its engine
and whether it sees the cache. Give a worker one thread per core (`dask worker ADDRESS --nthreads N`): a job is one
process of one thread. When a worker dies, dask gives its jobs to others; what was finished is found in the cache.
Trainings of `refresh` and `ensemble run` are dealt out in as many parts as this machine has threads, because the bytes
of a result depend on that; `OMP_NUM_THREADS` of the command is the number of parts.

## What breaks first

In this order, as a corpus grows:

1. **Folds.** Leaving one source out at a time means a fit per source: {CORPORA[0].clips:,} of them for
   {CORPORA[0].name}. That is neither feasible nor needed with thousands of sources; leave out groups of them:
   ten groups are the default above 100 sources, and `--folds` says how many.
2. **Memory of evaluation**, beyond some 20 million rows on a small machine. Frames of one clip resemble each other, so
   take a part of the frames rather than a larger machine.
3. **The list of files.** The manifest names every file with its digest, and the pairs table is collected in memory
   before it is written. {last.pairs:,} pairs are {amount(last.pairs * sizes["manifest"])} of names and digests. They
   lie in files of lines beside the manifest, which itself stays small, but whoever verifies it holds them all. Split
   such a corpus into folders of some 10,000 clips, with a table each.
4. **Small files.** An encode and its record are files of their own, and those of a corpus are in one folder, which a
   local file system bears and a network file system dislikes: another reason to split. Measurements are bundled as
   they come; `python benchmarks/cache.py` counts their files and times look-ups.
5. **Handing out jobs**, last of all: {1e6 * handed_out:.0f} µs per job in the local pool, against
   {fast * last.frames:.1f} s that a job of {last.frames} frames takes. All jobs of a run are handed out at once, so the
   scheduler of a cluster holds them all; what that costs was not measured here.
""",
        encoding="utf-8",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000_000, help="of the table whose memory is measured")
    write_page(parser.parse_args().rows)


if __name__ == "__main__":
    main()
