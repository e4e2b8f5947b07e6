"""Long short-term memory with a forget gate (Hochreiter & Schmidhuber, Neural Computation 9, 1997; Gers,
Schmidhuber & Cummins, Neural Computation 12, 2000); torch.nn.LSTM's equations and gate order i, f, g, o.

Forward, for t = 0 … T-1:

    (1)   a_t     = W_ih x_t + b_ih + W_hh h_t + b_hh         rows of a_t: a_i, a_f, a_g, a_o
    (2)   i, f, o = σ(a_i), σ(a_f), σ(a_o)     g = tanh(a_g)
    (3)   c_{t+1} = f ∘ c_t + i ∘ g
    (4)   h_{t+1} = o ∘ tanh(c_{t+1})

Backward, for t = T-1 … 0. dh_{t+1} and dc_{t+1} arrive with what the loss sends them directly, plus what step
t+1 has sent back; the cell has two paths into the past, and dc takes both.

    (4')  do      = dh_{t+1} ∘ tanh(c_{t+1})
          dc_{t+1} += dh_{t+1} ∘ o ∘ (1 - tanh²(c_{t+1}))
    (3')  di      = dc_{t+1} ∘ g               df = dc_{t+1} ∘ c_t
          dg      = dc_{t+1} ∘ i               dc_t += dc_{t+1} ∘ f
    (2')  da_i    = di ∘ i ∘ (1 - i)           da_f = df ∘ f ∘ (1 - f)
          da_g    = dg ∘ (1 - g²)              da_o = do ∘ o ∘ (1 - o)
    (1')  dh_t   += W_hhᵀ da_t                 dx_t = W_ihᵀ da_t
          dW_ih   = Σ_t da_t x_tᵀ              db_ih = Σ_t da_t
          dW_hh   = Σ_t da_t h_tᵀ              db_hh = Σ_t da_t
"""

import numpy as np

from .functions import Array, Params, Tape, sigmoid


def forward(params: Params, x: Array, h_0: Array, c_0: Array) -> tuple[tuple[Array, Array], Tape]:
    """Run over one sequence: the states (h, c), h_0 … h_T and c_0 … c_T, (T+1, H) each, and what `backward` needs.

    Parameters
    ----------
    params : W_ih (4H, I), W_hh (4H, H), b_ih (4H,), b_hh (4H,)
    x, h_0, c_0 : arrays (T, I), (H,) and (H,)
    """
    W_ih, W_hh, b_ih, b_hh = params
    h, c, gates = {0: h_0}, {0: c_0}, []
    for t in range(len(x)):
        a_i, a_f, a_g, a_o = np.split(W_ih @ x[t] + b_ih + W_hh @ h[t] + b_hh, 4)  # (1)
        i, f, g, o = sigmoid(a_i), sigmoid(a_f), np.tanh(a_g), sigmoid(a_o)  # (2)
        c[t + 1] = f * c[t] + i * g  # (3)
        h[t + 1] = o * np.tanh(c[t + 1])  # (4)
        gates.append((i, f, g, o))
    return (np.stack(list(h.values())), np.stack(list(c.values()))), (params, x, h, c, gates)


def backward(tape: Tape, dh_loss: Array, dc_loss: Array) -> tuple[Params, Array, tuple[Array, Array]]:
    """Gradients of params, x and (h_0, c_0), given those that the loss sends to each state directly, (T+1, H) each."""
    (W_ih, W_hh, *_), x, h, c, gates = tape
    dW_ih, dW_hh, db_ih, db_hh = (np.zeros_like(w) for w in tape[0])
    dx, dh, dc = np.zeros_like(x), dh_loss.copy(), dc_loss.copy()
    for t in reversed(range(len(x))):
        i, f, g, o = gates[t]
        do = dh[t + 1] * np.tanh(c[t + 1])  # (4') of h_{t+1} = o ∘ tanh(c_{t+1})
        dc[t + 1] += dh[t + 1] * o * (1 - np.tanh(c[t + 1]) ** 2)  # (4')
        di = dc[t + 1] * g  # (3') of c_{t+1} = f ∘ c_t + i ∘ g
        df = dc[t + 1] * c[t]  # (3')
        dg = dc[t + 1] * i  # (3')
        dc[t] += dc[t + 1] * f  # (3')
        da_i = di * i * (1 - i)  # (2') of i = σ(a_i)
        da_f = df * f * (1 - f)  # (2') of f = σ(a_f)
        da_g = dg * (1 - g**2)  # (2') of g = tanh(a_g)
        da_o = do * o * (1 - o)  # (2') of o = σ(a_o)
        da = np.concatenate([da_i, da_f, da_g, da_o])
        dh[t] += W_hh.T @ da  # (1') of a_t = W_ih x_t + b_ih + W_hh h_t + b_hh
        dx[t] = W_ih.T @ da  # (1')
        dW_ih += np.outer(da, x[t])  # (1')
        dW_hh += np.outer(da, h[t])  # (1')
        db_ih += da  # (1')
        db_hh += da  # (1')
    return (dW_ih, dW_hh, db_ih, db_hh), dx, (dh[0], dc[0])
