"""What a prompt may not ask for, by the words of `words.yaml`; nothing here knows a model or the network.

The list is an own one. Those that wheels ship (glin-profanity, badwords-py, safetext, others derived from LDNOOBW) list
swear words: glin-profanity 4.1, which is maintained and small, holds Italian `pesce` (fish) and `regina` (queen), takes
`title page of a book` for profanity, and found 44 % of the first 219 harmful prompts in tests/data/guard_prompts.tsv.
Its breadth is used where it is worth more than its false alarms: its words count beside a word for a minor.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import yaml

from curation.errors import CurationError
from curation.install import command
from curation.prompts.views import lookalikes, plain, views
from curation.prompts.wordlist import Words, parted, words_of

MINORS, SEXUAL, VIOLENCE = "sexual content with minors", "sexual content", "extreme violence"
SHIPPED = (
    "czech", "danish", "english", "finnish", "french", "german", "hindi", "hungarian", "norwegian", "polish",
    "portuguese", "russian", "spanish", "swedish",
)  # fmt: skip
"""The lists of glin-profanity that are used; its Italian, Turkish, Dutch and Arabic ones are mostly everyday words."""

_COUNTED = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
_BELOW_18 = rf"(?:1[0-7]|0?[1-9]|{_COUNTED.replace(' ', '|')})"
_YEARS = (
    "years?|yrs?|jahre|jahrige[rsn]?|ans|anos|anni|лет|года|歳|才|岁|歲|살|세|साल|yas|yasinda|lat|jaar|ar|let|tuoi|"
    "عاما|سنة|سنوات"
)
AGE = re.compile(
    rf"(?<!\w){_BELOW_18}[\s._-]{{0,2}}(?:y\W{{0,2}}o(?!\w)|(?:{_YEARS})(?!\w))|(?<!\w){_BELOW_18}(?:歳|才|岁|歲|살|세)"
    rf"|(?<!\w)age[ds]?\W{{0,2}}(?:of\W)?{_BELOW_18}(?!\w)|(?<!\w)under\W(?:18|eighteen)(?!\w)"
)
"""An age below 18, in figures or in English words."""


@dataclass(frozen=True)
class Lists:
    """The sections of `words.yaml`; `shipped` are the words of the package, `parts` those that make compounds."""

    sexual: Words
    child: Words
    minors: Words
    undress: Words
    violence: Words
    harmless: Words
    clothes: Words
    shipped: Words
    core: re.Pattern[str]
    parts: frozenset[str]


def verdict(prompt: str) -> str | None:
    """Which rule a prompt breaks: MINORS, SEXUAL or VIOLENCE; None where it breaks none.

    Raises CurationError where a package that the check needs is not installed.
    """
    words = lists()
    read = [_without(view, words.harmless) for view in views(prompt)]
    read = [*read, *filter(None, (_compounds(view, words) for view in read))]
    if any(map(words.child.in_text, read)):
        return MINORS
    if any(words.minors.in_text(view) or AGE.search(view) for view in read) and _sexual(
        read, words, (words.sexual, words.undress, words.shipped)
    ):
        return MINORS
    dressed = [_without(view, words.clothes) for view in read]
    if _sexual(dressed, words, (words.sexual,)):
        return SEXUAL
    return VIOLENCE if any(map(words.violence.in_text, read)) else None


def _sexual(read: list[str], words: Lists, sections: Iterable[Words]) -> bool:
    return any(words.core.search(view) or any(section.in_text(view) for section in sections) for view in read)


def _without(view: str, harmless: Words) -> str:
    return harmless.removed.sub(" ", view)


def _compounds(view: str, words: Lists) -> str:
    """The parts of compounds such as `nudegirl`, empty where the text has none."""
    return " ".join(part for word in words_of(view) for part in parted(word, words.parts) or ())


@lru_cache(maxsize=1)
def lists() -> Lists:
    """Read once. Raises CurationError where a package of the extra `train` is missing."""
    text = resources.files("curation.prompts").joinpath("words.yaml").read_text(encoding="utf-8")
    words = {name: Words(_entries(languages)) for name, languages in yaml.safe_load(text).items()}
    everyday, core, more = (words.pop(name).exact for name in ("everyday", "core", "compounds"))
    vocabulary = words["sexual"].exact | words["child"].exact | words["minors"].exact | more
    parts = frozenset(word for word in vocabulary if len(word) > 2 and word.isascii())
    return Lists(**words, shipped=Words(shipped() - everyday), core=_loose(core), parts=parts)


def shipped() -> frozenset[str]:
    """Single words of five letters and more from glin-profanity, as `plain` writes them."""
    try:
        from glin_profanity.data.dictionary import DictionaryLoader

        lookalikes()
    except ModuleNotFoundError as error:
        raise CurationError(
            f"prompts cannot be checked, and none is painted unchecked: the package {error.name} is not installed; "
            f"to install it: {command('train')}"
        ) from error
    loader = DictionaryLoader()
    found = {plain(word.strip()) for language in SHIPPED for word in loader.get_words(language)}  # type: ignore[arg-type]
    return frozenset(word for word in found if len(word) > 4 and word.isalpha())


def _entries(languages: dict[str, str]) -> list[str]:
    return [entry.strip().strip('"') for listed in languages.values() for entry in listed.split(",")]


def _loose(words: frozenset[str]) -> re.Pattern[str]:
    """Words with signs between their letters, or with letters repeated."""
    shapes = (r"[\W_]{0,3}".join(f"{letter}+" for letter in word) for word in sorted(words))
    return re.compile(rf"(?<![^\W_])(?:{'|'.join(shapes)})(?![^\W_])")
