"""README and docs/: links lead somewhere, commands and make targets exist, manifests in them are valid YAML."""

import re
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from curation.cli import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "docker" / "README.md", *sorted(ROOT.glob("docs/*.md"))]
COMMANDS = set(get_command(app).commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_names_only_what_exists(page: Path) -> None:
    text = page.read_text()
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / link).exists(), link
    assert set(re.findall(r"`?curate ([a-z][a-z-]*)", text)) <= COMMANDS
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.M)) <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_manifests_in_a_page_are_yaml_with_known_sections(page: Path) -> None:
    from curation.manifest import Manifest

    for block in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.S):
        assert set(yaml.safe_load(block)) <= set(Manifest.model_fields), block


def test_every_page_is_linked_from_the_readme() -> None:
    text = (ROOT / "README.md").read_text()
    assert [page.name for page in PAGES if page.parent.name == "docs" and f"docs/{page.name}" not in text] == []
