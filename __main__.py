"""``python -m wardround`` is ``wardround``."""

from wardround.common.process.main import main

if __name__ == "__main__":  # a process that this one starts may import it again
    main()
