"""The plain recurrent cell of Elman (Cognitive Science 14, 1990), with tanh or relu; torch.nn.RNN's equations.

Forward, for t = 0 … T-1 (the state before step t is h_t, the state after it h_{t+1}):

    (1)   a_t     = W_ih x_t + b_ih + W_hh h_t + b_hh
    (2)   h_{t+1} = f(a_t)                                    f = tanh or relu

Backward, for t = T-1 … 0. Every h_{t+1} arrives with dh_{t+1}: what the loss sends it directly, plus what
step t+1 has sent back.

    (2')  da_t    = dh_{t+1} ∘ f'(a_t)                        f' from the output: 1 - h², or 1 where h > 0
    (1')  dh_t   += W_hhᵀ da_t
          dx_t    = W_ihᵀ da_t
          dW_ih   = Σ_t da_t x_tᵀ        db_ih = Σ_t da_t
          dW_hh   = Σ_t da_t h_tᵀ        db_hh = Σ_t da_t
"""

from collections.abc import Callable

import numpy as np

from .functions import Array, Params, Tape

# f(a), and f'(a) as a function of the output h = f(a). Of a complex number the real part decides.
NONLINEARITIES: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "tanh": (np.tanh, lambda h: 1 - h**2),
    "relu": (lambda a: np.where(a.real <= 0, 0, a), lambda h: h.real > 0),
}


def forward(params: Params, x: Array, h_0: Array, nonlinearity: str = "tanh") -> tuple[tuple[Array], Tape]:
    """Run over one sequence: the states (h,), h_0 … h_T in one array (T+1, H), and what `backward` needs.

    Parameters
    ----------
    params : W_ih (H, I), W_hh (H, H), b_ih (H,), b_hh (H,)
    x, h_0 : arrays (T, I) and (H,)
    nonlinearity : "tanh" or "relu"
    """
    W_ih, W_hh, b_ih, b_hh = params
    f, _ = NONLINEARITIES[nonlinearity]
    h = {0: h_0}
    for t in range(len(x)):
        a = W_ih @ x[t] + b_ih + W_hh @ h[t] + b_hh  # (1)
        h[t + 1] = f(a)  # (2)
    return (np.stack(list(h.values())),), (params, x, h, nonlinearity)


def backward(tape: Tape, dh_loss: Array) -> tuple[Params, Array, tuple[Array]]:
    """Gradients of params, x and (h_0,), given dh_loss (T+1, H): what the loss sends to each state directly."""
    (W_ih, W_hh, *_), x, h, nonlinearity = tape
    _, df = NONLINEARITIES[nonlinearity]
    dW_ih, dW_hh, db_ih, db_hh = (np.zeros_like(w) for w in tape[0])
    dx, dh = np.zeros_like(x), dh_loss.copy()
    for t in reversed(range(len(x))):
        da = dh[t + 1] * df(h[t + 1])  # (2') of h_{t+1} = f(a_t)
        dh[t] += W_hh.T @ da  # (1') of a_t = W_ih x_t + b_ih + W_hh h_t + b_hh
        dx[t] = W_ih.T @ da  # (1')
        dW_ih += np.outer(da, x[t])  # (1')
        dW_hh += np.outer(da, h[t])  # (1')
        db_ih += da  # (1')
        db_hh += da  # (1')
    return (dW_ih, dW_hh, db_ih, db_hh), dx, (dh[0],)
