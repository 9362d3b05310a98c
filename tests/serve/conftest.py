"""A service in a process of its own; not run where what it needs is not installed."""

import importlib.util

import pytest

MISSING = [name for name in ("starlette", "httptools", "prometheus_client") if importlib.util.find_spec(name) is None]
collect_ignore_glob = ["test_*.py"] if MISSING else []


def pytest_report_header(config: pytest.Config) -> str:
    return f"service: not tested, without {', '.join(MISSING)}" if MISSING else "service: tested"
