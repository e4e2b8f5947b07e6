"""The language model: against its PyTorch twin, and what stands round it (vocabulary, sampling, text, batches)."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import torch_rnn.language
from numpy_rnn import load
from numpy_rnn.layers.losses import softmax_cross_entropy
from numpy_rnn.layers.network import sum_rows
from numpy_rnn.train.language import LanguageModel, Vocabulary, codes_of, generate
from numpy_rnn.train.text import Streams, default_text, read_text, validation_batches

K, H, L, I, T, B = 11, 6, 2, 4, 5, 3
CHINESE = "天地玄黄，宇宙洪荒。日月盈昃，辰宿列张。寒来暑往，秋收冬藏。"


def models(cell, dtype=np.float64, seed=0):
    """Return a model with spread-out random parameters, and its twin."""
    model = LanguageModel(cell, K, H, L, I, dtype=dtype, rng=seed)
    rng = np.random.default_rng(seed + 1)
    model.load_state_dict({name: rng.normal(0, 0.7, p.shape) for name, p in model.state_dict().items()})
    twin = torch_rnn.language.LanguageModel(cell, K, H, L, I, dtype=torch.from_numpy(np.empty(0, dtype)).dtype)
    twin.load_state_dict({name: torch.tensor(p) for name, p in model.state_dict().items()})
    return model, twin


def pair(state):
    return state if isinstance(state, tuple) else (state,)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_every_gradient_is_autograds(cell):
    model, twin = models(cell)
    rng = np.random.default_rng(2)
    symbols, targets = rng.integers(0, K - 1, (2, T, B))  # the last symbol never occurs: its row has gradient 0
    states = tuple(rng.normal(size=(L, B, H)) for _ in range(2 if cell == "lstm" else 1))
    upstream = tuple(rng.normal(size=(L, B, H)) for _ in states)

    s = tuple(torch.tensor(a, requires_grad=True) for a in states)
    their_logits, s_n = twin(torch.tensor(symbols), s if cell == "lstm" else s[0])
    their_loss = F.cross_entropy(their_logits.reshape(-1, K), torch.tensor(targets).reshape(-1))
    (their_loss + sum((a * torch.tensor(u)).sum() for a, u in zip(pair(s_n), upstream))).backward()

    logits, h_n, tape = model.forward(symbols, states if cell == "lstm" else states[0])
    loss, dlogits = softmax_cross_entropy(logits, targets)
    grads, dh_0 = model.backward(tape, dlogits, upstream if cell == "lstm" else upstream[0])

    def assert_close(got, want, name):
        want = want.detach().numpy()
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-12 * np.abs(want).max(), err_msg=name, strict=True)

    assert_close(loss, their_loss, "loss")
    assert_close(logits, their_logits, "logits")
    for got, want, ours, theirs in zip(pair(h_n), pair(s_n), pair(dh_0), s):
        assert_close(got, want, "final state")
        assert_close(ours, theirs.grad, "gradient of the initial state")
    assert list(grads) == list(model.state_dict()) == list(twin.state_dict())
    for name, p in twin.named_parameters():
        assert_close(grads[name], p.grad, name)
    assert not grads["embedding.weight"][K - 1].any()


def test_parameters_go_both_ways_and_are_the_models_own():
    model, twin = models("lstm")
    other = LanguageModel("lstm", K, H, L, I, dtype=np.float64)
    other.load_state_dict(twin.state_dict())
    symbols = np.arange(K)[:, None]
    np.testing.assert_array_equal(other(symbols)[0], model(symbols)[0])
    for p in other.state_dict().values():
        p *= 0  # as an optimizer does: in place
    np.testing.assert_array_equal(other(symbols)[0], np.zeros((K, 1, K)))


def test_initial_values():
    model = LanguageModel("gru", 200, 64, rng=3)
    assert model.state_dict()["embedding.weight"].shape == (200, 64)
    assert model.state_dict()["embedding.weight"].std() == pytest.approx(1, abs=0.02)
    assert np.abs(model.state_dict()["rnn.weight_hh_l0"]).max() == pytest.approx(1 / 8, rel=0.01)
    again = LanguageModel("gru", 200, 64, dtype=np.float64, rng=3)
    for name, p in model.state_dict().items():
        np.testing.assert_array_equal(p, again.state_dict()[name].astype(np.float32))


def test_a_saved_model_is_the_same_model(tmp_path):
    model, _ = models("gru", np.float32)
    model.save(tmp_path / "m.safetensors")
    symbols = np.arange(K)[:, None]
    np.testing.assert_array_equal(load(tmp_path / "m.safetensors")(symbols)[0], model(symbols)[0])


def test_complex_step_through_the_whole_model():
    model, _ = models("gru")
    symbols, targets = np.random.default_rng(3).integers(0, K, (2, T, B))
    logits, _, tape = model.forward(symbols)
    grads, _ = model.backward(tape, softmax_cross_entropy(logits, targets)[1])
    stepped = LanguageModel("gru", K, H, L, I, dtype=np.complex128)
    for name, index in [("embedding.weight", (2, 1)), ("rnn.weight_hh_l0", (3, 2)), ("head.bias", (4,))]:
        stepped.load_state_dict(model.state_dict())
        stepped.state_dict()[name][index] += 1e-30j
        loss, _ = softmax_cross_entropy(stepped(symbols)[0], targets)
        assert loss.imag / 1e-30 == pytest.approx(grads[name][index], rel=1e-12)


def test_sum_rows_is_add_at():
    rng = np.random.default_rng(4)
    dx, symbols = rng.normal(size=(7, 3, 2)), rng.integers(0, 5, (7, 3))
    want = np.zeros((6, 2))
    np.add.at(want, symbols, dx)
    np.testing.assert_allclose(sum_rows(dx, symbols, 6), want, rtol=0, atol=1e-15)
    assert not sum_rows(dx[:0], symbols[:0], 6).any()


@pytest.mark.parametrize(
    ("text", "kind", "codes"),
    [
        ("ba, ab", "characters", [32, 44, 97, 98]),
        ("玄天a", "characters", [97, 0x5929, 0x7384]),
        ("𝄞a", "characters", [97, 0x1D11E]),
        ("天", "bytes", [0xA4, 0xA9, 0xE5]),
    ],
)
def test_vocabulary(text, kind, codes):
    vocabulary = Vocabulary.of(text, kind)
    assert vocabulary.codes.tolist() == codes
    assert len(vocabulary) == len(codes)
    assert "".join(vocabulary.decode(vocabulary.encode(text))) == text


def test_unknown_symbols_are_named():
    vocabulary = Vocabulary.of("abc", "characters")
    with pytest.raises(ValueError, match=r"none of these characters: '\\n' 'z' '天'$"):
        vocabulary.encode("za天\n")
    with pytest.raises(ValueError, match="and 2 more"):
        vocabulary.encode("0123456789")
    with pytest.raises(ValueError, match="none of these bytes: 0xa9"):
        Vocabulary.of("è", "bytes").encode("é")
    with pytest.raises(ValueError, match="none of these characters: '\\\\udcff'"):
        vocabulary.encode("\udcff")  # how an argument that is not UTF-8 arrives from the command line
    with pytest.raises(ValueError, match="symbols are 'words', expected characters or bytes"):
        codes_of("a", "words")


def test_bytes_are_decoded_as_they_come():
    vocabulary = Vocabulary.of("天a", "bytes")
    indices = vocabulary.encode("天a天")
    assert list(vocabulary.decode(indices)) == ["", "", "天", "a", "", "", "天", ""]
    assert "".join(vocabulary.decode(indices[1:])) == "��a天"
    assert "".join(vocabulary.decode(indices[:-1])) == "天a�"


def test_generate():
    model, _ = models("gru")
    start = np.array([1, 2])

    def draw(temperature, seed):
        return list(generate(model, start, 50, temperature, seed))

    assert draw(1.0, 0) == draw(1.0, 0) != draw(1.0, 1)
    assert draw(0, 0) == draw(0, 1) == draw(1e-300, 2)
    # The greedy text, from whole prefixes rather than symbol by symbol with a carried state.
    text = [1, 2]
    for _ in range(50):
        text.append(int(model(np.array(text)[:, None])[0][-1, 0].argmax()))
    assert draw(0, 0) == text[2:]


def test_generate_draws_by_probability():
    model = LanguageModel("rnn", 3, 2, dtype=np.float64, rng=0)
    model.load_state_dict({name: np.zeros(p.shape) for name, p in model.state_dict().items()})
    model.state_dict()["head.bias"][:] = np.log([0.2, 0.5, 0.3])
    counts = np.bincount(list(generate(model, np.array([0]), 4000, 1.0, 0)), minlength=3)
    np.testing.assert_allclose(counts / 4000, [0.2, 0.5, 0.3], atol=0.025)
    counts = np.bincount(list(generate(model, np.array([0]), 4000, 0.5, 0)), minlength=3)
    np.testing.assert_allclose(counts / 4000, np.array([4, 25, 9]) / 38, atol=0.025)


def test_what_the_model_refuses():
    model, _ = models("rnn")
    other, _ = models("rnn")
    logits, _, tape = model.forward(np.zeros((2, 1), int))
    for make, message in [
        (lambda: LanguageModel("mlp", K, H), "cell is 'mlp', expected rnn, lstm, gru"),
        (lambda: LanguageModel("rnn", 0, H), "vocabulary_size is 0"),
        (lambda: LanguageModel("rnn", K, -1), "hidden_size is -1"),
        (lambda: LanguageModel("rnn", K, H, 1.5), "num_layers is 1.5"),
        (lambda: LanguageModel("rnn", K, H, 1, 0), "embedding_size is 0"),
        (lambda: model(np.zeros((2, 1))), "symbols has shape .* and dtype float64, expected integers"),
        (lambda: model(np.zeros(2, int)), r"symbols has shape \(2,\)"),
        (lambda: model(np.full((2, 1), K)), "symbols are from 11 to 11, expected 0 to 10"),
        (lambda: model(np.full((2, 1), -1)), "symbols are from -1"),
        (lambda: model(np.zeros((2, 1), int), np.zeros((1, 1, H))), "h_0 has shape"),
        (lambda: other.backward(tape, logits), "the tape comes from"),
        (lambda: model.backward(tape, logits[:1]), "dy has shape"),
        (lambda: list(generate(model, np.array([0]), 1, -0.1)), "temperature is -0.1"),
        (lambda: list(generate(model, np.array([0]), 1, float("nan"))), "temperature is nan"),
        (lambda: list(generate(model, np.array([], int), 1, 1.0)), "the prompt is empty"),
    ]:
        with pytest.raises(ValueError, match=message):
            make()
    model.state_dict()["head.bias"][0] = np.nan
    with pytest.raises(ValueError, match="logits are not finite"):
        list(generate(model, np.array([0]), 1, 1.0))
    with pytest.raises(ValueError, match="cell is 'mlp', expected rnn, lstm, gru"):
        torch_rnn.language.LanguageModel("mlp", K, H)


def test_the_default_text():
    text = read_text(None, "characters")
    assert text.sha256 == hashlib.sha256(default_text().encode()).hexdigest()
    everything = np.concatenate([text.training, text.validation])
    assert "".join(text.vocabulary.decode(everything)) == default_text()
    assert len(text.validation) == len(everything) // 10
    assert len(everything) > 400_000


@pytest.mark.parametrize("kind", ["characters", "bytes"])
def test_chinese(tmp_path, kind):
    path = tmp_path / "text"
    path.write_text(CHINESE, encoding="utf-8")
    text = read_text(path, kind)
    everything = np.concatenate([text.training, text.validation])
    assert len(everything) == len(CHINESE) * (3 if kind == "bytes" else 1)
    assert "".join(text.vocabulary.decode(everything)) == CHINESE


def test_every_stream_is_read_in_order():
    symbols = np.arange(100)
    streams = Streams(symbols, B=3, T=4)  # 33 symbols a stream, 8 windows
    assert streams.windows == 8
    batches = [streams.batch(k) for k in range(9)]
    assert [batch.fresh for batch in batches] == [True] + 7 * [False] + [True]
    np.testing.assert_array_equal(batches[8].x, batches[0].x)
    for b in range(3):
        read = np.concatenate([batch.x[:, b] for batch in batches[:8]])
        np.testing.assert_array_equal(read, 33 * b + np.arange(32))
    for batch in batches:
        np.testing.assert_array_equal(batch.target[0], batch.x + 1)


@pytest.mark.parametrize(("n", "B", "T"), [(2, 3, 5), (59, 3, 5), (60, 3, 5), (101, 4, 5), (1000, 32, 64)])
def test_validation_reads_almost_everything_once(n, B, T):
    batches = list(validation_batches(np.arange(n), B, T))
    targets = np.concatenate([batch.target[0].reshape(-1) for batch in batches])
    assert len(set(targets.tolist())) == len(targets) >= n - max(B, 1)
    assert batches[0].fresh
    assert not any(batch.fresh for batch in batches[1:])
    for batch in batches:
        np.testing.assert_array_equal(batch.target[0], batch.x + 1)


def test_just_long_enough():
    assert Streams(np.arange(13), B=3, T=4).windows == 1
    with pytest.raises(ValueError, match="has 12 symbols to train on, expected at least 13 for batch 3 and seq"):
        Streams(np.arange(12), B=3, T=4)
