"""What every group of settings is."""

import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, PlainSerializer

__all__ = ["Address", "Section", "without_password"]


class Section(BaseModel):
    """A group of settings: frozen, and an unknown key is an error."""

    # Without the input, a traceback tells no secrets either.
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        # No bound and no rate is infinite or not a number.
        allow_inf_nan=False,
        coerce_numbers_to_str=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
    )


PASSWORD_IN_URL = re.compile(r"(?<=://)([^/@:]*):[^/]*@")


def without_password(url: str) -> str:
    """Return an address with stars in place of its password."""
    return PASSWORD_IN_URL.sub(r"\1:**********@", url)


Address = Annotated[str | None, PlainSerializer(lambda url: url and without_password(url))]
"""A URL that shows its password to nobody: not in Prefect's parameters, not in `dfpipe config`."""
