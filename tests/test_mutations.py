"""Every kind of file that is read, changed in one place: the same result or a sentence, and nothing else is touched."""

import copy
import csv
import io
import json
import random
import shutil
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import write_pan
from made_up import make_codec_rows, make_opinions, make_table

from vmaf_research.corpora.bvi_dvc import list_videos, take_out
from vmaf_research.corpora.chug import read_chug
from vmaf_research.corpora.clips import clips_corpus
from vmaf_research.corpora.extract import extract
from vmaf_research.corpora.rows import new_row, write_rows
from vmaf_research.corpora.scored import read_scores, write_scores
from vmaf_research.learn.codec_table import load_ensemble_table
from vmaf_research.measure import manifest
from vmaf_research.measure.core import ResearchError, settings
from vmaf_research.measure.engine import run_ffmpeg
from vmaf_research.measure.features import CANONICAL_6
from vmaf_research.measure.manifest import manifest_path
from vmaf_research.measure.provenance import SEAL, Store, json_bytes, open_sealed, seal, sha256_file
from vmaf_research.measure.video import input_arguments, open_clip
from vmaf_research.predict.training import read_codec_rows
from vmaf_research.serve import manifests
from vmaf_research.serve.cli import main
from vmaf_research.ship.ensemble import PREDICTIONS, artefact_name, run_ensemble
from vmaf_research.ship.registry import REGISTRY, install, load

NANO = "fr_regressor_nano_v1"
MUTATIONS = {False: 12, True: 200}  # per format and reader; the second with `pytest -m slow`

# One change of one file

STRANGE_JSON = [
    *("null", "true", "[]", "{}", '""', '"x"', "-1", "0", "1", "1.5", "-0.0", "1e308", "1e999", "NaN", '"1"', "[null]"),
    *("9" * 30, "9" * 6000, '"\\ud800"', '"\\u0000"', '{"a": 1}', "[1, 2, 3]", '"../../x"', '"/etc/passwd"', "2e9"),
    *("[" * 60 + "]" * 60, "[" * 200 + "]" * 200, "[" * 100_000 + "]" * 100_000, f'"{"x" * 100_000}"', '"a\\nb"'),
]
STRANGE_TEXT = [
    *("", " ", "NaN", "inf", "-1", "0", "1e38", "1e300", "1e999", "9" * 25, "0x1F", "1,234", "1.5", "true", "None"),
    *("\0", "é", "\ud800", '"', "'", "\n", "\t", "x" * 100_000, "=1+1", "../../x", "<b>", "1_000", "१", "٣", "3 4"),
]


def mutate_bytes(data: bytes, dice: random.Random) -> bytes:
    "A few bits, a cut, a piece that is lost, doubled, moved, overwritten or put in, or something else altogether."
    first, last = sorted(dice.choices(range(len(data) + 1), k=2))
    last = min(last, first + 200)
    flipped = bytearray(data)
    for _ in range(dice.choice([1, 1, 3])):
        flipped[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    return dice.choice(
        [
            *(bytes(flipped),) * 4,
            data[: dice.randrange(len(data))],
            data[:first] + data[last:],
            data[:last] + data[first:],
            data[:first] + data[last:] + data[first:last],
            data[:first] + bytes(last - first) + data[last:],
            data[:first] + dice.randbytes(dice.choice([1, 8, 100])) + data[first:],
            dice.choice([b"", b"\0" * 100, b"\xff\xfe", b"{}", b"[]", b"null", b"PAR1", data + data, b"\n" + data]),
        ]
    )


def mutate_json(data: bytes, dice: random.Random) -> bytes:
    "A value that is another, gone, or there twice; a document with a seal is sealed again where that can be done."
    document = json.loads(data)
    places = list(_places(document))
    holder, key = dice.choice(places)
    act = dice.choice(["put", "put", "put", "put", "drop", "swap", "double"])
    raw = dice.choice(STRANGE_JSON)
    if act == "drop":
        del holder[key]
    elif act == "swap":
        other, other_key = dice.choice(places)
        holder[key] = copy.deepcopy(other[other_key])
    else:
        holder[key] = "\u2603"  # stands for what `json` would not write
    if act in ("drop", "swap"):
        return _sealed(document)
    text = json.dumps(document, indent=2, ensure_ascii=False)
    if act == "double":
        spelled = json.dumps(key, ensure_ascii=False)
        raw = f"1, {spelled}: 2" if isinstance(holder, dict) else "1, 1"
    text = text.replace('"\u2603"', raw)
    try:
        return _sealed(json.loads(text)) if act == "put" else text.encode()
    except (ValueError, RecursionError):
        return text.encode("utf-8", "surrogatepass")


def _places(value):
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


def _sealed(document) -> bytes:
    return json_bytes(seal(document) if isinstance(document, dict) and SEAL in document else document)


def mutate_lines(data: bytes, dice: random.Random) -> bytes:
    "One line of JSON lines, or their order and number."
    lines = data.splitlines()
    place = dice.randrange(len(lines))
    if dice.random() < 0.8:
        changed = mutate_json(lines[place], dice)
        lines[place] = changed.replace(b"\n", b" ")
    else:
        lines.insert(dice.randrange(len(lines)), dice.choice([lines[place], b"[]", b"{}", b"", b"\0", b"null"]))
    return b"\n".join(lines) + b"\n"


def mutate_csv(data: bytes, dice: random.Random) -> bytes:
    "A cell, a name, a column or a row."
    rows = list(csv.reader(io.StringIO(data.decode(), newline="")))
    row, column = dice.randrange(len(rows)), dice.randrange(len(rows[0]))
    act = dice.choice(["put", "put", "put", "name", "drop", "double", "short", "long", "row", "empty", "separator"])
    if act == "put":
        rows[row][column] = dice.choice(STRANGE_TEXT)
    elif act == "name":
        rows[0][column] = dice.choice([*STRANGE_TEXT, *rows[0]])
    elif act == "drop":
        rows = [each[:column] + each[column + 1 :] for each in rows]
    elif act == "double":
        rows = [[*each, each[column]] for each in rows]
    elif act == "short":
        rows[row] = rows[row][:column]
    elif act == "long":
        rows[row] += ["7"] * 3
    elif act == "row":
        rows.insert(row, list(rows[dice.randrange(len(rows))]))
    elif act == "empty":
        rows = dice.choice([rows[:1], [], [[]], rows[1:]])
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=";" if act == "separator" else ",").writerows(rows)
    return file.getvalue().encode("utf-8", "surrogatepass")


def mutate_parquet(data: bytes, dice: random.Random) -> bytes:
    "A column of another type, with another value, gone, or there twice; or fewer rows."
    table = pq.read_table(io.BytesIO(data))
    place = dice.randrange(table.num_columns)
    name, values = table.column_names[place], table.column(place).to_pylist()
    strange = [
        None,
        True,
        -1,
        0,
        1.5,
        1e38,
        1e300,
        np.nan,
        np.inf,
        2**62,
        "",
        "x",
        "1,234",
        "\0",
        b"\xff",
        [1],
        {"a": 1},
    ]
    act = dice.choice(["all", "all", "one", "one", "one", "drop", "double", "name", "rows"])
    if act == "drop":
        table = table.remove_column(place)
    elif act == "double":
        table = table.append_column(dice.choice(table.column_names), table.column(place))
    elif act == "name":
        names = [*table.column_names]
        names[place] = dice.choice(["", "x", *table.column_names])
        table = table.rename_columns(names)
    elif act == "rows":
        table = table.slice(0, dice.choice([0, 1, 2]))
    elif values:
        value = dice.choice(strange)
        if act == "one":
            values[dice.randrange(len(values))] = value
        try:
            column = pa.array([value] * len(values) if act == "all" else values)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            column = pa.array([str(each) for each in values])
        table = table.set_column(place, name, column)
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


def mutate_y4m(data: bytes, dice: random.Random) -> bytes:
    "A word of the header, or the mark of a frame."
    head, _, rest = data.partition(b"\n")
    words = head.split(b" ")
    strange = [
        b"",
        b"W0",
        b"W-2",
        b"W9999999999",
        b"H1",
        b"H64",
        b"F0:0",
        b"F1:0",
        b"F9999999999:1",
        b"Ip",
        b"It",
        b"C420p10",
    ]
    strange += [
        b"C444",
        b"Cmono",
        b"Cx",
        b"Wx",
        b"YUV4MPEG",
        b"XCOLORRANGE=FULL",
        b"A0:0",
        b"W96 W96",
        b"C420p99",
        b"\xff",
    ]
    if dice.random() < 0.8:
        words[dice.randrange(len(words))] = dice.choice(strange)
        return b" ".join(words) + b"\n" + rest
    return head + b"\n" + rest.replace(b"FRAME\n", dice.choice([b"FRAME Ix\n", b"FRAMF\n", b"\n", b"FRAME"]), 1)


# Formats: a valid file, and who reads it


def code_of(work: Callable) -> int:
    "What the command line would end with."
    try:
        work()
    except ResearchError as error:
        return error.exit_code
    return 0


@dataclass
class Format:
    "A folder with a file to be changed, and what reads it."

    path: Path  # of the file
    mutate: Callable[[bytes, random.Random], bytes]
    readers: dict[str, Callable[[], int]]  # each gives an exit code
    refused: tuple[str, ...] = ()  # readers that refuse even the valid file, as late as they can
    exact: bool = False  # what was not sealed again is noticed: what still works gives the same bytes
    after: Callable[[], None] = lambda: None  # what a liar would do, after the change


def command(*words) -> Callable[[], int]:
    return lambda: main([str(word) for word in words])


@pytest.fixture(scope="module")
def quick_run(tmp_path_factory):
    "A run of the ensemble with its verdict, which is HOLD."
    folder = tmp_path_factory.mktemp("ensemble")
    make_codec_rows(3, 4, 6).to_parquet(folder / "rows.parquet")
    run_ensemble(folder / "rows.parquet", folder / "run", dry_run=True, progress=False)
    assert main(["ensemble", "validate", str(folder / "run")]) == 1
    return folder


def rows_format(folder: Path) -> Path:
    rows = [
        new_row(src=f"{name}.mp4", src_sha256="ab" * 32, encoder="libx264", preset="fast", clip_mode="full", crf=crf)
        | {"vmaf_score": 120.0 - crf, "width": 64, "height": 64, "exit_status": 0, "adm2_mean": 0.5}
        for name in "abc"
        for crf in (25.0, 35.0)
    ]
    write_rows(folder / "a.jsonl", rows[:4])
    write_rows(folder / "b.jsonl", rows[2:])
    assert (
        main(["corpus", "merge", str(folder / "a.jsonl"), str(folder / "b.jsonl"), "--out", str(folder / "m.jsonl")])
        == 0
    )
    return folder


def make_rows(folder: Path, quick_run: Path) -> Format:
    rows_format(folder)
    a, b = folder / "a.jsonl", folder / "b.jsonl"
    readers = {
        "merge": command("corpus", "merge", a, b, "--out", folder / "m.jsonl"),
        "skip": command("corpus", "merge", a, b, "--out", folder / "m.jsonl", "--skip-bad-lines"),
        "describe": command("corpus", "describe", a, "--json"),
        "to-parquet": command("corpus", "to-parquet", a, "--out", folder / "p.parquet"),
        "predictor": partial(code_of, partial(read_codec_rows, a, "libx264")),
    }
    return Format(a, mutate_lines, readers)


def make_ratings(folder: Path, quick_run: Path) -> Format:
    lines = [{"corpus": "lsvq", "src": f"{name}.mp4", "mos": 3.5, "mos_std_dev": 0.5} for name in "abc"]
    (folder / "mos.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = ("corpus", "aggregate", folder / "mos.jsonl", "--out", folder / "out.jsonl")
    return Format(folder / "mos.jsonl", mutate_lines, {"aggregate": command(*words)})


def make_manifest(folder: Path, quick_run: Path) -> Format:
    path = manifest_path(rows_format(folder) / "m.jsonl")
    readers = {word: command("manifest", word, path) for word in ("show", "verify", "replay")}
    readers["export"] = command("manifest", "export", path, "--croissant", "--out", folder / "c.json")
    readers["merge"] = command("corpus", "merge", folder / "a.jsonl", folder / "b.jsonl", "--out", folder / "m.jsonl")
    return Format(path, mutate_json, readers, refused=("replay",))


def make_model(folder: Path, file: str) -> Format:
    install(NANO, settings().model_path, folder)
    make_table(1, 1, 2).to_csv(folder / "t.csv", index=False)
    (folder / "t.csv").rename(folder.parent / "t.csv")

    def register_again():
        "The registry says that these are the right bytes."
        try:
            document = open_sealed(folder / REGISTRY)
            document["files"][file] = sha256_file(folder / file)
            (folder / REGISTRY).write_bytes(json_bytes(seal(document)))
        except ResearchError:
            pass

    readers = {
        "list": command("registry", "list", "--models", folder),
        "verify": command("registry", "verify", "--models", folder),
        "score": command("score", NANO, folder.parent / "t.csv", "--out", folder.parent / "s.csv", "--models", folder),
        "rollback": command("registry", "rollback", "--models", folder),
        "load": partial(code_of, lambda: repr(load(NANO, folder)._repr_html_())),
    }
    after = register_again if file != REGISTRY else lambda: None
    return Format(folder / file, mutate_json, readers, refused=("rollback",), after=after)


def make_verdict(folder: Path, quick_run: Path) -> Format:
    shutil.copytree(quick_run, folder, dirs_exist_ok=True)
    document = open_sealed(folder / "run" / "HOLD.json")
    path = folder / "run" / "PROMOTE.json"
    path.write_bytes(json_bytes(seal(document | {"verdict": "PROMOTE"})))
    (folder / "run" / "HOLD.json").unlink()
    readers = {
        "promote": command("registry", "promote", "--verdict", path, "--models", folder / "model"),
        "export": command("ensemble", "export", folder / "run", "--table", folder / "rows.parquet", "-q"),
    }
    return Format(path, mutate_json, readers, refused=("promote", "export"))


def make_seed(folder: Path, quick_run: Path) -> Format:
    shutil.copytree(quick_run, folder, dirs_exist_ok=True)
    run, table = folder / "run", folder / "rows.parquet"
    readers = {"validate": command("ensemble", "validate", run, "--table", table)}
    return Format(run / artefact_name(2), mutate_json, readers, refused=("validate",))


def make_predictions(folder: Path, quick_run: Path) -> Format:
    made = make_seed(folder, quick_run)
    return Format(folder / "run" / PREDICTIONS, mutate_parquet, made.readers, refused=("validate",))


def make_cache(folder: Path, quick_run: Path) -> Format:
    (folder / "videos").mkdir()
    run_ffmpeg(["-f", "lavfi", "-i", "testsrc2=s=64x64", "-frames:v", "4", str(folder / "videos" / "bars.mkv")])
    corpus = clips_corpus(folder / "videos", folder / "work", codecs=("libx264",), frames=4, progress=False)
    corpus = copy.replace(corpus, pairs=corpus.pairs[:1]) if hasattr(copy, "replace") else corpus
    options = {"features": "canonical6", "cache": folder / "cache", "progress": False}
    again = partial(code_of, lambda: extract(corpus, folder / "t.parquet", **options))
    assert again() == 0
    path = next((folder / "cache" / "measure").rglob("*.json"))
    return Format(path, mutate_json, {"extract": again}, exact=True)


def make_bundle(folder: Path, _: Path) -> Format:
    store, keys = Store(folder / "store"), [f"ab{number:062}" for number in range(8)]
    saved = [store.save(key, {"number": number}) for number, key in enumerate(keys)]
    (path,) = store.files(keys)

    def read():
        assert all(store.load(key) in (None, record) for key, record in zip(keys, saved, strict=True))

    return Format(path, mutate_bytes, {"load": partial(code_of, read)})


def make_training(folder: Path, suffix: str) -> Format:
    path, rows = folder / f"t{suffix}", make_codec_rows(2, 2, 3).drop(columns="preset")
    if suffix == ".csv":
        rows.to_csv(path, index=False)
    elif suffix == ".parquet":
        rows.to_parquet(path, index=False)
    else:
        rows.to_json(path, orient="records", lines=True)
    readers = {"ensemble": partial(code_of, lambda: load_ensemble_table(path))}
    if suffix != ".jsonl":
        readers["score"] = command("score", NANO, path, "--out", folder / f"s{suffix}")
    mutate = {".csv": mutate_csv, ".parquet": mutate_parquet, ".jsonl": mutate_lines}[suffix]
    return Format(path, mutate, readers)


def make_pairs(folder: Path, quick_run: Path) -> Format:
    rows = make_codec_rows(2, 2, 3)
    parameters = ["source", "dis_basename", "codec", "preset", "crf"]
    pairs = rows.drop_duplicates(parameters)[parameters].assign(
        encode_height=64,
        bitrate_kbps=90.0,
        reference_path="r.y4m",
        distorted_path="d.mp4",
        reference_size=1,
        distorted_size=2,
    )
    path = folder / "t.parquet"
    rows.drop(columns=["preset", "crf"]).to_parquet(path, index=False)
    pairs.to_parquet(f"{path}.pairs.parquet", index=False)
    choose = ("--quality-confidence", "0.5", "--target", "50", "--out", folder / "c.parquet")
    readers = {
        "ensemble": partial(code_of, lambda: load_ensemble_table(path)),
        "choose": command("score", NANO, path, *choose),
    }
    return Format(Path(f"{path}.pairs.parquet"), mutate_parquet, readers)


def make_opinion_table(folder: Path, suffix: str) -> Format:
    path, rows = folder / f"people{suffix}", make_opinions()
    rows.to_csv(path, index=False) if suffix == ".csv" else rows.to_parquet(path, index=False)
    readers = {"read": command("people", "read", path, "--out", folder / "read.parquet")}
    if suffix == ".csv":
        readers["evaluate"] = command("people", "evaluate", path, "--resamples", "20", "--out", folder / "o.json")
    else:
        readers["train"] = command("people", "train", path, "--out", folder / "run")
    return Format(path, mutate_csv if suffix == ".csv" else mutate_parquet, readers)


def make_description(folder: Path, quick_run: Path) -> Format:
    path = folder / "mine.csv"
    path.write_text("clip,scene,ann,bob\n" + "".join(f"c{k},s{k % 3},{1 + k % 5},{1 + k % 4}\n" for k in range(9)))
    said = {"columns": {"video": "clip", "source": "scene"}, "votes": ["ann", "bob"], "range": [1, 5]}
    said |= {"direction": "lower"}
    said["constants"] = {"dataset": "mine", "subset": "monday", "scale": "ACR 1-5, 1080p, 3H"}
    path.with_name("mine.csv.json").write_text(json.dumps(said))
    reader = command("people", "read", path, "--out", folder / "read.parquet")
    return Format(path.with_name("mine.csv.json"), mutate_json, {"read": reader})


def make_clone(folder: Path, quick_run: Path) -> Format:
    test = folder / "clone" / "test_1"
    (test / "vmaf_reports").mkdir(parents=True)
    names = [f"park_{rate}kbps_360p_60.0fps_h264" for rate in (200, 750)]
    (test / "mos_ci.csv").write_text("video_name,MOS,CI\n" + "".join(f"{name}.mkv,2.5,0.2\n" for name in names))
    metrics = dict.fromkeys(CANONICAL_6, 0.9) | {"psnr": 31.0, "ssim": 0.98, "vmaf": 50.0}
    for name in names:
        frames = [{"frameNum": number, "metrics": metrics} for number in range(3)]
        (test / "vmaf_reports" / f"{name}_vmaf.json").write_text(json.dumps({"version": "1.3.11", "frames": frames}))
    reader = command("people", "read", folder / "clone", "--out", folder / "read.parquet")
    return Format(test / "vmaf_reports" / f"{names[0]}_vmaf.json", mutate_json, {"read": reader})


def make_live(folder: Path, quick_run: Path) -> Format:
    (folder / "bqam" / "mos").mkdir(parents=True)
    logs = folder / "bqam" / "prediction" / "LIVE_VQA" / "VMAF"
    logs.mkdir(parents=True)
    names = [f"bs{number:02}_25fps" for number in range(2, 8)]
    (folder / "bqam" / "mos" / "LIVE_VQA_MOS.json").write_text(json.dumps({name: "31.5" for name in names}))
    for name in names:
        (logs / f"{name}.xml").write_text('<VMAF><frames><frame frameNum="0" vmaf="66.5"/></frames></VMAF>')
    reader = command("people", "read", folder / "bqam", "--out", folder / "read.parquet")
    return Format(folder / "bqam" / "mos" / "LIVE_VQA_MOS.json", mutate_json, {"read": reader})


def make_netflix(folder: Path, quick_run: Path) -> Format:
    path = folder / "set.py"
    path.write_text(
        "dataset_name = 'set'\nref_videos = [{'content_id': 0, 'content_name': 'A', 'path': '/x/A_25fps.yuv'}]\n"
        "dis_videos = [{'content_id': 0, 'os': [5, 4, 5], 'path': '/x/A_20_288_375.yuv'},"
        " {'content_id': 0, 'os': [2, [1, 2], 2], 'path': '/x/A_30_384_550.yuv'}]\n"
    )
    return Format(path, mutate_bytes, {"read": command("people", "read", path, "--out", folder / "read.parquet")})


def make_konvid(folder: Path, quick_run: Path) -> Format:
    path = folder / "KoNViD_1k_attributes.csv"
    path.write_text("flickr_id,file_name,MOS,SD,n\n1,1.mp4,3.5,0.5,50\n2,2.mp4,4.5,0.25,60\n")

    def read():
        write_scores(folder / "mos.parquet", {"one": "1", "two": "2"}, read_scores(path))

    return Format(path, mutate_csv, {"scores": partial(code_of, read)})


def make_chug(folder: Path, quick_run: Path) -> Format:
    path = folder / "chug.csv"
    path.write_text("Video,ref,content_name,bitladder,mos_j,sos_j\na,1,pan,,70,9\nb,0,pan,360p_0.2M_,30,8\n")
    return Format(path, mutate_csv, {"list": partial(code_of, lambda: read_chug(path))})


def make_part(folder: Path, quick_run: Path) -> Format:
    "A part of a manifest."
    table = folder / "t.csv"
    table.write_text("vmaf\n95\n")
    inputs = {f"{name}.mp4": {"root": "output", "path": f"{name}.mp4", "kind": "missing"} for name in "abcdefghijk"}
    provenance = manifest.run_provenance(__file__, {}, inputs, {"t": manifest.describe_path(table, {"output": folder})})
    with patch.object(manifest, "_MOST_ENTRIES", 10):
        written = manifest.write_manifest(table, "example", provenance, {}, {"output": folder})
    readers = {"show": command("manifest", "show", written), "verify": command("manifest", "verify", written)}
    return Format(manifest.part_paths(written)[0], mutate_lines, readers)


def make_log(folder: Path, quick_run: Path) -> Format:
    metrics = {"vmaf": 9.5, "adm2": 1, "motion2": 0, **{f"vif_scale{number}": 0.5 for number in range(4)}}
    frames = [{"frameNum": number, "metrics": metrics} for number in range(3)]
    log = {"version": "3", "frames": frames, "pooled_metrics": {"vmaf": {"mean": 9.5}}}
    path = folder / "logs" / "DAstronaut_480x272_25fps_10bit_420.json"
    path.parent.mkdir()
    path.write_text(json.dumps(log))
    return Format(
        path, mutate_json, {"rows": command("corpus", "bvi-dvc-rows", path.parent, "--out", folder / "r.jsonl", "-q")}
    )


def make_y4m(folder: Path, quick_run: Path) -> Format:
    pan = write_pan(folder / "pan.yuv", 64, 64, 2)
    run_ffmpeg([*input_arguments(pan), str(folder / "pan.y4m")])
    return Format(folder / "pan.y4m", mutate_y4m, {"open": partial(code_of, lambda: open_clip(folder / "pan.y4m"))})


def make_archive(folder: Path, quick_run: Path) -> Format:
    path = folder / "BVI-DVC.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        ramp = bytes(column // 2 for column in range(480)) * 272 + bytes([128]) * (480 * 272 // 2)
        made.writestr("Videos/DStill_480x272_25fps_8bit_420.yuv", ramp)

    def read():
        (video,) = list_videos(path).videos
        with take_out(path, video, folder / "taken"):
            pass

    return Format(path, mutate_bytes, {"take out": partial(code_of, read)})


FORMATS = {
    "manifest": make_manifest,
    "registry": lambda folder, _: make_model(folder, REGISTRY),
    "sidecar": lambda folder, _: make_model(folder, f"{NANO}.json"),
    "verdict": make_verdict,
    "seed file": make_seed,
    "predictions": make_predictions,
    "cache entry": make_cache,
    "bundle of the cache": make_bundle,
    "table csv": lambda folder, _: make_training(folder, ".csv"),
    "table Parquet": lambda folder, _: make_training(folder, ".parquet"),
    "table JSON lines": lambda folder, _: make_training(folder, ".jsonl"),
    "pairs table": make_pairs,
    "opinions csv": lambda folder, _: make_opinion_table(folder, ".csv"),
    "opinions Parquet": lambda folder, _: make_opinion_table(folder, ".parquet"),
    "description of opinions": make_description,
    "log in a clone": make_clone,
    "LIVE scores": make_live,
    "Netflix scores": make_netflix,
    "KoNViD scores": make_konvid,
    "CHUG list": make_chug,
    "part of a manifest": make_part,
    "corpus rows": make_rows,
    "ratings": make_ratings,
    "libvmaf log": make_log,
    "Y4M": make_y4m,
    "BVI-DVC archive": make_archive,
}


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def restore(folder: Path, before: dict[Path, bytes]) -> None:
    for path in folder.rglob("*"):
        if path.is_file() and path not in before:
            path.unlink()
    for path, data in before.items():
        if not path.is_file() or path.read_bytes() != data:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


def check_mutations(name: str, folder: Path, quick_run: Path, count: int, capsys) -> None:
    "Change the file of a format so many times, let all read it, and look at what came of it."
    made = FORMATS[name](folder, quick_run)
    refused = [reader_name for reader_name, reader in made.readers.items() if reader()]  # writes what must not suffer
    assert refused == [*made.refused]
    before, valid = contents(folder.parent), made.path.read_bytes()
    for number in range(count):
        dice = random.Random(f"{name} {number}")
        data = (mutate_bytes if dice.random() < 0.3 else made.mutate)(valid, dice)
        made.path.write_bytes(data)
        sealed = code_of(partial(open_sealed, made.path)) == 0  # as a liar would, whom nobody can see through
        for reader_name, reader in made.readers.items():
            told = f"{name}, change {number}, {reader_name}: {data[:300]!r}"
            made.path.write_bytes(data)
            made.after()
            registered = contents(folder.parent)
            capsys.readouterr()
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error", RuntimeWarning)  # an overflow is something wrong and silent
                    code = reader()
            except BaseException as error:
                error.add_note(told)
                raise
            printed = capsys.readouterr()
            assert code in (0, 1, 2, 3), told
            assert code == 0 or "Traceback" not in printed.err, told
            now = contents(folder.parent)
            if code >= 2 or code and reader_name != "validate":  # HOLD is a result
                assert now == registered, f"{told}\n{printed.err}"
            elif made.exact and not sealed:
                written = {path for path in before if path != made.path and "manifest" not in path.name}
                assert all(now[path] == before[path] for path in written), told
            restore(folder.parent, before)


@pytest.fixture
def no_second_process(monkeypatch):
    "A replay goes up to the start of its process, and no further."
    monkeypatch.setattr(manifests, "_run_again", lambda words, folder, use_cache: (2, "not run"))


@pytest.mark.parametrize("name", FORMATS)
def test_a_changed_file_gives_the_same_or_a_sentence(name, tmp_path, quick_run, no_second_process, capsys):
    (tmp_path / "files").mkdir()
    check_mutations(name, tmp_path / "files", quick_run, MUTATIONS[False], capsys)


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_many_changed_files_give_the_same_or_a_sentence(name, tmp_path, quick_run, no_second_process, capsys):
    (tmp_path / "files").mkdir()
    check_mutations(name, tmp_path / "files", quick_run, MUTATIONS[True], capsys)
