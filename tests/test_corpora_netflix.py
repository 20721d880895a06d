"""Trees in Netflix layout with everything that goes wrong in practice."""

import shutil
from functools import cache
from string import ascii_letters, digits

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmaf_research.corpora.embedded import SCENES, render_scene
from vmaf_research.corpora.extract import extract
from vmaf_research.corpora.netflix import PUBLIC_SET, netflix_corpus, parse_distorted_name, parse_reference_name
from vmaf_research.corpora.pairs import snapshot_digest
from vmaf_research.measure.core import BadInput
from vmaf_research.measure.encode import encode
from vmaf_research.measure.engine import run_ffmpeg
from vmaf_research.measure.manifest import open_manifest
from vmaf_research.measure.provenance import sha256_file
from vmaf_research.measure.video import Clip, input_arguments

WIDTH, HEIGHT, FRAMES = 320, 180, 6
FRAME_BYTES = WIDTH * HEIGHT * 3 // 2


def scene(name):
    return next(scene for scene in SCENES if scene.source == name)


@cache
def rendered(name, width, height, frames, depth, most):
    "A scene of the embedded corpus, as far as so many bytes."
    data = bytearray()
    for planes in render_scene(scene(name), width, height, frames):
        for plane in planes:
            data += (plane if depth == 8 else plane.astype("<u2") << (depth - 8)).tobytes()
        if most is not None and len(data) >= most:
            break
    return bytes(data[:most])


def write_raw(path, name, width=WIDTH, height=HEIGHT, frames=FRAMES, depth=8, most=None):
    "Raw video of a scene of the embedded corpus."
    path.write_bytes(rendered(name, width, height, frames, depth, most))


def degrade(reference, out, quality, height):
    "Encode badly, and bring the result back to raw video of the full size, as the public set was made."
    clip = Clip(reference, WIDTH, HEIGHT, "yuv420p", 25, FRAMES, raw=True)
    small = encode(clip, out.with_suffix(".mp4"), "libx264", quality, height=height)
    scale = ["-vf", f"scale={WIDTH}:{HEIGHT}", "-pix_fmt", "yuv420p", "-f", "rawvideo", str(out)]
    run_ffmpeg([*input_arguments(small), *scale])
    small.path.unlink()


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    root = tmp_path_factory.mktemp("sound")
    (root / "ref").mkdir()
    (root / "dis").mkdir()
    for source, name in (("Astronaut", "astronaut"), ("Stones", "gravel")):
        reference = root / "ref" / f"{source}_25fps.yuv"
        write_raw(reference, name)
        degrade(reference, root / "dis" / f"{source}_20_90_50.yuv", 45, 90)
        degrade(reference, root / "dis" / f"{source}_80_180_900.yuv", 20, None)
    return root


@pytest.fixture
def tree(sound, tmp_path):
    return shutil.copytree(sound, tmp_path / "tree")


def read(root):
    return netflix_corpus(root, WIDTH, HEIGHT)


def the_problem(root, identity):
    "The one problem that a tree has."
    problems = read(root).problems
    assert [problem.id for problem in problems] == [identity]
    return problems[0].reason


def test_a_sound_tree_has_nothing_to_say(sound):
    corpus = read(sound)
    assert [pair.key for pair in corpus.pairs] == [
        ("Astronaut", "Astronaut_20_90_50.yuv"),
        ("Astronaut", "Astronaut_80_180_900.yuv"),
        ("Stones", "Stones_20_90_50.yuv"),
        ("Stones", "Stones_80_180_900.yuv"),
    ]
    assert (corpus.problems, corpus.warnings) == ((), ())
    pair = corpus.pairs[0]
    assert (pair.encode_height, pair.bitrate_kbps, pair.codec, pair.crf, pair.preset) == (
        90,
        50.0,
        "unknown",
        None,
        None,
    )
    assert (pair.reference.raw, pair.reference.fps, pair.distorted.frames) == (True, 25, FRAMES)


@pytest.mark.parametrize("name", [scene.source for scene in SCENES])
def test_no_false_alarm_on_very_bad_encodes(tmp_path, name):
    (tmp_path / "ref").mkdir()
    (tmp_path / "dis").mkdir()
    reference = tmp_path / "ref" / "Scene_25fps.yuv"
    write_raw(reference, name)
    for number, (quality, height) in enumerate(((51, 24), (51, 44), (51, None), (35, 90))):
        degrade(reference, tmp_path / "dis" / f"Scene_{number}_44_9.yuv", quality, height)
    corpus = read(tmp_path)
    assert (len(corpus.pairs), corpus.problems) == (4, ())
    assert all("has the same bytes as" in warning for warning in corpus.warnings)  # two flat encodes may be equal


def test_odd_but_right_pictures(tmp_path):
    "Black, white, a gradient, noise, and a picture without colour, each against a slightly brighter copy."
    (tmp_path / "ref").mkdir()
    (tmp_path / "dis").mkdir()
    random = np.random.default_rng(0)
    ramp = np.tile(np.linspace(16, 230, WIDTH), (HEIGHT, 1))
    pictures = {
        "Black": np.full((HEIGHT, WIDTH), 16),
        "Zero": np.zeros((HEIGHT, WIDTH)),
        "White": np.full((HEIGHT, WIDTH), 235),
        "Ramp": ramp,
        "Steps": ramp // 40 * 40,
        "Noise": random.integers(16, 236, (HEIGHT, WIDTH)),
        "Stripes": np.where(np.arange(WIDTH) // 8 % 2, 200, 40)[None, :].repeat(HEIGHT, axis=0),
        "Board": np.where((np.arange(WIDTH) // 10 + np.arange(HEIGHT)[:, None] // 10) % 2, 200, 40),
    }
    for name, picture in pictures.items():
        for path, lift in ((f"ref/{name}_30fps.yuv", 0), (f"dis/{name}_0_180_9.yuv", 3)):
            frame = np.clip(picture + lift, 0, 255).astype(np.uint8).tobytes() + bytes([128] * (WIDTH * HEIGHT // 2))
            (tmp_path / path).write_bytes(frame * 4)
    corpus = read(tmp_path)
    assert (corpus.sources, corpus.problems) == (tuple(sorted(pictures)), ())


def test_one_frame(tmp_path):
    (tmp_path / "ref").mkdir()
    (tmp_path / "dis").mkdir()
    write_raw(tmp_path / "ref" / "Still_25fps.yuv", "coffee", frames=1)
    write_raw(tmp_path / "dis" / "Still_1_180_5.yuv", "coffee", frames=1)
    assert read(tmp_path).problems == ()


def test_truncated(tree):
    path = tree / "dis" / "Stones_20_90_50.yuv"
    path.write_bytes(path.read_bytes()[:-777])
    reason = the_problem(tree, "dis/Stones_20_90_50.yuv")
    assert f"{FRAMES - 1} frames and {FRAME_BYTES - 777} bytes" in reason


def test_whole_frames_missing(tree):
    path = tree / "dis" / "Stones_20_90_50.yuv"
    path.write_bytes(path.read_bytes()[:-FRAME_BYTES])
    assert f"has {FRAMES - 1} frames, but its reference Stones_25fps.yuv has {FRAMES}" in the_problem(
        tree, "dis/Stones_20_90_50.yuv"
    )


def test_empty(tree):
    (tree / "dis" / "Stones_20_90_50.yuv").write_bytes(b"")
    assert "empty" in the_problem(tree, "dis/Stones_20_90_50.yuv")


@pytest.mark.parametrize(
    ("width", "height"),
    [(180, 320), (640, 90), (160, 360), (480, 120), (240, 240), (320, 360), (320, 90), (320, 120), (640, 360)],
)
@pytest.mark.parametrize("name", ["astronaut", "rocket"])
def test_another_geometry_of_the_same_size(tree, width, height, name):
    (tree / "ref" / "Stones_25fps.yuv").unlink()
    for path in tree.glob("dis/Stones*"):
        path.unlink()
    write_raw(tree / "ref" / "Same_25fps.yuv", name)
    data = tree / "dis" / "Same_50_180_300.yuv"
    write_raw(data, name, width, height, frames=2 * FRAMES, most=FRAMES * FRAME_BYTES)
    reason = the_problem(tree, "dis/Same_50_180_300.yuv")
    assert "geometry" in reason


def test_another_geometry_of_another_size(tree):
    write_raw(tree / "dis" / "Stones_20_90_50.yuv", "gravel", 300, 170)
    assert "not a whole number of 320x180" in the_problem(tree, "dis/Stones_20_90_50.yuv")


@pytest.mark.parametrize("depth", [10, 12])
def test_deeper_than_declared(tree, depth):
    write_raw(tree / "dis" / "Stones_20_90_50.yuv", "gravel", frames=FRAMES // 2, depth=depth)
    assert f"{depth}-bit" in the_problem(tree, "dis/Stones_20_90_50.yuv")


def test_dark_deep_video(tree):
    "A black picture of limited range is 64 in 10 bits."
    samples = np.full(FRAME_BYTES * FRAMES // 2, 64, dtype="<u2")
    samples[WIDTH * HEIGHT : FRAME_BYTES] = 512
    (tree / "dis" / "Stones_20_90_50.yuv").write_bytes(samples.tobytes())
    assert "10-bit" in the_problem(tree, "dis/Stones_20_90_50.yuv")


def test_shallower_than_declared(tree):
    with pytest.raises(BadInput, match="not 10-bit"):
        netflix_corpus(tree, WIDTH, HEIGHT, "yuv420p10le")


def test_ten_bit_tree(tmp_path):
    (tmp_path / "ref").mkdir()
    (tmp_path / "dis").mkdir()
    write_raw(tmp_path / "ref" / "Deep_25fps.yuv", "coffee", depth=10)
    write_raw(tmp_path / "dis" / "Deep_1_180_5.yuv", "coffee", depth=10)
    assert not netflix_corpus(tmp_path, WIDTH, HEIGHT, "yuv420p10le").problems
    with pytest.raises(BadInput, match="10-bit") as caught:
        read(tmp_path)
    assert "ref/Deep_25fps.yuv" in str(caught.value)


def test_missing_reference(tree):
    (tree / "ref" / "Stones_25fps.yuv").unlink()
    corpus = read(tree)
    assert {problem.id for problem in corpus.problems} == {"dis/Stones_20_90_50.yuv", "dis/Stones_80_180_900.yuv"}
    assert all("ref/Stones_<fps>fps.yuv is missing" in problem.reason for problem in corpus.problems)


def test_broken_reference_names_what_it_takes_along(tree):
    path = tree / "ref" / "Stones_25fps.yuv"
    path.write_bytes(path.read_bytes()[:-5])
    assert "its 2 distorted files are not used" in the_problem(tree, "ref/Stones_25fps.yuv")


def test_duplicate_reference(tree):
    shutil.copy(tree / "ref" / "Stones_25fps.yuv", tree / "ref" / "Stones_50fps.yuv")
    reason = the_problem(tree, "ref/Stones_50fps.yuv")
    assert "Stones_25fps.yuv, Stones_50fps.yuv" in reason
    assert "its 2 distorted files are not used" in reason


def test_two_names_that_say_the_same(tree):
    shutil.copy(tree / "dis" / "Stones_20_90_50.yuv", tree / "dis" / "Stones_20_090_50.yuv")
    assert "dis/Stones_20_090_50.yuv" in the_problem(tree, "dis/Stones_20_90_50.yuv")


def test_the_same_bytes_twice_are_a_warning(tree):
    shutil.copy(tree / "dis" / "Stones_20_90_50.yuv", tree / "dis" / "Stones_30_90_50.yuv")
    shutil.copy(tree / "ref" / "Astronaut_25fps.yuv", tree / "dis" / "Astronaut_99_180_5000.yuv")
    corpus = read(tree)
    assert (len(corpus.pairs), corpus.problems) == (6, ())
    first, second = corpus.warnings
    assert first.startswith("dis/Astronaut_99_180_5000.yuv: has the same bytes as ref/Astronaut_25fps.yuv")
    assert second.startswith("dis/Stones_30_90_50.yuv: has the same bytes as dis/Stones_20_90_50.yuv")


def test_reference_without_distorted_files(tree):
    shutil.copy(tree / "ref" / "Stones_25fps.yuv", tree / "ref" / "Lonely_25fps.yuv")
    assert "no distorted file of source Lonely" in the_problem(tree, "ref/Lonely_25fps.yuv")


@pytest.mark.parametrize(
    "name",
    [
        "ref/Two_Words_25fps.yuv",
        "ref/Stones_ntsc.yuv",
        "dis/Stones_20_90.yuv",
        "dis/Stones-2_20_90_50.yuv",
        "dis/x.yuv",
    ],
)
def test_unparsable_name(tree, name):
    shutil.copy(tree / "ref" / "Stones_25fps.yuv", tree / name)
    assert "expected <source>_" in the_problem(tree, name)


@pytest.mark.parametrize(
    "name", ["ref/notes.txt", "dis/Stones_20_90_50.y4m", "dis/.DS_Store", "dis/Stones_20_90_50.YUV"]
)
def test_other_files(tree, name):
    (tree / name).write_bytes(b"1234")
    assert "not a .yuv file" in the_problem(tree, name)


def test_folder_and_broken_link(tree):
    (tree / "dis" / "old.yuv").mkdir()
    (tree / "ref" / "Gone_25fps.yuv").symlink_to(tree / "nowhere.yuv")
    assert {problem.id for problem in read(tree).problems} == {"dis/old.yuv", "ref/Gone_25fps.yuv"}


def test_links_are_followed(tree, tmp_path):
    moved = tmp_path / "store.yuv"
    path = tree / "dis" / "Stones_20_90_50.yuv"
    path.rename(moved)
    path.symlink_to(moved)
    corpus = read(tree)
    assert (len(corpus.pairs), corpus.problems) == (4, ())
    assert corpus.relative_path(corpus.pairs[2].distorted) == "dis/Stones_20_90_50.yuv"


def test_wrong_content(tree):
    shutil.copy(tree / "dis" / "Astronaut_80_180_900.yuv", tree / "dis" / "Stones_20_90_50.yuv")
    assert "does not show what its reference" in the_problem(tree, "dis/Stones_20_90_50.yuv")


@pytest.mark.parametrize("folder", ["ref", "dis"])
def test_missing_folder(tree, folder):
    shutil.rmtree(tree / folder)
    with pytest.raises(BadInput, match=f"{folder}/: no such folder"):
        read(tree)


def test_all_problems_in_one_error(tree):
    for path in tree.glob("dis/*"):
        path.write_bytes(path.read_bytes()[:-1])
    (tree / "dis" / "odd.yuv").write_bytes(b"")
    with pytest.raises(BadInput) as caught:
        read(tree)
    for path in tree.glob("dis/*"):
        assert path.name in str(caught.value)


def test_both_clips_contradict_the_declared_width(tmp_path):
    "Then the declaration is refused, and only warned of where it is to be trusted."
    (tmp_path / "ref").mkdir()
    (tmp_path / "dis").mkdir()
    write_raw(tmp_path / "ref" / "Turned_25fps.yuv", "astronaut", HEIGHT, WIDTH)
    degrade(tmp_path / "ref" / "Turned_25fps.yuv", tmp_path / "dis" / "Turned_1_180_5.yuv", 10, None)
    with pytest.raises(BadInput, match="rows look 180 pixels long"):
        read(tmp_path)
    corpus = netflix_corpus(tmp_path, WIDTH, HEIGHT, trust_geometry=True)
    assert (len(corpus.pairs), corpus.problems) == (1, ())
    assert [warning.split(":")[0] for warning in corpus.warnings] == ["ref/Turned_25fps.yuv", "dis/Turned_1_180_5.yuv"]
    assert all("180 pixels long" in warning for warning in corpus.warnings)


def test_public_names_are_counted(tree):
    for path in [*tree.glob("ref/Stones*"), *tree.glob("dis/Stones*")]:
        path.rename(path.with_name(path.name.replace("Stones", "BigBuckBunny")))
    for path in [*tree.glob("ref/Astronaut*"), *tree.glob("dis/Astronaut*")]:
        path.rename(path.with_name(path.name.replace("Astronaut", "Tennis")))
    corpus = read(tree)
    assert not corpus.problems
    assert "found 4 distorted files, the public set has 70" in corpus.warnings
    assert f"Tennis has {FRAMES} frames a clip, the public set has 120" in corpus.warnings
    assert netflix_corpus(tree, WIDTH, HEIGHT, sources=["Tennis"]).warnings == ()


def test_snapshot_sees_a_new_clip(tree):
    before = read(tree).snapshot()
    shutil.copy(tree / "dis" / "Stones_20_90_50.yuv", tree / "dis" / "Stones_30_90_50.yuv")
    assert read(tree).snapshot() != before
    (tree / "dis" / "Stones_30_90_50.yuv").unlink()
    assert read(tree).snapshot() == before


def test_extraction_of_a_tree(sound, tmp_path):
    done = extract(read(sound), tmp_path / "table.parquet", progress=False)
    table, pairs = pd.read_parquet(done.table), pd.read_parquet(done.pairs)
    assert (len(table), len(pairs)) == (4 * FRAMES, 4)
    assert table["codec"].unique().tolist() == ["unknown"]
    means = table.groupby("dis_basename")["vmaf"].mean()
    assert means["Stones_80_180_900.yuv"] > means["Stones_20_90_50.yuv"]
    first = pairs.iloc[0]
    assert (first["reference_path"], first["distorted_path"]) == (
        "ref/Astronaut_25fps.yuv",
        "dis/Astronaut_20_90_50.yuv",
    )
    assert (first["encode_height"], first["bitrate_kbps"], first["reference_size"]) == (90, 50, FRAMES * FRAME_BYTES)
    assert pairs[["crf", "preset", "size_bytes"]].isna().all(axis=None)


def test_extraction_refuses_a_tree_with_problems(tree, tmp_path):
    (tree / "dis" / "Stones_20_90_50.yuv").write_bytes(b"123")
    with pytest.raises(BadInput, match="dis/Stones_20_90_50.yuv"):
        extract(read(tree), tmp_path / "table.parquet", progress=False)
    done = extract(read(tree), tmp_path / "table.parquet", progress=False, allow_failures=True)
    assert (done.pair_count, [failure.id for failure in done.failures]) == (3, ["dis/Stones_20_90_50.yuv"])


names = st.text(ascii_letters + digits, min_size=1, max_size=12)
numbers = st.integers(0, 10**6)


@given(names, numbers, numbers, numbers)
def test_names_of_distorted_files(source, quality, height, rate):
    parsed = parse_distorted_name(f"{source}_{quality}_{height}_{rate}.yuv")
    assert parsed == (source, quality, height, rate)


@given(st.text(max_size=40))
def test_parsers_never_raise(text):
    for parsed in (parse_distorted_name(text), parse_reference_name(text)):
        assert parsed is None or parsed.source.isalnum()


def test_public_set_is_the_documented_one():
    assert sum(pairs * frames for pairs, frames in PUBLIC_SET.values()) == 11_040


def test_orphans_are_in_a_digest_of_their_own(tree, tmp_path):
    orphan = tree / "dis" / "Nobody_10_288_375.yuv"
    orphan.write_bytes(bytes(next((tree / "dis").iterdir()).stat().st_size))
    corpus = read(tree)
    assert corpus.orphans == (orphan,) and corpus.problems[0].path == orphan
    made = extract(corpus, tmp_path / "t.parquet", features="canonical6", allow_failures=True, progress=False)
    facts = open_manifest(made.manifest).facts
    assert facts["corpus"]["orphans"] == [f"dis/{orphan.name}"]
    assert facts["failures"][0]["sha256"] == sha256_file(orphan)
    sizes = {path.relative_to(tree).as_posix(): path.stat().st_size for path in tree.glob("*/*.yuv")}
    assert facts["corpus"]["snapshot_with_orphans"] == snapshot_digest(sizes) != facts["corpus"]["snapshot"]
