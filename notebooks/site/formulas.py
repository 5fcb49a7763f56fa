"""Formulas as MathML, which browsers draw themselves: no script, and one font, which travels with the site."""

import re

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

# LaTeX that docutils does not know, or not at every place, and what comes nearest.
SYNONYMS = {r"\dots": r"\ldots", r"\big": r"\bigl", r"\textstyle": ""}


def mathml(latex: str, as_block: bool = False) -> str:
    """A formula as a `<math>` element. Raises docutils' MathError for LaTeX that it does not know."""
    known = re.sub(r"\\[A-Za-z]+", lambda found: SYNONYMS.get(found[0], found[0]), latex)
    beside = re.sub(r"(\\hat\s*[A-Za-z])_", r"\1{}_", known)  # docutils would put the index below the letter
    beside = re.sub(r"((?:\\hat )?[A-Za-z]')_", r"{\1}_", beside)  # an index of W', not of its prime
    beside = re.sub(r"_\{([a-z]{3,})\}", r"_{\\mathrm{\1}}", beside)  # a word is no product of its letters
    written = tex2mathml(beside, as_block=as_block)
    written = written.replace("<mo>'</mo>", '<mo lspace="0.1em" rspace="0em">′</mo>')  # which would touch a T
    return re.sub(r"(<mn>\d+)</mn>\s*<mo>,</mo>\s*<mn>(\d{3}</mn>)", r"\1,\2", written)  # 1{,}200 is one number


def write_inline(translator: HTML5Translator, node: nodes.math) -> None:
    translator.body.append(written(node, as_block=False))
    raise nodes.SkipNode


def write_block(translator: HTML5Translator, node: nodes.math_block) -> None:
    box = '<div class="formula" tabindex="0" role="group" aria-label="formula">'  # it scrolls where it is too wide
    translator.body.append(f"{box}{written(node, as_block=True)}</div>")
    raise nodes.SkipNode


def written(node: nodes.Element, as_block: bool) -> str:
    """The formula of a node; a warning, which names the page and fails the build, if it cannot be written."""
    try:
        return mathml(node.astext(), as_block)
    except MathError as error:
        logging.getLogger(__name__).warning("%s cannot be written as MathML: %s", node.astext(), error, location=node)
        return ""
