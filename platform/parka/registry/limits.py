"""Sizes and counts that uploads are held to."""

from __future__ import annotations

from datetime import timedelta

FILE_BYTES = 8 * 2**30
CHUNK_BYTES = 16 * 2**20
FORM_BYTES = 256 * 2**20
OPEN_UPLOADS = 8
UPLOAD_LIVES = timedelta(hours=24)
EXPIRED_ROW_LIVES = timedelta(days=7)
COPY_BYTES = 1 << 20
