"""What marks a caption as text of a web page, and not as a description: stock phrases, addresses, file names.

A stock phrase counts where it is the whole caption, where a part of the caption (between punctuation marks) begins
with it, or, if no description holds it by chance, anywhere. It does not count where the caption says that it
can be read in the picture: `a sign that says click here`.
"""

import re
from collections.abc import Iterable, Sequence

import regex

from curation.captions.words import words_of

_EMPTY_WORDS = frozenset(
    ("image", "images", "photo", "photos", "picture", "pictures", "thumbnail", "placeholder", "untitled")
)
_FILLERS = {"a", "an", "the", "of", "my", "no"}

_WHOLE = """
    learn more | see more | show more | view more | load more | read more | more info | more information
    next page | previous page | home page | subscribe | log in | login | sign in | sign up | contact us | about us
    site map | sitemap | accept all | accept cookies | cookie settings | cookie policy | cookie notice | privacy policy
    terms of use | terms of service | no caption | no description | no title | no alt text | alt text
    image description | main image | product image | featured image | header image | stock photo | stock image
    advertisement | sponsored content | buy now | shop now | default title | n/a
    mehr lesen | mehr erfahren | weiterlesen | lire la suite | en savoir plus | leer más | ver más | saber más
    saiba mais | leggi tutto | scopri di più | lees meer | czytaj więcej | подробнее | читать далее | もっと見る
    続きを読む | 查看更多 | 阅读更多 | 더 보기
"""
_OPENING = """
    click to | click on the image | click on the picture | click image | click for | click below | tap to | read more
    learn more about | find out more | sign up for | sign up to | sign up today | subscribe to | log in to
    sign in to | buy now | order now | shop now | book now | call now | free delivery | view larger | view full size
    see larger | larger image | enlarge image | may be an image of | image result for | stock photo | stock image
    stock vector | royalty free | this site uses cookies | this website uses cookies | by continuing to
    please enable | your browser does not | follow us on | like us on | share this | share on facebook
    share on twitter | skip to content | skip to main content | back to top | posted by | posted on | no description
    no caption | no image available | image not available | photo not available | image unavailable
    image coming soon | photo coming soon | default title | untitled document | default description | privacy policy
    terms of service | terms and conditions | written by | view all | add a comment | leave a comment
    insert caption here | enter a caption | caption goes here
    cliquez sur | cliquez pour | haga clic para | clicca per | klicken sie auf | нажмите чтобы
"""
_ANYWHERE = """
    click here | click to enlarge | click to view | click to zoom | click image to | add to cart | add to basket
    add to bag | add to wishlist | all rights reserved | lorem ipsum | free shipping | we use cookies
    accept cookies | accept all cookies | uses cookies | use of cookies | enable javascript | image may contain
    sign up now | subscribe now | buy it now | royalty free stock | stock photo image | in stock and ready
    subscribe to our | like and subscribe | sign up for our newsletter | link in bio
    hier klicken | klicken sie hier | alle rechte vorbehalten | in den warenkorb | cliquez ici | cliquer ici
    tous droits réservés | ajouter au panier | haga clic aquí | haz clic aquí | todos los derechos reservados
    añadir al carrito | clique aqui | todos os direitos reservados | clicca qui | tutti i diritti riservati
    нажмите здесь | все права защищены | 版权所有 | 点击查看 | 点击放大 | 加入购物车 | クリックして拡大 | 여기를 클릭
"""


def _phrases(text: str) -> tuple[str, ...]:
    """As `_key` writes a caption, so that a phrase is found by looking for a part of it."""
    parts = (part for line in text.strip().splitlines() for part in line.split("|"))
    return tuple(key(part) for part in parts)


def key(text: str) -> str:
    """A text's words in small letters, each between blanks."""
    return " " + " ".join(word.casefold() for word in words_of(text)) + " "


_WHOLE_KEYS, _OPENING_KEYS, _ANYWHERE_KEYS = frozenset(_phrases(_WHOLE)), _phrases(_OPENING), _phrases(_ANYWHERE)
_BREAK = regex.compile(r"[.!?;:|,()\[\]{}<>\n\r\t«»\u201c\u201d\"•·\u2013\u2014/\\~©]+|\s-+\s")
_IN_THE_PICTURE = """
    says say said saying reads read reading text word words written writing sign signs button buttons label labels
    labelled labeled banner banners poster posters sticker stickers screen screens page pages website webpage
    screenshot captioned printed lettering message popup display displays slogan slogans billboard inscription
    asks asking asked tells telling shows showing menu tab title titled headline
"""
_SHOWN = frozenset(words_of(_IN_THE_PICTURE))


def is_boilerplate(text: str, words: Sequence[str], phrases: Iterable[str] = ()) -> bool:
    """Whether a caption is, or holds, a stock phrase of web pages; `phrases` are further ones, looked for anywhere."""
    lowered = [word.casefold() for word in words]
    content = [word for word in lowered if word not in _FILLERS and not word.isdigit()]
    if content and set(content) <= _EMPTY_WORDS:
        return True
    whole = " " + " ".join(lowered) + " "
    if whole in _WHOLE_KEYS or any(phrase in whole for phrase in map(key, phrases)):
        return True
    found = [whole.find(phrase) for phrase in _ANYWHERE_KEYS if phrase in whole]
    found += _openings(text, whole)
    return any(not _SHOWN.intersection(whole[:place].split()) for place in found)


def _openings(text: str, whole: str) -> list[int]:
    """Where, in `whole`, parts of the caption begin with an opening phrase."""
    parts = [part for part in map(key, _BREAK.split(text)) if part.strip()]
    return [max(0, whole.find(part)) for part in parts if part.startswith(_OPENING_KEYS)]


_SCHEME = re.compile(r"\b(?:https?|ftp)://|\bwww\.\w", re.I)
_ADDRESS = re.compile(
    r"(?:[\w.+-]{1,64}@)?\b(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.){1,5}"
    r"(?:com|net|org|io|info|biz|edu|gov|eu|uk|de|fr|es|it|nl|ru|cn|jp|in|br|au|ca|us|tv|co|me|shop|store|blog|site|"
    r"online|app|dev|example)\b(?::\d{2,5})?(?:/[^\s]*)?",
    re.I,
)
_FILE_NAME = re.compile(
    r"^\W*(?:[\w\-.()]{1,200}\.(?:jpe?g|jpe|jfif|png|gif|webp|tiff?|bmp|avif|hei[cf]|svg|raw|cr2|nef|dng|psd|pdf"
    r"|mp4|m4v|mov|mkv|webm|avi|flv|mpe?g|wmv|3gp)"
    r"|(?:img|image|dsc|dscn|dscf|pxl|mvi|vid|video|mov|gopr|screenshot|screen shot|whatsapp image|p)"
    r"[-_ ]?\d{3,}[\w\-.]*"
    r"|[\w-]*\d{6,}[\w-]*)\W*$",
    re.I,
)


def is_address(text: str) -> bool:
    """Whether a caption holds an address with its scheme or www, or is for the most part an address."""
    if _SCHEME.search(text):
        return True
    inside = sum(len(found) for found in (match.group() for match in _ADDRESS.finditer(text)))
    return inside > 0.5 * len("".join(text.split()))


def is_file_name(text: str) -> bool:
    """Whether a caption is the name of a picture's or a video's file, or a camera's number."""
    return bool(_FILE_NAME.match(text))
