"""Annotated types with the bounds of filter parameters, so that params.yaml is validated before any row is read."""

from typing import Annotated

from pydantic import Field

Share = Annotated[float, Field(ge=0, le=1)]
"""A fraction or a probability."""
Cosine = Annotated[float, Field(ge=-1, le=1)]
Amount = Annotated[float, Field(ge=0)]
Number = Annotated[int, Field(ge=0)]
Size = Annotated[int, Field(ge=1)]
"""A positive count, for example words of an n-gram or rows of a selection."""
