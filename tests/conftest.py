"""Fixtures: small models made on the fly, both engines, and the data that lies beside the repository."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
from hypothesis import HealthCheck, settings

import npdistil.engine

# No test is timed: a busy machine is no failure.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Data sets that are not part of the repository."""
    path = Path(os.environ.get("NPDISTIL_SHARED") or Path(__file__).parents[2] / "shared" / "data")
    if not path.is_dir():
        pytest.skip(f"needs the data in {path} (or in $NPDISTIL_SHARED)")
    return path


@pytest.fixture(scope="session")
def bundled() -> Path:
    """The bundled model's directory."""
    try:
        path = npdistil.bundled_model()
    except npdistil.CheckpointError as error:
        pytest.skip(str(error))
    if not (path / "model.safetensors").exists():
        pytest.skip(f"the bundled model has no weights yet: {path}")
    return path


@pytest.fixture(params=["numpy", "compiled"])
def engine(request: pytest.FixtureRequest) -> str:
    """Each engine; the compiled one where it can run."""
    name: str = request.param
    if name == "compiled" and (reason := npdistil.engine.why_not_compiled()):
        pytest.skip(reason)
    return name


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    """`tiny.write` into a new directory."""
    count = 0

    def make(**settings: object) -> Path:
        nonlocal count
        count += 1
        return tiny.write(tmp_path / f"model-{count}", **settings)  # type: ignore[arg-type]

    return make
