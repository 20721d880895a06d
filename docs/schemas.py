"""Write docs/schemas/*.schema.json, for programs in other languages: JSON Schema of what this package writes as JSON.

They come from the records that check the same files here. Some rules need more than a schema can say, such as that
summaries are those of the rows beside them: `vmaf-research registry verify` and `manifest verify` check everything.
"""

import argparse
import json
import sys
import tomllib

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


def schema(name: str) -> dict:
    "The schema of a kind of file, its seal included."
    record: type[Record] = RECORDS[name]
    found = record.model_json_schema()
    found["properties"][SEAL] = {"description": SEALED, "pattern": "^[0-9a-f]{64}$", "type": "string"}
    found["required"] = [*found.get("required", ()), SEAL]
    address = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": f"{SITE}schemas/{name}.schema.json"}
    return address | found


def texts() -> dict[str, str]:
    "Content of every file, by name."
    return {f"{name}.schema.json": json.dumps(schema(name), indent=2, ensure_ascii=False) + "\n" for name in RECORDS}


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
