"""An app. To import it makes the Django project that it is in."""

from __future__ import annotations

import django
from django.conf import settings
from psycopg import IsolationLevel

POSTGRESQL = {"ENGINE": "django.db.backends.postgresql"}

# fixtures.py says where these databases are.
settings.configure(
    SECRET_KEY="secret",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF="parcels.urls",
    STATIC_URL="static/",
    USE_TZ=True,
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=[
        "django.contrib.contenttypes",
        "django.contrib.auth",
        "django.contrib.sessions",
        "django.contrib.messages",
        "django.contrib.staticfiles",
        "django.contrib.admin",
        "eventstore.contrib.django",
        "parcels",
    ],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ],
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "APP_DIRS": True,
            "OPTIONS": {
                "context_processors": [
                    "django.template.context_processors.request",
                    "django.contrib.auth.context_processors.auth",
                    "django.contrib.messages.context_processors.messages",
                ]
            },
        }
    ],
    DATABASES={
        "default": {**POSTGRESQL},
        "pooled": {**POSTGRESQL, "OPTIONS": {"pool": {"min_size": 1, "max_size": 4}}},
        "server_side": {**POSTGRESQL, "OPTIONS": {"server_side_binding": True}},
        "repeatable": {**POSTGRESQL, "OPTIONS": {"isolation_level": IsolationLevel.REPEATABLE_READ}},
        "sqlite": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
    },
    EVENTSTORE_SCHEMA="Event's store",
)
django.setup()
