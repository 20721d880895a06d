"""The MCP server over the real protocol: in this process, on standard input and output, and over HTTP."""

import base64
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from unittest.mock import patch

import anyio
import httpx2
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import vmaf_shim
from conftest import write_pan
from made_up import make_codec_rows, make_table
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from packaged import IDS, unpack
from PIL import Image
from refusals import PAIR, REFUSED_CALLS
from test_measure import GOLDEN, public_pattern

from vmaf_research.corpora.jobs import core_count
from vmaf_research.learn.recipes import Recipe
from vmaf_research.measure import manifest
from vmaf_research.measure.core import BadInput
from vmaf_research.measure.engine import find_engine, run_ffmpeg
from vmaf_research.measure.features import CANONICAL_6, TEACHERS
from vmaf_research.measure.libvmaf import measure
from vmaf_research.measure.manifest import describe_path, run_provenance, write_manifest
from vmaf_research.measure.video import input_arguments, open_clip
from vmaf_research.serve import mcp as server_module
from vmaf_research.serve.cli import main
from vmaf_research.serve.mcp import TOKEN_VARIABLE, TOOLS, make_server
from vmaf_research.serve.sandbox import Roots, Workers
from vmaf_research.serve.tools import Site
from vmaf_research.ship import score
from vmaf_research.ship.ensemble import run_ensemble
from vmaf_research.ship.registry import load
from vmaf_research.ship.verdict import validate

COMMAND = [sys.executable, "-c", "import sys; from vmaf_research.serve.cli import main; sys.exit(main())", "mcp"]
MODES = ("auto", "legacy")  # today's protocol, and the handshake of earlier clients
PUBLIC_PAIR = Path(os.environ.get("VMAF_PUBLIC_PAIR", GOLDEN))  # folder with the 48-frame pair of libvmaf's tests


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    "An allowed folder, with a file beside it that no client may read."
    outer = tmp_path_factory.mktemp("server")
    (outer / "allowed").mkdir()
    shutil.copy(write_pan(outer / "secret.yuv").path, outer / "allowed" / "pan.yuv")
    return outer / "allowed"


@cache
def shared_workers():
    "As many as a server has, for all servers: what a worker has loaded and found out it need not load again."
    return Workers(core_count(), 600)


def serving(*folders, **options):
    "A server of some folders, with the workers of all others."
    return make_server(folders, workers=shared_workers(), **options)


def talk(target, conversation, mode="auto"):
    "Run a conversation with a server, which is given as an object, a command line or a transport."
    if isinstance(target, list):
        environment = {name: os.environ[name] for name in ("VMAF_RESEARCH_CACHE", "PYTHONPATH") if name in os.environ}
        target = StdioServerParameters(command=target[0], args=target[1:], env=environment)

    async def connected():
        async with Client(target, mode=mode) as client:
            return await conversation(client)

    return anyio.run(connected)


def call(server, name, arguments, mode="auto"):
    "The result of one call."
    return talk(server, lambda client: client.call_tool(name, arguments), mode)


def answer(server, name, **arguments):
    "The structured content of one call, which must not fail."
    result = call(server, name, arguments)
    assert not result.is_error, result.content[0].text
    return result.structured_content


def engine_processes(process=None):
    "Running programs of the engine below a process, by default this one."
    name = Path(find_engine().path).name
    found = []
    for child in (process or psutil.Process()).children(recursive=True):
        try:
            if name.startswith(child.name()) and child.status() != psutil.STATUS_ZOMBIE:
                found.append(child)
        except psutil.NoSuchProcess:
            pass
    return found


def wait_until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


# What there is


@pytest.mark.parametrize("mode", MODES)
def test_tools_say_what_they_take_and_return(folder, mode):
    tools = talk(serving(folder), lambda client: client.list_tools(), mode).tools
    assert {tool.name for tool in tools} == set(TOOLS)
    for tool in tools:
        assert tool.description and tool.input_schema["type"] == "object" and tool.output_schema["type"] == "object"
        assert "site" not in tool.input_schema["properties"]
        assert all("description" in each for each in tool.input_schema["properties"].values()), tool.name
        assert tool.annotations.read_only_hint
    by_name = {tool.name: tool.input_schema for tool in tools}
    assert by_name["vmaf_score"]["required"] == ["ref", "dis"]


# Scores


@pytest.fixture(scope="module")
def patterns(tmp_path_factory):
    "The patterns of libvmaf's own tests, by name."
    place = tmp_path_factory.mktemp("patterns")
    wanted = [("checkerboard", 0), ("checkerboard", 1), ("checkerboard", 10), ("flat", 16), ("flat", 25)]
    return {f"{kind} {value}": public_pattern(place, kind, value)[0] for kind, value in wanted}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("ref", "dis", "vmaf", "features"),
    [
        ("checkerboard 0", "checkerboard 1", 35.06866714286451, {"adm2": 0.7853384465, "vif_scale0": 0.1129314709}),
        ("checkerboard 0", "checkerboard 10", 7.985898744818505, {"adm2": 0.0539965805, "motion2": 12.5547116667}),
        ("flat 16", "flat 25", 97.42804264261031, {"adm2": 1, "motion2": 0}),
    ],
)
def test_generated_pairs(patterns, ref, dis, vmaf, features, mode):
    paths = {"ref": patterns[ref].name, "dis": patterns[dis].name, "width": 1920, "height": 1080}
    server = serving(patterns[ref].parent)
    result = call(server, "vmaf_score", {**paths, "features": ["canonical6"], "per_frame": True}, mode)
    content = result.structured_content
    assert json.loads(result.content[0].text) == content
    assert content["vmaf"] == pytest.approx(vmaf, abs=1e-3)
    for name, value in features.items():
        assert content["pooled"][name]["mean"] == pytest.approx(value, abs=1e-4)
    assert len(content["per_frame"]) == content["frames"] == 3
    assert set(content["pooled"]) == {"vmaf", *CANONICAL_6}


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="the public fixture files are not beside this checkout")
def test_golden_pairs():
    recorded = json.loads((GOLDEN / "expected.json").read_text())
    tolerance = recorded["tolerance"]

    async def conversation(client):
        for pair in recorded["pairs"]:
            depth = 10 if "10le" in pair["pix_fmt"] else 8
            paths = {name: pair[name] for name in ("ref", "dis", "width", "height")}
            wanted = {"bitdepth": depth, "features": ["canonical6"], "per_frame": True}
            content = (await client.call_tool("vmaf_score", {**paths, **wanted})).structured_content
            assert content["frames"] == pair["frames"]
            for name, value in pair.get("expected", {}).items():
                allowed = tolerance["vmaf" if name == "vmaf" else "features"]
                allowed = 1e-2 if (name, pair["id"]) == ("vmaf", "src01_160x90") else allowed
                assert content["pooled"][name]["mean"] == pytest.approx(value, abs=allowed), (pair["id"], name)
            for name, values in pair.get("expected_frames", {}).items():
                found = [frame[name] for frame in content["per_frame"][: len(values)]]
                assert found == pytest.approx(values, abs=tolerance["vmaf"])

    talk(serving(GOLDEN), conversation)


@pytest.mark.skipif(
    not (PUBLIC_PAIR / "src01_hrc01_576x324.yuv").is_file(), reason="VMAF_PUBLIC_PAIR does not name a folder with it"
)
def test_public_pair_of_48_frames():
    "76.66890 is what libvmaf before 3.2 gives, which find_engine refuses."
    paths = {"ref": "src01_hrc00_576x324.yuv", "dis": "src01_hrc01_576x324.yuv", "width": 576, "height": 324}
    assert answer(serving(PUBLIC_PAIR), "vmaf_score", **paths)["vmaf"] == pytest.approx(76.66783, abs=1e-3)


def test_containers_other_models_and_resizing(folder, encoded):
    shutil.copy(encoded.path, folder / "crf38.mkv")
    run_ffmpeg(["-y", *input_arguments(encoded), "-vf", "scale=160:90", str(folder / "small.mkv")])
    server = serving(folder)
    pan = {"ref": "pan.yuv", "width": 320, "height": 180}
    found = answer(server, "vmaf_score", **pan, dis="crf38.mkv", model="vmaf_v0.6.1neg", features=["psnr_y", "A"])
    expected = measure(
        open_clip(folder / "pan.yuv", 320, 180), encoded, features=["psnr_y"], teachers=["vmaf_v0.6.1neg"]
    )
    assert found["vmaf"] == pytest.approx(expected.mean()["vmaf_neg"])
    inputs = TEACHERS["vmaf_v0.6.1neg"].inputs
    assert set(found["pooled"]) == {"vmaf_neg", "psnr_y", *CANONICAL_6, *inputs, "ssimulacra2"}
    small = {**pan, "dis": "small.mkv"}
    assert "160x90" in call(server, "vmaf_score", small).content[0].text
    assert answer(server, "vmaf_score", **small, resize=True)["vmaf"] < found["vmaf"]


@pytest.mark.filterwarnings("ignore:.*rows look")
def test_a_geometry_that_fits_but_is_wrong_is_refused_unless_trusted(folder):
    "180 rows of 320 pixels have as many bytes as 320 rows of 180."
    server, words = serving(folder), {"ref": "pan.yuv", "dis": "pan.yuv", "width": 180, "height": 320}
    assert "rows look 320 pixels long" in call(server, "vmaf_score", words).content[0].text
    found = answer(server, "vmaf_score", **words, trust_geometry=True)
    assert any("rows look 320 pixels long" in text for text in found["warnings"])


# Refusals


@pytest.fixture(scope="module")
def traps(folder):
    "Things in the allowed folder that are not what they seem."
    (folder / "link.yuv").symlink_to(folder.parent / "secret.yuv")
    (folder / "empty.yuv").touch()
    (folder / "text.mkv").write_text("no video")
    (folder / "list.m3u8").write_text(f"#EXTM3U\n#EXTINF:1,\n{folder.parent}/secret.ts\n#EXT-X-ENDLIST\n")
    run_ffmpeg(["-f", "lavfi", "-i", "testsrc2=s=64x64", "-frames:v", "5", str(folder.parent / "secret.ts")])
    os.mkfifo(folder / "pipe.yuv")
    return folder


@pytest.mark.parametrize("refused", REFUSED_CALLS, ids=lambda each: each.what)
def test_refusals_are_errors_with_a_sentence(traps, refused):
    result = call(serving(traps), refused.tool, refused.arguments)
    assert result.is_error
    text = result.content[0].text
    assert refused.pattern.search(text), text
    assert "Traceback" not in text and str(traps.parent) + "/secret" not in text
    assert not engine_processes()


def test_nothing_is_told_about_paths_outside(traps):
    server = serving(traps)
    there, not_there = "../secret.yuv", "../public.yuv"
    texts = [call(server, "vmaf_score", {**PAIR, "ref": name}).content[0].text for name in (there, not_there)]
    assert texts[0].replace("secret", "public") == texts[1]


def test_a_crash_tells_the_client_nothing(traps, monkeypatch):
    "A tool that fails in a way that nobody thought of."
    monkeypatch.setattr(server_module, "TOOLS", {"broken": vmaf_shim.broken_tool})
    result = call(serving(traps), "broken", {"ref": "x"})
    assert result.is_error and "secret" not in result.content[0].text and "Traceback" not in result.content[0].text


def test_answers_and_files_beyond_the_bounds(folder, monkeypatch):
    site = Site(Roots([folder]), folder, folder)
    for name, limit, sentence in (
        ("tools.MOST_VALUES", 10, "leave out per_frame"),
        ("tools._MOST_PIXELS", 1000, "scale the video down"),
        ("sandbox._MOST_BYTES", 1000, "reads files of up to 1000"),
    ):
        with monkeypatch.context() as patch, pytest.raises(BadInput, match=sentence), closing(Roots([folder])) as roots:
            patch.setattr(f"vmaf_research.serve.{name}", limit)
            TOOLS["vmaf_score"](replace(site, roots=roots), **PAIR, features=["canonical6"], per_frame=True)


def test_arguments_that_a_tool_does_not_have(folder):
    for name, arguments in (("vmaf_score", {**PAIR, "frames": 3}), ("list_models", {"all": True})):
        result = call(serving(folder), name, arguments)
        assert result.is_error and "Extra inputs are not permitted" in result.content[0].text


# A folder that is swapped for a link


@pytest.fixture
def swapped(tmp_path, registry):
    "A folder `allowed/data` that a thread swaps for a link to a folder outside, and back, as long as the test runs."
    for name, value in (("allowed/data", 0.5), ("outside", 0.9)):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        rows = make_table(2)[list(CANONICAL_6)].assign(adm2=value)
        rows.to_csv(folder / "rows.csv", index=False)
        (folder / "list").mkdir()
        (folder / "list" / "x").write_bytes(bytes(int(10 * value)))
        write_pan(folder / "pan.yuv", 64, 64, 2, step=int(20 * value))
        described = {each: describe_path(folder / each, {"output": folder}) for each in ("rows.csv", "list")}
        told = run_provenance(score.__file__, {}, {}, described)
        write_manifest(folder / "rows.csv", "test", told, {}, {"output": folder})
    data, ended = tmp_path / "allowed" / "data", threading.Event()

    def swap():
        while not ended.is_set():
            data.rename(tmp_path / "allowed" / "aside")
            data.symlink_to(tmp_path / "outside")
            time.sleep(0.0005)
            data.unlink()
            (tmp_path / "allowed" / "aside").rename(data)
            time.sleep(0.0005)

    thread = threading.Thread(target=swap)
    yield data, registry, thread.start
    ended.set()
    thread.join()


def test_five_hundred_calls_while_a_folder_is_swapped_for_a_link(swapped):
    data, registry, start = swapped
    raw = {"ref": "data/pan.yuv", "dis": "data/pan.yuv", "width": 64, "height": 64}
    calls = [("score_features", {"model_id": IDS[0], "table": "data/rows.csv"})] * 240
    calls = [*calls, *[("verify_manifest", {"manifest": "data/rows.csv"})] * 240, *[("vmaf_score", raw)] * 20]
    right, wrong, refused = {}, [], []

    async def conversation(client):
        for name, arguments in set_of(calls):
            right[name] = (await client.call_tool(name, arguments)).structured_content
        start()
        for name, arguments in calls:
            result = await client.call_tool(name, arguments)
            if result.is_error:
                refused.append(result.content[0].text)
                continue
            found = result.structured_content
            if not all(each.endswith("is now missing") for each in found.get("differences", ())):
                wrong.append(found)
            if "differences" not in found and found != right[name]:
                wrong.append(found)

    def set_of(calls):
        return {name: (name, arguments) for name, arguments in calls}.values()

    talk(serving(data.parent, models=registry), conversation)
    assert not wrong, wrong[0]
    assert len(refused) < len(calls), refused[0]
    assert not any("outside/" in text for text in refused)


# Calls that end early, and many at a time


@pytest.fixture(scope="module")
def long_pair(tmp_path_factory):
    "A minute of work that takes no space: 1,000 black frames of 1920x1080 in a sparse file."
    path = tmp_path_factory.mktemp("long") / "black.yuv"
    with open(path, "wb") as file:
        file.truncate(1000 * 1920 * 1080 * 3 // 2)
    return path


def long_call(path):
    return "vmaf_score", {"ref": str(path), "dis": str(path), "width": 1920, "height": 1080}


async def cancel_when_measuring(client, path, owner):
    "Start more long calls than run at a time, wait for their ffmpeg, and go away; the server must still answer."
    async with anyio.create_task_group() as group:
        for _ in range(core_count() + 2):
            group.start_soon(partial(client.call_tool, *long_call(path)))
        with anyio.fail_after(120):
            while not engine_processes(owner()):
                await anyio.sleep(0.02)
        await anyio.sleep(0.3)
        assert engine_processes(owner())
        group.cancel_scope.cancel()
    with anyio.fail_after(10):
        while engine_processes(owner()):
            await anyio.sleep(0.02)
    result = await client.call_tool("vmaf_score", {**long_call(path)[1], "ref": "nothing.yuv"})
    assert "no such file" in result.content[0].text


@pytest.mark.parametrize("mode", MODES)
def test_a_cancelled_call_ends_its_ffmpeg(long_pair, mode):
    server = serving(long_pair.parent)
    talk(server, lambda client: cancel_when_measuring(client, long_pair, psutil.Process), mode)


@pytest.mark.parametrize(("mode", "how"), [("auto", "leave"), ("legacy", "terminate")])
def test_a_server_in_another_process_leaves_nothing(long_pair, mode, how, tmp_path):
    "When calls are cancelled, and when the client closes standard input or somebody ends the server during one."
    others = psutil.Process().children()  # of earlier tests, such as a resource tracker

    def servers():
        return [child for child in psutil.Process().children() if child not in others]

    async def until_the_end(client):
        await cancel_when_measuring(client, long_pair, psutil.Process)
        async with anyio.create_task_group() as group:
            group.start_soon(partial(client.call_tool, *long_call(long_pair)))
            with anyio.fail_after(120):
                while not engine_processes():
                    await anyio.sleep(0.02)
            if how == "leave":
                group.cancel_scope.cancel()
            else:
                servers()[0].terminate()

    command = ["env", f"TMPDIR={tmp_path}", *COMMAND, "--allow", str(long_pair.parent)]
    try:
        talk(command, until_the_end, mode)
    except* MCPError:  # the connection was closed
        assert how == "terminate"
    wait_until(lambda: not engine_processes() and not list(tmp_path.iterdir()), 10)
    assert not servers()


def test_a_call_that_takes_too_long_is_stopped(long_pair):
    began = time.monotonic()
    result = call(make_server([long_pair.parent], workers=Workers(1, 0.5)), *long_call(long_pair))
    assert time.monotonic() - began < 20, "it was waited for, not stopped"
    assert result.is_error and "did not finish within 0.5 s" in result.content[0].text
    wait_until(lambda: not engine_processes(), 5)


def test_work_that_runs_no_process_is_stopped(tmp_path, registry):
    "A sparse folder of 1 TiB to hash, and 100 million repeated values: both end at the limit, and when cancelled."
    (tmp_path / "huge").mkdir()
    recorded = describe_path(tmp_path / "huge", {"output": tmp_path}, contents=True)
    write_manifest(
        tmp_path / "x", "test", run_provenance(score.__file__, {}, {}, {"huge": recorded}), {}, {"output": tmp_path}
    )
    with open(tmp_path / "huge" / "x", "wb") as file:
        file.truncate(1 << 40)
    columns = {name: pa.array(np.full(1 << 20, 0.5)) for name in CANONICAL_6}
    with pq.ParquetWriter(tmp_path / "huge.parquet", pa.table(columns).schema) as writer:
        for _ in range(16):
            writer.write_table(pa.table(columns))
    calls = {
        "verify_manifest": {"manifest": "x"},
        "score_features": {"model_id": IDS[0], "table": "huge.parquet"},
    }
    server, limited = (make_server([tmp_path], registry, Workers(2, limit)) for limit in (600, 0.5))

    async def cancelled(client):
        await client.call_tool("list_models", {})
        for name, arguments in calls.items():
            with anyio.move_on_after(0.3):
                await client.call_tool(name, arguments)
        with anyio.fail_after(10):
            assert not (await client.call_tool("list_models", {})).is_error

    talk(server, cancelled)
    for name, arguments in calls.items():
        result = call(limited, name, arguments)
        assert result.is_error and "did not finish within 0.5 s" in result.content[0].text, name
    wait_until(lambda: seconds_used() == (time.sleep(0.3), seconds_used())[1])


def seconds_used():
    "Processor time of all workers that there are."
    used = 0
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            used += child.cpu_times().user if child.status() != psutil.STATUS_ZOMBIE else 0
    return used


@pytest.mark.parametrize("over", ["memory", "stdio"])
def test_fifty_calls_at_a_time(tmp_path, over):
    "Ten different pairs, five times each: every call gets its own score, and few processes run at a time."
    expected = {}
    reference = write_pan(tmp_path / "ref.yuv", 64, 64, frames=3)
    picture = np.fromfile(reference.path, np.uint8)
    noise = np.random.default_rng(0).normal(size=picture.shape)
    for number in range(10):
        distorted = tmp_path / f"dis{number}.yuv"
        np.clip(picture + (2 + number) * noise, 16, 235).astype(np.uint8).tofile(distorted)
        clip = open_clip(distorted, 64, 64)
        expected[distorted.name] = measure(reference, clip, features=()).mean()["vmaf"]
    assert len(set(expected.values())) == 10
    names = 5 * list(expected)
    scores, most = [None] * len(names), 0

    async def conversation(client):
        async def one(place, name):
            pair = {"ref": "ref.yuv", "dis": name, "width": 64, "height": 64}
            scores[place] = (await client.call_tool("vmaf_score", pair)).structured_content["vmaf"]

        async def watch():
            nonlocal most
            while True:
                most = max(most, len(engine_processes()))
                await anyio.sleep(0.01)

        await client.call_tool("list_backends", {})
        async with anyio.create_task_group() as watching:
            watching.start_soon(watch)
            async with anyio.create_task_group() as calls:
                for place, name in enumerate(names):
                    calls.start_soon(one, place, name)
            watching.cancel_scope.cancel()

    talk(serving(tmp_path) if over == "memory" else [*COMMAND, "--allow", str(tmp_path)], conversation)
    assert scores == [expected[name] for name in names]
    assert 1 <= most <= core_count()
    assert not engine_processes()


# Models, tables, corpora and resources


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    return unpack(tmp_path_factory.mktemp("model"))


def test_models_are_described_and_run(folder, registry):
    server = serving(folder, models=registry)
    assert [model["id"] for model in answer(server, "list_models")["models"]] == list(IDS)
    described = answer(server, "describe_model", model_id=IDS[0])
    assert list(described["features"]) == list(CANONICAL_6)
    assert described["caveats"] and described["metrics"]["loso_mean_plcc"] > 0.5
    table, model = make_table(2), load(IDS[0], registry)
    table.loc[3, "motion2"] = 900.0
    features = table[list(CANONICAL_6)].to_numpy()
    expected, known = model.score(features), model.in_range(features)
    for suffix, write in (("csv", table.to_csv), ("parquet", table.to_parquet)):
        write(folder / f"rows.{suffix}", index=False)
        scored = answer(server, "score_features", model_id=IDS[0], table=f"rows.{suffix}")
        assert scored["rows"] == len(table)
        assert scored["scores"] == pytest.approx(expected.tolist(), abs=1e-6)
        assert scored["in_range"] == known.tolist() and not known[3]
        assert scored["outside"] == np.sum(~known)
    rows = table[list(CANONICAL_6)].head(3).to_dict("records")
    level = described["greatest_interval_level"]
    scored = answer(server, "score_features", model_id=IDS[0], rows=rows, level=level)
    assert scored["scores"] == pytest.approx(expected[:3].tolist(), abs=1e-6)
    assert scored["half_width"] == model.sidecar.calibration.frame.half_width(level)


def test_features_that_cannot_be_scored(folder, registry):
    server = serving(folder, models=registry)
    for arguments, sentence in (
        ({"model_id": "other", "rows": [{}]}, "no model 'other'"),
        ({"model_id": IDS[0]}, "give either rows or table"),
        ({"model_id": IDS[0], "rows": []}, "has no column"),
        ({"model_id": IDS[0], "rows": [{"adm2": 1}]}, "has no column vif_scale0"),
        ({"model_id": IDS[0], "rows": [dict.fromkeys(CANONICAL_6, 1.0), {"adm2": 1}]}, "row 1; remove these rows"),
        ({"model_id": IDS[0], "rows": [dict.fromkeys(CANONICAL_6, 1.0)], "level": 0.99}, "guarantee at most"),
        ({"model_id": IDS[0], "table": "pan.yuv"}, ".parquet"),
        ({"model_id": IDS[0], "table": "../../rows.csv"}, "outside"),
    ):
        result = call(server, "score_features", arguments)
        assert result.is_error and sentence in result.content[0].text


def test_a_damaged_model_is_not_run_and_its_folder_not_named(folder, registry, tmp_path):
    models = shutil.copytree(registry, tmp_path / "my models")
    graph = bytearray((models / f"{IDS[0]}_raw.onnx").read_bytes())
    graph[len(graph) // 2] ^= 1
    (models / f"{IDS[0]}_raw.onnx").write_bytes(graph)
    server = serving(folder, models=models)
    text = call(server, "describe_model", {"model_id": IDS[0]}).content[0].text
    assert f"{IDS[0]}_raw.onnx" in text and str(tmp_path) not in text
    health = answer(server, "doctor")
    assert not health["ok"] and str(tmp_path) not in json.dumps(health)
    (models / "registry.json").unlink()
    text = call(server, "list_models", {}).content[0].text
    assert "no such file" in text and str(tmp_path) not in text


def test_a_crf_is_predicted_and_a_stub_says_so(folder, encoded):
    shutil.copy(encoded.path, folder / "encoded.mkv")
    server = serving(folder)
    found = answer(server, "predict_crf", source="encoded.mkv", target=90)
    curve = {point["crf"]: point["vmaf"] for point in found["shots"][0]["curve"]}
    assert found["crf"] == max(crf for crf, vmaf in curve.items() if vmaf >= 90)
    assert (found["model"], found["synthetic"], found["unreachable"]) == ("predictor_libx264", False, False)
    stub = answer(server, "predict_crf", source="encoded.mkv", codec="hevc_amf", target=90)
    assert stub["synthetic"] and "DO NOT USE IN PRODUCTION" in stub["warnings"][0]
    for arguments, sentence in (
        ({"source": "../secret.yuv"}, "outside of the folders"),
        ({"source": "pan.yuv"}, "convert it to Y4M"),
        ({"source": "encoded.mkv", "codec": "h264"}, "libx264"),
        ({"source": "encoded.mkv", "codec": "hevc_amf", "confidence": 0.8}, "no intervals"),
    ):
        result = call(server, "predict_crf", arguments)
        assert result.is_error and sentence in result.content[0].text


@pytest.mark.parametrize("mode", MODES)
def test_cards_and_digests_are_resources(folder, registry, mode):
    async def conversation(client):
        listed = {str(resource.uri) for resource in (await client.list_resources()).resources}
        assert {f"vmaf-research://model/{model_id}/card" for model_id in IDS} <= listed
        for address in listed:
            content = (await client.read_resource(address)).contents[0]
            assert content.mime_type == "text/markdown" and content.text.strip()
        templates = (await client.list_resource_templates()).resource_templates
        assert {template.uri_template.split("//")[1].split("/")[0] for template in templates} == {
            "model", "digest", "picture",
        }  # fmt: skip
        for address in ("model/other/card", "digest/other", "digest/..%2Fsecret", "picture/0", "file/x"):
            with pytest.raises(MCPError) as caught:
                await client.read_resource(f"vmaf-research://{address}")
            assert str(folder.parent) not in str(caught.value) and "Traceback" not in str(caught.value)

    talk(serving(folder, models=registry), conversation, mode)


def test_worst_frames_come_with_pictures(tmp_path):
    noise = "testsrc2=s=320x180,noise=alls=60:allf=t:enable='between(n,5,6)'"
    for name, pattern in (("ref", "testsrc2=s=320x180"), ("dis", noise)):
        run_ffmpeg(["-f", "lavfi", "-i", pattern, "-frames:v", "12", "-c:v", "ffv1", str(tmp_path / f"{name}.mkv")])

    async def conversation(client):
        asked = {"ref": "ref.mkv", "dis": "dis.mkv", "count": 2}
        content = (await client.call_tool("describe_worst_frames", asked)).structured_content
        assert {frame["frame_index"] for frame in content["frames"]} == {5, 6}
        assert content["frames"][0]["vmaf"] <= content["frames"][1]["vmaf"] < content["mean"]
        pictures = {}
        for side in ("reference_png", "distorted_png"):
            blob = (await client.read_resource(content["frames"][0][side])).contents[0].blob
            pictures[side] = Image.open(io.BytesIO(base64.b64decode(blob)))
            assert pictures[side].size == (320, 180)
        assert pictures["reference_png"].tobytes() != pictures["distorted_png"].tobytes()

    talk(serving(tmp_path), conversation)


def test_a_corpus_is_described_and_its_manifest_verified(tmp_path, encoded):
    clips = tmp_path / "videos"
    clips.mkdir()
    shutil.copy(encoded.path, clips / "pan.mkv")
    table = tmp_path / "t.parquet"
    assert main(["extract", "clips", str(clips), "--out", str(table), "--height", "64", "--frames", "4", "-q"]) == 0
    server = serving(tmp_path)
    described = answer(server, "describe_corpus", table="t.parquet")
    assert described["counts"]["sources"] == 1 and described["sources"] == ["pan"]
    assert described["counts"]["rows"] == 4 * described["counts"]["pairs"]
    assert described["codecs"]["libx264"]["pairs"] == described["counts"]["pairs"]
    assert sum(described["geometries"].values()) == described["counts"]["pairs"]
    assert 0 <= described["vmaf"]["min"] <= described["vmaf"]["mean"] <= described["vmaf"]["max"] <= 100
    report = answer(server, "verify_manifest", manifest="t.parquet")
    assert report["ok"] and report["checked"] > 2
    with patch.object(manifest, "_MOST_ENTRIES", 9):
        copied = manifest.copy_manifest(table, tmp_path / "parts.manifest.json")
    in_parts = answer(server, "verify_manifest", manifest=copied.name)
    assert in_parts["ok"] and in_parts["checked"] == report["checked"] and manifest.part_paths(copied)
    part = manifest.part_paths(copied)[0]
    part.rename(tmp_path.parent / part.name)
    part.symlink_to(tmp_path.parent / part.name)
    refused = call(server, "verify_manifest", {"manifest": copied.name})
    assert refused.is_error and "outside of the folders" in refused.content[0].text

    elsewhere = tmp_path / "only the table"
    elsewhere.mkdir()
    for path in tmp_path.glob("t.parquet*"):
        shutil.copy(path, elsewhere)
    refused = call(serving(elsewhere), "verify_manifest", {"manifest": "t.parquet"})
    assert refused.is_error and "outside of the folders" in refused.content[0].text

    data = bytearray(table.read_bytes())
    data[100] ^= 1
    table.write_bytes(data)
    report = answer(server, "verify_manifest", manifest="t.parquet")
    assert not report["ok"] and "t.parquet" in report["differences"][0]
    refused = call(server, "describe_corpus", {"table": "t.parquet"})
    assert refused.is_error and "not the file that its manifest describes" in refused.content[0].text


def test_the_verdict_on_a_run(tmp_path):
    make_codec_rows().to_parquet(tmp_path / "rows.parquet")
    recipe = Recipe(
        name="quick",
        optimizer="adam",
        learning_rate=5e-3,
        weight_decay=0.0,
        schedule="one_cycle",
        loss="mse",
        epochs=2,
        batch_size=64,
        dropout=0.0,
    )
    run_ensemble(tmp_path / "rows.parquet", tmp_path / "run", recipe, progress=False)
    written = validate(tmp_path / "run")
    server = serving(tmp_path)
    found = answer(server, "read_verdict", run="run")
    assert found == answer(server, "read_verdict", run="run/HOLD.json")
    assert found["verdict"] == "HOLD" and found["reasons"] == list(written.reasons)
    assert found["digest"] == written.digest
    assert [check["passed"] for check in found["checks"]] == [check["passed"] for check in written.document["checks"]]
    text = (tmp_path / "run" / "HOLD.json").read_text()
    (tmp_path / "run" / "HOLD.json").write_text(text.replace("HOLD", "PROMOTE"))
    refused = call(server, "read_verdict", {"run": "run"})
    assert refused.is_error and "damaged or edited" in refused.content[0].text


# As a process


@pytest.fixture(scope="module")
def http_server(folder, long_pair):
    "A server on a free port, and its token."
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = "a token of the tests"
    command = [*COMMAND, "--allow", str(folder), "--allow", str(long_pair.parent), "--http", str(port)]
    process = subprocess.Popen(command, env={**os.environ, TOKEN_VARIABLE: token}, stderr=subprocess.DEVNULL)

    def listens():
        assert process.poll() is None
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_until(listens)
        yield process, f"http://127.0.0.1:{port}/mcp", token
    finally:
        process.terminate()
        process.wait(10)


def test_http_needs_the_token_and_stays_on_this_machine(http_server):
    process, address, token = http_server
    listening = [each for each in psutil.Process(process.pid).net_connections() if each.status == psutil.CONN_LISTEN]
    assert {each.laddr.ip for each in listening} == {"127.0.0.1"}
    for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {token}"}):
        assert httpx2.post(address, json={}, headers=header).status_code == 401
    place = address.split("/")[2]
    for host in ("evil.example", f"{place}@evil.example", f"{place}.evil.example", "127.0.0.1:1", "127.0.0.1"):
        strange = {"Authorization": f"Bearer {token}", "Host": host}
        assert httpx2.post(address, json={}, headers=strange).status_code in (403, 421), host


def test_http_serves_who_has_the_token_until_it_is_ended(http_server, long_pair):
    process, address, token = http_server

    async def conversation():
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx2.AsyncClient(headers=headers, timeout=60) as http:
            async with Client(streamable_http_client(address, http_client=http)) as client:
                score = await client.call_tool("vmaf_score", PAIR)
                assert score.structured_content["vmaf"] > 95
                await cancel_when_measuring(client, long_pair, partial(psutil.Process, process.pid))
                async with anyio.create_task_group() as group:
                    group.start_soon(client.call_tool, *long_call(long_pair))
                    with anyio.fail_after(120):
                        while not engine_processes():
                            await anyio.sleep(0.02)
                    process.terminate()

    try:
        anyio.run(conversation)
    except* (MCPError, httpx2.HTTPError):  # the connection was closed
        pass
    process.wait(10)
    wait_until(lambda: not engine_processes(), 10)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--http", "0"], "can be guessed"),
        (["--http", "-1"], "port -1: expected 1 to 65535"),
    ],
)
def test_servers_that_do_not_start(words, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(TOKEN_VARIABLE, "secret")
    assert main(["mcp", *words]) == 2
    assert sentence in capsys.readouterr().err


def test_a_port_that_another_program_has(capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main(["mcp", "--http", str(port)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: port {port} of 127.0.0.1: ") and len(said.splitlines()) == 1


def test_any_free_port(folder):
    command = [*COMMAND, "--allow", str(folder), "--http", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        address, _, token = process.stderr.readline().partition(", Authorization: Bearer ")
        assert httpx2.post(address, json={}).status_code == 401
        headers = {"Authorization": f"Bearer {token.strip()}"}
        assert httpx2.post(address, json={}, headers=headers).status_code != 401
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.communicate()


def test_no_folder_at_all():
    with pytest.raises(BadInput, match="no folder is allowed"):
        make_server([])


# What the documentation says

DOCUMENT = Path(__file__).parents[1] / "docs" / "mcp.md"


def test_the_documented_client_works(tmp_path):
    script = DOCUMENT.read_text().split("```python\n")[1].split("```")[0]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    names, score = done.stdout.splitlines()
    assert names.split() == list(TOOLS)
    assert score == "VMAF 35.0687"


def test_every_tool_is_documented_with_its_arguments(folder):
    rows = {line.split("`")[1]: line for line in DOCUMENT.read_text().splitlines() if line.startswith("| `")}
    tools = talk(serving(folder), lambda client: client.list_tools()).tools
    for tool in tools:
        own = set(tool.input_schema["properties"])
        if tool.name == "describe_worst_frames":  # "the same pair"
            own -= set(next(each for each in tools if each.name == "vmaf_score").input_schema["properties"])
        assert all(f"`{name}`" in rows[tool.name] for name in own), tool.name
