"""What routing would decide now."""
