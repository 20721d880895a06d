"""Every notebook opens well: a title, one line that says what it is about, and outputs that were kept."""

import re

import nbformat
import pytest
from nbdev.config import get_config

from vmaf_research.measure.core import find_root

CONFIG = get_config(find_root(__file__))
NOTEBOOKS = sorted(path for path in CONFIG.nbs_path.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)
BY_NAME = {"ids": lambda path: path.relative_to(CONFIG.nbs_path).with_suffix("").as_posix()}
TUTORIALS = [path for path in NOTEBOOKS if path.parent.name == "tutorials"]
PICTURE = "image/png"


def outputs(path):
    return [output for cell in nbformat.read(path, as_version=4).cells for output in cell.get("outputs", [])]


@pytest.mark.parametrize("path", NOTEBOOKS, **BY_NAME)
def test_notebook_has_title_subtitle_and_outputs(path):
    first = nbformat.read(path, as_version=4).cells[0]
    assert first.cell_type == "markdown"
    assert re.match(r"# \S.*\n\n> \S[^\n]*(\n\n|$)", first.source), "expected `# Title` and `> one line` below it"
    found = outputs(path)
    assert found, "run it with nbdev_test --save, and let a cell show what the code does"
    assert not [output for output in found if output.output_type == "error"]
    told = [output.get("text", "") for output in found]
    told += [text for output in found for kind, text in output.get("data", {}).items() if kind.startswith("text/")]
    assert not re.findall(r"/(?:tmp|root|home|work)/\S*", "\n".join(told)), "a place of this machine"


@pytest.mark.parametrize("path", TUTORIALS, **BY_NAME)
def test_tutorial_is_only_read_and_has_a_figure(path):
    cells = nbformat.read(path, as_version=4).cells
    assert not re.search(r"^#\s*\|\s*(default_exp|export)", "\n".join(cell.source for cell in cells), re.M)
    assert any(PICTURE in output.get("data", {}) for output in outputs(path))


def test_there_are_three_tutorials():
    assert [path.name[:2] for path in TUTORIALS] == ["01", "02", "03"]
