"""What setup.cfg can't say; the rest stands there."""

from __future__ import annotations

from setuptools import find_packages, setup

setup(
    # setup.cfg's own `license` ends as free text, not as the SPDX expression that tools read
    license_expression="Apache-2.0",
    # `packages = find:` can't name eventstore.sql, which is the folder sql/; a list by hand would drop a new subpackage
    packages=[*find_packages(include=["eventstore", "eventstore.*"]), "eventstore.sql"],
)
