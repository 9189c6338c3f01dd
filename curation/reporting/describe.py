"""What stages there are, told from the classes themselves; the manifest's JSON schema."""

import inspect
from typing import Any

from rich.markup import escape
from rich.table import Table

from curation import catalog
from curation.manifest import Manifest
from curation.models import ROLES
from curation.progress import console
from curation.stage import Params, Stage


def _summary(stage: type[Stage]) -> str:
    return (stage.__doc__ or "").strip().split("\n")[0]


def list_stages() -> None:
    """Print every stage with its columns and one line of what it is."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("stage", "writes", ""):
        table.add_column(heading)
    for stage in catalog.every():
        table.add_row(stage.name, ", ".join(stage.writes), _summary(stage))
    console().print(table)


def show_stage(name: str) -> None:
    """Print one stage: text, params with defaults, columns with types, what it reads, its model."""
    stage = catalog.find(name)
    out = console()
    out.print(f"[bold]{stage.name}[/bold] (version {stage.version})")
    out.print((inspect.getdoc(stage) or "") + "\n", markup=False)
    out.print(_params(stage))
    out.print(_columns(stage))
    if not stage.role:
        _print_needs(stage, stage.Params(), "")
    else:
        role = ROLES[stage.role]
        chosen = {word: stage.Params.model_validate({"model": word}) for word in ("embedded", "production")}
        same = len({(stage.reads_with(p), stage.resources_with(p)) for p in chosen.values()}) == 1
        for word, params in list(chosen.items())[: 1 if same else 2]:
            _print_needs(stage, params, "" if same else f"   ({word})")
        out.print(
            f"model      role {stage.role}: embedded = {role.embedded}, production = {role.production}; "
            f"backends {', '.join(role.backends)}"
        )


def _print_needs(stage: type[Stage], params: Params, note: str) -> None:
    out = console()
    out.print(f"reads      {', '.join(stage.reads_with(params))}{note}", markup=False)
    out.print(f"resources  {stage.resources_with(params)}{note}", markup=False)


def _params(stage: type[Stage]) -> Table:
    table = Table("param", "type", "default", "meaning", box=None, pad_edge=False, header_style="bold")
    table.add_row("keep", "str", "-", "gate: records that fail it are dropped and not sent to later stages")
    table.add_row("when", "str", "-", "condition: other records skip this stage")
    for name, param in stage.Params.model_fields.items():
        kind = getattr(param.annotation, "__name__", str(param.annotation))
        table.add_row(name, kind, repr(param.default), escape(param.description or ""))
    return table


def _columns(stage: type[Stage]) -> Table:
    table = Table("column", "type", "meaning", box=None, pad_edge=False, header_style="bold")
    for name, column in stage.writes.items():
        table.add_row(name, str(column.type), escape(column.doc))
    return table


def manifest_schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of a manifest; `score:` lists every stage that ships with its params."""
    schema = Manifest.model_json_schema(mode="validation")
    stages = catalog.every()
    lines: list[dict[str, Any]] = [{"enum": [stage.name for stage in stages]}]
    for stage in stages:
        params = stage.Params.model_json_schema()
        definitions = params.pop("$defs", {})
        schema.setdefault("$defs", {}).update(definitions)
        params.setdefault("properties", {}).update({"keep": {"type": "string"}, "when": {"type": "string"}})
        params["description"] = _summary(stage)
        lines.append(
            {
                "type": "object",
                "properties": {stage.name: params},
                "required": [stage.name],
                "additionalProperties": False,
            }
        )
    own = {
        "type": "object",
        "patternProperties": {"^[\\w.]+:\\w+$": {"type": ["object", "null"]}},
        "additionalProperties": False,
    }
    schema["properties"]["score"] = {"type": "array", "items": {"anyOf": [*lines, own]}}
    for name in ("keep", "duplicates", "caps"):
        item = schema["$defs"]["SelectSection"]["properties"][name]
        item_schema = item.get("items", {})
        words = [{"enum": ["exact", "near"]}] if name == "duplicates" else []
        schema["$defs"]["SelectSection"]["properties"][name] = {"anyOf": [item, item_schema, *words]}
        if words:
            schema["$defs"]["SelectSection"]["properties"][name]["anyOf"][0] = {
                "type": "array",
                "items": {"anyOf": [item_schema, *words]},
            }
    source = schema["properties"]["source"]
    schema["properties"]["source"] = {"anyOf": [source, source["items"]]}
    return schema
