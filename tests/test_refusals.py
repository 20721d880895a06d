"""Everything in the catalogue of refusals: the exit code, the sentence, and that nothing is written."""

import shutil

import pytest
from refusals import REFUSALS, make_stock

from vmaf_research.measure import engine
from vmaf_research.serve.cli import main


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stock")
    make_stock(folder)
    return folder


@pytest.fixture
def place(stock, tmp_path, monkeypatch):
    "A copy of it, in which the command runs."
    shutil.copytree(stock, tmp_path / "place", symlinks=True)
    monkeypatch.chdir(tmp_path / "place")
    return tmp_path / "place"


def forget_engines():
    engine._find_engine.cache_clear()
    engine.ffmpeg_version.cache_clear()


def contents(folder):
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {path.relative_to(folder): path.read_bytes() for path in files}


@pytest.mark.parametrize("refusal", [each for group in REFUSALS.values() for each in group], ids=lambda each: each.what)
def test_what_is_refused(refusal, place, monkeypatch, capsys, request):
    refusal.prepare(place)
    for name, value in refusal.environment.items():
        monkeypatch.setenv(name, value)
        forget_engines()
        request.addfinalizer(forget_engines)
    before = contents(place)
    capsys.readouterr()
    code, printed = main(refusal.words.split()), capsys.readouterr()
    assert refusal.pattern.search(printed.err), printed.err
    assert (code, printed.out) == (refusal.code, "")
    assert contents(place) == before


def test_every_refusal_has_a_reason_and_a_name_of_its_own():
    everything = [each for group in REFUSALS.values() for each in group]
    assert all(each.why and each.sentence.strip("…") for each in everything)
    assert len({each.what for each in everything}) == len(everything)
