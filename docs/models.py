"""The model gallery: a page per registry row, an overview, and the picture of the start page."""

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from vmaf_research import load
from vmaf_research.learn.metrics import show_number
from vmaf_research.measure.core import settings
from vmaf_research.measure.features import DEFAULT_TEACHER
from vmaf_research.ship.cards import _table
from vmaf_research.ship.records import PREDICTOR, RegistryRow
from vmaf_research.ship.registry import Model, Registry, read_registry

INTRODUCTION = """# Models

:::{rst-class} lead
What `model/registry.json` holds: every byte below was checked against it when this page was made
:::

The errors are those of leave-one-source-out evaluation, in VMAF points: fidelity to the teacher, not agreement with
people. *Shipped* models passed the ship gate; *smoke* rows are placeholders that are not meant to be used.
"""
PREDICTORS = """## Predictors

They say which score a shot would have at each quality value of a codec. Those of kind `real` learned from encodes, the
others are synthetic stubs that keep programs running: **do not use a stub in production**.
"""
FIGURE = "result"  # file name of the picture, without theme and suffix


@cache
def opened(name: str) -> Model:
    "A registered model; the pages of the site need each several times."
    return load(name)


def badge(row: RegistryRow) -> str:
    "Whether a model may be used, as a coloured label."
    return "{bdg-warning}`smoke`" if row.smoke else "{bdg-success}`shipped`"


def overview(registry: Registry) -> str:
    "The gallery page: one card per row, the numbers side by side, and the digests of the files."
    loaded = [opened(row.id) for row in registry.models]
    models = [model for model in loaded if model.row.kind != PREDICTOR]
    predictors = [model for model in loaded if model.row.kind == PREDICTOR]
    alone = [model for model in models if model.sidecar.ensemble is None]
    v0, others = (
        [each for each in alone if (each.sidecar.teacher == DEFAULT_TEACHER) is is_v0] for is_v0 in (True, False)
    )
    groups = {"VMAF v0.6.1": v0, "VMAF v1, one network for eight viewing conditions": others}
    cards = [f"### {name}\n\n{_grid(map(_card_of_grid, found))}" for name, found in groups.items() if found]
    ensembles = {each.sidecar.ensemble.id: each for each in models if each.sidecar.ensemble is not None}
    cards.append(f"### Ensembles\n\n{_grid(map(_ensemble_card, ensembles.values()))}")
    real = [each for each in predictors if not each.sidecar.corpus.synthetic]
    stubs = [f"[{each.id}]({each.id}.md)" for each in predictors if each.sidecar.corpus.synthetic]
    return "\n".join(
        [
            INTRODUCTION,
            "## Models of quality\n",
            *cards,
            f"{PREDICTORS}\n{_predictor_table(real)}\n\nStubs: {', '.join(stubs)}\n",
            f"## Side by side\n\n{_comparison(models)}\n",
            f"## Every file\n\n{_digests(registry, registry.files)}\n",
        ]
    )


def _grid(cards: Iterable[str]) -> str:
    return "::::{grid} 1 1 2 2\n:gutter: 3\n\n" + "\n".join(cards) + "\n::::\n"


def _ensemble_card(member: Model) -> str:
    "One card for all members of an ensemble."
    group = member.sidecar.ensemble
    members = ", ".join(f"[seed {k}](/models/{name}.md)" for k, name in enumerate(group.members))
    return (
        f":::{{grid-item-card}} {group.id}\n\n{badge(member.row)} {{bdg-light}}`{member.row.license}`\n\n"
        f"{member.row.description}: {members}\n\nmean PLCC {group.mean_plcc:.6f} over sources and seeds · "
        f"encoders {', '.join(group.encoders)}\n:::\n"
    )


def _card_of_grid(model: Model) -> str:
    training = model.sidecar.training
    return (
        f":::{{grid-item-card}} {model.id}\n:link: /models/{model.id}\n:link-type: doc\n\n"
        f"{badge(model.row)} {{bdg-light}}`{model.row.license}` {{bdg-light}}`{training.recipe.name}`\n\n"
        f"{model.row.description}\n\n"
        f"RMSE {show_number(training.loso_pooled_rmse)} · "
        f"worst source {show_number(training.loso_worst_source_rmse)} · PLCC {training.loso_mean_plcc:.4f}\n:::\n"
    )


def _comparison(models: list[Model]) -> str:
    head = ["model", "RMSE", "worst source", "its RMSE", "mean PLCC", "mean SROCC", "parameters", "sources", "rows"]
    head += ["teacher", "status"]
    rows = []
    for model in models:
        training = model.sidecar.training
        status = "smoke" if model.row.smoke else "shipped"
        row = [f"[{model.id}]({model.id}.md)", training.loso_pooled_rmse, training.loso_worst_source]
        row += [training.loso_worst_source_rmse, training.loso_mean_plcc, training.loso_mean_srocc]
        row += [training.parameters, training.n_sources, training.n_rows, model.sidecar.teacher, status]
        rows.append(row)
    return _table(head, rows)


def _predictor_table(predictors: list[Model]) -> str:
    head = ["predictor", "trained on", "sources", "mean PLCC", "RMSE", "worst source", "its RMSE"]
    rows = []
    for model in predictors:
        sidecar, training = model.sidecar, model.sidecar.training
        row = [f"[{model.id}]({model.id}.md)", sidecar.corpus.kind]
        if sidecar.corpus.synthetic:
            row += [None] * 5
        else:
            row += [training.n_sources, training.loso_mean_plcc, training.loso_pooled_rmse]
            row += [training.loso_worst_source, training.loso_worst_source_rmse]
        rows.append(row)
    return _table(head, rows)


def _digests(registry: Registry, names: Iterable[str]) -> str:
    folder = settings().model_path
    rows = [[f"`{name}`", f"{(folder / name).stat().st_size:,}", f"`{registry.files[name]}`"] for name in names]
    return _table(["file", "bytes", "SHA-256"], rows)


def model_page(registry: Registry, row: RegistryRow) -> str:
    "The card of a model, with its status above it and the digests of its files below."
    card = (settings().model_path / row.card).read_text(encoding="utf-8")
    card = re.sub(r"\A---\n.*?\n---\n+", "", card, flags=re.S)  # metadata for model hubs
    title, rest = card.split("\n", 1)
    labels = f"{badge(row)} {{bdg-light}}`{row.license}`"
    return f"{title}\n\n{labels}\n{rest}\n## Files\n\n{_digests(registry, row.file_names)}\n"


def shipped_errors() -> dict[str, tuple[float, float]]:  # pooled and worst source's RMSE, greatest first
    "Errors of the models in use and of their floors, of those that were judged on the rows of the first one."
    models = [opened(row.id) for row in read_registry().models if not row.smoke and row.kind != PREDICTOR]
    table = models[0].sidecar.training.table_digest
    errors = {}
    for model in models:
        training = model.sidecar.training
        if training.table_digest == table:
            for name, floor in training.floors.items():
                errors[f"{name} (floor)"] = (floor.pooled_rmse, floor.worst_source_rmse)
            errors[model.id] = (training.loso_pooled_rmse, training.loso_worst_source_rmse)
    return dict(sorted(errors.items(), key=lambda each: -each[1][0]))


def figure_text(errors: dict[str, tuple[float, float]]) -> str:
    "What the picture shows, for those who cannot see it."
    values = "; ".join(f"{name} {show_number(pooled)}" for name, (pooled, _) in errors.items())
    return f"RMSE on sources that were left out, in VMAF points, on a logarithmic axis: {values}"


def draw_errors(errors: dict[str, tuple[float, float]], folder: Path) -> None:
    "Write the picture for the light and the dark theme."
    matplotlib.rcParams.update({"svg.hashsalt": FIGURE, "svg.fonttype": "none", "font.family": "sans-serif"})
    for theme, ink, accent in (("light", "#323232", "#176de8"), ("dark", "#ced6dd", "#6cb2ff")):
        figure = Figure(figsize=(7.2, 0.42 * len(errors) + 0.9), layout="constrained")
        axes = figure.subplots()
        for place, (name, (pooled, worst)) in enumerate(errors.items()):
            color = ink if name.endswith("(floor)") else accent
            axes.plot([pooled, worst], [place, place], color=color, linewidth=1, alpha=0.6)
            axes.plot(pooled, place, "o", color=color, label="all rows" if place == 0 else None)
            axes.plot(worst, place, "|", color=color, markersize=11, label="worst source" if place == 0 else None)
        axes.set_xscale("log")
        axes.set_yticks(range(len(errors)), errors)
        axes.set_xlabel("RMSE on sources left out, VMAF points (less is better)", color=ink)
        axes.tick_params(colors=ink)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[:].set_color(ink)
        axes.grid(axis="x", color=ink, alpha=0.15)
        axes.legend(frameon=False, labelcolor=ink, loc="upper right")
        figure.savefig(folder / f"{FIGURE}-{theme}.svg", transparent=True, metadata={"Date": None})
