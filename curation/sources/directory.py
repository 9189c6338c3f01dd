"""`folder:` and `webdataset:`: what kind of source a folder is, by what lies in it.

A folder of pictures and videos is read as it is, and so is one of tars, or of Parquet files with pictures in a column:
the three formats that img2dataset and video2dataset leave behind, under either word of the manifest.
"""

from curation.errors import UsageError
from curation.manifest import SourceSection
from curation.sources.base import Source
from curation.sources.files import file_info, files_below, is_folder
from curation.sources.folder import Folder
from curation.sources.kinds import MEDIA
from curation.sources.table import Table, known_columns
from curation.sources.webdataset import WebDataset, tar_files
from curation.stores.location import resolve


def open_media(section: SourceSection, base: str) -> Source:
    """The source that `folder:` or `webdataset:` names. Raises UsageError for what is empty or not there to be read."""
    word = "folder" if section.folder else "webdataset"
    location = resolve(base, str(section.folder or section.webdataset))
    if section.webdataset and not is_folder(location):
        return _tars(location, section)
    if not is_folder(location):
        is_file = file_info(location).is_file
        hint = "; a tar is named by webdataset:, a table by table:" if is_file else ", or does not exist"
        raise UsageError(f"source: folder: {location} is not a folder{hint}")
    folder = Folder(location, section.caption, section.key, section.clips)
    if section.folder and not folder.is_empty():
        return folder
    if next(tar_files(location), None) is not None:
        return _tars(location, section)
    return _parquet(location, section, word) if folder.is_empty() else folder


def _tars(location: str, section: SourceSection) -> WebDataset:
    found = WebDataset(location, section.caption, section.key, section.clips)
    found.check()
    return found


def _parquet(location: str, section: SourceSection, word: str) -> Table:
    """A folder's Parquet files as img2dataset writes them: bytes in a column that is named as their extension."""
    files = files_below(location)
    if not files:
        raise UsageError(f"source: {word}: the folder {location} is empty")
    tables = [path for path in files if path.lower().endswith(".parquet")]
    columns = known_columns(resolve(location, tables[0])) if tables else []
    media = next((column for column in columns if column in MEDIA), None)
    if media is None:
        shown = ", ".join(files[:5])
        hint = "; a table is named by table:" if tables else ""
        raise UsageError(
            f"source: {word}: there is no picture, video or tar in the folder {location}: it has {shown}{hint}"
        )
    caption = section.caption or next((column for column in ("caption", "txt") if column in columns), None)
    key = section.key or ("key" if "key" in columns else None)
    table = Table(location, media, caption, key, section.clips)
    table.check()
    return table
