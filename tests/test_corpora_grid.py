"""Encode grids: killed runs, damaged files, broken sources, lying encoders, and what stands in rows and manifest."""

import errno
import json
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pandas as pd
import pytest

from vmaf_research.corpora.grid import VOLATILE_KEYS, grid, stable_digest
from vmaf_research.corpora.rows import ROW_KEYS, read_corpus_rows
from vmaf_research.measure.core import BadInput
from vmaf_research.measure.encode import ENCODERS
from vmaf_research.measure.engine import ffmpeg_path, run_ffmpeg
from vmaf_research.measure.features import CANONICAL_6
from vmaf_research.measure.libvmaf import measure
from vmaf_research.measure.manifest import open_manifest, verify
from vmaf_research.measure.packets import pictures
from vmaf_research.serve.cli import main

FAST = {"preset": "ultrafast", "progress": False}
TWO = {"codecs": ("libx264", "libsvtav1"), "qualities": ("25,35,45", "libsvtav1=30:60:15"), **FAST}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    "A folder with two small videos of different geometry and rate."
    folder = tmp_path_factory.mktemp("grid") / "videos"
    folder.mkdir()
    patterns = {"bars.mkv": "testsrc2=size=98x64:rate=25", "fractal.mp4": "mandelbrot=size=96x72:rate=24"}
    for name, pattern in patterns.items():
        video = ["-frames:v", "12", "-c:v", "libx264", "-crf", "8", "-pix_fmt", "yuv420p", str(folder / name)]
        run_ffmpeg(["-f", "lavfi", "-i", pattern, *video])
    return folder


@pytest.fixture(scope="module")
def made(videos, tmp_path_factory):
    "A finished grid of two codecs and three qualities."
    out = tmp_path_factory.mktemp("made") / "g.jsonl"
    return grid(videos, out, **TWO)


def test_rows_of_real_encodes(made, videos):
    rows = pd.DataFrame(made.rows)
    assert len(rows) == made.made == 12 and list(rows) == list(ROW_KEYS)
    assert read_corpus_rows(made.path).rows == made.rows
    assert rows["crf"].tolist() == [25, 35, 45, 30, 45, 60] * 2
    assert set(rows["src"]) == {"bars.mkv", "fractal.mp4"} and set(rows["preset"]) == {"ultrafast", "13"}
    for _, curve in rows.groupby(["src", "encoder"]):
        assert (np.diff(curve["vmaf_score"]) < 0).all() and (np.diff(curve["bitrate_kbps"]) < 0).all()
        assert (np.diff(curve["enc_internal_qp_mean"]) > 0).all()
    x264 = rows[rows["encoder"] == "libx264"]
    assert x264["enc_internal_intra_ratio"].between(0, 1, inclusive="neither").all()
    assert (rows.loc[rows["encoder"] == "libsvtav1", "enc_internal_intra_ratio"] == 0).all()  # it does not tell
    texture = x264["enc_internal_itex_mean"] + x264["enc_internal_ptex_mean"]
    told = texture + x264["enc_internal_mv_mean"]
    assert (texture > 0).all() and (told < x264["enc_internal_bits_mean"]).all()  # the rest is headers
    assert (rows["shot_count"] == 1).all() and (rows["shot_avg_duration_sec"] == rows["duration_s"]).all()
    assert set(rows["extra_params"]) == {""}


def test_a_row_says_what_measuring_again_says(made):
    row = made.rows[4]
    encode = made.path.parent / row["encode_path"]
    reference = made.path.parent / "g.grid/ref/bars.y4m"
    measured = measure(reference, encode, features=CANONICAL_6)
    assert row["vmaf_score"] == pytest.approx(measured.mean()["vmaf"], abs=1e-9)
    for name in CANONICAL_6:
        assert row[f"{name}_mean"] == pytest.approx(np.mean(measured.columns[name]), abs=1e-9)
        assert row[f"{name}_std"] == pytest.approx(np.std(measured.columns[name]), abs=1e-9)
    bits = [8 * picture.size for picture in pictures(encode)]
    assert row["enc_internal_bits_mean"] == pytest.approx(np.mean(bits))
    assert row["bitrate_kbps"] == pytest.approx(sum(bits) / 1000 / row["duration_s"])
    assert row["encode_size_bytes"] == encode.stat().st_size


def test_a_grid_run_twice(made, videos):
    before = {path: path.read_bytes() for path in made.path.parent.rglob("*") if path.is_file()}
    again = grid(videos, made.path, **TWO)
    assert again.made == 0 and again.rows == made.rows
    after = {path: path.read_bytes() for path in made.path.parent.rglob("*") if path.is_file()}
    assert after.keys() == before.keys()
    assert [path.name for path in before if before[path] != after[path]] in ([], [made.manifest.name])


def test_a_killed_grid_is_finished_with_the_same_rows(videos, tmp_path, made):
    words = ["corpus", "grid", "--sources", videos, "--out", tmp_path / "g.jsonl", "--codecs", "libx264,libsvtav1",
             "--crf", "25,35,45", "--crf", "libsvtav1=30:60:15", "--preset", "ultrafast", "-q"]  # fmt: skip
    entry = "import sys; from vmaf_research.serve.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", entry, *map(str, words)]
    process = subprocess.Popen(command, start_new_session=True)
    folder = tmp_path / "g.grid/dis"
    deadline = time.monotonic() + 60
    while len(list(folder.glob("*.json"))) < 4:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "g.jsonl").exists()
    finished = {path.name: path.read_bytes() for path in folder.glob("[!.]*.json")}
    assert main([str(word) for word in words]) == 0
    rows = read_corpus_rows(tmp_path / "g.jsonl").rows
    assert stable_digest(rows) == stable_digest(made.rows)
    for name, content in finished.items():
        assert (folder / name).read_bytes() == content
        assert json.loads(content)["row"] in rows  # with the times of the run that was killed
    assert not list(folder.glob(".*"))
    own, other = (open_manifest(path).facts for path in (tmp_path / "g.jsonl", made.path))
    rest = [{key: fact for key, fact in facts.items() if key != "run_provenance"} for facts in (own, other)]
    assert rest[0] == rest[1]
    outputs = [facts["run_provenance"]["outputs"] for facts in (own, other)]
    assert outputs[0]["rows"]["sha256_apart_from"] == outputs[1]["rows"]["sha256_apart_from"]
    assert {**outputs[0], "rows": None} == {**outputs[1], "rows": None}  # all encodes byte for byte


def test_a_changed_byte_is_found_and_repaired(made, videos, tmp_path, capsys):
    shutil.copytree(made.path.parent, tmp_path / "copy")
    shutil.copytree(videos, tmp_path / "videos")
    out = tmp_path / "copy/g.jsonl"
    assert grid(tmp_path / "videos", out, **TWO).made == 0
    assert verify(out).ok
    encode = out.parent / made.rows[2]["encode_path"]
    content = encode.read_bytes()
    encode.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert main(["manifest", "verify", str(out)]) == 1
    assert encode.name in capsys.readouterr().err
    repaired = grid(tmp_path / "videos", out, **TWO)
    assert repaired.made == 1 and encode.read_bytes() == content and verify(out).ok
    assert stable_digest(repaired.rows) == stable_digest(made.rows)


def test_rows_without_times_are_the_same_everywhere(made):
    row = made.rows[0]
    assert stable_digest([row | {"timestamp": "", "encode_time_ms": 1.0}]) == stable_digest([row])
    assert stable_digest([row | {"crf": 26.0}]) != stable_digest([row])
    assert {key for key in ROW_KEYS if "time" in key} - {"timestamp"} < set(VOLATILE_KEYS)


def test_broken_and_short_sources_are_named(videos, tmp_path):
    shutil.copytree(videos, tmp_path / "videos")
    (tmp_path / "videos/broken.mp4").write_bytes((videos / "fractal.mp4").read_bytes()[:900])
    (tmp_path / "videos/readme.txt").write_text("hello")
    options = {"codecs": ("libx264",), "qualities": ("40",), **FAST}
    with pytest.raises(BadInput, match=r"broken\.mp4: .*\nor pass --allow-failures"):
        grid(tmp_path / "videos", tmp_path / "g.jsonl", **options)
    assert not (tmp_path / "g.jsonl").exists()
    made = grid(tmp_path / "videos", tmp_path / "g.jsonl", allow_failures=True, **options)
    assert len(made.rows) == 2 and [failure.id for failure in made.failures] == ["broken.mp4"]
    assert "broken.mp4" in made._repr_html_() and any("readme.txt" in text for text in made.warnings)
    facts = open_manifest(made.path).facts
    assert facts["counts"] == {"sources": 2, "rows": 2, "failures": 1} and facts["failures"][0]["id"] == "broken.mp4"
    (tmp_path / "empty").mkdir()
    for name, said in (("none", "no such folder"), ("empty", "has no video")):
        with pytest.raises(BadInput, match=said):
            grid(tmp_path / name, tmp_path / "h.jsonl", **options)


def test_an_encoder_that_writes_nothing(videos, tmp_path, monkeypatch):
    program = tmp_path / "ffmpeg"
    lines = [
        f"#!{sys.executable}",
        "import os, sys",
        "if 'libsvtav1' in sys.argv:",
        "    open(sys.argv[-1], 'wb').close()",
        "    sys.exit(0)",
        f"os.execv({ffmpeg_path()!r}, ['ffmpeg', *sys.argv[1:]])",
    ]
    program.write_text("\n".join(lines))
    program.chmod(0o755)
    monkeypatch.setenv("VMAF_FFMPEG", str(program))
    options = {"codecs": ("libx264", "libsvtav1"), "qualities": ("40",), **FAST}
    with pytest.raises(BadInput, match="bars_libsvtav1_13_64p_40.mp4: libsvtav1 exited without an error but wrote"):
        grid(videos, tmp_path / "g.jsonl", **options)
    assert [path.name for path in tmp_path.glob("g*")] == ["g.grid"]
    made = grid(videos, tmp_path / "g.jsonl", allow_failures=True, **options)
    assert made.made == 0 and [row["encoder"] for row in made.rows] == ["libx264", "libx264"]
    assert open_manifest(tmp_path / "g.jsonl").facts["counts"]["failures"] == 2
    assert not [path for path in (tmp_path / "g.grid/dis").iterdir() if "svtav1" in path.name]


def test_a_failed_cell_costs_no_earlier_rows(made, videos, tmp_path, capsys):
    shutil.copytree(made.path.parent, tmp_path / "copy")
    out, table = tmp_path / "copy/g.jsonl", tmp_path / "copy/t.parquet"
    encode = out.parent / made.rows[0]["encode_path"]
    encode.unlink()
    encode.mkdir()  # renaming the new encode to it fails
    before = {path: path.read_bytes() for path in out.parent.rglob("*") if path.is_file()}
    words = ["corpus", "grid", "--sources", str(videos), "--out", str(out), "--codecs", "libx264,libsvtav1", "-q",
             "--crf", "25,35,45", "--crf", "libsvtav1=30:60:15", "--preset", "ultrafast",
             "--per-frame", str(table)]  # fmt: skip
    assert main(words) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-3] == f"error: {out}: 1 of 12 cells failed:"
    assert lines[-2].startswith(f"  bars/{encode.name}: {encode}: ")
    assert lines[-1].startswith("nothing was written, finished cells are kept for the next run; repair them, or pass")
    assert {path: path.read_bytes() for path in out.parent.rglob("*") if path.is_file()} == before
    assert main([*words, "--allow-failures"]) == 0
    assert f"left out: bars/{encode.name}" in capsys.readouterr().err
    assert read_corpus_rows(out).rows == made.rows[1:] and table.is_file()


def test_a_full_disk_is_the_failure_of_a_cell(videos, tmp_path, monkeypatch):
    def full(path):
        if path.name.startswith("bars"):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return pictures(path)

    monkeypatch.setattr("vmaf_research.corpora.grid.pictures", full)
    options = {"codecs": ("libx264",), "qualities": ("40",), **FAST}
    with pytest.raises(BadInput, match="1 of 2 cells failed:\n  bars/.*: No space left on device\nnothing was written"):
        grid(videos, tmp_path / "g.jsonl", **options)
    assert len(grid(videos, tmp_path / "g.jsonl", allow_failures=True, **options).rows) == 1


def test_coarse_to_fine_stays_inside_each_range(videos, tmp_path):
    (tmp_path / "one").mkdir()
    shutil.copy(videos / "fractal.mp4", tmp_path / "one")
    options = {"codecs": ("libx264", "libsvtav1"), "target": 92.0, "frames": 8, **FAST}
    made = grid(tmp_path / "one", tmp_path / "g.jsonl", per_frame=tmp_path / "t.parquet", **options)
    rows = pd.DataFrame(made.rows)
    assert set(rows["clip_mode"]) == {"first_8_frames"}
    for (src, codec), curve in rows.groupby(["src", "encoder"]):
        best, worst = ENCODERS[codec].quality_range
        assert curve["crf"].is_unique and curve["crf"].between(best, worst).all() and len(curve) > 5
        around = curve.set_index("crf")["vmaf_score"]
        assert any(around[value] >= 92 > around.get(value + 1, 100) for value in around.index), (src, codec, around)
    table = pd.read_parquet(tmp_path / "t.parquet")
    assert len(table) == 8 * len(rows) and verify(tmp_path / "t.parquet").ok
    means = table.groupby("dis_basename")["vmaf"].mean()
    names = [path.rsplit("/", 1)[1] for path in rows["encode_path"]]
    assert means.loc[names].tolist() == pytest.approx(rows["vmaf_score"].tolist())


def test_a_sample_is_the_middle(videos, tmp_path):
    options = {"codecs": ("libx264",), "qualities": ("40",), **FAST}
    made = grid(videos, tmp_path / "g.jsonl", seconds=0.34, **options)
    assert {row["clip_mode"] for row in made.rows} == {"sample_0.34s"}
    with ProcessPoolExecutor(1) as executor:  # jobs travel to other processes
        whole = grid(videos, tmp_path / "h.jsonl", executor=executor, **options)
    assert whole.rows[0]["clip_mode"] == "full" and whole.rows[0]["duration_s"] == pytest.approx(12 / 25)
    samples, frames = (np.fromfile(tmp_path / name / "ref/bars.y4m", np.uint8) for name in ("g.grid", "h.grid"))
    size = 6 + 98 * 64 * 3 // 2  # with the word FRAME
    assert made.rows[0]["duration_s"] == pytest.approx(8 / 25)
    assert (samples[-8 * size :] == frames[-12 * size :][2 * size : 10 * size]).all()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--crf", "60"], "libx264: crf 60 is outside its range, 0 to 51"),
        (["--crf", "25:x"], "expected values such as 25,35,45"),
        ([], "no qualities were given"),
        (["--crf", "30", "--preset", "quick"], "has no preset 'quick'"),
        (["--crf", "30", "--coarse-to-fine"], "--coarse-to-fine and --target go together"),
        (["--crf", "30", "--coarse-to-fine", "--target", "90"], "not both"),
        (["--coarse-to-fine", "--target", "900"], "VMAF goes from 0 to 100"),
        (["--crf", "30", "--height", "16"], "height 16: expected at least 32"),
        (["--crf", "30", "--codecs", "x264"], "codec 'x264': not known here; choose from libx264"),
        (["--crf", "30", "--codecs", ""], "no codec was named"),
        (["--bitrate", "100", "--codecs", "libsvtav1"], "libsvtav1: is not driven in two passes here; a bit rate is"),
        (["--bitrate", "0"], "a bit rate of 0 kbit/s; expected more than 0"),
        (["--crf", "30", "--extra-params", "-crf 20"], "-crf is decided by what encodes it here"),
        (["--crf", "30", "--extra-params", "-vf null"], "libx264: has no option -vf"),
    ],
)
def test_words_that_make_no_sense(videos, tmp_path, capsys, words, said):
    out = tmp_path / "g.jsonl"
    assert main(["corpus", "grid", "--sources", str(videos), "--out", str(out), "-q", *words]) == 2
    assert said in capsys.readouterr().err and not list(tmp_path.iterdir())
