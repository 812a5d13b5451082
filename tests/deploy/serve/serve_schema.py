"""Values that an OpenAPI document allows, drawn at random: what a fuzzer starts from. What is then broken in
them is `serve_malformed`'s affair."""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

WORDS = ["the", "cat", "sat", "on", "a", "red", "mat", "fast", "schön", "日本", "🐈", "x" * 40]
DEEPEST = 6


@dataclass(frozen=True)
class Operation:
    """One method of one path.

    Attributes:
        method: In capitals.
        path: With the names of its parameters filled in.
        bodies: Schema by media type; empty where it takes no body.
    """

    method: str
    path: str
    bodies: dict[str, Any]


class Sampler:
    """Draws from the schemas of a document.

    Args:
        document: OpenAPI 3.1.
        rng: Draws.
        file: What stands where it asks for a file in base64.
    """

    def __init__(self, document: dict[str, Any], rng: random.Random, file: bytes) -> None:
        self.document = document
        self.rng = rng
        self.file = base64.b64encode(file).decode()

    def operations(self, names: dict[str, str]) -> Iterator[Operation]:
        """All operations.

        Args:
            names: Values of path parameters; others get a word.
        """
        for path, methods in self.document["paths"].items():
            filled = "/".join(
                names.get(part[1:-1], "word") if part.startswith("{") else part for part in path.split("/")
            )
            for method, operation in methods.items():
                if method in {"get", "post", "put", "delete", "patch"}:
                    content = self.resolved(operation.get("requestBody", {})).get("content", {})
                    bodies = {media: found.get("schema", {}) for media, found in content.items()}
                    yield Operation(method.upper(), filled, bodies)

    def resolved(self, schema: Any) -> Any:
        """What a reference points to, or the schema itself."""
        while isinstance(schema, dict) and "$ref" in schema:
            found: Any = self.document
            for part in schema["$ref"].removeprefix("#/").split("/"):
                found = found[part.replace("~1", "/").replace("~0", "~")]
            schema = found
        return schema

    def value(self, schema: Any, depth: int = 0) -> Any:
        """A value that a schema allows, as far as this knows its words."""
        schema = self.resolved(schema)
        if not isinstance(schema, dict):
            return self._any(depth)
        for word in ("const", "default"):
            if word in schema and (word == "const" or self.rng.random() < 0.3):
                return schema[word]
        if "enum" in schema:
            return self.rng.choice(schema["enum"])
        for word in ("anyOf", "oneOf"):
            if word in schema:
                # Where it goes deep, the last alternatives tend to be the nested ones.
                options = schema[word][:1] if depth >= DEEPEST else schema[word]
                return self.value(self.rng.choice(options), depth)
        if "allOf" in schema:
            parts = [self.value(part, depth) for part in schema["allOf"]]
            return (
                {k: v for part in parts for k, v in part.items()} if isinstance(parts[0], dict) else parts[0]
            )
        return self._typed(schema, depth)

    def _typed(self, schema: dict[str, Any], depth: int) -> Any:
        kind = schema.get("type", "object" if "properties" in schema else None)
        kind = self.rng.choice(kind) if isinstance(kind, list) else kind
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            return self._array(schema, depth)
        if kind == "string":
            return self._string(schema)
        if kind in {"integer", "number"}:
            # Not near an excluded minimum: a time limit there is kept by nobody.
            low = schema.get("minimum", schema.get("exclusiveMinimum", 0) + 30)
            high = max(low, schema.get("maximum", low + 1000))
            return self.rng.randint(low, high) if kind == "integer" else self.rng.uniform(low, high)
        return {"boolean": self.rng.random() < 0.5, "null": None}.get(kind, self._any(depth))

    def _object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        required = schema.get("required", [])
        return {
            name: self.value(part, depth + 1)
            for name, part in schema.get("properties", {}).items()
            if name in required or (depth < DEEPEST and self.rng.random() < 0.5)
        }

    def _array(self, schema: dict[str, Any], depth: int) -> list[Any]:
        low = schema.get("minItems", 1)
        high = min(schema.get("maxItems", low + 3), low + 3)
        count = low if depth >= DEEPEST else self.rng.randint(low, high)
        return [self.value(schema.get("items", {}), depth + 1) for _ in range(count)]

    def _string(self, schema: dict[str, Any]) -> str:
        if schema.get("contentEncoding") == "base64":
            return self.file
        low, high = schema.get("minLength", 1), schema.get("maxLength", 200)
        text = " ".join(self.rng.choices(WORDS, k=self.rng.randint(1, 12)))
        return (text * (low // len(text) + 1))[: max(low, min(high, len(text)))]

    def _any(self, depth: int) -> Any:
        simple = [None, True, 0, -1.5, "word", "", [], {}]
        nested = [[self.value({}, depth + 1)], {"key": self.value({}, depth + 1)}] if depth < DEEPEST else []
        return self.rng.choice([*simple, *nested])
