"""Prefect flows: each line a step, each name a verb.

Their parameters are described in the form that Prefect reads (``Args:``), as it shows these words beside its form.
"""
