"""Formulas as LaTeX: what the site turns into MathML."""

from __future__ import annotations

import re
from typing import Any

from numpy_rnn.study.notation import CLOSING, RELATIONS, FormulaError, Token, tokens

_SIGNS = {
    **{"∘": r" \circ ", "·": r" \cdot ", "≤": r" \le ", "≥": r" \ge ", "<": r" \lt ", ">": r" \gt ", "=": " = "},
    **{"+=": r" \;\text{+=}\; ", "+": " + ", "-": " - ", ",": r",\; ", "‖": r"\Vert ", "|": r"\vert "},
    **{
        "⟨": r"\langle ",
        "⟩": r" \rangle ",
        "…": r" \dots ",
        "²": "^{2}",
        "ᵀ": r"^{\mathsf{T}}",
        "ᵗ": "^{t}",
        "⁻¹": "^{-1}",
    },
}
_GREEK = {
    **{"α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "θ": "theta", "λ": "lambda", "μ": "mu", "ρ": "rho"},
    **{"σ": "sigma", "Λ": "Lambda", "ℓ": "ell"},
}
_WORDS = {"tanh": r"\tanh", "exp": r"\exp", "log": r"\log", "min": r"\min", "max": r"\max", "det": r"\det"}
_BEFORE_SIGN = ("", "op", "big")
_Piece = Token | tuple[str, list[Any]]  # or a bracket and what stands in it


def latex(text: str) -> str:
    r"""A formula, or what a sentence has of one, such as t = 0 … T-1, as LaTeX.

    Raises
    ------
    FormulaError
        If it is not written in the notation.

    Examples
    --------
    >>> print(latex("dh_t += W_hhᵀ da_t"))
    \text{d}h_{t} \;\text{+=}\; W_{hh}^{\mathsf{T}}\, \text{d}a_{t}
    """
    pieces: list[Token] = []
    for k, part in enumerate(re.split(r"…(?![^{]*\})", text)):
        pieces += [Token("op", "…")] * (k > 0) + [t for t in tokens(part) if t.kind != "space"]
    return " ".join(_latex(_nested(pieces, "")).split())


def _nested(pieces: list[Token], closing: str) -> list[_Piece]:
    """The pieces up to a closing bracket, which are used up; what stands in brackets is one piece."""
    found: list[_Piece] = []
    while pieces:
        token = pieces.pop(0)
        if token.text == closing:
            return found
        found.append((token.text, _nested(pieces, CLOSING[token.text])) if token.text in CLOSING else token)
    if closing:
        raise FormulaError(f"{closing} is missing")
    return found


def _latex(pieces: list[_Piece]) -> str:
    words, after = "", ""  # what the last piece was
    bars = 0
    while pieces:
        piece = pieces.pop(0)
        kind, text = (piece[0], "") if isinstance(piece[1], list) else piece
        closes_bar = text in ("‖", "|") and bars % 2
        bars += text in ("‖", "|")
        begins = kind in ("name", "number", "function", "jacobian", "big", "(", "[", "⟨") or text == "√"
        begins = begins or (text in ("‖", "|") and not closes_bar)
        if after == "operand" and begins:
            words += r"\, "
        if text == "-" and after in _BEFORE_SIGN:  # in braces it is a sign and no difference
            words += rf"{{-{_latex([pieces.pop(0)])}}}"
            kind = "name"
        elif text == "√":
            words += rf"\sqrt{{{_latex(_inside(pieces.pop(0)))}}}"
        elif isinstance(piece, Token):
            words += _word(piece)
        else:
            words += _bracket(*piece)
        ends = kind in ("name", "number", "jacobian", "power", *CLOSING) or text == "√" or closes_bar
        after = "operand" if ends and not (after == "function" and kind == "power") else kind
    return words


def _inside(piece: _Piece) -> list[_Piece]:
    return piece[1] if isinstance(piece[1], list) else [piece]


def _bracket(opening: str, inside: list[_Piece]) -> str:
    """Brackets with their content; [a, b; c, d] is a matrix, [t > s] a condition."""
    texts = [piece[1] for piece in inside if isinstance(piece, Token)]
    if opening == "{":
        return f"{{{_latex(inside)}}}"
    if opening != "[" or any(text in RELATIONS for text in texts):
        left, right = (r"\langle ", r" \rangle ") if opening == "⟨" else (opening, CLOSING[opening])
        content = _latex(inside)
        if r"\frac" in content or "matrix" in content:
            left, right = rf"\left{left}", rf"\right{right.strip()} "
        return f"{left}{content}{right}"
    cells: list[list[list[_Piece]]] = [[[]]]
    for piece in inside:
        if piece == Token("op", ";"):
            cells.append([[]])
        elif piece == Token("op", ","):
            cells[-1].append([])
        else:
            cells[-1][-1].append(piece)
    rows = r" \\ ".join(" & ".join(map(_latex, row)) for row in cells)
    return rf"\begin{{bmatrix}} {rows} \end{{bmatrix}}"


def _word(token: Token) -> str:
    """A piece that is no bracket."""
    kind, text = token
    if kind == "big":
        sign = r"\sum" if text[0] == "Σ" else r"\prod"
        index, _, last = text[1:].removeprefix("_").strip("{}").partition("…")
        return sign + (f"_{{{latex(index)}}}" if index else "") + (f"^{{{latex(last)}}}" if last else "") + " "
    if kind == "jacobian":
        top, bottom = (rf"\partial {_name(part.strip().removeprefix('∂'))}" for part in text.split("/"))
        return rf"\frac{{{top}}}{{{bottom}}}"
    if kind == "number":
        factor, e, power = text.partition("e")
        return text if not e else ("" if factor == "1" else rf"{factor} \cdot ") + f"10^{{{power}}}"
    if kind == "function" or text in _WORDS:
        base, *subscript = text.rstrip("'").split("_")
        word = _WORDS.get(base) or (_letters(base) if len(base) == 1 else rf"\text{{{base}}}")
        return word + "".join(rf"_{{\{s}}}" for s in subscript) + "′" * text.endswith("'")
    return _name(text) if kind == "name" else _SIGNS.get(text, text)


def _name(text: str) -> str:
    """A quantity; dz is the gradient by z and δz its change, a longer name a word."""
    if re.fullmatch("[a-z]{3,}_[a-z]{2,}", text):  # such as max_norm
        return r"\text{" + text.replace("_", r"\_") + "}"
    base, _, subscript = text.rstrip("'").partition("_")
    base = re.sub("[₁₂]", lambda digit: f"_{'₀₁₂'.index(digit[0])}", base)
    gradient = re.fullmatch(r"([dδ])([^\W\d_].*)", base)
    prefix = {"d": r"\text{d}", "δ": r"\delta "}[gradient[1]] if gradient else ""
    base = gradient[2] if gradient else base
    base = re.sub(r"^([A-Za-z])(\d)$", r"\1_\2", base)
    word = base if re.fullmatch(r"\w_\d", base) and base[0].isascii() else _letters(base)
    return prefix + word + f"_{{{_subscript(subscript)}}}" * bool(subscript) + "′" * text.endswith("'")


def _letters(text: str) -> str:
    if len(text) == 1 or not text.isascii():
        return "".join(rf"\{_GREEK[c]} " if c in _GREEK else c for c in text).strip().replace("ĝ", r"\hat{g}")
    return rf"\text{{{text}}}"


def _subscript(text: str) -> str:
    """T, ih, {t+1}, {t,k}, h{r,z}, {e_w}."""
    word, brace, rest = text.partition("{")
    inner = rest.removesuffix("}")
    if re.fullmatch("min|max", word):
        return rf"\{word}"
    return word + (latex(inner).replace(r"\; ", "") if brace and not word else rf"\{{{inner}\}}" if brace else "")
