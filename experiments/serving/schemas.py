"""What is asked and answered, as the API's documents describe it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema

from experiments.serving import limits

INT64 = 1 << 63


def _id(value: Any) -> int | str:
    """Takes whole numbers and text alone: no booleans, no 7.0, no NaN."""
    if type(value) is int:
        if not -INT64 <= value < INT64:
            raise ValueError("expected a number of 64 bits")
        return value
    if type(value) is not str:
        raise ValueError("expected a whole number or text, as the model's own ids")
    if len(value) > limits.TEXT:
        raise ValueError(f"expected at most {limits.TEXT:,} characters")
    return value


RawId = Annotated[
    Any,
    PlainValidator(_id),
    WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "string"}]}),
]


class Asked(BaseModel):
    """A session, and what may be recommended after its last click."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"items": [5, 9], "k": 20}]},
    )

    items: list[RawId] = Field(
        min_length=1,
        max_length=limits.CLICKS,
        description="Clicks of the session, the latest last. What the model does not "
        "know is left out; of a long session the model sees the last clicks.",
    )
    k: int = Field(limits.K, ge=1, description="Items to recommend.")
    exclude: list[RawId] = Field(
        default=[], max_length=limits.EXCLUDE, description="Items that must not be."
    )
    only: list[RawId] | None = Field(
        default=None,
        min_length=1,
        max_length=limits.ONLY,
        description="The only items that may be; all where not given.",
    )


class Batch(BaseModel):
    """Several sessions at once, all of them answered or none."""

    model_config = ConfigDict(extra="forbid", strict=True)

    sessions: list[Asked] = Field(min_length=1, max_length=limits.BATCH)


class Recommended(BaseModel):
    """An item of a list."""

    item: int | str
    score: float | None = Field(description="null where the popular stand in.")


class Listed(BaseModel):
    """The best items, the best first; fewer than asked where no more are left."""

    items: list[Recommended]
    unknown: int = Field(description="Clicks that the model does not know.")
    popular: bool = Field(
        description="The model knows none of the clicks: the most popular items."
    )
    step: int = Field(description="Of the model that answered.")


class Lists(BaseModel):
    """A list for each session, in their order."""

    lists: list[Listed]


class About(BaseModel):
    """The model that serves."""

    model: str
    step: int
    num_items: int
    may_be_recommended: int = Field(description="Items, by --only.")
    most: int = Field(description="Items of a list.")
    max_clicks: int = Field(description="Of a session that it sees.")
    ids: str = Field(description="What the ids of items are: int64 or string.")
    popular: list[int | str] = Field(description="The most popular items.")
    card: str = Field(description="The model card, Markdown.")


class Reloaded(BaseModel):
    """What serves now."""

    step: int
    may_be_recommended: int


class Health(BaseModel):
    """That requests are answered."""

    status: str
    step: int


class Problem(BaseModel):
    """What was wrong, in one line."""

    detail: str


class Fault(BaseModel):
    """What is wrong with a field."""

    loc: list[str | int]
    msg: str


class Faults(BaseModel):
    """What is wrong with a request, by field."""

    detail: list[Fault]
