"""Incidents of a project."""
