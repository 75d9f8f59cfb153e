"""The checks of `sluice doctor`, one module for each part of an installation."""
