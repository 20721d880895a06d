"""The KoNViD adapter as a command, on small stand-ins with names of the data set."""

import json
import multiprocessing
import shutil
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction

import pandas as pd
import pytest
from conftest import write_pan

from vmaf_research.corpora.konvid import extract_konvid, read_scores
from vmaf_research.measure.core import BadInput
from vmaf_research.measure.engine import run_ffmpeg
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
    here = extract_konvid(dataset, tmp_path / "here" / "t.parquet", cache=tmp_path / "cache1", **options)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        paths = {"out": tmp_path / "there" / "t.parquet", "cache": tmp_path / "cache2"}
        there = extract_konvid(dataset, **paths, executor=executor, **options)
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
    made = extract_konvid(folder, tmp_path / "t.parquet", features="canonical6", progress=False)
    assert made.scores is None
    pair = pd.read_parquet(made.extraction.pairs).iloc[0]
    assert pair.fps == pytest.approx(float(Fraction(30000, 1001)))
    assert (pair.frames, pair.crf, pair.preset) == (len(pd.read_parquet(made.view)), 35, "veryfast")


@pytest.mark.parametrize("count", ["99999999999999999999", "2147483648", "-1"])
def test_counts_of_ratings_that_no_table_holds(count, tmp_path):
    (tmp_path / "mos.csv").write_text(f"id,mos,sd,ratings\n1,3.5,0.5,{count}\n")
    with pytest.raises(BadInput, match="line 2: .* ratings; expected a count below"):
        read_scores(tmp_path / "mos.csv")
