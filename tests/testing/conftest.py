"""What tests of the fake provider share."""

from __future__ import annotations
