"""Every encoder of the table: the software ones by real encodes, the hardware ones by their arguments and refusals."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmaf_research.measure.core import BadInput
from vmaf_research.measure.encode import (
    _PRESET_NAMES,
    ENCODERS,
    STATISTICS,
    _encoder_works,
    available_encoders,
    bitrate_kbps,
    encode,
    encode_arguments,
    find_encoder,
)
from vmaf_research.measure.engine import ffmpeg_path
from vmaf_research.measure.libvmaf import measure
from vmaf_research.measure.packets import picture_sizes
from vmaf_research.measure.provenance import sha256_file
from vmaf_research.measure.video import convert_clip
from vmaf_research.predict.codecs import ADAPTERS, PREDICTOR_CODECS, find_adapter
from vmaf_research.serve.cli import main

HARDWARE = {
    "h264_nvenc": "-rc vbr -cq 30 -preset p4 -b:v 0",
    "hevc_nvenc": "-rc vbr -cq 30 -preset p4 -b:v 0",
    "av1_nvenc": "-rc vbr -cq 30 -preset p4 -b:v 0",
    "h264_amf": "-rc cqp -qp_i 30 -qp_p 30 -qp_b 30 -quality balanced",
    "hevc_amf": "-rc cqp -qp_i 30 -qp_p 30 -quality balanced",
    "av1_amf": "-rc cqp -qp_i 30 -qp_p 30 -qp_b 30 -quality balanced",
    "h264_qsv": "-global_quality 30 -preset medium",
    "hevc_qsv": "-global_quality 30 -preset medium",
    "av1_qsv": "-global_quality 30 -preset medium",
}
SOFTWARE = [codec for codec in ENCODERS if codec not in HARDWARE]


@pytest.fixture(scope="module")
def small(pan, tmp_path_factory):
    "The pan at 96x64."
    return convert_clip(pan, tmp_path_factory.mktemp("small") / "pan.y4m", 96, 64)


def test_the_fourteen_codecs_of_predictors():
    assert PREDICTOR_CODECS == (*SOFTWARE[:5], *HARDWARE)
    assert set(ADAPTERS) == set(ENCODERS) == {*PREDICTOR_CODECS, "libvpx-vp9"}
    assert {codec for codec, encoder in ENCODERS.items() if encoder.hardware} == set(HARDWARE)
    published = {"libx264": (0, 51, 23), "libx265": (15, 40, 28), "libsvtav1": (20, 50, 35), "libaom-av1": (0, 63, 35),
                 "libvvenc": (17, 50, 32), "av1_nvenc": (15, 40, 23), "hevc_amf": (15, 40, 23),
                 "h264_qsv": (1, 51, 23), "libvpx-vp9": (0, 63, 32)}  # fmt: skip
    for codec, (best, worst, default) in published.items():
        adapter = find_adapter(codec)
        assert (*adapter.quality_range, adapter.quality_default) == (best, worst, default)
        assert adapter.quality_values() == tuple(range(best, worst + 1))


@pytest.mark.parametrize("codec", SOFTWARE)
def test_three_qualities_of_every_software_encoder(codec, small, tmp_path):
    adapter = find_adapter(codec)
    best, worst = adapter.quality_range
    rates, scores = [], []
    for quality in (best, adapter.quality_default, worst):
        made = encode(small, tmp_path / f"{quality}.mp4", codec, quality, "veryfast")
        sizes = picture_sizes(made.path)
        assert (made.size, made.frames, sizes.frames) == ("96x64", small.frames, small.frames)
        assert sizes.counts["I"] >= 1 and sizes.mean_bytes["I"] > 0
        assert sizes.bitrate_kbps(small.fps) < bitrate_kbps(made)  # the container takes some
        assert (made.statistics is not None) == (adapter.encoder.statistics in STATISTICS)
        rates.append(sizes.total_bytes)
        scores.append(measure(small, made, features=()).mean()["vmaf"])
    assert rates == sorted(rates, reverse=True) and rates[0] > 1.5 * rates[-1]
    assert scores == sorted(scores, reverse=True) and scores[0] > scores[-1] + 1


@pytest.mark.parametrize(("codec", "values"), [("libx264", (30, 30.1)), ("libx265", (30, 30.1)),
                                                   ("libsvtav1", (30, 30.25, 30.5, 30.75, 31))])  # fmt: skip
def test_fractions_that_an_encoder_honours(codec, values, small, tmp_path):
    files = [encode(small, tmp_path / f"{value:g}.mp4", codec, value, "ultrafast").path for value in values]
    assert len({sha256_file(path) for path in files}) == len(values)
    step = ENCODERS[codec].step
    for other in ENCODERS:
        if ENCODERS[other].step > step / 2:
            with pytest.raises(BadInput, match="would be rounded; it goes in steps of"):
                ENCODERS[other].arguments(30 + step / 2)


@given(st.sampled_from(sorted(ENCODERS)), st.integers(0, 6300), st.sampled_from((None, *_PRESET_NAMES)))
def test_arguments_or_a_refusal(codec, hundredths, preset):
    encoder, quality = ENCODERS[codec], hundredths / 100
    best, worst = encoder.quality_range
    steps = round(encoder.step * 100)
    try:
        arguments = encoder.arguments(quality, preset)
    except BadInput as error:
        assert str(error).startswith(f"{codec}: {encoder.knob} {quality:g} ")
        assert not best <= quality <= worst or hundredths % steps or quality == encoder.automatic
        return
    assert best <= quality <= worst and hundredths % steps == 0
    assert arguments[:2] == ["-c:v", codec] and any(f"{quality:g}" in word for word in arguments)
    assert arguments[arguments.index(encoder.preset_option) + 1] == encoder.native_preset(preset)


@pytest.mark.parametrize("codec", ENCODERS)
def test_presets_by_common_name_and_by_the_encoder_s_own(codec):
    encoder = ENCODERS[codec]
    assert tuple(encoder.presets) == _PRESET_NAMES
    for own in {*encoder.presets.values(), *encoder.more_presets} - set(_PRESET_NAMES):
        assert encoder.native_preset(own) == own
    assert encoder.native_preset() == encoder.preset == encoder.native_preset(encoder.preset)
    with pytest.raises(BadInput, match=f"{codec}: has no preset 'fastest'; choose from ultrafast, "):
        encoder.native_preset("fastest")


def test_medium_of_every_software_encoder():
    medium = {codec: ENCODERS[codec].native_preset("medium") for codec in SOFTWARE}
    assert medium == {"libx264": "medium", "libx265": "medium", "libsvtav1": "7", "libaom-av1": "4",
                      "libvvenc": "medium", "libvpx-vp9": "2"}  # fmt: skip


@pytest.mark.parametrize("codec", HARDWARE)
def test_arguments_of_hardware_encoders(codec):
    assert ENCODERS[codec].arguments(30, "medium") == ["-c:v", codec, *HARDWARE[codec].split()]
    if codec.endswith("nvenc"):
        with pytest.raises(BadInput, match="cq 0 lets the encoder choose; give 1 to 51"):
            ENCODERS[codec].arguments(0)


@pytest.mark.parametrize("codec", HARDWARE)
def test_hardware_that_is_not_there(codec, tmp_path, capsys):
    if _encoder_works(codec):
        pytest.skip("this machine has it")
    assert codec not in available_encoders()
    with pytest.raises(BadInput, match=f"codec {codec}: not available on this machine, .*; available: libx264"):
        find_encoder(codec)
    (tmp_path / "videos").mkdir()
    words = ["--sources", str(tmp_path / "videos"), "--out", str(tmp_path / "g.jsonl"), "--crf", "30"]
    assert main(["corpus", "grid", "--codecs", f"libx264,{codec}", *words]) == 2
    assert "; available: libx264, libx265" in capsys.readouterr().err


def test_hardware_that_is_there(small, tmp_path, monkeypatch):
    "A stand-in for a device: an ffmpeg that takes the words for NVENC and lets x264 do the work."
    program = tmp_path / "ffmpeg"
    lines = [
        f"#!{sys.executable}",
        "import os, sys",
        "words = sys.argv",
        "if 'h264_nvenc' in words:",
        "    at = words.index('-c:v')",
        "    assert words[at:at + 6] == '-c:v h264_nvenc -rc vbr -cq'.split() + [words[at + 5]], words",
        "    assert words[at + 6:at + 10] == '-preset p4 -b:v 0'.split(), words",
        "    words[at:at + 10] = ['-c:v', 'libx264', '-qp', words[at + 5], '-threads', '1']",
        f"os.execv({ffmpeg_path()!r}, ['ffmpeg', *words[1:]])",
    ]
    program.write_text("\n".join(lines))
    program.chmod(0o755)
    monkeypatch.setenv("VMAF_FFMPEG", str(program))
    assert "h264_nvenc" in available_encoders() and "hevc_nvenc" not in available_encoders()
    made = encode(small, tmp_path / "nvenc.mp4", "h264_nvenc", 30, "medium")
    assert made.frames == small.frames and made.statistics is None
    with pytest.raises(BadInput, match="; available: libx264, .*, h264_nvenc, libvpx-vp9"):
        find_encoder("hevc_nvenc")


def test_pixel_formats_that_encoders_insist_on(small):
    for codec in ("libvvenc", "libx264"):
        arguments = encode_arguments(small, codec, 30)
        assert arguments[arguments.index("-pix_fmt") + 1] == (ENCODERS[codec].pix_fmt or small.pix_fmt)
    assert {ENCODERS[codec].pix_fmt for codec in HARDWARE if codec.endswith("qsv")} == {"nv12"}
