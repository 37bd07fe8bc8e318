"""The SDK's way to AWS, without the repetitions that are built into it."""

from __future__ import annotations

from typing import Any, ClassVar

from aiobotocore.httpsession import AIOHTTPSession


class SingleAttempt(AIOHTTPSession):  # type: ignore[misc]
    """Sends a request once.

    aiohttp sends a PUT or a DELETE a second time when the connection ends before the answer, whatever the SDK's own
    number of attempts. S3, Lambda and Route 53 make things by such requests. It has no public way to forbid that.
    """

    _believed: ClassVar[Any] = None

    async def _get_session(self, proxy_url: str | None) -> Any:
        session = await super()._get_session(proxy_url)
        session._retry_connection = False  # noqa: SLF001
        return session

    def _build_verify_context(self) -> Any:
        """The certificates that are believed, read once for a process: there are two clients for every service."""
        if self._verify is not True:
            return super()._build_verify_context()
        if SingleAttempt._believed is None:
            SingleAttempt._believed = super()._build_verify_context()
        return SingleAttempt._believed
