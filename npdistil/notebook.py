"""What objects look like in a notebook: HTML without scripts, for light and dark pages."""

from collections.abc import Mapping, Sequence
from typing import Any

TOWARDS, AWAY = "64, 146, 245", "236, 128, 40"  # as on the service's page
LEFT = 'style="text-align: left"'


def card(title: str, facts: Mapping[str, Any]) -> str:
    """A name, and what there is to say, a line each."""
    from html import escape  # and its table of entities, which few programs need

    rows = "".join(
        f"<tr><th {LEFT}>{escape(name)}</th><td {LEFT}>{escape(str(value))}</td></tr>" for name, value in facts.items()
    )
    return f"<div><b>{escape(title)}</b><table>{rows}</table></div>"


def coloured(head: str, text: str, words: Sequence[Any]) -> str:
    """A text whose words (`explanation.Word`) are blue where they push towards a label, and orange elsewhere."""
    from html import escape

    most = max((abs(word.value) for word in words), default=0.0) or 1.0
    shown, last = "", 0
    for word in words:
        colour = TOWARDS if word.value > 0 else AWAY
        shown += escape(text[last : word.start])
        shown += (
            f'<span title="{word.value:+.3f}" style="background: rgba({colour}, {abs(word.value) / most / 2:.2f})">'
            f"{escape(text[word.start : word.end])}</span>"
        )
        last = word.end
    return f'<div><b>{escape(head)}</b><p style="white-space: pre-wrap">{shown}{escape(text[last:])}</p></div>'
