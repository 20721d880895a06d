"""Folders of real videos of many kinds, killed and damaged runs, and the embedded corpus."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vmaf_research.corpora.clips import clips_corpus
from vmaf_research.corpora.embedded import embedded_corpus, embedded_sources
from vmaf_research.corpora.extract import extract, pairs_path
from vmaf_research.corpora.ladder import LADDERS, record_path
from vmaf_research.measure.core import BadInput
from vmaf_research.measure.engine import ffmpeg_path, run_ffmpeg
from vmaf_research.measure.features import TABLE_COLUMNS, TEACHERS
from vmaf_research.measure.manifest import open_manifest, verify
from vmaf_research.measure.provenance import seal, sha256_file, write_json
from vmaf_research.measure.video import open_clip

SMALL = {"height": 64, "frames": 8, "progress": False}
SHORT = {codec: (rungs[0], *rungs[3:6]) for codec, rungs in LADDERS.items()}  # the best and the three worst
RUNGS = 4


def make_video(path, pattern="testsrc2", size="160x90", frames=10, options=(), sound=()):
    "A small real video, drawn and encoded by ffmpeg."
    source = ["-f", "lavfi", "-i", f"{pattern}=size={size}:rate=25"]
    run_ffmpeg([*source, *sound, "-frames:v", str(frames), *options, str(path)])


@pytest.fixture(scope="module", autouse=True)
def short_ladders():
    with pytest.MonkeyPatch.context() as patch:
        for codec, rungs in SHORT.items():
            patch.setitem(LADDERS, codec, rungs)
        yield


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    "A folder with everything that people put into a folder of videos."
    folder = tmp_path_factory.mktemp("mixed")
    lossless = ["-c:v", "libx264", "-qp", "0", "-pix_fmt", "yuv420p"]
    make_video(folder / "plain.mkv", options=lossless)
    full_range = ["-vf", "scale=out_range=full", "-pix_fmt", "yuvj420p", "-color_range", "pc"]
    make_video(folder / "full range.avi", options=[*full_range, "-c:v", "mjpeg", "-q:v", "2"])
    make_video(folder / "deep.mkv", "mandelbrot", options=["-c:v", "libx265", "-pix_fmt", "yuv420p10le", "-crf", "12"])
    make_video(folder / "odd.mkv", size="161x91", options=["-c:v", "ffv1", "-pix_fmt", "yuv444p"])
    make_video(folder / "portrait.webm", size="90x160", options=["-c:v", "libvpx-vp9", "-pix_fmt", "yuv420p"])
    sound = ["-f", "lavfi", "-i", "sine=frequency=440:duration=0.4"]
    make_video(folder / "sound.mp4", options=[*lossless, "-c:a", "aac"], sound=sound)
    make_video(folder / "rgb.mkv", "mandelbrot", options=["-c:v", "ffv1", "-pix_fmt", "bgr0"])
    make_video(folder / "pictures.gif")
    uneven = ["-vf", "setpts=(N+floor(N/3)*5)/25/TB", "-fps_mode", "vfr"]
    make_video(folder / "uneven.mkv", options=[*uneven, *lossless])
    make_video(folder / "twins.mp4", options=lossless)
    make_video(folder / "twins.mkv", options=lossless)
    make_video(folder / "short.mkv", frames=3, options=lossless)
    make_video(folder / "cut.mp4", frames=10, options=[*lossless, "-movflags", "+faststart"])
    whole = (folder / "cut.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("this is not a video")
    (folder / "notes.txt").write_text("remember")
    (folder / "raw.yuv").write_bytes(bytes(160 * 90 * 3 // 2))
    (folder / "sub").mkdir()
    return folder


@pytest.fixture(scope="module")
def mixed_corpus(mixed, tmp_path_factory):
    return clips_corpus(mixed, tmp_path_factory.mktemp("work"), **SMALL)


def test_every_file_is_used_or_named(mixed, mixed_corpus):
    used = {"plain", "full-range", "deep", "odd", "portrait", "sound", "uneven", "rgb"}
    assert set(mixed_corpus.sources) == used
    named = {problem.id for problem in mixed_corpus.problems}
    assert named == {"twins.mp4", "twins.mkv", "short.mkv", "cut.mp4", "empty.mp4", "text.mp4", "raw.yuv"}
    noted = {warning.split(":")[0] for warning in mixed_corpus.warnings}
    assert noted == {"notes.txt", "sub", "pictures.gif"}
    assert len(mixed_corpus.pairs) == RUNGS * len(used)
    assert len(used | named | noted) == len(list(mixed.iterdir()))


def test_problems_say_what_is_wrong(mixed_corpus):
    reasons = {problem.id: problem.reason for problem in mixed_corpus.problems}
    assert "twins.mkv, twins.mp4" in reasons["twins.mp4"]
    assert "has only 3 frames" in reasons["short.mkv"]
    assert "cut off" in reasons["cut.mp4"]
    assert "the file is empty" in reasons["empty.mp4"]
    assert "not a video" in reasons["text.mp4"]
    assert "no header" in reasons["raw.yuv"]
    with pytest.raises(BadInput, match="7 problems found"):
        mixed_corpus.raise_problems()


def test_references_have_one_form(mixed_corpus):
    references = {pair.source: pair.reference for pair in mixed_corpus.pairs}
    for clip in references.values():
        assert open_clip(clip.path) == clip
        assert (clip.height, clip.frames, clip.full_range) == (64, 8, False)
    depths = {source: clip.pix_fmt for source, clip in references.items()}
    assert depths == dict.fromkeys(references, "yuv420p") | {"deep": "yuv420p10le"}
    sizes = {source: clip.width for source, clip in references.items()}
    assert (sizes["plain"], sizes["odd"], sizes["portrait"]) == (114, 114, 36)


def test_full_range_and_uneven_times_change_nothing(mixed_corpus):
    "The same ten frames came as limited, full range, with sound and with uneven time stamps."
    references = {pair.source: pair.reference for pair in mixed_corpus.pairs}
    plain = luma(references["plain"])
    assert np.array_equal(plain, luma(references["sound"]))
    assert np.array_equal(plain, luma(references["uneven"]))
    difference = np.abs(plain - luma(references["full-range"]))
    assert difference.mean() < 3  # Motion JPEG is lossy; taken for limited, it would be off by ten
    assert abs(plain.mean() - luma(references["full-range"]).mean()) < 1


def luma(clip):
    "All luma of a Y4M reference as floats."
    data = np.frombuffer(clip.path.read_bytes(), dtype=np.uint8)
    frame = clip.width * clip.height * 3 // 2
    frames = data[len(data) - clip.frames * (frame + 6) :].reshape(clip.frames, frame + 6)  # each after FRAME\n
    return frames[:, 6 : 6 + clip.width * clip.height].astype(float)


def test_extract_of_a_mixed_folder(mixed_corpus, tmp_path):
    with pytest.raises(BadInput, match="text.mp4"):
        extract(mixed_corpus, tmp_path / "t.parquet", progress=False)
    assert list(tmp_path.iterdir()) == []
    done = extract(mixed_corpus, tmp_path / "t.parquet", allow_failures=True, progress=False)
    table = pd.read_parquet(done.table)
    assert tuple(table.columns) == TABLE_COLUMNS
    assert len(table) == done.rows == 8 * len(mixed_corpus.pairs)
    assert table["vmaf"].between(0, 100).all()
    assert table["codec"].unique().tolist() == ["libx264"]
    facts = open_manifest(done.manifest).facts
    assert facts["counts"]["failures"] == len(mixed_corpus.problems)
    assert {failure["id"] for failure in facts["failures"]} == {problem.id for problem in mixed_corpus.problems}
    assert verify(done.manifest).ok


@pytest.mark.parametrize("content", [{}, {"notes.txt": b"hello"}])
def test_a_folder_without_video(tmp_path, content):
    for name, data in content.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(BadInput, match="has no video"):
        clips_corpus(tmp_path, tmp_path / "work", **SMALL)


def test_only_unusable_videos(tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "broken.mp4").write_bytes(b"\0" * 1000)
    with pytest.raises(BadInput, match="broken.mp4"):
        clips_corpus(tmp_path / "videos", tmp_path / "work", **SMALL)


@pytest.fixture
def folder(tmp_path):
    "Two videos."
    path = tmp_path / "videos"
    path.mkdir()
    make_video(path / "bars.mkv", options=["-c:v", "ffv1"])
    make_video(path / "zoom.mkv", "mandelbrot", options=["-c:v", "ffv1"])
    return path


@pytest.mark.parametrize("codec", ["libx265", "libsvtav1"])
def test_other_codecs(folder, tmp_path, codec):
    (folder / "zoom.mkv").unlink()
    corpus = clips_corpus(folder, tmp_path / "work", codecs=[codec], **SMALL)
    assert corpus.problems == ()
    done = extract(corpus, tmp_path / "t.parquet", progress=False)
    pairs = pd.read_parquet(done.pairs)
    assert pairs["codec"].unique().tolist() == [codec]
    assert sorted(pairs["crf"]) == sorted(quality for _, quality in LADDERS[codec])
    assert pairs["size_bytes"].between(100, 100_000).all() and pairs["bitrate_kbps"].gt(0).all()
    means = pd.read_parquet(done.table).groupby("dis_basename")["vmaf"].mean()
    assert means.max() > 90 and means.max() - means.min() > 20


def test_several_codecs_in_one_corpus(folder, tmp_path):
    corpus = clips_corpus(folder, tmp_path / "work", codecs=["libx264", "libsvtav1"], **SMALL)
    assert {pair.codec for pair in corpus.pairs} == {"libx264", "libsvtav1"}
    assert len(corpus.pairs) == 2 * (RUNGS + len(LADDERS["libsvtav1"]))


def test_an_encoder_that_writes_an_empty_stream(folder, tmp_path, monkeypatch):
    "It exits with 0; its encodes are named, the others are used."
    program = tmp_path / "ffmpeg"
    program.write_text(
        f"#!{sys.executable}\nimport os, sys\n"
        "if 'libx264' in sys.argv and sys.argv[sys.argv.index('-crf') + 1] == '14':\n"
        "    open(sys.argv[-1], 'wb').close()\n    sys.exit(0)\n"
        f"os.execv({ffmpeg_path()!r}, ['ffmpeg', *sys.argv[1:]])\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("VMAF_FFMPEG", str(program))
    corpus = clips_corpus(folder, tmp_path / "work", **SMALL)
    names = ["bars/bars_libx264_64p_crf14.mp4", "zoom/zoom_libx264_64p_crf14.mp4"]
    assert [problem.id for problem in corpus.problems] == names
    assert all("wrote nothing" in problem.reason for problem in corpus.problems)
    assert len(corpus.pairs) == 2 * (RUNGS - 1)
    monkeypatch.undo()
    healed = clips_corpus(folder, tmp_path / "work", **SMALL)
    assert (healed.problems, len(healed.pairs)) == ((), 2 * RUNGS)


PROGRAM = f"""
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from vmaf_research.corpora.clips import clips_corpus
from vmaf_research.corpora.extract import extract
from vmaf_research.corpora.ladder import LADDERS
LADDERS["libx264"] = {SHORT["libx264"]}
videos, work = map(Path, sys.argv[1:])
with ThreadPoolExecutor(1) as executor:
    corpus = clips_corpus(videos, work, height=64, frames=8, executor=executor, progress=False)
    extract(corpus, work / "out" / "t.parquet", cache=work / "cache", executor=executor, progress=False)
"""


def start(videos, work):
    "A process that does what `finish` does."
    return subprocess.Popen([sys.executable, "-c", PROGRAM, str(videos), str(work)], start_new_session=True)


def finish(videos, work):
    "How many pairs were measured until the table was there."
    corpus = clips_corpus(videos, work, **SMALL)
    return extract(corpus, work / "out" / "t.parquet", cache=work / "cache", progress=False).measured


def kill_when(process, condition, group):
    "SIGKILL a process, or its whole group, as soon as a condition holds."
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    if group:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    assert process.wait() == -signal.SIGKILL


def finished(folder, pattern):
    "Finished files of a folder, with the time of their last change."
    return {
        path.relative_to(folder): path.stat().st_mtime_ns
        for path in Path(folder).rglob(pattern)
        if ".part" not in path.name
    }


def test_killed_and_started_again(folder, tmp_path):
    "Killed three times, twice with the ffmpeg that it runs and once without."
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    assert finish(folder, calm) == 2 * RUNGS

    encodes, measurements = killed / "dis", killed / "cache"
    kill_when(start(folder, killed), lambda: len(finished(encodes, "*.mp4.json")) >= 2, group=True)
    records = finished(encodes, "*.mp4.json")
    kill_when(start(folder, killed), lambda: len(finished(encodes, "*.mp4.json")) >= 5, group=False)
    kill_when(start(folder, killed), lambda: len(finished(measurements, "*.json")) >= 3, group=True)
    measured = finished(measurements, "*.json")
    assert not (killed / "out" / "t.parquet").exists()

    assert finish(folder, killed) == 2 * RUNGS - len(measured)
    assert measured.items() <= finished(measurements, "*.json").items()
    assert records.items() <= finished(encodes, "*.mp4.json").items()
    for name in ("t.parquet", "t.parquet.pairs.parquet"):
        assert sha256_file(killed / "out" / name) == sha256_file(calm / "out" / name)
    once, again = (open_manifest(work / "out" / "t.parquet").facts for work in (calm, killed))
    assert once["counts"] == again["counts"] and once["corpus"] == again["corpus"]
    assert sorted(path.name for path in (killed / "out").iterdir()) == sorted(
        path.name for path in (calm / "out").iterdir()
    )


@pytest.fixture(scope="module")
def two_pairs(tmp_path_factory):
    "A small corpus with two pairs, extracted once."
    root = tmp_path_factory.mktemp("two")
    (root / "videos").mkdir()
    make_video(root / "videos" / "bars.mkv", options=["-c:v", "ffv1"])
    corpus = clips_corpus(root / "videos", root / "work", **SMALL)
    corpus = type(corpus)(corpus.name, corpus.root, corpus.pairs[:2])
    done = extract(corpus, root / "t.parquet", cache=root / "cache", progress=False)
    assert done.measured == 2
    return root, corpus, sha256_file(done.table)


def run_again(two_pairs, **options):
    root, corpus, digest = two_pairs
    done = extract(corpus, root / "t.parquet", **{"cache": root / "cache", "progress": False, **options})
    assert sha256_file(done.table) == digest
    return done.measured


def stored(two_pairs):
    return sorted((two_pairs[0] / "cache").rglob("*.json"))


def test_nothing_is_measured_twice(two_pairs):
    assert run_again(two_pairs) == 0


def test_a_flipped_bit_in_the_cache(two_pairs):
    path = stored(two_pairs)[0]
    data = bytearray(path.read_bytes())
    for position in (10, len(data) // 2, len(data) - 3):
        data = bytearray(path.read_bytes())
        data[position] ^= 1
        path.write_bytes(data)
        assert run_again(two_pairs) == 1


def test_a_measurement_of_another_pair(two_pairs):
    first, second = stored(two_pairs)
    shutil.copy(first, second)
    assert run_again(two_pairs) == 1


def test_a_cache_entry_that_says_something_else(two_pairs):
    path = stored(two_pairs)[0]
    write_json(path, seal({"unrelated": 1}))
    assert run_again(two_pairs) == 1


def test_another_selection_is_measured_anew(two_pairs):
    root, corpus, _ = two_pairs
    options = {"cache": root / "cache", "progress": False}
    more = extract(corpus, root / "u.parquet", features="canonical6", **options)
    assert more.measured == 2
    other = extract(corpus, root / "v.parquet", teachers=["vmaf_v0.6.1", "vmaf_v0.6.1neg"], **options)
    assert other.measured == 2
    own = [name for name in TEACHERS["vmaf_v0.6.1neg"].inputs if name not in TABLE_COLUMNS]
    assert list(pd.read_parquet(other.table).columns) == [*TABLE_COLUMNS, "vmaf_neg", *own]
    assert run_again(two_pairs) == 0


def test_worker_processes(two_pairs, tmp_path):
    with ProcessPoolExecutor(1) as executor:
        assert run_again(two_pairs, executor=executor, cache=tmp_path / "cache") == 2


def test_leftovers_of_a_killed_run_are_swept(two_pairs):
    root = two_pairs[0]
    for name in (".t.0123abcd.part.parquet", ".t.parquet.manifest.0123abcd.part.json"):
        (root / name).write_bytes(b"half")
    run_again(two_pairs)
    assert list(root.glob(".*")) == []


def test_a_pair_that_fails(two_pairs, tmp_path):
    "It is named, counted and left out; an encode that was cut off after the corpus was made."
    _, corpus, _ = two_pairs
    path = corpus.pairs[1].distorted.path
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    try:
        with pytest.raises(BadInput, match=path.name):
            extract(corpus, tmp_path / "t.parquet", progress=False)
        done = extract(corpus, tmp_path / "t.parquet", allow_failures=True, progress=False)
    finally:
        path.write_bytes(whole)
    assert pd.read_parquet(done.table)["dis_basename"].unique().tolist() == [corpus.pairs[0].dis_basename]
    assert len(pd.read_parquet(pairs_path(done.table))) == 1
    facts = open_manifest(done.manifest).facts
    assert facts["counts"]["failures"] == 1 and path.name in facts["failures"][0]["id"]


def test_a_file_that_vanished(two_pairs, tmp_path):
    _, corpus, _ = two_pairs
    path = corpus.pairs[1].distorted.path
    moved = path.rename(path.with_name("moved"))
    try:
        with pytest.raises(BadInput, match=f"{path.name}: cannot be read"):
            extract(corpus, tmp_path / "t.parquet", progress=False)
    finally:
        moved.rename(path)
    assert list(tmp_path.iterdir()) == []


def test_the_embedded_corpus_is_deterministic(tmp_path):
    sources = ["mandelbrot", "rocket"]
    first, second = (
        embedded_corpus(tmp_path / name, height=72, frames=5, sources=sources, progress=False) for name in "ab"
    )
    files = {path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*")}
    assert files == {path.relative_to(tmp_path / "b") for path in (tmp_path / "b").rglob("*.*")}
    assert len(files) == 2 * (2 + len(first.pairs))  # references, encodes, and a record of each
    for path in files:
        assert sha256_file(tmp_path / "a" / path) == sha256_file(tmp_path / "b" / path), path
    assert first.snapshot() == second.snapshot()


def test_the_embedded_corpus_has_enough_sources():
    assert len(embedded_sources()) >= 9
    assert 60 <= len(embedded_sources()) * 6 <= 80


def test_quality_of_the_embedded_corpus_falls_along_the_ladder(tmp_path):
    corpus = embedded_corpus(tmp_path, height=90, frames=6, sources=["chelsea", "gravel"], progress=False)
    done = extract(corpus, tmp_path / "t.parquet", progress=False)
    table = pd.read_parquet(done.table)
    for source in corpus.sources:
        names = [pair.dis_basename for pair in corpus.pairs if pair.source == source]
        means = [table[table["dis_basename"] == name]["vmaf"].mean() for name in names]
        assert means == sorted(means, reverse=True)
        assert means[0] > 85 and means[-1] < 40


def test_records_are_beside_their_files(two_pairs):
    for pair in two_pairs[1].pairs:
        assert record_path(pair.distorted.path).is_file()
