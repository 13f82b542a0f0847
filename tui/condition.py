r"""The conditions of ``--filter``: a small language over the fields of the JSON contract, read by a parser of its own.

    label == "PCI" and side == "C"
    pdu ~ "mail data" and not "8bit" in flags
    (n <= 3 or frames == 17) and conversation != 2

*Fields*: numbers ``conversation n offset time gap``; strings ``side line label pdu pdu_id layer``; lists ``flags``
(strings), ``frames`` (numbers), ``spans`` (the names of their fields). *Literals*: numbers, strings in double or single
quotes, in which \r \n \t \\ \" \' \xHH mean an octet and any other backslash itself.

*Comparisons*: ``== != < <= > >=``; ``~`` and ``!~``, a regular expression is found in it or not; ``x in list``,
``x in string``. A list is compared by its members: one that fits is enough. A field by itself asks whether the row has
it and it is not empty. ``not``, ``and``, ``or`` bind in this order; parentheses as usual. A comparison with a field
that a row does not have is false: a gap has ``conversation side offset gap``, a line has no ``gap``.

Claim: nothing is ever evaluated by Python; what is wrong with a condition is one sentence that says where. Secrets are
compared as they are printed: masked unless they are shown.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from capture.errors import WiretalkError
from capture.labels import label
from capture.model import Line, Missing
from capture.protocols.secrets import mask

Row = Line | Missing
Value = int | float | str
Getter = Callable[[Row, bool], tuple[Value, ...]]  # the values of a field in a row; the flag: secrets are shown
Test = Callable[[Row, bool], bool]


class BadCondition(WiretalkError):
    """What is written behind ``--filter`` is no condition."""


class _Field(NamedTuple):
    kind: type[int] | type[str]  # numbers or strings
    several: bool
    get: Getter


def _of_line(get: Callable[[Line], tuple[Value, ...]]) -> Getter:
    return lambda row, _: get(row) if isinstance(row, Line) else ()


def _octets(row: Row, show_secrets: bool) -> tuple[Value, ...]:
    if isinstance(row, Missing):
        return ()
    return ((row.data if show_secrets else mask(row)).decode("latin-1"),)


FIELDS: dict[str, _Field] = {
    "conversation": _Field(int, False, lambda row, _: (row.conversation,)),
    "side": _Field(str, False, lambda row, _: (row.side.value,)),
    "n": _Field(int, False, _of_line(lambda line: (line.number,))),
    "offset": _Field(int, False, lambda row, _: (row.offset,)),
    "time": _Field(int, False, _of_line(lambda line: (line.time / 1e9,))),
    "line": _Field(str, False, _octets),
    "label": _Field(str, False, _of_line(lambda line: (label(line, line.layer).value,))),
    "pdu": _Field(str, False, _of_line(lambda line: (line.pdu.name,))),
    "pdu_id": _Field(str, False, _of_line(lambda line: (line.pdu.ident,))),
    "layer": _Field(str, False, _of_line(lambda line: (line.layer.name.lower(),))),
    "flags": _Field(str, True, _of_line(lambda line: line.flags)),
    "frames": _Field(int, True, _of_line(lambda line: line.frames)),
    "spans": _Field(str, True, _of_line(lambda line: tuple(span.field for span in line.spans))),
    "gap": _Field(int, False, lambda row, _: (row.length,) if isinstance(row, Missing) else ()),
}

_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_TOKEN = re.compile(
    r"""\s*(?:
        (?P<string> "(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*' )
      | (?P<number> -?\d+(?:\.\d+)? (?![\w.]) )
      | (?P<word>   [A-Za-z_]\w* )
      | (?P<sign>   ==|!=|<=|>=|!~|[<>~()] )
    )""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(x[0-9A-Fa-f]{2}|.)", re.DOTALL)
_ESCAPES = {"r": "\r", "n": "\n", "t": "\t", '"': '"', "'": "'", "\\": "\\"}
_DEEPEST = 50  # parentheses and "not"s within each other


class _Token(NamedTuple):
    kind: str
    text: str
    at: int  # counted from 1


class _Operand(NamedTuple):
    name: str
    kind: type[int] | type[str]
    several: bool
    get: Getter
    literal: Value | None


class Condition:
    """A condition, read once. Raises `BadCondition`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._test = _Parser(text).whole()

    def meets(self, row: Row, show_secrets: bool = False) -> bool:
        """Whether the row meets it."""
        return self._test(row, show_secrets)


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._next = 0
        self._depth = 0

    def whole(self) -> Test:
        test = self._either()
        token = self._peek()
        if token.kind != "end":
            raise _wrong(token, "and, or, or the end")
        return test

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._tokens[self._next]
        self._next += token.kind != "end"
        return token

    def _is(self, *texts: str) -> bool:
        token = self._peek()
        return token.kind in ("word", "sign") and token.text in texts

    def _either(self) -> Test:
        tests = [self._both()]
        while self._is("or"):
            self._take()
            tests.append(self._both())
        return tests[0] if len(tests) == 1 else lambda row, shown: any(test(row, shown) for test in tests)

    def _both(self) -> Test:
        tests = [self._single()]
        while self._is("and"):
            self._take()
            tests.append(self._single())
        return tests[0] if len(tests) == 1 else lambda row, shown: all(test(row, shown) for test in tests)

    def _single(self) -> Test:
        if not self._is("not", "("):
            return self._comparison()
        opening = self._take()
        self._depth += 1
        if self._depth > _DEEPEST:
            raise BadCondition(f"the condition is nested more than {_DEEPEST} deep.")
        if opening.text == "not":
            denied = self._single()
            self._depth -= 1
            return lambda row, shown: not denied(row, shown)
        test = self._either()
        if not self._is(")"):
            raise _wrong(self._peek(), f"the ) of the ( at {opening.at}")
        self._take()
        self._depth -= 1
        return test

    def _comparison(self) -> Test:
        left = self._operand()
        sign = self._peek()
        if self._is("in"):
            self._take()
            return _within(left, self._operand(), sign)
        if self._is("~", "!~"):
            self._take()
            return _found(left, self._take(), denied=sign.text == "!~")
        if self._is(*_COMPARISONS):
            self._take()
            return _compared(left, sign, self._operand())
        if left.literal is not None:
            raise _wrong(sign, "a comparison")
        return lambda row, shown: any(value not in ("", 0) for value in left.get(row, shown))

    def _operand(self) -> _Operand:
        token = self._take()
        if token.kind == "string":
            text = _unquoted(token)
            return _Operand(token.text, str, False, lambda *_: (text,), text)
        if token.kind == "number":
            number = float(token.text) if "." in token.text else int(token.text)
            return _Operand(token.text, int, False, lambda *_: (number,), number)
        field = FIELDS.get(token.text) if token.kind == "word" else None
        if field is None:
            raise _wrong(token, f"a field ({', '.join(FIELDS)}), a number or a quoted string")
        return _Operand(token.text, field.kind, field.several, field.get, None)


def _compared(left: _Operand, sign: _Token, right: _Operand) -> Test:
    compare = _COMPARISONS[sign.text]
    if left.kind is not right.kind:
        raise BadCondition(f"{left.name} {sign.text} {right.name} compares {_kind(left)} with {_kind(right)}.")
    return lambda row, shown: any(compare(a, b) for a in left.get(row, shown) for b in right.get(row, shown))


def _within(left: _Operand, right: _Operand, sign: _Token) -> Test:
    if left.kind is not right.kind:
        raise BadCondition(f"{left.name} in {right.name} looks for {_kind(left)} among {_kind(right)}.")
    if right.several:
        return lambda row, shown: any(a in right.get(row, shown) for a in left.get(row, shown))
    if right.kind is not str:
        raise BadCondition(f"behind 'in' at {sign.at} stands a list or a string, not {right.name}.")
    return lambda row, shown: any(str(a) in str(b) for a in left.get(row, shown) for b in right.get(row, shown))


def _found(left: _Operand, token: _Token, *, denied: bool) -> Test:
    if token.kind != "string":
        raise _wrong(token, "a regular expression in quotes")
    if left.kind is not str:
        raise BadCondition(f"{left.name} is {_kind(left)}; a regular expression is looked for in strings.")
    try:
        pattern = re.compile(_unquoted(token))
    except (re.error, RecursionError, OverflowError) as error:
        raise BadCondition(f"{token.text} at {token.at} is no regular expression: {error}.") from error
    if denied:
        return lambda row, shown: (
            bool(values := left.get(row, shown)) and not any(pattern.search(str(value)) for value in values)
        )
    return lambda row, shown: any(pattern.search(str(value)) for value in left.get(row, shown))


def _tokens(text: str) -> list[_Token]:
    tokens, at = [], 0
    while text[at:].strip():
        found = _TOKEN.match(text, at)
        if found is None or found.lastgroup is None:
            start = len(text) - len(text[at:].lstrip())
            raise BadCondition(f"the condition cannot be read from {text[start : start + 20]!r} at {start + 1} on.")
        group = found.lastgroup
        tokens.append(_Token(group, found[group], found.start(group) + 1))
        at = found.end()
    return [*tokens, _Token("end", "", len(text) + 1)]


def _unquoted(token: _Token) -> str:
    """The string that a quoted one means."""

    def meant(found: re.Match[str]) -> str:
        text = found[1]
        if text[0] == "x":
            return chr(int(text[1:], 16))
        # a backslash of a regular expression stays what it is
        return _ESCAPES.get(text, found[0])

    return _ESCAPE.sub(meant, token.text[1:-1])


def _kind(operand: _Operand) -> str:
    one = "number" if operand.kind is int else "string"
    return f"{one}s" if operand.several else f"a {one}"


def _wrong(token: _Token, wanted: str) -> BadCondition:
    found = "the end" if token.kind == "end" else f"{token.text} at {token.at}"
    return BadCondition(f"the condition has {found} where {wanted} should stand.")
