"""A skill: a function, and its input and output as its annotations describe them. Used by the agent's shell."""

from __future__ import annotations

import functools
import inspect
import math
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import BaseModel, ConfigDict, PydanticUserError, TypeAdapter, ValidationError, create_model
from pydantic_core import PydanticSerializationError, to_jsonable_python

from .content import artifacts_payload, in_order, patches_in
from .errors import AttemptFailed
from .given import require_kind
from .protocol.canonical import canonical

__all__ = ["Skill"]


@dataclass(frozen=True)
class Skill:
    """One thing an agent can do.

    Attributes:
        id: the id to find it by.
        function: `async def`, or `def`, which then runs in a thread.
        context: the name of the parameter that gets the task's context, or None.
        takes_value: whether the function takes the input unchanged, not as keyword arguments.
    """

    id: str
    function: Callable[..., Any]
    description: str
    tags: tuple[str, ...]
    context: str | None
    takes_value: bool

    @classmethod
    def of(
        cls,
        function: Callable[..., Any],
        contexts: tuple[type, ...],
        *,
        id: str | None = None,
        description: str | None = None,
        tags: tuple[str, ...] = (),
        takes_value: bool = False,
    ) -> Skill:
        """Make a skill from a function; parameters annotated with one of `contexts` get the task's context.

        Only the first of them is for coroutine functions.

        Raises:
            ValueError: nobody could call the function.
        """
        if not callable(function):
            raise ValueError(f"expected a function for the skill, got {function!r}; give its id as id=...")
        for what, given in (("id", id), ("description", description)):
            if given is not None:
                require_kind(given, str, what)
        plain = _plain(function)
        name = id or plain.__name__
        if name == "<lambda>":
            raise ValueError("expected an id for the skill, got a lambda without one")
        if name == "__call__":
            raise ValueError(f"expected an id for the skill, got an object of {type(function).__name__} without one")
        try:
            hints = typing.get_type_hints(plain)
        except NameError as error:
            raise ValueError(f"skill {name}: its annotations cannot be resolved when it runs: {error}") from error
        if inspect.isasyncgenfunction(plain) or inspect.isgeneratorfunction(plain):
            raise ValueError(f"skill {name}: expected a function that returns its result, this one yields")
        parameters = inspect.signature(function).parameters
        if takes_value and "value" not in parameters:
            raise ValueError(f"skill {name}: with takes_value, its function needs a parameter named value")
        for parameter in [parameters["value"]] if takes_value else parameters.values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
                raise ValueError(f"skill {name}: parameter {parameter.name} must be one that can be given by name")
        wanted = [parameter for parameter, hint in hints.items() if _is_one(hint, contexts) and parameter != "return"]
        if len(wanted) > 1:
            raise ValueError(f"skill {name}: only one parameter can get the task's context, got {' and '.join(wanted)}")
        context = wanted[0] if wanted else None
        if context and inspect.iscoroutinefunction(plain) and not _is_one(hints[context], contexts[:1]):
            # It gets the first one, whose calls would do nothing, as nobody awaits them.
            raise ValueError(
                f"skill {name}: expected {contexts[0].__name__} for {context}, as it is async, got {hints[context]}"
            )
        text = description if description is not None else inspect.getdoc(plain) or ""
        return cls(name, function, text, tags, context, takes_value)

    @cached_property
    def is_async(self) -> bool:
        """Whether the function is a coroutine function."""
        return inspect.iscoroutinefunction(_plain(self.function))

    @cached_property
    def _parameters(self) -> tuple[type[BaseModel], dict[str, str]]:
        """The model of the input, and the parameter that each of its fields stands for."""
        hints = typing.get_type_hints(_plain(self.function), include_extras=True)
        fields: dict[str, Any] = {}
        names: list[str] = []
        for name, parameter in inspect.signature(self.function).parameters.items():
            if name == self.context:
                continue
            default = ... if parameter.default is parameter.empty else parameter.default
            fields[f"a2a_argument_{len(names)}"] = (hints.get(name, Any), default)
            names.append(name)
        # By aliases: a parameter may share its name with a model's method, such as `json` or `copy`, or begin with `_`.
        # The generator is called for nested fields, too.
        aliases = dict(zip(fields, names, strict=True))
        config = ConfigDict(extra="forbid", alias_generator=lambda field: aliases.get(field, field))
        return create_model(self.id, __config__=config, **fields), aliases

    @property
    def _input(self) -> type[BaseModel]:
        return self._parameters[0]

    @cached_property
    def _output(self) -> TypeAdapter[Any] | None:
        hint = typing.get_type_hints(_plain(self.function), include_extras=True).get("return", Any)
        return None if hint is Any else TypeAdapter(hint)

    def card(self) -> dict[str, Any]:
        """Return the skill's entry in the agent's card.

        Raises:
            ValueError: an annotation of its function has no JSON Schema.
        """
        first_line = self.description.strip().partition("\n")[0] or self.id
        card: dict[str, Any] = {
            "id": self.id,
            "name": self.id.replace("_", " "),
            "description": first_line,
            "tags": list(self.tags),
            "inputModes": ["application/json", "text/plain"],
            "outputModes": ["application/json", "text/plain"],
        }
        try:
            if not self.takes_value:
                card["inputSchema"] = self._input.model_json_schema()
            if self._output is not None:
                card["outputSchema"] = self._output.json_schema(mode="serialization")
        except PydanticUserError as error:
            raise ValueError(f"skill {self.id}: an annotation has no JSON Schema: {error.message}") from error
        return card

    def arguments(self, value: Any) -> dict[str, Any]:
        """Return the keyword arguments for an input.

        Raises:
            AttemptFailed: the function does not accept the input; another attempt would not change that.
        """
        if self.takes_value:
            return {"value": value}
        if value is None:
            value = {}
        if not isinstance(value, dict):
            takes, came = (
                ", ".join(self._parameters[1].values()) or "none",
                "text" if isinstance(value, str) else type(value).__name__,
            )
            detail = f"{self.id} does not take this input: expected arguments by name ({takes}), got {came}"
            raise AttemptFailed(detail, code="schema", retryable=False)
        try:
            model = self._input.model_validate(value)
        except ValidationError as error:
            detail = f"{self.id} does not take this input: {_first(error, 'input')}"
            raise AttemptFailed(detail, code="schema", retryable=False) from error
        return {name: getattr(model, field) for field, name in self._parameters[1].items()}

    def result(self, value: Any) -> tuple[bytes, list[tuple[str, str]]]:
        """Return a handler's result as it is reported, and what it patches, as (thing, base) pairs.

        Raises:
            AttemptFailed: it has no JSON form, or does not match the function's annotation, and so the card.
        """
        try:
            patches = patches_in(value)
            if patches and self._output is not None:
                self._output.validate_python(value, strict=True)
            return artifacts_payload(value if patches else self._plain(value)), patches
        except ValidationError as error:
            detail = f"{self.id} returned something other than its annotation says: {_first(error, 'result')}"
            raise AttemptFailed(detail, code="schema") from error
        except Exception as error:
            raise AttemptFailed(f"{self.id} returned a value that has no JSON form: {error}", code="schema") from error

    def _plain(self, value: Any) -> Any:
        if isinstance(value, bytes):  # travels as it is; it is not a JSON value
            return value if self._output is None else self._output.validate_python(value, strict=True)
        if isinstance(value, Iterator):
            value = list(value)  # it can be read only once, and is read several times here
        if self._output is None:
            return value if isinstance(value, str) or value is None else in_order(value, to_jsonable_python(value))
        try:
            # By alias, as in its schema, and as a skill that takes it as input expects.
            plain = self._output.dump_python(value, mode="json", by_alias=True, warnings="error")
            is_doubtful = value is None  # pydantic accepts None for any type
        except PydanticSerializationError:
            if _has_iterator(value):
                raise ValueError("a generator inside it can be read only once: return a list") from None
            plain = self._output.dump_python(value, mode="json", by_alias=True, warnings=False)
            is_doubtful = True
        if is_doubtful:
            # A tuple for a list, or a map for a model, may still have exactly the announced form.
            # Strictly: a number as a text is not what the card says. In its canonical form 2.0 is a whole number.
            self._output.validate_json(canonical(plain), strict=True)
        if isinstance(value, str) or value is None:
            return plain
        if not _is_finite(self._output.dump_python(value, warnings=False)):
            raise ValueError("nan and inf are not JSON numbers")  # in `plain` they are null
        return in_order(value, plain)


def _first(error: ValidationError, whole: str) -> str:
    """Return the place of the first error in a value, and what is wrong there."""
    first = error.errors(include_url=False, include_context=False)[0]
    return f"{'.'.join(str(part) for part in first['loc']) or whole}: {first['msg']}"


def _plain(function: Callable[..., Any]) -> Any:
    """Return the function whose annotations and name count: that inside a `partial`, or an object's `__call__`."""
    while isinstance(function, functools.partial):
        function = function.func
    return function if inspect.isroutine(function) or inspect.isclass(function) else type(function).__call__


def _is_one(hint: Any, kinds: tuple[type, ...]) -> bool:
    """Tell whether an annotation is one of these types, or a union with one, as for functions also called alone."""
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return hint in kinds or (is_union and any(one in kinds for one in typing.get_args(hint)))


def _is_finite(value: Any) -> bool:
    """Tell whether every number in a value is finite."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(_is_finite(item) for item in value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return all(_is_finite(item) for item in value)
    return True


def _has_iterator(value: Any) -> bool:
    """Tell whether something in a value can be read only once."""
    if isinstance(value, dict):
        return any(_has_iterator(item) for item in value.values())
    if isinstance(value, list | tuple):
        return any(_has_iterator(item) for item in value)
    return isinstance(value, Iterator)
