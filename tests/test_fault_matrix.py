"""Every command that writes, killed, on a full disk, in a folder that is read only, and twice at a time.

The commands come from the tree: a new one that writes needs a row in `CALLS`, and is in the matrix from then on. What
must hold: a documented exit code and a sentence, files whole or as they were, and after another run the same bytes as
undisturbed. A full disk is a small tmpfs, and one that is mounted again read only; where nothing may be mounted it is
a limit on the size of files, and a folder without permission.
"""

import contextlib
import fnmatch
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path

import numpy as np
import pytest
import typer
from conftest import write_pan
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from made_up import make_codec_rows, make_opinions, make_table

from vmaf_research.corpora.rows import new_row, write_rows
from vmaf_research.learn.recipes import RECIPES, Recipe
from vmaf_research.measure.engine import run_ffmpeg
from vmaf_research.measure.manifest import same_result
from vmaf_research.measure.video import input_arguments
from vmaf_research.serve.cli import app, main
from vmaf_research.serve.options import Changes, Writes, markers
from vmaf_research.ship.ensemble import run_ensemble
from vmaf_research.ship.registry import install, registry_folder

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and limits are those of POSIX")
MAY_MOUNT = hasattr(os, "geteuid") and os.geteuid() == 0 and sys.platform == "linux"
QUICK = {"name": "quick", "optimizer": "adam", "learning_rate": 5e-3, "weight_decay": 0.0, "schedule": "one_cycle"}
QUICK |= {"loss": "mse", "epochs": 60, "batch_size": 32, "dropout": 0.0}

# What lies in the folder of a command, made once


def videos(folder: Path, most: int = 3) -> None:
    (folder / "videos").mkdir()
    patterns = {"bars": "testsrc2=s=96x64", "life": "life=s=96x64:seed=1", "fractal": "mandelbrot=s=96x64"}
    for name, pattern in list(patterns.items())[:most]:
        lossless = ["-frames:v", "8", "-pix_fmt", "yuv420p", "-c:v", "ffv1", str(folder / "videos" / f"{name}.mkv")]
        run_ffmpeg(["-f", "lavfi", "-i", pattern, *lossless])


def one_video(folder: Path) -> None:
    videos(folder, 1)


def netflix(folder: Path) -> None:
    for place in ("ref", "dis"):
        (folder / "netflix" / place).mkdir(parents=True)
    pan = write_pan(folder / "netflix" / "ref" / "Pan_25fps.yuv", 96, 64, 6)
    blurred = ["-vf", "boxblur=1:1", "-f", "rawvideo", str(folder / "netflix" / "dis" / "Pan_50_64_90.yuv")]
    run_ffmpeg([*input_arguments(pan), *blurred])


def konvid(folder: Path) -> None:
    (folder / "konvid" / "KoNViD_1k_videos").mkdir(parents=True)
    for step, number in enumerate(("3015713153", "3337642103"), start=1):
        pan = write_pan(folder / "pan.yuv", 96, 64, 6, step)
        lossy = ["-c:v", "libx264", "-crf", "8", str(folder / "konvid" / "KoNViD_1k_videos" / f"{number}.mp4")]
        run_ffmpeg([*input_arguments(pan), *lossy])
        pan.path.unlink()
    (folder / "konvid" / "mos.csv").write_text("file_name,MOS\n3015713153.mp4,3.5\n3337642103.mp4,2.5\n")


def chug(folder: Path) -> None:
    (folder / "chug" / "videos").mkdir(parents=True)
    pan = write_pan(folder / "pan.yuv", 96, 64, 6)
    for name, crf in (("whole", 8), ("rung", 38)):
        lossy = ["-c:v", "libx264", "-crf", str(crf), str(folder / "chug" / "videos" / f"{name}.mp4")]
        run_ffmpeg([*input_arguments(pan), *lossy])
    pan.path.unlink()
    rows = ["Video,ref,content_name,bitladder,mos_j", "whole,1,pan,,70", "rung,0,pan,360p_0.2M_,30"]
    (folder / "chug" / "chug.csv").write_text("\n".join(rows) + "\n")


def bvi_dvc(folder: Path) -> None:
    samples = np.random.default_rng(0).integers(64, 900, (2, 480 * 272 * 3 // 2)).astype("<u2")
    samples[:] = np.sort(samples, axis=1)  # a picture of a gradient
    with zipfile.ZipFile(folder / "bvi.zip", "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("Videos/DStill_480x272_25fps_10bit_420.yuv", samples.tobytes())


def rows(folder: Path) -> None:
    made = [
        new_row(src=f"{name}.mp4", encoder="libx264", preset="fast", clip_mode="full", crf=crf, vmaf_score=120.0 - crf)
        for name in "abc"
        for crf in (25.0, 35.0, 45.0)
    ]
    write_rows(folder / "a.jsonl", made[:6])
    write_rows(folder / "b.jsonl", made[3:])
    ratings = [{"corpus": "lsvq", "src": f"{name}.mp4", "mos": 3.5} for name in "abc"]
    (folder / "mos.jsonl").write_text("".join(json.dumps(line) + "\n" for line in ratings))


def merged(folder: Path) -> None:
    rows(folder)
    with contextlib.chdir(folder):
        assert main(["corpus", "merge", "a.jsonl", "b.jsonl", "--out", "m.jsonl"]) == 0


def logs(folder: Path) -> None:
    (folder / "logs").mkdir()
    metrics = {"vmaf": 9.5, "adm2": 1, "motion2": 0, **{f"vif_scale{number}": 0.5 for number in range(4)}}
    log = {"version": "3", "frames": [{"frameNum": number, "metrics": metrics} for number in range(3)]}
    (folder / "logs" / "DAstronaut_480x272_25fps_10bit_420.json").write_text(json.dumps(log))


def table(folder: Path) -> None:
    make_table(4, 3, 4).to_parquet(folder / "t.parquet", index=False)


def people(folder: Path) -> None:
    make_opinions().to_parquet(folder / "p.parquet", index=False)


def long_table(folder: Path) -> None:
    make_table(4, 12, 40).to_parquet(folder / "t.parquet", index=False)


def codec_rows(folder: Path) -> None:
    (folder / "corpus").mkdir()
    (folder / "corpus" / "clip.y4m").write_bytes(b"stands for a video")
    make_codec_rows().to_parquet(folder / "rows.parquet", index=False)


def judged(folder: Path, until: int = 0) -> None:
    "A run with a verdict, exported members and a promotion, up to the step that a command takes."
    codec_rows(folder)
    RECIPES["quick"] = Recipe(**QUICK)
    with contextlib.chdir(folder):
        run_ensemble("rows.parquet", "run", "quick", corpus_root=Path("corpus"), progress=False)
        steps = [["ensemble", "validate", "run"], ["ensemble", "export", "run", "-q"]]
        steps += [["registry", "promote", "--verdict", "run/PROMOTE.json", "--models", "run/model"]]
        for words in steps[:until]:
            assert main(words) == 0
    del RECIPES["quick"]


def measured(folder: Path) -> None:
    videos(folder)
    with contextlib.chdir(folder):
        words = ["corpus", "grid", "--sources", "videos", "--out", "g.jsonl", "--crf", "20:50:10"]
        assert main([*words, "--preset", "ultrafast", "-q"]) == 0


def registered(folder: Path) -> None:
    install("fr_regressor_nano_v1", registry_folder(), folder / "model")
    key = ec.generate_private_key(ec.SECP256R1())
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


# One row per command


@dataclass(frozen=True)
class Call:
    "The fewest words that make a command write, in a folder of its own."

    words: str
    inputs: tuple = ()  # functions that make them
    cheap: bool = False  # takes part in every test run
    varying: tuple[str, ...] = ()  # names of files that differ between runs, such as those with measured times
    growing: tuple[str, ...] = ()  # and of those that are written several times, each time with more


CLIPS = "--height 64 --frames 4 --features canonical6 -q"
SEEDS_RUN = ("run/logs/*", "run/predictions.parquet.manifest.json")  # a log per start, digests of times
GRID = ("*.grid/*", "g.jsonl*", "f.parquet.manifest.json")  # how long each encode took
CALLS = {
    ("extract", "netflix"): Call("netflix --out t.parquet --width 96 --height 64 --features canonical6 -q", (netflix,)),
    ("extract", "clips"): Call(f"videos --out t.parquet --workdir work {CLIPS}", (one_video,), cheap=True),
    ("extract", "embedded"): Call("--out t.parquet --height 64 --frames 2 --features canonical6 -q"),
    ("extract", "konvid"): Call("konvid --out t.parquet --features canonical6 -q", (konvid,)),
    ("extract", "scored"): Call("konvid --out t.parquet --scale 1:5 --features canonical6 -q", (konvid,)),
    ("extract", "chug"): Call("chug --out t.parquet --features canonical6 -q", (chug,)),
    ("extract", "bvi-dvc"): Call("bvi.zip --out t.parquet --preset ultrafast --features canonical6 -q", (bvi_dvc,)),
    ("corpus", "merge"): Call("a.jsonl b.jsonl --out m.jsonl", (rows,), cheap=True),
    ("corpus", "aggregate"): Call("mos.jsonl --out o.jsonl", (rows,), cheap=True),
    ("corpus", "describe"): Call("a.jsonl --html page.html", (rows,), cheap=True),
    ("corpus", "to-parquet"): Call("a.jsonl --out p.parquet", (rows,), cheap=True),
    ("corpus", "bvi-dvc-rows"): Call("logs --out r.jsonl -q", (logs,), cheap=True),
    ("corpus", "grid"): Call(
        "--sources videos --out g.jsonl --per-frame f.parquet --crf 30,45 --preset ultrafast -q",
        (videos,),
        varying=GRID,
    ),
    ("people", "read"): Call("p.parquet --out q.parquet", (people,), cheap=True),
    ("people", "evaluate"): Call("p.parquet --out o.json --html page.html --resamples 50", (people,)),
    ("people", "train"): Call("p.parquet --out run", (people,)),
    ("score",): Call("fr_regressor_nano_v1 t.parquet --out s.parquet", (table,), cheap=True),
    ("train",): Call("fr-regressor-v1 --parquet t.parquet --out run -q --ship-threshold 0.5", (long_table,)),
    ("refresh",): Call(f"--clips videos --out run {CLIPS}", (videos,)),
    ("ensemble", "run"): Call("rows.parquet --out run --dry-run -q", (codec_rows,), varying=SEEDS_RUN),
    ("ensemble", "validate"): Call("run", (judged,), varying=("run/PROMOTE.json.manifest.json",)),
    ("ensemble", "export"): Call("run -q", (lambda folder: judged(folder, 1),)),
    ("registry", "promote"): Call("--verdict run/PROMOTE.json --models run/model", (lambda folder: judged(folder, 2),)),
    ("registry", "rollback"): Call("--models run/model", (lambda folder: judged(folder, 3),)),
    ("registry", "sign"): Call(
        "fr_regressor_nano_v1 --private-key key.pem --models model",
        (registered,),
        varying=("model/registry.json", "model/fr_regressor_nano_v1.sigstore.json"),  # a signature is random
    ),
    ("predictor", "tune"): Call(
        "--source videos/fractal.mkv --target-vmaf 85 --preset ultrafast --out work --html page.html -q", (videos,)
    ),
    ("predictor", "train"): Call("--corpus g.jsonl --models model -q", (measured,), growing=("model/*",)),
    ("predictor", "stubs"): Call("--models model", growing=("model/registry.json",)),
    ("manifest", "replay"): Call(
        "m.jsonl --keep again",
        (merged,),
        varying=("again/replay.log", "again/out/m.jsonl.manifest.json", "again/cache/locks/*"),
    ),
    ("manifest", "export"): Call("m.jsonl --croissant --out c.json", (merged,)),
}


def commands_that_write(command, name=()):
    "All commands below one that have an option or argument where something is written."
    if not hasattr(command, "commands"):
        return [name] if any(isinstance(each, Writes | Changes) for each in markers(command).values()) else []
    return [found for word, inner in command.commands.items() for found in commands_that_write(inner, (*name, word))]


WRITERS = commands_that_write(typer.main.get_command(app))


def test_every_command_that_writes_is_in_the_matrix():
    assert set(WRITERS) == set(CALLS), "say in CALLS how a new command is called with the fewest words"


# Runs in processes of their own, which are forked from one that has loaded everything

SERVER = multiprocessing.get_context("forkserver") if os.name == "posix" else None


def _run(words: list[str], folder: str, environment: dict[str, str], most_bytes: int | None) -> None:
    "What a process does."
    os.setsid()  # so that it can be killed with all its children
    os.chdir(folder)
    os.environ.update(environment)
    said = os.open(f"{environment['SAID']}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(said, 1)
    os.dup2(said, 2)
    if most_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
    RECIPES["quick"] = Recipe(**QUICK)
    sys.exit(main(words))  # an exception that escapes is told by the process, with a traceback


class Runs:
    "Starts a command in a folder; what it says goes to a file elsewhere."

    def __init__(self, place: Path):
        self.place, self.count = place, 0

    def start(self, words: list[str], folder: Path, most_bytes: int | None = None):
        self.count += 1
        said = self.place / f"said{self.count}.txt"
        environment = {"SAID": str(said), "VMAF_RESEARCH_CACHE": str(self.place / "cache"), "OMP_NUM_THREADS": "1"}
        process = SERVER.Process(target=_run, args=(words, str(folder), environment, most_bytes))
        process.start()
        return process, said

    def finish(self, started) -> tuple[int, str]:
        "Exit code and what was said; whatever happened, nobody has to read a traceback."
        process, said = started
        process.join()
        text = said.read_text() if said.exists() else ""
        assert "Traceback" not in text, text
        return process.exitcode, text

    def run(self, *arguments, **options) -> tuple[int, str]:
        return self.finish(self.start(*arguments, **options))

    def forget(self) -> None:
        "Measure again."
        shutil.rmtree(self.place / "cache", ignore_errors=True)


@dataclass
class Reference:
    "What an undisturbed run starts from and leaves, and how long it takes."

    call: Call
    words: list[str]
    start: Path
    done: Path
    code: int
    seconds: float

    def compare(self, folder: Path, complete: bool) -> None:
        "Every file is as it was or as it shall be; `complete`: and all are there, and nothing else."
        names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        expected = {path.relative_to(self.done).as_posix() for path in self.done.rglob("*") if path.is_file()}
        others = (*self.call.varying, *(() if complete else self.call.growing))
        varying = {name for name in names | expected if any(fnmatch.fnmatch(name, each) for each in others)}
        if complete:
            assert names - varying == expected - varying
        for name in (names & expected) - varying:
            bases = (self.done,) if complete else (self.done, self.start)
            assert any((base / name).is_file() and same_result(folder / name, base / name) for base in bases), name


@pytest.fixture(scope="module")
def references(tmp_path_factory):
    "The undisturbed run of a command, made when it is first asked for."
    found = {}
    often = ["vmaf_research.corpora.opinions", "vmaf_research.predict.training", "matplotlib.pyplot", "scipy.stats"]
    SERVER.set_forkserver_preload([__name__, *often])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(
            "PYTHONPATH", os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))
        )
        forkserver.ensure_running()  # where it finds this module

    def reference(name) -> Reference:
        if name not in found:
            call, place = CALLS[name], tmp_path_factory.mktemp("-".join(name))
            (place / "start").mkdir()
            for make in call.inputs:
                make(place / "start")
            runs, done = Runs(place), place / "place"
            shutil.copytree(place / "start", done)
            words = [*name, *call.words.split()]
            began = time.monotonic()
            code, text = runs.run(words, done)
            seconds = time.monotonic() - began
            assert code in (0, 1, 3), text
            found[name] = Reference(call, words, place / "start", done, code, seconds)
        return found[name]

    return reference


@contextlib.contextmanager
def disk(folder: Path, start: Path):
    "A folder with the files of another; a file system of its own if that may be mounted."
    folder.mkdir()
    if MAY_MOUNT:
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(folder)], check=True)
    try:
        shutil.copytree(start, folder, dirs_exist_ok=True)
        yield
    finally:
        if MAY_MOUNT:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def used(folder: Path) -> int:
    "Bytes of a file system."
    found = os.statvfs(folder)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


def bytes_of(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# The faults


def killed(reference: Reference, folder: Path, runs: Runs, dice: random.Random) -> None:
    "At a random moment, with all its children; then the same command again."
    shutil.copytree(reference.start, folder)
    process, said = runs.start(reference.words, folder)
    process.join(dice.random() * reference.seconds)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.join()
    reference.compare(folder, complete=False)


def full_disk(reference: Reference, folder: Path, runs: Runs, dice: random.Random) -> None:
    "Somewhere in the middle of what is to be written; then there is room."
    before, after = (sum(map(len, bytes_of(base).values())) for base in (reference.start, reference.done))
    room = dice.randrange(max(after - before, 4096))
    if MAY_MOUNT:
        with mounted_size(folder, used(folder) + room):
            code, text = runs.run(reference.words, folder)
    else:
        code, text = runs.run(reference.words, folder, most_bytes=room // 2)
    assert code in (2, reference.code), text
    assert code != 2 or "error: " in text, text
    reference.compare(folder, complete=False)


@contextlib.contextmanager
def mounted_size(folder: Path, size: int):
    "A file system that holds so many bytes, for the length of the block."
    subprocess.run(["mount", "-o", f"remount,size={-(-size // 4096) * 4096}", str(folder)], check=True)
    yield
    subprocess.run(["mount", "-o", "remount,size=1g", str(folder)], check=True)


def read_only(reference: Reference, folder: Path, runs: Runs, dice: random.Random) -> None:
    "Nothing can be written; then it can."
    before = bytes_of(folder)
    if MAY_MOUNT:
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    else:
        folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
        for path in folders:
            path.chmod(0o555)
    code, text = runs.run(reference.words, folder)
    if MAY_MOUNT:
        subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)
    else:
        for path in folders:
            path.chmod(0o755)
    assert code == 2 and "error: " in text, text
    assert bytes_of(folder) == before


def two_writers(reference: Reference, folder: Path, runs: Runs, dice: random.Random) -> None:
    "At the same time: one of them does it, and the other does it too or says who is there."
    shutil.copytree(reference.start, folder)
    both = [runs.start(reference.words, folder) for _ in range(2)]
    ends = [runs.finish(each) for each in both]
    codes = [code for code, _ in ends]
    assert reference.code in codes and set(codes) <= {reference.code, 2}, ends
    for code, text in ends:
        assert code != 2 or "error: " in text, text
    reference.compare(folder, complete=False)


FAULTS = {"killed": killed, "full disk": full_disk, "read only": read_only, "two writers": two_writers}
ON_A_DISK = ("full disk", "read only")
ONCE = {("registry", "promote"), ("registry", "rollback"), ("manifest", "replay")}  # refuse to do again what is done


def cases():
    "Every command with every fault; the cheap commands with one fault each are part of every test run."
    cheap = [name for name in WRITERS if name in CALLS and CALLS[name].cheap]
    for name in WRITERS:
        for number, fault in enumerate(FAULTS):
            always = name in cheap and cheap.index(name) % len(FAULTS) == number
            yield pytest.param(name, fault, marks=() if always else pytest.mark.slow, id=f"{' '.join(name)}-{fault}")


@pytest.mark.parametrize(("name", "fault"), list(cases()))
def test_a_fault(name, fault, references, tmp_path):
    reference, runs, dice = references(name), Runs(tmp_path), random.Random(f"{name} {fault}")
    folder = tmp_path / "place"
    with disk(folder, reference.start) if fault in ON_A_DISK else contextlib.nullcontext():
        FAULTS[fault](reference, folder, runs, dice)
        code, text = runs.run(reference.words, folder)
        assert code == reference.code or name in ONCE and code == 2 and "error: " in text, text
        reference.compare(folder, complete=code == reference.code)
