"""settings.ini and pyproject.toml say the same thing: nbdev 2 reads one, nbdev 3 the other, the package the first."""

import tomllib
from configparser import ConfigParser

import pytest

import vmaf_research
from vmaf_research.measure.core import find_root, settings

ROOT = find_root(__file__)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture
def ini():
    parser = ConfigParser()
    parser.read(ROOT / "settings.ini")
    return parser["DEFAULT"]


def test_project_fields(ini):
    project = PROJECT["project"]
    assert ini["lib_name"] == project["name"]
    assert ini["description"] == project["description"]
    assert f">={ini['min_python']}" == project["requires-python"]
    assert ini["git_url"] == project["urls"]["Repository"]
    assert ini["author"] == project["authors"][0]["name"]
    assert ini["author_email"] == project["authors"][0]["email"]


@pytest.mark.parametrize("key", ["lib_path", "nbs_path", "doc_path"])
def test_nbdev_paths(ini, key):
    assert ini[key] == PROJECT["tool"]["nbdev"][key]


@pytest.mark.parametrize("key", ["recursive", "jupyter_hooks", "put_version_in_init", "update_pyproject"])
def test_nbdev_switches(ini, key):
    assert ini.getboolean(key) == PROJECT["tool"]["nbdev"][key]


def test_flags_and_version(ini):
    assert ini["tst_flags"].split() == PROJECT["tool"]["nbdev"]["tst_flags"]
    assert ini["version"] == vmaf_research.__version__


def test_package_reads_the_same_file():
    assert settings().root == ROOT
    assert (settings().opset, settings().ship_gate_plcc) == (17, 0.95)


def test_tests_of_a_file_run_in_one_worker(request, worker_id):
    if worker_id == "master":
        pytest.skip("one process runs all tests")
    assert request.node.nodeid.endswith("@test_settings")
