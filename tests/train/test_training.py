from __future__ import annotations

import numpy as np
import pytest

from pennyweight.errors import InputError, UsageError
from pennyweight_data import Dataset, load_data, make_dataset
from pennyweight_train import RECIPES, Trained, count_errors, train
from pennyweight_train.augmentation import augment
from pennyweight_train.spread import report, spread


@pytest.fixture(scope="module")
def few_digits() -> Dataset:
    digits = load_data("digits")
    part = slice(None, None, 25)
    return make_dataset("few", (digits.x_train[part], digits.y_train[part]), (digits.x_test[:50], digits.y_test[:50]))


def test_the_lab_makes_at_most_15_errors_in_its_5000_with_seed_30() -> None:
    trained = train("lab", "lab", seed=30)
    history = trained.history
    assert history.train_errors <= 15
    assert history.train_samples == 5000
    assert history.parameters == 10_575
    assert history.epochs == len(history.loss) == len(history.accuracy) == 40
    # The lab reports 1.7094 → 0.0294; another seed starts and ends a little elsewhere.
    assert 1.2 < history.loss[0] < 2.2
    assert history.loss[-1] < 0.06
    # It has learnt digits, and not the 5,000 by heart.
    assert history.test_accuracy > 0.9
    assert history.versions["keras"]


def test_the_lab_is_trained_as_the_lab_says() -> None:
    recipe = RECIPES["lab"]
    assert (recipe.epochs, recipe.batch, recipe.learning_rate) == (40, 32, 0.001)
    assert not recipe.cosine
    assert not recipe.augment


@pytest.mark.slow
def test_the_cnn_is_right_on_985_of_1000_digits_after_training_on_5000() -> None:
    history = train("cnn", "digits").history
    assert history.test_samples == 10_000
    assert history.test_accuracy >= 0.985
    assert history.train_samples == 5000


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_same_seed_gives_the_same_weights_to_the_bit(recipe: str, few_digits: Dataset) -> None:
    one, same, other = (train(recipe, few_digits, seed=seed, epochs=2) for seed in (7, 7, 8))
    assert all(np.array_equal(a, b) for a, b in zip(one.model.get_weights(), same.model.get_weights(), strict=True))
    assert one.history.loss == same.history.loss
    assert not np.array_equal(one.model.get_weights()[0], other.model.get_weights()[0])


def test_one_epoch_is_what_keras_itself_would_do(few_digits: Dataset) -> None:
    """``fit`` on the same batches must give the same weights: nothing but speed is ours."""
    import keras

    ours = train("lab", few_digits, seed=3, epochs=1)
    keras.utils.set_random_seed(3)
    model = RECIPES["lab"].build((20, 20), "uint8", 10)
    model.compile(keras.optimizers.Adam(0.001), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    order = np.random.default_rng(3).permutation(200)
    loss = model.fit(
        few_digits.x_train[order], few_digits.y_train[order], batch_size=32, epochs=1, shuffle=False, verbose=0
    )
    for a, b in zip(ours.model.get_weights(), model.get_weights(), strict=True):
        # Sums in another order: a few last bits of float32.
        assert np.abs(a - b).max() < 1e-6
    assert ours.history.loss[0] == pytest.approx(loss.history["loss"][0], abs=1e-5)


def test_progress_is_told_after_every_epoch(few_digits: Dataset) -> None:
    told: list[tuple[int, float, float]] = []
    history = train("lab", few_digits, epochs=3, progress=lambda *figures: told.append(figures)).history
    assert told == [(epoch + 1, history.loss[epoch], history.accuracy[epoch]) for epoch in range(3)]


def test_errors_are_counted_over_every_batch_and_sample() -> None:
    data = load_data("digits")
    trained: Trained = train("lab", data, epochs=1)
    answers = np.asarray(trained.model(data.x_test)).argmax(axis=1)
    assert count_errors(trained.model, data.x_test, data.y_test) == int((answers != data.y_test).sum())
    assert count_errors(trained.model, data.x_test, answers) == 0
    assert count_errors(trained.model, data.x_test[:1001], (answers[:1001] + 1) % 10) == 1001


def test_other_data_train_too() -> None:
    random = np.random.default_rng(0)
    y = np.arange(60) % 3
    x = random.normal(size=(60, 4)) + y[:, None] * 4
    history = train("lab", make_dataset("blobs", (x, y)), epochs=200).history
    assert (history.train_errors, history.test_errors) == (0, 0)
    colours = random.integers(0, 256, (12, 16, 16, 3), np.uint8)
    assert train("cnn", make_dataset("colours", (colours, y[:12])), epochs=1).history.train_samples == 9


def test_what_can_not_be_trained_is_refused(few_digits: Dataset) -> None:
    for wrong in ({"recipe": "best"}, {"seed": -1}, {"seed": 2**32}, {"epochs": 0}):
        with pytest.raises(UsageError, match=r"best|seed|epochs"):
            train(**{"data": few_digits, **wrong})  # type: ignore[arg-type]
    x = few_digits.x_train
    with pytest.raises(InputError, match=r"y_train is float64, targets; .*np\.argmax"):
        train("lab", make_dataset("mine", (x, np.eye(10)[few_digits.y_train])))
    with pytest.raises(InputError, match="1 class"):
        train("lab", make_dataset("mine", (x, np.zeros(200, int))))
    with pytest.raises(InputError, match=r"x_train holds values beyond float32; scale the inputs"):
        train("lab", make_dataset("mine", (x.astype(np.float64) * 1e37, few_digits.y_train)))
    # Finite as float32, but the sum of the losses isn't.
    with pytest.raises(InputError, match=r"the loss is .* in epoch 1; scale the inputs"):
        train("lab", make_dataset("mine", (x.astype(np.float64) * 1e35, few_digits.y_train)))


def test_augmentation_changes_images_a_little_and_keeps_their_form() -> None:
    x = load_data("digits").x_train[:200]
    changed = augment(x, np.random.default_rng(0))
    assert changed.shape == x.shape
    assert changed.dtype == x.dtype
    assert np.array_equal(changed, augment(x, np.random.default_rng(0)))
    assert not np.array_equal(changed, augment(x, np.random.default_rng(1)))
    # Nearly all the ink is still there, but hardly any image is as it was.
    assert changed.sum() == pytest.approx(x.sum(), rel=0.1)
    assert (changed != x).any(axis=(1, 2)).mean() > 0.95
    # No direction is preferred: the mean picture's centre of ink stays within half a pixel.
    for axis in (1, 2):
        centre, before = (
            (image.mean(axis=0).sum(axis=2 - axis) * np.arange(20)).sum() / image.mean(axis=0).sum()
            for image in (changed, x)
        )
        assert abs(centre - before) < 0.5
    assert augment(np.zeros((2, 9, 11, 3), np.uint8), np.random.default_rng(0)).shape == (2, 9, 11, 3)


def test_the_spread_has_a_row_for_every_seed(few_digits: Dataset) -> None:
    small = train("lab", few_digits, seed=2, epochs=1).history
    text = report([small, small])
    assert text.count(f"| 2 | {small.train_errors} |") == 2
    assert f"2 seeds: {small.train_errors}–{small.train_errors} errors" in text
    assert [history.seed for history in spread("lab", few_digits, [5])] == [5]
