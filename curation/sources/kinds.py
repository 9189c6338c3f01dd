"""What a file is, by the last extension of its name, whatever its case."""

# fmt: off
IMAGES = frozenset(
    (
        "jpg", "jpeg", "jpe", "jfif", "png", "apng", "webp", "gif", "bmp", "dib", "tif", "tiff",
        "avif", "avifs", "heic", "heif", "jxl", "jp2", "j2k", "jpx", "ppm", "pgm", "pbm", "pnm",
        "ico", "icns", "cur", "tga", "pcx", "sgi", "ras", "xbm", "xpm", "qoi", "dds", "psd", "xcf", "eps", "svg",
        "exr", "hdr", "mpo", "jps", "fli", "flc", "jxr", "dng", "cr2", "nef", "arw", "raw",
    )
)
VIDEOS = frozenset(
    (
        "mp4", "webm", "mkv", "mov", "avi", "m4v", "ogv", "ts", "mpg", "mpeg", "wmv", "flv",
    )
)
TEXTS = frozenset(
    (
        "txt", "text", "caption", "json", "cls", "cls2", "index", "inx", "id", "csv", "tsv", "html",
        "xml", "yaml", "yml", "md", "url",
    )
)
# fmt: on
MEDIA = IMAGES | VIDEOS


def extension_of(name: str) -> str:
    """What follows the last dot of a file's name, in lower case; "" where there is no dot."""
    return name.rpartition("/")[2].rpartition(".")[2].lower() if "." in name.rpartition("/")[2] else ""


def stem_of(name: str) -> str:
    """A file's name, with its folders, without its last dot and what follows."""
    extension = extension_of(name)
    return name[: -len(name.rpartition(".")[2]) - 1] if extension or name.endswith(".") else name
