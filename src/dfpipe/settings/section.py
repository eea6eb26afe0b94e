"""What every group of settings is."""

import re
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, PlainSerializer, SecretStr

__all__ = ["Address", "Section", "masked_keys", "without_password"]

MASK = "**********"
"""What is shown in the place of a secret, as pydantic does."""


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

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Yield what ``repr`` shows, which may end in a log or a traceback: addresses without their passwords."""
        for name, value in super().__repr_args__():
            yield name, without_password(value) if isinstance(value, str) else value


# A slash in a password should be written as %2F, and is not by everybody; some databases take it all the same.
PASSWORD_IN_URL = re.compile(r"(?<=://)([^/@:\s]*):\S*@")
SECRET_IN_QUERY = re.compile(r"([?&][^=&\s]*(?:password|secret|token|key)[^=&\s]*=)[^&\s]+", re.IGNORECASE)


def without_password(url: str) -> str:
    """Return an address, or a text with addresses in it, with stars in place of passwords.

    Examples
    --------
    >>> without_password("postgresql://me:pa/ss@db/mlflow?sslmode=require")
    'postgresql://me:**********@db/mlflow?sslmode=require'
    >>> without_password("postgresql://db/mlflow?user=me&password=pass")
    'postgresql://db/mlflow?user=me&password=**********'
    """
    return SECRET_IN_QUERY.sub(rf"\1{MASK}", PASSWORD_IN_URL.sub(rf"\1:{MASK}@", url))


Address = Annotated[str | None, PlainSerializer(lambda url: url and without_password(url))]
"""A URL that shows its password to nobody: not in Prefect's parameters, not in `dfpipe config`."""


def masked_keys(section: Section, path: str = "") -> Iterator[str]:
    """Yield the keys that hold the stars which are shown in a secret's place, and not the secret."""
    for name in type(section).model_fields:
        value, key = getattr(section, name), f"{path}{name}"
        if isinstance(value, Section):
            yield from masked_keys(value, f"{key}.")
        elif isinstance(value, SecretStr):
            if value.get_secret_value() == MASK:
                yield key
        elif isinstance(value, str) and MASK in value:
            yield key
