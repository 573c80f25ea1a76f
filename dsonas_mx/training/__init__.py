"""Loops that train: their losses, measures and schedules."""
