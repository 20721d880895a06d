"""Signatures of models: who can make them, what they cover, what is refused, and that the format is not our own."""

import json
import shutil
import subprocess
import sys

import model_signing
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from vmaf_research.serve.cli import main
from vmaf_research.ship.registry import add_signature, install, load, registry_folder, verify_registry
from vmaf_research.ship.signing import sign_model, signature_problems

NANO = "fr_regressor_nano_v1"
BUNDLE = f"{NANO}.sigstore.json"


def write_keys(folder, name, key, encryption=None):
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())
    (folder / f"{name}.pem").write_bytes(private)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / f"{name}.pub").write_bytes(public)


@pytest.fixture(scope="module")
def signed(tmp_path_factory):
    "A registry with one signed model, and the keys."
    folder = tmp_path_factory.mktemp("signed")
    write_keys(folder, "mine", ec.generate_private_key(ec.SECP384R1()))
    write_keys(folder, "other", ec.generate_private_key(ec.SECP256R1()))
    write_keys(folder, "rsa", rsa.generate_private_key(65537, 2048))
    write_keys(folder, "locked", ec.generate_private_key(ec.SECP256R1()), BestAvailableEncryption(b"word"))
    install(NANO, registry_folder(), folder / "model")
    assert sign_model(NANO, folder / "mine.pem", folder / "model") == BUNDLE
    return folder


@pytest.fixture
def place(signed, tmp_path):
    "A copy of it."
    return shutil.copytree(signed, tmp_path / "place")


def found(place):
    return signature_problems(place / "mine.pub", place / "model")


def test_the_commands(place, capsys):
    models = ["--models", str(place / "model")]
    verify = ["registry", "verify", *models, "--signatures"]
    assert main([*verify, str(place / "mine.pub")]) == 0
    assert "as they were signed" in capsys.readouterr().out
    assert main([*verify, str(place / "other.pub")]) == 1
    assert "no signature of fr_regressor_nano_v1 with other.pub" in capsys.readouterr().err
    assert main(["registry", "sign", NANO, "--private-key", str(place / "other.pem"), *models]) == 0
    assert BUNDLE in capsys.readouterr().out
    assert main([*verify, str(place / "other.pub")]) == 0
    install("fr_regressor_v1", registry_folder(), place / "model")
    capsys.readouterr()
    assert main([*verify, str(place / "other.pub")]) == 1
    assert capsys.readouterr().err == "fr_regressor_v1: is not signed\n"


def test_other_programs_can_check_it(place):
    model, options = place / "model", ["--signature", place / "model" / BUNDLE, "--public_key", place / "mine.pub"]
    command = [sys.executable, "-m", "model_signing", "verify", "key", model, *options, "--ignore_unsigned_files"]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    card = model / f"{NANO}.md"
    card.write_text(card.read_text() + "\nIt is perfect.\n")
    assert subprocess.run(command, capture_output=True).returncode != 0


def test_a_signature_goes_where_its_model_goes(place):
    install(NANO, place / "model", place / "copy")
    assert verify_registry(place / "copy") == signature_problems(place / "mine.pub", place / "copy") == []
    assert load(NANO, place / "copy").row.sigstore_bundle == BUNDLE


@pytest.mark.parametrize("name", ["", "_raw", ".json", ".md"])
def test_every_file_is_covered(place, name):
    path = place / "model" / {"": f"{NANO}.onnx", "_raw": f"{NANO}_raw.onnx"}.get(name, f"{NANO}{name}")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert path.name in found(place)[0]


def test_a_signature_of_some_of_the_files_is_none(place):
    row, some = load(NANO, place / "model").row, place / "some"
    some.mkdir()
    for name in row.graphs:
        shutil.copy(place / "model" / name, some)
    model_signing.signing.Config().use_elliptic_key_signer(private_key=place / "mine.pem").sign(some, place / "bundle")
    add_signature(NANO, (place / "bundle").read_bytes(), place / "model")
    assert verify_registry(place / "model") == []
    assert "Extra files found" in found(place)[0]


@pytest.mark.parametrize("damage", ["nothing", "no JSON", "another object", "no signature", "a bit"])
def test_damaged_bundles_are_found(place, damage):
    document = json.loads((place / "model" / BUNDLE).read_bytes())
    if damage == "no signature":
        document["dsseEnvelope"]["signatures"] = []
    if damage == "a bit":
        payload = document["dsseEnvelope"]["payload"]
        document["dsseEnvelope"]["payload"] = payload[:200] + ("A" if payload[200] != "A" else "B") + payload[201:]
    whole = {"nothing": b"", "no JSON": b"{", "another object": b"[1]"}
    add_signature(NANO, whole.get(damage, json.dumps(document).encode()), place / "model")
    assert len(found(place)) == 1 and found(place)[0].startswith(f"{BUNDLE}: no signature of {NANO} with mine.pub (")


@pytest.mark.parametrize("key", ["rsa.pem", "locked.pem", "mine.pub", "absent.pem", "model"])
def test_keys_that_cannot_sign(place, capsys, key):
    before = {path.name: path.read_bytes() for path in (place / "model").iterdir()}
    words = ["registry", "sign", NANO, "--private-key", str(place / key), "--models", str(place / "model")]
    assert main(words) == 2
    assert f"{key}: expected a private key on P-256, P-384 or P-521" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in (place / "model").iterdir()} == before


@pytest.mark.parametrize("key", ["rsa.pub", "mine.pem", "absent.pub", "model"])
def test_keys_that_cannot_check(place, capsys, key):
    words = ["registry", "verify", "--models", str(place / "model"), "--signatures", str(place / key)]
    assert main(words) == 2
    assert f"{key}: expected a public key on P-256, P-384 or P-521" in capsys.readouterr().err


def test_without_the_library(place, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "model_signing", None)
    words = ["registry", "verify", "--models", str(place / "model"), "--signatures", str(place / "mine.pub")]
    assert main(words) == 2
    assert "`pip install vmaf-research[sign]`" in capsys.readouterr().err
