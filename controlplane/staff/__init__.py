"""The staff area: whoever runs the installation helps organizations here, within support sessions (AC-57)."""
