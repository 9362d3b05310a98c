"""Calls as public scripts write them run with another import, or say what to write."""

from typing import Any

import pytest
import tiny
from public_calls import CALLS, HEADS, Call

import npdistil


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    found = {}
    for name, changes in HEADS.items():
        found[name] = str(
            tiny.write(tmp_path_factory.mktemp("models") / name.lower(), **changes, max_position_embeddings=64)
        )
    return found


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.kind)
def test_calls_of_public_scripts(directories: dict[str, str], call: Call) -> None:
    names: dict[str, Any] = {**directories}
    code = compile(call.source, call.kind, "exec")
    if call.refused:
        with pytest.raises(npdistil.NpdistilError, match=call.refused.replace("(", r"\(")):
            exec(code, names)
    else:
        exec(code, names)
        assert names["answer"] is not None
