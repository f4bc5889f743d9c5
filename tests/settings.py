"""Settings of the test suite: throw-away keys, tasks run where they are called. Databases come from the environment."""

import atexit
import os
import shutil
import tempfile

_state = tempfile.mkdtemp(prefix="sallyport-tests-")
atexit.register(shutil.rmtree, _state, ignore_errors=True)
for _name, _value in {
    "SECRET_KEY": "tests-only",
    "SEAL_KEY": "11" * 32,
    "AUTHORITY_SEAL_KEY": "22" * 32,
    "EDGE_TOKEN": "edge-token-for-tests",
    "ACCESS_DOMAIN": "access.example.test",
    "TUNNEL_DOMAIN": "tunnel.example.test",
    "DASHBOARD_URL": "http://testserver",
    "DASHBOARD_HOSTS": "testserver,localhost",
    "STATE_DIR": _state,
    "DATABASE_URL": f"sqlite:///{_state}/tests.sqlite3",
    "EMBEDDED_WORKER": "false",
    "UNVERIFIED_ZONE_SUFFIX": "localhost",
    # Most tests sign staff in by password; accounts/test_staff_factor.py is about the setting itself.
    "STAFF_REQUIRES_MFA": "false",
}.items():
    os.environ.setdefault(_name, _value)

from controlplane import memory_broker  # noqa: E402
from controlplane.settings import *  # noqa: E402, F403

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
# Each test client builds the middleware anew, and WhiteNoise would list all static files each time.
WHITENOISE_AUTOREFRESH = True
CELERY_TASK_ALWAYS_EAGER = True
CELERY_TASK_STORE_EAGER_RESULT = True
CELERY_RESULT_BACKEND = "cache+memory://"
CELERY_BROKER_URL = f"{memory_broker.NAME}://"
LOGGING["root"]["level"] = "CRITICAL"  # type: ignore[index] # noqa: F405
if "sqlite3" in str(DATABASES["default"]["ENGINE"]):  # noqa: F405
    # A file as in production, not SQLite's shared memory: threads of concurrency tests then wait for locks properly.
    DATABASES["default"]["TEST"] = {"NAME": f"{_state}/test.sqlite3"}  # type: ignore[index] # noqa: F405
if REDIS_URL:  # noqa: F405
    # Tests clear the cache at their start: each parallel worker needs a Redis database of its own for that.
    _worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    CACHES["default"]["LOCATION"] = f"{REDIS_URL.rpartition('/')[0]}/{1 + _worker % 15}"  # noqa: F405
