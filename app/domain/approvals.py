"""Who has to agree before a plan may run, and whether they have.

A plan asks for it in its configuration:

    {"approvals": {"required": 2, "authorMayApprove": false, "deadline": "PT24H"}}

A review is bound to the hash of the preview that was looked at and to the round in which approval was asked for: an
edit or a changed preview begins a new round, in which nobody has agreed yet.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from app.domain.durations import parse_duration
from app.domain.errors import DomainError, Invalid, Path, Several, TypeMismatch

MOST_REQUIRED = 20
_LONGEST_DEADLINE = timedelta(days=366)
_PATH = ("configuration", "approvals")
_NAMES = ("required", "authorMayApprove", "deadline")


@dataclass(frozen=True, slots=True)
class ApprovalPolicy:
    """How many people have to approve, whether an author counts, and how long there is for it."""

    required: int = 0
    author_may_approve: bool = False
    deadline: timedelta | None = None

    @property
    def overruling(self) -> ApprovalPolicy:
        """The same, where what is approved fails a policy: that takes somebody, and somebody else."""
        return replace(self, required=max(1, self.required), author_may_approve=False)

    @classmethod
    def of(cls, configuration: Mapping[str, Any] | None) -> ApprovalPolicy:
        """What a plan's configuration asks for. Raises Invalid, TypeMismatch or Several, each with its path.

        An unknown name is refused: a safeguard that was misspelt would be none.
        """
        document = (configuration or {}).get("approvals")
        if document is None:
            return cls()
        if not isinstance(document, Mapping):
            message = "approvals is an object"
            raise TypeMismatch(message, path=_PATH)
        faults: list[DomainError] = [
            Invalid(f"approvals knows {', '.join(_NAMES)}, and not this", path=(*_PATH, str(name)))
            for name in document
            if name not in _NAMES
        ]
        required, author_may_approve = document.get("required", 1), document.get("authorMayApprove", False)
        if isinstance(required, bool) or not isinstance(required, int) or not 0 <= required <= MOST_REQUIRED:
            faults.append(Invalid(f"from 0 to {MOST_REQUIRED} people can be required", path=(*_PATH, "required")))
        if not isinstance(author_may_approve, bool):
            faults.append(TypeMismatch("authorMayApprove is true or false", path=(*_PATH, "authorMayApprove")))
        deadline = None
        try:
            deadline = _deadline(document.get("deadline"), (*_PATH, "deadline"))
        except Invalid as fault:
            faults.append(fault)
        if faults:
            raise faults[0] if len(faults) == 1 else Several(faults)
        return cls(required, author_may_approve, deadline)


@dataclass(frozen=True, slots=True)
class Review:
    """What one person said of one preview."""

    user_id: int
    approved: bool
    preview_hash: str
    round: int


@dataclass(frozen=True, slots=True)
class Council:
    """Everybody who has spoken about a plan, seen from where it stands now."""

    policy: ApprovalPolicy
    authors: Collection[int]
    round: int
    preview_hash: str | None
    reviews: tuple[Review, ...] = ()

    @property
    def granted(self) -> int:
        """How many different people have approved what the plan would do now."""
        return len({review.user_id for review in self._current() if review.approved})

    @property
    def agreed(self) -> bool:
        """Whether that is enough."""
        return self.granted >= self.policy.required

    def has_spoken(self, user_id: int) -> bool:
        """Whether this person has reviewed what the plan would do now."""
        return any(review.user_id == user_id for review in self._current())

    def is_barred(self, user_id: int) -> bool:
        """Whether this person is an author, and authors may not approve."""
        return user_id in self.authors and not self.policy.author_may_approve

    def _current(self) -> Iterable[Review]:
        return (
            review for review in self.reviews if review.round == self.round and review.preview_hash == self.preview_hash
        )


def _deadline(given: object, path: Path) -> timedelta | None:
    if given is None:
        return None
    length = parse_duration(given, path)
    if not timedelta() < length <= _LONGEST_DEADLINE:
        message = f"there are more than no time and at most {_LONGEST_DEADLINE.days} days for it"
        raise Invalid(message, path=path)
    return length
