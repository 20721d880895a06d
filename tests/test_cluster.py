"""Extraction and training on a real dask scheduler with two worker processes, one of which is killed in the middle."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch

from vmaf_research.corpora.jobs import cluster_executor, run_jobs
from vmaf_research.learn import stacks
from vmaf_research.measure.core import EngineError
from vmaf_research.measure.engine import run_ffmpeg
from vmaf_research.measure.manifest import verify
from vmaf_research.measure.provenance import sha256_file
from vmaf_research.serve.cli import main
from vmaf_research.ship import refresh as refresh_module
from vmaf_research.ship.refresh import Plan

distributed = pytest.importorskip("distributed")
WORKER = "from distributed.cli.dask_worker import main; main()"


@pytest.fixture(scope="module")
def scheduler():
    "Address of a scheduler on the loopback interface; it has no worker yet."
    options = {"processes": False, "dashboard_address": "127.0.0.1:0", "silence_logs": 50, "host": "127.0.0.1"}
    with distributed.LocalCluster(n_workers=0, protocol="tcp", **options) as cluster:
        yield cluster.scheduler_address


def start_worker(address, folder, cache):
    "A worker process of one thread, without a nanny that would start it again."
    command = [sys.executable, "-c", WORKER, address, "--no-nanny", "--nthreads", "1", "--no-dashboard"]
    environment = {**os.environ, "VMAF_RESEARCH_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    folder.mkdir()
    options = {"cwd": folder, "env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, **options)


@pytest.fixture
def two_threads():
    "As on a machine of two cores: trainings have two parts."
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def stored(cache):
    "When each stored measurement was written, by its file."
    return {path: path.stat().st_mtime_ns for path in (cache / "measure").rglob("*.json") if path.name[0] != "."}


def kill_in_training(cache, worker):
    "Kill a worker as soon as it may have begun to train."
    deadline = time.monotonic() + 60
    while not [*cache.glob("vmaf-research-*/models1")] and time.monotonic() < deadline:
        time.sleep(0.002)
    worker.send_signal(signal.SIGKILL)


def kill_after(cache, number, worker, seen):
    "Kill a worker as soon as so many measurements are stored, and note which they were."
    deadline = time.monotonic() + 60
    while len(stored(cache)) < number and time.monotonic() < deadline:
        time.sleep(0.002)
    worker.send_signal(signal.SIGKILL)
    seen.update(stored(cache))


def train_here(folder, number_of_parts, report):
    "The parts of a training one after the other, without the processes that would have to load torch."
    for number in range(number_of_parts):
        stacks._train_part(folder, number)


def test_a_killed_worker_changes_nothing(scheduler, tmp_path, monkeypatch, capsys, two_threads):
    videos = tmp_path / "videos"
    videos.mkdir()
    for name, pattern in (("bars", "testsrc2"), ("zoom", "mandelbrot")):
        source = ["-f", "lavfi", "-i", f"{pattern}=size=96x64:rate=25", "-frames:v", "8", "-pix_fmt", "yuv420p"]
        run_ffmpeg([*source, "-c:v", "libx264", "-crf", "5", str(videos / f"{name}.mp4")])
    monkeypatch.chdir(tmp_path)  # the workers run elsewhere, and the paths of the command are relative
    words = "extract clips videos --height 64 --frames 8 --features canonical6 -q --workdir corpus".split()
    assert main([*words, "--out", "local.parquet"]) == 0

    cache, seen = tmp_path / "cache", {}
    monkeypatch.setenv("VMAF_RESEARCH_CACHE", str(cache))
    workers = [start_worker(scheduler, tmp_path / f"worker{number}", cache) for number in range(2)]
    try:
        with distributed.Client(scheduler, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)
        killer = threading.Thread(target=kill_after, args=(cache, 3, workers[0], seen))
        killer.start()
        capsys.readouterr()
        assert main([*words, "--out", "cluster.parquet", "--scheduler", scheduler]) == 0
        killer.join()
        workers[0].wait(10)
        assert workers[1].poll() is None
        monkeypatch.setattr(refresh_module, "plans_for", lambda teacher: (Plan("a_v1", "adr0249", "None.", "None."),))
        monkeypatch.setattr(stacks, "_MUCH", 0)  # however short, the training is work for others
        monkeypatch.setattr(stacks, "_run_processes", train_here)
        workers.append(start_worker(scheduler, tmp_path / "worker2", cache))
        with distributed.Client(scheduler, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)
        killer = threading.Thread(target=kill_in_training, args=(cache, workers[1]))
        killer.start()
        again = "refresh --clips videos --height 64 --frames 8 --features canonical6 -q".split()
        codes = {main([*again, "--out", "run", "--scheduler", scheduler]), main([*again, "--out", "alone"])}
        killer.join()
        assert len(codes) == 1 and codes < {0, 3} and workers[1].wait(10) and workers[2].poll() is None
        for name in ("features.parquet", "features.parquet.pairs.parquet", "predictions.parquet", "report.json"):
            assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes(), name
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    assert "16 pairs" in capsys.readouterr().out
    for suffix in ("", ".pairs.parquet"):
        assert sha256_file(f"cluster.parquet{suffix}") == sha256_file(f"local.parquet{suffix}")
    assert verify("cluster.parquet").ok
    after = stored(cache)
    assert 3 <= len(seen) < len(after) == 16  # killed in the middle, and nothing was lost
    assert {path: after[path] for path in seen} == seen  # nor measured again


def test_a_scheduler_without_workers_is_refused(scheduler, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("vmaf_research.corpora.jobs.CONNECT_SECONDS", 0.3)
    assert main(["extract", "embedded", "--out", str(tmp_path / "t.parquet"), "--scheduler", scheduler, "-q"]) == 2
    assert "the scheduler has no worker; start some with `dask worker" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_lost_scheduler_is_named(tmp_path):
    "The whole cluster goes down while a job runs."
    options = {"dashboard_address": "127.0.0.1:0", "silence_logs": 50, "host": "127.0.0.1", "protocol": "tcp"}
    cluster = distributed.LocalCluster(n_workers=1, threads_per_worker=1, processes=False, **options)
    with pytest.raises(EngineError, match="was lost while it ran"), cluster_executor(cluster.scheduler_address) as pool:
        threading.Timer(0.3, cluster.close).start()
        run_jobs(time.sleep, [(1,), (1,)], pool, progress=False)


def test_without_the_extra(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "distributed", None)
    words = ["extract", "embedded", "--out", str(tmp_path / "t.parquet"), "--scheduler", "tcp://127.0.0.1:8786", "-q"]
    assert main(words) == 2
    assert "pip install 'vmaf-research[cluster]'" in capsys.readouterr().err
