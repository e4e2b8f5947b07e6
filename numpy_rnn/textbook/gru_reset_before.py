"""Gated recurrent unit with the reset gate *before* the product (Cho et al. 2014, arXiv:1406.1078 v3); ONNX's GRU
operator at its default linear_before_reset = 0. Gate order r, z, n, and z keeps the old state, as torch's.

Forward, for t = 0 … T-1; u is the input's side, v the state's side, three blocks of H rows each:

    (1)   u_t     = W_ih x_t + b_ih             [v_r; v_z] = W_h{r,z} h_t + b_h{r,z}
    (2)   r, z    = σ(u_r + v_r), σ(u_z + v_z)
    (3)   q_t     = r ∘ h_t                     v_n = W_hn q_t + b_hn             n = tanh(u_n + v_n)
    (4)   h_{t+1} = (1 - z) ∘ n + z ∘ h_t = n + z ∘ (h_t - n)        z keeps the old state

Backward, for t = T-1 … 0. dh_{t+1} arrives with what the loss sends it directly, plus what step t+1 has sent
back. Both sides of each sum u + v receive the same gradient, so one du serves for both.

    (4')  dn      = dh_{t+1} ∘ (1 - z)          dz = dh_{t+1} ∘ (h_t - n)         dh_t += dh_{t+1} ∘ z
    (3')  du_n    = dn ∘ (1 - n²)               dq_t = W_hnᵀ du_n
          dr      = dq_t ∘ h_t                  dh_t += dq_t ∘ r
    (2')  du_r    = dr ∘ r ∘ (1 - r)            du_z = dz ∘ z ∘ (1 - z)
    (1')  dh_t   += W_h{r,z}ᵀ [du_r; du_z]      dx_t = W_ihᵀ du_t
          dW_ih   = Σ_t du_t x_tᵀ               db_ih = Σ_t du_t                  db_hh = Σ_t du_t
          dW_h{r,z} = Σ_t [du_r; du_z] h_tᵀ     dW_hn = Σ_t du_n q_tᵀ
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
    (W_hr, W_hz, W_hn), (b_hr, b_hz, b_hn) = np.split(W_hh, 3), np.split(b_hh, 3)
    h, gates = {0: h_0}, []
    for t in range(len(x)):
        u_r, u_z, u_n = np.split(W_ih @ x[t] + b_ih, 3)  # (1)
        v_r, v_z = W_hr @ h[t] + b_hr, W_hz @ h[t] + b_hz  # (1)
        r, z = sigmoid(u_r + v_r), sigmoid(u_z + v_z)  # (2)
        q = r * h[t]  # (3)
        v_n = W_hn @ q + b_hn  # (3)
        n = np.tanh(u_n + v_n)  # (3)
        h[t + 1] = (1 - z) * n + z * h[t]  # (4)
        gates.append((r, z, n))
    return (np.stack(list(h.values())),), (params, x, h, gates)


def backward(tape: Tape, dh_loss: Array) -> tuple[Params, Array, tuple[Array]]:
    """Gradients of params, x and (h_0,), given dh_loss (T+1, H): what the loss sends to each state directly."""
    (W_ih, W_hh, *_), x, h, gates = tape
    dW_ih, dW_hh, db_ih, db_hh = (np.zeros_like(w) for w in tape[0])
    (W_hr, W_hz, W_hn), (dW_hr, dW_hz, dW_hn) = np.split(W_hh, 3), np.split(dW_hh, 3)  # views, parts of dW_hh
    dx, dh = np.zeros_like(x), dh_loss.copy()
    for t in reversed(range(len(x))):
        r, z, n = gates[t]
        dn = dh[t + 1] * (1 - z)  # (4') of h_{t+1} = (1 - z) ∘ n + z ∘ h_t
        dz = dh[t + 1] * (h[t] - n)  # (4')
        dh[t] += dh[t + 1] * z  # (4')
        du_n = dn * (1 - n**2)  # (3') of n = tanh(u_n + v_n)
        dq = W_hn.T @ du_n  # (3') of v_n = W_hn q_t + b_hn
        dr = dq * h[t]  # (3') of q_t = r ∘ h_t
        dh[t] += dq * r  # (3')
        du_r = dr * r * (1 - r)  # (2') of r = σ(u_r + v_r)
        du_z = dz * z * (1 - z)  # (2') of z = σ(u_z + v_z)
        du = np.concatenate([du_r, du_z, du_n])
        dh[t] += W_hr.T @ du_r + W_hz.T @ du_z  # (1') of [v_r; v_z] = W_h{r,z} h_t + b_h{r,z}
        dx[t] = W_ih.T @ du  # (1') of u_t = W_ih x_t + b_ih
        dW_ih += np.outer(du, x[t])  # (1')
        dW_hr += np.outer(du_r, h[t])  # (1')
        dW_hz += np.outer(du_z, h[t])  # (1')
        dW_hn += np.outer(du_n, r * h[t])  # (1')
        db_ih += du  # (1')
        db_hh += du  # (1')
    return (dW_ih, dW_hh, db_ih, db_hh), dx, (dh[0],)
