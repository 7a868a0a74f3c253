"""Training: a recipe and a data set in, a trained Keras model and its history out."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pennyweight.errors import InputError, UsageError
from pennyweight_data import Dataset, load_data

from .history import History
from .recipes import RECIPES, Recipe

if TYPE_CHECKING:
    import keras

SEED = 1234
LARGEST_SEED = 2**32 - 1
EVALUATION_BATCH = 1000

Array = npt.NDArray[Any]
Progress = Callable[[int, float, float], None]


class Trained(NamedTuple):
    """A trained Keras model, logits out, and the record of its training."""

    model: keras.Model
    history: History


def train(
    recipe: str = "lab",
    data: Dataset | str | Path = "digits",
    *,
    seed: int = SEED,
    epochs: int | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Train a recipe's network on a data set's training part and count its errors on both parts.

    ``recipe`` is a name in ``RECIPES``; ``data`` a Dataset with classes, or anything ``load_data`` reads; ``epochs``
    replaces the recipe's own number; ``progress`` is called after each epoch with its number from 1, loss and
    accuracy. The same seed gives the same weights, to the bit, on the same machine and versions. Keras' global random
    state is set from it. Raise UsageError on an unknown recipe or impossible number, InputError on data that can't be
    trained on.
    """
    chosen = _chosen(recipe, seed, epochs)
    dataset = data if isinstance(data, Dataset) else load_data(data)
    classes = dataset.classes
    if classes is None:
        raise InputError(
            f"{dataset.name}: y_train is {dataset.y_train.dtype}, targets; recipes need class numbers, "
            "y.astype('int64') for whole numbers or np.argmax(y, axis=1) for one-hot rows"
        )
    if classes < 2:
        raise InputError(f"{dataset.name}: there is 1 class; two or more can be told apart")
    from ._keras import keras, tf

    started = time.perf_counter()
    keras.utils.set_random_seed(seed)
    model = chosen.build(dataset.x_train.shape[1:], str(dataset.x_train.dtype), classes)
    total = chosen.epochs if epochs is None else epochs
    loss, accuracy = _fit(model, chosen, dataset, total, np.random.default_rng(seed), progress)
    history = History(
        recipe=recipe,
        data=dataset.name,
        split_note=dataset.split_note,
        seed=seed,
        epochs=total,
        loss=loss,
        accuracy=accuracy,
        parameters=model.count_params(),
        train_errors=count_errors(model, dataset.x_train, dataset.y_train),
        train_samples=len(dataset.x_train),
        test_errors=count_errors(model, dataset.x_test, dataset.y_test),
        test_samples=len(dataset.x_test),
        seconds=round(time.perf_counter() - started, 3),
        versions={
            "python": platform.python_version(),
            "numpy": np.__version__,
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
        },
    )
    return Trained(model, history)


def count_errors(model: keras.Model, x: Array, y: Array) -> int:
    """Count the samples whose largest output isn't at their class number: ``x`` (n, *shape), ``y`` (n,) integers."""
    errors = 0
    for start in range(0, len(x), EVALUATION_BATCH):
        part = slice(start, start + EVALUATION_BATCH)
        outputs = np.asarray(model(x[part], training=False))
        errors += int((outputs.argmax(axis=1) != y[part]).sum())
    return errors


def _chosen(recipe: str, seed: int, epochs: int | None) -> Recipe:
    if recipe not in RECIPES:
        raise UsageError(f"no recipe {recipe!r}; there are {', '.join(RECIPES)}")
    if not 0 <= seed <= LARGEST_SEED:
        raise UsageError(f"seed {seed}: give a whole number from 0 to {LARGEST_SEED}")
    if epochs is not None and epochs < 1:
        raise UsageError(f"{epochs} epochs: give 1 or more")
    return RECIPES[recipe]


def _fit(
    model: keras.Model,
    recipe: Recipe,
    data: Dataset,
    epochs: int,
    random: np.random.Generator,
    progress: Progress | None,
) -> tuple[list[float], list[float]]:
    """Train in place, and give loss and accuracy by epoch."""
    from ._keras import keras, tf
    from .augmentation import augment

    rows = len(data.x_train)
    rate: Any = recipe.learning_rate
    if recipe.cosine:
        rate = keras.optimizers.schedules.CosineDecay(rate, epochs * -(-rows // recipe.batch))
    model.compile(
        optimizer=keras.optimizers.Adam(rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    run_epoch = _epoch_function(model, recipe.batch, tf)
    inputs = data.x_train
    if inputs.dtype != np.uint8:
        with np.errstate(over="ignore"):
            inputs = inputs.astype(np.float32)
        # A loss may hide these: some processors' ReLU turns NaN into 0.
        if not np.isfinite(inputs).all():
            raise InputError(f"{data.name}: x_train holds values beyond float32; scale the inputs to about 0…1")
    x, y = tf.constant(inputs), tf.constant(data.y_train)
    losses, accuracies = [], []
    for epoch in range(1, epochs + 1):
        order = tf.constant(random.permutation(rows))
        seen = tf.constant(augment(inputs, random)) if recipe.augment else x
        loss, accuracy = (float(total) / rows for total in run_epoch(seen, y, order))
        if not np.isfinite(loss):
            raise InputError(f"{data.name}: the loss is {loss} in epoch {epoch}; scale the inputs to about 0…1")
        losses.append(loss)
        accuracies.append(accuracy)
        if progress is not None:
            progress(epoch, loss, accuracy)
    return losses, accuracies


def _epoch_function(model: keras.Model, batch: int, tf: Any) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
    """Give a function of (x, y, order) that trains one epoch and returns the summed loss and the number right.

    One graph an epoch: on a network as small as the lab's, ``model.fit`` spends nine tenths of its time between steps.
    """

    def step(x: Any, y: Any) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            logits = model(x, training=True)
            loss = model.loss(y, logits)
        model.optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        right = tf.equal(tf.argmax(logits, axis=1), y)
        return loss * tf.cast(tf.shape(y)[0], tf.float32), tf.reduce_sum(tf.cast(right, tf.float32))

    @tf.function  # type: ignore[untyped-decorator]
    def epoch(x: Any, y: Any, order: Any) -> tuple[Any, Any]:
        loss_sum, right_sum = tf.constant(0.0), tf.constant(0.0)
        for start in tf.range(0, tf.size(order), batch):
            rows = order[start : start + batch]
            loss, right = step(tf.gather(x, rows), tf.gather(y, rows))
            loss_sum += loss
            right_sum += right
        return loss_sum, right_sum

    model.optimizer.build(model.trainable_variables)
    result: Callable[[Any, Any, Any], tuple[Any, Any]] = epoch
    return result
