"""From the surface form of a treebank to the one that people type.

SST-2 is lower-case and split as in the Penn Treebank: "it 's", "do n't", "-lrb-", a space before each full stop. A
tokenizer that splits at punctuation sees some of this differently from natural text ("do n't" is `do n ' t`, "don't"
is `don ' t`), so the recipe trains on both. Letter case is left alone: the tokenizer lower-cases.
"""

import re

BRACKETS = {"-lrb-": "(", "-rrb-": ")", "-lsb-": "[", "-rsb-": "]", "-lcb-": "{", "-rcb-": "}"}
# The Penn Treebank splits these words in two.
JOINED = {
    ("can", "not"): "cannot",
    ("gim", "me"): "gimme",
    ("gon", "na"): "gonna",
    ("got", "ta"): "gotta",
    ("lem", "me"): "lemme",
    ("wan", "na"): "wanna",
}
# No space before these. Words that begin with an apostrophe for a lost letter ('em, 'til, '70s) are not among them.
CLITICS = {"'s", "'re", "'ve", "'ll", "'d", "'m", "n't", "'"}
CLOSING = {".", ",", ";", ":", "!", "?", "...", "%", ")", "]", "}"}
OPENING = {"(", "[", "{", "$", "#", "`"}  # no space after these
QUOTES = {"``", "''"}


def natural(text: str, *, typographic: bool = False) -> str:
    """The natural form of a text that is split as in a treebank.

    Args:
        text: Tokens with spaces between them, as a row of SST-2.
        typographic: Write curly quotes and long dashes, as phones and word processors do, for straight ones.
    """
    tokens = _joined([BRACKETS.get(token.lower(), token) for token in re.sub(r"\.( \.)+", "...", text).split()])
    # Some rows close their quotations with '' and open them with it too.
    twofold = "``" not in tokens and tokens.count("''") % 2 == 0
    left, right = ("\N{LEFT DOUBLE QUOTATION MARK}", "\N{RIGHT DOUBLE QUOTATION MARK}") if typographic else ('"', '"')
    quotes = 0
    out = ""
    glued = True  # no space before the next token
    for token in tokens:
        if token in QUOTES:
            opens = token == "``" or (twofold and quotes % 2 == 0)
            quotes += 1
            token = left if opens else right
            out += token if glued or not opens else " " + token
            glued = opens
        elif token == "--" and typographic:
            out += "\N{EM DASH}"
            glued = True
        elif token == "/":
            out += token
            glued = True
        else:
            token = "-" if token == "--" else token
            out += token if glued or token in CLITICS or token in CLOSING else " " + token
            glued = token in OPENING
    if not typographic:
        return out.replace("`", "'")
    return out.translate(str.maketrans("'`", "\N{RIGHT SINGLE QUOTATION MARK}\N{LEFT SINGLE QUOTATION MARK}"))


def _joined(tokens: list[str]) -> list[str]:
    """Words that the treebank splits, and "( d ) oes", where an editor changed the first letter, made whole."""
    joined: list[str] = []
    for token in tokens:
        if joined and (joined[-1], token) in JOINED:
            joined[-1] = JOINED[joined[-1], token]
        elif token[0].isalpha() and joined[-3:-2] == ["("] and joined[-1] == ")" and len(joined[-2]) == 1:
            joined[-3:] = [f"({joined[-2]}){token}"]
        else:
            joined.append(token)
    return joined
