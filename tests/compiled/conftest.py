"""These tests need numba, and a machine that it has kernels for."""

import importlib.util

import pytest

collect_ignore_glob = []
if importlib.util.find_spec("numba") is None:
    collect_ignore_glob.append("test_*.py")


def pytest_report_header(config: pytest.Config) -> str:
    return "compiled engine: not tested, numba is not installed" if collect_ignore_glob else "compiled engine: tested"
