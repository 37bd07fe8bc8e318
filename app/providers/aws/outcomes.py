"""What a refusal in the middle of making a thing means for whoever asked for it."""

from __future__ import annotations

from app.providers.base import Context, ErrorKind, ProviderError, ResourceState

_NOT_THERE_YET = (
    "InvalidVpcID.", "InvalidSubnetID.", "InvalidGroup", "InvalidInternetGatewayID.", "InvalidRouteTableID.",
)  # fmt: skip
_FIRST_ATTEMPTS = 3


def with_state(error: ProviderError, state: ResourceState) -> ProviderError:
    """The error with what there is: what was made must not be forgotten because it could not be finished."""
    lost = error.kind is ErrorKind.OUTCOME_UNKNOWN
    return ProviderError(
        ErrorKind.UNAVAILABLE if lost else error.kind,
        error.message,
        code=error.code,
        path=error.path,
        retry_after_seconds=error.retry_after_seconds,
        partial=error.partial or state,
    )


def maybe_later(context: Context, error: ProviderError) -> ProviderError:
    """What was made a moment ago is not known everywhere in AWS yet."""
    fresh = error.kind is ErrorKind.NOT_FOUND and error.code.startswith(_NOT_THERE_YET)
    if not fresh or context.attempt > _FIRST_ATTEMPTS:
        return error
    return ProviderError(ErrorKind.DEPENDENCY, error.message, code=error.code)
