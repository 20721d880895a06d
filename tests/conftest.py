"""Small real clips that several tests share, and a cache of measurements of their own."""

import gc
import os
import shutil
from fractions import Fraction

os.environ["TQDM_DISABLE"] = "1"  # read when tqdm is imported; logs without progress bars

import hypothesis
import numpy as np
import pytest
from skimage import data
from skimage.color import rgb2gray

from vmaf_research.measure.engine import run_ffmpeg
from vmaf_research.measure.video import Clip, input_arguments, open_clip

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

hypothesis.settings.register_profile("no deadline", deadline=None)  # the machine may be busy
hypothesis.settings.load_profile("no deadline")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    "The tests of a file share what is slow to make, so that one worker runs them all; each notebook stands alone."
    for item in items:
        if item.path.stem != "test_notebooks":
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


def pytest_configure():
    "Nothing is garbage as long as tests are imported."
    gc.disable()


def pytest_collection_finish():
    "What was imported stays, so the search for garbage passes over it."
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gc.enable()


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    "Tests never read or write the user's cache of measurements."
    patch = pytest.MonkeyPatch()
    patch.setenv("VMAF_RESEARCH_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


@pytest.fixture(scope="session")
def floors_once():
    """Fit the floors of a fold once in a run: on small tables they take most of the time of an evaluation.

    Gives what fits them, for a test that wants them fitted anew.
    """
    from vmaf_research.learn import loso  # no test but those that want floors needs what it imports

    fit, fitted = loso._predict_fold, {}

    def fit_once(table, fold, seed):
        key = table.digest, fold, seed
        if key not in fitted:
            fitted[key] = fit(table, fold, seed)
        return fitted[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loso, "_predict_fold", fit_once)
        yield fit


def write_pan(path, width=320, height=180, frames=8, step=2):
    "Raw 8-bit 4:2:0 video of a photograph that moves to the left."
    photograph = (16 + 219 * rgb2gray(data.astronaut())).astype(np.uint8)  # limited range
    chroma = bytes([128] * (2 * (-(-width // 2)) * (-(-height // 2))))
    with open(path, "wb") as file:
        for time in range(frames):
            file.write(photograph[60 : 60 + height, 40 + step * time : 40 + step * time + width].tobytes() + chroma)
    return Clip(path, width, height, "yuv420p", Fraction(25), frames, raw=True)


@pytest.fixture(scope="session")
def pan(tmp_path_factory):
    "A real picture that pans: 8 frames of 320x180."
    return write_pan(tmp_path_factory.mktemp("clips") / "pan.yuv")


@pytest.fixture(scope="session")
def encoded(pan):
    "The pan, encoded by x264 at a low quality."
    path = pan.path.with_name("pan_crf38.mkv")
    run_ffmpeg([*input_arguments(pan), "-c:v", "libx264", "-crf", "38", "-threads", "1", str(path)])
    return open_clip(path)


@pytest.fixture(scope="module")
def browser():
    "A headless browser of the system."
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()
