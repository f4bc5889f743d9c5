"""Django settings, read from the environment only. docs/configuration.md lists every variable (a test compares)."""

from __future__ import annotations

from pathlib import Path

from controlplane import env, memory_broker

BASE_DIR = Path(__file__).resolve().parent.parent

# --- Secrets and identity of this installation -------------------------------------------------------------
DEBUG = env.boolean("DEBUG", False)
SECRET_KEY = env.secret("SECRET_KEY")
SECRET_KEY_FALLBACKS = env.words("SECRET_KEY_FALLBACKS")
# Seals what the web process must read back: identity provider secrets, token keys, derived tunnel tokens.
SEAL_KEY = env.key_bytes("SEAL_KEY")
# Seals SSH authority keys. Only workers need it; a web process of a split installation leaves it empty.
AUTHORITY_SEAL_KEY = env.key_bytes("AUTHORITY_SEAL_KEY", "")
# Bearer secret shared by the edges and the control plane.
EDGE_TOKEN = env.secret("EDGE_TOKEN")

# --- Names and addresses --------------------------------------------------------------------------------------
ACCESS_DOMAIN = env.text("ACCESS_DOMAIN").lower()
TUNNEL_DOMAIN = env.text("TUNNEL_DOMAIN").lower()
EDGE_PUBLIC_PORT = env.integer("EDGE_PUBLIC_PORT", 443, minimum=1, maximum=65535)
DASHBOARD_URL = env.text("DASHBOARD_URL").rstrip("/")
DASHBOARD_HOSTS = [host.lower() for host in env.words("DASHBOARD_HOSTS", "localhost,127.0.0.1")]
# What connectors dial, shown in install commands.
TUNNEL_EDGES = env.words("TUNNEL_EDGES", f"{TUNNEL_DOMAIN}:7844")
EDGE_CA_FILE = env.text("EDGE_CA_FILE", "")
EDGE_ADDRESS = env.text("EDGE_ADDRESS", "")
GEOIP_DATABASE = env.text("GEOIP_DATABASE", "")
DNS_RESOLVERS = env.words("DNS_RESOLVERS")
# Zones below this suffix need no proof of ownership (a laptop's own *.localhost); empty = every zone is proved.
UNVERIFIED_ZONE_SUFFIX = env.text("UNVERIFIED_ZONE_SUFFIX", "").lower()
# OIDC endpoints on private addresses are refused unless their host:port is listed here.
FETCH_ALLOWED_PRIVATE_HOSTS = env.words("FETCH_ALLOWED_PRIVATE_HOSTS")
STATE_DIR = Path(env.text("STATE_DIR", str(BASE_DIR / "var")))
# While this file exists, /healthz says 503: `make run` has not started everything yet.
STARTING_FILE = env.text("STARTING_FILE", "")

# The host of a request is checked by controlplane.middleware.HostGuard: dashboard hosts, team domains and
# application hosts known to the database. Django's static list cannot know tenants' hostnames.
ALLOWED_HOSTS = ["*"]
TRANSFER_HOSTS = [host.lower() for host in env.words("TRANSFER_HOSTS", f"login.{ACCESS_DOMAIN}")]

# --- Applications -------------------------------------------------------------------------------------------
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "django_htmx",
    "controlplane",
    "tunnels",
    "access",
    "accounts",
]
MIDDLEWARE = [
    "controlplane.middleware.HostGuard",
    "controlplane.middleware.SecurityHeaders",
    "controlplane.static_files.CompressedStatic",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "controlplane.middleware.MachineShortcut",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "controlplane.middleware.ViewersZone",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "controlplane.middleware.DomainErrors",
]
ROOT_URLCONF = "controlplane.urls"
WSGI_APPLICATION = "controlplane.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "controlplane.context.navigation",
            ],
        },
    },
]

# --- Data -----------------------------------------------------------------------------------------------------
DATABASES = {"default": env.database("DATABASE_URL", f"sqlite:///{STATE_DIR / 'sallyport.sqlite3'}")}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
REDIS_URL = env.secret("REDIS_URL", "")
CACHES: dict[str, dict[str, object]] = {
    "default": (
        {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS_URL}
        if REDIS_URL
        # Counters and one-time numbers live here too: Django's default of 300 entries would forget them.
        else {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "OPTIONS": {"MAX_ENTRIES": 100_000}}
    )
}

# --- Celery: Redis when given, otherwise one process with kombu's in-memory broker ------------------------
EMBEDDED_WORKER = env.boolean("EMBEDDED_WORKER", not REDIS_URL)
CELERY_BROKER_URL = REDIS_URL or f"{memory_broker.NAME}://"
CELERY_RESULT_BACKEND = REDIS_URL or "cache+memory://"
CELERY_BROKER_TRANSPORT_OPTIONS: dict[str, object] = (
    {"visibility_timeout": 60, "socket_timeout": 5, "socket_connect_timeout": 2} if REDIS_URL else {}
)
CELERY_TASK_SERIALIZER = "json"
CELERY_RESULT_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_RESULT_EXPIRES = 60
CELERY_TASK_ACKS_LATE = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_SEND_SENT_EVENT = False
CELERY_WORKER_SEND_TASK_EVENTS = False
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_TASK_ROUTES = {"access.signing.*": {"queue": "signing"}}
CELERY_TASK_PUBLISH_RETRY_POLICY = {"max_retries": 2, "interval_start": 0.1, "interval_step": 0.2, "interval_max": 0.5}
CELERY_TIMEZONE = "UTC"
# How long a request waits for its certificate before it answers 503 with Retry-After.
# Requests for certificates per minute; 0: no limit.
SIGNING_LIMIT_PER_IDENTITY = env.integer("SIGNING_LIMIT_PER_IDENTITY", 120, maximum=1_000_000)
SIGNING_LIMIT_PER_ORGANIZATION = env.integer("SIGNING_LIMIT_PER_ORGANIZATION", 3000, maximum=1_000_000)
SIGNING_WAIT_SECONDS = env.integer("SIGNING_WAIT_SECONDS", 5, minimum=1, maximum=9)

# --- Mail -----------------------------------------------------------------------------------------------------
MAIL_DIR = env.text("MAIL_DIR", "")
EMAIL_BACKEND = (
    "django.core.mail.backends.filebased.EmailBackend" if MAIL_DIR else "django.core.mail.backends.smtp.EmailBackend"
)
EMAIL_FILE_PATH = MAIL_DIR or None
EMAIL_HOST = env.text("SMTP_HOST", "localhost")
EMAIL_PORT = env.integer("SMTP_PORT", 25, minimum=1, maximum=65535)
EMAIL_HOST_USER = env.text("SMTP_USER", "")
EMAIL_HOST_PASSWORD = env.secret("SMTP_PASSWORD", "")
EMAIL_USE_TLS = env.boolean("SMTP_STARTTLS", False)
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = env.text("MAIL_FROM", f"sallyport@{ACCESS_DOMAIN}")

# --- Dashboard login (django-allauth) ---------------------------------------------------------------------
AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*", "password2*"]
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_EMAIL_VERIFICATION = "optional"
ACCOUNT_ADAPTER = "accounts.allauth_adapter.DashboardAdapter"
ACCOUNT_LOGOUT_ON_GET = False
# Whoever did not change a password or second factor themselves learns that somebody else did.
ACCOUNT_EMAIL_NOTIFICATIONS = True
ACCOUNT_EMAIL_SUBJECT_PREFIX = "Sallyport: "
ACCOUNT_RATE_LIMITS = {"login": "30/m/ip", "login_failed": "10/m/ip,5/5m/key"}
# As for people of teams: one step to either side, for clocks that differ (RFC 6238 section 5.2).
MFA_TOTP_TOLERANCE = 1
MFA_ADAPTER = "accounts.allauth_adapter.SealedMfaAdapter"
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
# Nobody signs up with a foreign address: accounts come from an opened invitation or from the operator's command.
MFA_ALLOW_UNVERIFIED_EMAIL = True
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_TOTP_ISSUER = "Sallyport"
# accounts/staff_factor.py
STAFF_REQUIRES_MFA = env.boolean("STAFF_REQUIRES_MFA", True)
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "account_login"

# --- Web ------------------------------------------------------------------------------------------------------
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-us"
STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "controlplane" / "static"]
STATIC_ROOT = None
# Files are found once at start and served from memory; there is no collectstatic step.
WHITENOISE_USE_FINDERS = True
_HTTPS_DASHBOARD = DASHBOARD_URL.startswith("https://")
SESSION_COOKIE_NAME = "sallyport_session"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _HTTPS_DASHBOARD
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_AGE = 12 * 3600
CSRF_COOKIE_HTTPONLY = True
CSRF_FAILURE_VIEW = "controlplane.views.csrf_failure"
FORM_RENDERER = "controlplane.quick_forms.QuickForms"
X_FRAME_OPTIONS = "DENY"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
# The edge terminates TLS and sets this header; HostGuard removes it from anybody else.
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
DATA_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024
DATA_UPLOAD_MAX_NUMBER_FIELDS = 2000
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "controlplane.logs.JsonFormatter"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
    "root": {"handlers": ["stderr"], "level": env.text("LOG_LEVEL", "INFO")},
    "loggers": {
        "django.request": {"level": "ERROR"},
        "django.security": {"level": "ERROR"},
        "celery": {"level": "WARNING"},
        "kombu": {"level": "WARNING"},
    },
}
