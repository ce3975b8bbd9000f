"""Start the container: `python examples/research_container --port 8010`."""

from __future__ import annotations

import sys

from digits_trainer.cli import main

if __name__ == "__main__":
    sys.exit(main())
