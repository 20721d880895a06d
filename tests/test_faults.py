"""What went wrong in silence, or with a traceback, once: each is refused in a sentence, and nothing is written."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vmaf_research.measure.core import find_root
from vmaf_research.serve.cli import main

FRAMES = pd.read_parquet(find_root(__file__) / "nbs" / "data" / "frames.parquet")


def third(column, value):
    "The real rows with another value in one of them."
    values = FRAMES[column].astype(object).where(FRAMES.index != 3, value)
    return FRAMES.assign(**{column: pd.to_numeric(values) if isinstance(value, float) else values})


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize(
    ("rows", "sentence", "commands"),
    [
        (third("adm2", 1e38), "infinite values in adm2", ("score", "train")),
        (third("adm2", 1e300), "infinite values in adm2", ("score", "train")),
        (third("adm2", np.inf), "infinite values in adm2", ("score", "train")),
        (third("adm2", "1,234"), "adm2 holds", ("score", "train")),
        (third("adm2", "0x1F"), "adm2 holds", ("score", "train")),
        (third("source", ""), "no source in 1 of 864 rows", ("train",)),
        (FRAMES.assign(frame_index=FRAMES.frame_index - 1), "frame_index below 0", ("train",)),
        (FRAMES.rename(columns={"vif_scale0": "adm2"}), "more than one column adm2", ("score", "train")),
    ],
    ids=["1e38", "1e300", "inf", "thousands", "hexadecimal", "no source", "frame -1", "one name twice"],
)
def test_tables_that_say_something_else_than_they_seem(rows, sentence, commands, suffix, tmp_path, capsys):
    path, out = tmp_path / f"t{suffix}", tmp_path / "scored.parquet"
    if suffix == ".csv":
        rows.to_csv(path, index=False)
    else:
        columns = [
            pa.array(rows.iloc[:, place].astype("str" if kind.kind == "O" else kind))
            for place, kind in enumerate(rows.dtypes)
        ]
        pq.write_table(pa.Table.from_arrays(columns, names=[*rows.columns]), path)
    words = {"score": ["score", "fr_regressor_nano_v1", str(path), "--out", str(out)]}
    words["train"] = ["train", "fr-regressor-nano-v1", "--parquet", str(path), "--out", str(tmp_path / "run"), "-q"]
    for command in commands:
        assert main(words[command]) == 2
        assert sentence in capsys.readouterr().err
    assert not out.exists() and not list(tmp_path.glob("run/*"))
