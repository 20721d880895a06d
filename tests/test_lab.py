"""JupyterLab as `make lab` opens it, in a headless browser: the start notebook, the magics and the viewer of frames."""

import json
import os
import shutil
import subprocess
import sys
import time
from ast import literal_eval
from pathlib import Path
from urllib.parse import urlparse

import nbformat
import pytest

from vmaf_research.measure.core import find_root

ROOT = find_root(__file__)
START = ROOT / "nbs" / "00_start.ipynb"
PATIENCE = 240  # seconds; the machine may be busy
CONFIG = """
c.ServerApp.open_browser = False
c.ServerApp.port = 0
c.ServerApp.allow_root = True
c.IdentityProvider.token = "a-token-of-the-test"
c.LabApp.expose_app_in_browser = True
c.LabApp.extension_manager = "readonly"
"""
NO_NEWS = {"fetchNews": "false", "checkForUpdates": False}
RUN_ALL = """async () => {
    await jupyterapp.restored;
    const panel = jupyterapp.shell.currentWidget;
    await panel.revealed;
    await panel.sessionContext.ready;
    await jupyterapp.commands.execute("notebook:run-all-cells");
}"""
CELLS = """[...jupyterapp.shell.currentWidget.content.model.cells].filter(cell => cell.type === "code")
    .map(cell => ({ count: cell.executionCount, source: cell.sharedModel.source, outputs: cell.outputs.toJSON() }))"""
TRUSTED = """[...jupyterapp.shell.currentWidget.content.model.cells].filter(cell => cell.type === "code")
    .every(cell => cell.trusted)"""
VALUE = """async expression => {
    const kernel = jupyterapp.shell.currentWidget.sessionContext.session.kernel;
    const asked = kernel.requestExecute({ code: "", user_expressions: { value: expression } });
    return (await asked.done).content.user_expressions.value.data["text/plain"];
}"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    "A copy of what JupyterLab shows, so that nothing that it saves changes the checkout."
    folder = tmp_path_factory.mktemp("lab") / "a checkout"
    for name in ("nbs", "digests", "docs", "model"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    for name in ("Makefile", "settings.ini"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture(scope="module")
def lab(checkout):
    "The page that `make lab` opens in the browser of a user who has never used JupyterLab."
    home = checkout.parent
    settings = home / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text(json.dumps(NO_NEWS))
    (home / "config").mkdir()
    (home / "config" / "jupyter_server_config.py").write_text(CONFIG)
    places = {"CONFIG_DIR": "config", "DATA_DIR": "data", "RUNTIME_DIR": "runtime"}
    environment = {f"JUPYTER_{name}": str(home / folder) for name, folder in places.items()}
    environment |= {"JUPYTERLAB_SETTINGS_DIR": str(home / "settings"), "IPYTHONDIR": str(home / "ipython")}
    environment |= {"JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"), "PYTHONPATH": str(ROOT)}
    command = ["make", "lab", f"BIN={Path(sys.executable).parent}", "INSTALLED="]
    environment = {**os.environ, **environment}
    del environment["TQDM_DISABLE"]  # progress is what a reader sees
    with open(home / "log", "wb") as log:
        process = subprocess.Popen(
            command, cwd=checkout, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    deadline = time.monotonic() + PATIENCE
    try:
        while not (found := [*(home / "runtime").glob("jpserver-file-to-run-*-open.html")]):
            assert process.poll() is None and time.monotonic() < deadline, (home / "log").read_text()[-3000:]
            time.sleep(0.2)
        yield found[0].as_uri()
    finally:
        os.killpg(process.pid, 15)
        process.wait(60)


@pytest.fixture(scope="module")
def page(lab, browser):
    "The start notebook in a browser, run from its first cell to its last, and what went wrong on the way."
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.set_default_timeout(PATIENCE * 1000)
    page.requests, page.complaints = [], []
    page.on("request", lambda request: page.requests.append(request.url))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.goto(lab)
    page.wait_for_function("window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel")
    page.evaluate("jupyterapp.shell.currentWidget.context.ready")
    page.trusted = page.evaluate(TRUSTED)
    page.evaluate(RUN_ALL)
    yield page
    page.close()


def test_it_opens_trusted_at_the_root_of_the_repository(page):
    assert page.evaluate("jupyterapp.shell.currentWidget.context.path") == "nbs/00_start.ipynb"
    assert page.trusted
    page.wait_for_selector(".jp-DirListing-item[title*='00_start.ipynb']")


def test_the_start_notebook_runs_from_a_fresh_kernel(page):
    cells = page.evaluate(CELLS)
    assert [cell["count"] for cell in cells] == list(range(1, len(cells) + 1))
    kinds = {output["output_type"] for cell in cells for output in cell["outputs"]}
    assert "error" not in kinds
    assert not page.complaints


def test_a_magic_shows_a_table_and_a_figure(page):
    shown = page.locator(".jp-OutputArea-output", has=page.locator("table.dataframe")).first
    mean = shown.locator("tr", has=page.locator("th", has_text="vmaf")).first.locator("td").first
    assert 0 < float(mean.text_content()) < 100
    assert shown.locator("img").evaluate("picture => picture.naturalWidth") > 300
    tuned = page.locator(".jp-OutputArea-output", has_text="for VMAF 90, mean over frames").first
    assert tuned.locator("table").count() == tuned.locator("img").count() == 1


def test_progress_is_text(page):
    outputs = [output for cell in page.evaluate(CELLS) if "%%tune" in cell["source"] for output in cell["outputs"]]
    assert "encodes of shots" in "".join(output.get("text", "") for output in outputs)
    assert not any("widget-view" in kind for output in outputs for kind in output.get("data", {}))


def test_the_map_leads_to_every_notebook_and_the_digests_are_beside_it(page, checkout):
    hrefs = page.eval_on_selector_all(".jp-OutputArea a", "links => links.map(link => decodeURI(link.href))")
    rooms, digests = checkout.glob("nbs/*/[1-9]*.ipynb"), checkout.glob("digests/0*.ipynb")
    missing = [path.name for path in (*rooms, *digests) if not any(f"/{path.name}" in href for href in hrefs)]
    assert not missing
    page.locator(".house-map a", has_text="libvmaf").click()
    page.wait_for_function("jupyterapp.shell.currentWidget.context?.path === 'nbs/measure/11_libvmaf.ipynb'")
    page.evaluate("jupyterapp.commands.execute('docmanager:open', { path: 'nbs/00_start.ipynb' })")


def test_the_viewer_wipes_and_shows_differences(page):
    viewer = page.locator(".frame-viewer")
    stage = viewer.locator(".stage")
    stage.scroll_into_view_if_needed()
    size = "picture => [picture.naturalWidth, picture.naturalHeight]"
    assert stage.locator(".reference").evaluate(size) == stage.locator(".distorted").evaluate(size) == [480, 270]
    seen = {"half": stage.screenshot()}
    viewer.locator(".wipe").fill("0.1")
    assert stage.locator(".distorted").evaluate("picture => picture.style.clipPath") == "inset(0px 0px 0px 90%)"
    seen["a tenth"] = stage.screenshot()
    for show in ("reference", "distorted", "difference"):
        viewer.locator("label", has_text=show).first.click()
        seen[show] = stage.screenshot()
    viewer.locator(".gain").fill("32")
    seen["difference times 32"] = stage.screenshot()
    viewer.locator("label.choice").nth(1).click()
    seen["next frame"] = stage.screenshot()
    assert len(set(seen.values())) == len(seen)
    state = page.evaluate(VALUE, "(viewer.chosen, viewer.show, viewer.gain, viewer.position)")
    assert literal_eval(state) == (1, "difference", 32, 0.1)


def test_nothing_is_asked_of_other_hosts(page, lab):
    hosts = {urlparse(url).hostname for url in page.requests if urlparse(url).scheme.startswith(("http", "ws"))}
    assert hosts == {"localhost"}


def test_the_committed_start_notebook_has_the_map_as_it_is():
    outputs = [output for cell in nbformat.read(START, as_version=4).cells for output in cell.get("outputs", [])]
    assert (ROOT / "docs" / "map.html").read_text() in [output.get("data", {}).get("text/html") for output in outputs]
