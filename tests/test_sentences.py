"""What the sentences of the derivations say in formulas is so, too, and they name nothing that there is not."""

from __future__ import annotations

import re

import pytest
from formulas import Scope, mutants
from prose import ABBREVIATIONS, runs
from sentences import (
    CONDITIONS,
    PLACED,
    SPOKEN,
    Found,
    base_is_known,
    evaluate,
    holds,
    in_sentences,
    is_defined,
    names_of,
    passages,
    placed,
    references,
    relation,
    symbols,
    words,
)
from test_derivation import PAGES, displayed, each_page, goes_unnoticed, scopes_of, text_of

from numpy_rnn.study.notation import FormulaError, Node, parse

each_language = pytest.mark.parametrize("language", ["en", "zh"])


def names(page: str) -> set[str]:
    return names_of([scope for scopes in scopes_of(page).values() for scope in scopes])


def found(page: str, language: str = "en") -> list[Found]:
    return in_sentences(text_of(page, language), names(page))


def so(page: str, formula: Found, claim: Node) -> list[bool]:
    """In which scopes a claim holds."""
    return [holds(claim, scope) for scope in placed(page, formula, scopes_of(page))]


@each_page
@each_language
def test_every_formula_in_a_sentence_holds(page, language):
    for formula in found(page, language):
        scopes = placed(page, formula, scopes_of(page))
        if (page, formula.text) in CONDITIONS:
            assert so(page, formula, parse(formula.text)) == CONDITIONS[page, formula.text], formula
        else:
            assert sum(evaluate(formula.text, scope) for scope in scopes) >= len(scopes), formula


@each_page
def test_both_languages_say_the_same_in_formulas(page):
    assert {f.text for f in found(page, "en")} == {f.text for f in found(page, "zh")}


@each_page
@each_language
def test_no_relation_escapes(page, language):
    """Every sign of a relation is part of a formula, and signs that cannot be evaluated are not used."""
    text = "\n\n".join(piece for piece, _ in passages(text_of(page, language)))
    assert not re.findall(r".{0,20}[≈∝≪≫≠∼→].{0,20}", text)
    inside = sum(len(re.findall("[=≤≥<>]", f.text)) for f in found(page, language))
    assert inside == len(re.findall("[=≤≥<>]", text))


def test_conditions_and_places_are_those_of_formulas_that_there_are():
    there = {(page, f.text) for page in PAGES for f in found(page)}
    assert CONDITIONS.keys() | PLACED.keys() <= there
    assert len(there) >= 30


@each_page
@each_language
def test_every_name_in_a_sentence_is_known(page, language):
    scopes = [scope for scopes in scopes_of(page).values() for scope in scopes]
    named = symbols(text_of(page, language))
    unknown = {name for name in named if not is_defined(name, scopes)}
    assert unknown - {"L", "δ"} == SPOKEN.get(page, set()) - {"L"}
    assert named - unknown


@each_page
def test_both_languages_name_the_same(page):
    english, chinese = (text_of(page, language) for language in ("en", "zh"))
    assert symbols(english) == symbols(chinese)
    assert words(chinese) <= words(english) | ABBREVIATIONS


@each_page
@each_language
def test_numbers_in_sentences_are_those_of_formulas(page, language):
    """On the page itself, or, where a letter or a link says so, on another."""
    text = text_of(page, language)
    linked = {page, *re.findall(r"\]\(([\w-]+)\.md\)", text)} & set(PAGES)
    numbers = {f.number for other in linked for f in displayed(other, "en")}
    assert references(text) <= numbers


# ---- mistakes


def altered(page: str) -> list[tuple[str, str, bool]]:
    """Every formula of the sentences with every mistake in it: the formula, the mistake, whether it goes unnoticed."""
    seen = []
    for formula in {f.text: f for f in found(page) if relation(f.text) == "claim"}.values():
        scopes = placed(page, formula, scopes_of(page))
        for what, mutant in mutants(parse(formula.text)):
            expected = CONDITIONS.get((page, formula.text))
            seen.append((formula.text, what, unnoticed(mutant, scopes, expected)))
    return seen


def unnoticed(mutant: Node, scopes: list[Scope], expected: list[bool] | None) -> bool:
    if expected is None:
        return goes_unnoticed(mutant, [], scopes)
    try:
        return [holds(mutant, scope) for scope in scopes] == expected
    except (FormulaError, ValueError, IndexError):
        return False


@each_page
def test_a_mistake_in_any_formula_of_a_sentence_is_noticed(page):
    mistakes = altered(page)
    assert bool(mistakes) == any(relation(f.text) == "claim" for f in found(page))
    assert [place for *place, unseen in mistakes if unseen] == []


WELL = "If h_{t+1} = tanh(a_t), the state h_0 is given (page 2); for t = 0 … T-1 and a_t as in (1)."


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("h_0", "h_T+9"), ("h_0", "k_0"), ("state", "st_te"), ("the", "δhe"), ("a_t as", "a_{t+7} as"), ("given", "g'")],
)
def test_a_misspelt_name_is_noticed(right, wrong):
    """In a sentence of a page whose machine is the plain cell."""
    scopes = scopes_of("2-rnn")[""]
    text = WELL.replace(right, wrong.replace("_T+9", "_9"), 1)
    assert all(is_defined(name, scopes) for name in symbols(WELL))
    assert not all(is_defined(name, scopes) for name in symbols(text))


@pytest.mark.parametrize(("text", "wrong"), [("t = 0 … T", "is not so"), ("= h_0", "expected a quantity")])
def test_a_wrong_range_and_half_a_formula_are_errors(text, wrong):
    (scope, _) = scopes_of("2-rnn")[""]
    assert evaluate("t = 0 … T-1", scope) == 1
    with pytest.raises(FormulaError, match=wrong):
        evaluate(text, scope)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Where h_1 = a, and the rest", ["h_1 = a"]),
        ("(with h_1 = a (h_0 + 2)) it is", ["h_1 = a (h_0 + 2)"]),
        ("(h_1 = a; page 2)", ["h_1 = a"]),
        ("as a matrix [h_0; a] = 1\n\nh_1 < 2.", ["[h_0; a] = 1", "h_1 < 2"]),
        ("一步：h_1 = a，所以", ["h_1 = a"]),
        ("the mark = alone", ["="]),
        ("unknown q = a", ["= a"]),
        ("[h_0 < a] is a number", ["[h_0 < a]"]),
    ],
)
def test_where_formulas_begin_and_end(text, expected):
    found = (text[start:end] for start, end in runs(text, lambda name: base_is_known(name, {"a", "h"})))
    assert [run for run in found if relation(run)] == expected
