"""Tuning of real clips by real encodes: other forms of input, other executors, damage, and what is kept."""

import json
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from skimage import data

from vmaf_research.measure.engine import run_ffmpeg
from vmaf_research.measure.errors import BadInput
from vmaf_research.measure.video import input_arguments, open_clip
from vmaf_research.predict.search import Status
from vmaf_research.predict.shots import Shot
from vmaf_research.predict.tune import tune
from vmaf_research.serve.cli import main


class Logistic:
    "A predictor that knows an ordinary curve of x264, and three sources on which it was wrong."

    codec = "libx264"

    def curve(self, features):
        return 100 / (1 + np.exp((np.arange(52) - 37) / 5))

    def predict(self, features, quality):
        return np.interp(quality, np.arange(52), self.curve(features))

    def interval(self, level, quality=range(52)):
        return np.full(len(quality), 10.0)

    def residual_curves(self):
        others = 100 / (1 + np.exp((np.arange(52) - np.array([[34], [36], [39]])) / 5))
        return np.arange(52), others - self.curve(None)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    "Two pictures that pan, 14 and 16 frames of 160x96."
    path = tmp_path_factory.mktemp("two") / "two shots.yuv"
    with open(path, "wb") as file:
        for picture, frames in ((data.camera(), 14), (data.page(), 16)):
            for step in range(frames):
                luma = picture[40:136, 50 + 2 * step : 210 + 2 * step].clip(16, 235)
                file.write(luma.tobytes() + bytes([128]) * (160 * 96 // 2))
    return open_clip(path, 160, 96)


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    work = tmp_path_factory.mktemp("work")
    return {"predictor": Logistic(), "preset": "ultrafast", "workdir": work, "progress": False}


def proved(tuning):
    "Whether the encodes of every shot prove what was chosen."
    for tuned in tuning.shots:
        scores = {trial.quality: trial.score for trial in tuned.search.trials}
        quality = tuned.search.chosen.quality
        if tuned.search.status is not Status.OPTIMUM or not scores[quality] >= tuning.target > scores[quality + 1]:
            return False
    return True


def test_other_processes_give_the_same(two, options):
    here = tune(two, "libx264", 80, **options)
    with ProcessPoolExecutor(1) as processes:
        there = tune(two, "libx264", 80, **options, executor=processes)
    assert here.to_json() == there.to_json() and proved(here)
    assert [tuned.shot for tuned in here.shots] == [Shot(0, 14), Shot(14, 30)]


def test_damaged_and_lost_encodes_are_made_again(two, options):
    first = tune(two, "libx264", 80, **options)
    encodes = sorted(options["workdir"].rglob("*.mp4"))
    whole = encodes[0].read_bytes()
    encodes[0].write_bytes(whole[: len(whole) // 2])
    encodes[1].unlink()
    assert tune(two, "libx264", 80, **options).to_json() == first.to_json()
    assert encodes[0].read_bytes() == whole and encodes[1].exists()
    assert not list(options["workdir"].rglob("*.y4m*"))


@pytest.mark.parametrize("pooling", ["harmonic", "p10"])
def test_lower_poolings_choose_better_qualities(two, options, pooling):
    "The frames of the first shot differ; a pooling that looks at the worst of them asks for more."
    mean = tune(two, "libx264", 80, **options, frames=14)
    other = tune(two, "libx264", 80, **options, frames=14, pooling=pooling)
    assert proved(other) and len(other.shots) == 1
    assert other.shots[0].search.chosen.quality <= mean.shots[0].search.chosen.quality


def test_odd_sizes_and_ten_bits(two, options, tmp_path):
    "A clip of 10 bits and an odd number of rows and columns; encodes have even ones."
    path = tmp_path / "odd.mkv"
    picture = ["-vf", "format=yuv444p10le,crop=99:91:0:0:exact=1", "-c:v", "ffv1", "-frames:v", "10"]
    run_ffmpeg([*input_arguments(two), *picture, str(path)])
    tuning = tune(path, "libx264", 85, **options)
    assert proved(tuning)
    assert tuning.shots[0].features.width % 2 == tuning.shots[0].features.height % 2 == 0


def test_unreachable_is_a_result(two, options):
    tuning = tune(two, "libx264", 100, **options, frames=14)
    (shot,) = tuning.to_json()["shots"]
    if shot["status"] == "unreachable":
        assert shot["crf"] == 0 and shot["vmaf"] < 100
    else:
        assert shot["vmaf"] >= 100
    assert all(probe["vmaf"] < 100 for probe in shot["probes"] if probe["crf"] > shot["crf"])


def test_a_truncated_clip_is_refused_and_leaves_nothing(two, options, tmp_path):
    path = tmp_path / "cut.mkv"
    run_ffmpeg([*input_arguments(two), "-c:v", "ffv1", str(path)])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    before = sorted(options["workdir"].rglob("*"))
    with pytest.raises(BadInput, match="cut off|damaged"):
        tune(path, "libx264", 85, **options)
    assert sorted(options["workdir"].rglob("*")) == before


def run_cli(capsys, *words):
    "Exit code, standard output and standard error of `vmaf-research predictor tune`."
    code = main(["predictor", "tune", *map(str, words), "-q"])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


@pytest.fixture(scope="module")
def movie(two):
    "The two shots as a lossless movie."
    path = two.path.with_name("movie.mp4")
    run_ffmpeg([*input_arguments(two), "-c:v", "libx264", "-qp", "0", str(path)])
    return path


def test_the_command_prints_one_object_with_the_proof(movie, tmp_path, capsys):
    "With the shipped predictor of x264."
    words = ["--source", movie, "--codec", "libx264", "--target-vmaf", 85, "--preset", "ultrafast", "--out", tmp_path]
    code, out, _ = run_cli(capsys, *words, "--json", "--html", tmp_path / "page.html")
    assert code == 0
    document = json.loads(out)
    assert [(shot["start"], shot["end"]) for shot in document["shots"]] == [(0, 14), (14, 30)]
    for shot in document["shots"]:
        assert {"start", "end", "probes", "crf", "vmaf", "status"} <= shot.keys()
        scores = {probe["crf"]: probe["vmaf"] for probe in shot["probes"]}
        assert shot["status"] == "optimum" and shot["vmaf"] == scores[shot["crf"]] >= 85 > scores[shot["crf"] + 1]
        assert all(probe["bitrate_kbps"] > 0 for probe in shot["probes"])
    page = (tmp_path / "page.html").read_text()
    assert page.startswith("<!doctype html>") and "data:image/png;base64," in page and "http" not in page


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--target-vmaf", "101"], "expected a VMAF score, from 0 to 100"),
        (["--target-vmaf", "nan"], "expected a VMAF score, from 0 to 100"),
        (["--codec", "libx266"], "choose from"),
        (["--codec", "h264_nvenc"], "not available on this machine"),
        (["--preset", "warp"], "warp"),
        (["--pooling", "p99"], "expected mean, harmonic, or a percentile"),
        (["--frames", "1"], "at least 2"),
        (["--confidence", "0.999"], "sources"),
    ],
)
def test_the_command_refuses_with_a_sentence(movie, tmp_path, capsys, words, sentence):
    code, out, error = run_cli(capsys, "--source", movie, "--out", tmp_path, *words)
    assert code == 2 and out == "" and sentence in error
    assert not list(tmp_path.rglob("*.mp4")) and len(error.strip().splitlines()) == 1


def test_the_command_refuses_files_that_are_no_clips(movie, tmp_path, capsys):
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "cut.mp4").write_bytes(movie.read_bytes()[:3000])
    run_ffmpeg(["-i", str(movie), "-frames:v", "1", "-c:v", "libx264", str(tmp_path / "still.mp4")])
    for name, sentence in (
        ("text.mp4", "not a video that can be decoded"),
        ("cut.mp4", "cut.mp4: "),
        ("still.mp4", "is a still picture"),
        ("missing.mp4", "no such file"),
        ("raw.yuv", "convert it to Y4M"),
    ):
        code, out, error = run_cli(capsys, "--source", tmp_path / name, "--out", tmp_path / "work")
        assert code == 2 and out == "" and sentence in error and name in error
