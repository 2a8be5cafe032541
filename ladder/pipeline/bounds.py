"""Parameters of filters: what their signatures allow, so that params.yaml is refused before a row is read."""

from typing import Annotated

from pydantic import Field

Share = Annotated[float, Field(ge=0, le=1)]
"""A part of a whole, or a probability."""
Cosine = Annotated[float, Field(ge=-1, le=1)]
Amount = Annotated[float, Field(ge=0)]
Number = Annotated[int, Field(ge=0)]
Size = Annotated[int, Field(ge=1)]
"""Words of a run, rows of a choice."""
