"""Teachers as data and as functions, against the engine, on pictures that are drawn here and on public ones."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from made_up import make_table

from vmaf_research import corpus, load
from vmaf_research.corpora.extract import extract
from vmaf_research.corpora.grid import grid
from vmaf_research.corpora.pairs import Corpus, Pair
from vmaf_research.learn.functions import TeacherFunction
from vmaf_research.learn.recipes import sample_prior
from vmaf_research.learn.table import load_training_table
from vmaf_research.measure.core import BadInput, settings
from vmaf_research.measure.engine import run_ffmpeg
from vmaf_research.measure.features import FEATURE_BY_NAME, FULL_FEATURES, TEACHERS, teacher_for
from vmaf_research.measure.libvmaf import EncodedAs, measure
from vmaf_research.measure.manifest import open_manifest
from vmaf_research.measure.teacher import TEACHER_TOLERANCE, check_against_teacher, load_teacher
from vmaf_research.measure.video import open_clip
from vmaf_research.ship.onnx import check_graph, open_session, run_session, svr_graph
from vmaf_research.ship.refresh import train_and_package
from vmaf_research.ship.registry import read_registry

GOLDEN = Path(__file__).parents[2] / "shared" / "golden"
V1 = [name for name in TEACHERS if name.startswith("vmaf_v1")]
MEASURABLE = [name for name, teacher in TEACHERS.items() if not teacher.tool_only]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    "Six frames of a fractal, and an encode of them."
    folder = tmp_path_factory.mktemp("pair")
    reference, distorted = folder / "reference.y4m", folder / "crf38.mkv"
    source = ["-f", "lavfi", "-i", "mandelbrot=size=720x640:rate=25", "-frames:v", "6", "-pix_fmt", "yuv420p"]
    run_ffmpeg([*source, str(reference)])
    run_ffmpeg(["-i", str(reference), "-c:v", "libx264", "-crf", "38", str(distorted)])
    return reference, distorted


def inputs_of(result, name):
    return np.column_stack([result.columns[column] for column in TEACHERS[name].inputs])


@pytest.mark.parametrize("bits", [None, 10])
def test_every_function_is_the_engine(pair, bits):
    result = measure(*pair, features="canonical6", teachers=MEASURABLE, bits=bits)
    assert result.compared == ("720x640 yuv420p" if bits is None else "720x640 yuv420p10le")
    for name in MEASURABLE:
        scores = result.columns[TEACHERS[name].column]
        assert check_against_teacher(inputs_of(result, name), scores, range(6), name) <= TEACHER_TOLERANCE
    assert max(result.columns["vmaf_v1_3d0h_2160"]) > 0 and not result.warnings


def test_grey_pictures(pair, tmp_path):
    run_ffmpeg(["-i", str(pair[1]), "-vf", "hue=s=0", "-pix_fmt", "yuv420p", str(tmp_path / "grey.y4m")])
    result = measure(pair[0], tmp_path / "grey.y4m", features=(), teachers=V1)
    assert len(result.warnings) == 8 and all("blind to colour in 6 of 6 frames" in each for each in result.warnings)
    for name in V1:
        scores, inputs = result.columns[TEACHERS[name].column], inputs_of(result, name)
        assert (inputs[:, 1] == 0).all()
        assert check_against_teacher(inputs, scores, range(6), name) <= TEACHER_TOLERANCE
        function = load_teacher(name)
        uncorrected = replace(function, ends=function.ends.changed(chroma_correction=0.0)).predict(inputs)
        assert np.abs(uncorrected - scores).max() > 1  # the correction is what makes them agree
    same = measure(tmp_path / "grey.y4m", tmp_path / "grey.y4m", features=(), teachers=V1[:1])
    assert not same.warnings  # a grey reference loses no colour


def test_a_small_picture_has_no_colour_for_v1(pair, tmp_path):
    clips = []
    for number, path in enumerate(pair):
        clips.append(tmp_path / f"{number}.y4m")
        run_ffmpeg(["-i", str(path), "-vf", "scale=360:300", "-pix_fmt", "yuv420p", str(clips[-1])])
    result = measure(*clips, features=(), teachers=["vmaf_v1.0.16_3d0h"])
    assert "360x300 is too small for that, it needs 320 pixels a side" in result.warnings[0]
    with pytest.raises(BadInput, match="vmaf_v1.0.16_3d0h_2160, which needs 320 pixels"):
        measure(*clips, teachers=["vmaf_v1.0.16_3d0h_2160"])


@pytest.mark.parametrize("size", [(242, 136), (180, 320), (200, 200)])
def test_cambi_is_not_told_sizes_that_it_refuses(pair, size):
    name, how = "vmaf_v1.0.16_3d0h", {"features": (), "teachers": ["vmaf_v1.0.16_3d0h"]}
    both = [measure(*pair, **how, encoded=encoded) for encoded in (None, EncodedAs(*size))]
    scores = [each.columns[TEACHERS[name].column] for each in both]
    assert np.array_equal(*scores) == (size != (180, 320))


def test_records_are_those_of_the_model_files():
    for name in MEASURABLE:
        record, function = TEACHERS[name], load_teacher(name)
        assert (function.sha256, function.inputs) == (record.sha256, record.inputs)
        assert function.score_range == record.score_range
        assert len(function.options) == len(record.inputs)
        for column in record.extra_features:
            assert column not in FULL_FEATURES and FEATURE_BY_NAME[column].key
    first, *others = (load_teacher(name) for name in V1)
    for each in others:
        np.testing.assert_array_equal(each.coefficients, first.coefficients)
        np.testing.assert_array_equal(each.support_vectors, first.support_vectors)


def test_a_changed_model_file_is_refused(tmp_path, monkeypatch):
    record = replace(TEACHERS["vmaf_v1.0.16_5d0h"], sha256="0" * 64)
    monkeypatch.setitem(TEACHERS, "vmaf_v1.0.16_5d0h", record)
    load_teacher.cache_clear()
    with pytest.raises(BadInput, match="this file is another model"):
        load_teacher("vmaf_v1.0.16_5d0h")
    load_teacher.cache_clear()


def test_teacher_for():
    assert teacher_for(1920, 1080, 24).teacher == "vmaf_v1.0.16_3d0h"
    assert teacher_for(1280, 720, 59.94).teacher == "vmaf_v1.0.16_hfr_3d0h"
    assert teacher_for(3840, 2160, 25).teacher == "vmaf_v1.0.16_1d5h_2160"
    assert teacher_for(4096, 2160, 50).teacher == "vmaf_v1.0.16_hfr_1d5h_2160"
    small = teacher_for(160, 90, 25)
    assert small.teacher == "vmaf_v0.6.1" and "too small" in small.reason
    for values in ((0, 0, 25), (640, 360, float("nan"))):
        with pytest.raises(BadInput, match="above 0"):
            teacher_for(*values)


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="the public golden pairs are not here")
def test_golden_pair_by_hand(tmp_path):
    "What a plain run of the engine says, without anything of this project around it."
    paths = [GOLDEN / f"src01_hrc0{number}_576x324.yuv420p10le.yuv" for number in (0, 1)]
    clips = [open_clip(path, 576, 324, "yuv420p10le") for path in paths]
    result = measure(*clips, features=(), teachers=V1)
    raw = ["-f", "rawvideo", "-pix_fmt", "yuv420p10le", "-video_size", "576x324", "-i"]
    for name in V1:
        graph = f"[0:v][1:v]libvmaf=log_fmt=json:log_path=by_hand.json:model=version={name}\\\\:name=score"
        inputs = [*raw, str(paths[1]), *raw, str(paths[0])]
        run_ffmpeg([*inputs, "-filter_complex", graph, "-f", "null", "-"], cwd=tmp_path)
        frames = json.loads((tmp_path / "by_hand.json").read_text())["frames"]
        expected = [frame["metrics"]["score"] for frame in frames]
        assert result.columns[TEACHERS[name].column] == pytest.approx(expected, abs=1e-6)


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    "The same frames as SDR, as PQ with mastering data, and as HLG."
    folder, clips = tmp_path_factory.mktemp("graded"), {}
    master = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"
    kinds = {
        "sdr": "colorprim=bt709:transfer=bt709:colormatrix=bt709",
        "pq": f"hdr10=1:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc:master-display={master}",
        "hlg": "colorprim=bt2020:transfer=arib-std-b67:colormatrix=bt2020nc",
    }
    for name, words in kinds.items():
        clips[name] = folder / f"{name}.mkv"
        source = ["-f", "lavfi", "-i", "mandelbrot=size=320x240:rate=25", "-frames:v", "3", "-pix_fmt", "yuv420p10le"]
        how = ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", f"log-level=none:{words}"]
        run_ffmpeg([*source, *how, str(clips[name])])
    return clips


def test_hdr_is_refused_and_marked(graded):
    assert open_clip(graded["sdr"]).colour.hdr is None
    colour = open_clip(graded["pq"]).colour
    assert colour.hdr.startswith("PQ transfer, BT.2020 primaries, mastering display metadata")
    assert open_clip(graded["hlg"]).colour.hdr == "HLG transfer, BT.2020 primaries"
    for name in ("pq", "hlg"):
        with pytest.raises(BadInput, match="is HDR .* vmaf_v0.6.1 was made for SDR.*--allow-hdr"):
            measure(graded[name], graded[name])
    with pytest.raises(BadInput, match="pq.mkv is HDR"):
        measure(graded["sdr"], graded["pq"])
    result = measure(graded["pq"], graded["pq"], features=(), allow_hdr=True)
    assert "pq.mkv is HDR (PQ transfer" in result.warnings[0] and "yuv420p10le" in result.compared
    assert measure(graded["pq"], graded["pq"], features=["psnr_y"], teachers=()).frames == 3  # features are no verdict


def test_registered_networks(pair):
    "All eight graphs on frames that nothing was trained on, and that they are one network."
    result, graphs = measure(*pair, features=(), teachers=V1), []
    for name in V1:
        teacher = TEACHERS[name]
        model = load(f"fr_regressor_nano_{teacher.column}")
        assert (model.row.teacher, model.feature_names) == (name, teacher.inputs)
        assert model.sidecar.output_range == teacher.score_range and model.sidecar.training.parameters <= 5000
        errors = model.score(inputs_of(result, name)) - result.columns[teacher.column]
        assert np.sqrt(np.mean(errors**2)) <= 0.01 and np.abs(errors).max() <= 0.05
        graph = check_graph((settings().model_path / model.row.onnx).read_bytes(), 4).graph
        graphs.append([each.SerializeToString() for each in graph.initializer])
    assert all(each == graphs[0] for each in graphs)


def test_every_row_names_its_teacher():
    rows = read_registry().models
    assert {row.teacher for row in rows} == {"vmaf_v0.6.1", *V1}
    assert all("teacher" in row.to_json() for row in rows)


@pytest.mark.parametrize("name", [name for name in MEASURABLE if TEACHERS[name].clipped])
def test_the_exact_graph_and_the_torch_function(name):
    function, generator = load_teacher(name), np.random.default_rng(0)
    vectors = sample_prior(2000, generator, function.inputs)
    if function.ends.chroma_correction:
        vectors[::5, 1] = 0.0
    vectors = vectors.astype(np.float32).astype(np.float64)
    expected = function.predict(vectors)
    found = run_session(open_session(svr_graph(function, {}), vectors.shape[1]), vectors)
    assert np.abs(found - expected).max() <= 2e-5
    module, features = TeacherFunction(function), torch.tensor(vectors, requires_grad=True)
    scores = module(features)
    assert np.abs(scores.detach().numpy() - expected).max() <= 1e-9
    scores.sum().backward()
    assert torch.isfinite(features.grad).all() and features.grad.abs().max() > 0


def test_tables_do_not_mix_teachers(tmp_path):
    table = make_table()
    one = table.assign(vmaf_v1=np.nan)
    half = len(table) // 2
    one.loc[half:, "vmaf_v1"] = one.loc[half:, "vmaf"]
    one.loc[half:, "vmaf"] = np.nan
    with pytest.raises(BadInput, match="mixes teachers: vmaf_v0.6.1 in .* rows, vmaf_v1.0.16_3d0h in"):
        load_training_table(one)
    named = table.assign(teacher=["vmaf_v0.6.1"] * half + ["vmaf_v0.6.1neg"] * (len(table) - half))
    with pytest.raises(BadInput, match="mixes teachers in its column teacher: .*vmaf_v0.6.1neg"):
        load_training_table(named)
    with pytest.raises(BadInput, match="teacher says vmaf_v0.6.1neg, but vmaf is the column of vmaf_v0.6.1"):
        load_training_table(table.assign(teacher="vmaf_v0.6.1neg"))


def test_a_run_folder_has_one_teacher(tmp_path):
    (tmp_path / "report.json").write_text('{"teacher": "vmaf_v1.0.16_3d0h"}')
    make_table().to_parquet(tmp_path / "table.parquet")
    with pytest.raises(BadInput, match="holds a run on vmaf_v1.0.16_3d0h, this one is on vmaf_v0.6.1"):
        train_and_package(tmp_path / "table.parquet", tmp_path)


def test_extraction_by_name(pair, tmp_path):
    "Only what was asked for is measured; names, options and libvmaf's own spelling are in the manifest."
    clips = [open_clip(path) for path in pair]
    corpus = Corpus("pair", pair[0].parent, (Pair("zoom", *clips, "libx264", "medium", 38.0, 640),))
    how = {"features": ["psnr_y"], "teachers": ["vmaf_v1.0.16_3d0h"], "cache": tmp_path / "cache", "progress": False}
    plain = extract(corpus, tmp_path / "plain.parquet", **how)
    deep = extract(corpus, tmp_path / "deep.parquet", bits=10, **how)
    assert (plain.measured, deep.measured) == (1, 1)  # another depth is another measurement
    for made, suffix in ((plain, ""), (deep, "_encbd_8")):
        table, facts = pd.read_parquet(made.table), open_manifest(made.table).facts
        assert table.columns[30:].tolist() == ["vmaf_v1", *TEACHERS["vmaf_v1.0.16_3d0h"].inputs]
        assert table["vmaf"].isna().all() and "vmaf" in facts["not_computed"]
        told = facts["teacher_models"]["vmaf_v1.0.16_3d0h"]
        assert told["features"]["cambi_v1"]["keys"] == ["cambi_hrs_1080_cmxv_17_vlt_0.06" + suffix]
        assert told["features"]["adm3_v1_3d0h"]["options"]["adm_csf_mode"] == 2
    assert extract(corpus, tmp_path / "again.parquet", **how).measured == 0


def test_hdr_in_a_corpus(graded, tmp_path):
    "A video is refused before anything is encoded; allowed, it stays at ten bits and every row says what it is."
    videos = tmp_path / "videos"
    videos.mkdir()
    source = ["-stream_loop", "3", "-i", str(graded["pq"]), "-c", "copy"]
    run_ffmpeg([*source, str(videos / "pq.mkv")])
    with pytest.raises(BadInput, match="pq.mkv: is HDR .*--allow-hdr"):
        corpus("clips", videos, tmp_path / "work", 240, 8, progress=False).raise_problems()
    allowed = corpus("clips", videos, tmp_path / "work", 240, 8, progress=False, allow_hdr=True)
    assert {clip.pix_fmt for pair in allowed.pairs for clip in pair.clips} == {"yuv420p10le"}
    how = {"features": ["psnr_y"], "cache": tmp_path / "cache", "progress": False}
    with pytest.raises(BadInput, match="is HDR"):
        extract(allowed, tmp_path / "refused.parquet", **how)
    made = extract(allowed, tmp_path / "marked.parquet", allow_hdr=True, **how)
    assert pd.read_parquet(made.table)["hdr"].str.startswith("PQ transfer").all()
    assert len(open_manifest(made.table).facts["hdr"]) == len(allowed.pairs)
    made = grid(videos, tmp_path / "rows.jsonl", qualities=["30"], frames=8, allow_hdr=True, progress=False)
    assert [made.rows[0][key] for key in ("hdr_transfer", "hdr_primaries")] == ["smpte2084", "bt2020"]
