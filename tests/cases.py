"""Random cases of the cells, and what the names in their equations stand for in them.

States, gates, outputs and the gradients that a caller gets are those of `numpy_rnn`'s cells. What these do not keep,
such as pre-activations and the gradients of gates, is what `numpy_rnn.textbook` notes on its way. δz is the change
of z when all parameters, inputs and initial states change in one random direction, by a complex step through the code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from formulas import Scope, Steps
from support import CELLS, columns, random_params, random_state, rng_of

from numpy_rnn.port.vectors import trace
from numpy_rnn.textbook.functions import sigmoid

T, B, I, H, R = 4, 3, 2, 5, 7  # 3H = 15, 4H = 20: all sizes differ
STEP = 1e-30
GATES = {"rnn": "", "lstm": "ifgo", "gru": "rzn"}


def moved(tree: Any, direction: Any) -> Any:
    """A tree of arrays, one complex step in a direction."""
    return type(tree)(*(z + 1j * STEP * d for z, d in zip(tree, direction)))


def textbook(name: str, params: Any, x: Any, s0: Any, dstates: Any = None) -> dict[str, Any]:
    """Everything that the textbook notes, as columns (T, ·, B): forward, and backward where there are dstates."""
    found: dict[str, list[Any]] = {}
    for b in range(x.shape[1]):
        notes = trace.Notes(lambda call: {})
        cell = trace.noting_machine(name, (), notes).cell
        _, tape = cell.forward(params, x[:, b], *(s[b] for s in s0))
        if dstates is not None:
            cell.backward(tape, *(ds[:, b] for ds in dstates))
        for part, steps in notes.steps.items():
            for key in steps[0].values if steps else ():
                if steps[0].values[key].ndim == 1 and (part == "forward" or key.startswith("d")):
                    found.setdefault(key, []).append(
                        np.stack([s.values[key] for s in sorted(steps, key=lambda s: s.t)])
                    )
    return {key: np.stack(value, axis=2) for key, value in found.items()}


def case(name: str, T: int = T) -> tuple[Any, Any, Any, Any, Any]:
    cell, rng = CELLS[name][0], rng_of(name, T)
    params = random_params(cell, I, H, R, rng)
    dstates = random_state(cell, (T + 1, B), H, R, rng)
    return cell, params, rng.standard_normal((T, B, I)), random_state(cell, (B,), H, R, rng), dstates


def cell_scope(name: str) -> Scope:
    """A cell, T steps of B sequences, with every state's upstream gradient random."""
    cell, params, x, s0, dstates = case(name)
    states, tape = cell.forward(params, x, s0)
    grads, dx, ds0 = cell.backward(tape, dstates)
    noted = textbook(name, params, x, s0, dstates)

    rng = rng_of("direction", name)
    direction = random_params(cell, I, H, R, rng)
    δx, δs0 = rng.standard_normal(x.shape), random_state(cell, (B,), H, R, rng)
    changed = moved(params, direction), x + 1j * STEP * δx, moved(s0, δs0)
    δstates = [s.imag / STEP for s in cell.forward(*changed)[0]]
    δnoted = {key: z.imag / STEP for key, z in textbook(name, *changed).items()}

    values: dict[str, Any] = {"T": T, "x": Steps(columns(x)), "dx": Steps(columns(dx)), "δx": Steps(columns(δx))}
    values["δL"] = sum(np.sum(ds * δ) for ds, δ in zip(dstates, δstates))
    for key, z in {**noted, **{f"δ{key}": z for key, z in δnoted.items()}}.items():
        values[key] = Steps(z)
    for key, of_params in (("", params), ("d", grads), ("δ", direction)):
        for field, p in zip(cell.Params._fields, of_params):
            values[key + field] = p if p.ndim == 2 else p[:, None]
    for field, s, ds, first, δ in zip(cell.State._fields, states, dstates, ds0, δstates):
        values[field], values[f"δ{field}"] = Steps(columns(s)), Steps(columns(δ))
        values[f"d{field}"] = Steps(np.concatenate([first.T[None], noted[f"d{field}"]]))
        values["ℓ" if field == "h" else f"ℓ{field}"] = Steps(columns(ds))
    values |= gates_of(name, tape, values)
    received = {f"d{field}": Steps(columns(ds)) for field, ds in zip(cell.State._fields, dstates)}
    functions = NONLINEARITIES.get(name, {"σ'": lambda a: sigmoid(a + 1j * STEP).imag / STEP})
    return Scope({**values, "H": H}, {"t": range(T)}, functions=functions, received=received)


NONLINEARITIES: dict[str, dict[str, Callable[[Any], Any]]] = {
    "rnn_tanh": {"f": np.tanh, "f'": lambda a: 1 / np.cosh(a) ** 2},
    "rnn_relu": {"f": lambda a: np.maximum(a, 0), "f'": lambda a: (a > 0) * 1.0},
}


def logit(s: Any) -> Any:
    """The inverse of σ."""
    return np.log(s) - np.log1p(-s)


# the cell's name → the field of its tape that has the gates, and what stands there in blocks of H rows
ON_TAPE = {
    "lstm": ("oifgc", ("o", "i", "f", "g")),
    "lstm_projection": ("oifgc", ("o", "i", "f", "g")),
    "gru": ("vrzn", ("v_n", "r", "z", "n")),
    "gru_reset_before": ("vrzn", ("q", "r", "z", "n")),
}


def gates_of(name: str, tape: Any, values: dict[str, Any]) -> dict[str, Any]:
    """Names of the gates as the cell's tape has them, of blocks of the parameters, and of blocks put together."""
    family = name.split("_")[0]
    gates, found = GATES[family], {}

    def stacked(base: str, parts: str) -> Steps:
        return Steps(np.concatenate([values[f"{base}_{gate}"].array for gate in parts], axis=1))

    if name in ON_TAPE:
        field, order = ON_TAPE[name]
        kept = getattr(tape, field)[: values["T"]]
        found |= {gate: Steps(kept[:, k * H : (k + 1) * H]) for k, gate in enumerate(order)}
    if name == "lstm_peephole":
        found |= {
            f"{key}P_{gate}": values[f"{key}P"][k * H : (k + 1) * H]
            for key in ("", "d", "δ")
            for k, gate in enumerate("ifo")
        }
    for key in ("", "d", "δ"):
        for side in "ih":
            for k, gate in enumerate(gates):
                for part in ("W", "b"):
                    found[f"{key}{part}_{side}{gate}"] = values[f"{key}{part}_{side}h"][k * H : (k + 1) * H]
    if family == "lstm":
        found |= {key: stacked(key, gates) for key in ("a", "da", "δa")}
        if name == "lstm_projection":
            found |= {"m": Steps(values["o"].array * np.tanh(values["c"].array[1:]))}
    if name == "gru":
        values |= {"dv_r": values["du_r"], "dv_z": values["du_z"]}
        found |= {key: stacked(key, gates) for key in ("u", "v", "du", "dv", "δu", "δv")}
    if name == "gru_reset_before":
        r, z, n = (found[gate].array for gate in "rzn")
        u_r, u_z, u_n = (values[f"u_{gate}"].array for gate in "rzn")
        found |= {
            "v_r": Steps(logit(r) - u_r),
            "v_z": Steps(logit(z) - u_z),
            "v_n": Steps(np.arctanh(n) - u_n),
        }
        found |= {key: stacked(key, gates) for key in ("u", "du")}
        for key in ("", "d", "δ"):
            for part in ("W", "b"):
                found[f"{key}{part}_h{{r,z}}"] = values[f"{key}{part}_hh"][: 2 * H]
    return found
