"""What a feature says and what it costs: filters of ffmpeg beside the extractors of libvmaf, on the pairs of a table.

    python benchmarks/features.py runs/clips/features.parquet runs/clips/corpus --out digests/data/0007

The table is one of `vmaf-research extract` with its pairs table beside it, the folder holds the clips of the corpus.
Writes three files into the folder `--out`, the data of digest 0007:

- features.parquet: the columns of the table for every fourth frame, with what ffmpeg's own filters say of the same
  frames (`ffmpeg_…`), and with ssimulacra2 and float_ssim, which need no other frames than the one they judge;
- cost.json: wall-clock and processor seconds per frame of every set of features, each from one ffmpeg process with
  one thread, all measured in turns on one pair of full height, the least over the rounds;
- provenance.json: what the table was made of, and with which engine.

Every timed process reads both clips, decoded to files; the side `reading` does nothing else.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from extraction import compare

from vmaf_research.corpora.jobs import run_jobs
from vmaf_research.measure.core import BadInput, EngineError
from vmaf_research.measure.engine import find_engine, run_ffmpeg
from vmaf_research.measure.features import CANONICAL_6, DEFAULT_TEACHER, FEATURE_SETS, resolve_teachers
from vmaf_research.measure.libvmaf import comparison_format, filter_chain, libvmaf_options, measure, ssimulacra2_scores
from vmaf_research.measure.manifest import open_manifest, package_identity, pairs_path
from vmaf_research.measure.provenance import atomic_path, sha256_file, write_json
from vmaf_research.measure.video import KEEP_FRAMES, Clip, Part, convert_clip, input_arguments, open_clip

VIF_KEYS = {f"ffmpeg_vif_scale{scale}": f"lavfi.vif.scale.{scale}" for scale in range(4)}
COMPARING = {  # filters of two clips: column and key of the metadata that they leave with a frame
    "psnr": {"ffmpeg_psnr": "lavfi.psnr.psnr.y"},
    "ssim": {"ffmpeg_ssim": "lavfi.ssim.Y"},
    "xpsnr": {"ffmpeg_xpsnr": "lavfi.xpsnr.xpsnr.y"},
    "vif": VIF_KEYS,
}
SITI = {"si": "lavfi.siti.si", "ti": "lavfi.siti.ti"}
ALONE = {  # filters of one clip
    "siti": SITI,
    "vmafmotion": {"motion": "lavfi.vmafmotion.score"},
}
CAP = 100.0  # dB, for the infinite PSNR of identical frames
EVERY = 4  # frames
THINNED = ("ssimulacra2", "float_ssim")
SETS: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {  # filters, features, teachers
    "reading": ((), (), ()),
    "psnr": (("psnr",), (), ()),
    "ssim": (("ssim",), (), ()),
    "xpsnr": (("xpsnr",), (), ()),
    "siti": (("siti",), (), ()),
    "motion": (("vmafmotion",), (), ()),
    "psnr+ssim": (("psnr", "ssim"), (), ()),
    "psnr+ssim+motion": (("psnr", "ssim", "vmafmotion"), (), ()),
    "psnr+ssim+siti": (("psnr", "ssim", "siti"), (), ()),
    "psnr+ssim+xpsnr+motion": (("psnr", "ssim", "xpsnr", "vmafmotion"), (), ()),
    "vif (ffmpeg)": (("vif",), (), ()),
    "vif (ffmpeg)+motion": (("vif", "vmafmotion"), (), ()),
    "motion2": ((), ("motion2",), ()),
    "vif_scale0": ((), ("vif_scale0",), ()),
    "vif_scale1": ((), ("vif_scale1",), ()),
    "vif_scale2": ((), ("vif_scale2",), ()),
    "vif_scale3": ((), ("vif_scale3",), ()),
    "vif_scale0..3": ((), CANONICAL_6[1:5], ()),
    "adm2": ((), ("adm2",), ()),
    "adm2+motion2": ((), ("adm2", "motion2"), ()),
    "adm2+vif_scale2": ((), ("adm2", "vif_scale2"), ()),
    "adm2+motion2+vif_scale2+3": ((), ("adm2", "motion2", "vif_scale2", "vif_scale3"), ()),
    "adm2+psnr+ssim+motion": (("psnr", "ssim", "vmafmotion"), ("adm2",), ()),
    "canonical6": ((), CANONICAL_6, ()),
    "VMAF itself": ((), (), (DEFAULT_TEACHER,)),
    "VMAF v1 itself": ((), (), ("vmaf_v1.0.16_3d0h",)),
    "B without ssimulacra2": ((), tuple(n for n in FEATURE_SETS["B"] if n != "ssimulacra2"), ()),
    "fast": ((), FEATURE_SETS["fast"], ()),
}


def graph_of(
    reference: Clip, distorted: Clip, filters: tuple[str, ...], features: tuple[str, ...], teachers: tuple[str, ...]
) -> tuple[str, list[str]]:  # the filter graph; labels of its outputs, distorted first
    "One graph for all filters; their values are printed to distorted.txt and reference.txt."
    form = comparison_format(reference, distorted)
    size = reference.size if distorted.size != reference.size else None
    comparing = [name for name in COMPARING if name in filters]
    alone = [name for name in ALONE if name in filters]
    if features or teachers:
        comparing.append(f"libvmaf={libvmaf_options(features, resolve_teachers(teachers), 1)}")
    copies = "".join(f"[r{k}]" for k in range(len(comparing) + 1))
    parts = [
        f"[0:v:0]{filter_chain(distorted, form, size)}[d0]",
        f"[1:v:0]{filter_chain(reference, form)},split={len(comparing) + 1}{copies}",
    ]
    parts += [f"[d{k}][r{k}]{name}[d{k + 1}]" for k, name in enumerate(comparing)]
    of_distorted = ",".join([*(name for name in alone if name == "siti"), "metadata=print:file=distorted.txt"])
    of_reference = ",".join([*alone, "metadata=print:file=reference.txt"])
    parts += [f"[d{len(comparing)}]{of_distorted}[out0]", f"[r{len(comparing)}]{of_reference}[out1]"]
    return ";".join(parts), ["[out0]", "[out1]"]


def run_filters(
    reference: Clip, distorted: Clip, chosen: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]], folder: Path
) -> None:
    "Compute one set of features (see `SETS`) in one process with one thread; what it prints stays in the folder."
    graph, outputs = graph_of(reference, distorted, *chosen)
    sinks = [word for output in outputs for word in ("-map", output, *KEEP_FRAMES, "-f", "null", "-")]
    inputs = ["-threads", "1", *input_arguments(distorted), "-threads", "1", *input_arguments(reference)]
    single = ["-filter_complex_threads", "1", *inputs, "-filter_complex", graph, *sinks]
    run_ffmpeg(single, find_engine().path, folder)


def printed(path: Path, keys: dict[str, str]) -> dict[str, np.ndarray]:  # by column: [frames]
    "Values that the metadata filter printed; raises `EngineError` if a frame has not all of them."
    found: dict[str, list[float]] = {column: [] for column in keys}
    columns = {key: column for column, key in keys.items()}
    frames = 0
    for line in path.read_text().splitlines():
        frames += line.startswith("frame:")
        key, _, value = line.partition("=")
        if key in columns:
            found[columns[key]].append(min(float(value), CAP) if "psnr" in key else float(value))
    short = [column for column, values in found.items() if len(values) != frames]
    if short or not frames:
        raise EngineError(f"{path.name}: {frames} frames, but not all have {', '.join(short)}; is the ffmpeg older?")
    return {column: np.array(values) for column, values in found.items()}


def native_columns(reference: Clip, distorted: Clip) -> dict[str, np.ndarray]:
    "What all of ffmpeg's filters say of the frames of a pair."
    alone = {"distorted": SITI, "reference": SITI | ALONE["vmafmotion"]}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run_filters(reference, distorted, ((*COMPARING, *ALONE), (), ()), folder)
        keys = {column: key for keys in COMPARING.values() for column, key in keys.items()}
        columns = printed(folder / "distorted.txt", keys)
        for side, own in alone.items():
            found = printed(folder / f"{side}.txt", own)
            columns |= {f"ffmpeg_{column}_{side}": values for column, values in found.items()}
    return columns


def thin(clip: Clip, out: Path) -> Clip:
    "Every fourth frame of a clip."
    part = Part((), f"select=not(mod(n\\,{EVERY}))", -(-clip.frames // EVERY))
    return convert_clip(clip, out, clip.width, clip.height, part=part)


def pair_columns(reference: Clip, distorted: Clip, slow: bool) -> pd.DataFrame:  # one row per fourth frame
    "Everything that the table does not have."
    columns = {name: values[::EVERY] for name, values in native_columns(reference, distorted).items()}
    if slow:
        with tempfile.TemporaryDirectory() as name:
            thinned = [thin(clip, Path(name) / f"{k}.y4m") for k, clip in enumerate((reference, distorted))]
            columns |= measure(*thinned, features=THINNED, teachers=(), resize=True).columns
    frames = len(next(iter(columns.values())))
    return pd.DataFrame({"frame_index": EVERY * np.arange(frames), **columns})


def costs(reference: Clip, distorted: Clip, rounds: int) -> dict:
    "Seconds per frame of every set, and of ssimulacra2, which is no part of ffmpeg."
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        distorted = convert_clip(distorted, folder / "decoded.y4m", distorted.width, distorted.height)
        sides = {
            each: lambda _, chosen=chosen: run_filters(reference, distorted, chosen, folder)
            for each, chosen in SETS.items()
        }
        least = {each: value / reference.frames for each, value in compare(sides, rounds).items()}
        thinned = [thin(clip, folder / f"{k}.y4m") for k, clip in enumerate((reference, distorted))]
        slow = compare({"ssimulacra2": lambda _: ssimulacra2_scores(*thinned)}, 1)
        least |= {each: value / thinned[0].frames for each, value in slow.items()}
    return {each: {"wall": float(wall), "processor": float(processor)} for each, (wall, processor) in least.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="a FULL_FEATURES table with its pairs table and manifest")
    parser.add_argument("corpus", type=Path, help="the folder that holds the clips of the pairs")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--rounds", type=int, default=4, help="rounds of timing that count (default 4)")
    parser.add_argument("--cost-only", action="store_true", help="write cost.json and leave the other files alone")
    parser.add_argument("--no-slow", action="store_true", help="without ssimulacra2 and float_ssim")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    pairs = pd.read_parquet(pairs_path(options.table)).sort_values(["source", "dis_basename"])
    folder = options.corpus.resolve()
    paths = zip(pairs.reference_path, pairs.distorted_path, strict=True)
    clips = [(open_clip(folder / reference), open_clip(folder / distorted)) for reference, distorted in paths]
    if not options.cost_only:
        write_features(options, pairs, clips)
    full = next(k for k, row in enumerate(pairs.itertuples()) if row.encode_height == row.height)
    row = pairs.iloc[full]
    found = {"pair": f"{row.source}/{row.dis_basename}", "size": clips[full][0].size, "frames": clips[full][0].frames}
    found |= {"rounds": options.rounds, "seconds_per_frame": costs(*clips[full], options.rounds)}
    write_json(options.out / "cost.json", found)


def write_features(options: argparse.Namespace, pairs: pd.DataFrame, clips: list[tuple[Clip, Clip]]) -> None:
    "features.parquet and provenance.json."
    jobs = [(*both, not options.no_slow) for both in clips]
    parts = [
        part.assign(source=row.source, dis_basename=row.dis_basename)
        for part, row in zip(run_jobs(pair_columns, jobs, label="pairs"), pairs.itertuples(), strict=True)
    ]
    table = pd.read_parquet(options.table)
    rows = table[table.frame_index % EVERY == 0].merge(
        pd.concat(parts), on=["source", "dis_basename", "frame_index"], suffixes=("_old", ""), validate="1:1"
    )
    if len(rows) != int((table.frame_index % EVERY == 0).sum()):
        raise BadInput(f"{options.table}: its rows are not those of the clips in {options.corpus}; extract it again")
    rows = rows[[column for column in rows if not column.endswith("_old")]].dropna(axis=1, how="all")
    numbers = rows.select_dtypes("float64").columns
    with atomic_path(options.out / "features.parquet") as temporary:
        kept = rows.astype(dict.fromkeys(numbers, "float32"))
        kept.to_parquet(temporary, index=False, compression="zstd")
    manifest = open_manifest(options.table).facts
    provenance = {key: manifest[key] for key in ("corpus", "engine", "counts")}
    provenance |= {"table_sha256": sha256_file(options.table), "every": EVERY, "package": package_identity()}
    write_json(options.out / "provenance.json", provenance)


if __name__ == "__main__":
    main()
