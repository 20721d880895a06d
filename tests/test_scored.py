"""Data sets of scored videos and CHUG as commands, on small stand-ins in the layouts of the data sets."""

import json
import multiprocessing
import shutil
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction

import pandas as pd
import pytest
from conftest import write_pan

from vmaf_research.corpora.scored import extract_scored, read_scores
from vmaf_research.measure.core import BadInput
from vmaf_research.measure.engine import find_engine, run_ffmpeg
from vmaf_research.measure.manifest import open_manifest, verify
from vmaf_research.measure.provenance import sha256_file
from vmaf_research.measure.video import input_arguments
from vmaf_research.serve.cli import main

NUMBERS = ("3015713153", "3337642103")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    "Two panned photographs as mp4 with sound, in the layout of the data set, and scores of both."
    folder = tmp_path_factory.mktemp("konvid")
    videos = folder / "KoNViD_1k_videos"
    videos.mkdir()
    for step, number in enumerate(NUMBERS, start=1):
        pan = write_pan(folder / "pan.yuv", 128, 72, 10, step)
        sound = ["-f", "lavfi", "-i", "sine=duration=0.4", "-c:a", "aac", "-map", "0:v", "-map", "1:a"]
        video = [*input_arguments(pan), *sound, "-c:v", "libx264", "-crf", "8", str(videos / f"{number}.mp4")]
        run_ffmpeg(video)
        pan.path.unlink()
    (folder / "KoNViD_1k_metadata").mkdir()
    rows = [f"{number},{number}.mp4,3.{number[1]},0.5" for number in NUMBERS]
    scores = "\n".join(["flickr_id,file_name,MOS,SD", *rows])
    (folder / "KoNViD_1k_metadata" / "KoNViD_1k_attributes.csv").write_text(scores)
    return folder


def test_the_command_and_its_manifests(dataset, tmp_path, capsys):
    out = tmp_path / "t.parquet"
    words = ["extract", "konvid", str(dataset), "--out", str(out), "--crf", "23,41", "--features", "canonical6", "-q"]
    assert main(words) == 0
    assert "40 rows of 4 pairs, 4 measured now" in capsys.readouterr().out
    view, scores = pd.read_parquet(f"{out}.konvid.parquet"), pd.read_parquet(f"{out}.mos.parquet")
    assert view.groupby(["key", "crf"]).size().tolist() == [10] * 4
    means = view.groupby(["crf"]).vmaf.mean()
    assert means[23] > means[41]
    assert scores.source.tolist() == [f"KoNViD_1k_videos_{number}" for number in NUMBERS]
    assert scores.mos.tolist() == [3.0, 3.3]
    assert main(words) == 0
    assert "4 pairs, 0 measured now" in capsys.readouterr().out

    manifests = [f"{out}.manifest.json", f"{out}.konvid.parquet.manifest.json"]
    assert main(["manifest", "verify", *manifests]) == 0
    assert main(["manifest", "replay", manifests[0]]) == 0
    encode = next((tmp_path / "t.corpus" / "dis").glob("*crf41.mp4"))
    encode.write_bytes(encode.read_bytes()[:-1] + b"!")
    capsys.readouterr()
    assert main(["manifest", "verify", manifests[0]]) == 1
    printed = capsys.readouterr()
    assert encode.name in printed.out + printed.err
    assert main(words) == 0  # the damaged encode is made again
    assert main(["manifest", "verify", *manifests]) == 0


def test_other_processes_give_the_same_bytes(dataset, tmp_path):
    options = {"features": "canonical6", "progress": False, "qualities": (35,)}
    here = extract_scored(dataset, tmp_path / "here" / "t.parquet", cache=tmp_path / "cache1", **options)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        paths = {"out": tmp_path / "there" / "t.parquet", "cache": tmp_path / "cache2"}
        there = extract_scored(dataset, **paths, executor=executor, **options)
    assert (here.made, there.made) == (2, 2)
    for first, second in ((here.extraction.table, there.extraction.table), (here.view, there.view)):
        assert sha256_file(first) == sha256_file(second)
    assert sha256_file(here.extraction.pairs) == sha256_file(there.extraction.pairs)


def test_what_cannot_be_used_is_named(dataset, tmp_path, capsys):
    folder = tmp_path / "data"
    shutil.copytree(dataset, folder)
    videos = folder / "KoNViD_1k_videos"
    whole = (videos / f"{NUMBERS[0]}.mp4").read_bytes()
    (videos / "4265466447.mp4").write_bytes(whole[: len(whole) // 3])
    (videos / "5319047612.mp4").write_bytes(b"")
    (videos / "6249168351.mp4").write_text("not a video")
    out = tmp_path / "t.parquet"
    words = ["extract", "konvid", str(folder), "--out", str(out), "--features", "canonical6", "-q"]
    assert main(words) == 2
    problems = capsys.readouterr().err
    for name, reason in (("4265466447", "cut off"), ("5319047612", "empty"), ("6249168351", "not a video")):
        assert any(name in line and reason in line for line in problems.splitlines()), name
    assert not out.exists()
    assert main([*words, "--allow-failures"]) == 0
    facts = json.loads((tmp_path / "t.parquet.konvid.parquet.manifest.json").read_text())["deterministic"]
    assert facts["counts"] == {"selected": 5, "processed": 2, "failed": 3}
    assert [each["id"] for each in facts["clips"]["failed"]] == ["4265466447.mp4", "5319047612.mp4", "6249168351.mp4"]
    assert pd.read_parquet(out).shape == (20, 30)


def test_a_rate_that_is_not_whole_is_kept(dataset, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    video = ["-i", str(dataset / "KoNViD_1k_videos" / f"{NUMBERS[0]}.mp4"), "-an", "-r", "30000/1001"]
    run_ffmpeg([*video, "-c:v", "libx264", str(folder / f"{NUMBERS[0]}.mp4")])
    made = extract_scored(folder, tmp_path / "t.parquet", features="canonical6", progress=False)
    assert made.scores is None
    pair = pd.read_parquet(made.extraction.pairs).iloc[0]
    assert pair.fps == pytest.approx(float(Fraction(30000, 1001)))
    assert (pair.frames, pair.crf, pair.preset) == (len(pd.read_parquet(made.view)), 35, "veryfast")


@pytest.mark.parametrize("count", ["99999999999999999999", "2147483648", "-1"])
def test_counts_of_ratings_that_no_table_holds(count, tmp_path):
    (tmp_path / "mos.csv").write_text(f"id,mos,sd,ratings\n1,3.5,0.5,{count}\n")
    with pytest.raises(BadInput, match="line 2: .* ratings; expected a count below"):
        read_scores(tmp_path / "mos.csv")


def copies(dataset, folder, *names):
    "The first video of the stand-in under other names."
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(dataset / "KoNViD_1k_videos" / f"{NUMBERS[0]}.mp4", folder / name)


SETS = {
    "konvid-150k": (
        (
            "k150ka/orig_1_540_5s.mp4", "k150kb_extracted/orig_2_540_5s.mp4",
            "k150ka/._orig_1_540_5s.mp4", "clips/orig_1_540_5s.mp4",  # not one more video each
        ),
        {
            "k150ka_scores.csv": "video_name,video_score\norig_1_540_5s.mp4,3.4\n",
            "k150kb_scores.csv": "video_name,mos,video_score\norig_2_540_5s.mp4,2.6,2.5\n",
        },
        {"orig_1_540_5s": 3.4, "orig_2_540_5s": 2.6},
    ),
    "lsvq": (
        ("yfcc-batch1/3009.mp4", "ia-batch1/3009.mp4"),
        {"labels_train_test.csv": "name,p1,height,mos\nyfcc-batch1/3009,1,540,71.5\nia-batch1/3009,2,540,12\n"},
        {"yfcc-batch1-3009": 71.5, "ia-batch1-3009": 12.0},
    ),
    "youtube-ugc": (
        ("Animation/360P/Animation_360P-05f8.mp4",),
        {"original_videos_MOS_for_YouTube_UGC_dataset.csv": "vid,MOS full,MOS chunk00\nAnimation_360P-05f8,3.9,4\n"},
        {"Animation-360P-Animation_360P-05f8": 3.9},
    ),
    "live-vqc": (
        ("Video/A001.mp4",),
        {"LIVE_VQC_metadata.csv": "File,MOS,width\nA001.mp4,80.2,128\n"},
        {"A001": 80.2},
    ),
}


@pytest.mark.parametrize("name", SETS)
def test_layouts_of_other_data_sets(dataset, tmp_path, name):
    videos, tables, expected = SETS[name]
    copies(dataset, tmp_path / "data", *videos)
    for table, text in tables.items():
        (tmp_path / "data" / table).write_text(text)
    out = tmp_path / "t.parquet"
    words = ["extract", "scored", str(tmp_path / "data"), "--dataset", name, "--out", str(out), "--crf", "41", "-q"]
    assert main([*words, "--features", "canonical6"]) == 0
    scores = pd.read_parquet(f"{out}.mos.parquet").set_index("source")
    assert scores.mos.to_dict() == pytest.approx(expected)
    assert set(pd.read_parquet(out).source) == set(expected)
    facts = open_manifest(out).facts
    assert facts["corpus"]["name"] == name and facts["counts"]["pairs"] == len(expected)
    assert verify(out).ok and verify(f"{out}.mos.parquet").ok and not (tmp_path / "t.parquet.konvid.parquet").exists()


def test_any_folder_with_a_csv(dataset, tmp_path, capsys):
    folder, out, table = tmp_path / "data", tmp_path / "t.parquet", tmp_path / "scores.csv"
    copies(dataset, folder, "a/one.mp4", "b/two.mp4")
    words = ["extract", "scored", str(folder), "--out", str(out), "--scores", str(table), "--features", "canonical6"]
    named = ["--name-column", "Clip", "--score-column", "quality", "--deviation-column", "sos", "--count-column", "k"]

    def refused(text, *more):
        table.write_text(text)
        code = main([*words, "-q", *more])
        assert code == 2 and not out.exists()
        return capsys.readouterr().err

    good = "Clip,quality,sos,k\none.mp4,7,0.5,20\nb/two.mp4,3,0.25,21\nthree.mp4,5,1,9\n"
    assert "from where to where its scores go is not known" in refused(good, *named)
    assert "scale '10:1': expected LOW:HIGH" in refused(good, *named, "--scale", "10:1")
    assert "line 2: a score of 7; those of this set go from 0 to 6" in refused(good, *named, "--scale", "0:6")
    assert "has no column mos or video_score or" in refused("video,rating\none,3\n", "--scale", "1:10")
    assert "has no column quality; it has Clip" in refused("Clip\none,3\n", *named, "--scale", "1:10")
    assert "it has none at all" in refused("", *named, "--scale", "1:10")
    table.write_text(good)
    assert main([*words, "-q", *named, "--scale", "1:10"]) == 0
    assert "1 scores without a video: three" in capsys.readouterr().err
    scores = pd.read_parquet(f"{out}.mos.parquet")
    assert scores[["mos", "mos_std_dev", "n_ratings", "scale_high"]].to_numpy().tolist() == [
        [7, 0.5, 20, 10], [3, 0.25, 21, 10]
    ]  # fmt: skip
    args = open_manifest(f"{out}.mos.parquet").facts["run_provenance"]["args"]
    assert args["columns"] == {"id": "Clip", "mos": "quality", "mos_std_dev": "sos", "n_ratings": "k"}
    assert (args["scale"], args["data_set"], args["allow_failures"]) == ([1, 10], "videos", False)
    inside = [str(folder / "t.parquet") if word == str(out) else word for word in words]
    assert main([*inside, "-q", *named, "--scale", "1:10"]) == 2
    assert "where it would be taken for videos" in capsys.readouterr().err
    assert main([*words, "-q", "--dataset", "vimeo"]) == 2
    assert "data set 'vimeo': expected konvid-1k, konvid-150k" in capsys.readouterr().err


def test_damaged_videos_are_named_with_their_digest(dataset, tmp_path, capsys):
    folder, out = tmp_path / "data", tmp_path / "t.parquet"
    copies(dataset, folder, "one.mp4", "a/two.mp4", "b/two.mp4")
    (folder / "cut.mp4").write_bytes((folder / "one.mp4").read_bytes()[:900])
    (folder / "empty.mp4").touch()
    (folder / "scores.csv").write_text("name,mos\none,3\ntwo,4\n")
    words = ["extract", "scored", str(folder), "--scale", "1:5", "--out", str(out), "--features", "canonical6", "-q"]
    assert main(words) == 2 and not out.exists()
    said = capsys.readouterr().err
    assert "the same video as others (a/two.mp4, b/two.mp4)" in said and "cut.mp4: " in said and "empty.mp4: " in said
    assert main([*words, "--allow-failures"]) == 0
    facts = open_manifest(out).facts
    digests = {each["id"]: each["sha256"] for each in facts["failures"]}
    assert digests == {name: sha256_file(folder / name) for name in ("a/two.mp4", "b/two.mp4", "cut.mp4", "empty.mp4")}
    inputs = facts["run_provenance"]["inputs"]
    assert {f"originals/{name}" for name in (*digests, "one.mp4")} <= set(inputs)
    assert facts["run_provenance"]["args"]["allow_failures"] is True and facts["cache_entries"] == 1
    (folder / "cut.mp4").write_bytes(b"another")
    assert "cut.mp4" in verify(out).differences[0]
    shutil.rmtree(folder / "a")
    (folder / "one.mp4").unlink()
    (folder / "b" / "two.mp4").unlink()
    assert main([*words, "--allow-failures"]) == 2
    assert "videos corpus: no video could be used: 2 problems found" in capsys.readouterr().err


def test_what_decides_a_result_is_in_the_manifest(dataset, tmp_path):
    out, copied = tmp_path / "t.parquet", tmp_path / "kept" / "t.manifest.json"
    words = ["extract", "konvid", str(dataset), "--out", str(out), "--features", "canonical6", "-q", "--sample", "0.5"]
    assert main([*words, "--seed", "3", "--measure-bits", "10", "--manifest-out", str(copied)]) == 0
    opened = open_manifest(out)
    args = opened.facts["run_provenance"]["args"]
    sampling = {"within": None, "share": 0.5, "confidence": 0.95, "seed": 3}
    assert args == {
        "corpus": "konvid-1k", "features": args["features"], "teachers": ["vmaf_v0.6.1"], "bits": 10,
        "allow_hdr": False, "sampling": sampling, "allow_failures": False, "qualities": [35], "preset": "veryfast",
    }  # fmt: skip
    assert opened.facts["row_schema_version"] == 1 and opened.facts["corpus"]["orphans"] == []
    engine = opened.document["volatile"]["engine"]
    assert engine == {"path": find_engine().path, "sha256": sha256_file(find_engine().path)}
    assert open_manifest(copied).facts == opened.facts and verify(copied).ok
    assert main([*words, "--manifest-out", str(tmp_path / "t.json")]) == 2


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    "An HDR video with two encodes, in the layout of CHUG, and the video alone."
    folder = tmp_path_factory.mktemp("graded")
    (folder / "chug" / "videos").mkdir(parents=True)
    lines = ["Video,ref,content_name,bitladder,mos_j,sos_j"]
    for name, crf, rung in (("aa", 10, ""), ("bb", 30, "360p_0.5M_"), ("cc", 40, "360p_0.2M_")):
        source = ["-f", "lavfi", "-i", "mandelbrot=size=96x64:rate=25", "-frames:v", "4", "-pix_fmt", "yuv420p10le"]
        colours = "colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc"
        how = ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", f"log-level=none:crf={crf}:{colours}"]
        run_ffmpeg([*source, *how, str(folder / "chug" / "videos" / f"{name}.mp4")])
        lines.append(f"{name},{int(not rung)},pan,{rung},{50 - crf},9")
    (folder / "chug" / "chug.csv").write_text("\n".join(lines))
    return folder / "chug"


def test_hdr_is_guarded_in_every_data_set(graded, tmp_path, capsys):
    out, quick = tmp_path / "t.parquet", ["--features", "canonical6", "-q"]
    words = ["extract", "chug", str(graded), "--out", str(out), *quick]
    assert main(words) == 2 and not out.exists()
    assert "aa.mp4: is HDR (PQ transfer, BT.2020 primaries), and VMAF was made for SDR" in capsys.readouterr().err
    assert main([*words, "--allow-hdr"]) == 0
    table, scores = pd.read_parquet(out), pd.read_parquet(f"{out}.mos.parquet")
    assert set(table.hdr) == {"PQ transfer, BT.2020 primaries"} and len(table) == 8
    assert scores.mos.tolist() == [20, 10] and set(scores.dis_basename) == set(table.dis_basename)
    assert pd.read_parquet(f"{out}.pairs.parquet").bitrate_kbps.tolist() == [500, 200]
    videos = tmp_path / "videos"
    videos.mkdir()
    shutil.copy(graded / "videos" / "aa.mp4", videos)
    words = ["extract", "konvid", str(videos), "--out", str(tmp_path / "k.parquet"), *quick]
    assert main(words) == 2
    assert "aa.mp4 is HDR (PQ transfer" in capsys.readouterr().err
    for _ in range(2):  # also if everything is there from an earlier run
        assert main([*words, "--allow-hdr"]) == 0
        assert set(pd.read_parquet(tmp_path / "k.parquet").hdr) == {"PQ transfer, BT.2020 primaries"}
