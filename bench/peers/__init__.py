"""What a Python team would build: the same job on Taskiq (Floor C) and on Celery. Run by .venv-bench."""
