"""What is written to a terminal: text that comes from data shows its control characters and never has their effect."""

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

_PLAIN = {"\n", "\t"}
_UNSEEN = {*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C}
"""Marks that turn the direction of the text behind them."""


def visible(text: str) -> str:
    r"""The text with control characters, and those that turn its direction, written out: `\x1b`, `\u202e`.

    Captions, keys, column and file names and the errors that quote them may hold sequences that clear the screen, write
    elsewhere on it or run commands of the terminal.
    """
    return "".join(_shown(sign) if _acts(sign) else sign for sign in text) if any(map(_acts, text)) else text


def _acts(sign: str) -> bool:
    code = ord(sign)
    return (code < 0x20 and sign not in _PLAIN) or 0x7F <= code < 0xA0 or code in _UNSEEN or 0xD800 <= code < 0xE000


def _shown(sign: str) -> str:
    return f"\\x{ord(sign):02x}" if ord(sign) < 0x100 else f"\\u{ord(sign):04x}"


class Terminal(Console):
    """A console that shows text by `visible`, wherever in a table or a line it stands."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)
