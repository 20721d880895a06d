"""Citations of the digests: each stands in references.bib, and each entry there can be looked up."""

import re

import nbformat
import pytest
from pybtex.database import parse_file

from vmaf_research.measure.core import settings

DIGESTS = settings().digest_path
ENTRIES = parse_file(str(DIGESTS / "references.bib")).entries
IDENTIFIERS = {
    entry.fields[name].lower() for entry in ENTRIES.values() for name in ("eprint", "doi") if name in entry.fields
}
ARXIV = re.compile(r"(?<![\d./])\d{4}\.\d{5}(?!\d)")
DOI = re.compile(r"10\.\d{4,}/[^\s)\]\"]+")


def cited(text: str) -> set[str]:
    "arXiv numbers after the word arXiv (several may follow it) and DOIs of a text."
    sentences = re.findall(r"arXiv[^\n]*(?:\n[^\n]*)?", text, re.IGNORECASE)
    return {number for part in sentences for number in ARXIV.findall(part)} | {doi.lower() for doi in DOI.findall(text)}


@pytest.mark.parametrize("key", sorted(ENTRIES))
def test_entry_can_be_looked_up(key):
    fields = ENTRIES[key].fields
    assert ARXIV.fullmatch(fields.get("eprint", "")) or DOI.fullmatch(fields.get("doi", "")), key
    assert fields["title"] and fields["year"].isdigit() and ENTRIES[key].persons["author"]


@pytest.mark.parametrize("path", sorted(DIGESTS.glob("[0-9]*.ipynb")), ids=lambda path: path.stem)
def test_digest_cites_what_is_in_the_list(path):
    cells = nbformat.read(path, as_version=4).cells
    found = cited("\n".join(cell.source for cell in cells if cell.cell_type == "markdown"))
    assert found <= IDENTIFIERS, f"add to references.bib, after looking them up: {sorted(found - IDENTIFIERS)}"


def test_citations_are_found():
    assert cited("(arXiv 2306.06342; see also 1809.07441) 0.12345") == {"2306.06342", "1809.07441"}
    assert cited("see https://doi.org/10.1145/1150402.1150464)") == {"10.1145/1150402.1150464"}
