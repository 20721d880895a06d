"""The time of a score within half a point, against that of measuring every frame.

    python benchmarks/sampling.py [--quick] [--minutes N] [--height N] [--teacher NAME] [--seeds N] [--pair REF DIS]

A minute at 720 rows is composed of shots of two generators of ffmpeg with other details and grain in each, kept as a
mezzanine of x264 with CRF 14, and encoded by x264 with CRF 33; both have a key frame at each cut. The title is this
minute ten times. Every frame is measured, and after that samples with several seeds. Prints wall-clock and processor
seconds, the share of the frames, and the error of the mean. --pair takes clips of yours; --quick shows that everything
runs: a minute at 180 rows.
"""

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np
from extraction import seconds

from vmaf_research import measure
from vmaf_research.measure.engine import run_ffmpeg
from vmaf_research.measure.features import DEFAULT_TEACHER, TEACHERS

RATE = 25
SHOT = 5  # seconds


def compose(folder: Path, minutes: float, height: int) -> tuple[Path, Path]:
    "A title, and an encode of it."
    width, rng, shots = height * 16 // 9 // 2 * 2, np.random.default_rng(0), []
    for number in range(round(min(1, minutes) * 60 / SHOT)):
        zoom = f"mandelbrot=size={width // 2}x{height // 2}:rate={RATE}:start_scale={rng.uniform(0.2, 3):.3f}"
        kind = zoom if number % 2 else f"testsrc2=size={width // 2}x{height // 2}:rate={RATE}"
        filters = f"scale={width}:{height},noise=alls={rng.integers(0, 5)}:allf=t:all_seed={number},format=yuv420p"
        shots.append(folder / f"shot{number}.mkv")
        coder = ["-c:v", "libx264", "-preset", "ultrafast", "-crf", "8", str(shots[-1])]
        run_ffmpeg(["-f", "lavfi", "-t", str(SHOT), "-i", kind, "-vf", filters, *coder])
    minute, encode = folder / "minute.mkv", folder / "minute.mp4"
    _join(shots, minute, "-c:v", "libx264", "-preset", "fast", "-crf", "14")
    run_ffmpeg(["-i", str(minute), "-c:v", "libx264", "-crf", "33", str(encode)])
    repeated = max(1, round(minutes))
    return _join([minute] * repeated, folder / "title.mkv"), _join([encode] * repeated, folder / "title.mp4")


def _join(parts: list[Path], joined: Path, *coder: str) -> Path:
    listed = joined.with_suffix(".txt")
    listed.write_text("".join(f"file '{part.name}'\n" for part in parts))
    run_ffmpeg(["-f", "concat", "-i", str(listed), *(coder or ("-c", "copy")), str(joined)])
    return joined


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, help="of the title (default 10)")
    parser.add_argument("--height", type=int, help="rows (default 720)")
    parser.add_argument("--teacher", default=DEFAULT_TEACHER, choices=sorted(TEACHERS))
    parser.add_argument("--within", type=float, default=0.5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pair", nargs=2, metavar=("REF", "DIS"), help="clips to measure instead")
    parser.add_argument("--quick", action="store_true", help="a minute at 180 rows")
    options = parser.parse_args()
    minutes, height = (1, 180) if options.quick else (10, 720)
    minutes, height = options.minutes or minutes, options.height or height
    cores, asked = os.cpu_count() or 1, {"features": (), "teachers": (options.teacher,)}
    with tempfile.TemporaryDirectory() as name:
        pair = options.pair or compose(Path(name), minutes, height)
        before = seconds()
        whole = measure(*pair, **asked, threads=cores)
        full = seconds() - before
        mean = whole.mean()[TEACHERS[options.teacher].column]
        print(f"{whole.frames} frames of {whole.compared}, {options.teacher}, {cores} cores: mean {mean:.3f}")
        print(f"{'':10}{'wall s':>9}{'ratio':>8}{'cpu s':>9}{'ratio':>8}")
        print(f"{'all':10}{full[0]:9.1f}{1:8.3f}{full[1]:9.1f}{1:8.3f}")
        for seed in range(options.seeds):
            before = seconds()
            found = measure(*pair, **asked, within=options.within, seed=seed).sample
            time = seconds() - before
            wall, processor = time / full
            told = f"{found.share:.1%} of the frames, {found.mean - mean:+.3f}; {found.note}"
            print(f"{f'seed {seed}':10}{time[0]:9.1f}{wall:8.3f}{time[1]:9.1f}{processor:8.3f}  {told}")


if __name__ == "__main__":
    main()
