"""`a2a schema export`: the protocol's JSON Schemas, as files."""

from __future__ import annotations

from pathlib import Path

import click

from ..engine.record_schemas import export_records
from ..protocol.schemas import export as export_schemas
from ..protocol.schemas import to_text
from .exits import Failure
from .groups import Group
from .output import Output

__all__ = ["schema"]


@click.group(cls=Group)
def schema() -> None:
    """Write the protocol's JSON Schemas."""


@schema.command()
@click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write each to a file in this directory.",
)
@click.option(
    "--check", is_flag=True, help="Write nothing; fail if a file in --dir differs from what would be written."
)
@click.option("--records", "is_records", is_flag=True, help="Write the schemas of the ledger's records instead.")
@click.option("--quiet", "-q", "is_quiet", is_flag=True, help="Print only errors.")
def export(directory: Path | None, check: bool, is_records: bool, is_quiet: bool) -> None:
    """Write the JSON Schema of each kind of frame; without --dir all of them as one JSON object to stdout."""
    out = Output(is_quiet=is_quiet)
    schemas = export_records() if is_records else export_schemas()
    hint = "a2a schema export --records" if is_records else "a2a schema export"
    if directory is None:
        if check:
            raise click.UsageError("--check needs --dir")
        out.record(schemas)
        return
    texts = {name: to_text(content) for name, content in schemas.items()}
    there = {path.name: path.read_text("utf-8") for path in directory.glob("*.json")} if directory.is_dir() else {}
    differing = sorted(name for name in texts.keys() | there.keys() if texts.get(name) != there.get(name))
    if check:
        if differing:
            raise Failure(f"{directory}: differs from the code: {', '.join(differing)} ({hint} --dir)")
        out.note(f"{directory}: {len(texts)} schemas match the code")
        return
    directory.mkdir(parents=True, exist_ok=True)
    written = [name for name in differing if name in texts]
    for name in written:
        (directory / name).write_text(texts[name], encoding="utf-8")
    out.note(f"{directory}: {len(texts)} schemas, {len(written)} written")
    foreign = [name for name in differing if name not in texts]
    if foreign:
        out.note(f"{directory}: not schemas of the protocol, and left in place: {', '.join(foreign)}")
