"""Damage of every kind to a registry is noticed, and nothing that it knows is lost on an update."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from datetime import datetime

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packaged import CORPUS, FILES, IDS, package, packaged_files, small_report, unpack

from vmaf_research.measure.core import BadInput, ShipRefused, VerificationFailed, find_root, validated
from vmaf_research.measure.provenance import json_bytes, seal, sha256_bytes
from vmaf_research.serve.cli import main
from vmaf_research.ship.cards import render_card
from vmaf_research.ship.gate import ship_gate
from vmaf_research.ship.package import package_model
from vmaf_research.ship.records import Sidecar
from vmaf_research.ship.registry import (
    REGISTRY,
    install,
    load,
    read_registry,
    remove_model,
    verify_registry,
    write_model,
)


@pytest.fixture
def folder(tmp_path):
    return unpack(tmp_path)


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory):
    "For property tests, which put everything back."
    return unpack(tmp_path_factory.mktemp("registry"))


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def rewrite(folder, change):
    "Edit the registry and seal it again, as somebody who knows how would."
    document = json.loads((folder / REGISTRY).read_text())
    change(document)
    (folder / REGISTRY).write_bytes(json_bytes(seal(document)))


def parts(folder, model_id):
    "Row, sidecar and graphs of a model, as `write_model` takes them."
    row, sidecar = read_registry(folder).row(model_id), load(model_id, folder).sidecar
    return row, sidecar, {name: (folder / name).read_bytes() for name in (row.onnx, row.onnx_raw)}


def owners(name):
    "Ids of the models that a file matters to."
    return [model_id for model_id in IDS if name == REGISTRY or name.startswith(model_id)]


def test_an_undamaged_registry_verifies_and_loads(folder):
    assert verify_registry(folder) == []
    table = small_report().table
    for model_id in IDS:
        scores = load(model_id, folder).score(table.features)
        assert np.abs(scores - small_report().final.predict(table.features)).max() <= 1e-4


@pytest.mark.parametrize("name", FILES)
def test_first_last_and_random_flipped_bits_are_noticed(folder, name):
    before = packaged_files()[name]
    size = 8 * len(before)
    bits = [0, 7, size - 8, size - 1, *np.random.default_rng(len(name)).integers(size, size=12).tolist()]
    for bit in bits:
        damaged = bytearray(before)
        damaged[bit // 8] ^= 1 << bit % 8
        (folder / name).write_bytes(damaged)
        assert any(name in problem for problem in verify_registry(folder)), bit
        for model_id in owners(name):
            with pytest.raises(VerificationFailed):
                load(model_id, folder)
    (folder / name).write_bytes(before)
    assert verify_registry(folder) == []


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(FILES),
    place=st.floats(0, 1, exclude_max=True),
    change=st.one_of(
        st.integers(1, 255).map(lambda mask: lambda data, at: data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]),
        st.binary(min_size=1, max_size=3).map(lambda more: lambda data, at: data[:at] + more + data[at:]),
        st.integers(1, 40).map(lambda count: lambda data, at: data[:at] + data[at + count :]),
    ),
)
def test_any_change_of_any_file_is_noticed(shared_folder, name, place, change):
    before = packaged_files()[name]
    after = change(before, int(place * len(before)))
    (shared_folder / name).write_bytes(after)
    try:
        assert after == before or verify_registry(shared_folder) != []
        for model_id in owners(name) if after != before else ():
            with pytest.raises(VerificationFailed):
                load(model_id, shared_folder)
    finally:
        (shared_folder / name).write_bytes(before)


@pytest.mark.parametrize("name", [name for name in FILES if name != REGISTRY])
def test_missing_files_and_links_are_noticed(folder, name, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / name
    (folder / name).rename(elsewhere)
    assert verify_registry(folder) == [f"{name}: is missing; restore the file"]
    with pytest.raises(VerificationFailed, match="is missing"):
        load(owners(name)[0], folder)
    (folder / name).symlink_to(elsewhere)
    assert verify_registry(folder) == [f"{name}: is a link; restore the file"]
    with pytest.raises(VerificationFailed, match="is a link"):
        load(owners(name)[0], folder)


def test_strays_are_reported_and_do_not_stop_loading(folder):
    (folder / "third_v1.onnx").write_bytes(b"")
    (folder / "sub").mkdir()
    assert [problem.split(":")[0] for problem in verify_registry(folder)] == ["sub", "third_v1.onnx"]
    assert load(IDS[0], folder).id == IDS[0]


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document["files"].update({"../outside.onnx": "ab" * 32}),
        lambda document: document["files"].update({"/etc/passwd": "ab" * 32}),
        lambda document: document["files"].update({"sub/x.onnx": "ab" * 32}),
        lambda document: document["models"][0].update(onnx="../first_v1.onnx"),
        lambda document: document["models"][0].update(onnx="second_v1.onnx"),
        lambda document: document["models"][0].update(sigstore_bundle="../x.sigstore.json"),
        lambda document: document["models"][0].update(id="../first_v1"),
        lambda document: document["models"][0].update(opset=17.0),
        lambda document: document["models"][0].update(sha256="AB" * 32),
        lambda document: document["models"].append(document["models"][0]),
        lambda document: document.update(models={}),
        lambda document: document.update(schema_version="1"),
    ],
)
def test_sealed_registries_that_break_the_schema_are_refused(folder, change):
    rewrite(folder, change)
    assert len(verify_registry(folder)) == 1
    with pytest.raises(VerificationFailed):
        load(IDS[0], folder)
    with pytest.raises(VerificationFailed, match="nothing was written"):
        package(IDS[0], folder)


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"models": NaN, "sha256_of_content": "x"}', "\xff\xfe"])
def test_what_is_no_registry_is_refused(folder, text):
    (folder / REGISTRY).write_bytes(text.encode("latin-1"))
    with pytest.raises(VerificationFailed):
        read_registry(folder)
    assert len(verify_registry(folder)) == 1


def test_a_row_that_names_a_file_without_a_digest_is_noticed(folder):
    rewrite(folder, lambda document: document["files"].pop("first_v1.md"))
    assert "first_v1.md: belongs to first_v1 and has no digest in registry.json" in verify_registry(folder)
    with pytest.raises(VerificationFailed, match="first_v1.md: belongs to first_v1 and has no digest"):
        load("first_v1", folder)


@pytest.mark.parametrize("suffix", [".onnx", "_raw.onnx"])
def test_an_exchanged_graph_is_noticed_even_when_all_digests_are_made_right(folder, suffix):
    "The graph of the other model is a valid graph; its metadata says whose it is."
    data = packaged_files()[f"second_v1{suffix}"]
    (folder / f"first_v1{suffix}").write_bytes(data)
    field = {".onnx": "sha256", "_raw.onnx": "sha256_raw"}[suffix]
    document = json.loads((folder / "first_v1.json").read_text()) | {field: sha256_bytes(data)}
    sidecar = validated(Sidecar, document, "first_v1.json")
    for name, new in [("first_v1.json", json_bytes(seal(document))), ("first_v1.md", render_card(sidecar).encode())]:
        (folder / name).write_bytes(new)

    def adapt(registry):
        registry["models"][0][field] = sha256_bytes(data)
        registry["files"] = {name: sha256_bytes((folder / name).read_bytes()) for name in registry["files"]}

    rewrite(folder, adapt)
    assert verify_registry(folder) == [f"first_v1{suffix}: metadata id is 'second_v1', expected 'first_v1'"]
    if suffix == "_raw.onnx":
        with pytest.raises(VerificationFailed, match="metadata id"):
            load("first_v1", folder)


def test_unknown_ids_list_the_known_ones(folder, tmp_path_factory):
    with pytest.raises(BadInput, match="'third_v1'; it has first_v1, second_v1"):
        load("third_v1", folder)
    with pytest.raises(BadInput, match="no such file"):
        load("first_v1", tmp_path_factory.mktemp("empty"))


def test_updates_keep_every_field_they_do_not_know(folder):
    extra = {"license_url": "https://example.org/licence", "smoke": True, "quant_mode": "static", "reviewers": ["A"]}

    def annotate(document):
        document["$schema"] = "registry.schema.json"
        document["models"][0].update(extra)
        document["models"][1].update(colour="blue")

    rewrite(folder, annotate)
    row, sidecar, graphs = parts(folder, "first_v1")
    write_model(folder, sidecar, graphs)
    document = json.loads((folder / REGISTRY).read_text())
    assert document["$schema"] == "registry.schema.json"
    assert document["models"][0] == row.to_json()
    assert document["models"][1]["colour"] == "blue"
    assert verify_registry(folder) == []


def test_a_signature_stays_with_its_model(folder):
    (folder / "first_v1.sigstore.json").write_bytes(b"{}")

    def sign(document):
        document["models"][0]["sigstore_bundle"] = "first_v1.sigstore.json"
        document["files"]["first_v1.sigstore.json"] = sha256_bytes(b"{}")

    rewrite(folder, sign)
    package("first_v1", folder)
    assert read_registry(folder).row("first_v1").sigstore_bundle == "first_v1.sigstore.json"
    assert verify_registry(folder) == []
    remove_model("first_v1", folder)
    assert sorted(content(folder)) == sorted(name for name in packaged_files() if not name.startswith("first"))


def test_the_same_input_gives_the_same_bytes_in_any_order(tmp_path):
    for model_id in reversed(IDS):
        package(model_id, tmp_path)
        package(model_id, tmp_path)
    assert content(tmp_path) == packaged_files()


def test_nothing_is_added_to_a_folder_in_which_another_model_is_damaged(folder):
    (folder / "second_v1.md").write_bytes(b"# edited")
    before = content(folder)
    with pytest.raises(VerificationFailed, match="second_v1.md: its SHA-256"):
        package("first_v1", folder)
    assert content(folder) == before
    package("second_v1", folder)
    assert content(folder) == packaged_files()


def test_a_model_cannot_take_the_files_of_another(folder):
    "`first_v1_raw` would have `first_v1_raw.onnx`, which is the second graph of `first_v1`."
    before = content(folder)
    with pytest.raises(BadInput, match="first_v1_raw.onnx: belongs to another model"):
        package("first_v1_raw", folder)
    with pytest.raises(BadInput, match="registry.json: belongs to another model"):
        package("registry", folder)
    assert content(folder) == before


@pytest.mark.parametrize("model_id", ["../first", "First", "", "a/b", "x" * 65, "."])
def test_ids_that_are_no_names_are_refused(tmp_path, model_id):
    with pytest.raises(BadInput):
        package(model_id, tmp_path)
    with pytest.raises(BadInput):
        remove_model(model_id, tmp_path)
    assert content(tmp_path) == {}


def test_a_refused_model_is_not_written(tmp_path):
    report = small_report()
    with pytest.raises(ShipRefused):
        package_model("x", report, ship_gate(report, threshold=1.0), tmp_path / "model", CORPUS, "", "")
    assert not (tmp_path / "model").exists()


def test_a_failing_write_leaves_the_old_registry(folder, monkeypatch):
    row, sidecar, graphs = parts(folder, "first_v1")
    changed = validated(Sidecar, sidecar.to_json() | {"notes": "new"}, "sidecar")

    def full_disk(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_model(folder, changed, graphs)
    assert content(folder) == packaged_files()


KILLED = """
import os, pickle, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import packaged
packaged.small_report = lambda: pickle.loads(Path(sys.argv[4]).read_bytes())
left, rename = int(sys.argv[3]), os.replace
def replace(*names):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), 9)
    rename(*names)
os.replace = replace
packaged.package("first_v1", Path(sys.argv[2]), notes="Trained again.")
"""


def test_a_killed_registration_is_noticed_and_can_be_repeated(folder, tmp_path_factory):
    "Killed after three of five renames, with new files under the old registry."
    report = tmp_path_factory.mktemp("report") / "report.pickle"
    report.write_bytes(pickle.dumps(small_report()))
    arguments = [os.path.dirname(__file__), str(folder), "3", str(report)]
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    assert read_registry(folder).row("first_v1").notes == "Predicts nothing real."
    assert any(".part" in problem for problem in verify_registry(folder))
    package("first_v1", folder, notes="Trained again.")
    assert verify_registry(folder) == []
    assert load("first_v1", folder).row.notes == "Trained again."


def test_install_copies_one_model_and_keeps_what_the_target_says(folder, tmp_path_factory):
    target = tmp_path_factory.mktemp("target") / "model"
    assert install("second_v1", folder, target).id == "second_v1"
    assert sorted(content(target)) == sorted([REGISTRY, *(n for n in packaged_files() if n.startswith("second"))])
    rewrite(target, lambda document: document["models"][0].update(smoke=True, seen_by="Ada"))
    kept = install("second_v1", folder, target).row.to_json()
    assert (kept["smoke"], kept["seen_by"]) == (True, "Ada")
    assert verify_registry(target) == []
    with pytest.raises(BadInput, match="no model 'third_v1'"):
        install("third_v1", folder, target)


@pytest.mark.parametrize("name", FILES)
def test_install_refuses_a_damaged_source(folder, name, tmp_path):
    (folder / name).write_bytes(packaged_files()[name][:-1])
    target = tmp_path / "target"
    if name.startswith("second"):
        assert install("first_v1", folder, target).id == "first_v1"
        return
    with pytest.raises(VerificationFailed, match="damaged or edited" if name == REGISTRY else "not installed"):
        install("first_v1", folder, target)
    assert not target.exists()


def test_remove_takes_everything_away(folder):
    remove_model("first_v1", folder)
    assert verify_registry(folder) == []
    with pytest.raises(BadInput, match="it has second_v1"):
        load("first_v1", folder)
    (folder / "first_v1.onnx").write_bytes(b"left behind by a killed registration")
    remove_model("first_v1", folder)
    assert verify_registry(folder) == []
    remove_model("second_v1", folder)
    assert content(folder) == {}
    remove_model("second_v1", folder / "nowhere")


SHIPPED = find_root(__file__) / "model"


@pytest.mark.skipif(not (SHIPPED / REGISTRY).exists(), reason="no model is shipped yet")
def test_the_shipped_models_are_what_they_say(tmp_path):
    assert verify_registry(SHIPPED) == []
    copied, few = shutil.copytree(SHIPPED, tmp_path / "model"), tmp_path / "few"
    rows = read_registry(copied).models
    for model_id in ("fr_regressor_nano_v1", "predictor_libx264"):  # every kind of file
        install(model_id, SHIPPED, few)
    random = np.random.default_rng(0)
    for path in (*sorted(copied.iterdir()), *sorted(few.iterdir())):
        before = path.read_bytes()
        bit = int(random.integers(8 * len(before)))
        damaged = bytearray(before)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        if path.parent == few:
            assert verify_registry(few) != []
        own = [each for each in rows if path.parent == copied and path.name in (REGISTRY, *each.file_names)]
        for row in own[:2]:
            with pytest.raises(VerificationFailed):
                load(row.id, copied)
        path.write_bytes(before)
    assert verify_registry(few) == []


def test_a_damaged_card_of_a_predictor_keeps_nobody_else_from_loading(tmp_path, capsys):
    copied = shutil.copytree(SHIPPED, tmp_path / "model")
    card = copied / "predictor_libx264.md"
    data = bytearray(card.read_bytes())
    data[100] ^= 1
    card.write_bytes(data)
    assert load("fr_regressor_nano_v1", copied).id == "fr_regressor_nano_v1"
    with pytest.raises(VerificationFailed, match="predictor_libx264.md: its SHA-256"):
        load("predictor_libx264", copied)
    assert main(["registry", "verify", "--models", str(copied)]) == 1
    assert "predictor_libx264.md" in capsys.readouterr().err


def test_verifying_imports_nothing_heavy():
    code = "import sys; from vmaf_research.ship.registry import verify_registry; assert verify_registry() == []; "
    code += "print({'torch', 'pandas', 'matplotlib', 'scipy.stats', 'sklearn', 'skimage'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=SHIPPED.parent)
    assert done.stdout.strip() == "set()", done.stdout + done.stderr


def test_no_path_and_no_time_gets_into_a_registry(tmp_path):
    text = b"\n".join(packaged_files().values())
    today = datetime.now().strftime("%Y-%m").encode()
    for word in (str(tmp_path.parent).encode(), os.path.expanduser("~").encode(), b"/tmp", b"_utc", today):
        assert word not in text, word
