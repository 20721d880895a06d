"""Two processes in one place: the second says who works there, and the first is untouched."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from vmaf_research.measure.core import BadInput, settings
from vmaf_research.measure.provenance import working_on
from vmaf_research.serve.cli import main
from vmaf_research.ship.registry import install, read_registry

LATER = """if True:
    import sys
    import vmaf_research.corpora.corpus, vmaf_research.corpora.extract
    from vmaf_research.serve.cli import main
    print("loaded", flush=True)
    sys.stdin.readline()
    sys.exit(main(sys.argv[1:]))
"""


def test_two_extractions_to_one_table(pan, encoded, tmp_path):
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "pan.mkv").write_bytes(encoded.path.read_bytes())
    words = ["extract", "clips", str(tmp_path / "clips"), "--out", str(tmp_path / "t.parquet"), "--height", "64", "-q"]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    second = subprocess.Popen([sys.executable, "-c", LATER, *words], text=True, **pipes)
    assert second.stdout.readline() == "loaded\n"
    with ThreadPoolExecutor(1) as executor:
        first = executor.submit(main, words)
        while not first.done() and not (tmp_path / "t.corpus").exists():
            time.sleep(0.002)
        said = second.communicate("now\n")[1]
    assert (first.result(), second.returncode) == (0, 2), said
    assert f"process {os.getpid()}" in said and "vmaf-research extract clips" in said
    assert (tmp_path / "t.parquet").is_file()


def test_a_registry_that_another_process_changes(tmp_path):
    code = f"""if True:
    import time
    from vmaf_research.measure.provenance import working_on
    with working_on({str(tmp_path)!r}, "a test"):
        print("held", flush=True)
        time.sleep(60)
    """
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    try:
        with pytest.raises(BadInput, match=f"process {holder.pid} on .* works there"):
            install("fr_regressor_nano_v1", settings().model_path, tmp_path)
    finally:
        holder.kill()
        holder.wait()
    install("fr_regressor_nano_v1", settings().model_path, tmp_path)  # a lock ends with its process
    assert [row.id for row in read_registry(tmp_path).models] == ["fr_regressor_nano_v1"]


def test_a_place_is_held_more_than_once_by_one_process(tmp_path):
    with working_on(tmp_path, "one"), working_on(tmp_path / ".." / tmp_path.name, "two"):
        pass
