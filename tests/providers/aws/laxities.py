"""Where the emulator is not like AWS, each with what the tests expect of it instead.

A check that is named here must fail: when the emulator learns better, the line goes.
"""

from __future__ import annotations

UPDATED = "what is updated reads back without a difference"

# By type: the checks of the conformance kit that cannot pass.
FAILING_CHECKS: dict[str, dict[str, str]] = {
    "aws.rds.subnet_group": {UPDATED: "ModifyDBSubnetGroup answers, and forgets the group"},
}
