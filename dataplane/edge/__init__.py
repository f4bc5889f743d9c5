"""The edge: the one public TLS door, and the meeting point with the connectors."""

from dataplane.edge.main import run

__all__ = ["run"]
