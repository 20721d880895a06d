"""What the doctor finds wrong, what it says to do about it, and which commands ask it first."""

import sys
from collections import namedtuple

import pytest
from packaged import IDS, unpack
from test_measure import CHECKERBOARD, git_blob_sha1

from vmaf_research.measure.engine import ffmpeg_path
from vmaf_research.serve import doctor as module
from vmaf_research.serve.cli import main
from vmaf_research.serve.doctor import doctor, write_checkerboard


def finding(health, name):
    return next(check for check in health.checks if check.name == name)


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    "Make the engine a program that changes the arguments of ffmpeg, or what it prints, with lines of Python."

    def write(change):
        lines = [
            f"#!{sys.executable}",
            "import subprocess, sys",
            "words, without = sys.argv[1:], None",
            change,
            f"done = subprocess.run([{ffmpeg_path()!r}, *words], stdout=subprocess.PIPE)",
            "lines = done.stdout.decode().splitlines(keepends=True)",
            "print(*(line for line in lines if without is None or without not in line), sep='', end='')",
            "sys.exit(done.returncode)",
        ]
        path = tmp_path / "ffmpeg"
        path.write_text("\n".join(lines))
        path.chmod(0o755)
        monkeypatch.setenv("VMAF_FFMPEG", str(path))

    return write


def test_a_healthy_machine(tmp_path, capsys):
    models = unpack(tmp_path)
    assert main(["doctor", "--models", str(models)]) == 0
    printed = capsys.readouterr().out
    assert [line.split()[1] for line in printed.splitlines()] == ["engine", "disk", "encoders", "golden", "models"]
    assert "PROBLEM" not in printed and "35.0687" in printed and IDS[0] in printed
    assert main(["doctor", "--quick"]) == 0
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == ["engine", "disk"]


def test_the_generated_pair_is_the_published_one(tmp_path):
    for offset in (0, 1):
        write_checkerboard(tmp_path / "board.yuv", offset)
        assert git_blob_sha1((tmp_path / "board.yuv").read_bytes()) == CHECKERBOARD[offset]


def test_no_engine(monkeypatch, capsys):
    monkeypatch.setenv("VMAF_FFMPEG", "no-such-ffmpeg")
    assert main(["doctor", "--quick"]) == 1
    assert "PROBLEM  engine     VMAF_FFMPEG=no-such-ffmpeg: no such program; point it at" in capsys.readouterr().out
    health = doctor()
    assert {check.name for check in health.checks if not check.ok} == {"engine", "encoders", "golden"}


def test_an_engine_that_measures_something_else(stand_in, tmp_path):
    "It passes the probe of a current engine, whose graph has no format filter, but blurs what is measured."
    stand_in("words = [word.replace('format=yuv420p', 'boxblur=1,format=yuv420p', 1) for word in words]")
    health = doctor(models=tmp_path)
    assert finding(health, "engine").ok
    golden = finding(health, "golden")
    assert not golden.ok and "instead of 35.0687" in golden.sentence and "unset VMAF_FFMPEG" in golden.sentence


def test_an_engine_that_sees_no_chroma(stand_in, tmp_path):
    "It passes the probe and the checkerboard, which is grey, but takes the colour out of what is measured."
    stand_in("words = [word.replace('[distorted];', ',lutyuv=u=128:v=128[distorted];', 1) for word in words]")
    golden = finding(doctor(models=tmp_path), "golden")
    assert not golden.ok and "instead of 97.1177" in golden.sentence and "speed_chroma is broken" in golden.sentence


def test_an_engine_that_cannot_start_speed(stand_in, tmp_path):
    stand_in("sys.exit('speed_chroma: cannot be initialised') if 'vmaf_v1' in str(words) else None")
    golden = finding(doctor(models=tmp_path), "golden")
    assert not golden.ok and "VMAF v1 cannot be measured" in golden.sentence


def test_an_ffmpeg_without_an_encoder(stand_in, tmp_path):
    stand_in("without = 'libvvenc'")
    encoders = finding(doctor(models=tmp_path), "encoders")
    assert encoders.ok and "not in this ffmpeg: libvvenc" in encoders.sentence


def test_an_ffmpeg_without_the_default_encoder(stand_in, tmp_path):
    stand_in("without = 'libx264'")
    encoders = finding(doctor(models=tmp_path), "encoders")
    assert not encoders.ok and "has no libx264" in encoders.sentence and "unset VMAF_FFMPEG" in encoders.sentence


def test_a_cache_that_is_no_folder(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("VMAF_RESEARCH_CACHE", str(tmp_path / "file" / "cache"))
    disk = finding(doctor(quick=True), "disk")
    assert not disk.ok and "cannot be written to" in disk.sentence and "set VMAF_RESEARCH_CACHE" in disk.sentence


def test_a_cache_that_does_not_exist_yet_is_not_made(tmp_path, monkeypatch):
    monkeypatch.setenv("VMAF_RESEARCH_CACHE", str(tmp_path / "some" / "cache"))
    assert finding(doctor(quick=True), "disk").ok
    assert not list(tmp_path.iterdir())


def test_a_full_disk(monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage(1 << 40, 1 << 40, 5 << 20))
    disk = finding(doctor(quick=True), "disk")
    assert not disk.ok and "5 MiB are free" in disk.sentence and "delete something" in disk.sentence


def test_models_that_are_damaged_or_missing(tmp_path, capsys):
    models = unpack(tmp_path)
    (models / f"{IDS[0]}.md").write_text("edited")
    assert main(["doctor", "--models", str(models)]) == 1
    assert f"PROBLEM  models     {IDS[0]}.md: its SHA-256 is" in capsys.readouterr().out
    (tmp_path / "nothing").mkdir()
    none = finding(doctor(models=tmp_path / "nothing"), "models")
    assert none.ok and "refresh --install" in none.sentence


def test_long_commands_ask_first(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "_LEAST_FREE", 1 << 60)
    for words in (["extract", "clips", "nowhere", "--out", "t.parquet"], ["refresh", "--clips", "nowhere"],
                  ["train", "fr-regressor-v1", "--parquet", "nowhere.parquet"]):  # fmt: skip
        assert main(words) == 2
        lines = capsys.readouterr().err.splitlines()
        assert lines[0].startswith("warning: cache: ") and lines[1].startswith("error: nowhere")
    assert main(["measure", "nowhere.mkv", "nowhere.mkv"]) == 2
    assert "warning" not in capsys.readouterr().err
