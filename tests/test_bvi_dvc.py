"""BVI-DVC on stand-ins: photographs in the names and layout of the set, killed runs, archives that make trouble."""

import json
import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pandas as pd
import pytest

from vmaf_research.corpora.bvi_dvc import extract_bvi_dvc, list_videos, take_out
from vmaf_research.corpora.embedded import load_still, still_planes
from vmaf_research.corpora.row_tools import rows_from_logs
from vmaf_research.measure.core import BadInput
from vmaf_research.measure.engine import run_ffmpeg
from vmaf_research.measure.manifest import open_manifest
from vmaf_research.measure.provenance import sha256_file
from vmaf_research.serve.cli import main

FRAMES = 3
CONTENTS = ("astronaut", "coffee", "chelsea")


PLANES = ((272, 480), (136, 240), (136, 240))  # rows and columns of tier D


def write_sequence(path, content):
    "A photograph that moves, as raw 10-bit video of tier D; small ones are mirrored at their edges."
    planes = still_planes(load_still(content))
    with open(path, "wb") as file:
        for frame in range(FRAMES):
            for plane, (rows, columns) in zip(planes, PLANES, strict=True):
                step = 2 * frame * columns // 480
                samples = (4 * plane[:rows, step : step + columns]).astype("<u2")
                missing = (rows - samples.shape[0], columns - samples.shape[1])
                file.write(np.pad(samples, [(0, count) for count in missing], mode="symmetric").tobytes())


def key_of(content, tier="D", size="480x272"):
    return f"{tier}{content.capitalize()}_{size}_25fps_10bit_420"


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    "Three sequences of tier D as raw video in an archive like Part 1."
    folder = tmp_path_factory.mktemp("bvi")
    path = folder / "BVI-DVC Part 1.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for content in CONTENTS:
            write_sequence(folder / "sequence.yuv", content)
            made.write(folder / "sequence.yuv", f"BVI-DVC Part 1/Videos/{key_of(content)}.yuv")
    return path


def words(archive, out, *more):
    options = ["--crf", "30,40", "--preset", "ultrafast", "-q"]
    return ["extract", "bvi-dvc", str(archive), "--out", str(out), *options, *more]


@pytest.fixture(scope="module")
def extracted(archive, tmp_path_factory):
    "A finished extraction, and its folder."
    folder = tmp_path_factory.mktemp("extracted")
    assert main(words(archive, folder / "t.parquet")) == 0
    return folder


def test_table_and_pairs(extracted):
    table, pairs = (pd.read_parquet(extracted / name) for name in ("t.parquet", "t.parquet.pairs.parquet"))
    assert table.shape == (len(CONTENTS) * 2 * FRAMES, 30)
    assert sorted(set(table["source"])) == sorted(content.capitalize() for content in CONTENTS)
    assert table[["vmaf", "adm2", "psnr_y"]].notna().all().all()
    by_quality = pairs.merge(table, on=["source", "dis_basename"]).groupby(["source", "crf"])["vmaf"].mean().unstack()
    assert (by_quality[30.0] > by_quality[40.0]).all()
    assert set(pairs["pix_fmt"]) == {"yuv420p10le"} and set(pairs["frames"]) == {FRAMES}
    assert set(pairs["reference_size"]) == {480 * 272 * 3 * FRAMES}


def test_no_sequence_stays_on_the_disk(extracted):
    assert {path.suffix for path in (extracted / "t.corpus" / "ref").iterdir()} == {".json"}


def test_manifest_sees_a_changed_byte(archive, extracted, capsys):
    table = extracted / "t.parquet"
    assert main(["manifest", "verify", str(table)]) == 0
    encode = next((extracted / "t.corpus" / "dis").glob("*.mp4"))
    for path in (archive, encode, table):
        raw = path.read_bytes()
        path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
        capsys.readouterr()
        assert main(["manifest", "verify", str(table)]) == 1
        assert path.name in capsys.readouterr().err
        path.write_bytes(raw)


OPTIONS = {"qualities": (30, 40), "preset": "ultrafast", "progress": False}  # those of `words`
PROGRAM = f"""
import sys
from pathlib import Path
from vmaf_research.corpora.bvi_dvc import extract_bvi_dvc
folder = Path(sys.argv[2])
extract_bvi_dvc(sys.argv[1], folder / "t.parquet", cache=folder / "cache", **{OPTIONS})
"""


def test_killed_and_started_again(archive, extracted, tmp_path):
    "SIGKILL after the first measurement; what was measured stays, and the bytes are those of an undisturbed run."
    command = [sys.executable, "-c", PROGRAM, str(archive), str(tmp_path)]
    running = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    stored = "cache/measure/*/[!.]*.json"
    while not list(tmp_path.glob(stored)) and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    measured = {path: path.stat().st_mtime_ns for path in tmp_path.glob(stored)}
    assert measured and not (tmp_path / "t.parquet").exists()
    left = tmp_path / "t.corpus" / "ref" / f"{key_of(CONTENTS[0])}.yuv"
    left.write_bytes(b"half of a sequence that a kill left")
    made = extract_bvi_dvc(archive, tmp_path / "t.parquet", **OPTIONS, cache=tmp_path / "cache")
    assert made.measured + len(measured) == 2 * len(CONTENTS)
    assert {path: path.stat().st_mtime_ns for path in measured} == measured
    for name in ("t.parquet", "t.parquet.pairs.parquet"):
        assert (tmp_path / name).read_bytes() == (extracted / name).read_bytes()
    assert not left.exists()


def test_other_processes_give_the_same_bytes(archive, extracted, tmp_path):
    with ProcessPoolExecutor(1) as pool:
        made = extract_bvi_dvc(archive, tmp_path / "t.parquet", executor=pool, **OPTIONS)
    assert (made.pair_count, made.measured) == (2 * len(CONTENTS), 0)  # encoded anew, to bytes that are known
    assert sha256_file(made.table) == sha256_file(extracted / "t.parquet")


def test_a_sequence_in_an_archive_of_the_same_name_is_measured_again(archive, tmp_path):
    "The archive was replaced: one sequence has other pictures."
    place = tmp_path / archive.name
    options = {"qualities": (40,), "preset": "ultrafast", "progress": False, "cache": tmp_path / "cache"}
    for contents, measured in ((("astronaut", "coffee"), 2), (("coffee", "coffee"), 1)):
        with zipfile.ZipFile(place, "w") as made:
            for name, content in zip(("One", "Two"), contents, strict=True):
                write_sequence(tmp_path / "sequence.yuv", content)
                made.write(tmp_path / "sequence.yuv", f"Videos/{key_of(name)}.yuv")
        result = extract_bvi_dvc(place, tmp_path / "t.parquet", **options)
        assert result.pair_count == 2
        pairs = pd.read_parquet(result.pairs)
        assert pairs["reference_sha256"].nunique() == len(set(contents))
        assert len(list(tmp_path.glob("cache/measure/*/[!.]*.json"))) == 2, measured


def encrypted(raw):
    "The bytes of an archive whose first entry claims to be encrypted, in both of its headers."
    changed = bytearray(raw)
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        changed[raw.index(signature) + offset] |= 1
    return bytes(changed)


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (encrypted, "is encrypted"),
        (lambda raw: raw[: len(raw) // 2], "not a zip archive that can be read, or cut off"),
        (lambda raw: raw[:200] + bytes([raw[200] ^ 255]) + raw[201:], "cannot be unpacked"),
        (lambda raw: raw.replace(b"Videos/DCoffee", b"Videos/../offe"), "leaves the archive"),
        (lambda raw: raw.replace(b"DCoffee_480x272", b"DCoffee_960x544"), "tier D is 480x272, but the name says 960"),
        (lambda raw: raw.replace(b"DCoffee_480", b"PCoffee_480"), "not a name of BVI-DVC"),
        (lambda raw: raw.replace(b"DCoffee_480x272_25fps_10bit_420", b"DCoffee_480x272_25fps_10bit_444"), "whole num"),
        (lambda raw: b"", "not a zip archive"),
    ],
    ids=["encrypted", "cut", "flipped", "climbing", "geometry", "name", "frames", "empty"],
)
def test_archives_that_make_trouble(archive, extracted, tmp_path, capsys, damage, text):
    place = tmp_path / archive.name
    place.write_bytes(damage(archive.read_bytes()))
    out = tmp_path / "t.parquet"
    assert main(words(place, out)) == 2
    assert text in capsys.readouterr().err
    assert not [path for path in tmp_path.rglob("*.yuv")]
    if text in ("not a zip archive", "not a zip archive that can be read, or cut off"):
        return
    assert main(words(place, out, "--allow-failures")) == 0
    assert "left out: " in capsys.readouterr().err
    assert len(pd.read_parquet(f"{out}.pairs.parquet")) == 2 * (len(CONTENTS) - 1)


def test_any_flipped_bit_of_an_archive_is_a_sentence(tmp_path):
    "In its directory, in the headers of entries and in data that three methods have compressed."
    place = tmp_path / "a.zip"
    methods = {"One": zipfile.ZIP_DEFLATED, "Two": zipfile.ZIP_LZMA, "Three": zipfile.ZIP_BZIP2}
    with zipfile.ZipFile(place, "w") as made:
        for name, method in methods.items():
            made.writestr(f"Videos/{key_of(name)}.yuv", bytes(480 * 272 * 3), compress_type=method)
    raw = place.read_bytes()
    refused = 0
    rng = random.Random(5)
    for position in rng.sample(range(len(raw)), 60):
        damaged = bytearray(raw)
        damaged[position] ^= 1 << rng.randrange(8)
        place.write_bytes(damaged)
        try:
            for video in list_videos(place).videos:
                with take_out(place, video, tmp_path / "work"):
                    pass
        except BadInput:
            refused += 1
    assert refused > 20
    assert list((tmp_path / "work").iterdir()) == []


@pytest.mark.parametrize("stated", [2, 4])
def test_an_archive_whose_stated_sizes_lie(stated, tmp_path):
    "Three frames, of which the table of contents says that they are two or four."
    archive, frame = tmp_path / "a.zip", 480 * 272 * 3 // 2
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("Videos/DStill_480x272_25fps_8bit_420.yuv", bytes(3 * frame))
    data = bytearray(archive.read_bytes())
    place = data.index(b"PK\x01\x02") + 24  # of the size, in the table of contents
    data[place : place + 4] = (stated * frame).to_bytes(4, "little")
    archive.write_bytes(data)
    (video,) = list_videos(archive).videos
    with pytest.raises(BadInput, match="states .* and holds|CRC"), take_out(archive, video, tmp_path / "out"):
        pass
    assert not list((tmp_path / "out").iterdir())


def test_hdr_sequences_are_guarded_and_marked_every_time(tmp_path, capsys):
    folder, out = tmp_path / "data", tmp_path / "t.parquet"
    folder.mkdir()
    sequence = folder / f"{key_of('astronaut')}.mp4"
    source = ["-f", "lavfi", "-i", "testsrc2=s=480x272:rate=25", "-frames:v", "2", "-pix_fmt", "yuv420p10le"]
    colours = "log-level=none:crf=10:colorprim=bt2020:transfer=arib-std-b67:colormatrix=bt2020nc"
    run_ffmpeg([*source, "-c:v", "libx265", "-preset", "ultrafast", "-x265-params", colours, str(sequence)])
    command = words(folder, out, "--features", "canonical6", "--measure-bits", "12")
    assert main(command) == 2 and not out.exists()
    assert "is HDR (HLG transfer, BT.2020 primaries)" in capsys.readouterr().err
    for _ in range(2):  # then everything is there from the first run
        assert main([*command, "--allow-hdr"]) == 0
        assert set(pd.read_parquet(out).hdr) == {"HLG transfer, BT.2020 primaries"}
    facts = open_manifest(out).facts
    args = facts["run_provenance"]["args"]
    assert (args["bits"], args["allow_hdr"], args["tiers"], args["qualities"]) == (12, True, ["D"], [30, 40])
    assert list(facts["references_not_kept"].values()) == [
        {"size": sequence.stat().st_size, "sha256": sha256_file(sequence)}
    ]
    assert main(command) == 2  # what was allowed once is no permission
    metrics = {"vmaf": 90.0, "adm2": 1.0, "motion2": 0.0} | {f"vif_scale{k}": 0.5 for k in range(4)}
    log = {"version": "3.2", "frames": [{"frameNum": number, "metrics": metrics} for number in range(2)]}
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / f"{sequence.stem}.json").write_text(json.dumps(log))
    made = rows_from_logs(tmp_path / "logs", tmp_path / "rows.jsonl", videos=folder, progress=False)
    row = json.loads(made.out.read_text())
    colours = {"hdr_transfer": "arib-std-b67", "hdr_primaries": "bt2020", "hdr_forced": False}
    assert colours.items() <= row.items()
