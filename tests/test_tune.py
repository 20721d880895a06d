"""Tuning of real clips by real encodes: other forms of input, other executors, damage, and what is kept."""

import json
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from skimage import data

from vmaf_research.measure.core import BadInput
from vmaf_research.measure.engine import run_ffmpeg
from vmaf_research.measure.siti import Shot
from vmaf_research.measure.video import input_arguments, open_clip, pixel_format, read_luma
from vmaf_research.predict.search import Status
from vmaf_research.predict.tune import ShotSource, frames_folder, tune
from vmaf_research.serve.cli import main


class Logistic:
    "A predictor that knows an ordinary curve of x264, and three sources on which it was wrong."

    codec = "libx264"
    teacher = "vmaf_v0.6.1"

    def predict(self, features, quality):
        return np.interp(quality, np.arange(52), 100 / (1 + np.exp((np.arange(52) - 37) / 5)))

    def interval(self, level, quality=range(52)):
        return np.full(len(quality), 10.0)

    def residual_curves(self):
        others = 100 / (1 + np.exp((np.arange(52) - np.array([[34], [36], [39]])) / 5))
        return np.arange(52), others - self.predict(None, np.arange(52))


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


def write_clip(two, path, filters, *more):
    "Eight frames of the first shot in another form, without loss."
    run_ffmpeg([*input_arguments(two), "-vf", filters, "-frames:v", "8", "-c:v", "ffv1", *more, str(path)])
    return path


FORMS = {
    "422": ("format=yuv422p", "yuv420p", "yuv422p"),
    "444 of ten bits": ("format=yuv444p10le", "yuv420p10le", "yuv444p10le"),
    "grey": ("format=gray", "yuv420p", "yuv444p"),
    "RGB": ("format=gbrp", "yuv420p", "yuv444p"),
}


@pytest.mark.parametrize(
    ("codec", "form"), [*(("libsvtav1", form) for form in FORMS), ("libvvenc", "422"), ("libx264", "grey")]
)
def test_pictures_of_other_forms_are_encoded_as_420(two, options, tmp_path, codec, form):
    filters, encoded, read = FORMS[form]
    path = write_clip(two, tmp_path / "form.mkv", filters)
    words = {"preset": None if codec == "libvvenc" else "ultrafast", "workdir": tmp_path / "work", "predictor": None}
    tuning = tune(path, codec, 90, **options | words)
    assert proved(tuning)
    (note,) = tuning.notes
    assert f"read as {read} were encoded as {encoded}" in note
    chroma = {pixel_format(open_clip(file).pix_fmt).chroma for file in (tmp_path / "work").rglob("*.mp4")}
    assert chroma == {"420"}


def test_the_luma_that_is_encoded_is_that_of_the_clip(two, tmp_path):
    path = write_clip(two, tmp_path / "form.mkv", "format=yuv422p")
    source = ShotSource(open_clip(path), Shot(0, 8), 96, tmp_path, "libx264", "medium", "mean", tmp_path, tmp_path)
    with source.reference() as reference:
        assert reference.pix_fmt == "yuv420p"
        assert np.array_equal(read_luma(reference, 5), read_luma(two, 5))


def test_two_runs_at_once(two, tmp_path):
    "The same clip twice, and another clip with the same name, into the same folder, by processes of their own."
    paths = []
    for folder, filters in (("one", "null"), ("two", "hflip,noise=alls=40:all_seed=1")):
        (tmp_path / folder).mkdir()
        paths.append(write_clip(two, tmp_path / folder / "clip.mkv", filters))
    how = {"preset": "ultrafast", "progress": False}
    shared = how | {"workdir": tmp_path / "work", "cache": tmp_path / "cache"}
    alone = how | {"workdir": tmp_path / "alone", "cache": tmp_path / "other cache"}
    expected = [tune(path, "libx264", 80, **alone).to_json() for path in paths]
    with ProcessPoolExecutor(3) as processes:  # forked from this one, which has loaded everything
        runs = [processes.submit(tune, path, "libx264", 80, **shared) for path in (paths[0], paths[0], paths[1])]
        first, second, other = (run.result().to_json() for run in runs)
    assert first == second
    assert first["shots"] != other["shots"]
    assert [first, other] == expected
    assert not list((tmp_path / "work").glob(".frames-*")) and not list((tmp_path / "work").rglob("*.y4m*"))


def test_what_a_killed_run_left_is_removed_by_the_next(two, tmp_path):
    "Not while another run is alive, whose unfinished encodes look the same."
    body = (
        "import sys, time, pathlib\n"
        "from vmaf_research.predict.tune import frames_folder\n"
        "with frames_folder(pathlib.Path(sys.argv[1])) as folder:\n"
        "    (folder / 'shot.y4m').write_bytes(b'frames')\n"
        "    print(folder, flush=True)\n"
        "    time.sleep(600)\n"
    )
    part = tmp_path / "libx264-medium/0123/.clip_crf30.0123abcd.part.mp4"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"half")
    run = subprocess.Popen([sys.executable, "-c", body, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        left = Path(run.stdout.readline().strip())
        part.write_bytes(b"half")
        with frames_folder(tmp_path):
            assert (left / "shot.y4m").exists() and part.exists()
    finally:
        run.kill()
        run.wait()
    assert left.is_dir()
    with frames_folder(tmp_path) as mine:
        assert not left.exists() and not part.exists() and mine.is_dir()


def test_odd_sizes_and_uneven_rates_are_told(two, options, tmp_path):
    filters = "crop=97:65:0:0:exact=1,setpts='(N+8*floor(N/4))/(25*TB)'"
    path = write_clip(two, tmp_path / "odd.mkv", f"format=yuv444p,{filters}", "-fps_mode", "passthrough")
    tuning = tune(path, "libx264", 85, **options, pooling="p5")
    assert proved(tuning)
    text = str(tuning)
    assert "note: pictures of 97x65 were scaled to 96x64" in text
    assert "note: frames come unevenly, 11.67 per second on average" in text
    assert "residuals compare them with the measured p5" in text
    assert tuning.to_json()["notes"] == list(tuning.notes) and len(tuning.notes) == 4


def test_no_verdict_without_a_predictor(two, options):
    tuning = tune(two, "libvpx-vp9", 80, **options | {"predictor": None}, frames=14)
    document = tuning.to_json()
    assert (document["verdict"], document["residuals"], document["correction"]) == (None, [], 0.0)
    assert not any(word in str(tuning) for word in ("RECALIBRATE", "GOSPEL", "FALL_BACK", "correct", "note"))


def test_all_commands_refuse_a_clip_that_is_too_small(two, tmp_path, capsys):
    path = write_clip(two, tmp_path / "tiny.mkv", "scale=30:30")
    for words in (["tune", "--out", tmp_path / "work", "-q"], ["predict"]):
        assert main(["predictor", *map(str, words), "--source", str(path), "--target-vmaf", "80"]) == 2
        printed = capsys.readouterr()
        assert "tiny.mkv: pictures of 30x30 are too small" in printed.err and "y4m" not in printed.err
        assert "32 pixels a side" in printed.err and printed.out == ""
    assert not (tmp_path / "work").exists()


def test_places_that_cannot_be_written_are_refused_before_any_encode(movie, tmp_path, capsys):
    (tmp_path / "file").write_bytes(b"")
    for words, sentence in (
        (["--html", tmp_path], "is a folder; name a file for the page"),
        (["--html", tmp_path / "file" / "page.html"], "cannot be written"),
        (["--out", tmp_path / "file"], "expected a folder"),
        (["--source", tmp_path], "is a folder"),
        (["--height", "100000"], "has only 96 rows"),
    ):
        code, out, error = run_cli(capsys, "--source", movie, "--out", tmp_path / "work", *words)
        assert code == 2 and out == "" and sentence in error and ".part" not in error
    assert not (tmp_path / "work").exists()
