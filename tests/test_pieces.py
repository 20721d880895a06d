"Pieces of a pair: their rows are those of the whole, bit for bit, whatever the file is and wherever they lie."

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_mcp import answer

from vmaf_research.corpora.bvi_dvc import extract_bvi_dvc
from vmaf_research.corpora.extract import extract
from vmaf_research.corpora.grid import grid
from vmaf_research.corpora.pairs import Corpus, Pair
from vmaf_research.corpora.scored import extract_scored
from vmaf_research.measure import pieces
from vmaf_research.measure.core import BadInput
from vmaf_research.measure.encode import ENCODERS, available_encoders
from vmaf_research.measure.engine import run_ffmpeg
from vmaf_research.measure.features import TEACHERS
from vmaf_research.measure.libvmaf import EncodedAs, measure
from vmaf_research.measure.manifest import open_manifest
from vmaf_research.measure.measuring import Sampling
from vmaf_research.measure.pieces import measure_frames
from vmaf_research.measure.video import Colour, input_arguments, open_clip
from vmaf_research.predict.tune import tune
from vmaf_research.serve.cli import main
from vmaf_research.serve.mcp import make_server

CLIPS = Path(__file__).parents[2] / "shared" / "clips"
FRAMES = 48
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


@pytest.fixture(scope="module")
def encode(folder, zoom):
    "Makes the file of one of `WAYS`, once."

    @cache
    def encode(name):
        run_ffmpeg([*input_arguments(zoom), *WAYS[name], str(folder / name)])
        return folder / name

    return encode


def random_pieces(rng, frames, number):
    "Some of a few frames, some frames alone, the first and the last."
    starts = rng.integers(0, frames - 1, number)
    drawn = [(int(start), int(min(frames, start + rng.integers(1, 6)))) for start in starts]
    alone = [(int(start), int(start) + 1) for start in rng.integers(0, frames, number)]
    return [*drawn, *alone, (0, 1), (frames - 1, frames)]


def assert_same_rows(some, whole, drawn):
    index = sorted({frame for start, end in drawn for frame in range(start, end)})
    assert some.frame_index.tolist() == index == some.to_frame()["frame_index"].tolist()
    assert list(some.columns) == list(whole.columns)
    for name, values in some.columns.items():
        np.testing.assert_array_equal(values, whole.columns[name][index], err_msg=name)


@pytest.mark.parametrize("name", WAYS)
def test_pieces_are_those_of_the_whole(encode, zoom, name):
    way = WAYS[name]
    codec = way[way.index("-c:v") + 1] if "-c:v" in way else None
    if codec in set(ENCODERS) - set(available_encoders()):
        pytest.skip(f"no {codec}")
    path = encode(name)
    whole = measure(zoom, path)
    for seed in (1, 2):
        drawn = random_pieces(np.random.default_rng([seed, len(name)]), FRAMES, 4)
        assert_same_rows(measure_frames(zoom, path, drawn, threads=1 + seed % 2), whole, drawn)


@pytest.mark.parametrize("name", ["one-key.mp4", "open.mp4", "open265.mp4", "pyramid.mkv", "svt.mp4", "picture.y4m"])
def test_they_are_reached_without_decoding_everything(encode, zoom, name, monkeypatch):
    "Containers whose packets are their pictures need no counting from the start."
    path = encode(name)
    monkeypatch.setattr(pieces._Task, "from_start", None)
    assert measure_frames(zoom, path, [(3, 5), (20, 21), (40, 42)], features=()).frames == 5


def test_ssimulacra2_of_pieces(folder, zoom):
    reference, path, drawn = folder / "small.y4m", folder / "small.mp4", [(5, 7), (17, 18)]
    run_ffmpeg([*input_arguments(zoom), "-frames:v", "20", "-vf", "scale=96:64", str(reference)])
    run_ffmpeg([*input_arguments(open_clip(reference)), *X264, *GOP, str(path)])
    pair, asked = (reference, path), {"features": ["ssimulacra2", "motion2"]}
    assert_same_rows(measure_frames(*pair, drawn, **asked), measure(*pair, **asked), drawn)


@pytest.fixture(scope="module")
def colour(folder):
    "Forty frames of a fractal with grain, large enough for every teacher, and an encode whose second half is grey."
    pattern = ["-f", "lavfi", "-i", "mandelbrot=size=568x320:rate=50,noise=alls=4:allf=t:all_seed=1"]
    pattern += ["-frames:v", "40", "-pix_fmt", "yuv420p"]
    run_ffmpeg([*pattern, "-c:v", "ffv1", str(folder / "colour.mkv")])
    run_ffmpeg([*pattern, "-vf", "hue=s='if(lt(n,20),1,0)'", *X264, *GOP, str(folder / "colour.mp4")])
    return folder / "colour.mkv", folder / "colour.mp4"


FAST = [name for name, teacher in TEACHERS.items() if "hfr" in name and not teacher.tool_only]
OTHERS = [name for name, teacher in TEACHERS.items() if "hfr" not in name and not teacher.tool_only]


@pytest.mark.parametrize(("names", "margin"), [(FAST, (4, 1)), (OTHERS, (1, 1))], ids=["high rates", "others"])
def test_pieces_of_every_teacher_are_those_of_the_whole(colour, names, margin):
    "Among the first and the last frames, and where a window of five frames reaches over the start of a piece."
    drawn, options = [(0, 1), (9, 10), (15, 16), (25, 27), (39, 40)], {"features": (), "teachers": names}
    assert [pieces.warm_up([TEACHERS[name]]) for name in names] == [margin] * len(names)
    some, whole = measure_frames(*colour, drawn, **options), measure(*colour, **options)
    assert {TEACHERS[name].column for name in names} <= some.columns.keys()
    assert_same_rows(some, whole, drawn)
    assert some.keys == whole.keys and some.compared == whole.compared


def test_pieces_are_compared_as_the_whole_is(colour):
    "Bits of the comparison, what was encoded, HDR that was allowed, and chroma that is not seen."
    reference, distorted = (open_clip(path) for path in colour)
    reference = replace(reference, colour=Colour("smpte2084", "bt2020"))
    options = {"features": (), "teachers": ("vmaf_v1.0.16_3d0h", "vmaf_v0.6.1"), "bits": 10, "allow_hdr": True}
    options["encoded"] = EncodedAs(bits=8)
    drawn = [(4, 6), (28, 30)]
    some, whole = measure_frames(reference, distorted, drawn, **options), measure(reference, distorted, **options)
    assert_same_rows(some, whole, drawn)
    assert some.compared == whole.compared == "568x320 yuv420p10le"
    assert some.keys == whole.keys and some.keys["cambi_v1"].endswith("_encbd_8")
    assert len(whole.warnings) == len(some.warnings) == 2 and "is HDR" in some.warnings[0] == whole.warnings[0]
    unseen = whole.unseen["vmaf_v1.0.16_3d0h"]
    np.testing.assert_array_equal(some.unseen["vmaf_v1.0.16_3d0h"], unseen[some.frame_index])
    assert f"in {np.isfinite(unseen).sum()} of 40 frames" in whole.warnings[1]
    assert "in 2 of 4 frames" in some.warnings[1]
    seen = measure_frames(reference, distorted, [(4, 6)], **options)
    assert len(seen.warnings) == 1, "what was not looked at is not warned of"
    with pytest.raises(BadInput, match="is HDR"):
        measure_frames(reference, distorted, drawn, **{**options, "allow_hdr": False})


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
    run_ffmpeg([*input_arguments(zoom), "-frames:v", "40", *X264, str(path)])
    with pytest.raises(BadInput, match=r"short.mp4 has 40 frames and zoom.yuv has 48"):
        measure_frames(zoom, path, [(0, 4)])
    with pytest.raises(BadInput, match=r"frames 46 to 50 \(not included\) are no piece of its 48 frames"):
        measure_frames(zoom, zoom, [(46, 50)])
    (tmp_path / "cut.mp4").write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(BadInput, match=r"cut.mp4"):
        measure_frames(tmp_path / "cut.mp4", tmp_path / "cut.mp4", [(34, 38)])


REAL = json.loads((CLIPS / "index.json").read_text())["clips"] if CLIPS.is_dir() else []
REAL = [pytest.param(each, marks=[pytest.mark.slow] * (each["frames"] > 100), id=each["file"]) for each in REAL]


@pytest.mark.parametrize("clip", REAL)
def test_pieces_of_real_clips(tmp_path, clip):
    "Of the first second, as it lies in the file."
    path, frames = tmp_path / "x.mp4", 24
    run_ffmpeg(["-i", str(CLIPS / clip["file"]), "-c", "copy", "-frames:v", str(frames), str(tmp_path / clip["file"])])
    reference = open_clip(tmp_path / clip["file"])
    small = ["-vf", f"scale={reference.width}:{reference.height}", "-pix_fmt", reference.pix_fmt]
    run_ffmpeg([*input_arguments(reference), *small, *X264, *GOP, str(path)])
    drawn = random_pieces(np.random.default_rng(3), frames, 2)
    some = measure_frames(reference, path, drawn, features=["motion2", "adm2"])
    assert_same_rows(some, measure(reference, path, features=["motion2", "adm2"]), drawn)


@pytest.fixture(scope="module")
def long(folder):
    "Thirty seconds of small pictures with a calm and a busy part, as a source and as two encodes."
    kinds = ["-f", "lavfi", "-i", "testsrc2=size=64x64:rate=25", "-f", "lavfi", "-i", "mandelbrot=size=64x64:rate=25"]
    graph = "[0]trim=end_frame=500[a];[1]trim=end_frame=250[b];[a][b]concat=n=2,format=yuv420p"
    corpus = folder / "long"
    corpus.mkdir()
    source = ["-c:v", "libx264", "-crf", "4", "-preset", "veryfast", "-g", "50", str(corpus / "source.mp4")]
    run_ffmpeg([*kinds, "-filter_complex", graph, *source])
    for crf in ("30", "40"):
        lossy = ["-c:v", "libx264", "-crf", crf, "-preset", "veryfast", str(corpus / f"crf{crf}.mp4")]
        run_ffmpeg(["-i", str(corpus / "source.mp4"), *lossy])
    return corpus


def test_a_sample_of_a_corpus(long, tmp_path):
    "The rows are those of the whole; pairs table and manifest say how they were drawn; the same again is the same."
    source = open_clip(long / "source.mp4")
    pairs = tuple(Pair("long", source, open_clip(long / f"crf{crf}.mp4"), "libx264", None, crf) for crf in (30, 40))
    corpus, quiet = Corpus("long", long, pairs), {"features": "canonical6", "progress": False}
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
        assert about["frames"].tolist() == [750, 750] and about["sample_note"].str.len().min() > 0
        assert set(about.columns[: len(pairs_of_whole.columns)]) == set(pairs_of_whole.columns)
        means = whole.groupby("dis_basename")["vmaf"].mean()[about["dis_basename"]].to_numpy()
        assert np.all(about["sample_low"] <= means) and np.all(means <= about["sample_high"])
        assert about["sample_seed"].nunique() == 1, "encodes of one reference are looked at in the same places"
        assert "two by chance" in json.dumps(manifest)
    again = extract(corpus, tmp_path / "again.parquet", sampling=Sampling(within=2, seed=3), **quiet)
    assert again.table.read_bytes() == (tmp_path / "within.parquet").read_bytes()


def test_the_commands(long, capsys):
    pair = [str(long / "source.mp4"), str(long / "crf40.mp4"), "--features", "canonical6"]
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


SHARE = Sampling(share=0.1, seed=2)
QUIET = {"progress": False, "sampling": SHARE}


@pytest.fixture(scope="module")
def short(long, tmp_path_factory):
    "A folder with ten seconds of it alone."
    folder = tmp_path_factory.mktemp("short")
    cut = ["-vf", "trim=start_frame=400:end_frame=650,setpts=N/25/TB"]
    cut += ["-c:v", "libx264", "-crf", "8", "-preset", "veryfast", "-g", "50"]
    run_ffmpeg(["-i", str(long / "source.mp4"), *cut, str(folder / "3015713153.mp4")])
    return folder


def assert_sampled(table, pairs, whole, frames=250):
    "Rows of a sampled table are those of the whole one, and the pairs table says how many there are."
    merged = table.merge(whole, on=["source", "dis_basename", "frame_index"], suffixes=("", "_whole"))
    assert len(merged) == len(table) == pairs["sampled_frames"].sum() and 0 < len(table) < 0.3 * len(whole)
    assert (merged["vmaf"] == merged["vmaf_whole"]).all()
    assert set(pairs["frames"]) == {frames} and set(pairs["sample_note"]) == {"no promise"}


def test_a_sampled_grid(short, tmp_path):
    "Scores are those that the sample gives for the whole; a grid of all frames is another one."
    options = {"qualities": ("35",), "preset": "ultrafast", "cache": tmp_path / "cache"}
    made = grid(short, tmp_path / "s.jsonl", per_frame=tmp_path / "s.parquet", **options, **QUIET)
    whole = grid(short, tmp_path / "w.jsonl", per_frame=tmp_path / "w.parquet", **options, progress=False)
    pairs = pd.read_parquet(tmp_path / "s.parquet.pairs.parquet")
    assert_sampled(pd.read_parquet(tmp_path / "s.parquet"), pairs, pd.read_parquet(tmp_path / "w.parquet"))
    (row,), (known,) = made.rows, whole.rows
    assert row["vmaf_score"] == pytest.approx(pairs["sample_mean"][0]) and row["run_id"] != known["run_id"]
    assert row["vmaf_score"] == pytest.approx(known["vmaf_score"], abs=5)
    assert row["adm2_mean"] == pytest.approx(known["adm2_mean"], abs=0.05)
    assert open_manifest(made.manifest).facts["run_provenance"]["args"]["sampling"] == vars(SHARE)


def test_sampled_konvid(short, tmp_path):
    options = {"preset": "ultrafast", "features": "canonical6", "cache": tmp_path / "cache"}
    made = extract_scored(short, tmp_path / "s.parquet", **options, **QUIET)
    extract_scored(short, tmp_path / "w.parquet", **options, progress=False)
    pairs = pd.read_parquet(made.extraction.pairs)
    assert_sampled(pd.read_parquet(made.extraction.table), pairs, pd.read_parquet(tmp_path / "w.parquet"))
    view, table = (pd.read_parquet(path) for path in (made.view, made.extraction.table))
    assert view["frame_index"].tolist() == table["frame_index"].tolist()


def test_sampled_bvi_dvc(short, tmp_path):
    (tmp_path / "videos").mkdir()
    scale = ["-vf", "scale=480:272", "-pix_fmt", "yuv420p10le", "-c:v", "libx264", "-qp", "8", "-preset", "ultrafast"]
    name = "DHalf_480x272_25fps_10bit_420.mp4"
    run_ffmpeg(["-i", str(short / "3015713153.mp4"), *scale, "-frames:v", "100", str(tmp_path / "videos" / name)])
    options = {"qualities": (40,), "preset": "ultrafast", "features": ("motion2",), "cache": tmp_path / "cache"}
    made = extract_bvi_dvc(tmp_path / "videos", tmp_path / "s.parquet", **options, **QUIET)
    extract_bvi_dvc(tmp_path / "videos", tmp_path / "w.parquet", **options, progress=False)
    tables = [pd.read_parquet(path) for path in (made.table, made.pairs, tmp_path / "w.parquet")]
    assert_sampled(*tables, frames=100)


def test_a_sampled_tuning(short, tmp_path):
    options = {"preset": "ultrafast", "workdir": tmp_path / "tune", "cache": tmp_path / "cache", **QUIET}
    found = tune(short / "3015713153.mp4", "libsvtav1", 80, pooling="p10", **{**options, "preset": "13"})
    assert "scores are of samples: 10.0% of the frames" in found.notes[-1]
    assert all(trial.score for tuned in found.shots for trial in tuned.search.trials)


def test_a_client_of_the_server(long):
    pair = {"ref": "source.mp4", "dis": "crf40.mp4", "features": ["motion2"]}
    found = answer(make_server([long]), "vmaf_score", **pair, within=2, seed=1)
    whole = answer(make_server([long]), "vmaf_score", **pair)
    assert found["sample"]["share"] < 0.3 and whole["sample"] is None and found["frames"] < whole["frames"] == 750
    assert found["sample"]["low"] <= whole["vmaf"] <= found["sample"]["high"]
    assert found["vmaf"] == pytest.approx(found["sample"]["mean"]) == pytest.approx(found["pooled"]["vmaf"]["mean"])
