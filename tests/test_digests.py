"""The form of every digest, and that its numbers come from its data: without a file of them it fails."""

import re
from dataclasses import replace
from itertools import groupby

import matplotlib.figure
import nbformat
import pytest
from execnb.shell import CaptureShell
from nbdev.config import get_config
from nbdev.test import nb_test_cells

from vmaf_research.measure import core as config
from vmaf_research.serve import claims as claims_module
from vmaf_research.serve.claims import REFERENCE, Claims, read_claims, restate

matplotlib.use("agg")
SETTINGS = config.settings()
FLAGS = get_config(SETTINGS.root).tst_flags
DIGESTS = sorted(SETTINGS.digest_path.glob("[0-9]*.ipynb"))
SECTIONS = ["Answer", "Question", "Method", "Findings", "Alternatives", "Open questions", "Reproduce"]
TEMPLATE = SETTINGS.root / "docs" / "digest-template.ipynb"
WRITTEN = ("claims.json", ".csv")  # by the cells, all other files of a digest are what they read
DATA = {
    path: [
        file
        for file in sorted((SETTINGS.digest_path / "data" / path.name[:4]).glob("*"))
        if not file.name.endswith(WRITTEN)
    ]
    for path in DIGESTS
}
NUMBER = re.compile(r"(?<![\w.\-/])[-−+]?(\d[\d,]*(?:\.\d+)?)( ?%)?(?!\w)")
NO_NUMBERS = (  # code, formulas, links, headings, names and citations
    r"(?s)```.*?```",
    r"`[^`]*`", r"\$[^$]*\$", r"\]\([^)]*\)", r"(?m)^#+ .*$|^> .*$|^\d+\. ", r"[Dd]igests? \d{4}|\(\d{4}\)",
    r"arXiv (\d{4}\.\d{5}|[^.;)]*)|\d{4}\.\d{5}", r"ADR-\d+", r"SSIMULACRA 2|x26[45]|SAM 2|VMAF v[\d.]+",
)  # fmt: skip
ENDS = {0.0, 1.0, 2.0, 95.0, 100.0}  # of scales; both of two; the level of all intervals
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
    assert found[:3] == SECTIONS[:3] and found[-2:] == SECTIONS[-2:]  # between them a digest may go to and fro


@pytest.mark.parametrize("path", DIGESTS, ids=lambda path: path.stem)
def test_digest_is_dated_and_small(path):
    first = nbformat.read(path, as_version=4).cells[0]
    assert re.search(r"^date: \d{4}-\d\d-\d\d$\n^tags: \[.+\]$\n^status: (open|answered)$", first.source, re.M)
    assert all(file.stat().st_size < MOST_BYTES for file in DATA[path])


def unfounded_numbers(path):
    "Numbers in the prose of a digest that are neither a claim nor a setting: a literal of its cells or of a command."
    cells = nbformat.read(path, as_version=4).cells
    prose = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    code += "\n".join(re.findall(r"(?s)```.*?```", prose))
    settings = ENDS | {float(each.replace("_", "")) for each in re.findall(r"(?<![\w.])\d[\d_]*(?:\.\d+)?", code)}
    prose = REFERENCE.sub(" ", prose)
    for pattern in NO_NUMBERS:
        prose = re.sub(pattern, " ", prose)
    found = [(float(number.rstrip(",").replace(",", "")), percent) for number, percent in NUMBER.findall(prose)]
    return [value for value, percent in found if value not in settings and not (percent and value / 100 in settings)]


@pytest.mark.parametrize("path", DIGESTS, ids=lambda path: path.stem)
def test_numbers_in_prose_are_claims_or_settings(path):
    claims = {claim.name: claim for claim in read_claims(path.name[:4]).claims}
    cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]
    for source in cells:
        assert restate(source, claims) == source
    assert "](#claim-" in cells[0] and claims.keys() == {match[5] for match in REFERENCE.finditer("".join(cells))}
    assert unfounded_numbers(path) == []


@pytest.mark.parametrize("path", DIGESTS, ids=lambda path: path.stem)
def test_figures_say_what_they_show(path):
    figures = [cell for cell in nbformat.read(path, as_version=4).cells if "claims.figure(" in cell.source]
    drawn = [cell for cell in nbformat.read(path, as_version=4).cells
             if any("image/png" in output.get("data", {}) for output in cell.get("outputs", []))]  # fmt: skip
    assert figures == drawn and all(re.search(r"^#\| fig-alt: .{40,}", cell.source, re.M) for cell in figures)
    assert sum("#| headline: true" in cell.source for cell in figures) == 1


def test_a_number_that_no_cell_computes_is_found(tmp_path):
    notebook = nbformat.v4.new_notebook(cells=[
        nbformat.v4.new_markdown_cell("48 frames of `x`: [3.4](#claim-a) off, 37.5 % in digest 0004, 1,234 elsewhere."),
        nbformat.v4.new_code_cell("frames = 48"),
    ])  # fmt: skip
    nbformat.write(notebook, tmp_path / "0001-made-up.ipynb")
    assert unfounded_numbers(tmp_path / "0001-made-up.ipynb") == [37.5, 1234.0]


def test_claims_that_differ_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "settings", lambda start=None: replace(SETTINGS, digest_path=tmp_path))
    monkeypatch.setattr(claims_module, "settings", config.settings)

    def claimed(value, points=(1.0, 2.0), name="off"):
        claims = Claims("0001")
        claims(name, value, "VMAF", (value - 1, value + 1))
        figure = matplotlib.figure.Figure()
        figure.subplots().plot([0, 1], points, label="a")
        claims.figure("line", figure)
        return claims

    claimed(3.25).write()
    kept = {path.name: path.read_bytes() for path in tmp_path.glob("data/0001/*")}
    assert set(kept) == {"claims.json", "line.csv"}
    claimed(3.25 + 1e-5).write()  # the last digits of another machine
    assert kept == {path.name: path.read_bytes() for path in tmp_path.glob("data/0001/*")}
    with pytest.raises(config.VerificationFailed, match=r"digest 0001: off is 3.35 VMAF, the file has 3.25; run"):
        claimed(3.35).check()
    with pytest.raises(config.VerificationFailed, match="points of the figure line"):
        claimed(3.25, (1.0, 2.5)).check()
    with pytest.raises(config.VerificationFailed, match="other: in the file or in a cell"):
        claimed(3.25, name="other").check()
    claimed(3.35).write()
    assert claims_module.read_claims("0001").claims[0].value == 3.35


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
