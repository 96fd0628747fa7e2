"""What who approves a joint procedure reads of this hospital's own links and counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.client.site.test_joint_rules import asked
from wardround.client.links.helped import Helped
from wardround.client.links.kept import Record
from wardround.client.links.store import LinkStore
from wardround.client.site.joint_text import of_this_kit
from wardround.common.config.load import Config


class _Of:
    """A study that uses a link."""

    def __init__(self, link: str) -> None:
        self.procedure, self.task = self, self
        self.settings, self.options = self, {}
        self.link = link


def said(config: Config, state: Path, study: str = "who-dies") -> str:
    return " ".join(of_this_kit(config, state, "north", study))


def test_how_often_it_has_helped_each_other_party_is_said(tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    Helped(tmp_path / "links").note("ab", "run-1", 1, {"registry": 500})
    assert "helped registry in 1 linkages, 500 identifiers." in said(asked("linkage"), tmp_path)
    assert said(asked("describe"), tmp_path) == ""


def test_which_link_is_used_is_said_and_what_lacks(tmp_path: Path) -> None:
    using: Config = _Of("same")  # type: ignore[assignment]
    assert "has no link 'same'" in said(using, tmp_path)
    about = Record("same", made="2026-11-30", parties=["lab", "north"], used_by=["who-*"])
    rows = {"rows": np.arange(2, dtype=np.int64), "order": np.zeros(32, np.uint8)}
    LinkStore(tmp_path / "links", lambda: about).keep(bytes(32), rows, [b"a", b"b"])
    assert "2 persons with lab, north, made 2026-11-30, digest" in said(using, tmp_path)
    assert "is not for a study of this name" in said(using, tmp_path, "other")
