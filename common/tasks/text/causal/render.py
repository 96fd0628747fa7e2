"""Chat templates: Jinja in its sandbox, with what transformers gives such templates.

A template reads messages and writes a text. It can't reach files, modules or attributes of objects,
nor change what it is given, and takes a bounded time and memory (``bounded.py``). One that writes
the date gets the same one everywhere and always (``DATE``): rows may not depend on the day.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from wardround.common.errors import TaskError

DATE = datetime.date(2024, 7, 26)
Render = Callable[[Sequence[Mapping[str, str]], bool], str]


class Refused(Exception):
    """The template refuses some messages."""


def renderer(template: str, marks: Mapping[str, str]) -> Render:
    """What writes messages, and with True behind them the beginning of an answer.

    marks : the tokenizer's own tokens by name (``bos_token``)

    Raises TaskError for what is no template, or can't write one question; what comes back raises
    Refused for messages that it doesn't take.
    """
    from wardround.common.tasks.text.causal.bounded import OverBudget, budget

    try:
        compiled = _compiled(template)
    except Exception as error:  # whatever Jinja finds
        raise TaskError(f"the chat template is none ({type(error).__name__}); {_MEND}") from None
    named = dict(marks)

    def render(messages: Sequence[Mapping[str, str]], ask: bool) -> str:
        given = [dict(one) for one in messages]
        known = {"messages": given, "add_generation_prompt": ask, "tools": None, "documents": None}
        try:
            with budget():
                return str(compiled.render(**known, **named))
        except Refused:
            raise
        except OverBudget:
            raise Refused("the chat template takes too long, too much or what none needs") from None
        except Exception:  # a template may fail in any way, and its words may quote a message
            raise Refused("the chat template doesn't take these messages") from None

    try:
        render([{"role": "user", "content": "a"}], True)
    except Refused:
        raise TaskError(f"the chat template can't write a question; {_MEND}") from None
    return render


_MEND = "name another one as task.chat_template, or set task.template = 'plain'"


@lru_cache(maxsize=8)
def _compiled(template: str) -> Any:
    from jinja2 import nodes
    from jinja2.ext import Extension

    from wardround.common.tasks.text.causal.bounded import (
        BoundedEnvironment,
        OverBudget,
        bounded,
        budget,
        kept,
    )

    class Generation(Extension):
        """``{% generation %}`` marks answers for other programs; here it is what is in it."""

        tags = {"generation"}

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body, lineno=line)

    def refuse(message: object) -> None:
        raise Refused("the chat template doesn't take these messages")

    def to_json(value: Any, indent: int | None = None, **options: Any) -> str:
        if indent is not None and not 0 <= indent <= 8:
            raise OverBudget
        return str(kept(json.dumps(value, ensure_ascii=False, indent=indent)))

    environment = BoundedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[Generation, "jinja2.ext.loopcontrols"],
    )
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = DATE.strftime
    with budget():
        return bounded(environment, template)
