"""Roles as AWS IAM sees them, for the local engine: who a session is, and which principals a trust policy may name."""

# mypy: disable-error-code="no-untyped-call,no-untyped-def"
from __future__ import annotations

import json
import time
from typing import Any

# ours: AWS gives no number; what a stack makes in one go is younger
VISIBLE_SECONDS = 60


def name_roles_of_sessions(evaluator: Any, iam: Any) -> None:
    """Make ``aws:PrincipalArn`` of a role's session the role's own ARN.

    What AWS does (IAM, "AWS global condition context keys"): "For IAM roles, the request context returns the ARN of the
    role, not the ARN of the user that assumed the role." MiniStack gives the session's.
    """
    resolve = evaluator._resolve_condition_key

    def resolve_role(key: str, context: Any) -> Any:
        value = resolve(key, context)
        if key.lower() != "aws:principalarn" or ":assumed-role/" not in str(value):
            return value
        role = iam._roles.get(evaluator._role_name_from_assumed_arn(value))
        return role["Arn"] if role else value

    evaluator._resolve_condition_key = resolve_role


def refuse_new_principals(handlers: dict[str, dict[str, Any]]) -> None:
    """Refuse a trust policy that names a role which isn't there, or was made a moment before.

    What AWS does (IAM, "Troubleshoot IAM": "Changes that I make are not always immediately visible"; re:Post, "How do I
    resolve the IAM trust policy error … Invalid principal in policy"): each principal is looked up and stored by its
    id, and a new role may not be found yet. On AWS it is a matter of luck; here it is always refused.
    """
    role = handlers["AWS::IAM::Role"]
    made: dict[str, float] = {}

    def check(properties: dict[str, Any]) -> None:
        for arn in trusted_roles(properties.get("AssumeRolePolicyDocument", {})):
            if time.monotonic() - made.get(arn, time.monotonic()) < VISIBLE_SECONDS:
                raise ValueError(f'Invalid principal in policy: "AWS":"{arn}" (Error Code: MalformedPolicyDocument)')

    create, update = role["create"], role["update"]

    def create_checked(logical_id: str, properties: dict[str, Any], stack: str) -> Any:
        check(properties)
        physical_id, attributes = create(logical_id, properties, stack)
        made[attributes["Arn"]] = time.monotonic()
        return physical_id, attributes

    def update_checked(physical_id: str, old: dict[str, Any], new: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        check(new)
        return update(physical_id, old, new, *args, **kwargs)

    role.update(create=create_checked, update=update_checked)


def trusted_roles(document: Any) -> list[str]:
    """Return the ARNs of roles that a trust policy names as principals."""
    trust = json.loads(document) if isinstance(document, str) else document
    statements = trust.get("Statement", [])
    found: list[str] = []
    for statement in [statements] if isinstance(statements, dict) else statements:
        principal = statement.get("Principal")
        named = principal.get("AWS", []) if isinstance(principal, dict) else []
        found += [arn for arn in ([named] if isinstance(named, str) else named) if ":role/" in str(arn)]
    return found
