"""Measuring: published scores, sample formats, and what a damaged input or a failing engine leads to."""

import hashlib
import json
import os
import stat
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import write_pan

from vmaf_research.measure.core import BadInput, EngineError
from vmaf_research.measure.engine import Engine, _describe_engine, ffmpeg_path, find_engine, run_ffmpeg
from vmaf_research.measure.features import FEATURE_SETS, TEACHERS
from vmaf_research.measure.libvmaf import measure
from vmaf_research.measure.teacher import check_against_teacher, load_teacher
from vmaf_research.measure.video import convert_clip, input_arguments, open_clip, pixel_format

GOLDEN = Path(__file__).parents[2] / "shared" / "golden"

# Means of the public test suite of libvmaf for patterns that anyone can generate; the SHA-1 that git gives the files.
CHECKERBOARD = {
    0: "816e61aceb23dff272738f1397e6d7c76f46a3bf",
    1: "123d5fee437e77ffce9f26b0a5da8c8606046765",
    10: "ad5531ac2fd778ad7210f4aa589b1b1cdfd86546",
}
FLAT = {16: "046620c544d4815d4e19b583f9df910200b9f931", 25: "6c4b98367958a0d3d60e344f91b5a6f4b767996e"}


def git_blob_sha1(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def public_pattern(folder, kind, value, pix_fmt="yuv420p"):
    x, y = np.arange(1920)[None], np.arange(1080)[:, None]
    form = pixel_format(pix_fmt)
    dtype, scale = form.dtype, 2 ** (form.depth - 8)
    chroma = np.full(form.frame_bytes(1920, 1080) // form.dtype.itemsize - 1920 * 1080, 128 * scale, dtype).tobytes()
    data = b""
    for time in range(3):
        dark = ((x - value - time) // 10 % 2 == y // 10 % 2) if kind == "checkerboard" else np.full((1080, 1920), True)
        low, high = (16, 235) if kind == "checkerboard" else (value, value)
        data += np.where(dark, dtype.type(low * scale), dtype.type(high * scale)).tobytes() + chroma
    path = folder / f"{kind}_{value}.yuv"
    path.write_bytes(data)
    return path, git_blob_sha1(data)


@pytest.mark.parametrize(
    ("kind", "values", "hashes", "expected"),
    [
        ("checkerboard", (0, 1), CHECKERBOARD,
         (35.06866714286451, 0.7853384465, 12.5547116667, 0.1129314709, 0.2983721614, 0.337432049, 0.4964197163)),
        ("checkerboard", (0, 10), CHECKERBOARD, (7.985898744818505, 0.0539965805, 12.5547116667, 0, 0, 0, 0)),
        ("flat", (16, 25), FLAT, (97.42804264261031, 1, 0, 1, 1, 1, 1)),
    ],
)  # fmt: skip
def test_public_patterns(tmp_path, kind, values, hashes, expected):
    clips = []
    for value in values:
        path, digest = public_pattern(tmp_path, kind, value)
        assert digest == hashes[value]
        clips.append(open_clip(path, 1920, 1080))
    means = measure(*clips, features="canonical6").mean()
    names = ("vmaf", "adm2", "motion2", "vif_scale0", "vif_scale1", "vif_scale2", "vif_scale3")
    for name, value in zip(names, expected, strict=True):
        assert means[name] == pytest.approx(value, abs=1e-3 if name == "vmaf" else 1e-4), name


@pytest.mark.parametrize(
    "pix_fmt",
    ["yuv420p10le", "yuv420p12le", "yuv420p16le", "yuv422p", "yuv444p", "yuv422p10le", "yuv444p12le", "yuv444p16le"],
)
def test_a_public_pattern_in_other_formats(tmp_path, pix_fmt):
    "The score depends on luma only, and more bits for the same picture change nothing."
    paths = [public_pattern(tmp_path, "checkerboard", value, pix_fmt)[0] for value in (0, 1)]
    clips = [open_clip(path, 1920, 1080, pix_fmt) for path in paths]
    means = measure(*clips, features="canonical6").mean()
    assert means["vmaf"] == pytest.approx(35.06866714286451, abs=1e-3)
    assert means["adm2"] == pytest.approx(0.7853384465, abs=1e-4)
    assert means["vif_scale3"] == pytest.approx(0.4964197163, abs=1e-4)


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="the public fixture files are not beside this checkout")
@pytest.mark.parametrize("features", ["canonical6", "fast"])
def test_golden_files(features):
    recorded = json.loads((GOLDEN / "expected.json").read_text())
    for pair in recorded["pairs"]:
        geometry = (pair["width"], pair["height"], pair["pix_fmt"])
        result = measure(*(open_clip(GOLDEN / pair[side], *geometry) for side in ("ref", "dis")), features=features)
        assert result.frames == pair["frames"]
        for name, value in pair.get("expected", {}).items():
            tolerance = 1e-2 if (name, pair["id"]) == ("vmaf", "src01_160x90") else 1e-3 if name == "vmaf" else 1e-4
            assert result.mean()[name] == pytest.approx(value, abs=tolerance), (pair["id"], name)
        for name, values in pair.get("expected_frames", {}).items():
            assert result.columns[name][: len(values)] == pytest.approx(values, abs=1e-3)


@pytest.mark.parametrize(
    "pix_fmt", ["yuv420p10le", "yuv420p12le", "yuv420p16le", "yuv422p", "yuv444p", "yuv422p10le", "yuv444p10le"]
)
def test_sample_formats(pan, encoded, tmp_path, pix_fmt):
    clips = []
    for number, clip in enumerate((pan, encoded)):
        path = tmp_path / f"{number}.yuv"
        run_ffmpeg([*input_arguments(clip), "-pix_fmt", pix_fmt, "-f", "rawvideo", str(path)])
        clips.append(open_clip(path, 320, 180, pix_fmt))
    result = measure(*clips, features="fast", teachers=["vmaf_v0.6.1", "vmaf_v1.0.16_3d0h"])
    plain = measure(pan, encoded, features="canonical6")
    assert result.frames == 8
    assert set(result.skipped) == ({"psnr_hvs"} if "16" in pix_fmt else set())
    assert all(np.isfinite(values).all() for values in result.columns.values())
    assert result.columns["vmaf"] == pytest.approx(plain.columns["vmaf"], abs=0.05)  # luma is the same picture


def test_mixed_depths_are_compared_at_the_deeper_one(pan, encoded, tmp_path):
    path = tmp_path / "deep.y4m"
    run_ffmpeg([*input_arguments(encoded), "-pix_fmt", "yuv420p10le", "-strict", "-1", str(path)])
    result = measure(pan, path, features="canonical6")
    assert result.compared == "320x180 yuv420p10le"
    assert result.columns["vmaf"] == pytest.approx(
        measure(pan, encoded, features="canonical6").columns["vmaf"], abs=0.05
    )


def test_chroma_that_differs_is_refused(pan, tmp_path):
    path = tmp_path / "wide.y4m"
    run_ffmpeg([*input_arguments(pan), "-pix_fmt", "yuv444p", str(path)])
    with pytest.raises(BadInput, match="chroma sampling differs"):
        measure(pan, path)


def test_time_stamps_do_not_shift_frames(pan, tmp_path):
    "Matroska rounds time stamps to milliseconds; a lossless copy at an odd rate must still meet itself."
    lossless = tmp_path / "copy.mkv"
    odd = [item if item != "25" else "24000/1001" for item in input_arguments(pan)]
    run_ffmpeg([*odd, "-c:v", "ffv1", str(lossless)])
    result = measure(pan, lossless, features=["psnr_y"])
    assert set(result.columns["psnr_y"]) == {60.0}  # libvmaf's value for identical 8-bit luma


@pytest.mark.parametrize("rate", ["24", "30000/1001", "60", "12.5"])
def test_any_frame_rate(pan, tmp_path, rate):
    path = tmp_path / "copy.mp4"
    odd = [item if item != "25" else rate for item in input_arguments(pan)]
    run_ffmpeg([*odd, "-c:v", "libx264", "-qp", "0", str(path)])
    assert open_clip(path).frames == 8
    assert measure(pan, path, features=["psnr_y"]).frames == 8
    assert convert_clip(open_clip(path), tmp_path / "copy.y4m", 320, 180).fps == open_clip(tmp_path / "copy.y4m").fps


def test_variable_frame_rate(pan, tmp_path):
    path = tmp_path / "uneven.mkv"
    stamps = "setpts=(N+floor(N/3)*5)/25/TB"
    run_ffmpeg([*input_arguments(pan), "-vf", stamps, "-fps_mode", "vfr", "-c:v", "libx264", "-qp", "0", str(path)])
    assert open_clip(path).frames == 8
    assert set(measure(pan, path, features=["psnr_y"]).columns["psnr_y"]) == {60.0}
    assert convert_clip(open_clip(path), tmp_path / "even.y4m", 320, 180).frames == 8


def test_full_range_is_converted(pan, tmp_path):
    "Motion JPEG is full range; measured as if it were limited, a near-perfect copy would lose ten decibels."
    path = tmp_path / "full.mkv"
    run_ffmpeg(
        [*input_arguments(pan), "-vf", "scale=in_range=limited:out_range=full", "-c:v", "mjpeg", "-q:v", "1", str(path)]
    )
    full = open_clip(path)
    assert full.full_range
    assert measure(pan, full, features=["psnr_y"]).mean()["psnr_y"] > 40
    converted = convert_clip(full, tmp_path / "limited.y4m", 320, 180)
    assert not open_clip(converted.path).full_range
    assert measure(pan, converted, features=["psnr_y"]).mean()["psnr_y"] > 40


def test_the_full_set_gives_every_column(pan, encoded):
    fitting = [name for name, each in TEACHERS.items() if not each.tool_only and each.minimum_side <= pan.height]
    result = measure(pan, encoded, features="full", teachers=fitting)
    assert set(FEATURE_SETS["full"]) <= result.columns.keys()
    assert result.skipped == {}
    assert all(np.isfinite(values).all() for values in result.columns.values())
    features = np.column_stack([result.columns[name] for name in FEATURE_SETS["canonical6"]])
    labels = [str(number) for number in range(result.frames)]
    assert check_against_teacher(features, result.columns["vmaf"], labels) <= 2e-4
    assert load_teacher().predict(features, clip=False) == pytest.approx(result.columns["vmaf_unclipped"], abs=2e-4)


def test_features_without_a_teacher(pan, encoded):
    alone = measure(pan, encoded, features="canonical6", teachers=[])
    together = measure(pan, encoded, features="canonical6")
    assert list(alone.columns) == list(FEATURE_SETS["canonical6"])
    assert all(np.array_equal(alone.columns[name], together.columns[name]) for name in alone.columns)


@pytest.mark.parametrize("extra", [-1, -16, 7])
def test_raw_video_of_a_broken_length(pan, tmp_path, extra):
    data = pan.path.read_bytes()
    path = tmp_path / "broken.yuv"
    path.write_bytes(data[:extra] if extra < 0 else data + bytes(extra))
    with pytest.raises(BadInput, match="not a whole number of 320x180 yuv420p frames"):
        open_clip(path, 320, 180)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".y4m", ".webm"])
def test_truncated_containers(pan, tmp_path, suffix):
    whole = tmp_path / f"whole{suffix}"
    codec = {".y4m": [], ".webm": ["-c:v", "libvpx-vp9", "-cpu-used", "8", "-deadline", "realtime"]}
    run_ffmpeg([*input_arguments(pan), *codec.get(suffix, ["-c:v", "libx264"]), str(whole)])
    assert open_clip(whole).frames == 8
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3 + 1])
    with pytest.raises(BadInput, match="cut off"):
        open_clip(cut)
    with pytest.raises(BadInput, match="cut off"):
        measure(pan, cut)


def test_a_frame_less_is_refused_whatever_the_container(pan, tmp_path):
    seven = write_pan(tmp_path / "seven.yuv", frames=7)
    path = tmp_path / "seven.mkv"
    run_ffmpeg([*input_arguments(seven), "-c:v", "libx264", str(path)])
    with pytest.raises(BadInput, match="7 frames and pan.yuv has 8"):
        measure(pan, path)
    with pytest.raises(BadInput, match="8 frames against 7"):
        measure(pan, seven)
    with pytest.raises(BadInput, match="pan.yuv has 8 frames and seven.mkv has 7"):
        measure(path, pan)


@pytest.mark.parametrize("size", ["32x32", "33x47", "2000x34", "40x640", "175x175", "321x181"])
def test_pictures_of_awkward_size(tmp_path, size):
    "Whatever libvmaf cannot take is left out with a reason, instead of a crash."
    width, height = map(int, size.split("x"))
    path = tmp_path / "noise.yuv"
    samples = np.random.default_rng(0).integers(16, 236, 2 * pixel_format("yuv420p").frame_bytes(width, height))
    path.write_bytes(samples.astype(np.uint8).tobytes())
    clip = open_clip(path, width, height)
    result = measure(clip, clip, features="full")
    assert result.frames == 2
    assert set(result.columns) | set(result.skipped) == {"vmaf", *FEATURE_SETS["full"]}
    assert not set(result.columns) & set(result.skipped)
    assert all(np.isfinite(values).all() for values in result.columns.values())
    assert all(size in reason for reason in result.skipped.values())


@pytest.mark.parametrize("size", ["31x64", "64x31", "16x16"])
def test_pictures_that_are_too_small(tmp_path, size):
    width, height = map(int, size.split("x"))
    path = tmp_path / "grey.yuv"
    path.write_bytes(bytes([128] * pixel_format("yuv420p").frame_bytes(width, height)))
    clip = open_clip(path, width, height)
    with pytest.raises(BadInput, match=f"{size} is too small for vmaf_v0.6.1"):
        measure(clip, clip)
    with pytest.raises(BadInput, match=f"{size} is too small, libvmaf needs 32"):
        measure(clip, clip, teachers=[])


def test_names_that_programs_misread(pan, encoded, tmp_path, monkeypatch):
    "Spaces, colons, quotes, percent signs and a leading dash, in a relative folder."
    monkeypatch.chdir(tmp_path)
    Path("a:b c").mkdir()
    reference, distorted = Path("a:b c", "-it's 100%d [x],y;z.yuv"), Path("a:b c", "file:é\\n.mkv")
    reference.write_bytes(pan.path.read_bytes())
    distorted.write_bytes(encoded.path.read_bytes())
    clip = open_clip(reference, 320, 180)
    result = measure(clip, distorted, features="canonical6")
    assert np.array_equal(result.columns["vmaf"], measure(pan, encoded, features="canonical6").columns["vmaf"])
    converted = convert_clip(clip, Path("a:b c", "out:1.y4m"), 160, 90)
    assert open_clip(converted.path) == converted


def script(folder, name, text):
    path = folder / name
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "was killed by SIGSEGV"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "was killed by SIGKILL"),
        ("import sys; sys.exit(3)", "failed with exit code 3"),
        ("pass", "left no readable result"),
        ("open('vmaf.json', 'w').write('{\"frames\": [')", "left no readable result"),
    ],
)
def test_a_crashing_engine_is_an_error(pan, encoded, tmp_path, text, message):
    engine = Engine(script(tmp_path, "ffmpeg", text), "ffmpeg", "0", "0")
    with pytest.raises(EngineError, match=message):
        measure(pan, encoded, engine=engine)


def test_an_old_libvmaf_is_refused(tmp_path):
    "An engine whose motion is not that of 3.2 is not used, whatever version it claims."
    text = (
        "import json, subprocess, sys\n"
        f"code = subprocess.run([{ffmpeg_path()!r}, *sys.argv[1:]]).returncode\n"
        "result = json.load(open('probe.json'))\n"
        "result['frames'][1]['metrics']['integer_motion2'] = 17.235603\n"
        "json.dump(result, open('probe.json', 'w'))\n"
        "sys.exit(code)\n"
    )
    with pytest.raises(EngineError, match="not one of 3.2 or later"):
        _describe_engine(script(tmp_path, "ffmpeg", text), "ffmpeg")


def test_the_vmaf_tool_is_the_last_resort(pan, tmp_path, monkeypatch):
    shim = Path(__file__).with_name("vmaf_shim.py")
    script(tmp_path, "vmaf", f"import runpy; runpy.run_path({str(shim)!r}, run_name='__main__')")
    real = ffmpeg_path()
    monkeypatch.setattr("imageio_ffmpeg.get_ffmpeg_exe", lambda: (_ for _ in ()).throw(RuntimeError("no wheel")))
    monkeypatch.setenv("PATH", str(tmp_path))
    engine = find_engine()  # the shim, in a process of its own, does find the wheel
    assert (engine.kind, engine.ffmpeg_version) == ("vmaf", None)
    monkeypatch.setenv("VMAF_FFMPEG", real)
    blurred = tmp_path / "blurred.yuv"
    run_ffmpeg([*input_arguments(pan), "-vf", "boxblur=2:1", "-f", "rawvideo", str(blurred)], program=real)
    pair = (pan, open_clip(blurred, 320, 180))
    by_tool = measure(*pair, features="fast", teachers=["vmaf_v0.6.1", "vmaf_v0.6.1neg"], engine=engine)
    by_filter = measure(*pair, features="fast", teachers=["vmaf_v0.6.1", "vmaf_v0.6.1neg"])
    assert by_tool.columns.keys() == by_filter.columns.keys()
    assert all(np.array_equal(by_tool.columns[name], by_filter.columns[name]) for name in by_tool.columns)


def test_the_vmaf_tool_refuses_what_it_cannot_read(pan, encoded):
    engine = Engine("vmaf", "vmaf", None, "3.2.0")
    with pytest.raises(BadInput, match="raw video and Y4M only"):
        measure(pan, encoded, engine=engine)


def test_relative_programs_are_found(monkeypatch):
    monkeypatch.chdir(Path(ffmpeg_path()).parent)
    monkeypatch.setenv("VMAF_FFMPEG", f".{os.sep}{Path(ffmpeg_path()).name}")
    assert Path(ffmpeg_path()).is_absolute()


@pytest.mark.parametrize("stored", [8, 10, 12, 16])
@pytest.mark.parametrize("declared", [8, 10, 12, 16])
def test_a_bit_depth_that_fits_but_is_wrong_is_refused(pan, tmp_path, stored, declared):
    pix_fmt, wrong = (f"yuv420p{'' if depth == 8 else f'{depth}le'}" for depth in (stored, declared))
    path = tmp_path / "deep.yuv"
    run_ffmpeg([*input_arguments(pan), "-pix_fmt", pix_fmt, "-f", "rawvideo", str(path)])
    if stored == declared:
        assert open_clip(path, 320, 180, pix_fmt).frames == 8
        return
    with pytest.raises(BadInput, match=f"expected {wrong}"):
        open_clip(path, 320, 180, wrong)
    with pytest.warns(UserWarning, match=f"expected {wrong}"):
        assert open_clip(path, 320, 180, wrong, trust_geometry=True).pix_fmt == wrong
