"""What tests share: the real data beside the repository, where it is there."""

from __future__ import annotations

from pathlib import Path

import pytest

_SHARED = Path(__file__).parents[2] / "shared"


def _or_skip(path: Path) -> Path:
    if not path.is_dir():
        pytest.skip(f"{path} is missing")
    return path


@pytest.fixture(scope="session")
def camvid_root() -> Path:
    """CamVid at 480x360; its test is skipped where the data is missing."""
    return _or_skip(_SHARED / "data" / "camvid")


@pytest.fixture(scope="session")
def media_root() -> Path:
    """Street pictures and a video without labels; its test is skipped where they are missing."""
    return _or_skip(_SHARED / "media")
