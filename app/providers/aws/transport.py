"""The SDK's way to AWS, without the repetitions that are built into it."""

from __future__ import annotations

from typing import Any

from aiobotocore.httpsession import AIOHTTPSession


class SingleAttempt(AIOHTTPSession):  # type: ignore[misc]
    """Sends a request once.

    aiohttp sends a PUT or a DELETE a second time when the connection ends before the answer, whatever the SDK's own
    number of attempts. S3, Lambda and Route 53 make things by such requests. It has no public way to forbid that.
    """

    async def _get_session(self, proxy_url: str | None) -> Any:
        session = await super()._get_session(proxy_url)
        session._retry_connection = False  # noqa: SLF001
        return session
