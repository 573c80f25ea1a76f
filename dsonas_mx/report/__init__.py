"""Runs as one self-contained HTML page: what was found, how, and at what cost."""

from .page import write_report

__all__ = ["write_report"]
