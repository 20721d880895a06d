"""Engines that hang, die or answer nonsense: each ends in a sentence, and so does the doctor."""

import json
import sys

import pytest

from vmaf_research.measure import engine as module
from vmaf_research.measure.core import EngineError
from vmaf_research.measure.engine import ffmpeg_path, find_engine
from vmaf_research.measure.libvmaf import measure
from vmaf_research.serve.cli import main

WHOLE = f"""#!{sys.executable}
import json, os, pathlib, signal, subprocess, sys, time
words = sys.argv[1:]
probe, version = any("probe.json" in word for word in words), words == ["-version"]
measures = any("libvmaf=" in word for word in words) and not probe
def real(**options):
    return subprocess.run([{ffmpeg_path()!r}, *words], **options).returncode
def log():
    return next(word for word in words if "log_path=" in word).split("log_path=")[1].split(":")[0]
def rewrite(change):
    code = real()
    path = pathlib.Path(log())
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    sys.exit(code)
{{change}}
sys.exit(real())
"""


@pytest.fixture
def broken(tmp_path, monkeypatch):
    "Make the engine a program that does something else than ffmpeg where `change`, lines of Python, says so."

    def write(change):
        path = tmp_path / "ffmpeg"
        path.write_text(WHOLE.replace("{change}", change))
        path.chmod(0o755)
        monkeypatch.setenv("VMAF_FFMPEG", str(path))
        module._find_engine.cache_clear()
        module.ffmpeg_version.cache_clear()

    monkeypatch.setattr(module, "IDLE_LIMIT", 1.0)
    yield write
    module._find_engine.cache_clear()
    module.ffmpeg_version.cache_clear()


@pytest.mark.parametrize(
    "change",
    [
        "if version: time.sleep(1000)",
        "if probe: time.sleep(1000)",
        "if not probe and not version: time.sleep(1000)",
        "if measures: subprocess.run(['sleep', '1000'])",
        "if measures:\n"
        f"    child = subprocess.Popen([{ffmpeg_path()!r}, *words])\n"
        "    child.send_signal(signal.SIGSTOP)\n    child.wait()",
    ],
    ids=["version", "probe", "container", "child", "stopped in the middle"],
)
def test_an_engine_that_hangs_is_stopped(change, broken, encoded):
    broken(change)
    with pytest.raises(Exception, match="computed nothing for 1 s and was stopped; it hangs"):
        measure(encoded.path, encoded.path, features=["psnr_y"])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("if version: sys.exit(0)", "does not say a version"),
        ("if version: print('hello'); sys.exit(0)", "does not say a version"),
        ("if probe: rewrite(lambda log: [])", "left no readable result"),
        ("if probe: rewrite(lambda log: {})", "left no readable result"),
        ("if probe: rewrite(lambda log: log | {'frames': []})", "not one of 3.2 or later"),
        ("if probe: rewrite(lambda log: log | {'frames': [{} for _ in range(4)]})", "left no readable result"),
        ("if measures: rewrite(lambda log: log | {'frames': [[]]})", "left no readable result"),
        ("if measures: rewrite(lambda log: log | {'frames': [{'metrics': {'vmaf': '9'}}]})", "left no readable result"),
        ("if measures: rewrite(lambda log: log | {'frames': [{'metrics': {}}] * 8})", "no finite"),
        ("if measures: real(); pathlib.Path(log()).write_text('[' * 100000); sys.exit(0)", "left no readable result"),
        ("if measures: real(); pathlib.Path(log()).write_bytes(b''); sys.exit(0)", "left no readable result"),
        ("if measures: os.kill(os.getpid(), 40)", "was killed by signal 40"),
        ("if measures: os.kill(os.getpid(), 11)", "was killed by SIGSEGV"),
    ],
)
def test_an_engine_that_answers_nonsense_is_refused(change, sentence, broken, encoded, capsys):
    broken(change)
    assert main(["measure", str(encoded.path), str(encoded.path)]) == 2
    assert sentence in capsys.readouterr().err


def test_the_doctor_says_that_an_engine_hangs(broken, capsys):
    broken("if version: time.sleep(1000)")
    assert main(["doctor", "--quick"]) != 0
    assert "it hangs" in capsys.readouterr().out
    with pytest.raises(EngineError, match="it hangs"):
        find_engine()


def test_the_shim_itself_measures_as_the_engine(broken, encoded):
    broken("")
    assert json.dumps(measure(encoded.path, encoded.path).mean())
