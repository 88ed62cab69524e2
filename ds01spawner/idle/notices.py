"""`Notice` by the name under which sites' notice hooks know it; it lives in `notify.channels`."""

from __future__ import annotations

from ..notify.channels import Notice

__all__ = ["Notice"]
