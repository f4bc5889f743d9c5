"""Django admin for support staff: every model read-only, secrets left out, buttons that call the same actions.

Rows of an organization are there only in a support session of the staff member in it, and each page with them is
written into that organization's audit log; so is what a button does. Staff sign in where members do (allauth, with its
second factor).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from allauth.account.decorators import secure_admin_login
from django.contrib import admin, messages
from django.db import transaction
from django.db.models import Field, Model, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from accounts.actions.support import record_support_page
from accounts.actor import Actor, ActorKind
from accounts.errors import DomainError
from accounts.models import Membership, SupportSession, User
from accounts.staff_factor import guard_admin

ModelT = TypeVar("ModelT", bound=Model)
# Columns whose name holds one of these never leave the database, sealed and hashed ones included.
SECRET_PARTS = ("sealed", "sha256", "secret", "password", "pin_hash", "nonce", "verification_token", "token_generation")
_SECRET_COLUMNS = {
    "JobFailure": ("arguments",),
    "Organization": ("settings",),
    "Transfer": ("body", "service_public_key"),
    "HandOver": ("redirect_path",),
    "ProviderTest": ("result",),
}

admin.site.site_header = "Sallyport support"
admin.site.site_title = "Sallyport support"
admin.site.index_title = "Rows of the installation"
# A list of all tables beside each table would leave it half the page.
admin.site.enable_nav_sidebar = False
# The admin's own login form knows no second factor and no rate limit.
admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]
guard_admin()


if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Any]
else:  # not generic at run time
    _ModelAdmin = admin.ModelAdmin


class ReadOnlyAdmin(_ModelAdmin):
    """Looks at everything but secrets, changes nothing. Staff need no per-model permissions for looking."""

    list_per_page = 50
    show_full_result_count = False
    actions_on_bottom = True

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return [field.name for field in self.model._meta.fields if not is_secret(field)]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return self.get_fields(request, obj)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        secrets = [field.name for field in self.model._meta.fields if is_secret(field)]
        rows: QuerySet[Any] = self.model._default_manager.defer(*secrets)
        return within_support_sessions(request, rows)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, str] | None = None) -> HttpResponse:
        if organization_path(self.model) is not None:
            for session in support_sessions(request):
                _record_page(request, session)
        return super().changelist_view(request, extra_context)

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """The one way to the page of a row; rows outside of support sessions do not exist here."""
        row = super().get_object(request, object_id, from_field)
        path = organization_path(self.model)
        if row is not None and path is not None and request.method == "GET":
            owner = _owner_of(row, path)
            for session in support_sessions(request):
                if session.organization_id == owner:
                    _record_page(request, session)
        return row

    def has_module_permission(self, request: HttpRequest) -> bool:
        return _is_staff(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _is_staff(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def support_sessions(request: HttpRequest) -> list[SupportSession]:
    """The staff member's running support sessions, asked once per request."""
    known: list[SupportSession] | None = getattr(request, "_support_sessions", None)
    if known is None:
        rows = SupportSession.objects.all_organizations(reason="a staff member's own sessions")
        running = rows.filter(staff=cast(User, request.user), ended_at=None, expires_at__gt=timezone.now())
        known = list(running.select_related("organization"))
        cast(Any, request)._support_sessions = known
    return known


def organization_path(model: type[Model]) -> str | None:
    """From a row to the organization whose data it is; None for rows of the installation itself."""
    names = {field.name for field in model._meta.fields if field.is_relation}
    if "organization" in names:
        return "organization"
    for field in model._meta.fields:
        related = field.related_model
        if related is not None and related is not User and not isinstance(related, str):
            further = organization_path(related) if related is not model else None
            if further is not None:
                return f"{field.name}__{further}"
    return None


def within_support_sessions(request: HttpRequest, rows: QuerySet[Any]) -> QuerySet[Any]:
    open_to = [session.organization_id for session in support_sessions(request)]
    if rows.model is User:
        return rows.filter(Q(is_staff=True) | Q(pk__in=_members_of(open_to)))
    path = organization_path(rows.model)
    return rows if path is None else rows.filter(**{f"{path}__in": open_to})


def _members_of(organization_ids: list[str]) -> QuerySet[Membership, int]:
    rows = Membership.objects.all_organizations(reason="organizations of the staff member's support sessions")
    return rows.filter(organization__in=organization_ids).values_list("user_id", flat=True)


def _owner_of(row: Model, path: str) -> Any:
    found: Any = row
    for name in path.split("__"):
        found = getattr(found, name)
    return found.pk


def _record_page(request: HttpRequest, session: SupportSession) -> None:
    with transaction.atomic():
        record_support_page(session, page=request.get_full_path(), is_part=False, actor=staff_actor(request))


def staff_action(request: HttpRequest, rows: Iterable[ModelT], do: Callable[[ModelT, Actor], Any], done: str) -> None:
    """Run one of our actions on each chosen row, as the staff member; refusals become messages."""
    actor = staff_actor(request)
    count = 0
    for row in rows:
        try:
            do(row, actor)
            count += 1
        except DomainError as error:
            messages.error(request, f"{row}: {error.message}")
    if count:
        messages.success(request, f"{done}: {count}")


def staff_actor(request: HttpRequest) -> Actor:
    user = cast(User, request.user)
    return Actor(ActorKind.STAFF, str(user.pk), user.email, getattr(request, "client_ip", None))


def is_secret(field: Field[Any, Any]) -> bool:
    named = _SECRET_COLUMNS.get(field.model.__name__, ())
    return field.name in named or any(part in field.name for part in SECRET_PARTS)


def _is_staff(request: HttpRequest) -> bool:
    return bool(request.user.is_active and request.user.is_staff)
