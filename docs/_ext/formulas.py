"""Sets the formulas of the derivations and of docstrings as mathematics, from the very text that the tests evaluate.

Three things become MathML, which browsers draw by themselves: blocks of formulas, formulas inside the sentences of
Learn, and LaTeX in the ordinary roles and directives. A formula's number is the target of every (2') that names it.
"""

from __future__ import annotations

import functools
import re
from typing import Any

from docutils import nodes
from latex import latex
from latex2mathml.converter import convert
from prose import is_symbol, runs
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util.docutils import SphinxDirective

from numpy_rnn.study.notation import FormulaError, expression, formulas, parse, tokens

PAGES = r"index$|learn/(derivation/(en|zh)/|gru-reset|from-textbook)"  # whose sentences are looked through
SOURCES = ("Sources", "文献")  # the section whose letters are people's initials
NUMBER = re.compile(r"\(([A-Z]?\d[a-z]?['δ]?)\)")
BLOCK = re.compile(r"(?:^ {4}\((?:\d+'?|[A-Z]\d+'?)\) {2}.*\n)(?:^(?: {4}.*)?\n)*", re.MULTILINE)
# What keeps its text as it is.
UNTOUCHED = (nodes.literal, nodes.literal_block, nodes.title, nodes.reference, addnodes.pending_xref, nodes.math)
POSSESSIVE = re.compile(r"'s\b|(?<=[a-z]s)'(?= )")
WIDE = 70  # characters of LaTeX that may be too wide for a telephone
BREAK = "\u200b"  # a line may break here
SIGNS = ("=", "+=", "≤", "≥", "<", ">", "+", "-", "∘")  # in front of which a line may break


def identifier(number: str) -> str:
    """The anchor of a formula's number."""
    return "eq-" + number.replace("'", "t").replace("δ", "d")


class Formulas(SphinxDirective):
    """A block of formulas; if it holds anything else, a block of text."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Called by docutils."""
        block = nodes.container(classes=["formulas"])
        seen: set[str] = set()
        for line in self.content:
            if line.strip():
                block += self.row(line, seen)
        if not list(block.findall(nodes.math)):
            text = "\n".join(self.content)
            return [nodes.literal_block(text, text, language="text")]
        return [block]

    def row(self, line: str, seen: set[str]) -> nodes.container:
        """A number, the formulas that stand under it, and what is said of them."""
        row = nodes.container(classes=["row"])
        text, _, remark = line.partition("—")
        found = formulas(text)
        number = found[0].number if found else ""
        row += nodes.paragraph("", f"({number})" if number else "", classes=["number"])
        if number and number not in seen:
            seen.add(number)
            row["ids"].append(identifier(number))
        for formula in found:
            try:
                parse(formula.text)
            except FormulaError:
                remark = formula.text
                continue
            pieces = [display(text) for text in terms(formula.text)]
            parts = [node for piece in pieces for node in (nodes.math("", piece), nodes.Text(BREAK))]
            wide = ["wide"] if max(map(len, pieces)) > WIDE else []
            row += nodes.paragraph("", "", *parts, classes=["formula", *wide])
        if remark:
            row += nodes.paragraph("", remark.strip(), classes=["remark"])
        return row


def terms(text: str) -> list[str]:
    """A formula in the pieces that a narrow page may put on lines of their own; each begins with its sign."""
    found, depth = [""], 0
    for word in re.split(r"(\s+)", text):
        if depth == 0 and word in SIGNS and found[-1]:
            found.append("")
        found[-1] += word
        depth += sum(map(word.count, "([{⟨")) - sum(map(word.count, ")]}⟩"))
    return [piece.strip() for piece in found]


def display(text: str) -> str:
    """LaTeX of a piece of a displayed formula: bounds stand above and below, a sign in front is no prefix."""
    first = "{} " * (text.partition(" ")[0] in SIGNS)
    return r"\displaystyle " + first + re.sub(r"\\(sum|prod)_", r"\\\1\\limits_", latex(text))


class InSentences(SphinxTransform):
    """Formulas and numbers of formulas inside the sentences of Learn."""

    default_priority = 500

    def apply(self, **kwargs: Any) -> None:
        """Called by Sphinx."""
        if not re.match(PAGES, self.env.docname):
            return
        numbers = {i for row in self.document.findall(nodes.container) for i in row["ids"]}
        for text in list(self.document.findall(nodes.Text)):
            if not any(self.skipped(parent) for parent in ancestors(text)):
                text.parent.replace(text, list(marked(text.astext(), numbers)))

    @staticmethod
    def skipped(node: nodes.Element) -> bool:
        """Whether formulas are not looked for inside: code, headings, links, mathematics, sources."""
        if isinstance(node, UNTOUCHED):
            return True
        sources = isinstance(node, nodes.section) and node[0].astext() in SOURCES
        return sources or "number" in node.get("classes", ())


def ancestors(node: nodes.Node) -> list[nodes.Element]:
    """A node's parent, its parent's parent, and so on."""
    found = []
    while node.parent is not None:
        node = node.parent
        found.append(node)
    return found


def marked(text: str, numbers: set[str]) -> list[nodes.Node]:
    """A text with formulas as mathematics and numbers as links."""
    found: list[nodes.Node] = []
    for k, part in enumerate(NUMBER.split(text)):
        if k % 2 and identifier(part) in numbers:
            found.append(nodes.reference("", f"({part})", refid=identifier(part), internal=True))
            continue
        part, at = f"({part})" if k % 2 else part, 0
        words = POSSESSIVE.sub(lambda m: ";" * len(m[0]), part)
        for start, end in runs(words, is_symbol) if not k % 2 else ():
            run = " ".join(part[start:end].split())
            if is_formula(run):
                found += [nodes.Text(part[at:start]), nodes.math("", latex(run))]
                at = end
        found.append(nodes.Text(part[at:]))
    return [node for node in found if not isinstance(node, nodes.Text) or node]


def is_formula(text: str) -> bool:
    """Whether a run of a sentence is one, which has a name in it; t = 0 … T-1 is two with dots between them."""
    try:
        kinds = {token.kind for part in text.split("…") for token in tokens(part.strip())}
        for part in text.split("…"):
            (parse if re.search("[=≤≥<>](?![^[]*])", part) else expression)(part.strip())
    except FormulaError:
        return False
    return bool(kinds & {"name", "function", "jacobian"})


def read(app: Sphinx, docname: str, source: list[str]) -> None:
    """In Markdown a block of formulas is one of text: it can be read without this site."""
    if docname.startswith(("learn/", "index")):
        source[0] = re.sub(r"^```text$", "```{formulas}", source[0], flags=re.MULTILINE)


def docstring(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """In a docstring it is an indented block that begins with a number."""
    text = BLOCK.sub(lambda m: f".. formulas::\n\n{m[0]}\n", "\n".join(lines) + "\n")
    lines[:] = text.splitlines()


mathml = functools.cache(convert)


def draw(self: Any, node: nodes.math) -> None:
    """Write MathML."""
    display = "block" if isinstance(node, nodes.math_block) else "inline"
    self.body.append(mathml(node.astext(), display))
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_directive("formulas", Formulas)
    app.add_transform(InSentences)
    app.add_html_math_renderer("mathml", inline_renderers=(draw, None), block_renderers=(draw, None))
    app.connect("source-read", read)
    app.connect("autodoc-process-docstring", docstring, priority=400)
    return {"parallel_read_safe": True}
