"""Training the whole ensemble as one stack, against one network and one DataLoader per fit.

    python benchmarks/ensemble.py [--table TABLE] [--quick | --full] [--device cuda]

Five seeds, every source left out, recipe adr0303 (Adam, batch 32, 200 epochs): what the original system trains one fit
after the other. Both sides run here and train the same rows for the same number of epochs. The stacked side trains all
fits; the one-by-one side all folds of seed 0, and its time is multiplied by the number of seeds. It runs with the
number of torch threads that is faster for it. The mean PLCC over the sources left out of seed 0 is printed for both,
unclipped as the original computes it and clipped as this project does. Default: made-up rows with three encoders;
--table takes what `vmaf-research ensemble run` takes. --quick only shows that everything runs; --full also trains all
seeds one by one (an hour).
"""

import argparse
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from loso import epoch_seconds, seconds, train_one

from vmaf_research.learn.codec_table import EnsembleTable, load_ensemble_table
from vmaf_research.learn.folds import source_folds
from vmaf_research.learn.loso import evaluate, out_of_fold
from vmaf_research.learn.metrics import plcc
from vmaf_research.learn.recipes import RECIPES, Recipe
from vmaf_research.learn.table import TrainingTable
from vmaf_research.learn.training import input_scaler
from vmaf_research.ship.ensemble import SEEDS

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from made_up import make_codec_rows


def one_by_one(rows: TrainingTable, seed: int, recipe: Recipe) -> np.ndarray:
    "Out-of-fold predictions of a seed, one fit after the other."
    predictions = np.full(len(rows), np.nan)
    for fold in source_folds(rows):
        model = train_one(rows, fold.train, seed, recipe, lambda inputs: input_scaler(inputs, rows.feature_names))
        predictions[fold.test] = model.predict(rows.features[fold.test], clip=False)
    return predictions


def mean_plcc(rows: TrainingTable, predictions: np.ndarray) -> tuple[float, float]:
    "Mean over the sources: of predictions as they are, and clipped to the teacher's range."
    raw = [plcc(predictions[rows.source == each], rows.target[rows.source == each]) for each in rows.sources]
    return float(np.mean(raw)), evaluate("", rows, predictions).summary["mean_plcc"]


def compare(table: EnsembleTable, recipe: Recipe, seeds: tuple[int, ...], device: str, threads: int) -> None:
    "Run both sides and print times, ratio and mean PLCC."
    rows, folds = table.rows, len(table.rows.sources)
    torch.set_num_threads(threads)
    start = time.process_time()
    stacked_time, stacked = seconds(lambda: out_of_fold(rows, SEEDS, recipe, device)[0])
    stacked_processor = time.process_time() - start
    print(
        f"stacked      {stacked_time:8.1f} s for {len(SEEDS) * folds} fits, device {device}, {threads} threads",
        flush=True,
    )

    epochs = {count: epoch_seconds(rows, source_folds(rows)[0], recipe, count) for count in sorted({1, threads})}
    own_threads = min(epochs, key=epochs.get)
    torch.set_num_threads(own_threads)
    start = time.process_time()
    single_time, single = seconds(lambda: {seed: one_by_one(rows, seed, recipe) for seed in seeds})
    single_processor = (time.process_time() - start) * len(SEEDS) / len(seeds)
    whole = single_time * len(SEEDS) / len(seeds)
    print(f"one by one   {single_time:8.1f} s for {len(seeds) * folds} fits, torch threads: {own_threads} (the faster)")
    if len(seeds) < len(SEEDS):
        print(f"             {whole:8.1f} s for {len(SEEDS) * folds} fits (multiplied, not run)")
    print(f"ratio        {whole / stacked_time:8.1f}")
    if device == "cpu":  # what other programs took from either side is not in these times
        idle = single_processor / own_threads / (stacked_processor / threads)
        print(f"processor    {stacked_processor:8.1f} s and {single_processor:.1f} s; ratio on idle cores {idle:.1f}")
    for seed in seeds:
        pairs = zip(mean_plcc(rows, stacked[seed]), mean_plcc(rows, single[seed]), strict=True)
        for name, (mine, theirs) in zip(("unclipped", "clipped"), pairs, strict=True):
            values = f"stacked {mine:.6f}, one by one {theirs:.6f}, difference {mine - theirs:+.6f}"
            print(f"seed {seed}, mean PLCC {name:9}: {values}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="of the stacked side")
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("--quick", action="store_true")
    amount.add_argument("--full", action="store_true")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        path = options.table or Path(folder, "rows.parquet")
        if options.table is None:
            make_codec_rows(9, 24, 24).to_parquet(path)
        table = load_ensemble_table(path)
    recipe = RECIPES["adr0303"].changed(epochs=1) if options.quick else RECIPES["adr0303"]
    threads = torch.get_num_threads()
    print(f"{table!r}; {recipe.name}, batch {recipe.batch_size}, {recipe.epochs} epochs on both sides")
    compare(table, recipe, SEEDS if options.full else SEEDS[:1], options.device, threads)


if __name__ == "__main__":
    main()
