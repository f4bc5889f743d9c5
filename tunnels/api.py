"""/client/v4 accounts/…/cfd_tunnel: tunnels, their configuration, connections and tokens."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone
from ninja import Field, Query, Schema

from accounts.api_base import ApiRequest, ApiRouter, Page, Paging, page_of, rfc3339
from accounts.errors import InvalidInput, NotFound
from accounts.permissions import Permission
from accounts.tenancy import TenantQuerySet
from tunnels.actions.configurations import current_configuration, publish_configuration
from tunnels.actions.connectors import disconnect_connectors
from tunnels.actions.tunnels import (
    create_tunnel,
    credentials,
    delete_tunnel,
    rename_tunnel,
    replace_tunnel_secret,
    tunnel_token,
)
from tunnels.api_tunnel_shapes import (
    ConnectorResult,
    NewTunnelResult,
    TunnelResult,
    own_live_tunnel,
    own_tunnel,
    shape_connectors,
    shape_tunnel,
    shape_tunnels,
)
from tunnels.models import Connector, Tunnel, TunnelConfiguration
from tunnels.status import open_connections, statuses

router = ApiRouter(tags=["Tunnels"])
_MAX_SECRET_TEXT = 1024
