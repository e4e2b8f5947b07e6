"""What stands round a language model: vocabulary, sampling, text, batches."""

from __future__ import annotations

import numpy as np
import pytest

from numpy_rnn.layers.network import Network, sum_rows
from numpy_rnn.train.batches import Batches, validation_batches
from numpy_rnn.train.language import Vocabulary, default_text, generate, read_text
from numpy_rnn.train.settings import Config
from numpy_rnn.train.task import Split

K, H, L, I, T, B = 11, 6, 2, 4, 5, 3


def language_model(cell, K=K, dtype=np.float64):
    """Return a model with spread-out random parameters."""
    model = Network(cell, I, H, K, L, symbols=K, dtype=dtype, rng=0)
    rng = np.random.default_rng(1)
    model.load_state_dict({name: rng.normal(0, 0.7, p.shape) for name, p in model.state_dict().items()})
    return model


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


def test_bytes_are_decoded_as_they_come():
    vocabulary = Vocabulary.of("天a", "bytes")
    indices = vocabulary.encode("天a天")
    assert list(vocabulary.decode(indices)) == ["", "", "天", "a", "", "", "天", ""]
    assert "".join(vocabulary.decode(indices[1:])) == "��a天"
    assert "".join(vocabulary.decode(indices[:-1])) == "天a�"


def test_generate():
    model = language_model("gru")
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
    model = language_model("rnn", K=3)
    model.load_state_dict({name: np.zeros(p.shape) for name, p in model.state_dict().items()})
    model.state_dict()["head.bias"][:] = np.log([0.2, 0.5, 0.3])
    for temperature, want in ((1.0, np.array([0.2, 0.5, 0.3])), (0.5, np.array([4, 25, 9]) / 38)):
        counts = np.bincount(list(generate(model, np.array([0]), 1000, temperature, 0)), minlength=3)
        np.testing.assert_allclose(counts / 1000, want, atol=0.05)


def test_what_generate_refuses():
    model = language_model("rnn")
    for make, message in [
        (lambda: list(generate(model, np.array([0]), 1, -0.1)), "temperature is -0.1"),
        (lambda: list(generate(model, np.array([0]), 1, float("nan"))), "temperature is nan"),
        (lambda: list(generate(model, np.array([], int), 1, 1.0)), "the prompt is empty"),
    ]:
        with pytest.raises(ValueError, match=message):
            make()
    model.state_dict()["head.bias"][0] = np.nan
    with pytest.raises(ValueError, match="logits are not finite"):
        list(generate(model, np.array([0]), 1, 1.0))


def test_the_default_text():
    vocabulary, symbols = read_text(None, "characters")
    assert "".join(vocabulary.decode(symbols)) == default_text()
    assert len(symbols) > 400_000


def a_text(n, B, T):
    """The numbers 0, 1, … as a text, and the settings to read it by."""
    symbols = np.arange(n)
    return Split(symbols[None, :-1], None, (symbols[None, 1:],)), Config("text", batch=B, seq_len=T)


def test_every_stream_is_read_in_order():
    batches = Batches(*a_text(100, B=3, T=4))  # 33 symbols a stream, 8 windows
    assert batches.per_epoch == 8
    seen = [batches.batch(k) for k in range(9)]
    assert [batch.fresh for batch in seen] == [True] + 7 * [False] + [True]
    np.testing.assert_array_equal(seen[8].x, seen[0].x)
    for b in range(3):
        read = np.concatenate([batch.x[:, b] for batch in seen[:8]])
        np.testing.assert_array_equal(read, 33 * b + np.arange(32))
    for batch in seen:
        np.testing.assert_array_equal(batch.target[0], batch.x + 1)


@pytest.mark.parametrize(("n", "B", "T"), [(2, 3, 5), (59, 3, 5), (60, 3, 5), (101, 4, 5), (1000, 32, 64)])
def test_validation_reads_almost_everything_once(n, B, T):
    batches = list(validation_batches(*a_text(n, B, T)))
    targets = np.concatenate([batch.target[0].reshape(-1) for batch in batches])
    assert len(set(targets.tolist())) == len(targets) >= n - max(B, 1)
    assert batches[0].fresh
    assert not any(batch.fresh for batch in batches[1:])
    for batch in batches:
        np.testing.assert_array_equal(batch.target[0], batch.x + 1)


def test_just_long_enough():
    assert Batches(*a_text(13, B=3, T=4)).per_epoch == 1
    with pytest.raises(ValueError, match="has 12 symbols to train on, expected at least 13 for batch 3 and seq"):
        Batches(*a_text(12, B=3, T=4))
