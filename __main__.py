"""``python -m wardround`` is ``wardround``."""

from wardround.common.process.main import main

main()
