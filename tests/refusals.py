"""What is refused, why, with which exit code and sentence: one table, from which tests and docs/refusals.md are made.

Each refusal is provoked in a folder that `make_stock` fills. A sentence has `…` for what differs from case to case.
"""

import json
import re
import shutil
import stat
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from conftest import write_pan
from made_up import make_codec_rows, make_opinions, make_table

from vmaf_research.corpora.rows import new_row, write_rows
from vmaf_research.measure.core import settings
from vmaf_research.measure.engine import ffmpeg_path, run_ffmpeg
from vmaf_research.measure.provenance import open_sealed, seal, write_json
from vmaf_research.measure.video import input_arguments
from vmaf_research.serve.cli import main
from vmaf_research.ship.ensemble import run_ensemble
from vmaf_research.ship.registry import install

NANO = "fr_regressor_nano_v1"
SEQUENCE = "DStill_480x272_25fps_8bit_420"


def nothing(folder: Path) -> None:
    "The stock is enough."


@dataclass(frozen=True)
class Refusal:
    "A bad input, and what the command line says about it."

    what: str  # is refused
    why: str
    words: str  # of the command, in a folder like the stock
    sentence: str
    prepare: Callable[[Path], object] = nothing  # what is to be done to the stock before
    code: int = 2
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def pattern(self) -> re.Pattern:
        "What the sentence may be."
        return re.compile(".*?".join(map(re.escape, self.sentence.split("…"))), re.DOTALL)


# The stock


def make_stock(folder: Path) -> None:
    "Files and folders of every kind, small."
    pan = write_pan(folder / "pan.yuv", 64, 64, 8)
    data = pan.path.read_bytes()
    (folder / "short.yuv").write_bytes(data[: 6144 * 7])
    (folder / "cut.yuv").write_bytes(data[:-100])
    (folder / "deep.yuv").write_bytes((np.frombuffer(data, np.uint8).astype("<u2") << 2).tobytes())
    (folder / "empty.mkv").touch()
    (folder / "text.mkv").write_text("no video")
    run_ffmpeg([*input_arguments(pan), "-c:v", "libx264", "-crf", "30", str(folder / "v.mkv")])
    (folder / "torn.mkv").write_bytes((folder / "v.mkv").read_bytes()[: (folder / "v.mkv").stat().st_size * 2 // 3])
    (folder / "wide.y4m").write_bytes(b"YUV4MPEG2 W96 H64 F25:1 Ip C420jpeg\n" + (b"FRAME\n" + bytes(96 * 96)) * 8)
    (folder / "full.y4m").write_bytes(b"YUV4MPEG2 W64 H64 F25:1 Ip C444\n" + (b"FRAME\n" + bytes(64 * 192)) * 8)
    (folder / "tiny.y4m").write_bytes(b"YUV4MPEG2 W30 H30 F25:1 Ip C420jpeg\n" + (b"FRAME\n" + bytes(30 * 45)) * 8)
    for name in ("t.parquet", "t.parquet.pairs.parquet", "t.parquet.manifest.json"):
        (folder / name).write_text(name)  # looked at by name only
    (folder / "link.parquet").symlink_to("t.parquet")
    (folder / "videos").mkdir()
    frames = make_table(4, 3, 4)
    frames.to_parquet(folder / "frames.parquet", index=False)
    make_opinions().to_parquet(folder / "people.parquet", index=False)
    make_codec_rows(3, 4, 6).to_parquet(folder / "rows.parquet", index=False)
    write_rows(folder / "g.jsonl", [row_of(name, crf) for name in "abc" for crf in (20.0, 40.0)])
    write_rows(folder / "h.jsonl", [row_of("d", 30.0)])
    (folder / "logs").mkdir()
    (folder / "logs" / f"{SEQUENCE}.json").write_text(json.dumps({"frames": []}))
    install(NANO, settings().model_path, folder / "model")
    run_ensemble(folder / "rows.parquet", folder / "run", dry_run=True, progress=False)
    assert main(["ensemble", "validate", str(folder / "run")]) == 1


def row_of(source: str, crf: float, score: float | None = None) -> dict:
    facts = {"width": 320, "height": 180, "clip_mode": "full", "preset": "medium", "exit_status": 0}
    return new_row(src=f"{source}.y4m", encoder="libx264", crf=crf, vmaf_score=score or 120 - crf, **facts)


# What is done to it


def frames(change: Callable[[pd.DataFrame], pd.DataFrame], name: str = "bad.csv") -> Callable[[Path], None]:
    "A training table with something wrong."
    return lambda folder: change(make_table(4, 3, 4)).to_csv(folder / name, index=False)


def opinions(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], None]:
    "Scores of people with something wrong."
    return lambda folder: change(make_opinions()).to_parquet(folder / "bad.parquet", index=False)


def encodes(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], None]:
    "Rows of encodes with something wrong."
    return lambda folder: change(make_codec_rows(3, 4, 6)).to_parquet(folder / "bad.parquet", index=False)


def parts(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], None]:
    "A folder with the parts of a table, of which the second one repeats the first but for a change."

    def write(folder: Path) -> None:
        (folder / "parts").mkdir()
        make_table(4, 3, 4).to_parquet(folder / "parts" / "a.parquet", index=False)
        rows = change(make_table(4, 3, 4))
        rows.astype({"adm2": float}).to_parquet(folder / "parts" / "b.parquet", index=False)

    return write


def third(column: str, value: object) -> Callable[[pd.DataFrame], pd.DataFrame]:
    "Another value in one row."
    return lambda rows: rows.assign(**{column: rows[column].astype(object).where(rows.index != 3, value)})


def text(name: str, content: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)

    return write


def both(*steps: Callable[[Path], object]) -> Callable[[Path], None]:
    def all_of_them(folder: Path) -> None:
        for step in steps:
            step(folder)

    return all_of_them


def flip(name: str, after: bytes = b"") -> Callable[[Path], None]:
    "One bit of a file: of what follows a text, by default of its middle."

    def change(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[data.index(after) + len(after) if after else len(data) // 2] ^= 1
        (folder / name).write_bytes(data)

    return change


def link_away(name: str) -> Callable[[Path], None]:
    "A file that lies elsewhere, and a link in its place."

    def change(folder: Path) -> None:
        shutil.move(folder / name, folder / "elsewhere")
        (folder / name).symlink_to(folder / "elsewhere")

    return change


def one_row(**facts: object) -> Callable[[Path], object]:
    return lambda folder: write_rows(folder / "one.jsonl", [row_of("a", 20.0) | facts])


def reseal(name: str, change: Callable[[dict], object]) -> Callable[[Path], None]:
    "An edit that makes the seal right again."

    def edit(folder: Path) -> None:
        document = open_sealed(folder / name)
        change(document)
        write_json(folder / name, seal(document))

    return edit


def leave_the_root(document: dict) -> None:
    "A manifest whose output is somewhere else."
    for output in document["deterministic"]["run_provenance"]["outputs"].values():
        output["path"] = "../x"


def merged(change: Callable[[Path], object] = nothing) -> Callable[[Path], None]:
    "Two files of rows and what they make, with its manifest, before something is changed."

    def make(folder: Path) -> None:
        assert main(["corpus", "merge", "g.jsonl", "h.jsonl", "--out", "m.jsonl"]) == 0
        change(folder)

    return make


def netflix(change: Callable[[Path], object]) -> Callable[[Path], None]:
    "A tree of a reference and a distorted clip, with something wrong."

    def make(folder: Path) -> None:
        for place, name in (("ref", "Pan_25fps.yuv"), ("dis", "Pan_50_64_90.yuv")):
            (folder / "netflix" / place).mkdir(parents=True)
            shutil.copy(folder / "pan.yuv", folder / "netflix" / place / name)
        change(folder / "netflix")

    return make


def archive(name: str, data: bytes = b"x") -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        with zipfile.ZipFile(folder / "bvi.zip", "w") as made:
            made.writestr(name, data)

    return make


def engine(lines: str) -> Callable[[Path], None]:
    "A program in place of ffmpeg that does something else where these lines say so."

    def make(folder: Path) -> None:
        path = folder / "engine"
        head = f"#!{sys.executable}\nimport os, pathlib, subprocess, sys\nwords = sys.argv[1:]\n"
        head += "measures = 'libvmaf=' in ' '.join(words) and 'probe.json' not in ' '.join(words)\n"
        real = f"\nsys.exit(subprocess.run([{ffmpeg_path()!r}, *words]).returncode)\n"
        path.write_text(f"{head}{lines}{real}")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    return make


ENGINE = {"VMAF_FFMPEG": "./engine"}
NONSENSE = """if measures:
    pathlib.Path(" ".join(words).split("log_path=")[1].split(":")[0]).write_text("[]")
    sys.exit(0)"""
RAW = "--width 64 --height 64"
EXTRACT = "--features canonical6 -q --out e.parquet"
TRAIN = "train fr-regressor-nano-v1 --parquet bad.csv --out r -q"

# fmt: off
REFUSALS: dict[str, tuple[Refusal, ...]] = {
    "Clips": (
        Refusal("A file that is not there", "there is nothing to measure", "measure nowhere.mkv v.mkv",
            "nowhere.mkv: no such file"),
        Refusal("A folder in place of a clip", "which of its files is meant is not known", "measure videos v.mkv",
            "videos: is a folder; name one video file"),
        Refusal("An empty file", "what was not written is no measurement", "measure empty.mkv v.mkv",
            "empty.mkv: the file is empty"),
        Refusal("A file that is no video", "ffmpeg guesses, and may find pictures in anything",
            "measure text.mkv v.mkv",
            "text.mkv: not a video that can be decoded, or cut off (ffmpeg failed with exit code …)"),
        Refusal("A clip that is cut off", "its last frames would be compared with nothing",
            "measure torn.mkv torn.mkv", "torn.mkv: …cut off…"),
        Refusal("Raw video without its geometry", "raw video has no header", "measure pan.yuv pan.yuv",
            "pan.yuv: raw video has no header, give its width and height (and pix_fmt if not yuv420p)"),
        Refusal("Raw video of another length than whole frames", "every frame after the gap would be shifted",
            f"measure cut.yuv cut.yuv {RAW}",
            "cut.yuv: 49052 bytes are not a whole number of 64x64 yuv420p frames (6144 bytes each): 7 frames and "
            "6044 bytes; the file is cut off or has another geometry"),
        Refusal("Raw video of another bit depth than declared", "the score would look plausible and mean nothing",
            f"measure deep.yuv deep.yuv {RAW}",
            "deep.yuv: every second byte is at most 2, so it is 10-bit; expected yuv420p; if it is right after "
            "all, say --trust-geometry"),
        Refusal("8-bit video declared as deeper", "the score would look plausible and mean nothing",
            f"measure pan.yuv pan.yuv {RAW} --pix-fmt yuv420p10le",
            "pan.yuv: has samples up to …, so it is not 10-bit; expected yuv420p10le; if it is right after all, "
            "say --trust-geometry"),
        Refusal("Raw video of another width than declared", "rows that do not lie below each other are no picture",
            "measure turned.yuv turned.yuv --width 180 --height 320",
            "turned.yuv: declared 180 pixels wide, but its rows look 320 pixels long (row correlation …); check "
            "the geometry; if it is right after all, say --trust-geometry",
            lambda folder: write_pan(folder / "turned.yuv")),
        Refusal("A pixel format that is not known", "samples would be read at wrong places",
            f"measure pan.yuv pan.yuv {RAW} --pix-fmt yuv999",
            "pixel format 'yuv999': expected yuv420p, yuv422p or yuv444p, with 10le, 12le or 16le for more bits"),
        Refusal("Clips with different numbers of frames", "frames are compared by their number",
            f"measure pan.yuv short.yuv {RAW}",
            "pan.yuv and short.yuv: 8 frames against 7; one of them is cut off or misses frames"),
        Refusal("Clips of different size", "how to scale decides the score; `--resize` says that it is wanted",
            "measure v.mkv wide.y4m", "v.mkv and wide.y4m: 64x64 against 96x64; both must have the same geometry"),
        Refusal("Clips of different chroma sampling", "converting one of them would be measured too",
            "measure v.mkv full.y4m",
            "v.mkv is yuv420p and full.y4m is yuv444p: their chroma sampling differs, convert one of them first"),
        Refusal("Pictures that are too small for libvmaf", "libvmaf crashes or computes nothing",
            "measure tiny.y4m tiny.y4m",
            "tiny.y4m and tiny.y4m: 30x30 is too small for vmaf_v0.6.1, which needs 32 pixels a side"),
        Refusal("Pictures that are too small for a teacher", "its scales would have no pixel left",
            "measure v.mkv v.mkv --teacher vmaf_v1.0.16_3d0h",
            "v.mkv and v.mkv: 64x64 is too small for vmaf_v1.0.16_3d0h, which needs 176 pixels a side"),
        Refusal("A feature that does not exist", "a table without it would be found out too late",
            "measure v.mkv v.mkv --features adm2,adm7", "unknown features adm7: expected names among adm2, …"),
        Refusal("No feature at all", "nothing would be measured", "measure v.mkv v.mkv --features ,",
            "--features ',': names no feature; expected canonical6, …"),
        Refusal("A teacher that does not exist", "scores of two teachers cannot be compared",
            "measure v.mkv v.mkv --teacher vmaf_v9", "unknown teacher vmaf_v9: expected names among vmaf_v0.6.1, …"),
    ),
    "The engine": (
        Refusal("An engine that is not there", "another one would give other numbers", "measure v.mkv v.mkv",
            "…VMAF_FFMPEG=./engine: no such program; point it at an ffmpeg with libvmaf, or unset it…",
            environment=ENGINE),
        Refusal("An engine that says no version", "numbers without a version cannot be repeated",
            "measure v.mkv v.mkv", "…does not say a version…", engine("if words == ['-version']: sys.exit(0)"),
            environment=ENGINE),
        Refusal("An engine that dies", "half a result is none", "measure v.mkv v.mkv", "…was killed by SIGSEGV…",
            engine("if measures: os.kill(os.getpid(), 11)"), environment=ENGINE),
        Refusal("An engine that answers nonsense", "what cannot be right is no measurement", "measure v.mkv v.mkv",
            "…left no readable result…", engine(NONSENSE), environment=ENGINE),
        Refusal("An encoder that wrote nothing and says that all is well",
            "an empty stream would be measured against the source",
            "predictor tune --source v.mkv --preset ultrafast --out w -q",
            "…libx264 exited without an error but wrote nothing; try another preset or encoder…",
            engine("if words[-1].endswith('.mp4'): open(words[-1], 'w').close(); sys.exit(0)"), environment=ENGINE),
        Refusal("An encoder that is not there", "another one would answer another question",
            "predictor tune --source v.mkv --codec h264_nvenc --out w -q",
            "codec h264_nvenc: not available on this machine, its device or driver is missing; available: …"),
    ),
    "Tables": (
        Refusal("A table that is not there", "there is nothing to read",
            f"score {NANO} nowhere.parquet --out s.parquet",
            "nowhere.parquet: no such file; expected a table with the columns adm2, …"),
        Refusal("A table that is cut off", "rows would be missing without a word",
            f"score {NANO} torn.parquet --out s.parquet",
            "torn.parquet: cannot be read as a table (…); was it written completely?",
            lambda folder: (folder / "torn.parquet").write_bytes((folder / "frames.parquet").read_bytes()[:-100])),
        Refusal("A file that is no table", "its suffix says what it should be",
            f"score {NANO} t.parquet --out s.parquet",
            "t.parquet: cannot be read as a table (…); was it written completely?"),
        Refusal("A table without rows", "there is nothing to score", f"score {NANO} bad.csv --out s.csv",
            "bad.csv: no rows", frames(lambda rows: rows.iloc[:0])),
        Refusal("A table without a feature of the model", "a model knows its inputs by name",
            f"score {NANO} bad.csv --out s.csv", "bad.csv: has no column adm2; fr_regressor_nano_v1 needs adm2, …",
            frames(lambda rows: rows.drop(columns="adm2"))),
        Refusal("A column that is there twice", "nobody knows which of them was meant",
            f"score {NANO} bad.csv --out s.csv", "bad.csv: has more than one column adm2; keep one of each name",
            frames(lambda rows: rows.rename(columns={"vif_scale0": "adm2"}))),
        Refusal("A column under both of its names", "nobody knows which of them was meant", TRAIN,
            "bad.csv: has src and source, which mean the same; keep one of them",
            frames(lambda rows: rows.assign(src="x"))),
        Refusal("A feature that is not finite, to be scored", "the score would not be finite either",
            f"score {NANO} bad.csv --out s.csv",
            "bad.csv: NaN or infinite values in adm2: row 3; remove these rows or measure again (1e30 and more "
            "count as infinite)", frames(third("adm2", np.inf))),
        Refusal("A feature beyond single precision", "graphs calculate in single precision",
            f"score {NANO} bad.csv --out s.csv",
            "bad.csv: NaN or infinite values in adm2: row 3; remove these rows or measure again (1e30 and more "
            "count as infinite)", frames(third("adm2", 1e38))),
        Refusal("A number that is text", "readers take the comma for nothing, or for a point",
            f"score {NANO} bad.csv --out s.csv", "bad.csv: adm2 holds str, expected numbers",
            frames(third("adm2", "1,234"))),
        Refusal("A hexadecimal number", "some readers take it for a number, others do not",
            f"score {NANO} bad.csv --out s.csv", "bad.csv: adm2 holds str, expected numbers",
            frames(third("adm2", "0x1F"))),
        Refusal("A name of a column that the scores would take", "it would be overwritten",
            f"score {NANO} bad.csv --out s.csv",
            "bad.csv: already has a column score; rename it, it would be overwritten",
            frames(lambda rows: rows.assign(score=1.0))),
        Refusal("A feature that is not finite, to be learned", "one such row makes all weights undefined", TRAIN,
            "bad.csv: NaN or infinite values in adm2: 1 of 48 rows, first (source0, clip0.mkv, 3); remove these "
            "rows or measure again (1e30 and more count as infinite)", frames(third("adm2", np.nan))),
        Refusal("A score that is not finite, to be learned", "one such row makes all weights undefined", TRAIN,
            "bad.csv: NaN or infinite values in vmaf: 1 of 48 rows, first (source0, clip0.mkv, 3); remove these "
            "rows or measure again (1e30 and more count as infinite)", frames(third("vmaf", np.nan))),
        Refusal("A feature that nobody computed", "there is nothing to learn from it", TRAIN,
            "bad.csv: adm2 is empty in all 48 rows; extract the table with this feature",
            frames(lambda rows: rows.assign(adm2=None))),
        Refusal("A constant score", "its correlation with anything is undefined", TRAIN,
            "bad.csv: vmaf is 100 in all rows; a constant target teaches nothing",
            frames(lambda rows: rows.assign(vmaf=100.0))),
        Refusal("Scores outside of the scale", "such a column is not what it is called", TRAIN,
            "bad.csv: vmaf outside [0.0, 100.0]: 32 of 48 rows, first …",
            frames(lambda rows: rows.assign(vmaf=rows["vmaf"] + 20))),
        Refusal("Truth values in place of numbers", "they would count as 0 and 1", TRAIN,
            "bad.csv: motion2 holds bool, expected numbers", frames(lambda rows: rows.assign(motion2=True))),
        Refusal("Frames that are no whole numbers", "frames are told apart by their number", TRAIN,
            "bad.csv: frame_index holds float64, expected whole numbers",
            frames(lambda rows: rows.assign(frame_index=0.5))),
        Refusal("Frames below 0", "frames count from 0", TRAIN,
            "bad.csv: frame_index below 0 in 12 of 48 rows, first …; frames count from 0",
            frames(lambda rows: rows.assign(frame_index=rows["frame_index"] - 1))),
        Refusal("The same frame twice", "a frame that is learned from and judged by is no judgement", TRAIN,
            "bad.csv: the same frame twice: 2 of 50 rows, first …; was a clip extracted twice, or a corpus "
            "appended to itself?", frames(lambda rows: pd.concat([rows, rows.tail(2)]))),
        Refusal("Frames that two tables contradict", "which of the two is true is not known",
            "train fr-regressor-nano-v1 --parquet parts --out r -q",
            "parts/a.parquet and parts/b.parquet: contradict each other: 1 of 96 rows, first …; adm2 is … and 0.5 in "
            "the first; keep the rows of one of them", parts(third("adm2", 0.5))),
        Refusal("Frames that are in two tables", "they would count twice",
            "train fr-regressor-nano-v1 --parquet parts --out r -q",
            "parts/a.parquet and parts/b.parquet: have the same frames: 48 of 96 rows, first …; give every frame once",
            parts(lambda rows: rows)),
        Refusal("A folder without tables", "there is nothing to learn from",
            "train fr-regressor-nano-v1 --parquet videos --out r -q",
            "videos: a folder without .parquet files; name a table, or the folder of its parts"),
        Refusal("Two tables of one name", "their sources could not be told apart",
            "train fr-regressor-nano-v1 --parquet frames.parquet --parquet parts/frames.parquet --out r -q",
            "frames.parquet and parts/frames.parquet are tables of other files, and are all called frames; give them "
            "other file names, or put the parts of one table into one folder",
            both(parts(lambda rows: rows), lambda folder: shutil.copy(folder / "frames.parquet", folder / "parts"))),
        Refusal("Same sources that are not there", "a slip would put a source on both sides",
            "train fr-regressor-nano-v1 --parquet frames.parquet --same-source same.csv --out r -q",
            "same.csv: source9 is none of the 4 sources, such as source0",
            text("same.csv", "source,group\nsource9,dog\n")),
        Refusal("Folds of corpora where there is one", "leaving it out leaves nothing",
            "train fr-regressor-nano-v1 --parquet frames.parquet --folds corpus --out r -q",
            "there is one corpus; to leave one out takes at least two, in tables of their own"),
        Refusal("Folds that are none", "what they mean would be guessed",
            "train fr-regressor-nano-v1 --parquet frames.parquet --folds many --out r -q",
            "folds many: expected loso, corpus, or a number of groups of at least 2"),
        Refusal("Rows without a source", "they could not be left out with their source", TRAIN,
            "bad.csv: no source in 1 of 48 rows, first (, clip0.mkv, 3); add it or remove them",
            frames(third("source", ""))),
        Refusal("A single source",
            "frames of one source look alike: a model is judged on sources that it has not seen", TRAIN,
            "bad.csv: only the source source1; leave-one-source-out needs at least 2, better 9",
            frames(lambda rows: rows[rows["source"] == "source1"])),
        Refusal("Names that are bytes", "sources are told apart by their names",
            "train fr-regressor-nano-v1 --parquet bad.parquet --out r -q",
            "bad.parquet: source holds bytes, expected text", encodes(lambda rows: rows.assign(source=b"\xff"))),
        Refusal("An interval that so few sources cannot support", "n sources guarantee at most n/(n+1)",
            f"score {NANO} frames.parquet --out s.csv --interval 0.999",
            "interval level 0.999: 12 sources guarantee at most 0.923; 0.999 needs 999 sources"),
    ),
    "Encodes and ensembles": (
        Refusal("Rows of encodes that failed", "a broken encode has no quality",
            "ensemble run bad.parquet --out e -q",
            "bad.parquet: rows of encodes that failed: 1 of 72 rows, first …; remove or encode them again",
            encodes(lambda rows: rows.assign(exit_status=np.where(rows.index == 7, 1, 0)))),
        Refusal("Rows without an encoder", "the codec is an input of the model",
            "ensemble run bad.parquet --out e -q",
            "bad.parquet: no codec in 1 of 72 rows, first …; add it or remove them",
            encodes(lambda rows: rows.assign(codec=rows["codec"].where(rows.index != 5)))),
        Refusal("Rows without a quality value", "the quality value is an input of the model",
            "ensemble run bad.parquet --out e -q",
            "bad.parquet: NaN or infinite values in crf: 1 of 72 rows, first …; remove these rows or measure again "
            "(1e30 and more count as infinite)",
            encodes(lambda rows: rows.assign(crf=rows["crf"].where(rows.index != 5)))),
        Refusal("A quality value that the encoder does not have", "it is on the scale of another encoder",
            "ensemble run bad.parquet --out e -q", "bad.parquet: libx264: quality 55 is outside its range, 0 to 51",
            encodes(lambda rows: rows.assign(crf=rows["crf"] + 20))),
        Refusal("Quality values that are words", "the quality value is an input of the model",
            "ensemble run bad.parquet --out e -q", "bad.parquet: crf holds str, expected numbers",
            encodes(lambda rows: rows.assign(crf="medium"))),
        Refusal("A table without encoders", "the codec is an input of the model",
            "ensemble run bad.parquet --out e -q", "bad.parquet: has no column codec; it has source, …",
            encodes(lambda rows: rows.drop(columns="codec"))),
        Refusal("Encodes that cannot be told apart", "rows of two encodes would count as one",
            "ensemble run bad.parquet --out e -q",
            "bad.parquet: the same frame twice: 18 of 72 rows, first …; was a clip extracted twice, or a corpus "
            "appended to itself?", encodes(lambda rows: rows.assign(crf=30))),
        Refusal("Other sources than asked for", "a corpus that is smaller than it should be is another experiment",
            "ensemble run rows.parquet --folds 9 --out e -q",
            "there are 3 sources (source0, source1, source2), 9 folds were asked for"),
        Refusal("A corpus that is learned from and judged", "a model knows what it learned from",
            "ensemble run rows.parquet --judge-on rows.parquet --out e -q",
            "rows.parquet: is of the corpus rows, which is to be judged; learn from another one"),
        Refusal("More folders of files than tables", "nobody can say which table is of which files",
            "ensemble run rows.parquet --corpus-root videos --corpus-root videos --out e -q",
            "folders of files: 2, tables: 1; give one folder for each table, in their order, or none"),
        Refusal("A finished run of other settings", "a verdict is about seeds of one experiment",
            "ensemble run rows.parquet --out run --recipe tuned -q",
            "run/loso_seed0.json: was made with other settings (recipe.name: 'adr0303' recorded, 'tuned' now; …); "
            "give another --out, or remove the folder",
            reseal("run/loso_seed0.json", lambda document: document.pop("note"))),
        Refusal("A folder without a run", "there is nothing to judge", "ensemble validate videos",
            "videos: no loso_seed*.json and predictions.parquet; run `vmaf-research ensemble run` first"),
        Refusal("A result that was edited", "a verdict must follow from what was trained", "ensemble validate run",
            "run/loso_seed2.json: its content does not match its sha256_of_content; it was damaged or edited, "
            "restore or rebuild it", flip("run/loso_seed2.json", b'"lr": 0.000')),
        Refusal("Members without a verdict", "only what was judged is exported", "ensemble export run -q",
            "run: no PROMOTE.json (loso_seed0.json is a dry-run; …); `vmaf-research ensemble validate` gives a "
            "verdict", code=3),
        Refusal("A verdict that is HOLD", "only what passed its gate is promoted",
            "registry promote --verdict run/HOLD.json --models model", "…it is HOLD…", code=3),
        Refusal("A verdict that was edited", "only what passed its gate is promoted",
            "registry promote --verdict run/HOLD.json --models model",
            "run/HOLD.json: its content does not match its sha256_of_content; it was damaged or edited, restore or "
            "rebuild it", flip("run/HOLD.json")),
        Refusal("Two opposite verdicts", "one of them is about an earlier run",
            "registry promote --verdict run/HOLD.json --models model",
            "run/HOLD.json: PROMOTE.json lies beside it; validate again, so that one verdict is left",
            lambda folder: shutil.copy(folder / "run/HOLD.json", folder / "run/PROMOTE.json")),
        Refusal("Another file in place of a verdict", "only a verdict can promote",
            "registry promote --verdict run/loso_seed0.json --models model",
            "run/loso_seed0.json: schema: Input should be 'vmaf-research-ensemble-verdict', found "
            "'vmaf-research-ensemble-seed'…"),
    ),
    "Models": (
        Refusal("A model that is not registered", "only registered bytes may run",
            "score nobody frames.parquet --out s.csv --models model",
            "registry.json: no model 'nobody'; it has fr_regressor_nano_v1"),
        Refusal("A folder without a registry", "only registered bytes may run", "registry list --models videos",
            "videos/registry.json: no such file; give the folder of a registry, or make one with …"),
        Refusal("A registry that was edited", "it says which bytes may run", "registry list --models model",
            "model/registry.json: its content does not match its sha256_of_content; it was damaged or edited, "
            "restore or rebuild it", flip("model/registry.json"), 1),
        Refusal("A graph of which a bit was flipped", "a model runs only if every byte is the registered one",
            f"score {NANO} frames.parquet --out s.csv --models model",
            "fr_regressor_nano_v1_raw.onnx: its SHA-256 is …, the registry has …; it was damaged or edited, "
            "restore it or register the model again", flip(f"model/{NANO}_raw.onnx"), 1),
        Refusal("A sidecar of which a bit was flipped", "it says what the inputs mean",
            f"score {NANO} frames.parquet --out s.csv --models model",
            "fr_regressor_nano_v1.json: its SHA-256 is …, the registry has …; it was damaged or edited, restore it "
            "or register the model again", flip(f"model/{NANO}.json"), 1),
        Refusal("A card of which a bit was flipped", "a card cannot disagree with its model",
            "registry verify --models model",
            "fr_regressor_nano_v1.md: its SHA-256 is …, the registry has …; it was damaged or edited, restore it "
            "or register the model again", flip(f"model/{NANO}.md"), 1),
        Refusal("A file that a link stands for", "what is behind a link may be exchanged",
            "registry verify --models model", "fr_regressor_nano_v1.onnx: is a link; restore the file",
            link_away(f"model/{NANO}.onnx"), 1),
        Refusal("A registry that names a file elsewhere", "what is outside is not under its control",
            "registry verify --models model",
            "registry.json: models.0.onnx: String should match pattern …, found '../x.onnx'",
            reseal("model/registry.json", lambda document: document["models"][0].update(onnx="../x.onnx")), 1),
        Refusal("A file that nobody registered", "nobody can say where it comes from",
            "registry verify --models model", "stray: not registered; remove it or register its model",
            text("model/stray", ""), 1),
        Refusal("A rollback without a promotion", "there is nothing to undo", "registry rollback --models model",
            "model/registry.json: no promotion to roll back"),
    ),
    "Corpora": (
        Refusal("A folder of videos that is not there", "there is nothing to measure",
            f"extract clips nowhere {EXTRACT}", "nowhere: no such folder; expected one with videos"),
        Refusal("A folder without videos", "there is nothing to measure", f"extract clips videos {EXTRACT}",
            "videos: has no video; expected files such as .mp4, .mkv or .y4m"),
        Refusal("A tree without references", "there is nothing to compare with", f"extract netflix videos {EXTRACT}",
            "netflix corpus: not a single usable pair in videos; 2 problems found; repair or remove what is "
            "named…ref/: no such folder; …"),
        Refusal("A name that does not follow the pattern", "the name says which reference a clip belongs to",
            f"extract netflix netflix {RAW} {EXTRACT}",
            "netflix corpus: 1 problem found; repair or remove what is named…dis/odd.yuv: its name says nothing; "
            "expected <source>_<quality>_<height>_<bitrate>.yuv, the source in letters and digits only",
            netflix(lambda tree: (tree / "dis" / "odd.yuv").write_bytes(b"x"))),
        Refusal("A distorted clip of another length", "frames are compared by their number",
            f"extract netflix netflix {RAW} {EXTRACT}",
            "netflix corpus: not a single usable pair in netflix; 1 problem found; repair or remove what is "
            "named…dis/Pan_50_64_90.yuv: has 1 frames, but its reference Pan_25fps.yuv has 8; it is cut off or of "
            "another geometry", netflix(lambda tree: (tree / "dis/Pan_50_64_90.yuv").write_bytes(bytes(6144)))),
        Refusal("A tree of 10-bit video declared as 8-bit", "scores would look plausible and mean nothing",
            f"extract netflix netflix {RAW} {EXTRACT}",
            "netflix corpus: not a single usable pair in netflix; …every second byte is at most 2, so it is "
            "10-bit; expected yuv420p; …",
            netflix(lambda tree: [shutil.copy(tree.parent / "deep.yuv", path) for path in tree.glob("*/*.yuv")])),
        Refusal("A folder without videos of KoNViD-1k", "there is nothing to measure",
            f"extract konvid videos {EXTRACT}", "videos: has no .mp4 file; expected videos such as 3015713153.mp4"),
        Refusal("A score outside of the scale of KoNViD-1k", "another scale was used, or another column read",
            f"extract konvid konvid {EXTRACT}",
            "konvid/mos.csv, line 2: a score of 7; those of KoNViD-1k go from 1 to 5",
            lambda folder: (text("konvid/1.mp4", "x")(folder), text("konvid/mos.csv", "id,mos\n1,7\n")(folder))),
        Refusal("Scores whose scale is not known", "a 4 of 5 is not a 4 of 100",
            f"extract scored konvid {EXTRACT}",
            "konvid/mos.csv: from where to where its scores go is not known; say it, such as 1:5 or 0:100",
            lambda folder: (text("konvid/1.mp4", "x")(folder), text("konvid/mos.csv", "id,mos\n1,7\n")(folder))),
        Refusal("A data set that is not known", "its layout is not known either",
            f"extract scored videos --dataset vimeo {EXTRACT}", "data set 'vimeo': expected konvid-1k, konvid-150k, …"),
        Refusal("A folder without the list of CHUG", "which video is an encode of which is not known",
            f"extract chug videos {EXTRACT}",
            "videos: has no chug.csv, the list of its videos; expected it beside a folder of videos"),
        Refusal("A list of CHUG without a column", "which video is a reference is not known",
            f"extract chug chug {EXTRACT}", "chug/chug.csv: has no column ref; it has Video, content_name, mos_j",
            text("chug/chug.csv", "Video,content_name,mos_j\na,b,1\n")),
        Refusal("An archive that is none", "there is nothing to take out", f"extract bvi-dvc t.parquet {EXTRACT}",
            "t.parquet: not a zip archive that can be read, or cut off (File is not a zip file); get it again"),
        Refusal("An archive whose paths lead out of it", "files elsewhere would be overwritten",
            f"extract bvi-dvc bvi.zip {EXTRACT}",
            "bvi.zip: has no sequence of tier D, …: its path leaves the archive; nothing like this belongs there, "
            "get the archive from its publisher", archive(f"../Videos/{SEQUENCE}.yuv")),
        Refusal("A sequence that is cut off", "its last frames would be missing without a word",
            f"extract bvi-dvc bvi.zip {EXTRACT}",
            "bvi.zip: has no sequence of tier D, …1000 bytes are not a whole number of 480x272 yuv420p frames "
            "(195840 bytes each); it is cut off or has another geometry",
            archive(f"Videos/{SEQUENCE}.yuv", bytes(1000))),
        Refusal("A log of libvmaf without frames", "a mean over no frames is undefined",
            "corpus bvi-dvc-rows logs --out r.jsonl -q",
            "logs: 1 problem found; …expected the frames 0, 1, 2, … without a gap, found 0; measure it again, or "
            "pass --allow-failures"),
        Refusal("A quality value that is no number", "encoders take numbers",
            f"extract konvid videos --crf low {EXTRACT}",
            "qualities 'low': expected values such as 25,35,45 or a range such as 18:46:4"),
        Refusal("A line of rows that is no JSON", "a row would be missing without a word",
            "corpus describe bad.jsonl", "bad.jsonl, line 1: not valid JSON (…); repair it, or skip bad lines",
            text("bad.jsonl", '{"half of a ')),
        Refusal("A key that is there twice in a row", "readers of JSON drop one of them and say nothing",
            "corpus describe bad.jsonl",
            "bad.jsonl, line 1: not valid JSON (a key is there twice); repair it, or skip bad lines",
            text("bad.jsonl", '{"src": "a", "src": "b"}')),
        Refusal("JSON that is nested without end", "readers of JSON break at it", "corpus describe bad.jsonl",
            "bad.jsonl, line 1: not valid JSON (nested more than 64 levels deep); repair it, or skip bad lines",
            text("bad.jsonl", "[" * 5000 + "]" * 5000)),
        Refusal("Rows that contradict each other", "one of them is wrong, and nobody knows which",
            "corpus merge g.jsonl bad.jsonl --out n.jsonl",
            "g.jsonl, line 1 and bad.jsonl, line 1 contradict each other about a.y4m, libx264, preset medium, CRF "
            "20.0: vmaf_score 100.0 against 3.0; correct one of them, or keep the first with --keep-first",
            lambda folder: write_rows(folder / "bad.jsonl", [row_of("a", 20.0, 3.0)])),
        Refusal("Opinion scores whose scale nobody declared", "a 4 of 5 is not a 4 of 100",
            "corpus aggregate bad.jsonl --out n.jsonl",
            "bad.jsonl, line 1: nobody declared the scale of corpus 'mine'; …add it with --scale mine=LOW:HIGH",
            text("bad.jsonl", '{"corpus": "mine", "src": "dog.mp4", "mos": 4}')),
        Refusal("A scale that is none", "scores could not be brought to 0..100",
            "corpus aggregate bad.jsonl --out n.jsonl --scale mine",
            "scale 'mine': expected CORPUS=LOW:HIGH, such as my-corpus=1:10"),
    ),
    "People's scores": (
        Refusal("Scores that are not there", "there is nothing to compare with", "people read nowhere.csv",
            "nowhere.csv: no such file or folder"),
        Refusal("A folder in no layout that is known", "what is a score in it is not known", "people read videos",
            "videos: no layout that is known (AVT-VQDB-UHD-1, BQAM, KoNViD-1k, Netflix); name a table"),
        Refusal("Scores that nobody says the scale of", "a 4 of 5 is not a 4 of 100", "people read bad.parquet",
            "bad.parquet: has no scale (scale and viewing condition, in words); add the columns, or a description "
            "bad.parquet.json beside it", opinions(lambda rows: rows.drop(columns="scale"))),
        Refusal("Scores that people could not give", "another scale was used", "people read bad.parquet",
            "bad.parquet: 1 scores are not on their scale, first lab0/v3 with 55 on 'ACR 1-5 (MOS), 4K, 1.5H'; …",
            opinions(third("mos", 55.0))),
        Refusal("Scores that are words", "how far good is from fair nobody knows", "people read bad.parquet",
            "bad.parquet: mos holds str, expected numbers", opinions(lambda rows: rows.assign(mos="good"))),
        Refusal("A clip without a score", "nobody judged it", "people read bad.parquet",
            "bad.parquet: 1 clips without a score, first lab0/v3; leave them out", opinions(third("mos", None))),
        Refusal("A description that says what no description can", "a word that is not read would do nothing",
            "people read bad.csv", "bad.csv.json: scores: Extra inputs are not permitted, found 'MOS'",
            both(text("bad.csv", "clip,MOS\na,3\n"), text("bad.csv.json", '{"scores": "MOS"}'))),
        Refusal("A scale that is read upside down", "the worst clip would be the best", "people evaluate bad.parquet",
            "reversed: lab/one: greater scores go with worse metrics: rank correlation …; say direction: lower in its "
            "description, or turn the scores around…", opinions(lambda rows: rows.assign(mos=6 - rows["mos"]))),
        Refusal("Two sessions without a name", "a score means something beside those of its session only",
            "people evaluate bad.parquet",
            "mixed: lab/(no session): no column subset that names the session of 96 clips; 92 rows are clips with two "
            "scores, so there are at least two; add it, or say that the table is one session (--one-session)…",
            opinions(lambda rows: rows.drop(columns="subset"))),
        Refusal("Clips that were measured the wrong way round", "VMAF would judge the reference",
            "people evaluate bad.parquet",
            "swapped: lab/one: reference and distorted clip were exchanged when lab0/v0, … were measured; …",
            opinions(lambda rows: rows.assign(adm2=rows["adm2"].clip(upper=0.9), codec="reference"))),
        Refusal("Shifted logs, to learn from", "VMAF of other frames than people saw would be corrected",
            "people train bad.parquet --out new",
            "misaligned: lab/one: 8 clips were measured on other frames than people saw (VMAF and PSNR fall where "
            "people see none of it, or the table says so): lab0/v0, …",
            opinions(lambda rows: rows.assign(misaligned=rows["source"] == "lab0"))),
        Refusal("A kind of trap that does not exist", "nothing would be left out",
            "people read people.parquet --exclude shifted",
            "--exclude shifted: expected mixed, reversed, swapped, duplicated, misaligned"),
        Refusal("A clone without its logs", "a head needs what libvmaf said", "people read clone",
            "clone/test_1: no log for park_750kbps_360p_60.0fps_h264 (1 of 1 clips); clone it whole",
            text("clone/test_1/mos_ci.csv", "video_name,MOS,CI\npark_750kbps_360p_60.0fps_h264.mkv,3,0.2\n")),
        Refusal("A log with a gap", "it is not of the clip that people saw", "people read clip.csv --logs gaps",
            "gaps/c.csv: 3 frames, 1 known metrics; expected frames in order and without gaps, with metrics of libvmaf",
            both(text("clip.csv", "dataset,subset,source,video,mos,scale\nd,s,a,c,3,ACR 1-5\n"),
                 text("gaps/c.csv", "Frame,adm2\n0,0.9\n1,0.9\n5,0.9\n"))),
        Refusal("A data set that is no list of videos", "Python is parsed here, never run", "people read bad.py",
            "bad.py: ref_videos: Field required, found …", text("bad.py", "print('hello')\n")),
        Refusal("References that are not there", "their detail cannot be looked at",
            "people read people.parquet --references videos",
            "videos: expected one video of the reference lab0, found none"),
        Refusal("A metric that is no column", "there is nothing to compare",
            "people evaluate people.parquet --metric mine",
            "no metric mine in these tables; they have …"),
        Refusal("A metric of words", "words have no order", "people evaluate people.parquet --metric codec",
            "codec holds str, expected numbers"),
        Refusal("A model of frames for clips without logs", "a mean of features gives no mean of scores",
            f"people evaluate people.parquet --registered {NANO} --models model",
            f"{NANO}: scores frames, and no clip has any; read the tables with their logs"),
        Refusal("A folder without heads", "there is nothing to judge", "people evaluate people.parquet --model videos",
            "videos: no registry in it or in its folder model; give the --out of `people train`"),
        Refusal("Clips without an input of the head", "there is nothing to learn from",
            "people train bad.parquet --out new",
            "no session has all inputs of the head: vmaf_v061, …", opinions(lambda rows: rows.drop(columns="ssim"))),
        Refusal("A single content", "a head is judged on contents that it has not seen",
            "people train bad.parquet --out new",
            "only the content family lab0: nothing to judge a head by",
            opinions(lambda rows: rows[rows["source"] == "lab0"])),
        Refusal("A clone that is not named", "which layout it has is seen in the folder",
            "people train --data avt --out new",
            "--data avt: expected a name, = and the folder of a clone, such as avt=/data/avt"),
    ),
    "Predictors and searches": (
        Refusal("Too few sources to learn from", "each source is predicted by a model that does not know it",
            "predictor train --corpus one.jsonl --models m -q",
            "a corpus with 1 source (a): at least 3 are needed, because each is predicted by a model that does not "
            "know it; add sources to the grid",
            lambda folder: write_rows(folder / "one.jsonl", [row_of("a", 20.0), row_of("a", 40.0)])),
        Refusal("Rows without an encode that succeeded", "there is nothing to learn from",
            "predictor train --corpus one.jsonl --models m -q",
            "one.jsonl: 1 encode of libx264, and none succeeded (exit_status); encode them again",
            one_row(exit_status=1, vmaf_score=None)),
        Refusal("A quality value that the encoder does not have, to learn from",
            "it is on the scale of another encoder", "predictor train --corpus one.jsonl --models m -q",
            "one.jsonl, line 2: quality value (crf) 99, but libx264 takes 0 to 51; correct it, or take the line out",
            lambda folder: write_rows(folder / "one.jsonl", [row_of("a", 20.0), row_of("b", 99.0, 50.0)])),
        Refusal("A codec without a predictor", "a guess would look like a prediction",
            "predictor predict --source v.mkv --codec h265",
            "codec 'h265': has no predictor; choose from libx264, …"),
        Refusal("Raw video to be tuned", "it has no header that says its geometry",
            "predictor tune --source pan.yuv -q",
            "pan.yuv: raw video has no header that says its geometry; convert it to Y4M"),
        Refusal("A target that is no score", "nothing reaches it",
            "predictor tune --source v.mkv --target-vmaf 101 --out w -q",
            "target 101: expected a VMAF score, from 0 to 100"),
        Refusal("A pooling that does not exist", "a mean would be taken for a percentile",
            "predictor tune --source v.mkv --pooling p99 --out w -q",
            "pooling 'p99': expected mean, harmonic, or a percentile from p1 to p50"),
        Refusal("A preset that the encoder does not have", "the encoder would refuse it after hours",
            "predictor tune --source v.mkv --preset warp --out w -q",
            "libx264: has no preset 'warp'; choose from ultrafast, …"),
        Refusal("A single frame", "a shot has at least two", "predictor tune --source v.mkv --frames 1 --out w -q",
            "1 frames: at least 2 are needed to tune a shot"),
        Refusal("A confidence that so few sources cannot support", "n sources guarantee at most n/(n+1)",
            "predictor tune --source v.mkv --confidence 0.999 --out w -q",
            "interval level 0.999: 12 sources guarantee at most 0.923; 0.999 needs 999 sources"),
        Refusal("More rows than the clip has", "enlarged pictures have no more detail",
            "predictor tune --source v.mkv --height 2000 --out w -q",
            "height 2000: v.mkv has only 64 rows; choose no more, or leave it out"),
        Refusal("Pictures that are too small to be encoded", "libvmaf crashes or computes nothing",
            "predictor tune --source tiny.y4m --out w -q",
            "tiny.y4m: pictures of 30x30 are too small, VMAF needs at least 32 pixels a side; take a larger clip"),
    ),
    "Manifests": (
        Refusal("A manifest that is not there", "there is nothing to verify", "manifest verify nowhere.parquet",
            "nowhere.parquet.manifest.json: no such manifest; name one, or the output that it lies beside"),
        Refusal("A manifest that was edited", "it would prove nothing", "manifest show m.jsonl",
            "m.jsonl.manifest.json: …; it was damaged or edited, restore or rebuild it",
            merged(flip("m.jsonl.manifest.json"))),
        Refusal("A manifest under another name", "nobody would find it by that",
            "corpus merge g.jsonl h.jsonl --out n.jsonl --manifest-out n.json",
            "n.json: expected a name that ends in .manifest.json for the manifest of --manifest-out", merged()),
        Refusal("A file that changed since", "what was made from it is not what the manifest says",
            "manifest verify m.jsonl", "m.jsonl.manifest.json: …g.jsonl… changed: its content had sha256 … and has …",
            merged(flip("g.jsonl")), 1),
        Refusal("A manifest of another schema", "its fields may mean something else", "manifest show m.jsonl",
            "m.jsonl.manifest.json: expected vmaf-research-manifest version 1, found 'other'",
            merged(reseal("m.jsonl.manifest.json", lambda document: document.update(schema="other")))),
        Refusal("A manifest whose paths leave their root", "a manifest of somebody else names no file of yours",
            "manifest show m.jsonl", "m.jsonl.manifest.json: …: …../x: expected a path inside its root…",
            merged(reseal("m.jsonl.manifest.json", leave_the_root))),
        Refusal("A replay of a call of the library", "there is no command to run again",
            "manifest replay run/predictions.parquet",
            "run/predictions.parquet.manifest.json: was written by a call of the library, there is no command to "
            "run again"),
        Refusal("A replay without its inputs", "nothing can be compared", "manifest replay m.jsonl",
            "m.jsonl.manifest.json: cannot be replayed, …g.jsonl…; restore it, or say where it is with --root",
            merged(lambda folder: (folder / "g.jsonl").unlink())),
        Refusal("A replay into a folder that is not empty", "what lies there would be mixed up with what comes out",
            "manifest replay m.jsonl --keep logs",
            "logs: is not an empty folder; --keep takes one, or a name for a new one", merged()),
        Refusal("A root that is no folder", "files would be looked for nowhere",
            "manifest verify m.jsonl --root output", "--root output: expected NAME=FOLDER with a folder that exists",
            merged()),
    ),
    "Outputs": (
        Refusal("An output that is also an input", "it would be gone", "score nano t.parquet --out t.parquet",
            "t.parquet: --out is the same file as TABLE t.parquet; choose another name for --out"),
        Refusal("The same by another path", "it would be gone", "score nano t.parquet --out ./videos/../t.parquet",
            "videos/../t.parquet: --out is the same file as TABLE t.parquet; choose another name for --out"),
        Refusal("The same by a link", "it would be gone", "score nano t.parquet --out link.parquet",
            "link.parquet: --out is the same file as TABLE t.parquet; choose another name for --out"),
        Refusal("An output that belongs to an input", "a pairs table or a manifest would be about another file",
            "score nano t.parquet --out t.parquet.pairs.parquet",
            "t.parquet.pairs.parquet: --out would replace a file that belongs to TABLE t.parquet; choose another "
            "name for --out"),
        Refusal("Two outputs in one file", "the second would replace the first",
            "corpus grid --sources videos --crf 30 --out n.jsonl --per-frame n.jsonl",
            "n.jsonl: --per-frame is the same file as --out n.jsonl; choose another name for --per-frame"),
        Refusal("An option of an encoder without its value", "what comes after it would be taken for that",
            "corpus grid --sources videos --crf 30 --out n.jsonl --extra-params=-an",
            "extra options '-an': expected pairs of an option and its value, such as -tune grain"),
        Refusal("A folder in place of a file", "hours of work would end without a place",
            "extract clips videos --out videos", "videos: is a folder; name a file for the table"),
        Refusal("A file in place of a folder", "hours of work would end without a place",
            "ensemble run t.parquet --out v.mkv",
            "v.mkv: cannot be written, v.mkv is a file, expected a folder; choose another place"),
        Refusal("A path below a file", "hours of work would end without a place",
            "extract clips videos --out v.mkv/e.parquet",
            "v.mkv/e.parquet: cannot be written, …v.mkv is a file, expected a folder; choose another place"),
        Refusal("A name whose ending does not say what is written", "whoever reads it would read it wrongly",
            "extract clips videos --out e.csv",
            "e.csv: expected a name that ends in .parquet for the table of --out"),
    ),
    "Words": (
        Refusal("Options that go together, alone", "one of them says nothing without the other",
            f"score {NANO} frames.parquet --out s.csv --target 90", "--quality-confidence and --target go together"),
        Refusal("Options that exclude each other", "one of them would be ignored",
            "refresh --data-root videos --clips videos",
            "--data-root reads raw video as it is: --clips, --frames and --codecs do not go with it"),
        Refusal("A promotion of nothing", "there is more than one kind", "registry promote --models model",
            "promote what? Give --verdict RUN/PROMOTE.json for an ensemble, or ids of predictors"),
        Refusal("A promotion without a verdict", "only predictors have one in their sidecar",
            f"registry promote {NANO} --models model",
            f"registry.json: {NANO} is a model of kind fr; an ensemble is promoted by its verdict; nothing was "
            "promoted"),
        Refusal("Stubs for another teacher", "the formula behind them is about VMAF v0.6.1",
            "predictor train --corpus g.jsonl --models m --stubs --teacher vmaf_v0.6.1neg -q",
            "stubs are made up by a formula for vmaf_v0.6.1; vmaf_v0.6.1neg has none, leave them out"),
        Refusal("A training without a model", "there are many", "train --parquet frames.parquet --out r -q",
            "which model? Name one (fr-regressor-v1, nano), or a --recipe or --architecture"),
        Refusal("A recipe that there is not", "a typing error would train something else",
            "train --recipe adr0294 --parquet frames.parquet --out r -q",
            "recipe 'adr0294' is unknown: expected one of adr0249, adr0303, vmaf_tiny, tuned, teacher_function, …"),
        Refusal("An architecture that there is not", "a typing error would train something else",
            "refresh --clips videos --architecture vmaf_tiny_v5 --out r -q",
            "recipe 'vmaf_tiny@vmaf_tiny_v5': architecture is 'vmaf_tiny_v5', expected one of linear, small, nano, …"),
        Refusal("A folder for clients that is not there", "clients could read nothing", "mcp --allow nowhere",
            "nowhere: no such folder; --allow takes a folder that may be read"),
        Refusal("A time limit that leaves no time", "every call would be stopped", "mcp --time-limit 0",
            "a time limit of 0 s leaves no time; expected more than 0"),
        Refusal("A port that does not exist", "nobody could connect", "mcp --http 99999",
            "port 99999: expected 1 to 65535, or 0 for any that is free"),
    ),
}
# fmt: on


@dataclass(frozen=True)
class RefusedCall:
    "A call of a tool of the MCP server that is refused; tests/test_mcp.py makes it."

    what: str
    why: str
    tool: str
    arguments: dict
    sentence: str
    code: str = "–"  # a server goes on

    @property
    def pattern(self) -> re.Pattern:
        return re.compile(".*?".join(map(re.escape, self.sentence.split("…"))), re.DOTALL)


PAIR = {"ref": "pan.yuv", "dis": "pan.yuv", "width": 320, "height": 180}
OUTSIDE = "lies outside of the folders that this server may read; see --allow"
# fmt: off
REFUSED_CALLS = (
    RefusedCall("A file that is not there", "there is nothing to measure", "vmaf_score",
        PAIR | {"ref": "nothing.yuv"}, "'nothing.yuv': no such file"),
    RefusedCall("A path out of the folder", "clients read what they may", "vmaf_score",
        PAIR | {"ref": "../secret.yuv"}, f"'../secret.yuv' {OUTSIDE}"),
    RefusedCall("An absolute path", "clients read what they may", "vmaf_score",
        PAIR | {"ref": "/etc/passwd"}, f"'…/passwd' {OUTSIDE}"),
    RefusedCall("A link out of the folder", "clients read what they may", "vmaf_score",
        PAIR | {"ref": "link.yuv"}, f"'link.yuv' {OUTSIDE}"),
    RefusedCall("A name that no file can have", "programs would cut it short", "vmaf_score",
        PAIR | {"ref": "a\0b"}, f"…{OUTSIDE}"),
    RefusedCall("A name that is too long", "no file has it", "vmaf_score",
        PAIR | {"ref": "x" * 5000}, "…: no such file"),
    RefusedCall("A folder", "it is no clip", "vmaf_score", PAIR | {"ref": "."}, "'.': no such file"),
    RefusedCall("A pipe", "reading it would wait for ever", "vmaf_score",
        PAIR | {"ref": "pipe.yuv"}, "'pipe.yuv': no such file"),
    RefusedCall("A slash after a file", "it is no folder", "vmaf_score",
        PAIR | {"ref": "pan.yuv/"}, "'pan.yuv/': no such file"),
    RefusedCall("A dot below a file", "it is no folder", "vmaf_score",
        PAIR | {"ref": "pan.yuv/."}, "'pan.yuv/.': no such file"),
    RefusedCall("Half of a character", "no file can have it", "vmaf_score",
        PAIR | {"ref": "\ud800.yuv"}, f"…{OUTSIDE}"),
    RefusedCall("A byte that is no text", "there is no such file", "vmaf_score",
        PAIR | {"ref": "\udc80.yuv"}, "…: no such file"),
    RefusedCall("An option in place of a name", "programs would take it for one", "vmaf_score",
        PAIR | {"ref": "-version"}, "'-version': no such file"),
    RefusedCall("An empty file", "what was not written is no measurement", "vmaf_score",
        PAIR | {"dis": "empty.yuv"}, "…empty.yuv: the file is empty"),
    RefusedCall("A file that is no video", "ffmpeg finds pictures in anything", "vmaf_score",
        {"ref": "text.mkv", "dis": "text.mkv"}, "…text.mkv: not a video that can be decoded, or cut off …"),
    RefusedCall("A list of files elsewhere", "ffmpeg would read them", "vmaf_score",
        {"ref": "list.m3u8", "dis": "list.m3u8"}, "…list.m3u8: not a video that can be decoded, or cut off …"),
    RefusedCall("Raw video of another length than whole frames", "every frame after it would be shifted", "vmaf_score",
        PAIR | {"width": 318}, "…not a whole number of 318x180 yuv420p frames…"),
    RefusedCall("Raw video without its geometry", "raw video has no header", "vmaf_score",
        {"ref": "pan.yuv", "dis": "pan.yuv"}, "…raw video has no header, give its width and height …"),
    RefusedCall("Frames larger than the file", "there is not one", "vmaf_score",
        PAIR | {"width": 16384, "height": 16384}, "…not a whole number of 16384x16384 yuv420p frames…"),
    RefusedCall("Frames beyond the bounds", "memory has an end", "vmaf_score",
        PAIR | {"width": 10**9}, "…less than or equal to 16384…"),
    RefusedCall("A chroma sampling that is not known", "samples would be read at wrong places", "vmaf_score",
        PAIR | {"pixfmt": "411"}, "…'420', '422' or '444'…"),
    RefusedCall("A model that is a path", "clients choose by name", "vmaf_score",
        PAIR | {"model": "path=/etc/passwd"}, "…vmaf_v0.6.1…"),
    RefusedCall("A feature that does not exist", "it would be found out too late", "vmaf_score",
        PAIR | {"features": ["adm2", "sharpness"]}, "unknown features sharpness…"),
    RefusedCall("A call without an argument", "it is needed", "vmaf_score", {"ref": "pan.yuv"}, "…dis…"),
    RefusedCall("More pictures than an answer holds", "answers have an end", "describe_worst_frames",
        PAIR | {"count": 1000}, "…less than or equal to 16…"),
    RefusedCall("A table that is none", "there is nothing to describe", "describe_corpus",
        {"table": "pan.yuv"}, "…no such file…"),
    RefusedCall("A file without a manifest", "there is nothing to verify", "verify_manifest",
        {"manifest": "pan.yuv"}, "…no such file…"),
    RefusedCall("A tool that does not exist", "nothing else is done", "format_disk", {}, "…Unknown tool…"),
)
# fmt: on
