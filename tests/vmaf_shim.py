"""Stands in for libvmaf's `vmaf` command line tool: takes its documented options and measures with the wheel's ffmpeg.

The tool cannot be installed from a package index. This program accepts exactly the options that
`vmaf_research.measure.libvmaf.vmaf_tool_arguments` uses, so that a misspelt one fails, and writes the same JSON.
"""

import argparse
import sys

from vmaf_research.measure.engine import ffmpeg_path, run_ffmpeg


def broken_tool(site, ref: str) -> dict[str, str]:
    "For the server's tests, whose workers load it."
    raise RuntimeError(f"{site.roots.folders[0].parent}/secret.yuv")


def main() -> int:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--reference", "-r", required=True)
    parser.add_argument("--distorted", "-d", required=True)
    parser.add_argument("--width", "-w")
    parser.add_argument("--height", "-h_", dest="height")
    parser.add_argument("--pixel_format", "-p", choices=["420", "422", "444"])
    parser.add_argument("--bitdepth", "-b", choices=["8", "10", "12", "16"])
    parser.add_argument("--model", "-m", action="append", default=[])
    parser.add_argument("--feature", action="append", default=[])
    parser.add_argument("--threads")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--output", "-o", required=True)
    parser.add_argument("--no_prediction", action="store_true")
    words = ["-h_" if word == "-h" else word for word in sys.argv[1:]]
    options = parser.parse_args(words)
    geometry = []
    if options.width:
        depth = "" if options.bitdepth == "8" else f"{options.bitdepth}le"
        form = f"yuv{options.pixel_format}p{depth}"
        geometry = ["-f", "rawvideo", "-pix_fmt", form, "-video_size", f"{options.width}x{options.height}"]
    models = "|".join(model.replace(":", r"\\:") for model in options.model)
    features = ":feature=" + "|".join(f"name={name}" for name in options.feature) if options.feature else ""
    graph = f"[0:v][1:v]libvmaf=log_fmt=json:log_path={options.output}:model={models}{features}"
    inputs = [*geometry, "-i", options.distorted, *geometry, "-i", options.reference]
    run_ffmpeg([*inputs, "-filter_complex", graph, "-f", "null", "-"], program=ffmpeg_path())
    return 0


if __name__ == "__main__":
    sys.exit(main())
