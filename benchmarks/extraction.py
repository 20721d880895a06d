"""Extraction in one libvmaf pass per pair, against the bare engine call and against two passes, all in one run.

    python benchmarks/extraction.py [--quick] [REF DIS [DIS ...]] [--width W --height H --pix-fmt F]
    python benchmarks/extraction.py --together [--quick]

Four sides do the same work in turn, several rounds long, one process at a time:

- bare: ffmpeg alone, once per pair, with the arguments that `measure` gives it;
- job: what extraction does for each pair: hash the distorted clip, look up, measure, check, store;
- extract: the whole command from the files to the table and its manifest, with an empty cache: the jobs, and what is
  done once per source (hash the reference) and once per corpus (the tables, the manifest);
- two passes: ffmpeg alone, twice per pair: one run for the features, one for the score.

By default the clips are generated: a fractal zoom with grain and an x264 encode of it, measured first as the encode
and then decoded to raw video, whose many bytes have to be hashed. Prints wall-clock and processor seconds (the least
over the rounds, which other work on the machine disturbs least) and their ratios to the bare call; on a busy machine
the processor time is what to look at.

--together measures four encodes of one source in one process against one process each, the source in several formats,
and prints what that saves and the greatest memory of a process. Extraction does it where a reference is compressed.
"""

import argparse
import os
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from vmaf_research.corpora.extract import Job, extract, run_group, run_job
from vmaf_research.corpora.pairs import Corpus, Pair
from vmaf_research.measure.engine import find_engine, run_ffmpeg
from vmaf_research.measure.features import CANONICAL_6, DEFAULT_TEACHER, FEATURE_SETS, TEACHERS, resolve_teachers
from vmaf_research.measure.libvmaf import comparison_format, filter_chain, libvmaf_options
from vmaf_research.measure.provenance import sha256_file
from vmaf_research.measure.together import is_compressed
from vmaf_research.measure.video import KEEP_FRAMES, input_arguments, open_clip


def generate(folder: Path, height: int, frames: int) -> dict[str, Pair]:
    "A generated reference with its encode, and with the same encode decoded to raw video."
    width = height * 16 // 9 // 2 * 2
    source = f"mandelbrot=size={width}x{height}:rate=25,noise=alls=6:allf=t:all_seed=1,format=yuv420p"
    run_ffmpeg(["-f", "lavfi", "-i", source, "-frames:v", str(frames), "-f", "rawvideo", str(folder / "zoom.yuv")])
    reference = open_clip(folder / "zoom.yuv", width, height)
    encoded, decoded = folder / "zoom_crf30.mp4", folder / "zoom_crf30.yuv"
    run_ffmpeg([*input_arguments(reference), "-c:v", "libx264", "-crf", "30", str(encoded)])
    run_ffmpeg(["-i", str(encoded), "-f", "rawvideo", str(decoded)])
    clips = {"encoded": open_clip(encoded), "raw": open_clip(decoded, width, height)}
    return {name: Pair("zoom", reference, clip, "libx264", "medium", 30, height) for name, clip in clips.items()}


def bare(pair: Pair, features: tuple[str, ...], teachers: tuple[str, ...], folder: Path) -> None:
    "ffmpeg alone, with the arguments that `measure` gives it."
    options = libvmaf_options(features, resolve_teachers(teachers))
    form = comparison_format(pair.reference, pair.distorted)
    size = pair.reference.size if pair.distorted.size != pair.reference.size else None
    graph = (
        f"[0:v:0]{filter_chain(pair.distorted, form, size)}[d];"
        f"[1:v:0]{filter_chain(pair.reference, form)}[r];[d][r]libvmaf={options}"
    )
    command = [find_engine().path, "-nostdin", "-v", "error"]
    command += [*input_arguments(pair.distorted), *input_arguments(pair.reference)]
    subprocess.run([*command, "-filter_complex", graph, *KEEP_FRAMES, "-f", "null", "-"], cwd=folder, check=True)


SOURCES = {  # format of a source: how it is encoded
    "yuv": ["-f", "rawvideo"],
    "y4m": [],
    "x264 crf 8": ["-c:v", "libx264", "-crf", "8", "-preset", "fast"],
    "x265 crf 10": ["-c:v", "libx265", "-crf", "10", "-preset", "ultrafast", "-x265-params", "log-level=error"],
    "ffv1": ["-c:v", "ffv1"],
}
LADDER = (24, 28, 32, 36)  # CRF of x264


def compare_together(folder: Path, height: int, frames: int, features: tuple[str, ...], teacher: str) -> None:
    "One process for a ladder against one for each of its encodes, by the format of the source; a line each."
    generated = generate(folder, height, frames)["raw"].reference
    ladder = []
    for crf in LADDER:
        path = folder / f"zoom_{crf}.mp4"
        run_ffmpeg([*input_arguments(generated), "-c:v", "libx264", "-preset", "veryfast", "-crf", str(crf), str(path)])
        ladder.append(open_clip(path))
    head = ("one each", "together", "cpu saved", "wall saved", "MiB each", "MiB")
    print(f"{'source':14}{''.join(f'{word:>12}' for word in head)}  used")
    for name, how in SOURCES.items():
        path = folder / f"source{'.' + name if name in ('yuv', 'y4m') else f'_{name.split()[0]}.mkv'}"
        run_ffmpeg([*input_arguments(generated), *how, str(path)])
        raw = (generated.width, generated.height) if name == "yuv" else ()
        reference = open_clip(path, *raw)
        jobs = []
        for crf, clip in zip(LADDER, ladder, strict=True):
            pair = Pair("zoom", reference, clip, "libx264", "veryfast", crf)
            jobs.append(Job(pair, features, (teacher,), ("r", str(crf)), folder))
        found = {}
        for side in (run_each, run_group):
            caches = [folder / f"{name}-{side.__name__}-{number}" for number in range(3)]
            rounds = [alone(side, [replace(job, cache=cache) for job in jobs]) for cache in caches]
            found[side] = np.min(rounds, axis=0)
        each, together = found.values()
        saved = 1 - together / each
        print(f"{name:14}{each[1]:12.2f}{together[1]:12.2f}{saved[1]:12.1%}{saved[0]:12.1%}{each[2]:12.0f}{together[2]:12.0f}"
              f"  {'yes' if is_compressed(reference) else 'no'}", flush=True)  # fmt: skip


def run_each(jobs: list[Job]) -> list:
    "One process each, one after the other."
    return [run_job(job) for job in jobs]


def alone(run: Callable, jobs: list[Job]) -> np.ndarray:  # wall-clock and processor seconds, MiB of the largest process
    "Run jobs in a process of their own, so that the processes of others do not count."
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        return pool.submit(used, run, jobs).result()


def used(run: Callable, jobs: list[Job]) -> np.ndarray:
    "See `alone`."
    before = seconds()
    assert run(jobs) == [True] * len(jobs)
    return np.append(seconds() - before, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)


def seconds() -> np.ndarray:
    "Wall clock, and processor time of this process and of those that it waited for."
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return np.array([time.perf_counter(), sum(usage.ru_utime + usage.ru_stime for usage in usages)])


def compare(
    sides: dict[str, Callable], rounds: int
) -> dict[str, np.ndarray]:  # least wall-clock and processor seconds by side
    "Run all sides in turn, several times; the first round warms caches and does not count."
    found: dict[str, list[np.ndarray]] = {side: [] for side in sides}
    for number in range(rounds + 1):
        for side, run in sides.items():
            before = seconds()
            run(number)
            if number:
                found[side].append(seconds() - before)
    return {side: np.min(times, axis=0) for side, times in found.items()}


def report(found: dict[str, np.ndarray]) -> None:
    "A line per side, and what follows from them."
    print(f"{'':14}{'wall s':>9}{'ratio':>8}{'cpu s':>9}{'ratio':>8}")
    for side, (wall, processor) in found.items():
        wall_ratio, processor_ratio = found[side] / found["bare"]
        print(f"{side:14}{wall:9.3f}{wall_ratio:8.3f}{processor:9.3f}{processor_ratio:8.3f}")
    overhead, saved = found["job"] / found["bare"] - 1, 1 - found["job"] / found["two passes"]
    for kind, name in ((1, "processor time"), (0, "wall clock")):
        print(f"{name}: overhead per pair {overhead[kind]:.1%}, saved against two passes {saved[kind]:.0%}")


def make_sides(
    pairs: list[Pair], root: Path, features: tuple[str, ...], teacher: str, folder: Path
) -> dict[str, Callable]:
    "The four ways to measure the same pairs; each takes the number of the round."
    corpus = Corpus("benchmark", root, tuple(pairs))
    one_core = ThreadPoolExecutor(1)
    digest = sha256_file(pairs[0].reference.path)

    def one_pass(_: int) -> None:
        for pair in pairs:
            bare(pair, features, (teacher,), folder)

    def jobs(number: int) -> None:
        for pair in pairs:
            digests = (digest, sha256_file(pair.distorted.path))
            run_job(Job(pair, features, (teacher,), digests, folder / f"jobs{number}"))

    def extraction(number: int) -> None:
        out, cache = folder / f"out{number}" / "table.parquet", folder / f"cache{number}"
        extract(corpus, out, features=features, teachers=(teacher,), executor=one_core, cache=cache, progress=False)

    def two_passes(_: int) -> None:
        for pair in pairs:
            bare(pair, features, (), folder)
            bare(pair, CANONICAL_6, (teacher,), folder)

    return {"bare": one_pass, "job": jobs, "extract": extraction, "two passes": two_passes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="*", type=Path, metavar="CLIP", help="a reference and its distorted versions")
    parser.add_argument("--width", type=int, help="of raw clips")
    parser.add_argument("--height", type=int, help="of raw clips, or of the generated ones (default 720)")
    parser.add_argument("--pix-fmt", help="of raw clips")
    parser.add_argument("--frames", type=int, help="of the generated clips (default 48)")
    parser.add_argument("--rounds", type=int, help="rounds that count (default 4)")
    parser.add_argument("--features", default="fast", choices=sorted(FEATURE_SETS))
    parser.add_argument("--teacher", default=DEFAULT_TEACHER, choices=sorted(TEACHERS))
    parser.add_argument("--together", action="store_true", help="a ladder in one process against one process each")
    parser.add_argument("--quick", action="store_true", help="360 rows, 24 frames")
    options = parser.parse_args()
    if len(options.clips) == 1:
        parser.error("give a reference and at least one distorted clip, or none of both")
    features, rounds = FEATURE_SETS[options.features], options.rounds or 4
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.together:
            height, frames = options.height or (360 if options.quick else 720), options.frames or 48
            return compare_together(folder, height, frames, features, options.teacher)
        if options.clips:
            geometry = (options.width, options.height, options.pix_fmt)
            reference, *distorted = (open_clip(path.resolve(), *geometry) for path in options.clips)
            groups = {"given": [Pair("given", reference, clip, encode_height=clip.height) for clip in distorted]}
            root = Path(os.path.commonpath([clip.path.parent for clip in (reference, *distorted)]))
        else:
            height = options.height or (360 if options.quick else 720)
            generated = generate(folder, height, options.frames or (24 if options.quick else 48))
            groups, root = {kind: [pair] for kind, pair in generated.items()}, folder
        for kind, pairs in groups.items():
            clip = pairs[0].reference
            counts = f"{len(pairs)} x {clip.size}, {clip.frames} frames"
            asked = f"features {options.features}, teacher {options.teacher}"
            print(f"\n{kind}: {counts}, {asked}, best of {rounds} rounds")
            (folder / kind).mkdir()
            report(compare(make_sides(pairs, root, features, options.teacher, folder / kind), rounds))


if __name__ == "__main__":
    main()
