"""Prefect tasks: a name, retries and tags around one call into dfpipe each."""
