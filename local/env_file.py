"""``.local/env.json``: what `sam local invoke --env-vars` needs to run a function against the stack that runs here.

Every variable of the deployed function, the engine's address, and credentials of the function's **own** role, so that
a right which it lacks shows in the container as it would on AWS. Credentials last an hour; `make local` renews them.
Where containers know this machine by another name (local/containers.py), the addresses are written with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from containers import Address

    Variables = dict[str, dict[str, str]]

SESSION = "sam-local"  # local/engine.py lends roles to sessions of this name
CREDENTIALS_SECONDS = 3600  # the longest that a role gives without a MaxSessionDuration of its own
RENEW_SECONDS = 1200  # ours: whoever starts a container now has 40 minutes left


def function_variables(
    client: Callable[[str], Any], functions: Mapping[str, str], endpoint_url: str, region: str, address: Address
) -> Variables:
    """Return logical id → variables of every function.

    Parameters
    ----------
    client
        Gives a boto3 client of the engine, with all rights.
    functions
        Logical id → name.
    endpoint_url, region
        Where this machine finds the engine.
    address
        How a container calls this machine.
    """
    described, sts = client("lambda"), client("sts")
    found = {}
    for logical_id, name in functions.items():
        configuration = described.get_function_configuration(FunctionName=name)
        lent = sts.assume_role(
            RoleArn=configuration["Role"], RoleSessionName=SESSION, DurationSeconds=CREDENTIALS_SECONDS
        )["Credentials"]
        own = {**configuration["Environment"]["Variables"], "AWS_ENDPOINT_URL": endpoint_url}
        found[logical_id] = {
            **{name: address.as_containers_see(value) for name, value in own.items()},
            "AWS_REGION": region,
            "AWS_DEFAULT_REGION": region,
            "AWS_ACCESS_KEY_ID": lent["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": lent["SecretAccessKey"],
            "AWS_SESSION_TOKEN": lent["SessionToken"],
        }
    return found
