"""The connector: dials out to the edge and carries its streams to local services."""

from dataplane.connector.command import run

__all__ = ["run"]
