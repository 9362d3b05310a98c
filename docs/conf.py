"""The documentation as a site: `pip install ".[docs]" && sphinx-build -W --keep-going docs build/site`.

Pages that hold code run it when the site is built, so every number and figure on them is of this version. Formulas
become MathML, which browsers draw by themselves: the site needs nothing from other hosts.
"""

import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert

sys.path.insert(0, str(Path(__file__).parent))  # for figures.py

import npdistil

project = "npdistil"
author = "the npdistil developers"
release = version = npdistil.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["results"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_merge_streams = True
html_theme = "furo"
html_title = "npdistil"
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
html_math_renderer = "mathml"
html_static_path = ["static"]
html_css_files = ["site.css"]
autodoc_member_order = "bysource"
autodoc_typehints = "description"
suppress_warnings = ["misc.highlighting_failure"]


def here(app: Any, page: str, source: list[str]) -> None:
    """Links to files that are no pages become their text."""
    source[0] = re.sub(r"(?<!!)\[([^\]]+)\]\(\.\./[^)]+\.md\)", r"\1", source[0])


def inline(writer: Any, node: nodes.math) -> None:
    """A formula within a line."""
    writer.body.append(convert(node.astext()))
    raise nodes.SkipNode


def displayed(writer: Any, node: nodes.math_block) -> None:
    """A formula on a line of its own."""
    writer.body.append(f'<div class="formula">{convert(node.astext(), display="block")}</div>')
    raise nodes.SkipNode


def setup(app: Any) -> None:
    """Add what stands above."""
    app.connect("source-read", here)
    app.add_html_math_renderer("mathml", (inline, None), (displayed, None))
