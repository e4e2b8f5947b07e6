"""Gated recurrent unit with the reset gate *after* the product (Cho et al. 2014, arXiv:1406.1078 v1;
cuDNN's form); torch.nn.GRU's equations and gate order r, z, n.

Forward, for t = 0 … T-1; u is the input's side, v the state's side, three blocks of H rows each:

    (1)   u_t     = W_ih x_t + b_ih             v_t = W_hh h_t + b_hh
    (2)   r, z    = σ(u_r + v_r), σ(u_z + v_z)
    (3)   n       = tanh(u_n + r ∘ v_n)
    (4)   h_{t+1} = (1 - z) ∘ n + z ∘ h_t = n + z ∘ (h_t - n)        z keeps the old state

Backward, for t = T-1 … 0. dh_{t+1} arrives with what the loss sends it directly, plus what step t+1 has sent
back. The two biases differ: the third block of b_hh stands inside the product with r and cannot be merged.

    (4')  dn      = dh_{t+1} ∘ (1 - z)          dz = dh_{t+1} ∘ (h_t - n)
          dh_t   += dh_{t+1} ∘ z
    (3')  du_n    = dn ∘ (1 - n²)               dv_n = du_n ∘ r               dr = du_n ∘ v_n
    (2')  du_r = dv_r = dr ∘ r ∘ (1 - r)        du_z = dv_z = dz ∘ z ∘ (1 - z)
    (1')  dh_t   += W_hhᵀ dv_t                  dx_t = W_ihᵀ du_t
          dW_ih   = Σ_t du_t x_tᵀ               db_ih = Σ_t du_t
          dW_hh   = Σ_t dv_t h_tᵀ               db_hh = Σ_t dv_t
"""

import numpy as np

from .functions import Array, Params, Tape, sigmoid


def forward(params: Params, x: Array, h_0: Array) -> tuple[tuple[Array], Tape]:
    """Run over one sequence: the states (h,), h_0 … h_T in one array (T+1, H), and what `backward` needs.

    Parameters
    ----------
    params : W_ih (3H, I), W_hh (3H, H), b_ih (3H,), b_hh (3H,)
    x, h_0 : arrays (T, I) and (H,)
    """
    W_ih, W_hh, b_ih, b_hh = params
    h, gates = {0: h_0}, []
    for t in range(len(x)):
        u_r, u_z, u_n = np.split(W_ih @ x[t] + b_ih, 3)  # (1)
        v_r, v_z, v_n = np.split(W_hh @ h[t] + b_hh, 3)  # (1)
        r, z = sigmoid(u_r + v_r), sigmoid(u_z + v_z)  # (2)
        n = np.tanh(u_n + r * v_n)  # (3)
        h[t + 1] = (1 - z) * n + z * h[t]  # (4)
        gates.append((r, z, n, v_n))
    return (np.stack(list(h.values())),), (params, x, h, gates)


def backward(tape: Tape, dh_loss: Array) -> tuple[Params, Array, tuple[Array]]:
    """Gradients of params, x and (h_0,), given dh_loss (T+1, H): what the loss sends to each state directly."""
    (W_ih, W_hh, *_), x, h, gates = tape
    dW_ih, dW_hh, db_ih, db_hh = (np.zeros_like(w) for w in tape[0])
    dx, dh = np.zeros_like(x), dh_loss.copy()
    for t in reversed(range(len(x))):
        r, z, n, v_n = gates[t]
        dn = dh[t + 1] * (1 - z)  # (4') of h_{t+1} = (1 - z) ∘ n + z ∘ h_t
        dz = dh[t + 1] * (h[t] - n)  # (4')
        dh[t] += dh[t + 1] * z  # (4')
        du_n = dn * (1 - n**2)  # (3') of n = tanh(u_n + r ∘ v_n)
        dv_n = du_n * r  # (3')
        dr = du_n * v_n  # (3')
        du_r = dr * r * (1 - r)  # (2') of r = σ(u_r + v_r), where dv_r = du_r
        du_z = dz * z * (1 - z)  # (2') of z = σ(u_z + v_z), where dv_z = du_z
        du = np.concatenate([du_r, du_z, du_n])
        dv = np.concatenate([du_r, du_z, dv_n])
        dh[t] += W_hh.T @ dv  # (1') of v_t = W_hh h_t + b_hh
        dx[t] = W_ih.T @ du  # (1') of u_t = W_ih x_t + b_ih
        dW_ih += np.outer(du, x[t])  # (1')
        dW_hh += np.outer(dv, h[t])  # (1')
        db_ih += du  # (1')
        db_hh += dv  # (1')
    return (dW_ih, dW_hh, db_ih, db_hh), dx, (dh[0],)
