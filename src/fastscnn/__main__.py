"""`python -m fastscnn` is `fastscnn`."""

from fastscnn.cli import main

raise SystemExit(main())
