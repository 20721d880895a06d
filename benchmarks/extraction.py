"""One libvmaf pass per pair against two, and against the bare engine call, all in one run.

    python benchmarks/extraction.py [--height 720] [--frames 48] [--rounds 5]

The pair is generated: a photograph that pans and turns, and its x264 encode, both as raw video, so that neither side
pays for decoding. Prints seconds (minimum and median over the rounds) and ratios. The bare call is ffmpeg alone with
the same arguments; "two passes" is what a feature extraction followed by a separate scoring run costs.
"""

import argparse
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from vmaf_research.corpora.extract import Job, run_job
from vmaf_research.corpora.pairs import Pair
from vmaf_research.measure.engine import find_engine, run_ffmpeg
from vmaf_research.measure.features import CANONICAL_6, DEFAULT_TEACHER, FEATURE_SETS, resolve_teachers
from vmaf_research.measure.libvmaf import comparison_format, filter_chain, libvmaf_options, measure
from vmaf_research.measure.provenance import sha256_file
from vmaf_research.measure.video import KEEP_FRAMES, Clip, input_arguments, open_clip


def make_pair(folder: Path, height: int, frames: int) -> tuple[Clip, Clip]:
    "A generated reference and its encode, both raw."
    width = height * 16 // 9 // 2 * 2
    source = f"mandelbrot=size={width}x{height}:rate=25,noise=alls=6:allf=t:all_seed=1,format=yuv420p"
    reference, encoded, distorted = folder / "reference.yuv", folder / "encoded.mkv", folder / "distorted.yuv"
    run_ffmpeg(["-f", "lavfi", "-i", source, "-frames:v", str(frames), "-f", "rawvideo", str(reference)])
    clip = open_clip(reference, width, height)
    run_ffmpeg([*input_arguments(clip), "-c:v", "libx264", "-crf", "32", "-preset", "veryfast", str(encoded)])
    run_ffmpeg(["-i", str(encoded), "-f", "rawvideo", str(distorted)])
    return clip, open_clip(distorted, width, height)


def bare(reference: Clip, distorted: Clip, features: tuple[str, ...], folder: Path) -> None:
    "ffmpeg alone, with the arguments that `measure` gives it."
    options = libvmaf_options(features, resolve_teachers([DEFAULT_TEACHER]))
    form = comparison_format(reference, distorted)
    chains = f"[0:v:0]{filter_chain(distorted, form)}[d];[1:v:0]{filter_chain(reference, form)}[r]"
    command = [find_engine().path, "-nostdin", "-v", "error", *input_arguments(distorted), *input_arguments(reference)]
    command += ["-filter_complex", f"{chains};[d][r]libvmaf={options}", *KEEP_FRAMES, "-f", "null", "-"]
    subprocess.run(command, cwd=folder, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--height", type=int, default=720)
    parser.add_argument("--frames", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--features", default="fast", choices=sorted(FEATURE_SETS))
    options = parser.parse_args()
    features = FEATURE_SETS[options.features]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        reference, distorted = make_pair(folder, options.height, options.frames)
        pair = Pair("generated", reference, distorted)
        digests = (sha256_file(reference.path), sha256_file(distorted.path))

        def extraction(number: int) -> None:
            "What extraction does per pair: hash, look up, measure, check, store; a new cache each time."
            sha256_file(reference.path)
            sha256_file(distorted.path)
            run_job(Job(pair, features, (DEFAULT_TEACHER,), digests, folder / f"cache{number}"))

        sides = {
            "bare engine call": lambda number: bare(reference, distorted, features, folder),
            "measure(): one pass": lambda number: measure(reference, distorted, features=features),
            "extraction job": extraction,
            "two passes": lambda number: (
                measure(reference, distorted, features=features, teachers=[]),
                measure(reference, distorted, features=CANONICAL_6),
            ),
        }
        seconds: dict[str, list[float]] = {side: [] for side in sides}
        find_engine()
        for number in range(-1, options.rounds):  # the first round warms caches and does not count
            for side, run in sides.items():
                started = time.perf_counter()
                run(number)
                if number >= 0:
                    seconds[side].append(time.perf_counter() - started)
    print(f"{reference.size}, {options.frames} frames, features {options.features}, {options.rounds} rounds")
    print(f"{'':24}{'min s':>9}{'median s':>10}{'ratio to bare (min)':>22}")
    base = min(seconds["bare engine call"])
    for side, times in seconds.items():
        print(f"{side:24}{min(times):9.3f}{statistics.median(times):10.3f}{min(times) / base:22.3f}")


if __name__ == "__main__":
    main()
