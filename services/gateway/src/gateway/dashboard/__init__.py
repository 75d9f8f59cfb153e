"""The dashboard: the files that `dashboard/` is built into, served beside the APIs."""
