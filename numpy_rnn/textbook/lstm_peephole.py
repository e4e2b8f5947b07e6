"""LSTM whose gates also see the memory c, each unit its own (Gers & Schmidhuber, IJCNN 2000; Gers, Schraudolph &
Schmidhuber, JMLR 3, 2002); ONNX's LSTM operator with its input P. Gate order i, f, g, o; P's blocks are P_i, P_f, P_o.

Forward, for t = 0 … T-1; gates i and f see the old c, gate o the new one:

    (1)   a_t     = W_ih x_t + b_ih + W_hh h_t + b_hh         rows of a_t: a_i, a_f, a_g, a_o
    (2)   i, f    = σ(a_i + P_i ∘ c_t), σ(a_f + P_f ∘ c_t)     g = tanh(a_g)
    (3)   c_{t+1} = f ∘ c_t + i ∘ g
    (4)   o       = σ(a_o + P_o ∘ c_{t+1})
    (5)   h_{t+1} = o ∘ tanh(c_{t+1})

Backward, for t = T-1 … 0; dh_{t+1} and dc_{t+1} arrive with the loss's part and with what step t+1 has sent back.

    (5')  do      = dh_{t+1} ∘ tanh(c_{t+1})    dc_{t+1} += dh_{t+1} ∘ o ∘ (1 - tanh²(c_{t+1}))
    (4')  da_o    = do ∘ o ∘ (1 - o)            dc_{t+1} += da_o ∘ P_o             dP_o = Σ_t da_o ∘ c_{t+1}
    (3')  di      = dc_{t+1} ∘ g      df = dc_{t+1} ∘ c_t      dg = dc_{t+1} ∘ i      dc_t += dc_{t+1} ∘ f
    (2')  da_i    = di ∘ i ∘ (1 - i)            da_f = df ∘ f ∘ (1 - f)            da_g = dg ∘ (1 - g²)
          dc_t   += da_i ∘ P_i + da_f ∘ P_f     dP_i = Σ_t da_i ∘ c_t              dP_f = Σ_t da_f ∘ c_t
    (1')  dh_t   += W_hhᵀ da_t                  dx_t = W_ihᵀ da_t
          dW_ih   = Σ_t da_t x_tᵀ      db_ih = Σ_t da_t      dW_hh = Σ_t da_t h_tᵀ      db_hh = Σ_t da_t
"""

import numpy as np

from .functions import Array, Params, Tape, sigmoid


def forward(params: Params, x: Array, h_0: Array, c_0: Array) -> tuple[tuple[Array, Array], Tape]:
    """Run over one sequence: the states (h, c), h_0 … h_T and c_0 … c_T, (T+1, H) each, and what `backward` needs.

    Parameters
    ----------
    params : W_ih (4H, I), W_hh (4H, H), b_ih (4H,), b_hh (4H,), P (3H,)
    x, h_0, c_0 : arrays (T, I), (H,) and (H,)
    """
    W_ih, W_hh, b_ih, b_hh, P = params
    P_i, P_f, P_o = np.split(P, 3)
    h, c, gates = {0: h_0}, {0: c_0}, []
    for t in range(len(x)):
        a_i, a_f, a_g, a_o = np.split(W_ih @ x[t] + b_ih + W_hh @ h[t] + b_hh, 4)  # (1)
        i, f, g = sigmoid(a_i + P_i * c[t]), sigmoid(a_f + P_f * c[t]), np.tanh(a_g)  # (2)
        c[t + 1] = f * c[t] + i * g  # (3)
        o = sigmoid(a_o + P_o * c[t + 1])  # (4)
        h[t + 1] = o * np.tanh(c[t + 1])  # (5)
        gates.append((i, f, g, o))
    return (np.stack(list(h.values())), np.stack(list(c.values()))), (params, x, h, c, gates)


def backward(tape: Tape, dh_loss: Array, dc_loss: Array) -> tuple[Params, Array, tuple[Array, Array]]:
    """Gradients of params, x and (h_0, c_0), given those that the loss sends to each state directly, (T+1, H) each."""
    (W_ih, W_hh, _, _, P), x, h, c, gates = tape
    dW_ih, dW_hh, db_ih, db_hh, dP = (np.zeros_like(w) for w in tape[0])
    (P_i, P_f, P_o), (dP_i, dP_f, dP_o) = np.split(P, 3), np.split(dP, 3)  # views: what is added to dP_i is in dP
    dx, dh, dc = np.zeros_like(x), dh_loss.copy(), dc_loss.copy()
    for t in reversed(range(len(x))):
        i, f, g, o = gates[t]
        do = dh[t + 1] * np.tanh(c[t + 1])  # (5') of h_{t+1} = o ∘ tanh(c_{t+1})
        dc[t + 1] += dh[t + 1] * o * (1 - np.tanh(c[t + 1]) ** 2)  # (5')
        da_o = do * o * (1 - o)  # (4') of o = σ(a_o + P_o ∘ c_{t+1})
        dc[t + 1] += da_o * P_o  # (4')
        dP_o += da_o * c[t + 1]  # (4')
        di = dc[t + 1] * g  # (3') of c_{t+1} = f ∘ c_t + i ∘ g
        df = dc[t + 1] * c[t]  # (3')
        dg = dc[t + 1] * i  # (3')
        dc[t] += dc[t + 1] * f  # (3')
        da_i = di * i * (1 - i)  # (2') of i = σ(a_i + P_i ∘ c_t)
        da_f = df * f * (1 - f)  # (2') of f = σ(a_f + P_f ∘ c_t)
        da_g = dg * (1 - g**2)  # (2') of g = tanh(a_g)
        dc[t] += da_i * P_i + da_f * P_f  # (2')
        dP_i += da_i * c[t]  # (2')
        dP_f += da_f * c[t]  # (2')
        da = np.concatenate([da_i, da_f, da_g, da_o])
        dh[t] += W_hh.T @ da  # (1') of a_t = W_ih x_t + b_ih + W_hh h_t + b_hh
        dx[t] = W_ih.T @ da  # (1')
        dW_ih += np.outer(da, x[t])  # (1')
        dW_hh += np.outer(da, h[t])  # (1')
        db_ih += da  # (1')
        db_hh += da  # (1')
    return (dW_ih, dW_hh, db_ih, db_hh, dP), dx, (dh[0], dc[0])
