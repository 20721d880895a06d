"""Training: the stack against single networks, torch's own optimisers, and what must not reach a model."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from made_up import make_table

from vmaf_research.learn.folds import source_folds
from vmaf_research.learn.loso import loso
from vmaf_research.learn.recipes import RECIPES, find_recipe
from vmaf_research.learn.regressor import (
    FRRegressor,
    fit_scaler,
    linear_layers,
    parameter_count,
    seeded_regressor,
)
from vmaf_research.learn.stacks import StackedAdam, StackedPass, StackedRegressor, loss_gradient, train_stacks
from vmaf_research.learn.table import load_training_table
from vmaf_research.learn.training import _rescale_inputs, train_regressors
from vmaf_research.measure.core import BadInput
from vmaf_research.measure.features import CANONICAL_6
from vmaf_research.measure.teacher import load_teacher

SMALL_TEACHER = RECIPES["teacher_function"].changed(
    sampled_vectors=4_000, epochs=4, batch_size=128, refining_vectors=2_000
)
SAMPLING = {
    "teacher_function": SMALL_TEACHER,
    "teacher_prior": SMALL_TEACHER.changed(name="teacher_prior", refining_vectors=0, refining_rate=0.0),
}


@pytest.fixture(scope="module")
def table():
    return load_training_table(make_table(n_frames=8))


@pytest.fixture(scope="module")
def taught(table):
    "The same rows with the teacher's scores."
    return replace(table, target=load_teacher().predict(table.features))


def short(name, **changes):
    return RECIPES[name].changed(epochs=3, **changes)


def predictions(models, features):
    return np.stack([model.predict(features, clip=False) for model in models])


def train(table, row_sets, seeds, recipe, target=None):
    target = table.target if target is None else target
    return predictions(train_regressors(table.features, target, row_sets, seeds, recipe), table.features)


# The stacked form


def test_parameters_of_the_contract():
    assert parameter_count(FRRegressor()) == 4673


@pytest.mark.parametrize("activation", ["gelu", "relu"])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_stack_is_the_single_network(depth, activation):
    shape = {"in_features": 5, "hidden": 16, "depth": depth, "activation": activation}
    modules = [seeded_regressor(seed, **shape).eval() for seed in range(4)]
    rows = torch.randn(4, 9, 5, generator=torch.Generator().manual_seed(0))
    scores = StackedPass(StackedRegressor(modules), rows=9).forward(rows)
    for module, part, found in zip(modules, rows, scores, strict=True):
        torch.testing.assert_close(found, module(part).detach(), atol=1e-6, rtol=1e-5)


def test_weights_survive_stacking_and_unstacking():
    modules = [seeded_regressor(seed) for seed in range(3)]
    stack = StackedRegressor(modules)
    others = stack.modules([seeded_regressor(seed) for seed in range(10, 13)], stack.parameters)
    for module, other in zip(modules, others, strict=True):
        for wanted, found in zip(module.parameters(), other.parameters(), strict=True):
            assert torch.equal(wanted, found)


def test_networks_of_several_activations_are_no_stack():
    with pytest.raises(BadInput, match="models of one architecture"):
        StackedRegressor([seeded_regressor(0), seeded_regressor(0, activation="relu")])


@pytest.mark.parametrize("activation", ["gelu", "relu"])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_gradient_is_that_of_autograd(depth, activation):
    modules = [seeded_regressor(seed, hidden=16, depth=depth, activation=activation).double() for seed in range(2)]
    stack = StackedRegressor(modules, dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(2, 7, 6, generator=generator, dtype=torch.float64)
    wanted = torch.randn(2, 7, generator=generator, dtype=torch.float64)
    masks = [(torch.rand(2, 7, 16, generator=generator) > 0.2).double() / 0.8 for _ in range(depth)]
    both = StackedPass(stack, rows=7)
    scores = both.forward(rows, masks)
    both.backward(loss_gradient(scores, wanted, torch.full((2, 7), 1 / 7, dtype=torch.float64), "mse"))
    for k, module in enumerate(modules):
        hidden, layers = rows[k], linear_layers(module)
        for layer, mask in zip(layers[:-1], masks, strict=True):
            hidden = getattr(torch.nn.functional, activation)(layer(hidden)) * mask[k]
        torch.nn.functional.mse_loss(layers[-1](hidden)[:, 0], wanted[k]).backward()
        for layer, weight, bias in zip(layers, both.weight_gradients, both.bias_gradients, strict=True):
            torch.testing.assert_close(weight[k], layer.weight.grad.T, atol=1e-12, rtol=1e-9)
            torch.testing.assert_close(bias[k, 0], layer.bias.grad, atol=1e-12, rtol=1e-9)


# Optimisers


@pytest.mark.parametrize(("name", "kind"), [("adr0249", torch.optim.AdamW), ("adr0303", torch.optim.Adam)])
@pytest.mark.parametrize("schedule", ["constant", "one_cycle"])
def test_adam_is_that_of_torch(name, kind, schedule):
    recipe = RECIPES[name].changed(schedule=schedule, weight_decay=0.01)
    modules = [seeded_regressor(seed) for seed in range(2)]
    stack = StackedRegressor(modules)
    rates = torch.tensor([[recipe.learning_rate], [recipe.learning_rate * (1 if schedule == "constant" else 0.3)]])
    ours = StackedAdam(stack, recipe)
    pairs = zip(modules, rates.flatten().tolist(), strict=True)
    theirs = [kind(module.parameters(), lr=rate, weight_decay=0.01) for module, rate in pairs]
    generator = torch.Generator().manual_seed(2)
    for _ in range(15):
        gradient = torch.randn(stack.parameters.shape, generator=generator)
        weights, biases = stack.views(gradient)
        for k, (module, optimizer) in enumerate(zip(modules, theirs, strict=True)):
            for layer, weight, bias in zip(linear_layers(module), weights, biases, strict=True):
                layer.weight.grad, layer.bias.grad = weight[k].T.clone(), bias[k, 0].clone()
            optimizer.step()
        ours.step(gradient, rates)
    expected = StackedRegressor(modules).parameters
    torch.testing.assert_close(stack.parameters, expected, atol=1e-6, rtol=1e-5)


# A whole training against the loop that everybody writes


@pytest.mark.parametrize("name", ["adr0249", "adr0303"])
def test_training_is_the_plain_loop(table, name):
    "Without dropout and with the same order of rows, stacked training gives the plain loop's network."
    recipe, rows = short(name, dropout=0.0, batch_size=32), np.arange(7, 150)
    mean, std = fit_scaler(table.features[rows])
    found = train(table, [rows, np.arange(50)], [5, 6], recipe)[0]
    module = seeded_regressor(5, dropout=0.0)
    kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[recipe.optimizer]
    optimizer = kind(module.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    inputs = torch.tensor((table.features - mean) / std, dtype=torch.float32)
    wanted = torch.tensor(table.target, dtype=torch.float32)
    generator = torch.Generator().manual_seed(5)
    for _ in range(recipe.epochs):
        for batch in torch.tensor(rows)[torch.randperm(len(rows), generator=generator)].split(32):
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(module(inputs[batch]), wanted[batch]).backward()
            optimizer.step()
    np.testing.assert_allclose(found, module(inputs).detach().numpy(), atol=2e-3)


@pytest.mark.parametrize("name", list(RECIPES))
def test_same_seed_same_bits(taught, name):
    recipe = SAMPLING.get(name) or short(name)
    sets = [np.arange(100), np.arange(50, 180), np.arange(120)]
    torch.manual_seed(1)
    first = train(taught, sets, [0, 1, 0], recipe)
    torch.manual_seed(2)
    again = train(taught, sets, [0, 1, 0], recipe)
    assert np.array_equal(first, again)
    other = train(taught, sets, [0, 2, 0], recipe)
    assert not np.allclose(first[1], other[1], atol=1e-6)


@pytest.mark.parametrize("name", ["adr0249", "adr0303"])
def test_neighbours_do_not_matter(table, name):
    sets = [np.arange(100), np.arange(50, 180), np.arange(0, 192, 3)]
    together = train(table, sets, [0, 1, 0], short(name))
    alone = [train(table, [rows], [seed], short(name))[0] for rows, seed in zip(sets, [0, 1, 0], strict=True)]
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_models_end_after_their_own_number_of_steps(table):
    "The smaller fold stops; what the larger one still does leaves it alone."
    recipe, small = short("adr0249", batch_size=16), np.arange(20)
    scaler = fit_scaler(table.features[small])
    fresh, sets = [seeded_regressor(0), seeded_regressor(1)], [small, np.arange(190)]
    short_run = train_stacks(table.features, table.target, [small], [scaler], [0], recipe, fresh[:1])[0]
    both = train_stacks(table.features, table.target, sets, [scaler, scaler], [0, 1], recipe, fresh)[0]
    torch.testing.assert_close(both.net[0].weight, short_run.net[0].weight, atol=1e-6, rtol=1e-5)


# What is refused


def test_rows_that_are_no_numbers_are_named(table):
    features = table.features.copy()
    features[[33, 90], 1] = np.inf, np.nan
    with pytest.raises(BadInput, match=r"row 33 is not finite \(2 such rows\)"):
        train_regressors(features, table.target, [np.arange(20)], [0])
    target = table.target.copy()
    target[5] = np.nan
    with pytest.raises(BadInput, match="row 5 is not finite"):
        train_regressors(table.features, target, [np.arange(20)], [0])


def test_empty_fold_is_refused(table):
    with pytest.raises(BadInput, match="model 1 has no training rows"):
        train_regressors(table.features, table.target, [np.arange(20), []], [0, 0])


def test_unknown_recipe_is_refused():
    with pytest.raises(BadInput, match="expected one of adr0249"):
        find_recipe("adr0000")


def test_teacher_function_wants_the_teachers_scores(table, taught):
    with pytest.raises(BadInput, match="needs the table's `vmaf` column as target"):
        train_regressors(table.features, table.target, [np.arange(20)], [0], SMALL_TEACHER)
    names = CANONICAL_6[::-1]
    with pytest.raises(BadInput, match="function of adm2"):
        train_regressors(taught.features, taught.target, [np.arange(20)], [0], SMALL_TEACHER, names)


# What must not leak


@pytest.mark.parametrize("name", list(RECIPES))
def test_source_left_out_does_not_reach_its_model(taught, name):
    recipe = SAMPLING.get(name) or short(name)
    folds = source_folds(taught)
    row_sets = [fold.train for fold in folds]
    before = train(taught, row_sets, [0] * len(folds), recipe)
    hidden = folds[1].test
    features = taught.features.copy()
    features[hidden] = features[hidden] * 0.5 + 0.1
    target = load_teacher().predict(features)
    assert not np.allclose(target[hidden], taught.target[hidden])
    changed = train_regressors(features, target, row_sets, [0] * len(folds), recipe)
    after = predictions(changed, taught.features)  # judged on the rows that `before` was judged on
    assert np.array_equal(before[1], after[1])
    no_row_has_a_part = name == "teacher_prior"
    assert all(np.array_equal(before[k], after[k]) == no_row_has_a_part for k in range(len(folds)) if k != 1)


# What the recipes reach


def test_scaler_change_is_exact():
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(40, 6))
    old, new = [(generator.normal(size=6), generator.uniform(0.5, 2, 6)) for _ in range(2)]
    module = seeded_regressor(0).eval().double()
    before = module(torch.tensor((rows - old[0]) / old[1]))
    _rescale_inputs(module, old, new)
    torch.testing.assert_close(module(torch.tensor((rows - new[0]) / new[1])), before, atol=1e-12, rtol=1e-9)


def test_censored_rows_bound_only_one_side():
    scores = torch.tensor([[1.5, 0.5, -1.5, -0.5, 1.5]])
    target = torch.tensor([[1.0, 1.0, -1.0, -1.0, 0.9]])
    slope = loss_gradient(scores, target, torch.ones(1, 5), "mse", (-1.0, 1.0))
    torch.testing.assert_close(slope, torch.tensor([[0.0, -1.0, 0.0, 1.0, 1.2]]))


def test_teacher_is_learned_without_a_row_of_the_source(taught):
    more = SMALL_TEACHER.changed(sampled_vectors=20_000, epochs=8, batch_size=256)
    assert loso(taught, more, floors=False, progress=False).summary["pooled_rmse"] < 0.5
