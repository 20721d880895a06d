"""What does not exist: tables that nobody measured and sidecars of no model, for tests."""

import dataclasses
from typing import Any

import numpy as np
import pandas as pd

from vmaf_research.learn.metrics import VMAF_RANGE
from vmaf_research.learn.recipes import RECIPES
from vmaf_research.measure.core import Record, validated
from vmaf_research.measure.features import CANONICAL_6
from vmaf_research.ship.records import PREDICTOR, PredictorSidecar, Sidecar


def replace(thing, **changes):
    "A copy with other values, also of records, and also with values that they would refuse."
    return thing.model_copy(update=changes) if isinstance(thing, Record) else dataclasses.replace(thing, **changes)


def example_sidecar(
    sources: int = 3,
    **changes: Any,  # fields to set differently
) -> Sidecar:
    "A made-up sidecar, for lessons and tests."
    numbers = {"plcc": 0.998, "srocc": 0.997, "kendall": 0.96, "rmse": 1.2, "bias": 0.1, "max_abs_error": 4.0}
    interval = {"estimate": 1.2, "low": 0.7, "high": 2.2, "level": 0.95, "n_clusters": 3, "n_resamples": 1000}
    scores = {"n": 480, **numbers, "saturated_share": 0.25}
    floor = {"mean_plcc": 0.97, "pooled_rmse": 4.2, "worst_source": "source0", "worst_source_rmse": 6.5}
    both = ("mean", "std")
    loso = {f"loso_{part}_{metric}": numbers[metric] for metric in ("plcc", "srocc", "rmse") for part in both}
    loso |= {f"loso_{name}": numbers[name] for name in ("bias", "max_abs_error")}
    loso |= {"loso_pooled_rmse": 1.2, "loso_worst_source": "source1", "loso_worst_source_rmse": 1.2}
    training = {
        "dataset": "made up",
        **{"n_sources": sources, "n_pairs": 6 * sources, "n_rows": 480 * sources, "table_digest": "ef" * 32},
        **{"recipe": RECIPES["adr0249"].model_dump(), "seed": 0, "parameters": 4673},
        **loso,
        **{"in_sample_plcc": 0.999, "in_sample_rmse": 0.9},
        "intervals": {"rmse": interval},
        "per_source": {f"source{k}": scores for k in range(sources)},
        "floors": {"ridge": floor},
    }
    document = {
        **{"id": "example_v1", "kind": "fr", "onnx": "example_v1.onnx", "sha256": "ab" * 32, "opset": 17},
        **{"onnx_raw": "example_v1_raw.onnx", "sha256_raw": "cd" * 32, "license": "Apache-2.0"},
        **{"notes": "No model.", "description": "Shows what a record looks like.", "shipped": True},
        **{"input_names": ["features"], "output_names": ["score"], "teacher": "vmaf_v0.6.1"},
        **{"feature_order": ["adm2", "motion2"], "feature_mean": [0.9, 8.0], "feature_std": [0.1, 6.0]},
        **{"feature_min": [0.3, 0.0], "feature_max": [1.0, 30.0], "output_range": [0.0, 100.0]},
        "training": training,
        "corpus": {"name": "made up", "kind": "none", "licence": "none needed", "description": "no video at all"},
        "parity": {"contract": 1e-5, "raw": 2e-5, "allowed": 1e-4},
        "gate": {"passed": True, "strict": False, "checks": []},
    }
    return validated(Sidecar, {**document, **changes}, "example")


def example_predictor(
    **changes: Any,  # fields to set differently
) -> PredictorSidecar:
    "A made-up sidecar of a predictor of two sources."
    numbers = {"plcc": 0.99, "srocc": 0.98, "kendall": 0.95, "rmse": 3.0, "bias": 0.5, "max_abs_error": 7.0}
    scores = {"n": 5, **numbers, "saturated_share": 0.0}
    training = {
        **{"n_sources": 2, "n_curves": 2, "n_rows": 10, "table_digest": "ef" * 32, "noise": 0.3},
        **{"loso_mean_plcc": 0.99, "loso_mean_srocc": 0.98, "loso_pooled_rmse": 3.0},
        **{"loso_worst_source": "a", "loso_worst_source_rmse": 3.0, "in_sample_rmse": 1.0},
        "per_source": {"a": scores, "b": scores},
    }
    corpus = {"name": "made up", "kind": "real-N=10", "licence": "none needed", "description": "no video at all"}
    document = {
        **{"id": "predictor_libx264", "kind": PREDICTOR, "onnx": "predictor_libx264.onnx", "sha256": "ab" * 32},
        **{
            "opset": 17,
            "notes": "No model.",
            "description": "Shows what a record looks like.",
            "license": "Apache-2.0",
        },
        **{"codec": "libx264", "knob": "crf", "input_names": ["features"], "output_names": ["score"]},
        **{"feature_order": ["quality", "height"], "feature_min": [10.0, 180.0], "feature_max": [50.0, 180.0]},
        **{
            "descriptors": {"contrast": (5.0, 8.0)},
            "dropped": ["height"],
            "probe": {"codec": "libx264", "quality": 28},
        },
        **{"teacher": "vmaf_v0.6.1", "output_range": [0.0, 100.0], "training": training},
        **{"corpus": {**corpus, "preset": "medium", "heights": [180]}, "parity": 1e-5},
        "calibration": {"unit": "encode", "n_units": 10, "half_widths": [3.0, 7.0], "greatest": {"a": 3.0, "b": 7.0}},
        "residuals": {"qualities": [10, 30, 50], "sources": {"a": [0.1, 2.0, 1.0], "b": [0.0, -2.0, 4.0]}},
    }
    return validated(PredictorSidecar, {**document, **changes}, "example")


def make_table(
    n_sources: int = 4,
    n_clips: int = 6,  # per source
    n_frames: int = 20,  # per clip
    seed: int = 0,
) -> pd.DataFrame:  # the columns of KEY, canonical-6 and `vmaf`
    "Frames whose scores follow from their features."
    rng = np.random.default_rng(seed)
    source, clip, frame = (index.ravel() for index in np.indices((n_sources, n_clips, n_frames)))
    texture = rng.uniform(0.7, 1.3, n_sources)[source]
    loss = np.geomspace(0.05, 1.2, n_clips)[clip] * texture * rng.uniform(0.9, 1.1, source.size)
    vif = [np.exp(-loss * weight) for weight in (1.6, 0.6, 0.4, 0.25)]
    motion = rng.uniform(0, 20, n_sources)[source] * rng.uniform(0.8, 1.2, source.size)
    score = 108 * np.exp(-0.55 * loss) - 6 * np.sin(3 * loss) * texture + 0.2 * motion
    columns = [np.exp(-0.3 * loss), *vif, motion]
    return pd.DataFrame(
        {
            "source": [f"source{k}" for k in source],
            "dis_basename": [f"clip{k}.mkv" for k in clip],
            "frame_index": frame,
            **dict(zip(CANONICAL_6, columns, strict=True)),
            "vmaf": np.clip(score, *VMAF_RANGE),
        }
    )


def make_codec_rows(
    n_sources: int = 4,
    n_clips: int = 6,  # per source, dealt to the encoders in turn
    n_frames: int = 20,
    encoders: tuple[str, ...] = ("libx264", "libx265", "libsvtav1"),
    seed: int = 0,
) -> pd.DataFrame:
    "Flat rows with encode parameters, in which the encoder shifts the score a little."
    rows = make_table(n_sources, n_clips, n_frames, seed)
    number = rows["dis_basename"].str.extract(r"(\d+)")[0].astype(int)
    which = number % len(encoders)
    shift = 1 - 0.03 * which  # of what an encoder loses beside the features
    quality = 20 + 20 * number / n_clips
    codec = which.map(dict(enumerate(encoders)))
    return rows.assign(codec=codec, preset="medium", crf=quality, vmaf=rows["vmaf"] * shift)


def make_opinions(
    name: str = "lab",
    contents: int = 6,
    clips: int = 8,
    scale: str = "ACR 1-5 (MOS), 4K, 1.5H",
    seed: int = 0,
    sessions: tuple[str, ...] = ("one", "two"),
) -> pd.DataFrame:
    "Made-up people who like motion more, and small pictures less, than VMAF thinks."
    rng = np.random.default_rng(seed)
    motion, parts = rng.uniform(0.5, 12, contents), []
    for session in sessions:
        score = np.tile(np.linspace(15, 99, clips), (contents, 1)) + rng.normal(0, 2, (contents, clips))
        score = score.clip(0, 100)
        height = rng.choice([2160, 1080, 720, 360], score.shape)
        feels = score + 12 * (np.log1p(motion)[:, None] - 1.8) - 4 * np.log2(2160 / height)
        detail = 0.4 + score / 170 + rng.normal(0, 0.01, score.shape)
        columns = {
            "dataset": name, "subset": session, "source": np.repeat([f"{name}{k}" for k in range(contents)], clips),
            "video": [f"v{k}" for k in range(contents * clips)], "codec": "h264", "height": height.ravel(), "fps": 50.0,
            "mos": (1 + feels / 25 + rng.normal(0, 0.12, score.shape)).clip(1, 5).ravel(), "mos_ci": 0.25,
            "scale": scale, "vmaf_v061": score.ravel(), "motion2": np.repeat(motion, clips), "misaligned": False,
            "adm2": detail.ravel(), "psnr": 22 + score.ravel() / 5, "ssim": 0.9 + score.ravel() / 1100,
        }  # fmt: skip
        columns |= {f"vif_scale{k}": (detail - 0.1 + k / 40).ravel() for k in range(4)}
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)
