"""The derivations say what the code does: every displayed formula is evaluated, every quoted line exists."""

from __future__ import annotations

import importlib
import itertools
import pathlib
import re
from functools import cache

import derivation
import numpy as np
import pytest
from cases import cell_scope
from formulas import Scope, Steps, mutants
from sentences import letter

from numpy_rnn.layers import losses, optim
from numpy_rnn.study.notation import Formula, FormulaError, Node, formulas, parse

ROOT = pathlib.Path(__file__).parents[1]
DOCS = ROOT / "docs" / "learn" / "derivation"
PAGES = sorted(path.stem for path in (DOCS / "en").iterdir())
INDEXES = {"en": DOCS / "README.md", "zh": DOCS / "README.zh.md"}
each_page = pytest.mark.parametrize("page", PAGES)
scopes_of = cache(derivation.scopes_of)


def text_of(page: str, language: str) -> str:
    return (DOCS / language / f"{page}.md").read_text(encoding="utf-8")


def displayed(page: str, language: str) -> list[Formula]:
    """Every formula of a page; a displayed block is nothing but formulas."""
    fences = re.findall(r"^ *(```+|~~~+)(.*)$", text_of(page, language), re.MULTILINE)
    assert {kind for _, kind in fences[::2]} == {"text"}
    blocks = re.findall(r"^```text\n(.*?)^```$", text_of(page, language), re.MULTILINE | re.DOTALL)
    assert len(blocks) * 2 == len(fences)
    return [formula for block in blocks for formula in formulas(block)]


def check(found: list[Formula], scopes: dict[str, list[Scope]]) -> int:
    """Evaluate formulas, each in all scopes it belongs to; how many comparisons were made."""
    compared = 0
    for key in dict.fromkeys(letter(f.number) for f in found):
        for scope in scopes[key]:
            terms: list[Node] = []
            for formula in (f for f in found if letter(f.number) == key):
                claim = parse(formula.text)
                if "+=" in claim[2::2]:
                    terms += [claim] if claim not in terms else []
                    continue
                try:
                    compared += scope.holds(claim)
                except FormulaError as error:
                    raise FormulaError(f"({formula.number})  {formula.text}: {error}") from None
            compared += scope.add_up(terms)
    return compared


@each_page
def test_every_displayed_formula_holds(page):
    found = displayed(page, "en")
    assert len(found) >= 10
    assert all(formula.number for formula in found)
    assert check(found, scopes_of(page)) >= len(found)


@each_page
def test_both_languages_have_the_same_pages_formulas_and_quotes(page):
    assert {path.stem for path in (DOCS / "zh").iterdir()} == set(PAGES)
    assert displayed(page, "en") == displayed(page, "zh")
    assert quoted(text_of(page, "en")) == quoted(text_of(page, "zh"))


@each_page
def test_every_scope_is_used(page):
    assert {letter(f.number) for f in displayed(page, "en")} == set(scopes_of(page))


# Mutants that hold as well, and why: formula and mistake.
EQUIVALENT = {
    ("h_{t+1} = [t < n] f(a_t) + [t ≥ n] h_t", "t+1 instead of t"): "there both are the same: the state stands still",
}


def goes_unnoticed(mutant: Node, other_terms: list[Node], scopes: list[Scope]) -> bool:
    """Whether an equation with a mistake, or a term with one beside its sum's other terms, holds nevertheless."""
    try:
        with np.errstate(all="ignore"):
            for scope in scopes:
                if "+=" in mutant:
                    scope.add_up([mutant, *other_terms])
                else:
                    scope.holds(mutant)
    except (FormulaError, ValueError, IndexError):  # NumPy's own words for shapes that do not fit
        return False
    return True


def survivors(page: str) -> list[tuple[str, str]]:
    """Mistakes in equations that go unnoticed; a bound is no equation and may hold with a term less."""
    found, unnoticed, tried = displayed(page, "en"), [], 0
    claims = {f: parse(f.text) for f in found}
    for formula, claim in claims.items():
        if not set(claim[2::2]) <= {"=", "+="}:
            continue
        near = [c for f, c in claims.items() if "+=" in c and letter(f.number) == letter(formula.number) and c != claim]
        for what, mutant in mutants(claim):
            tried += 1
            if goes_unnoticed(mutant, near, scopes_of(page)[letter(formula.number)]):
                unnoticed.append((formula.text, what))
    assert tried > 2 * len(found)
    return unnoticed


@each_page
def test_a_mistake_in_any_equation_is_noticed(page):
    """A sign turned, a factor, a transpose or a term lost, a step too early or too late."""
    assert set(survivors(page)) == {
        place for place in EQUIVALENT if place[0] in {f.text for f in displayed(page, "en")}
    }


@each_page
def test_a_bound_the_wrong_way_round_is_noticed(page):
    turned = str.maketrans("≤≥<>", "≥≤><")
    for formula in displayed(page, "en"):
        scopes = scopes_of(page)[letter(formula.number)]
        claim = parse(formula.text)
        if set(claim[2::2]) <= {"=", "+="}:
            continue
        mutant = tuple(part.translate(turned) if isinstance(part, str) and k else part for k, part in enumerate(claim))
        with pytest.raises(FormulaError, match="is not so"):
            sum(scope.holds(mutant) for scope in scopes)


# ---- docstrings

# What stands beside the equations in docstrings and is no formula.
REMARKS = {
    "rows of a_t: a_i, a_f, a_g, a_o",
    "f = tanh or relu",
    "f' from the output: 1 - h², or 1 where h > 0",
    "z keeps the old state",
    "1 where θ is an entry of s_0, else 0",
    "the second term with s_t held fixed",
}
DOCUMENTED = {  # cell or module, its docstring's module, the page that has all of its formulas
    "rnn_tanh": ("textbook.rnn", "2-rnn"),
    "rnn_relu": ("textbook.rnn", "2-rnn"),
    "lstm": ("textbook.lstm", "3-lstm"),
    "lstm_projection": ("textbook.lstm_projection", None),
    "lstm_peephole": ("textbook.lstm_peephole", None),
    "gru": ("textbook.gru", "4-gru"),
    "gru_reset_before": ("textbook.gru_reset_before", "5-gru-reset-before"),
    "rtrl": ("verify.rtrl", "8-real-time-recurrent-learning"),
    "gradflow": ("study.gradflow.jacobians", "7-vanishing-gradients"),
}


def documented(module: str) -> tuple[list[Formula], set[str]]:
    """The formulas of a module's docstring, and the remarks beside them."""
    text = importlib.import_module(f"numpy_rnn.{module}").__doc__
    found = formulas("\n".join(line for line in text.splitlines() if line.startswith("    ")))
    return [f for f in found if f.text not in REMARKS], {f.text for f in found if f.text in REMARKS}


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_equations_of_docstrings_hold(name):
    module, page = DOCUMENTED[name]
    found, _ = documented(module)
    assert len(found) >= 3
    scopes = scopes_of(page) if name in ("rtrl", "gradflow") else {"": [cell_scope(name)]}
    assert check(found, scopes) >= len(found)
    if page:
        assert set(found) <= set(displayed(page, "en"))


def test_no_remark_is_out_of_date():
    assert set().union(*(documented(module)[1] for module, _ in DOCUMENTED.values())) == REMARKS


def documented_by(function: object) -> list[Formula]:
    """The numbered lines of a function's docstring, and those below them that go on."""
    return formulas("\n".join(re.findall(r"^ {8}(?:\(\d'?\)  .*|(?<=\s) {6}.*)$", function.__doc__, re.MULTILINE)))


def assigned(doc: str, values: dict[str, object]) -> dict[str, object]:
    """Carry out the numbered lines of a docstring as assignments, one after the other."""
    scope = Scope(dict(values))
    for line in re.findall(r"^ +\(N?\d\)  +(.*)$", doc, re.MULTILINE):
        target, _, expression = line.partition("=")
        expression = re.split(r" {3,}", expression)[0]
        _, _, _, tree = parse(f"result ={expression}")
        scope.values[target.strip()] = scope.evaluate(tree, {"t": scope.values["t"]} if "t" in values else {})
    return scope.values


def test_the_lines_of_clipping_are_carried_out_as_they_stand():
    g = np.random.default_rng(0).standard_normal((5, 1))
    for max_norm in (0.7, 50.0):
        clipped = {"g": g.copy()}
        optim.clip_grad_norm(clipped, max_norm)
        found = assigned(optim.clip_grad_norm.__doc__, {"g": g, "max_norm": max_norm})
        np.testing.assert_allclose(found["g"], clipped["g"], rtol=1e-12)


@pytest.mark.parametrize(
    ("optimizer", "settings", "more", "state"),
    [
        (optim.SGD, {"momentum": 0.8, "dampening": 0.0}, {"nesterov": True}, "v"),
        (optim.Adam, {"β₁": 0.8, "β₂": 0.95, "eps": 1e-3}, {"betas": (0.8, 0.95)}, "mv"),
    ],
)
def test_the_lines_of_optimizers_are_carried_out_as_they_stand(optimizer, settings, more, state):
    rng, settings = np.random.default_rng(0), {"lr": 0.1, "weight_decay": 0.3, **settings}
    param = {"p": rng.standard_normal((5, 1))}
    values = {"p": param["p"].copy(), **{name: np.zeros((5, 1)) for name in state}, **settings}
    stepper = optimizer(param, **{k: v for k, v in settings.items() if k.isascii()}, **more)
    for t in (1, 2, 3):
        g = rng.standard_normal((5, 1))
        stepper.step({"p": g})
        values = assigned(optimizer.__doc__, {**values, "g": g, "t": t})
        np.testing.assert_allclose(values["p"], param["p"], rtol=1e-12)


@pytest.mark.parametrize("loss", [losses.softmax_cross_entropy, losses.mean_squared_error])
def test_the_equations_of_losses_hold(loss):
    found = documented_by(loss)
    assert [f.number for f in found] == (
        ["1", "1", "2", "2'", "1'"] if loss is losses.softmax_cross_entropy else ["1", "1'"]
    )
    for formula in found:
        scopes = derivation.loss_scopes(loss)[formula.number]
        assert sum(scope.holds(parse(formula.text)) for scope in scopes) >= len(scopes)


@pytest.mark.parametrize("loss", [losses.softmax_cross_entropy, losses.mean_squared_error])
def test_a_mistake_in_an_equation_of_losses_is_noticed(loss):
    tried = 0
    for formula in documented_by(loss):
        scopes = derivation.loss_scopes(loss)[formula.number]
        for what, mutant in mutants(parse(formula.text)):
            tried += 1
            unnoticed = goes_unnoticed(mutant, [], scopes)
            assert unnoticed == ((formula.text, what) in EQUIVALENT), (formula.text, what)
    assert tried >= 4 * len(documented_by(loss))


# ---- the code beside the equations, and links to twins


def quoted(text: str) -> list[tuple[str, str, str]]:
    """File, equations and line of every row of the tables "in code"; the file is the last one linked before."""
    found, file = [], ""
    for line in text.splitlines():
        if link := re.search(r"\]\(\.\./\.\./\.\./\.\./(numpy_rnn/[\w/]+\.py)\)", line):
            file = link.group(1)
        if row := re.fullmatch(r"\| ((?:\([^)]+\) ?)+) \| `(.+)` \|", line):
            found.append((file, row.group(1), row.group(2)))
    return found


@each_page
def test_every_quoted_line_stands_in_the_code_under_its_number(page):
    numbers = {f.number for f in displayed(page, "en")} | {"1'", "2'", "3'", "4'"}
    rows = quoted(text_of(page, "en"))
    assert len(rows) >= 4
    assert len(rows) == sum(line.startswith("| (") for line in text_of(page, "en").splitlines())
    for file, equations, code in rows:
        named = set(re.findall(r"\(([^)]+)\)", equations))
        assert named <= numbers, equations
        lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
        places = [
            k for k, line in enumerate(lines) if line.split("#")[0].strip() == code or f" {code}" in line.split("#")[0]
        ]
        assert len(places) == 1, f"{code} stands {len(places)} times in {file}"
        # The number is that of the line, or of the last numbered line above it.
        above = next(line for line in lines[places[0] :: -1] if re.search(r"# .*\(\w+'?\)", line))
        own = set(re.findall(r"\((\w+'?)\)", above.split("#", 1)[1]))
        assert named & own, f"{equations} {code}: the code says {own}"


@each_page
def test_every_page_links_its_twin_and_is_in_its_index(page):
    for one, other in itertools.permutations(("en", "zh")):
        first = text_of(page, one).splitlines()[0]
        assert f"](../{other}/{page}.md)" in first
        assert f"](../{INDEXES[one].name})" in first
        assert f"]({one}/{page}.md)" in INDEXES[one].read_text(encoding="utf-8")


@pytest.mark.parametrize("file", [*(f"{page}.md" for page in PAGES), "../README.zh.md", "../../../README.zh.md"])
def test_chinese_text_has_chinese_punctuation(file):
    """Full-width marks after Chinese characters, outside code, formulas and links; and it is Chinese."""
    text = (DOCS / "zh" / file).read_text(encoding="utf-8")
    prose = re.sub(r"^```.*?^```$|`[^`]*`|\]\([^)]*\)", "", text, flags=re.MULTILINE | re.DOTALL)
    assert not re.findall(r".{0,8}[\u4e00-\u9fff][,;:?!.](?:\s|$|[\u4e00-\u9fff]).{0,8}", prose)
    assert len(re.findall(r"[\u4e00-\u9fff]", prose)) > 300


# ---- the reader of formulas is itself read


A = np.array([[1.0, 2.0], [3.0, 5.0]])
SCOPE = Scope(
    {"A": A, "v": np.array([[1.0], [2.0]]), "x": Steps(np.arange(12.0).reshape(3, 4, 1)), "T": 3, "k": 2.0, "α": 0.5},
    {"t": range(3), "i": range(2), "j": range(2)},
)


@pytest.mark.parametrize(
    "text",
    [
        "A v = [5; 13]",
        "vᵀ = [1, 2]",
        "Aᵀ v = [7; 12]",
        "vᵀ A = (Aᵀ v)ᵀ",
        "A v ∘ v = (A v) ∘ v",
        "v - v - v = -v",
        "⟨v, v⟩ = ‖v‖² = Σ v²",
        "A_{ij} = Σ_j A_{ij} - Σ_{j=1-j…1-j} A_{ij}",
        "Σ_{t=0…T-1} x_t = x_0 + x_1 + x_2",
        "Σ_{t=2…1} x_t = 0",
        "Π_{t=1…0} A = A²",
        "A⁻¹ A = [1, 0; 0, 1]",
        "k v / 2 = v",
        "1 - α k = 0",
        "[k ≥ 2] + [k > 2] = 1",
        "tanh²(k) = 1 - 1 / ((exp(k) + exp(-k)) / 2)²",
        "|-k| ≤ k",
    ],
)
def test_what_formulas_mean(text):
    assert SCOPE.holds(parse(text)) >= 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A v = Aᵀ v", "is not so"),
        ("A v", "no relation"),
        ("y = 1", "'y' is not defined here"),
        ("x_3 = x_2", "has no moment 3"),
        ("A v = 1 ? 2", "cannot read"),
        ("v = vᵀ", "shapes"),
        ("v + vᵀ = v", "shapes"),
        ("v v = 1", "product of shapes"),
        ("tanh = 1", "tanh without its argument"),
        ("(v = v", r"expected '\)'"),
        ("v ≤ v", "compares numbers"),
        ("v_{} = v", "expected a quantity"),
    ],
)
def test_what_cannot_be_read_or_is_not_so_is_an_error(text, message):
    with pytest.raises(FormulaError, match=message):
        SCOPE.holds(parse(text))


def test_an_error_of_one_part_in_a_billion_is_seen():
    SCOPE.holds(parse("k = 2"))
    with pytest.raises(FormulaError, match="is not so"):
        SCOPE.holds(parse("k = 2.000000001"))
