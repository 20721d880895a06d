"""The time of a score within half a point, against that of measuring every frame.

    python benchmarks/sampling.py [--quick] [--minutes N] [--height N] [--teacher NAME] [--seeds N]

A title of ten minutes at 720 rows is composed of shots of two generators of ffmpeg, with other details in each, and is
encoded by x264 with its own distance of key frames; then every frame is measured, and after that samples with several
seeds. Prints wall-clock and processor seconds, the share of the frames, and whether the interval holds the mean of all.
--quick shows that everything runs: half a minute at 180 rows.
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
    width, rng = height * 16 // 9 // 2 * 2, np.random.default_rng(0)
    shots = []
    for number in range(12):  # a minute; the title repeats it with other noise
        zoom = f"mandelbrot=size={width // 2}x{height // 2}:rate={RATE}:start_scale={rng.uniform(0.2, 3):.3f}"
        kind = zoom if number % 2 else f"testsrc2=size={width // 2}x{height // 2}:rate={RATE}"
        grain, path = int(rng.integers(0, 12)), folder / f"shot{number}.mkv"
        filters = f"scale={width}:{height},noise=alls={grain}:allf=t:all_seed={number},format=yuv420p"
        coder = ["-c:v", "libx264", "-preset", "ultrafast", "-crf", "12", str(path)]
        run_ffmpeg(["-f", "lavfi", "-t", str(SHOT), "-i", kind, "-vf", filters, *coder])
        shots.append(f"file '{path.name}'")
    (folder / "list.txt").write_text("\n".join(shots * max(1, round(minutes))))
    listed = ["-f", "concat", "-i", str(folder / "list.txt"), "-frames:v", str(round(minutes * 60 * RATE))]
    title, distorted = folder / "title.mkv", folder / "title.mp4"
    run_ffmpeg([*listed, "-c:v", "libx264", "-preset", "ultrafast", "-crf", "14", str(title)])
    run_ffmpeg(["-i", str(title), "-c:v", "libx264", "-preset", "superfast", "-crf", "33", str(distorted)])
    return title, distorted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, help="of the title (default 10)")
    parser.add_argument("--height", type=int, help="rows (default 720)")
    parser.add_argument("--teacher", default=DEFAULT_TEACHER, choices=sorted(TEACHERS))
    parser.add_argument("--within", type=float, default=0.5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="half a minute at 180 rows")
    options = parser.parse_args()
    minutes, height = (0.5, 180) if options.quick else (10, 720)
    minutes, height = options.minutes or minutes, options.height or height
    cores, asked = os.cpu_count() or 1, {"features": (), "teachers": (options.teacher,)}
    with tempfile.TemporaryDirectory() as name:
        pair = compose(Path(name), minutes, height)
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
