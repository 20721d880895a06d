"""Run every notebook and digest from top to bottom, as `nbdev_test` does; a digest must claim what is kept.

An exported cell is compiled under the file and the lines of the module that it is exported to (test_sync.py holds that
both are the same), so that one run tests the notebook and, where lines are counted, counts for the package.
"""

import ast
import re
import sys

import matplotlib
import nbdev.test
import pytest
from execnb.shell import CaptureShell
from IPython.core.compilerop import CachingCompiler
from matplotlib_inline.config import InlineBackend
from nbdev.config import get_config
from slipcover.importer import SlipcoverMetaPathFinder

from vmaf_research.measure.core import find_root
from vmaf_research.serve.claims import Claims

matplotlib.use("agg")
pytestmark = pytest.mark.usefixtures("floors_once")
CONFIG = get_config(find_root(__file__))
NOTEBOOKS = sorted(
    path
    for folder in (CONFIG.nbs_path, find_root(__file__) / "digests")
    for path in folder.rglob("*.ipynb")
    if not path.name.startswith(("_", ".")) and ".ipynb_checkpoints" not in path.parts
)
# where the code of a cell begins: cell id -> (module file, line)
EXPORTED = {
    match[1]: (str(path), number)
    for path in CONFIG.lib_path.rglob("*.py")
    for number, line in enumerate(path.read_text().splitlines(), 2)
    if (match := re.match(r"# %% .*\.ipynb #(\S+)$", line))
}
COUNTER = next((finder.sci for finder in sys.meta_path if isinstance(finder, SlipcoverMetaPathFinder)), None)


class ModuleLines(CachingCompiler):
    "Compiles the statements of an exported cell as lines of its module."

    begins = None  # of the cell that runs: (module file, line, line of its first statement in the notebook)

    def __call__(self, source, filename, symbol, *arguments, **options):
        if self.begins and isinstance(source, ast.AST):
            filename, line, first = self.begins
            source = ast.increment_lineno(source, line - first)
        code = super().__call__(source, filename, symbol, *arguments, **options)
        return code if self.begins is None or COUNTER is None else COUNTER.instrument(code)


class ModuleShell(CaptureShell):
    compiler_class = ModuleLines

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options, mpl_format="png")
        InlineBackend.instance().print_figure_kwargs = {}  # with a tight frame a figure is drawn twice

    def cell(self, cell, **options):
        self.compile.begins = None
        if cell.id in EXPORTED:
            lines = cell.source.splitlines()
            first = next(number for number, line in enumerate(lines, 1) if line.strip() and not line.startswith("#|"))
            self.compile.begins = (*EXPORTED[cell.id], first)
        super().cell(cell, **options)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_from_top_to_bottom(notebook, monkeypatch):
    monkeypatch.setattr(nbdev.test, "CaptureShell", ModuleShell)
    monkeypatch.setattr(Claims, "write", Claims.check)
    passed, _ = nbdev.test.test_nb(notebook, skip_flags=CONFIG.tst_flags)
    assert passed, f"{notebook.name} stopped at an error: see the output"
