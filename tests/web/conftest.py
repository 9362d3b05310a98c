"""A service with the bundled model, and a real browser without a window; not run where they are not installed."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from service_client import Server, running

CHROMIUM = Path("/usr/bin/chromium")
QUIET = ["--no-sandbox", "--disable-quic", "--disable-background-networking", "--disable-component-update"]
MISSING = [name for name in ("playwright", "schemathesis", "httptools") if importlib.util.find_spec(name) is None]
MISSING += [] if CHROMIUM.exists() else [str(CHROMIUM)]
collect_ignore_glob = ["test_*.py"] if MISSING else []


def pytest_report_header(config: pytest.Config) -> str:
    return f"page: not tested, without {', '.join(MISSING)}" if MISSING else "page: tested"


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with running("--max-request-texts", "256") as server:
        yield server


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=120_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page on which any error in the console, and any request to another host, fails the test."""
    context = browser.new_context(viewport={"width": 1000, "height": 900}, accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(120_000)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if "Content Security" in message.text else None)
    page.on("request", lambda request: wrong.append(request.url) if _leaves(request.url) else None)
    yield page
    context.close()
    assert not wrong


def _leaves(url: str) -> bool:
    return not url.startswith(("http://127.0.0.1:", "data:", "blob:", "file:"))
