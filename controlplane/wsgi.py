"""WSGI entry point for granian."""

from __future__ import annotations

import os

from django.conf import settings
from django.core.wsgi import get_wsgi_application

from controlplane import embedded
from controlplane.celery import app

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")
application = get_wsgi_application()
if settings.EMBEDDED_WORKER:
    embedded.start(app)
