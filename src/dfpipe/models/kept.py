"""Values that are kept beside a model as JSON, and read back by whoever judges a video."""

from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from dfpipe.errors import StoreError

__all__ = ["Kept"]


class Kept(BaseModel):
    """A value with a file of its own beside a model."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    what: ClassVar[str]
    """What it is called in errors."""

    def to_json(self) -> str:
        """Return it as indented JSON, from which it comes back to the last bit."""
        return self.model_dump_json(indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read it back.

        Raises
        ------
        StoreError
            Text that is not such JSON.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise StoreError(
                f"the model's {cls.what} cannot be read at {where or 'its first byte'}: {first['msg']}; "
                "train again, or use the dfpipe version that trained the model"
            ) from error
