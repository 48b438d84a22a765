"""How do several machines segment many images? Ray Data runs the workers; fsspec opens file systems such as s3://."""

import os

# Ray reports usage statistics to its makers, unless this is set before it is imported. A user may allow them.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
