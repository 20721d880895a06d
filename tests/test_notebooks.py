"""Run every notebook's lessons against the exported package.

`nbdev_test` runs a notebook's own definitions. Here exported cells are skipped and their names are taken from the
module they were exported to, in this process, so that the coverage is that of the package which users import.
"""

import importlib

import matplotlib
import pytest
from execnb.shell import CaptureShell
from nbdev.config import get_config
from nbdev.test import nb_test_cells

from vmaf_research.measure.core import find_root

matplotlib.use("agg")
CONFIG = get_config(find_root(__file__))
SKIPPED = {"default_exp", "export", "exports", "exporti"}
NOTEBOOKS = sorted(
    path
    for path in CONFIG.nbs_path.rglob("*.ipynb")
    if not path.name.startswith(("_", ".")) and ".ipynb_checkpoints" not in path.parts
)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_lessons_hold_for_the_package(notebook, monkeypatch):
    monkeypatch.setenv("IN_TEST", "1")
    monkeypatch.chdir(notebook.parent)
    shell = CaptureShell(notebook)
    for cell in nb_test_cells(notebook, CONFIG.tst_flags):
        directives = cell.directives_
        if "default_exp" in directives:
            module = importlib.import_module(f"{CONFIG.lib_path.name}.{directives['default_exp'].strip()}")
            names = {name: value for name, value in vars(module).items() if not name.startswith("__")}
            shell.user_ns.update(names)
        if directives.keys() & SKIPPED:
            continue
        shell.run(cell.source, verbose=False)
        if shell.exc:
            pytest.fail(f"{notebook.name}#{cell.id}\n{cell.source}\n{type(shell.exc).__name__}: {shell.exc}")
