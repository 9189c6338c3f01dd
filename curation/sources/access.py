"""What the data of a source may name. One room decides it, for every scheme.

A manifest is its user's own and may name any place. What a table's cells say was written by strangers: an address in
them could send the user's credentials to another host, or read a file of the machine. Cells may name

    http(s) URLs                  fetched within the guard of `curation.stores.net`, without credentials
    paths and file:// URLs        in a table that lies on this machine's disks
    relative paths, objects       of the bucket or host that the table itself lies in
    s3://, gs:// and others       below a prefix that the manifest names: `source: {allow: [s3://bucket/photos/]}`

Options (`?endpoint_override=...`) are never taken from a cell, only from the table's own address or from the prefix.
"""

from collections.abc import Sequence

from curation.stores.location import WEB, parent, resolve, scheme_of, split_options


class Forbidden(ValueError):
    """A cell names what it may not; the message is the sentence for the record, with what would allow it."""


def permitted(cell: str, table: str, allow: Sequence[str] = ()) -> str:
    """The address that a cell of `table` stands for. Raises Forbidden.

    cell   a path, relative or absolute, or a URL
    table  the table's path or URL, as the manifest's source leads to it
    allow  prefixes, with their own options, below which cells may name objects
    """
    scheme, home = scheme_of(cell), scheme_of(table)
    if scheme in WEB:
        return cell
    if home in ("", "file"):
        if not scheme or scheme == "file":
            return resolve(parent(table), cell)
    elif not scheme and not cell.startswith("/"):
        return resolve(parent(table), cell)
    elif not scheme or scheme == "file":
        raise Forbidden(f"{cell[:300]} is a file of this machine, which a table at {home}:// may not name")
    head, options = split_options(cell)
    if options not in ("", "?"):
        raise Forbidden(f"{cell[:300]} has options behind a ?, which an address in a table may not have")
    for prefix in (*_own(table), *allow):
        start, own_options = split_options(prefix)
        if _below(head, start):
            return head + (own_options or options)
    bucket = f"{scheme}://{head.partition('://')[2].partition('/')[0]}/"
    raise Forbidden(
        f"{cell[:300]} is not of the place that the table lies in; `source: {{allow: [{bucket[:200]}]}}` would allow it"
    )


def _own(table: str) -> list[str]:
    """The bucket or host of a table, as a prefix with the table's options."""
    if scheme_of(table) in ("", "file", *WEB):
        return []
    head, options = split_options(table)
    scheme, _, rest = head.partition("://")
    return [f"{scheme}://{rest.partition('/')[0]}/{options}"]


def _below(address: str, prefix: str) -> bool:
    """Whether an address lies below a prefix: of equal scheme and bucket, and without a `..` that leads out of it."""
    scheme, _, path = address.partition("://")
    wanted, _, start = prefix.partition("://")
    same = scheme.lower() == wanted.lower() and (path.startswith(start) or path == start.rstrip("/"))
    return same and ".." not in path.split("/")
