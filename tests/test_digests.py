"""The form of every digest, and that its numbers come from its data: without a file of them it fails."""

import re
from dataclasses import replace
from itertools import groupby

import matplotlib
import nbformat
import pytest
from execnb.shell import CaptureShell
from nbdev.config import get_config
from nbdev.test import nb_test_cells

from vmaf_research.measure import core as config

matplotlib.use("agg")
SETTINGS = config.settings()
FLAGS = get_config(SETTINGS.root).tst_flags
DIGESTS = sorted(SETTINGS.digest_path.glob("[0-9]*.ipynb"))
SECTIONS = ["Question", "Method", "Findings", "Alternatives", "Open questions", "Reproduce"]
TEMPLATE = SETTINGS.root / "docs" / "digest-template.ipynb"
DATA = {path: sorted((SETTINGS.digest_path / "data" / path.name[:4]).glob("*")) for path in DIGESTS}
MOST_BYTES = 1 << 20  # of one data file


def sections(path):
    "Names of the sections of a digest, without what follows a colon; neighbours of one name are one."
    cells = nbformat.read(path, as_version=4).cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return [name for name, _ in groupby(re.findall(r"^## ([^:\n]+)", text, re.M))]


@pytest.mark.parametrize("path", [TEMPLATE, *DIGESTS], ids=lambda path: path.stem)
def test_digest_has_the_six_sections(path):
    found = sections(path)
    assert set(found) == set(SECTIONS), "a section of another name is a part of one of these: `## Findings: its name`"
    assert found[:2] == SECTIONS[:2] and found[-2:] == SECTIONS[-2:]  # between them a digest may go to and fro


@pytest.mark.parametrize("path", DIGESTS, ids=lambda path: path.stem)
def test_digest_is_dated_and_small(path):
    first = nbformat.read(path, as_version=4).cells[0]
    assert re.search(r"^date: \d{4}-\d\d-\d\d$\n^tags: \[.+\]$\n^status: (open|answered)$", first.source, re.M)
    assert all(file.stat().st_size < MOST_BYTES for file in DATA[path])


def read_until_failure(path, monkeypatch):
    "Run a digest as the tests do; what its first failing cell raised, or None."
    monkeypatch.setenv("IN_TEST", "1")
    monkeypatch.chdir(path.parent)
    shell = CaptureShell(path)
    for cell in nb_test_cells(path, FLAGS):
        shell.run(cell.source, verbose=False)
        if shell.exc:
            return shell.exc
    return None


@pytest.mark.parametrize(
    ("path", "missing"),
    [(path, file) for path in DIGESTS for file in DATA[path]],
    ids=lambda path: f"{path.parent.name}-{path.name}",
)
def test_digest_fails_without_its_data(path, missing, tmp_path, monkeypatch):
    for file in (SETTINGS.digest_path / "data").glob("*/*"):
        if file != missing:
            place = tmp_path / "data" / file.parent.name / file.name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(file)
    monkeypatch.setattr(config, "settings", lambda start=None: replace(SETTINGS, digest_path=tmp_path))
    failure = read_until_failure(path, monkeypatch)
    assert isinstance(failure, FileNotFoundError) and missing.name in str(failure)
