"""Figures, tables and how they are shown."""
