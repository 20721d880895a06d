"""Manifests of somebody who means harm: a replay writes into its own folder only, and starts nothing else."""

import json
import os
import shutil
from pathlib import Path

import pytest
import typer
from refusals import row_of

from vmaf_research.corpora.rows import write_rows
from vmaf_research.measure.core import BadInput
from vmaf_research.measure.manifest import manifest_path, open_manifest
from vmaf_research.measure.provenance import seal, sha256_file, write_json
from vmaf_research.serve import manifests
from vmaf_research.serve.cli import app, main
from vmaf_research.serve.manifests import replay

COMMANDS = typer.main.get_command(app)


@pytest.fixture
def place(tmp_path, monkeypatch):
    "Rows that were merged, with their manifest, and files beside them that are nobody's business."
    write_rows(tmp_path / "a.jsonl", [row_of("a", 20.0)])
    write_rows(tmp_path / "b.jsonl", [row_of("b", 30.0)])
    monkeypatch.chdir(tmp_path)
    assert main(["corpus", "merge", "a.jsonl", "b.jsonl", "--out", "m.jsonl"]) == 0
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "precious.txt").write_text("mine")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))  # so that leaving it is seen
    return tmp_path


@pytest.fixture
def started(monkeypatch):
    "The words and the folder of every process that a replay would start."
    found = []

    def run(words, folder, use_cache):
        found.append((words, folder))
        return 2, "not run"

    monkeypatch.setattr(manifests, "_run_again", run)
    return found


def rewrite(change):
    "Change the manifest and seal it again, as a liar would."
    path = manifest_path("m.jsonl")
    document = open_manifest(path).document
    change(document["deterministic"]["run_provenance"], document["volatile"])
    write_json(path, seal(document))


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and not path.is_symlink()}


def attack(place):
    "Replay, whatever comes of it; nothing outside of the temporary folder is written, and nothing is left in that."
    before = contents(place)
    with pytest.raises(BadInput) as caught:
        replay("m.jsonl", COMMANDS)
    assert contents(place) == before
    return str(caught.value)


@pytest.mark.parametrize(
    "words",
    [
        "mcp --allow .",
        "mcp --http 8000",
        "doctor",
        "manifest replay m.jsonl --keep again",
        "manifest verify m.jsonl",
        "registry promote --verdict run/PROMOTE.json --models victim",
        "registry rollback --models victim",
        "predictor stubs --models victim",
        "predictor tune --source a.mkv --out victim",
        "manifest export m.jsonl --croissant --out victim/c.json",
        "measure a.mkv b.mkv",
    ],
)
def test_what_serves_installs_or_promotes_is_not_started(words, place, started):
    rewrite(lambda run, volatile: run.update(argv=words.split()))
    assert "is not replayed" in attack(place) and not started


@pytest.mark.parametrize(
    "words",
    [
        "refresh --clips victim --out victim --install",
        "ensemble export victim --install --models victim",
        "extract netflix victim --out victim/precious.txt --scheduler tcp://127.0.0.1:1",
    ],
)
def test_options_that_would_leave_the_folder_are_left_out(words, place, started):
    rewrite(lambda run, volatile: run.update(argv=words.split(), inputs={}))
    attack(place)
    ((said, folder),) = started
    assert not {"--install", "--scheduler"} & set(said)
    written = [said[said.index("--out") + 1]] if "--out" in said else [said[-1]]
    assert all(Path(path).is_relative_to(folder) for path in written)


@pytest.mark.parametrize(
    "out",
    ["victim/precious.txt", "../victim.jsonl", "/victim.jsonl", "victim/../../x.jsonl", "link/precious.jsonl", ".."],
)
def test_outputs_go_to_the_folder_of_the_replay(out, place, started):
    (place / "link").symlink_to(place / "victim")
    rewrite(lambda run, volatile: run.update(argv=["corpus", "merge", "a.jsonl", "b.jsonl", "--out", out]))
    attack(place)
    for said, folder in started:
        target = Path(said[said.index("--out") + 1])
        assert Path(os.path.realpath(target)).is_relative_to(folder) and ".." not in target.parts


def hostile_input(run, path, root):
    "An input that is the file of the victim, where a root and a path lead to."
    digest = {"kind": "file", "size": 4, "sha256": sha256_file("victim/precious.txt")}
    run["inputs"]["x"] = {"root": root, "path": path, **digest}


@pytest.mark.parametrize("depth", range(7))
def test_roots_that_lead_out_of_the_copied_folder(depth, place, started):
    "What is copied for a command that changes a folder stays in the copy, wherever the manifest says that it was."
    shutil.copytree(place / "victim", place / "run")

    def lie(run, volatile):
        run["argv"] = ["ensemble", "validate", "run"]
        inside = place / "run"
        above = Path(inside, *[".."] * depth)
        hostile_input(run, os.path.relpath(place / "victim" / "precious.txt", os.path.normpath(above)), "evil")
        volatile["roots"]["evil"] = str(above)
        volatile["roots"]["output"] = str(place / "run")

    rewrite(lie)
    attack(place)
    assert all(Path(word).is_relative_to(folder) for words, folder in started for word in words[2:] if "/" in word)


@pytest.mark.parametrize("path", ["../victim/precious.txt", "/etc/passwd", "a/../../victim/precious.txt"])
def test_paths_that_leave_their_root_are_refused(path, place, started):
    rewrite(lambda run, volatile: hostile_input(run, path, "output"))
    assert "expected a path inside its root" in attack(place) and not started


def test_a_root_that_nobody_knows(place, started):
    rewrite(lambda run, volatile: hostile_input(run, "x", "nowhere"))
    assert "nowhere" in attack(place) and not started


def test_a_folder_that_a_link_stands_for_is_not_written_to(place, started):
    "What is copied is put into new folders only."
    (place / "run").symlink_to(place / "victim")

    def lie(run, volatile):
        run["argv"] = ["ensemble", "validate", "run"]
        hostile_input(run, "run/precious.txt", "output")

    rewrite(lie)
    attack(place)
    for words, folder in started:
        assert not Path(words[-1]).is_symlink() and Path(words[-1]).is_relative_to(folder)


def test_a_kept_replay_is_all_in_its_folder(place):
    "The whole way, with the process."
    before = contents(place)
    result = replay("m.jsonl", COMMANDS, keep="again")
    assert result.same
    assert {path: data for path, data in contents(place).items() if "again" not in path.parts} == before


def test_what_can_be_replayed_is_documented():
    page = (Path(__file__).parents[1] / "nbs" / "serve" / "91_manifests.ipynb").read_text()
    prose = "".join("".join(cell["source"]) for cell in json.loads(page)["cells"] if cell["cell_type"] == "markdown")
    assert all(f"`{name}" in prose for name in manifests._REPLAYED)
