"""Shared fixtures. The cast (alice owns, bob views, mallory is another tenant) is made by tests/factories.py."""
