"""Pictures as PNG: one look for all."""
