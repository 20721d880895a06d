"""Write docs/schemas/*.schema.json, for programs in other languages: JSON Schema of what this package writes as JSON.

They come from what checks the same files here, records and the keys of rows. Some rules need more than a schema can
say, such as that summaries are those of the rows beside them: `vmaf-research registry verify` and `manifest verify`
check everything.
"""

import argparse
import json
import sys
import tomllib

from vmaf_research.corpora.rows import ROW_SCHEMA, RowKey
from vmaf_research.measure.core import Record, find_root
from vmaf_research.measure.manifest import ManifestRecord
from vmaf_research.measure.provenance import SEAL
from vmaf_research.ship.records import PredictorSidecar, Sidecar
from vmaf_research.ship.registry import Registry

ROOT = find_root(__file__)
SCHEMAS = ROOT / "docs" / "schemas"
RECORDS = {"registry": Registry, "sidecar": Sidecar, "predictor-sidecar": PredictorSidecar, "manifest": ManifestRecord}
SITE = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Homepage"]
SEALED = "SHA-256 of the rest of the document: JSON with sorted keys, without spaces"


ROW = "corpus-row"
KINDS = {"integer": "integer", "number": "number", "flag": "boolean"}  # the others are text


def schema(name: str) -> dict:
    "The schema of a kind of file, its seal included."
    found = row_schema() if name == ROW else sealed_schema(RECORDS[name])
    address = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": f"{SITE}schemas/{name}.schema.json"}
    return address | found


def sealed_schema(record: type[Record]) -> dict:
    "What a record says, with its seal."
    found = record.model_json_schema()
    found["properties"][SEAL] = {"description": SEALED, "pattern": "^[0-9a-f]{64}$", "type": "string"}
    found["required"] = [*found.get("required", ()), SEAL]
    return found


def row_schema() -> dict:
    "A line of a file of corpus rows, as this version writes it."
    said = "One encode: a line of a file of corpus rows. All keys are there, in this order."
    keys = {name: key_schema(key) for name, key in ROW_SCHEMA.items()}
    facts = {"title": "CorpusRow", "description": said, "type": "object", "properties": keys}
    return facts | {"required": list(keys), "additionalProperties": False}


def key_schema(key: RowKey) -> dict:
    "What a key means, which values it takes, and which one says that nothing is known."
    taken = {"type": KINDS.get(key.kind, "string")}
    taken |= {} if key.low is None else {"minimum": key.low}
    taken |= {} if key.high is None else {"maximum": key.high}
    taken |= {"pattern": "^[0-9a-f]{64}$"} if key.kind == "sha256" else {}
    if key.kind == "text" and key.required:
        taken["minLength"] = 1
    if not key.required and key.unavailable is None:
        taken["type"] = [taken["type"], "null"]
    return {"description": key.meaning} | taken | ({} if key.required else {"default": key.unavailable})


def texts() -> dict[str, str]:
    "Content of every file, by name."
    found = {f"{name}.schema.json": schema(name) for name in (*RECORDS, ROW)}
    return {name: json.dumps(each, indent=2, ensure_ascii=False) + "\n" for name, each in found.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the JSON Schemas from the records.")
    parser.add_argument("--check", action="store_true", help="only look whether the files are as they would be written")
    if not parser.parse_args().check:
        SCHEMAS.mkdir(exist_ok=True)
        for name, text in texts().items():
            (SCHEMAS / name).write_text(text, encoding="utf-8")
    elif texts() != {path.name: path.read_text(encoding="utf-8") for path in SCHEMAS.iterdir()}:
        print("docs/schemas is not what the records say: run `python docs/schemas.py`")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
