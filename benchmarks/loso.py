"""Training all fits of a leave-one-source-out run as one stack, against one network and one DataLoader per fit.

    python benchmarks/loso.py [--quick | --full] [--busy]

45 fits (5 seeds, 9 sources left out) on a made-up table of 11,040 rows, with the two recipes of the original system:
adr0249 (batch 256) and adr0303 (batch 32). Both sides run here, one after the other, and train the same number of
epochs. The one-by-one side runs some of the 45 fits and its time is multiplied; what was multiplied is printed. It uses
the number of torch threads that is faster for it, which for networks of this size is mostly one. For the fits that both
sides have, the error on the source left out is printed beside the range that the stacked side has over its seeds.
--quick only shows that everything runs; --full trains every epoch of adr0303 too (some minutes).

--busy trains the stacks alone, quietly and then beside a process for each core that does nothing but compute, and
prints how many times longer that takes. A fair share of the cores is half of them, so twice as long is as good as it
gets; on a machine that is not quiet to begin with, the ratio says little.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

from vmaf_research.learn.folds import Fold, source_folds
from vmaf_research.learn.metrics import rmse
from vmaf_research.learn.recipes import RECIPES, Recipe
from vmaf_research.learn.regressor import FRRegressor, fit_scaler
from vmaf_research.learn.table import TrainingTable, load_training_table
from vmaf_research.learn.training import FittedRegressor, train_regressors

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from made_up import make_table

ROWS, SOURCES, SEEDS = 11_040, 9, (0, 1, 2, 3, 4)
OPTIMIZERS = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}


@dataclass(frozen=True)
class Plan:
    "How much of the two recipes is run."

    epochs: dict[str, int]  # by recipe, at most those of the recipe
    single_fits: int  # fits of the one-by-one side


PLANS = {
    "quick": Plan({"adr0249": 2, "adr0303": 1}, 1),
    "default": Plan({"adr0249": 30, "adr0303": 40}, 3),
    "full": Plan({"adr0249": 30, "adr0303": 200}, 3),
}


def train_one(
    table: TrainingTable,
    rows: np.ndarray,
    seed: int,
    recipe: Recipe,
    scaler: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]] = fit_scaler,
) -> FittedRegressor:
    "One fit as it is usually written: a Module, a DataLoader and an optimiser."
    torch.manual_seed(seed)
    mean, std = scaler(table.features[rows])
    features = torch.tensor((table.features[rows] - mean) / std, dtype=torch.float32)
    target = torch.tensor(table.target[rows], dtype=torch.float32)
    loader = DataLoader(TensorDataset(features, target), batch_size=recipe.batch_size, shuffle=True)
    model = FRRegressor(in_features=features.shape[1], dropout=recipe.dropout)
    optimizer = OPTIMIZERS[recipe.optimizer](
        model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    loss_function = torch.nn.MSELoss()
    model.train()
    for _ in range(recipe.epochs):
        for inputs, wanted in loader:
            optimizer.zero_grad()
            loss = loss_function(model(inputs), wanted)
            loss.backward()
            optimizer.step()
    return FittedRegressor(model.eval(), table.feature_names, mean, std, recipe.name, seed)


def seconds(work: Callable[[], object]) -> tuple[float, object]:
    "How long a call takes, and what it returns."
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def epoch_seconds(table: TrainingTable, fold: Fold, recipe: Recipe, threads: int) -> float:
    "Least time of some epochs of `train_one` with so many torch threads."
    torch.set_num_threads(threads)
    one_epoch = recipe.changed(epochs=1)
    return min(seconds(lambda: train_one(table, fold.train, 0, one_epoch))[0] for _ in range(3))


def held_out_rmse(model: FittedRegressor, table: TrainingTable, fold: Fold) -> float:
    "RMSE on the source left out."
    return rmse(model.predict(table.features[fold.test]), table.target[fold.test])


def compare(name: str, plan: Plan, table: TrainingTable, threads: int) -> None:
    "Run both sides of one recipe and print times, ratio and errors."
    recipe = RECIPES[name].changed(epochs=plan.epochs[name])
    folds = source_folds(table)
    jobs = [(seed, fold) for seed in SEEDS for fold in folds]
    print(f"\n{name}: batch {recipe.batch_size}, {recipe.epochs} of {RECIPES[name].epochs} epochs on both sides")

    torch.set_num_threads(threads)
    row_sets, seeds = [fold.train for _, fold in jobs], [seed for seed, _ in jobs]
    stacked_time, stacked = seconds(lambda: train_regressors(table.features, table.target, row_sets, seeds, recipe))
    print(f"  stacked      {stacked_time:8.1f} s for {len(jobs)} fits, {threads} threads")

    epochs = {count: epoch_seconds(table, folds[0], recipe, count) for count in sorted({1, threads})}
    own_threads = 1 if epochs[1] < 1.1 * epochs[threads] else threads  # an idle second core gains less than 10 %
    torch.set_num_threads(own_threads)
    probes = ", ".join(f"{1000 * value:.0f} ms with {count} thread(s)" for count, value in epochs.items())
    some = jobs[: plan.single_fits]
    single_time, single = seconds(lambda: [train_one(table, fold.train, seed, recipe) for seed, fold in some])
    whole = single_time * len(jobs) / len(some)
    print(f"  one by one   {single_time:8.1f} s for {len(some)} fits, torch threads: {own_threads}")
    print(f"               (one epoch of a fit takes {probes})")
    print(f"               {whole:8.1f} s for {len(jobs)} fits (multiplied by {len(jobs) / len(some):g}, not run)")
    print(f"  ratio        {whole / stacked_time:8.1f}")
    if recipe.epochs < RECIPES[name].epochs:
        more = RECIPES[name].epochs / recipe.epochs
        print(f"  all {RECIPES[name].epochs} epochs: {stacked_time * more:.0f} s, {whole * more:.0f} s (multiplied)")

    for (seed, fold), model in zip(some, single, strict=True):
        fold_models = [other for (_, own), other in zip(jobs, stacked, strict=True) if own is fold]
        errors = [held_out_rmse(other, table, fold) for other in fold_models]
        print(
            f"  {fold.source} left out, RMSE: one by one {held_out_rmse(model, table, fold):.3f} (seed {seed}); "
            f"stacked {errors[SEEDS.index(seed)]:.3f} (same seed), "
            f"{min(errors):.3f} to {max(errors):.3f} over the seeds"
        )


@contextmanager
def neighbours(count: int) -> Iterator[None]:
    "Processes that compute without end, as long as the block lasts."
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def compare_busy(name: str, plan: Plan, table: TrainingTable, threads: int) -> None:
    "Time of all fits of one recipe on a quiet machine and beside a neighbour per core."
    recipe = RECIPES[name].changed(epochs=plan.epochs[name])
    jobs = [(seed, fold) for seed in SEEDS for fold in source_folds(table)]
    row_sets, seeds = [fold.train for _, fold in jobs], [seed for seed, _ in jobs]
    torch.set_num_threads(threads)

    def train() -> object:
        return train_regressors(table.features, table.target, row_sets, seeds, recipe)

    print(f"\n{name}: {len(jobs)} fits, {recipe.epochs} of {RECIPES[name].epochs} epochs, {threads} cores")
    before = os.getloadavg()[0]
    quiet = seconds(train)[0]
    print(f"  quiet {quiet:8.1f} s (load before: {before:.1f})")
    with neighbours(threads):
        busy = seconds(train)[0]
    print(f"  busy  {busy:8.1f} s beside {threads} neighbours")
    print(f"  ratio {busy / quiet:8.2f} (at most 3)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("--quick", dest="plan", action="store_const", const="quick", default="default")
    amount.add_argument("--full", dest="plan", action="store_const", const="full")
    parser.add_argument("--busy", action="store_true", help="quiet against a neighbour per core")
    options = parser.parse_args()
    rows = make_table(n_sources=SOURCES, n_clips=8, n_frames=-(-ROWS // (SOURCES * 8)), seed=0).head(ROWS)
    table = load_training_table(rows)
    threads = torch.get_num_threads()
    print(f"{len(table)} rows, {len(table.sources)} sources, {len(SEEDS)} seeds, {threads} threads")
    for name in PLANS[options.plan].epochs:
        (compare_busy if options.busy else compare)(name, PLANS[options.plan], table, threads)


if __name__ == "__main__":
    main()
