"""The wheel on its own: in an empty folder, without a checkout and without torch, everything but training works."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import anyio
import numpy as np
import pandas as pd
import pytest
from made_up import make_codec_rows
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

from vmaf_research.measure.core import find_root
from vmaf_research.measure.engine import run_ffmpeg
from vmaf_research.ship.registry import read_registry

ROOT = find_root(__file__)
NOT_THERE = ("torch", "functorch", "torchgen", "vmaf_research", "__editable__")  # beginnings of names
TRAINING = {
    "learn.clip_models",
    "learn.functions",
    "learn.regressor",
    "learn.stacks",
    "learn.training",
    "ship.package",
    "ship.refresh",
}
SAYS_NO = """
import importlib, sys
class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, NoTorch())
for name in sys.argv[1:]:
    try:
        importlib.import_module(f"vmaf_research.{name}")
    except ModuleNotFoundError as error:
        assert error.name == "torch", error
        print(name)
"""


def test_only_what_trains_imports_torch():
    modules = sorted(f"{path.parent.name}.{path.stem}" for path in (ROOT / "vmaf_research").glob("*/[!_]*.py"))
    command = [sys.executable, "-c", SAYS_NO, *modules]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(ran.stdout.split()) == TRAINING


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    "A wheel of what git has, built without a network."
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for name in listed.split("\0"):
        if name.startswith(("vmaf_research/", "model/")) or "/" not in name and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    build = f"from setuptools import build_meta; build_meta.build_wheel({str(out)!r})"  # as pip calls it
    subprocess.run([sys.executable, "-c", build], cwd=source, env={**os.environ, "PYTHONPATH": ""}, check=True,
                   stdout=subprocess.DEVNULL)  # fmt: skip
    return next(out.glob("*.whl"))


class _Installed:
    "An environment with the wheel and all that it needs, an empty folder to work in, and a home of its own."

    def __init__(self, folder, wheel):
        self.folder, self.home = folder / "empty", folder / "home"
        self.folder.mkdir()
        self.home.mkdir()
        venv.create(folder / "venv", symlinks=True)
        self.python = folder / "venv" / "bin" / "python"
        packages = next((folder / "venv" / "lib").glob("python*/site-packages"))
        for place in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
            for entry in Path(place).iterdir():
                if not entry.name.startswith(NOT_THERE) and not (packages / entry.name).exists():
                    (packages / entry.name).symlink_to(entry)
        pip = [sys.executable, "-m", "pip", "--python", self.python, "install", "--quiet", "--no-deps", "--no-index"]
        subprocess.run([*pip, wheel], check=True, env=self.environment)
        self.package = packages / "vmaf_research"

    @property
    def environment(self):
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VMAF_", "XDG_"))}
        return kept | {"HOME": str(self.home), "TQDM_DISABLE": "1"}

    def run(self, *words, program="vmaf-research", cwd=None):
        "Exit code, standard output and standard error of a command."
        command = [self.python, *words] if program == "python" else [self.python.parent / program, *words]
        found = subprocess.run(
            command, cwd=cwd or self.folder, env=self.environment, capture_output=True, text=True, timeout=300
        )
        return found.returncode, found.stdout, found.stderr

    def works(self, *words, **how):
        "What a command prints that must succeed."
        code, out, told = self.run(*words, **how)
        assert code == 0, told
        return out


@pytest.fixture(scope="module")
def installed(tmp_path_factory, wheel):
    return _Installed(tmp_path_factory.mktemp("installed"), wheel)


@pytest.fixture(scope="module")
def clip(installed):
    "A second of a moving test picture, and a worse encode of it."
    source, worse = installed.folder / "clip.y4m", installed.folder / "worse.mp4"
    run_ffmpeg(["-f", "lavfi", "-i", "testsrc2=size=320x180:rate=24:duration=1", "-pix_fmt", "yuv420p", str(source)])
    run_ffmpeg(["-i", str(source), "-c:v", "libx264", "-crf", "40", str(worse)])
    return source, worse


def test_what_the_wheel_carries(installed):
    assert (installed.package / "settings.ini").read_bytes() == (ROOT / "settings.ini").read_bytes()
    shipped = {path.name: path.read_bytes() for path in (installed.package / "model").iterdir()}
    names = {"registry.json", *read_registry(ROOT / "model").files}
    assert shipped == {name: (ROOT / "model" / name).read_bytes() for name in names}


def test_torch_is_not_there(installed):
    assert "No module named 'torch'" in installed.run("-c", "import torch", program="python")[2]


def test_it_measures_and_scores(installed, clip):
    assert "PROBLEM" not in installed.works("doctor")
    assert "all registered models" in installed.works("registry", "verify")
    measured = json.loads(installed.works("measure", *map(str, clip), "--json"))
    frames = pd.DataFrame(measured["frames"])
    frames.to_parquet(installed.folder / "frames.parquet")
    installed.works("score", "fr_regressor_nano_v1", "frames.parquet", "--out", "scored.parquet")
    scored = pd.read_parquet(installed.folder / "scored.parquet")
    assert len(scored) == len(frames) == 24
    assert np.abs(scored["score"] - frames["vmaf"]).max() < 0.05


def test_it_predicts_and_tunes(installed, clip):
    source = ["--source", str(clip[0]), "--codec", "libx264", "--target-vmaf", "90", "--json", "--quiet"]
    assert json.loads(installed.works("predictor", "predict", *source))["shots"]
    assert json.loads(installed.works("predictor", "tune", *source))["shots"]
    assert (installed.folder / "runs" / "tune").is_dir()  # where nothing else was said
    assert (installed.home / ".cache" / "vmaf-research" / "measure").is_dir()


def test_it_serves_agents(installed, clip):
    async def ask():
        command = {"command": str(installed.python.parent / "vmaf-research"), "args": ["mcp"]}
        parameters = StdioServerParameters(**command, env=installed.environment, cwd=installed.folder)
        async with Client(stdio_client(parameters)) as client:
            listed = await client.call_tool("list_models", {})
            pair = dict(zip(("ref", "dis"), (path.name for path in clip), strict=True))
            return listed.structured_content, (await client.call_tool("vmaf_score", pair)).structured_content

    listed, score = anyio.run(ask)
    assert "fr_regressor_nano_v1" in [each["id"] for each in listed["models"]]
    assert score["frames"] == 24


def test_training_says_what_it_needs(installed):
    make_codec_rows().to_parquet(installed.folder / "rows.parquet", index=False)
    table = "rows.parquet"
    for words in (("refresh",), ("train", "nano", "--parquet", table), ("ensemble", "run", table)):
        code, out, told = installed.run(*words)
        assert (code, out) == (2, ""), words
        assert told.startswith("error: ") and told.count("\n") == 1 and "'vmaf-research[train]'" in told
    assert {path.name for path in (installed.folder / "runs").glob("*")} <= {"tune"}


def test_models_that_are_changed_are_the_users_own(installed):
    own, shipped = installed.home / ".local" / "share" / "vmaf-research" / "model", installed.package / "model"
    before = {path.name: path.read_bytes() for path in shipped.iterdir()}
    assert not own.exists()
    assert "every codec" in installed.works("predictor", "stubs")
    assert {path.name: path.read_bytes() for path in own.iterdir()} == before
    (own / "fr_regressor_v1.md").unlink()
    assert installed.run("registry", "verify")[0] == 1  # what is looked at now
    shutil.rmtree(own)
    assert "all registered models" in installed.works("registry", "verify")


def test_a_checkout_wins(installed, tmp_path):
    (tmp_path / "settings.ini").write_bytes((ROOT / "settings.ini").read_bytes())
    (tmp_path / "below").mkdir()
    code, _, told = installed.run("registry", "list", cwd=tmp_path / "below")
    assert code == 2 and str(tmp_path / "model" / "registry.json") in told
