"""``python -m parcels ...``: the project's manage.py, on the database that PARCELS_DSN names."""

from __future__ import annotations

import os

from django.core.management import execute_from_command_line
from django.db import connections
from psycopg.conninfo import conninfo_to_dict

import parcels  # noqa: F401 makes the project

server = conninfo_to_dict(os.environ["PARCELS_DSN"])
connections.settings["default"].update(
    {name.upper(): str(server.get(name, "")) for name in ("user", "password", "host", "port")}, NAME=server["dbname"]
)
execute_from_command_line()
