"""What an error of AWS, or of the way to it, means."""

from __future__ import annotations

import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from botocore import exceptions as botocore
from botocore.parsers import ResponseParserError

from app.providers.base import ErrorKind, ProviderError

# By the whole code. What is not here is looked for in _BY_WORDS.
_BY_CODE = {
    "AccessDenied": ErrorKind.ACCESS_DENIED,
    "AuthFailure": ErrorKind.ACCESS_DENIED,
    "ExpiredToken": ErrorKind.ACCESS_DENIED,
    "ExpiredTokenException": ErrorKind.ACCESS_DENIED,
    "InvalidClientTokenId": ErrorKind.ACCESS_DENIED,
    "OptInRequired": ErrorKind.ACCESS_DENIED,
    "SignatureDoesNotMatch": ErrorKind.ACCESS_DENIED,
    "UnrecognizedClientException": ErrorKind.ACCESS_DENIED,
    "BandwidthLimitExceeded": ErrorKind.THROTTLED,
    "EC2ThrottledException": ErrorKind.THROTTLED,
    "LimitExceededException": ErrorKind.THROTTLED,
    "PriorRequestNotComplete": ErrorKind.THROTTLED,
    "RequestLimitExceeded": ErrorKind.THROTTLED,
    "SlowDown": ErrorKind.THROTTLED,
    "BucketAlreadyExists": ErrorKind.ALREADY_EXISTS,
    "BucketAlreadyOwnedByYou": ErrorKind.ALREADY_EXISTS,
    "Resource.AlreadyAssociated": ErrorKind.ALREADY_EXISTS,
    "InvalidSubnet.Conflict": ErrorKind.ALREADY_EXISTS,
    "ResourceConflictException": ErrorKind.CONFLICT,
    "BucketNotEmpty": ErrorKind.DEPENDENCY,
    "DeleteConflict": ErrorKind.DEPENDENCY,
    "DependencyViolation": ErrorKind.DEPENDENCY,
    "InvalidDBSubnetGroupStateFault": ErrorKind.DEPENDENCY,
    "VolumeInUse": ErrorKind.DEPENDENCY,
    "AWS.SimpleQueueService.QueueDeletedRecently": ErrorKind.CONFLICT,
    "IncorrectInstanceState": ErrorKind.CONFLICT,
    "IncorrectState": ErrorKind.CONFLICT,
    "InvalidDBInstanceState": ErrorKind.CONFLICT,
    "OperationAborted": ErrorKind.CONFLICT,
    "ResourceContention": ErrorKind.CONFLICT,
    "ScalingActivityInProgress": ErrorKind.CONFLICT,
    "InsufficientInstanceCapacity": ErrorKind.QUOTA,
    "NoSuchBucket": ErrorKind.NOT_FOUND,
    "NoSuchEntity": ErrorKind.NOT_FOUND,
    "NoSuchTagSet": ErrorKind.NOT_FOUND,
    "404": ErrorKind.NOT_FOUND,
    "403": ErrorKind.ACCESS_DENIED,
    # The server stopped half way: a write may or may not have happened.
    "InternalError": ErrorKind.OUTCOME_UNKNOWN,
    "InternalFailure": ErrorKind.OUTCOME_UNKNOWN,
    "InternalServerError": ErrorKind.OUTCOME_UNKNOWN,
    "InternalServiceError": ErrorKind.OUTCOME_UNKNOWN,
    "ServiceException": ErrorKind.OUTCOME_UNKNOWN,
    "ServiceUnavailable": ErrorKind.OUTCOME_UNKNOWN,
    "Unavailable": ErrorKind.OUTCOME_UNKNOWN,
}
# AWS has thousands of codes and few ways to build one. The first that is found in the code counts.
_BY_WORDS = (
    (re.compile("Throttl|TooManyRequests|ProvisionedThroughputExceeded|RequestThrottled"), ErrorKind.THROTTLED),
    (re.compile("Unauthorized|AccessDenied|NotAuthorized|Forbidden"), ErrorKind.ACCESS_DENIED),
    (re.compile("LimitExceeded|QuotaExceeded|InsufficientCapacity|^TooMany"), ErrorKind.QUOTA),
    (re.compile("AlreadyExist|Duplicate"), ErrorKind.ALREADY_EXISTS),
    (re.compile("NotFound|NoSuch|DoesNotExist|NonExistent|NotExist"), ErrorKind.NOT_FOUND),
    (re.compile("ResourceInUse|InUse"), ErrorKind.DEPENDENCY),
    (re.compile("Conflict|ConcurrentModification|IncorrectState"), ErrorKind.CONFLICT),
    (re.compile("Invalid|Malformed|Validation|Missing|Unsupported|BadRequest|Parameter"), ErrorKind.INVALID),
)
# The request did not leave, so that it is safe to send it again. Of EndpointConnectionError see _was_sent.
_NOT_SENT = (
    botocore.EndpointConnectionError,
    botocore.ConnectTimeoutError,
    botocore.ProxyConnectionError,
    botocore.SSLError,
)
_NO_CREDENTIALS = (botocore.NoCredentialsError, botocore.PartialCredentialsError, botocore.CredentialRetrievalError)
_MISUSE = (botocore.ParamValidationError, botocore.UnknownServiceError, botocore.NoRegionError)
_TEXT_LIMIT = 500
_SERVER_ERROR = 500


def kind_of(code: str, status: int = 400) -> ErrorKind:
    """The meaning of an error code that came with an HTTP status, if it was a write."""
    known = _BY_CODE.get(code) or next((kind for words, kind in _BY_WORDS if words.search(code)), None)
    if known is not None:
        return known
    return ErrorKind.OUTCOME_UNKNOWN if status >= _SERVER_ERROR else ErrorKind.INVALID


@asynccontextmanager
async def speaking(call: str, *, writes: bool) -> AsyncIterator[None]:
    """A request is under way. An answer that does not come leaves the outcome of a write unknown."""
    lost = ErrorKind.OUTCOME_UNKNOWN if writes else ErrorKind.UNAVAILABLE
    try:
        yield
    except botocore.ClientError as error:
        raise _refusal(call, error, lost) from error
    except _NOT_SENT as error:
        message = f"{call}: AWS cannot be reached: {_text(error)}"
        raise ProviderError(lost if _was_sent(error) else ErrorKind.UNAVAILABLE, message) from error
    except _NO_CREDENTIALS as error:
        raise ProviderError(ErrorKind.ACCESS_DENIED, f"{call}: {_text(error)}") from error
    except _MISUSE as error:
        raise ProviderError(ErrorKind.INVALID, f"{call}: {_text(error)}") from error
    except (botocore.BotoCoreError, ResponseParserError, OSError, TimeoutError) as error:
        message = f"{call}: the answer of AWS was lost: {_text(error) or type(error).__name__}"
        raise ProviderError(lost, message) from error


def _was_sent(error: botocore.BotoCoreError) -> bool:
    """Whether the request may have left. The SDK says of a connection that was reset that it could not be made."""
    cause = error.kwargs.get("error") if isinstance(error, botocore.EndpointConnectionError) else None
    return cause is not None and not isinstance(cause, (aiohttp.ClientConnectorError, socket.gaierror))


def _refusal(call: str, error: botocore.ClientError, lost: ErrorKind) -> ProviderError:
    answer = error.response
    about = answer.get("Error", {})
    metadata = answer.get("ResponseMetadata", {})
    code = str(about.get("Code", "Unknown"))
    kind = kind_of(code, int(metadata.get("HTTPStatusCode", 400)))
    after = metadata.get("HTTPHeaders", {}).get("retry-after", "")
    return ProviderError(
        lost if kind is ErrorKind.OUTCOME_UNKNOWN else kind,
        f"{call}: {str(about.get('Message') or code)[:_TEXT_LIMIT]}",
        code=code,
        retry_after_seconds=float(after) if str(after).isdigit() else None,
    )


def _text(error: Exception) -> str:
    return str(error)[:_TEXT_LIMIT]
