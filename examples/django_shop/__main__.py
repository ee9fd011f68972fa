"""``python examples/django_shop``: a database, the worker of the read model, and gunicorn; all until Ctrl-C or SIGTERM.

curl -X POST localhost:8000/orders --json '{"items": ["teapot"]}' -H "Idempotency-Key: my first order"
curl localhost:8000/orders

The admin is at http://localhost:8000/admin/, for admin with the password admin.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import django
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connections

from eventstore.postgres.embedded import EmbeddedServer


def main() -> None:
    def run(*command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, *command], cwd=Path(__file__).parent)  # noqa: S603 our own

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with EmbeddedServer() as server:
        os.environ |= {"DJANGO_SETTINGS_MODULE": "shop.settings", "SHOP_DSN": server.dsn}
        django.setup()
        call_command("migrate", verbosity=0)
        get_user_model().objects.create_superuser("admin", password="admin")  # noqa: S106 as said above
        connections.close_all()
        bind = os.environ.get("BIND", "127.0.0.1:8000")
        programs = [
            run("manage.py", "eventstore", "run"),
            run("-m", "gunicorn", "--bind", bind, "--workers", "2", "--threads", "8", "shop.wsgi"),
        ]
        try:
            programs[-1].wait()
        except KeyboardInterrupt:
            pass
        finally:
            for program in programs:
                program.terminate()
            for program in programs:
                program.wait()


if __name__ == "__main__":
    main()
