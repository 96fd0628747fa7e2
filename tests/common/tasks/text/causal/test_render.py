"""A hostile chat template gets no file, no attribute, and a bounded time and memory."""

from __future__ import annotations

import pytest

from wardround.common.errors import TaskError
from wardround.common.tasks.text.causal import bounded
from wardround.common.tasks.text.causal.render import Refused, renderer

ASKED = [{"role": "user", "content": "Is it?"}]
LONG = "{% set b = 'a' * 100000 %}"


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages.__class__.__mro__ }}",
        "{{ cycler.__init__.__globals__['os'] }}",
        "{{ raise_exception.__globals__['json'] }}",
        "{{ messages|map(attribute='__class__')|list }}",
        "{% include 'config.json' %}",
        "{{ lipsum() }}",
        "{{ [1, 2]|random }}",
        "{{ messages.append(1) }}",
    ],
)
def test_it_reaches_nothing(template: str) -> None:
    try:
        assert renderer(template, {})(ASKED, True) in ("", "[Undefined]")
    except TaskError:
        pass


@pytest.mark.parametrize(
    "template",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) ~ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
        "{% block a %}{{ self.a() }}{{ self.a() }}{% endblock %}",
        "{% for i in range(90000) %}{{ range(99999)|select('==', -1)|list }}{% endfor %}",
        "{{ ('a' * 9000000000)|length }}",
        "{{ [messages] * 900000000 }}",
        "{{ 10 ** 9999999 }}",
        "{{ ('%9000000000d' % 1)|length }}",
        "{{ '{:>9000000000}'.format(1) }}",
        "{{ 'a'.ljust(9000000000) }}",
        "{{ 'a'|center(9000000000) }}",
        "{{ messages|tojson(indent=900000000) }}",
        "{% set x = 'aaaa' %}" + "{% set x = x ~ x %}" * 60 + "{{ x|length }}",
        "{% set x = 'aaaa' %}" + "{% set x = x + x %}" * 60 + "{{ x|length }}",
        LONG + "{{ b.replace('a', b) }}",
        LONG + "{{ b.join(b) }}",
        LONG + "{{ b|replace('', b) }}",
        LONG + "{{ b|join(b) }}",
        LONG + "{% set y %}{% for i in range(90000) %}{{ b }}{% endfor %}{% endset %}",
        LONG + "{% for i in range(90000) %}{% if 'b' in b %}{% endif %}{% endfor %}",
        LONG + "{% for i in range(90000) %}{% set c = b[1:] %}{% endfor %}",
        "{% set n = namespace(x=['a']) %}{% for i in range(99) %}{% set n.x = [n.x, n.x] %}"
        "{% endfor %}{{ n.x }}",
    ],
)
def test_it_takes_a_bounded_time_and_memory(template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would take gigabytes, or hours, whatever the budget; here it is a small one."""
    monkeypatch.setattr(bounded, "BUDGET", 1 << 19)
    with pytest.raises(TaskError):
        renderer(template, {})


MANY = "{% set x = (1,) * 5000 %}{% set d = {1: 2} %}{% for i in range(9000) %}"


@pytest.mark.parametrize(
    "turn",
    [
        "{% if 7 is in(x) %}{% endif %}",
        "{% if x is eq(x) %}{% endif %}",
        "{% if x is upper %}{% endif %}",
        "{% set q = [7]|select('in', x)|list %}",
        "{% set q = x.count(7) %}",
        "{% set q = d.get(x) %}",
        "{% set q = d[x] %}",
        "{% if x in d %}{% endif %}",
        "{% set q = loop.changed(x) %}",
        "{% for j in range(5000) if false %}{% endfor %}",
        "{% if 'a' in range(5000) %}{% endif %}",
    ],
)
def test_what_reads_a_list_through_costs_it(turn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """9,000 turns by 5,000 items; a plan's own template could have had hours of it."""
    monkeypatch.setattr(bounded, "BUDGET", 1 << 20)
    assert renderer(MANY + "{% endfor %}", {})(ASKED, True) == ""
    with pytest.raises(TaskError, match="can't write a question"):
        renderer(MANY + turn + "{% endfor %}", {})


def test_arguments_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "BUDGET", 1 << 20)
    with pytest.raises(TaskError, match="can't write a question"):
        renderer(
            "{% macro f() %}{{ varargs|length }}{% endmacro %}" + MANY + "{{ f(*x) }}{% endfor %}",
            {},
        )


def test_a_later_message_finds_it_bounded_too() -> None:
    template = "{% if messages|length > 1 %}{{ 'a' * 9000000000 }}{% endif %}"
    write = renderer(template, {})
    assert write(ASKED, True) == ""
    with pytest.raises(Refused, match="too long, too much"):
        write([*ASKED, *ASKED], True)


def test_what_chat_templates_do_costs_little() -> None:
    """Pieces of the templates of well-known families, on a conversation of 1,000 messages."""
    template = (
        "{{ bos_token }}{% set ns = namespace(first=true) %}"
        "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}"
        "{% else %}{% set rest = messages %}{% endif %}"
        "{% for m in rest %}"
        "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('x') }}{% endif %}"
        "{{ '<|' + m['role'] ~ '|>' + m['content'].split('</think>')[-1].lstrip('\\n') | trim }}"
        "{% if loop.index0 == messages|length - 1 and m.role in ['user'] %}.{% endif %}"
        "{% set ns.first = false %}{% endfor %}"
        "{% if add_generation_prompt and not ns.first %}{{ '<|assistant|>' }}{% endif %}"
        "{{ rest|map(attribute='role')|unique|join(', ') }}{{ rest[0]|tojson }}"
    )
    turns = [{"role": role, "content": "y" * 200} for role in ("user", "assistant")] * 500
    written = renderer(template, {"bos_token": "<s>"})(turns, True)
    assert written.startswith("<s><|user|>yyy") and written.count("<|assistant|>") == 501
    assert written.endswith('user, assistant{"role": "user", "content": "' + "y" * 200 + '"}')
