"""Predictors: all 14 of them on real shots, their refusals, and what a flipped bit does."""

import json
import shutil
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmaf_research.corpora.rows import new_row, write_rows
from vmaf_research.measure.core import BadInput, VerificationFailed
from vmaf_research.measure.core import settings as project
from vmaf_research.predict.codecs import PREDICTOR_CODECS, find_adapter
from vmaf_research.predict.curves import PREDICTOR_INPUTS, judge_curves
from vmaf_research.predict.predictor import Predictor, package_predictor
from vmaf_research.predict.shot_features import ShotFeatures
from vmaf_research.predict.training import parse_clip_mode, read_codec_rows, stub_curves, write_stub
from vmaf_research.serve.cli import main
from vmaf_research.ship.onnx import open_session, run_session
from vmaf_research.ship.registry import read_registry, verify_registry

REAL = ("libx264", "libx265", "libsvtav1", "libaom-av1", "libvvenc")
CLIPS = {  # probe kbit/s, bytes of I, P and B pictures, frame difference, luma mean and variance, frame rate; 640x360
    "blackswan": (4400.8, 63272.0, 37785.3, 16671.4, 14.5, 98.9, 1986.7, 24.0),
    "camel": (4022.6, 74303.0, 38743.6, 13326.4, 17.4, 150.9, 3214.7, 24.0),
    "car-roundabout": (3874.4, 49883.0, 30937.9, 13668.0, 20.5, 112.4, 2173.4, 24.0),
    "cows": (5110.2, 97298.0, 45879.9, 17991.3, 15.7, 125.4, 1391.5, 24.0),
    "dance-twirl": (4616.0, 76639.0, 36499.7, 16558.5, 19.9, 123.1, 2037.7, 24.0),
    "horsejump-high": (3682.7, 56836.0, 31292.6, 12901.4, 15.9, 151.7, 1993.4, 24.0),
    "dog": (1098.2, 65243.0, 6887.6, 1914.1, 1.3, 139.9, 3843.0, 30.0),
    "blocks": (1218.3, 64754.0, 7611.2, 2358.8, 4.0, 96.7, 3102.3, 30.0),
    "juggle": (1092.5, 116156.0, 6797.9, 1718.5, 1.2, 101.3, 1646.5, 24.0),
}


def clip_features(name):
    *probe, change, mean, variance, fps = CLIPS[name]
    luma = {"frame_diff_mean": change, "y_avg": mean, "y_var": variance}
    size = {"shot_length_frames": 48, "fps": fps, "width": 640, "height": 360}
    return ShotFeatures(*probe, **luma, **size)


@pytest.fixture(scope="module")
def predictors():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {codec: Predictor(codec) for codec in PREDICTOR_CODECS}


@pytest.mark.parametrize("codec", PREDICTOR_CODECS)
def test_curves_of_real_shots_fall_and_are_not_constant(predictors, codec):
    for name in CLIPS:
        prediction = predictors[codec].curve(clip_features(name))
        assert list(prediction.index) == list(find_adapter(codec).quality_values())
        assert (np.diff(prediction) <= 0).all() and np.ptp(prediction) > 2, name
        assert 0 <= prediction.iloc[-1] <= prediction.iloc[0] <= 100


def test_shots_differ(predictors):
    for codec, predictor in predictors.items():
        curves = np.array([predictor.curve(clip_features(name)) for name in CLIPS])
        assert np.ptp(curves, axis=0).max() > 1, codec


@pytest.mark.parametrize("codec", PREDICTOR_CODECS)
def test_a_stub_warns_and_promises_nothing_and_a_real_one_does_not_warn(codec):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        predictor = Predictor(codec)
    said = [str(each.message) for each in caught if "DO NOT USE IN PRODUCTION" in str(each.message)]
    card = (project().model_path / f"predictor_{codec}.md").read_text()
    assert predictor.synthetic == bool(said) == ("DO NOT USE IN PRODUCTION" in card) == (codec not in REAL)
    if predictor.synthetic:
        with pytest.raises(BadInput, match="has no intervals"):
            predictor.interval(0.5)
    else:
        assert predictor.sidecar.training.loso_mean_plcc >= 0.95
        assert (predictor.interval(0.5) < predictor.interval(0.9)).all()
        qualities, residuals = predictor.residual_curves()
        assert residuals.shape == (predictor.sidecar.training.n_sources, len(qualities))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1e7, width=32), min_size=13, max_size=13), st.sampled_from(REAL))
def test_no_features_make_a_curve_rise(features, codec):
    data = (project().model_path / f"predictor_{codec}.onnx").read_bytes()
    quality = np.arange(-1, 65, 0.5)
    rows = np.column_stack([quality, np.tile(features, (len(quality), 1))])
    curve = run_session(open_session(data, len(PREDICTOR_INPUTS)), rows)
    assert (np.diff(curve) <= 1e-4).all() and curve.min() >= 0 and curve.max() <= 100


def test_shipped_stubs_are_what_the_code_makes(predictors):
    for codec in PREDICTOR_CODECS:
        if codec not in REAL:
            model = judge_curves(stub_curves(codec), find_adapter(codec).hard_range).model
            features = clip_features("camel").vector()[None]
            found = predictors[codec].predict(clip_features("camel"), model.nodes)
            assert np.abs(found - model.curves(features)[0]).max() < 1e-3, codec


@pytest.fixture(scope="module")
def stub_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stub")
    write_stub("av1_qsv", folder)
    return folder


@pytest.mark.parametrize("suffix", [".onnx", ".json", ".md"])
def test_a_flipped_bit_is_refused(stub_folder, tmp_path, suffix):
    folder = shutil.copytree(stub_folder, tmp_path / "model")
    path = folder / f"predictor_av1_qsv{suffix}"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    assert any(path.name in problem for problem in verify_registry(folder))
    with pytest.raises(VerificationFailed, match=path.name):
        Predictor("av1_qsv", folder)


def test_a_stub_that_claims_to_be_in_use_is_found(stub_folder, tmp_path):
    from vmaf_research.measure.provenance import open_sealed, seal, write_json

    folder = shutil.copytree(stub_folder, tmp_path / "model")
    document = open_sealed(folder / "registry.json")
    document["models"][0]["smoke"] = False
    write_json(folder / "registry.json", seal(document))
    assert "a synthetic stub, but smoke is false" in verify_registry(folder)[0]


def test_a_predictor_that_took_the_place_of_a_stub_is_promoted(stub_folder, tmp_path, capsys):
    folder, model_id = shutil.copytree(stub_folder, tmp_path / "model"), "predictor_av1_qsv"

    def promote(*words):
        return main(["registry", "promote", *words, "--models", str(folder)])

    def smoke():
        return read_registry(folder).row(model_id).smoke

    assert promote(model_id) == 3
    assert "is a synthetic stub; `vmaf-research predictor train` makes it real" in capsys.readouterr().err
    facts = {"name": "made up", "kind": "real-N=100", "licence": "none needed", "description": "no video at all"}
    report = judge_curves(stub_curves("av1_qsv"), find_adapter("av1_qsv").hard_range)
    package_predictor("av1_qsv", report, folder, facts, "For tests only.")
    assert smoke()  # training never changes that
    before = (folder / "registry.json").read_bytes()
    assert promote(model_id) == 0
    assert not smoke() and verify_registry(folder) == []
    assert promote(model_id) == 2
    assert "predictor_av1_qsv is in use already" in capsys.readouterr().err
    package_predictor("av1_qsv", report, folder, facts, "For tests only.")
    assert not smoke()
    assert main(["registry", "rollback", "--models", str(folder)]) == 0
    assert (folder / "registry.json").read_bytes() == before
    for words in ((), (model_id, "--verdict", str(tmp_path / "PROMOTE.json"))):
        assert promote(*words) == 2
        assert "promote what?" in capsys.readouterr().err


def test_codecs_without_rows_get_stubs_on_request(tmp_path, capsys):
    write_rows(tmp_path / "rows.jsonl", [row(name, 20.0, 90.0) for name in "abc"])
    words = ["predictor", "train", "--corpus", str(tmp_path / "rows.jsonl"), "--models", str(tmp_path / "model")]
    words += ["--codec", "av1_qsv", "--codec", "h264_amf"]
    assert main(words) == 2
    assert "has no row of av1_qsv; it has libx264 medium" in capsys.readouterr().err
    assert main([*words, "--stubs", "-q"]) == 0
    assert "has no row of h264_amf: registered a synthetic stub" in capsys.readouterr().err
    assert {row.id: row.smoke for row in read_registry(tmp_path / "model").models} == {
        "predictor_av1_qsv": True, "predictor_h264_amf": True,
    }  # fmt: skip
    before = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    assert main([*words, "--stubs", "-q"]) == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()} == before
    assert main([*words, "--stubs", "-q", "--teacher", "vmaf_v0.6.1neg"]) == 2
    assert "stubs are made up by a formula for vmaf_v0.6.1" in capsys.readouterr().err


def key_order(value):
    "The keys of a document in their order; numbers may differ in their last digits from machine to machine."
    if isinstance(value, dict):
        return [(key, key_order(each)) for key, each in value.items()]
    return [key_order(each) for each in value] if isinstance(value, list) else None


def test_shipped_stubs_are_written_as_the_code_writes_them(stub_folder):
    name = "predictor_av1_qsv.json"
    made, shipped = (json.loads((folder / name).read_text()) for folder in (stub_folder, project().model_path))
    assert key_order(made) == key_order(shipped)


def row(source, quality, score):
    facts = {"width": 320, "height": 180, "clip_mode": "full", "preset": "medium", "exit_status": 0}
    return new_row(src=f"{source}.y4m", encoder="libx264", crf=quality, vmaf_score=score, **facts)


def refused(capsys, *words):
    assert main(["predictor", *words]) == 2
    return capsys.readouterr().err


def test_three_sources_of_which_one_never_changes_do_not_ship(tmp_path):
    """A source without a correlation must not be left out of the mean that the gate looks at."""
    from vmaf_research.measure.core import ShipRefused
    from vmaf_research.predict.curves import MeasuredCurve

    quality = np.arange(10, 51, 5)
    falling = 100 / (1 + np.exp((quality - 40) / 5))
    scores = {"blackswan": falling, "camel": falling - 1, "dog": np.full(len(quality), 90.0)}
    curves = [MeasuredCurve(name, clip_features(name), quality, vmaf) for name, vmaf in scores.items()]
    facts = {"name": "made up", "kind": "real-N=27", "licence": "none needed", "description": "no video at all"}
    with pytest.raises(ShipRefused, match="must each have a PLCC, and dog has none"):
        package_predictor("libx264", judge_curves(curves, (0, 51)), tmp_path / "model", facts, "For tests only.")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("quality", [-5.0, 99.0])
def test_a_quality_value_that_the_encoder_does_not_have_is_refused(capsys, tmp_path, quality):
    write_rows(tmp_path / "odd.jsonl", [row(name, value, 90.0) for name in "abc" for value in (20.0, quality)])
    said = refused(capsys, "train", "--corpus", str(tmp_path / "odd.jsonl"), "--models", str(tmp_path / "model"))
    assert f"odd.jsonl, line 2: quality value (crf) {quality:g}, but libx264 takes 0 to 51" in said
    assert not (tmp_path / "model").exists()


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(6)), st.lists(st.integers(0, 5), max_size=6))
def test_repeated_rows_count_once_in_any_order(tmp_path_factory, order, again):
    made = [row(name, value, 100 - value) for name in "ab" for value in (20.0, 30.0, 40.0)]
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    write_rows(path, [made[k] for k in (*order, *again)])
    rows = read_codec_rows(path, "libx264")
    assert (rows.count, rows.repeated) == (6, len(again))
    assert {window.src: sorted(points) for window, points in rows.points.items()} == {
        f"{name}.y4m": [(20.0, 80.0), (30.0, 70.0), (40.0, 60.0)] for name in "ab"
    }


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(max_size=20), st.from_regex(r"(first|sample)_[0-9.]*(s|_frames)", fullmatch=True)))
def test_a_clip_mode_is_known_or_refused(mode):
    try:
        frames, seconds = parse_clip_mode(mode)
    except BadInput as error:
        assert "expected full, first_N_frames or sample_Ns" in str(error)
    else:
        assert (frames is None or frames > 0) and (seconds is None or 0 < seconds < float("inf"))


@pytest.mark.parametrize(
    "rows, said",
    [
        ([], "rows.jsonl: has no rows; expected one line per encode"),
        ([row("a", 20, 90.0) | {"exit_status": 1, "vmaf_score": None}], "1 encode of libx264, and none succeeded"),
        ([row("a", 20, 90.0), row("b", 20, 90.0)], "a corpus with 2 sources (a, b): at least 3 are needed"),
    ],
)
def test_too_little_to_learn_from_is_said_plainly(capsys, tmp_path, rows, said):
    write_rows(tmp_path / "rows.jsonl", rows)
    assert said in refused(capsys, "train", "--corpus", str(tmp_path / "rows.jsonl"), "--models", str(tmp_path / "m"))
    assert not (tmp_path / "m").exists()


def test_a_folder_that_has_no_models_is_named(capsys, tmp_path):
    said = refused(capsys, "predict", "--source", str(tmp_path / "x.mp4"), "--models", str(tmp_path / "none"))
    assert "none/registry.json: no such file" in said and "predictor train" in said


def test_a_row_with_nan_is_named(capsys, tmp_path):
    lines = [json.dumps(row(name, 20, 95.0)) for name in "abc"]
    lines[1] = lines[1].replace('"vmaf_score": 95.0', '"vmaf_score": NaN')
    (tmp_path / "nan.jsonl").write_text("\n".join(lines))
    assert "nan.jsonl, line 2: vmaf_score of b.y4m is NaN" in refused(
        capsys, "train", "--corpus", str(tmp_path / "nan.jsonl")
    )


def test_no_room_for_a_clip_that_is_none(capsys, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"not a video")
    assert "broken.mp4" in refused(capsys, "predict", "--source", str(tmp_path / "broken.mp4"), "--codec", "libx264")
