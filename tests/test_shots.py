"""Pictures of an encode, shots and their features, on files that make trouble."""

import re
import stat
import sys
from pathlib import Path

import numpy as np
import pytest

from vmaf_research.corpora.embedded import make_source
from vmaf_research.measure.core import BadInput, EngineError
from vmaf_research.measure.encode import encode
from vmaf_research.measure.engine import ffmpeg_path, run_ffmpeg
from vmaf_research.measure.packets import Picture, picture_sizes, pictures
from vmaf_research.measure.siti import Shot, detect_shots
from vmaf_research.measure.video import Part, input_arguments, open_clip, read_luma
from vmaf_research.predict import shots
from vmaf_research.predict.shot_features import Probe, shot_features
from vmaf_research.predict.shots import cut_shot, shot_parts

SHARED = Path(__file__).resolve().parents[2] / "shared/clips"
PATTERN = ["-f", "lavfi", "-i", "testsrc2=size=96x64:rate=30000/1001"]  # no two frames are alike
FRAMES = 200
LATE = Shot(170, 182)


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    "A long clip with B pictures and a key frame every 24 frames."
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    settings = ["-frames:v", str(FRAMES), "-pix_fmt", "yuv420p", "-c:v", "libx264", "-g", "24", "-threads", "1"]
    run_ffmpeg([*PATTERN, *settings, str(path)])
    return open_clip(path)


@pytest.fixture(scope="module")
def joined(tmp_path_factory):
    "Two embedded sources one after the other, encoded with loss, with a cut at frame 20."
    folder = tmp_path_factory.mktemp("joined")
    first, second = (make_source(name, folder, 128, 72, 20) for name in ("chelsea", "coffee"))
    inputs = [*input_arguments(first), *input_arguments(second)]
    settings = ["-filter_complex", "[0:v][1:v]concat=n=2", "-c:v", "libx264", "-crf", "30", "-threads", "1"]
    run_ffmpeg([*inputs, *settings, str(folder / "joined.mp4")])
    return open_clip(folder / "joined.mp4")


def test_pictures_are_what_the_bitstream_says(film):
    headers = ["-map", "0:v:0", "-c", "copy", "-bsf:v", "trace_headers", "-f", "null", "-"]
    log = "\n".join(run_ffmpeg(["-i", str(film.path), *headers]).lines)
    found = re.findall(r"Packet: (\d+) bytes.*?pts (-?\d+),|slice_type +\d+ = (\d+)", log)
    kinds = {0: "P", 1: "B", 2: "I"}
    stream = {}
    for size, time, kind in found:
        if size:
            packet = (int(time), int(size))
        else:
            stream[packet[0]] = Picture(kinds[int(kind) % 5], packet[1])
    assert len(stream) == FRAMES
    assert pictures(film.path) == tuple(stream[time] for time in sorted(stream))


@pytest.mark.parametrize("codec", ["libsvtav1", "libvpx-vp9", "libvvenc"])
def test_hidden_pictures_are_counted_with_the_next_shown(codec, tmp_path):
    source = make_source("chelsea", tmp_path, 128, 72, 20)
    encoded = encode(source, tmp_path / "hidden.mp4", codec, 40)
    sizes = picture_sizes(encoded.path)
    run_ffmpeg(["-i", str(encoded.path), "-c", "copy", "-f", "rawvideo", str(tmp_path / "stream")])
    assert sizes.frames == 20
    assert sizes.total_bytes == pytest.approx((tmp_path / "stream").stat().st_size, abs=200)  # parameter sets


def assert_late_frames(source, expected, folder):
    shot = cut_shot(source, LATE, folder / "shot.y4m")
    assert shot.frames == LATE.frames
    for frame in (0, 5, LATE.frames - 1):
        assert np.array_equal(read_luma(shot, frame), read_luma(expected, LATE.start + frame))


REMUXES = {
    "begins late": ("late.mkv", ["-c", "copy", "-output_ts_offset", "7.3"]),
    "uneven rate": ("uneven.mp4", ["-vf", "setpts='(N+gt(N,90)*N)/(30*TB)'", "-fps_mode", "passthrough",
                                   "-c:v", "libx264", "-qp", "0", "-g", "24"]),
    "transport stream": ("film.ts", ["-c", "copy"]),
    "open groups of pictures": ("open.mkv", ["-c:v", "libx265", "-x265-params",
                                             "keyint=20:open-gop=1:lossless=1:log-level=error"]),
}  # fmt: skip


@pytest.mark.parametrize("name, options", REMUXES.values(), ids=REMUXES)
def test_a_late_shot_has_its_own_frames(film, tmp_path, name, options):
    run_ffmpeg(["-i", str(film.path), *options, str(tmp_path / name)])
    source = open_clip(tmp_path / name)
    assert source.frames == FRAMES
    assert len(list(shot_parts(source, LATE))) == (1 if name.endswith(".ts") else 2)  # transport streams have no index
    assert_late_frames(source, film, tmp_path)


def test_a_late_shot_is_reached_without_decoding_all_before_it(film):
    part = next(shot_parts(film, LATE))
    run = [*part.seek, *input_arguments(film), "-vf", part.filters, "-fps_mode", "passthrough", "-f", "null", "-"]
    log = run_ffmpeg(run)
    assert log.encoded == LATE.frames
    assert log.decoded[0] < FRAMES / 2


def test_an_index_that_lies_costs_time_only(film, tmp_path, monkeypatch):
    lie = Part(("-copyts", "-ss", "99"), "trim=start_pts=0:end_pts=10", LATE.frames)
    monkeypatch.setattr(shots, "_seek_part", lambda clip, shot: lie)
    assert_late_frames(film, film, tmp_path)


def test_a_cut_between_two_sources_is_found(joined):
    assert detect_shots(joined) == (Shot(0, 20), Shot(20, 40))
    assert detect_shots(joined, minimum_frames=21) == (Shot(0, 40),)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs real clips")
def test_a_cut_between_two_moving_clips_is_found(tmp_path):
    clips = [open_clip(SHARED / f"davis_{name}.mkv") for name in ("dance-twirl", "cows")]
    inputs = [argument for clip in clips for argument in input_arguments(clip)]
    small = "scale=320:180,settb=1/24,setpts=N,trim=end_frame=24"
    graph = f"[0:v]{small}[a];[1:v]{small}[b];[a][b]concat=n=2"
    run_ffmpeg([*inputs, "-filter_complex", graph, "-pix_fmt", "yuv420p", str(tmp_path / "both.y4m")])
    assert detect_shots(tmp_path / "both.y4m") == (Shot(0, 24), Shot(24, 48))
    assert all(len(detect_shots(clip)) == 1 for clip in clips)


def test_a_flash_is_no_shot(film, tmp_path):
    flash = "drawbox=color=white:t=fill:enable='eq(n\\,60)'"
    run_ffmpeg(["-i", str(film.path), "-vf", flash, "-frames:v", "90", str(tmp_path / "flash.y4m")])
    assert len(detect_shots(tmp_path / "flash.y4m")) <= 2
    assert min(shot.frames for shot in detect_shots(tmp_path / "flash.y4m")) >= 12


def test_luma_agrees_with_ffmpeg(joined, tmp_path):
    filters = "trim=end_frame=20,signalstats,metadata=mode=print:file=statistics.txt"
    run_ffmpeg([*input_arguments(joined), "-vf", filters, "-f", "null", "-"], cwd=tmp_path)
    text = (tmp_path / "statistics.txt").read_text()
    means, changes = (
        [float(value) for value in re.findall(rf"signalstats.{key}=([\d.]+)", text)] for key in ("YAVG", "YDIF")
    )
    measured = shot_features(joined, Shot(0, 20))
    assert len(means) == len(changes) == 20
    assert measured.y_avg == pytest.approx(np.mean(means), rel=1e-3)
    assert measured.frame_diff_mean == pytest.approx(np.mean(changes[1:]), rel=1e-2)  # the first frame has no neighbour


@pytest.mark.parametrize("pix_fmt", ["yuv420p10le", "yuv444p", "yuvj420p"])
def test_other_formats_have_about_the_same_features(joined, tmp_path, pix_fmt):
    lossless = ["-vf", f"scale=out_range={'full' if 'j' in pix_fmt else 'limited'}", "-c:v", "ffv1"]
    if "j" in pix_fmt:
        lossless += ["-color_range", "pc"]
    run_ffmpeg([*input_arguments(joined), *lossless, "-pix_fmt", pix_fmt.replace("j", ""), str(tmp_path / "other.mkv")])
    other = open_clip(tmp_path / "other.mkv")
    assert other.full_range == ("j" in pix_fmt)
    plain, changed = (shot_features(clip, Shot(20, 40)).vector() for clip in (joined, other))
    rows = [6, 7, 8]  # luma
    assert changed[rows] == pytest.approx(plain[rows], rel=0.02)
    assert changed[0] == pytest.approx(plain[0], rel=0.25)  # chroma and depth cost the probe a little


def test_a_probe_that_fails_is_an_error_and_leaves_nothing(joined, tmp_path, monkeypatch):
    liar = tmp_path / "ffmpeg"
    liar.write_text(
        f"#!{sys.executable}\nimport os, sys\nif 'libx264' in sys.argv:\n    sys.exit(9)\n"
        f"os.execv({ffmpeg_path()!r}, ['ffmpeg', *sys.argv[1:]])\n"
    )
    liar.chmod(liar.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("VMAF_FFMPEG", str(liar))
    with pytest.raises(EngineError, match="libx264 failed on"):
        shot_features(joined, Shot(0, 20), cache=tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.json"))


def test_a_damaged_record_is_measured_again(joined, tmp_path):
    first = shot_features(joined, Shot(0, 20), cache=tmp_path)
    (record,) = tmp_path.rglob("*.json")
    whole = record.read_bytes()
    damaged = bytearray(whole)
    damaged[len(damaged) // 2] ^= 1
    record.write_bytes(damaged)
    assert shot_features(joined, Shot(0, 20), cache=tmp_path) == first
    assert record.read_bytes() == whole
    assert shot_features(joined, Shot(0, 20), Probe("libx264", "ultrafast", 30), cache=tmp_path) != first


def test_a_replaced_file_is_measured_again(joined, tmp_path):
    path = tmp_path / "clip.y4m"
    features = []
    for start in (0, 20):
        path.unlink(missing_ok=True)
        cut_shot(joined, Shot(start, start + 20), path)
        features.append(shot_features(path, cache=tmp_path / "cache"))
    assert features[0] != features[1]


def test_broken_and_short_clips_are_refused(joined, film, tmp_path):
    run_ffmpeg([*input_arguments(joined), "-frames:v", "1", str(tmp_path / "still.y4m")])
    run_ffmpeg([*input_arguments(film), "-c", "copy", str(tmp_path / "whole.mkv")])
    whole = (tmp_path / "whole.mkv").read_bytes()
    (tmp_path / "half.mkv").write_bytes(whole[: len(whole) // 2])
    for name, message in (("still.y4m", "1 frame is a still picture"), ("half.mkv", "half.mkv: damaged or cut off")):
        for function in (detect_shots, shot_features):
            with pytest.raises(BadInput, match=message):
                function(tmp_path / name)
    with pytest.raises(BadInput, match="are no part of its 200 frames"):
        cut_shot(film, Shot(190, 201), tmp_path / "more.y4m")
    assert not (tmp_path / "more.y4m").exists()
