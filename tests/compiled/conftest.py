"""These tests need kernels for this system and processor."""

import pytest

from npdistil.engine import why_not_compiled

REASON = why_not_compiled()
collect_ignore_glob = ["test_*.py"] if REASON else []


def pytest_report_header(config: pytest.Config) -> str:
    return f"compiled engine: not tested, {REASON}" if REASON else "compiled engine: tested"
