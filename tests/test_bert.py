"""`BertModel` beside Hugging Face's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layer_cases import assert_close, every_backend, every_dtype, gradients, random

import fastnn as fn
from fastnn._kernels import backends

CONFIG = {
    **{"vocab_size": 37, "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 20},
    **{"max_position_embeddings": 9, "type_vocab_size": 2},
}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
IDS = np.random.default_rng(0).integers(1, 37, (4, 7))
TYPES = np.random.default_rng(1).integers(0, 2, (4, 7))
LENGTHS = np.array([7, 3, 1, 5])
TOKENS = np.arange(7) < LENGTHS[:, None]


def small(**more: Any) -> fn.BertModel:
    fn.manual_seed(0)
    return fn.BertModel(**{**CONFIG, **NO_DROPOUT, **more})


@every_dtype
@every_backend
@pytest.mark.parametrize("returns", ["states", "pooled"])
@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
def test_as_hugging_face(backend: str, dtype: str, returns: str, activation: str) -> None:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    config = transformers.BertConfig(**CONFIG, **NO_DROPOUT, hidden_act=activation, attn_implementation="eager")
    theirs = transformers.BertModel(config).to(getattr(torch, dtype)).train()
    ours = small(hidden_act=activation, returns=returns, dtype=dtype)
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})

    found = theirs(torch.tensor(IDS), attention_mask=torch.tensor(TOKENS), token_type_ids=torch.tensor(TYPES))
    expected = found.last_hidden_state if returns == "states" else found.pooler_output
    with fn.use_backend(backend):
        y, backward = ours.forward(fn.Padded(IDS, LENGTHS), True, token_type_ids=TYPES)
        values = y.values if returns == "states" else y
        dy = random(values.shape, dtype)
        backward(dy)
    kept = np.where(TOKENS[..., None], 1, 0).astype(dtype) if returns == "states" else np.ones_like(dy)
    (expected * torch.tensor(dy * kept)).sum().backward()

    assert_close(values, expected.detach().numpy() * kept, dtype, "y")
    for name, p in theirs.named_parameters():
        if p.grad is not None:
            scale = np.asarray(max(1.0, float(p.grad.abs().max())), dtype)
            assert_close(gradients(ours)[name] / scale, p.grad.numpy() / scale, dtype, name)
        else:  # the pooler, where the states are asked for
            assert not dict(ours.named_parameters())[name].used


def test_initial_weights_are_hugging_faces() -> None:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    torch.manual_seed(5)
    theirs = transformers.BertModel(transformers.BertConfig(**CONFIG))
    fn.init.torch_manual_seed(5)
    ours = fn.BertModel(**CONFIG)
    fn.manual_seed(0)
    state = ours.state_dict()
    assert list(state) == list(theirs.state_dict())
    for name, value in theirs.state_dict().items():
        assert np.array_equal(state[name], value.numpy()), name


def test_the_size_of_bert_base() -> None:
    with fn.init.blank(200_000_000):
        model = fn.BertModel()
    gru = sum(2 * 3 * 256 * (width + 256 + 2) for width in (768, 512))
    assert sum(p.size for p in model.parameters()) == 112241409 - 2759169
    assert gru + 513 == 2759169


@every_backend
def test_padding_is_nothing(backend: str) -> None:
    """What stands behind the end of a text changes neither its states nor any gradient, and states are zeros there."""
    model, results = small(dtype="float64"), []
    rng = np.random.default_rng(3)
    for _ in range(2):
        ids = np.where(TOKENS, IDS, rng.integers(0, 37, IDS.shape))
        dy = np.where(TOKENS[..., None], random((4, 7, 12)), rng.standard_normal((4, 7, 12)))
        with fn.use_backend(backend):
            y, backward = model.forward(fn.Padded(ids, LENGTHS), train=True)
            assert backward(dy) is None
        assert y.lengths is LENGTHS and not y.values[~TOKENS].any()
        results.append((y.values, gradients(model)))
        model.zero_grad()
    assert np.array_equal(results[0][0], results[1][0])
    for name, gradient in results[0][1].items():
        np.testing.assert_allclose(gradient, results[1][1][name], atol=1e-15, err_msg=name)
    for i, length in enumerate(LENGTHS):
        np.testing.assert_allclose(model(IDS[i : i + 1, :length])[0], results[0][0][i, :length], atol=1e-13)


def test_dropout_is_the_same_on_every_backend() -> None:
    outputs, found = [], []
    for backend in backends():
        model = small(hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.4, dtype="float64")
        with fn.use_backend(backend):
            y, backward = model.forward(fn.Padded(IDS, LENGTHS), train=True)
            backward(random((4, 7, 12)))
            outputs.append(y.values)
            found.append(gradients(model))
            assert np.abs(model.forward(IDS, train=True)[0] - model(IDS)).max() > 0.1
    for y, gradient in zip(outputs, found, strict=True):
        assert_close(y, outputs[0], "float64", "y")
        for name in gradient:
            assert_close(gradient[name], found[0][name], "float64", name)


def test_frozen_parts() -> None:
    model = small(dtype="float64")
    dy = random((4, 7, 12))
    model.forward(IDS, train=True)[1](dy)
    expected = gradients(model)
    for prefix in ("encoder.layer.1.output", "encoder.layer.1.attention.self.key", "embeddings"):
        model.zero_grad()
        for name, p in model.named_parameters():
            p.requires_grad = name.startswith(prefix)
        model.forward(IDS, train=True)[1](dy)
        for name, p in model.named_parameters():
            assert p.used == name.startswith(prefix)
            if p.used:
                np.testing.assert_allclose(p.grad, expected[name], atol=1e-12, err_msg=name)
    model.requires_grad_(False).zero_grad()
    assert model.forward(IDS, train=True)[1](dy) is None
    assert not any(p.used for p in model.parameters())


def test_no_texts() -> None:
    y, backward = small().forward(IDS[:0], train=True)
    assert y.shape == (0, 7, 12) and backward(y) is None


@pytest.mark.parametrize("returns", ["states", "pooled"])
def test_saved_and_loaded(tmp_path: Path, returns: str) -> None:
    model = small(returns=returns, hidden_act="relu", pad_token_id=None)
    fn.save(model, tmp_path / "m.safetensors")
    loaded = fn.load(tmp_path / "m.safetensors")
    assert loaded.config() == model.config()
    assert np.array_equal(loaded(IDS), model(IDS))
    assert np.array_equal(model.scores(IDS), model(IDS))


def test_a_classifier_on_the_pooled_state_learns() -> None:
    """Two kinds of texts by one word that only one of them has; fine-tuned through all of the model."""
    rng = np.random.default_rng(0)
    x = rng.integers(5, 37, (64, 7))
    y = np.arange(64) % 2
    x[np.arange(64), rng.integers(0, 7, 64)] = np.where(y, 3, 4)
    model = fn.Sequential(small(returns="pooled", initializer_range=0.2), fn.Linear(12, 2))
    history = fn.fit(
        model, x, y, loss=fn.CrossEntropyLoss(), optimizer=fn.Adam(lr=0.01), epochs=25, batch_size=16, seed=0
    )
    assert history["loss"][-1] < 0.2 * history["loss"][0]


WRONG: dict[str, tuple[Any, type[Exception], str]] = {
    "heads": (lambda: small(num_attention_heads=5), fn.ShapeError, "multiple of 5 heads, got 12"),
    "activation": (lambda: small(hidden_act="swish"), ValueError, "hidden_act as one of gelu, gelu_new, relu"),
    "returns": (lambda: small(returns="pooled", add_pooling_layer=False), ValueError, "with a pooler"),
    "layers": (lambda: small(num_hidden_layers=0), fn.ShapeError, "num_hidden_layers"),
    "dtype of ids": (lambda: small()(IDS.astype(np.int32)), fn.DTypeError, "ids as an array of int64, got int32"),
    "shape of ids": (lambda: small()(IDS[0]), fn.ShapeError, r"\(N, T\) with T from 1 to 9, got \(7,\)"),
    "too long": (lambda: small()(np.zeros((1, 10), np.int64)), fn.ShapeError, "T from 1 to 9"),
    "unknown id": (lambda: small()(IDS + 30), ValueError, "indices from 0 to 36"),
    "types": (lambda: small().forward(IDS, token_type_ids=TYPES + 2), ValueError, "indices from 0 to 1"),
    "shape of types": (
        lambda: small().forward(IDS, token_type_ids=TYPES[:2]),
        fn.ShapeError,
        r"\(4, 7\), got \(2, 7\)",
    ),
    "no types": (lambda: small().forward(IDS, token_type_ids=[0]), fn.DTypeError, "int64, got list"),
    "lengths": (lambda: small().forward(fn.Padded(IDS, LENGTHS + 1)), ValueError, "lengths from 1 to 7"),
    "gradient": (lambda: small().forward(IDS, True)[1](np.zeros((4, 7))), fn.ShapeError, "gradient of its output"),
}


@pytest.mark.parametrize("what", WRONG)
def test_errors(what: str) -> None:
    call, kind, message = WRONG[what]
    with pytest.raises(kind, match=message):
        call()
