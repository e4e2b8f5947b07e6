"""The local Jacobian of one step, ∂s_{t+1}/∂s_t, factor by factor, in the notation of the cells' docstrings.

Backpropagation through time never forms it: equations (4') … (1') multiply by its transpose,

    ds_t = (∂s_{t+1}/∂s_t)ᵀ ds_{t+1} + what the loss sends to s_t directly.

A product of many of them is what makes gradients vanish or explode (Bengio, Simard & Frasconi, IEEE Transactions on
Neural Networks 5, 1994). ∂h_{t+1}/∂a_t and the like are diagonal: an activation's derivative, unit by unit. W_hi is the
block of W_hh that belongs to gate i.
"""

from __future__ import annotations

_RNN = """
    (∂)   ∂h_{t+1}/∂a_t = diag(f'(a_t))
          ∂h_{t+1}/∂h_t = ∂h_{t+1}/∂a_t W_hh
"""

_GATES = """
    (∂)   ∂c_{t+1}/∂a_i = diag(g ∘ i ∘ (1 - i))
          ∂c_{t+1}/∂a_f = diag(c_t ∘ f ∘ (1 - f))
          ∂c_{t+1}/∂a_g = diag(i ∘ (1 - g²))
          ∂c_{t+1}/∂h_t = ∂c_{t+1}/∂a_i W_hi + ∂c_{t+1}/∂a_f W_hf + ∂c_{t+1}/∂a_g W_hg
"""

_OUTPUT = """
          ∂h_{t+1}/∂h_t = ∂h_{t+1}/∂a_o W_ho + ∂h_{t+1}/∂c_{t+1} ∂c_{t+1}/∂h_t
          ∂h_{t+1}/∂c_t = ∂h_{t+1}/∂c_{t+1} ∂c_{t+1}/∂c_t
"""

_LSTM = """
          ∂c_{t+1}/∂c_t = diag(f)
          ∂h_{t+1}/∂a_o = diag(tanh(c_{t+1}) ∘ o ∘ (1 - o))
          ∂h_{t+1}/∂c_{t+1} = diag(o ∘ (1 - tanh²(c_{t+1})))
"""

_PROJECTION = """
          ∂c_{t+1}/∂c_t = diag(f)
          ∂m_t/∂a_o = diag(tanh(c_{t+1}) ∘ o ∘ (1 - o))
          ∂m_t/∂c_{t+1} = diag(o ∘ (1 - tanh²(c_{t+1})))
          ∂h_{t+1}/∂h_t = W_hr (∂m_t/∂a_o W_ho + ∂m_t/∂c_{t+1} ∂c_{t+1}/∂h_t)
          ∂h_{t+1}/∂c_t = W_hr ∂m_t/∂c_{t+1} ∂c_{t+1}/∂c_t
"""

_PEEPHOLE = """
          ∂c_{t+1}/∂c_t = diag(f) + ∂c_{t+1}/∂a_i diag(P_i) + ∂c_{t+1}/∂a_f diag(P_f)
          ∂h_{t+1}/∂a_o = diag(tanh(c_{t+1}) ∘ o ∘ (1 - o))
          ∂h_{t+1}/∂c_{t+1} = diag(o ∘ (1 - tanh²(c_{t+1}))) + ∂h_{t+1}/∂a_o diag(P_o)
"""

_GRU = """
    (∂)   ∂h_{t+1}/∂n = diag(1 - z)
          ∂h_{t+1}/∂v_z = diag((h_t - n) ∘ z ∘ (1 - z))
          ∂n/∂v_n = diag((1 - n²) ∘ r)
          ∂n/∂v_r = diag((1 - n²) ∘ v_n ∘ r ∘ (1 - r))
          ∂n/∂h_t = ∂n/∂v_r W_hr + ∂n/∂v_n W_hn
          ∂h_{t+1}/∂h_t = diag(z) + ∂h_{t+1}/∂v_z W_hz + ∂h_{t+1}/∂n ∂n/∂h_t
"""

_RESET_BEFORE = """
    (∂)   ∂h_{t+1}/∂n = diag(1 - z)
          ∂h_{t+1}/∂v_z = diag((h_t - n) ∘ z ∘ (1 - z))
          ∂q_t/∂v_r = diag(h_t ∘ r ∘ (1 - r))
          ∂q_t/∂h_t = diag(r) + ∂q_t/∂v_r W_hr
          ∂n/∂h_t = diag(1 - n²) W_hn ∂q_t/∂h_t
          ∂h_{t+1}/∂h_t = diag(z) + ∂h_{t+1}/∂v_z W_hz + ∂h_{t+1}/∂n ∂n/∂h_t
"""

JACOBIANS = {
    "rnn_tanh": _RNN,
    "rnn_relu": _RNN,
    "lstm": _GATES + _LSTM + _OUTPUT,
    "lstm_projection": _GATES + _PROJECTION,
    "lstm_peephole": _GATES + _PEEPHOLE + _OUTPUT,
    "gru": _GRU,
    "gru_reset_before": _RESET_BEFORE,
}
