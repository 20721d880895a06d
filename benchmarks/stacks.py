"""The stacked pass that is written by hand against autograd over the same batched products.

    python benchmarks/stacks.py [--quick]

45 networks of the default architecture (9 sources left out, 5 seeds), batches of 32 rows (recipe adr0303) and of 256
(adr0249), random rows. A step is forward pass, loss, gradient and Adam; both sides take the same batches in turns, end
at the same weights but for rounding, and the least time of some rounds counts, on one thread and on all. The pass is
written by hand as long as this ratio is above 1.5.
"""

import argparse
import time

import torch
from torch.nn.functional import gelu

from vmaf_research.learn.recipes import RECIPES
from vmaf_research.learn.regressor import seeded_regressor
from vmaf_research.learn.stacks import OPTIMIZERS, StackedPass, StackedRegressor, loss_gradient

MODELS = 45


class AutogradPass:
    "Scores of a stack by batched products, and their gradient by torch."

    def __init__(self, stack: StackedRegressor):
        self.stack = stack

    def forward(self, features, masks=()):
        self.parameters = self.stack.parameters.detach().requires_grad_()
        weights, biases = self.stack.views(self.parameters)
        below = features
        for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            below = torch.baddbmm(bias, below, weight)
            if layer < len(weights) - 1:
                below = gelu(below)
                if masks:
                    below = below * masks[layer]
        self.scores = below.squeeze(-1)
        return self.scores.detach()

    def backward(self, score_slopes):
        (gradient,) = torch.autograd.grad(self.scores, self.parameters, score_slopes)
        return gradient


def train(kind, recipe, batches):
    "Seconds of all steps, and the weights at the end."
    stack = StackedRegressor([seeded_regressor(0, dropout=recipe.dropout) for _ in range(MODELS)])
    way = StackedPass(stack, recipe.batch_size) if kind == "by hand" else AutogradPass(stack)
    optimizer = OPTIMIZERS[recipe.optimizer](stack, recipe)
    rates = torch.full((MODELS, 1), recipe.learning_rate)
    start = time.perf_counter()
    for features, target, weights, masks in batches:
        with torch.set_grad_enabled(kind != "by hand"):
            scores = way.forward(features, masks)
        with torch.no_grad():
            slopes = loss_gradient(scores.clone(), target, weights, recipe.loss)
            optimizer.step(way.backward(slopes), rates)
    return time.perf_counter() - start, stack.parameters


def compare(name, steps, rounds, threads):
    "Print the time of a step on both sides and their ratio."
    recipe = RECIPES[name]
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    shape = (MODELS, recipe.batch_size)
    hidden = [outputs for _, outputs in StackedRegressor([seeded_regressor(0)]).shapes]
    batches = []
    for _ in range(steps):
        masks = [(torch.rand(*shape, units) >= recipe.dropout) / (1 - recipe.dropout) for units in hidden[:-1]]
        weights = torch.full(shape, 1 / recipe.batch_size)
        batches.append((torch.randn(*shape, 6), 50 + 20 * torch.randn(shape), weights, masks if recipe.dropout else ()))
    times, ends = {"by hand": [], "autograd": []}, {}
    for _ in range(rounds):
        for kind, found in times.items():
            seconds, ends[kind] = train(kind, recipe, batches)
            found.append(seconds)
    best = {kind: 1000 * min(found) / steps for kind, found in times.items()}
    gap = (ends["by hand"] - ends["autograd"]).abs().max().item()
    print(
        f"{name:8} batch {recipe.batch_size:3}, {threads} thread(s): by hand {best['by hand']:.3f} ms a step, autograd "
        f"{best['autograd']:.3f} ms, ratio {best['autograd'] / best['by hand']:.2f} (weights differ by {gap:.1e})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="only show that everything runs")
    quick = parser.parse_args().quick
    for threads in sorted({1, torch.get_num_threads()}):
        for name in ("adr0249", "adr0303"):
            compare(name, 3 if quick else 200, 1 if quick else 5, threads)


if __name__ == "__main__":
    main()
