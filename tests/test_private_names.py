"""A name that begins with an underscore is its module's own.

In the product no module uses another's; of other packages' only those of ``OTHERS``. Tests reach
for the product's where ``tests/private_names.py`` says why, and nowhere else. Seen is what stands
in the text: imports, attributes of anything but ``self`` and ``cls``, names given to ``setattr``
and its like.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.private_names import REASONS
from tests.sources import parse, read

pytestmark = pytest.mark.xdist_group("sources")
ROOT = Path(__file__).parent.parent
PRODUCT = ("common", "client", "server", "simulations")
OTHERS = {
    "_exit": "os: ends a fork without its parent's clean-up",
    "_BatchNorm": "torch: the common base of its batch normalisations has no public name",
    "_InstanceNorm": "torch: as _BatchNorm",
    "_NormBase": "torch: as _BatchNorm",
    "_parameters": "torch: a module's own, shared ones twice, None where there is none",
    "_buffers": "torch: as _parameters",
    "_forward_hooks": "torch: whether somebody watches a module's passes",
    "_modules": "torch: as _parameters",
    "_current_grad_sample": "opacus: what its hooks leave at a parameter, to be taken away",
    "_forward_counter": "opacus: as _current_grad_sample",
    "_reversed_padding_repeated_twice": "torch: a padded convolution's padding as it computes it",
    "_is_view": "torch: whether an in-place operation changes another tensor",
    "_base": "torch: as _is_view",
    "_name_or_path": "transformers: where it says that a model was read, which a saved one tells",
    "_version": "torch: whether a tensor was changed in place",
    "_foreach_add_": "torch: what its optimisers compute with, bit for bit",
    "_foreach_mul_": "torch: as _foreach_add_",
    "_compiled_call_impl": "torch: whether a module is compiled, and how it stops to be",
}
"""Private names of other packages that have no public one, and what they are used for."""


def found_below(root: Path, folders: tuple[str, ...]) -> Iterator[tuple[str, int, str]]:
    """(file, line, name) of each use."""
    for folder in folders:
        for path in sorted((root / folder).rglob("*.py")):
            for line, name in read(path).uses:
                yield str(path.relative_to(root)), line, name


def test_tests_use_what_the_list_says_and_the_list_what_is_used() -> None:
    used: dict[str, dict[str, int]] = {}
    for file, line, name in found_below(ROOT, ("tests",)):
        if name not in OTHERS:
            used.setdefault(file.removeprefix("tests/"), {})[name] = line
    new = [
        f"tests/{file}:{line}: {name}: use a public name, or give the reason in private_names.py"
        for file, names in used.items()
        for name, line in names.items()
        if name not in REASONS.get(file, {})
    ]
    gone = [
        f"{file}: {name}"
        for file, names in REASONS.items()
        for name in names
        if name not in used.get(file, {})
    ]
    assert new == [] and gone == []


@pytest.mark.parametrize(
    "code",
    [
        "from wardround.common.text import _finite",
        "from wardround.common._inner import x",
        "import wardround.common._inner",
        "def f(other):\n    return other._part",
        "from wardround.common import text\n\ntext._LIMIT = 3",
        "def test(monkeypatch):\n    monkeypatch.setattr('wardround.common.text._LIMIT', 3)",
        "def test(monkeypatch, text):\n    monkeypatch.setattr(text, '_LIMIT', 3)",
    ],
)
def test_a_planted_use_is_found(tmp_path: Path, code: str) -> None:
    (tmp_path / "client").mkdir()
    (tmp_path / "client" / "planted.py").write_text(code)
    assert len(list(found_below(tmp_path, PRODUCT))) == 1


@pytest.mark.parametrize(
    "code",
    [
        "class A:\n    def f(self, other):\n        self._x = 1\n        return other._x",
        "_x = 1\n\n\ndef f():\n    return getattr(f, '_x')",
        "for _ in 'ab':\n    print(__name__.__class__)",
    ],
)
def test_a_name_of_one_s_own_is_no_use(code: str) -> None:
    assert parse(code).uses == ()


def test_no_module_of_the_product_uses_another_s_private_name() -> None:
    found = list(found_below(ROOT, PRODUCT))
    assert [use for use in found if use[2] not in OTHERS] == []
    assert {name for _, _, name in found} == set(OTHERS), "no longer used: take it off the list"
