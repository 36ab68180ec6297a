"""Measures between samples."""
