"""The table of what a directory may contain: on its page as the script makes it, and no file or key is forgotten."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from npdistil.checkpoint import adapter, quantize, sentence, tokenizer, weights
from npdistil.checkpoint.config import SIZES

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "checkpoints.md").read_text(encoding="utf-8")
TABLE = PAGE.partition("<!-- made by directory.py -->")[2].partition("<!-- until here -->")[0]
FILES = {
    *quantize.TOKENIZER_FILES,
    *(adapter.CONFIG, adapter.WEIGHTS, sentence.MODULES, sentence.PROMPTS, sentence.LENGTHS[0]),
    *(weights.SINGLE, weights.INDEX, "config.json"),
}


def test_the_page_has_the_table_that_the_script_makes() -> None:
    done = subprocess.run([sys.executable, DOCS / "directory.py", "--check"], check=False, timeout=300)
    assert done.returncode == 0, "python docs/directory.py writes it"


@pytest.mark.parametrize("name", sorted(FILES))
def test_every_file_that_is_read_is_in_the_table(name: str) -> None:
    assert f"`{name}`" in TABLE


def test_every_key_that_is_read_is_in_the_table() -> None:
    """The keys that the modules ask dicts for."""
    keys = {name for names, *_ in SIZES.values() for name in names}
    for module in (tokenizer, sentence):
        source = Path(str(module.__file__)).read_text(encoding="utf-8")
        keys |= {
            *re.findall(r'(?:config|settings)\.get\("(\w+)"', source),
            *re.findall(r'_flag\(settings, "(\w+)"', source),
        }
    assert len(keys) > 20
    known = {
        "pooling_mode",
        "include_prompt",
        "activation_function",
        "bias",
        "use_residual",
    }  # of a module's config.json
    assert {key for key in keys - known if not re.search(rf"\b{key}\b", TABLE)} == set()
