"""What setup.cfg can't say; the rest stands there."""

from __future__ import annotations

import os
import re
from pathlib import Path

from setuptools import find_packages, setup

# The address of the repository, such as https://host/owner/name. It is not known yet: write it here when it is.
REPOSITORY = os.environ.get("EVENTSTORE_REPOSITORY", "")

README = (Path(__file__).parent / "README.md").read_text(encoding="utf-8")
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)")
"""Where the target of a relative link starts, in Markdown."""

setup(
    # setup.cfg's own `license` ends as free text, not as the SPDX expression that tools read
    license_expression="Apache-2.0",
    # `packages = find:` can't name eventstore.sql, which is the folder sql/; a list by hand would drop a new subpackage
    packages=[*find_packages(include=["eventstore", "eventstore.*"]), "eventstore.sql"],
    # on a package index, relative links lead nowhere
    long_description=LINK.sub(f"{REPOSITORY}/blob/HEAD/", README) if REPOSITORY else README,
    project_urls={
        "Source": REPOSITORY,
        "Documentation": f"{REPOSITORY}/tree/HEAD/docs",
        "Changes": f"{REPOSITORY}/blob/HEAD/CHANGELOG.md",
        "Issues": f"{REPOSITORY}/issues",
    }
    if REPOSITORY
    else {},
)
