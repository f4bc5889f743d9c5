"""Django admin for support staff: every model read-only, secrets left out, buttons that call the same actions.

Staff sign in where members do (allauth, with its second factor). What a button does is recorded in the customer's
audit log with the staff member's name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from allauth.account.decorators import secure_admin_login
from django.contrib import admin, messages
from django.db.models import Field, Model, QuerySet
from django.http import HttpRequest

from accounts.actor import Actor, ActorKind
from accounts.errors import DomainError
from accounts.models import User

ModelT = TypeVar("ModelT", bound=Model)
# Columns whose name holds one of these never leave the database, sealed and hashed ones included.
SECRET_PARTS = ("sealed", "sha256", "secret", "password", "pin_hash", "nonce", "verification_token", "token_generation")
_SECRET_COLUMNS = {
    "Transfer": ("body", "service_public_key"),
    "HandOver": ("redirect_path",),
    "ProviderTest": ("result",),
}

admin.site.site_header = "Sallyport support"
admin.site.site_title = "Sallyport support"
admin.site.index_title = "Installation"
# The admin's own login form knows no second factor and no rate limit.
admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]


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
        return rows

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
