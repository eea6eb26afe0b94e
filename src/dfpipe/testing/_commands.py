"""The code that a Markdown page shows, so that tests can run it."""

import re
import shlex
import textwrap
from collections.abc import Iterator

__all__ = ["code_blocks", "shell_commands"]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Four blanks after an empty line; inside a numbered list the text itself is indented by three.
_INDENTED = re.compile(r"(?<=\n\n)((?:(?: {4,}| {7,})\S.*\n|\n(?= {4,}\S))+)")


def code_blocks(markdown: str) -> Iterator[tuple[str, str]]:
    r"""Yield every block of code with the language of its fence, '' where it has none or is indented.

    Examples
    --------
    >>> list(code_blocks("Run\n\n    dfpipe plan\n\nor\n\n```python\n1 + 1\n```\n"))
    [('', 'dfpipe plan'), ('python', '1 + 1')]
    """
    found = [(match.start(), match[1], match[2]) for match in _FENCE.finditer(markdown)]
    # Fences are blanked, so that what is indented inside them is no block of its own.
    rest = _FENCE.sub(lambda match: re.sub(r"[^\n]", "x", match[0]), markdown)
    found += [(match.start(), "", match[1]) for match in _INDENTED.finditer(rest)]
    for _, language, code in sorted(found):
        yield language, textwrap.dedent(code).strip()


def shell_commands(block: str) -> list[list[str]]:
    r"""Split a block of commands into their words; a backslash goes on with the line, a # begins a comment.

    Examples
    --------
    >>> shell_commands("dfpipe plan  # what would run\ndfpipe run \\\n    --set 'a=[1, 2]'")
    [['dfpipe', 'plan'], ['dfpipe', 'run', '--set', 'a=[1, 2]']]
    """
    lines = block.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]
