"""The static site, built as `make site` does it and read in a headless browser as files, without any other host."""

import json
import os
import re
import subprocess
import sys
import zlib
from collections import defaultdict
from datetime import date
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlparse
from xml.etree import ElementTree

import nbformat
import numpy as np
import pandas as pd
import pytest
from mlcroissant import Dataset

from vmaf_research import load
from vmaf_research.measure.core import find_root, settings
from vmaf_research.measure.features import CANONICAL_6, TEACHERS
from vmaf_research.measure.provenance import sha256_file
from vmaf_research.measure.teacher import TEACHER_TOLERANCE
from vmaf_research.serve.claims import read_claims
from vmaf_research.ship.registry import read_registry

ROOT = find_root(Path(__file__).parent)
sys.path.insert(0, str(ROOT / "docs"))
import notebooks  # noqa: E402
import symbols  # noqa: E402
from calculator import calculator_data  # noqa: E402
from new_digest import new_digest  # noqa: E402

from digests import Digest, digest_page  # noqa: E402

PHONE_WIDTH = 390  # CSS pixels
INSPECT = """() => {
    return {
        links: [...new Set([...document.querySelectorAll('a[href]')].map(a => a.href))],
        ids: [...document.querySelectorAll('[id], a[name]')].map(e => e.id || e.name),
        bad_images: [...document.images].filter(i => !i.alt || !i.naturalWidth || !i.naturalHeight).map(i => i.src),
        squeezed: [...document.images].filter(i => i.width && Math.abs(i.height / i.width * i.naturalWidth
            / i.naturalHeight - 1) > 0.05).map(i => i.src),
        width: document.documentElement.scrollWidth,
        directives: [...document.querySelectorAll('pre')].filter(p => /^#\\s*\\|/m.test(p.textContent)).length,
    };
}"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    "The built site, under a folder that stands for the sub-path of a server."
    out = tmp_path_factory.mktemp("site") / "sub path" / "html"
    command = [sys.executable, str(ROOT / "docs" / "build.py"), str(out)]
    result = subprocess.run(command, cwd=out.anchor, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True)
    assert result.returncode == 0, result.stderr.decode()[-3000:]
    return out


@pytest.fixture
def tab(browser):
    "A page as wide as a phone's, and what it asked for and complained about."
    page = browser.new_page(viewport={"width": PHONE_WIDTH, "height": 844})
    page.set_default_timeout(120_000)  # milliseconds; the machine may be busy
    page.requests, page.complaints = [], []
    page.on("request", lambda request: page.requests.append(request.url))
    page.on("console", lambda message: page.complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    yield page
    page.close()


def elsewhere(urls):
    return [url for url in urls if urlparse(url).scheme not in ("file", "data", "blob")]


def inventory(site):
    "Every symbol that has a place on the site, with its page."
    data = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    lines = zlib.decompress(data).decode().splitlines()
    return {name: location for name, kind, _, location, *_ in (line.split() for line in lines) if kind[:3] == "py:"}


def test_every_public_symbol_has_a_place_on_the_page_of_its_module(site):
    found = inventory(site)
    public = {f"{module}.{name}": module for module in symbols.sources() for name in symbols.public_names(module)}
    assert len(public) > 300
    wrong = []
    for name, module in public.items():
        page = module.removeprefix("vmaf_research.").replace(".", "/") + ".html"
        if not found.get(name, "").startswith(page):
            wrong.append((name, found.get(name)))
    assert not wrong


def test_pages_show_types_comments_and_links(site):
    text = (site / "learn" / "metrics.html").read_text(encoding="utf-8")
    entry = text.partition('id="vmaf_research.learn.metrics.cluster_bootstrap"')[2].partition("</dl>\n</dd></dl>")[0]
    assert "sources" in entry and 'href="#vmaf_research.learn.metrics.Interval"' in entry
    assert "Show the code" in text


def test_lists_of_notebooks_show_commands_whole(site):
    text = (site / "serve" / "index.html").read_text(encoding="utf-8")
    article = text.partition("<article")[2].partition("</article>")[0]
    assert "vmaf-research people read" in re.sub("<[^>]+>", "", article) and "`" not in article


def test_gallery_has_every_registry_row_with_its_digests(site):
    gallery = (site / "models" / "index.html").read_text(encoding="utf-8")
    registry = read_registry()
    for row in registry.models:
        assert (site / "models" / f"{row.id}.html").is_file()
        assert f'href="{row.id}.html"' in gallery
        assert all(registry.files[name] in gallery for name in row.file_names)


def test_feed_has_every_dated_digest(site):
    namespace = "{http://www.w3.org/2005/Atom}"
    feed = ElementTree.parse(site / "digests" / "archive" / "atom.xml")
    addresses = [entry.find(f"{namespace}id").text for entry in feed.iter(f"{namespace}entry")]
    for path in (ROOT / "digests").glob("[0-9]*.ipynb"):
        dated = bool(notebooks.front_matter(nbformat.read(path, as_version=4)))
        assert any(address.endswith(f"/{path.stem}.html") for address in addresses) == dated, path.name


def test_feed_has_the_answers_whole(site):
    feed = (site / "digests" / "archive" / "atom.xml").read_text(encoding="utf-8")
    assert feed.count("&lt;h2&gt;Answer") + feed.count("<h2>Answer") >= len(
        list((ROOT / "digests").glob("[0-9]*.ipynb"))
    )


def test_digest_page_begins_with_answer_and_figure_and_offers_its_data(site):
    for path in (ROOT / "digests").glob("[0-9]*.ipynb"):
        text = (site / "digests" / f"{path.stem}.html").read_text(encoding="utf-8")
        article = text.partition("<article")[2]
        places = [article.index(part) for part in ("<h1>", "<h2>Answer", "_images/digest-", "<h2>Question", "@misc")]
        assert places == sorted(places), path.name
        assert article.count('class="claim"') >= len(read_claims(path.name[:4]).claims)
        for data in (ROOT / "digests" / "data" / path.name[:4]).glob("*"):
            assert sha256_file(data) in article
            assert (site / "digests" / "data" / path.name[:4] / data.name).read_bytes() == data.read_bytes()
        described = re.search(r'<script type="application/ld\+json">(.+?)</script>', text)[1]
        assert json.loads(described)["@type"] == "Report" and '<meta property="og:image"' in text


def test_all_claims_stand_on_one_page(site):
    text = (site / "digests" / "claims.html").read_text(encoding="utf-8")
    for path in (ROOT / "digests").glob("[0-9]*.ipynb"):
        for claim in read_claims(path.name[:4]).claims:
            assert f'id="{path.name[:4]}-{claim.name}"' in text and f"<td>{claim.value:g}</td>" in text


def test_superseded_digest_says_so():
    cells = [nbformat.v4.new_raw_cell("---\ndate: 2026-01-01\ntags: [a]\nstatus: answered\nsuperseded_by: '0009'\n---")]
    cells.append(
        nbformat.v4.new_markdown_cell("# Digest 0001: old\n\n> about\n\n## Answer\n\nYes.\n\n## Question\n\nIs it?")
    )
    digest = Digest(Path("0001-old.ipynb"), nbformat.v4.new_notebook(cells=cells))
    made = digest_page(
        notebooks.page(digest.notebook), digest, {"0009-new": "The new one"}, "someone", "https://example/"
    )
    assert "Superseded by [The new one](0009-new.ipynb)" in made.cells[0].source


def test_machines_find_every_page(site):
    listed = (site / "llms.txt").read_text(encoding="utf-8")
    places = (site / "sitemap.xml").read_text(encoding="utf-8")
    twins = list(site.rglob("*.html.md"))
    assert len(twins) > 60
    for twin in twins:
        name = twin.relative_to(site).as_posix().removesuffix(".md")
        assert f"/{name}.md)" in listed and f"/{name}</loc>" in places
        text = twin.read_text(encoding="utf-8")
        assert text.startswith(("# ", "---")) and not re.search(r"^```+\{|\{py:obj\}|\{bdg|^:::", text, re.M), name


ROWS = ROOT / "digests" / "data" / "0011" / "frames.parquet"  # measured by libvmaf with both teachers
TEACHER_COLUMNS = {"vmaf_v0.6.1": "vmaf", "vmaf_v1.0.16_3d0h": "vmaf_v1"}


@pytest.mark.parametrize("teacher", TEACHER_COLUMNS)
def test_calculator_agrees_with_libvmaf(site, tab, teacher):
    rows = pd.read_parquet(ROWS).sample(100, random_state=0)
    features = rows[list(TEACHERS[teacher].inputs)].to_numpy(float)
    tab.goto((site / "calculator.html").as_uri())
    tab.select_option("#teacher", teacher)
    found = tab.evaluate(
        """([name, rows]) => {
            const teacher = CALCULATOR.teachers.find((each) => each.name === name);
            const nets = Object.entries(teacher.networks);
            return {exact: rows.map((row) => exactScore(teacher, row)), networks: Object.fromEntries(
                nets.map(([name, number]) => [name, rows.map((row) => networkScore(teacher, number, row))]))};
        }""",
        [teacher, features.tolist()],
    )
    assert np.abs(np.array(found["exact"]) - rows[TEACHER_COLUMNS[teacher]]).max() <= TEACHER_TOLERANCE
    assert found["networks"]
    for name, scores in found["networks"].items():
        assert np.abs(np.array(scores) - load(name).score(features)).max() <= TEACHER_TOLERANCE, name
    first = dict(zip(TEACHERS[teacher].inputs, features[0], strict=True))
    for name, value in first.items():
        tab.fill(f"input[name='{name}']", repr(float(value)))
    shown = tab.inner_text("#scores")
    assert f"{found['exact'][0]:.6f}" in shown and "in range" in shown
    tab.fill(f"input[name='{TEACHERS[teacher].inputs[-1]}']", "1000")
    assert f"out of range: {TEACHERS[teacher].inputs[-1]}" in tab.inner_text("#scores")
    assert not tab.complaints and not elsewhere(tab.requests)
    assert tab.evaluate("document.documentElement.scrollWidth") <= PHONE_WIDTH


def test_digests_describe_their_data(site):
    for path in (settings().digest_path / "data").iterdir():
        page = next(site.glob(f"digests/{path.name}-*.html")).read_text(encoding="utf-8")
        told = page.partition('<script type="application/ld+json">')[2].partition("</script>")[0]
        document = json.loads(told)["isBasedOn"]
        described = Dataset(jsonld=document).metadata
        assert {each.name: each.sha256 for each in described.distribution} == {
            file.name: sha256_file(file) for file in path.iterdir()
        }
        tables = {file.name for file in path.iterdir() if file.suffix in (".parquet", ".csv")}
        assert {each.id.removesuffix("_rows") for each in described.record_sets} == tables


def test_calculator_reads_a_log(site, tab, tmp_path):
    rows = pd.read_parquet(ROWS).iloc[:48]
    keys = {each["name"]: each["key"] for each in calculator_data(read_registry())["teachers"][0]["inputs"]}
    frames = [
        {"frameNum": number, "metrics": {**{keys[name]: row[name] for name in CANONICAL_6}, "vmaf": row["vmaf"]}}
        for number, (_, row) in enumerate(rows.iterrows())
    ]
    (tmp_path / "log.json").write_text(json.dumps({"version": "3.2.0", "frames": frames}))
    (tmp_path / "other.json").write_text('{"frames": [{"metrics": {"psnr_y": 30}}]}')
    tab.goto((site / "calculator.html").as_uri())
    tab.set_input_files("#log", tmp_path / "log.json")
    tab.wait_for_selector("svg.curve")
    told = tab.inner_text("#told")
    scores = rows["vmaf"].to_numpy()
    for value in (scores.mean(), 1 / np.mean(1 / (scores + 1)) - 1, np.percentile(scores, 5), scores.min()):
        assert f"{value:.4f}" in told
    assert "48 frames, vmaf_v0.6.1" in told and "differs from libvmaf by" in told
    worst = tab.inner_text("#told table >> nth=1").splitlines()[1].split()
    assert worst[:2] == [str(int(scores.argmin())), f"{scores.min():.3f}"]
    tab.set_input_files("#log", tmp_path / "other.json")
    tab.wait_for_selector("#told .beyond")
    assert "found psnr_y" in tab.inner_text("#told")
    assert not tab.complaints and not elsewhere(tab.requests)


def test_every_page_loads_fits_a_phone_and_links_to_what_is_there(site, tab):
    links, ids, problems = defaultdict(list), {}, []
    moved = [path for path in site.rglob("*.html") if 'http-equiv="refresh"' in path.read_text(encoding="utf-8")]
    for path in sorted({*site.rglob("*.html")} - {*moved}):
        if "_static" in path.parts:
            continue
        name = path.relative_to(site).as_posix()
        tab.goto(path.as_uri(), wait_until="load")
        seen = tab.evaluate(INSPECT)
        for link in seen["links"]:
            links[link].append(name)
        ids[path.as_uri()] = set(seen["ids"])
        problems += [f"{name}: {complaint}" for complaint in tab.complaints]
        problems += [f"{name}: picture without size or text: {source}" for source in seen["bad_images"]]
        problems += [f"{name}: picture out of proportion: {source}" for source in seen["squeezed"]]
        problems += [f"{name}: a cell shows its directives"] * bool(seen["directives"])
        problems += [f"{name}: {seen['width']} px wide on a phone"] * (seen["width"] > PHONE_WIDTH)
        tab.complaints.clear()
    for target, sources in links.items():
        address, fragment = urldefrag(target)
        if urlparse(address).scheme != "file":
            continue
        if not Path(unquote(urlparse(address).path)).is_file():
            problems.append(f"{sources}: lead to {target}, which is not there")
        elif fragment and address in ids and unquote(fragment) not in ids[address]:
            problems.append(f"{sources}: {target} has no such place")
    assert not problems, "\n".join(sorted(set(problems))[:30])
    assert not elsewhere(tab.requests)
    assert len(ids) > 60


def test_search_finds_a_function(site, tab):
    tab.goto(f"{(site / 'search.html').as_uri()}?q=plcc")
    tab.wait_for_selector("#search-results li a")
    found = tab.eval_on_selector_all("#search-results li a", "links => links.map(link => link.href)")
    assert any("learn/metrics.html#vmaf_research.learn.metrics.plcc" in address for address in found)
    assert not tab.complaints and not elsewhere(tab.requests)


def test_formula_is_drawn_and_code_folds(site, tab):
    tab.goto((site / "learn" / "metrics.html").as_uri())
    tab.wait_for_selector("mjx-container svg", state="attached")
    fold = tab.locator("details.hide").first
    assert not fold.locator("pre").first.is_visible()
    fold.locator("summary").click()
    assert fold.locator("pre").first.is_visible()
    assert not elsewhere(tab.requests)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_page_follows_the_theme_of_the_system(site, browser, theme):
    tab = browser.new_page(color_scheme=theme)
    tab.goto((site / "index.html").as_uri())
    background = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = sum(map(int, re.findall(r"\d+", background)[:3])) / 3
    assert brightness > 200 if theme == "light" else brightness < 60
    pictures = tab.locator("img.only-light, img.only-dark")
    shown = [picture.get_attribute("class") for picture in pictures.all() if picture.is_visible()]
    assert len(shown) == 1 and f"only-{theme}" in shown[0]
    tab.close()


def test_new_digest_takes_the_next_number(tmp_path):
    (tmp_path / "0007-earlier.ipynb").touch()
    path = new_digest("what-it-asks", tmp_path, date(2026, 2, 3))
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert path.name == "0008-what-it-asks.ipynb"
    assert notebooks.front_matter(notebook)["date"] == date(2026, 2, 3)
    assert notebooks.title_and_subtitle(notebook)[0].startswith("Digest 0008:")
    with pytest.raises(ValueError, match="lower-case words"):
        new_digest("../elsewhere", tmp_path, date(2026, 2, 3))
