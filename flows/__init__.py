"""Prefect flows: each line a step, each name a verb."""
