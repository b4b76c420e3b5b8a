"""Settings, all from the environment through ``parka.env``; defaults are the embedded one-machine form."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from csp.constants import NONE, SELF

from parka import env
from parka_agent import logs

HOME = env.home()
ROOT = Path(__file__).resolve().parents[2]
PACKAGE = Path(__file__).resolve().parent


def packaged(name: str) -> Path:
    """A top-level folder in a checkout; its copy inside the package in an installed wheel."""
    checkout = ROOT / name
    return checkout if (ROOT / "manage.py").is_file() else PACKAGE / f"_{name}"


def kept_secret(name: str) -> str:
    """The configured secret, else one made at first use and kept in a file of mode 0600."""
    configured = env.read(name)
    if configured:
        return configured
    path = HOME / "secrets" / name.lower()
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(48))
    return path.read_text()


def database(url: str) -> dict[str, Any]:
    """Django's database settings for ``sqlite:///path`` or ``postgresql://user:pw@host:port/name``."""
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        pragmas = "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON;"
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": unquote(parts.path),
            "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20, "init_command": pragmas},
            "TEST": {"NAME": unquote(parts.path) + ".test"},
        }
    query = dict(parse_qsl(parts.query))
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.path.lstrip("/"),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname or query.get("host", ""),
        "PORT": parts.port or "",
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {"options": "-c statement_timeout=15000 -c idle_in_transaction_session_timeout=30000"},
    }


def broker_url(redis_url: str) -> str:
    """Kombu's spelling of a Redis URL: a unix socket is ``redis+socket`` with ``virtual_host``."""
    parts = urlsplit(redis_url)
    if parts.scheme != "unix":
        return redis_url
    number = dict(parse_qsl(parts.query)).get("db", "0")
    return f"redis+socket://{parts.netloc}{parts.path}?virtual_host={number}"


DEBUG = env.flag("PARKA_DEBUG")
SECRET_KEY = kept_secret("SECRET_KEY")
URL_SIGNING_KEY = kept_secret("URL_SIGNING_KEY")
URL_SIGNING_KEY_FALLBACKS = env.words("URL_SIGNING_KEY_FALLBACKS")
PUBLIC_URL = env.read("PARKA_PUBLIC_URL", "http://127.0.0.1:8000").rstrip("/")
HTTPS = PUBLIC_URL.startswith("https://")
ALLOWED_HOSTS = env.words("PARKA_ALLOWED_HOSTS") or [urlsplit(PUBLIC_URL).hostname or "127.0.0.1", "127.0.0.1", "localhost"]
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL]
CSRF_FAILURE_VIEW = "parka.dashboard.views.errors.form_expired"
PROXY_COUNT = env.number("PARKA_PROXY_COUNT", 0)

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "allauth",
    "allauth.account",
    "csp",
    "django_htmx",
    "django_tables2",
    "django_filters",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "parka.core",
    "parka.audit",
    "parka.accounts",
    "parka.registry",
    "parka.fleet",
    "parka.experiments",
    "parka.scorecards",
    "parka.workflow",
    "parka.api",
    "parka.dashboard",
    "parka.embedded",
]
MIDDLEWARE = [
    "parka.api.middleware.api_edge",
    "django.middleware.security.SecurityMiddleware",
    "servestatic.middleware.ServeStaticMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "parka.accounts.sessions.SessionLimits",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]
ROOT_URLCONF = "parka.urls"
ASGI_APPLICATION = "parka.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [packaged("templates")],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
DATABASES = {"default": database(env.read("DATABASE_URL") or f"sqlite:///{HOME / 'db.sqlite3'}")}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = env.read("REDIS_URL", "redis://127.0.0.1:6379/0")
CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": env.read("CACHE_URL") or REDIS_URL}}
BROKER_URL = env.read("BROKER_URL") or broker_url(REDIS_URL)
EMBEDDED = env.flag("PARKA_EMBEDDED")
MIN_SANDBOX_LEVEL = env.read("PARKA_MIN_SANDBOX_LEVEL") or ("C" if EMBEDDED else "B")
BLOB_ROOT = Path(env.read("PARKA_BLOB_ROOT") or HOME / "blobs")
SPOOL_ROOT = Path(env.read("PARKA_SPOOL_ROOT") or HOME / "spool")

AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
ACCOUNT_ADAPTER = "parka.accounts.adapter.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*", "password2*"]
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_PREVENT_ENUMERATION = True
ACCOUNT_RATE_LIMITS = {"login_failed": "5/5m/ip,5/5m/key", "login": "30/m/ip"}
ACCOUNT_SESSION_REMEMBER = True
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "/"
SESSION_COOKIE_AGE = 14 * 24 * 3600
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SESSION_COOKIE_NAME = "__Host-parka" if HTTPS else "parka"
EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"

SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if PROXY_COUNT else None
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:", "blob:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "worker-src": [SELF],
        "object-src": [NONE],
        "base-uri": [NONE],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    }
}
STATIC_URL = "/static/"
STATIC_ROOT = Path(env.read("PARKA_STATIC_ROOT") or HOME / "static")
STATICFILES_DIRS = [packaged("static")]
# Compressing takes most of a minute and gains nothing on loopback.
STATIC_STORAGE = (
    "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"
    if EMBEDDED
    else "servestatic.storage.CompressedManifestStaticFilesStorage"
)
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": str(BLOB_ROOT)}},
    "staticfiles": {"BACKEND": STATIC_STORAGE},
}
DATA_UPLOAD_MAX_MEMORY_SIZE = 4 * 2**20
FILE_UPLOAD_TEMP_DIR = None
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
USE_I18N = False

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "parka.api.authentication.TokenAuthentication",
        "parka.api.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_PAGINATION_CLASS": "parka.api.pagination.Cursor",
    "EXCEPTION_HANDLER": "parka.api.problems.exception_handler",
    "PAGE_SIZE": 50,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Parka",
    "DESCRIPTION": (
        "All that the dashboard can do. An API token is bound to one team; a browser session of a person in several teams names one in "
        "`Parka-Team`. Errors are `application/problem+json` (RFC 9457) with a stable `code`. Lists are cursor pages `{items, next, "
        "previous}`; totals are at `/count`. A `POST` with `Idempotency-Key` is carried out once. Times are RFC 3339 in UTC, units are in "
        "the names. Limits: 600 requests a minute per token (`RateLimit`, `Retry-After`)."
    ),
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "ENUM_NAME_OVERRIDES": {
        "IntakeEnum": "parka.registry.models.Intake",
        "ArtifactRoleEnum": "parka.registry.models.ArtifactRole",
        "RoleEnum": "parka.accounts.models.Role",
        "AgentStateEnum": "parka.fleet.models.AgentState",
        "RunKindEnum": "parka.experiments.models.RunKind",
        "EventKindEnum": "parka.workflow.events.EventKind",
    },
    "POSTPROCESSING_HOOKS": ["drf_spectacular.hooks.postprocess_schema_enums", "parka.api.schema.complete"],
}

LOGGING_CONFIG = "parka.settings.configure_logging"
LOGGING = {"level": env.read("PARKA_LOG_LEVEL", "INFO")}


def configure_logging(options: dict[str, str]) -> None:
    """Django's hook: structured lines instead of its own format."""
    logs.configure(options["level"])
