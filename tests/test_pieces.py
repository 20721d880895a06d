"Pieces of a pair: their rows are those of the whole, bit for bit, whatever the file is and wherever they lie."

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vmaf_research.corpora.extract import extract
from vmaf_research.corpora.pairs import Corpus, Pair
from vmaf_research.measure import pieces
from vmaf_research.measure.core import BadInput
from vmaf_research.measure.encode import ENCODERS, available_encoders
from vmaf_research.measure.engine import run_ffmpeg
from vmaf_research.measure.features import TEACHERS, TeacherModel
from vmaf_research.measure.libvmaf import measure
from vmaf_research.measure.measuring import Sampling
from vmaf_research.measure.pieces import measure_frames
from vmaf_research.measure.video import input_arguments, open_clip
from vmaf_research.serve.cli import main

CLIPS = Path(__file__).parents[2] / "shared" / "clips"
FRAMES = 70
GOP = ["-g", "12", "-keyint_min", "12"]
X264 = ["-c:v", "libx264", "-crf", "35", "-preset", "veryfast"]
X265 = ["-c:v", "libx265", "-crf", "36", "-preset", "ultrafast"]
WAYS = {  # file name: how it is encoded
    "one-key.mp4": [*X264, "-g", "999"],
    "pyramid.mkv": [*X264, *GOP, "-x264-params", "bframes=7:b-pyramid=normal:b-adapt=0"],
    "open.mp4": [*X264, "-x264-params", "keyint=12:open-gop=1:bframes=5:scenecut=0"],
    "open265.mp4": [*X265, "-x265-params", "keyint=12:min-keyint=12:open-gop=1:bframes=4:log-level=error"],
    "refresh.mp4": [*X264, *GOP, "-x264-params", "intra-refresh=1"],
    "svt.mp4": ["-c:v", "libsvtav1", "-crf", "50", "-preset", "12", "-g", "12"],
    "vp9.webm": ["-c:v", "libvpx-vp9", "-crf", "50", "-b:v", "0", "-deadline", "realtime", "-cpu-used", "8", *GOP],
    "hidden.webm": ["-c:v", "libvpx", "-b:v", "150k", "-auto-alt-ref", "1", "-lag-in-frames", "16", "-g", "24"],
    "mpeg4.avi": ["-c:v", "mpeg4", "-q:v", "12", "-bf", "2", "-g", "12"],
    "mpeg2.ts": ["-c:v", "mpeg2video", "-q:v", "12", "-bf", "2", "-g", "12"],
    "ffv1.mkv": ["-vf", "noise=alls=12", "-c:v", "ffv1"],
    "ten.mkv": [*X265, "-pix_fmt", "yuv420p10le", "-x265-params", "keyint=12:log-level=error"],
    "picture.y4m": ["-vf", "noise=alls=12"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pieces")


@pytest.fixture(scope="module")
def zoom(folder):
    "A fractal at a rate that no time stamp can say exactly, as raw video."
    path = folder / "zoom.yuv"
    pattern = ["-f", "lavfi", "-i", "mandelbrot=size=192x108:rate=30000/1001", "-frames:v", str(FRAMES)]
    run_ffmpeg([*pattern, "-pix_fmt", "yuv420p", "-f", "rawvideo", str(path)])
    return open_clip(path, 192, 108, fps="30000/1001")


def random_pieces(rng, frames, number):
    starts = rng.integers(0, frames - 1, number)
    drawn = [(int(start), int(min(frames, start + rng.integers(1, 6)))) for start in starts]
    return [*drawn, (0, 1), (frames - 1, frames)]


def assert_same_rows(some, whole, drawn):
    index = sorted({frame for start, end in drawn for frame in range(start, end)})
    assert some.frame_index.tolist() == index == some.to_frame()["frame_index"].tolist()
    assert list(some.columns) == list(whole.columns)
    for name, values in some.columns.items():
        np.testing.assert_array_equal(values, whole.columns[name][index], err_msg=name)


@pytest.mark.parametrize("name", WAYS)
def test_pieces_are_those_of_the_whole(folder, zoom, name):
    way = WAYS[name]
    codec = way[way.index("-c:v") + 1] if "-c:v" in way else None
    if codec in set(ENCODERS) - set(available_encoders()):
        pytest.skip(f"no {codec}")
    path = folder / name
    run_ffmpeg([*input_arguments(zoom), *way, str(path)])
    whole = measure(zoom, path)
    for seed in (1, 2):
        drawn = random_pieces(np.random.default_rng([seed, len(name)]), FRAMES, 4)
        assert_same_rows(measure_frames(zoom, path, drawn, threads=1 + seed % 2), whole, drawn)


@pytest.mark.parametrize("name", ["one-key.mp4", "open265.mp4", "pyramid.mkv", "svt.mp4", "picture.y4m"])
def test_they_are_reached_without_decoding_everything(folder, zoom, name, monkeypatch):
    "Containers whose packets are their pictures need no counting from the start."
    path = folder / name
    run_ffmpeg([*input_arguments(zoom), *WAYS[name], "-y", str(path)])
    monkeypatch.setattr(pieces._Task, "from_start", None)
    assert measure_frames(zoom, path, [(3, 5), (60, 62)], features=()).frames == 4


def test_ssimulacra2_of_pieces(folder, zoom):
    reference, path, drawn = folder / "small.y4m", folder / "small.mp4", [(5, 7), (17, 18)]
    run_ffmpeg([*input_arguments(zoom), "-frames:v", "20", "-vf", "scale=96:64", str(reference)])
    run_ffmpeg([*input_arguments(open_clip(reference)), *X264, *GOP, str(path)])
    pair, asked = (reference, path), {"features": ["ssimulacra2", "motion2"]}
    assert_same_rows(measure_frames(*pair, drawn, **asked), measure(*pair, **asked), drawn)


def test_models_for_high_frame_rates_need_more_neighbours(tmp_path, monkeypatch):
    hfr = TeacherModel("hfr", "vmaf_hfr", "version=vmaf_v1.0.16_hfr_3d0h", minimum_side=176)
    monkeypatch.setitem(TEACHERS, "hfr", hfr)
    assert pieces.warm_up([TEACHERS["vmaf_v0.6.1"]]) == (1, 1)
    assert pieces.warm_up([TEACHERS["vmaf_v0.6.1"], hfr]) == (4, 1)
    pattern = ["-f", "lavfi", "-i", "mandelbrot=size=320x180:rate=50", "-frames:v", "40", "-pix_fmt", "yuv420p"]
    run_ffmpeg([*pattern, "-c:v", "ffv1", str(tmp_path / "zoom.mkv")])
    run_ffmpeg([*pattern, *X264, *GOP, str(tmp_path / "zoom.mp4")])
    pair, drawn = (tmp_path / "zoom.mkv", tmp_path / "zoom.mp4"), [(2, 4), (9, 10), (20, 23), (25, 26), (39, 40)]
    options = {"features": "canonical6", "teachers": ("vmaf_v0.6.1", "hfr", "vmaf_v1.0.16_3d0h")}
    assert_same_rows(measure_frames(*pair, drawn, **options), measure(*pair, **options), drawn)


def test_time_stamps_that_lie_are_found_out(folder, zoom, monkeypatch):
    "A file whose list of packets is shifted by one frame gives the right rows all the same."
    path = folder / "lying.mp4"
    run_ffmpeg([*input_arguments(zoom), *X264, *GOP, str(path)])
    honest = pieces.frame_times(open_clip(path))
    lie = pieces.FrameTimes(honest.tick, [time + 7 for time in honest.times], honest.keys)
    monkeypatch.setattr(pieces, "frame_times", lambda clip: lie if clip.path == path else None)
    drawn = [(10, 12), (40, 44)]
    assert_same_rows(measure_frames(zoom, path, drawn, features=()), measure(zoom, path, features=()), drawn)


def test_what_is_refused(folder, zoom, tmp_path):
    path = folder / "short.mp4"
    run_ffmpeg([*input_arguments(zoom), "-frames:v", "60", *X264, str(path)])
    with pytest.raises(BadInput, match=r"short.mp4 has 60 frames and zoom.yuv has 70"):
        measure_frames(zoom, path, [(0, 4)])
    with pytest.raises(BadInput, match=r"frames 68 to 72 \(not included\) are no piece of its 70 frames"):
        measure_frames(zoom, zoom, [(68, 72)])
    (tmp_path / "cut.mp4").write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(BadInput, match=r"cut.mp4"):
        measure_frames(tmp_path / "cut.mp4", tmp_path / "cut.mp4", [(50, 54)])


@pytest.mark.skipif(not CLIPS.is_dir(), reason="the shared clips are not here")
def test_pieces_of_real_clips(tmp_path):
    for clip in json.loads((CLIPS / "index.json").read_text())["clips"][::4]:
        reference, path = open_clip(CLIPS / clip["file"], count=False), tmp_path / "x.mp4"
        small = ["-vf", "scale=128:72", "-pix_fmt", "yuv420p"]
        run_ffmpeg([*input_arguments(reference), *small, *X264, *GOP, "-y", str(path)])
        drawn = random_pieces(np.random.default_rng(3), clip["frames"], 2)
        some = measure_frames(path, path, drawn, features=["motion2"])
        assert_same_rows(some, measure(path, path, features=["motion2"]), drawn)


@pytest.fixture(scope="module")
def minute(folder):
    "A minute of small pictures with a calm and a busy part, as a source and as two encodes."
    kinds = ["-f", "lavfi", "-i", "testsrc2=size=64x64:rate=25", "-f", "lavfi", "-i", "mandelbrot=size=64x64:rate=25"]
    graph = "[0]trim=end_frame=1000[a];[1]trim=end_frame=500[b];[a][b]concat=n=2,format=yuv420p"
    corpus = folder / "minute"
    corpus.mkdir()
    source = ["-c:v", "libx264", "-crf", "4", "-g", "50", str(corpus / "source.mp4")]
    run_ffmpeg([*kinds, "-filter_complex", graph, *source])
    for crf in ("30", "40"):
        run_ffmpeg(["-i", str(corpus / "source.mp4"), "-c:v", "libx264", "-crf", crf, str(corpus / f"crf{crf}.mp4")])
    return corpus


def test_a_sample_of_a_corpus(minute, tmp_path):
    "The rows are those of the whole; pairs table and manifest say how they were drawn; the same again is the same."
    source = open_clip(minute / "source.mp4")
    pairs = tuple(Pair("minute", source, open_clip(minute / f"crf{crf}.mp4"), "libx264", None, crf) for crf in (30, 40))
    corpus, quiet = Corpus("minute", minute, pairs), {"features": "canonical6", "progress": False}
    tables = []
    for name, sampling in (("whole", None), ("share", Sampling(share=0.1)), ("within", Sampling(within=2, seed=3))):
        made = extract(corpus, tmp_path / f"{name}.parquet", sampling=sampling, **quiet)
        tables.append((pd.read_parquet(made.table), pd.read_parquet(made.pairs), json.loads(made.manifest.read_text())))
    (whole, pairs_of_whole, _), *sampled = tables
    assert "sampled_frames" not in pairs_of_whole
    for table, about, manifest in sampled:
        merged = table.merge(whole, on=["dis_basename", "frame_index"], suffixes=("", "_whole"))
        assert len(merged) == len(table) == about["sampled_frames"].sum() < 0.35 * len(whole)
        assert (merged["vmaf"] == merged["vmaf_whole"]).all() and (merged["motion2"] == merged["motion2_whole"]).all()
        assert about["frames"].tolist() == [1500, 1500] and about["sample_note"].str.len().min() > 0
        assert set(about.columns[: len(pairs_of_whole.columns)]) == set(pairs_of_whole.columns)
        means = whole.groupby("dis_basename")["vmaf"].mean()[about["dis_basename"]].to_numpy()
        assert np.all(about["sample_low"] <= means) and np.all(means <= about["sample_high"])
        assert about["sample_seed"].nunique() == 1, "encodes of one reference are looked at in the same places"
        assert "two by chance" in json.dumps(manifest)
    again = extract(corpus, tmp_path / "again.parquet", sampling=Sampling(within=2, seed=3), **quiet)
    assert again.table.read_bytes() == (tmp_path / "within.parquet").read_bytes()


def test_the_commands(minute, capsys):
    pair = [str(minute / "source.mp4"), str(minute / "crf40.mp4"), "--features", "canonical6"]
    assert main(["measure", *pair, "--within", "2", "--seed", "1"]) == 0
    said = capsys.readouterr().out
    assert "promise kept" in said and "p5" in said and "not above the lowest frame seen" in said
    assert main(["measure", *pair, "--within", "2", "--seed", "1", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["sample"]["share"] < 0.3 and answer["sample"]["high"] - answer["sample"]["low"] == pytest.approx(4)
    assert main(["measure", *pair, "--within", "2", "--sample", "0.1"]) == 2
    assert main(["measure", *pair, "--within", "0"]) == 2
    assert main(["measure", *pair, "--sample", "2"]) == 2
    assert "such as 0.1" in capsys.readouterr().err
