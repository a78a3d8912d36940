"""``make check-aws``: hold a deployed stack against what the design takes for granted about AWS.

    make check-aws STACK=portraitcast [JSON=1]

To be run once after deploying, before the API key is put in. First it reads back what each service says of its part of
the stack. Then it drops one pair while the secret holds a **wrong key**, so that the provider refuses the account and
nothing is paid, and follows it: report, event, operators' notice, links, an execution, a dead letter. At the end it
takes away what it made, and the secret is as it was. AWS takes less than a cent for it. docs/aws.md says what leans on
each statement.

It refuses a stack at work. Where a key was put in before, it first waits until no function remembers it. The exit code
is 0 when nothing differed, 1 when something did, 2 when it could not be asked.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
import urllib.error
import urllib.request
import uuid
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from deployed import Deployed, NoStackError, find_stack
from package import read_template, resources
from redrive import redrive
from run import ROOT, Ended, ended_by_signals, say_last

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WRONG_KEY: Final = "sk-00000000000000000000000000000000"  # of the right form, and nobody's
NO_KEY: Final = "not-set"  # template.yaml
KEY_SECONDS: Final = 75  # functions remember the key for a minute
WAIT_SECONDS: Final = 180  # ours: a cold start, PairSeconds, a retry of a message
FOLDER: Final = "portraitcast-check"
SAMPLES: Final = ROOT / "local" / "samples"
EVENTS_A_POLL: Final = 9  # Wait: 2; Poll: entered, scheduled, started, succeeded, exited; HasItEnded: 2
COUNTS: Final = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
NOT_THERE: Final = {"NoSuchKey", "404", "NoSuchBucket"}
REFUSED: Final = {"AccessDenied", "AccessDeniedException"}


class Verdict(StrEnum):
    """What AWS said to a statement."""

    AGREED = "agreed"
    DIFFERS = "differs"
    NOT_SEEN = "not seen"  # it could not be asked, or there was nothing to see it in


@dataclass(frozen=True)
class Seen:
    """What was seen, and whether it agrees; None where nothing was to be seen."""

    agreed: bool | None
    words: str


@dataclass(frozen=True)
class Finding:
    """A statement, what became of it, and what was seen."""

    name: str
    words: str
    verdict: Verdict
    seen: str


class AtWorkError(Exception):
    """The stack can't be checked now; the message says why."""


def same(expected: object, found: object) -> Seen:
    """Compare; say what differs."""
    if expected == found:
        return Seen(agreed=True, words=_short(found))
    return Seen(agreed=False, words=f"{_short(found)} in place of {_short(expected)}")


def all_same(expected: dict[str, Any], found: dict[str, Any]) -> Seen:
    """Compare part by part; name only those that differ."""
    bad = {name: found.get(name) for name, value in expected.items() if found.get(name) != value}
    if bad:
        return Seen(
            agreed=False, words="; ".join(f"{n}: {_short(v)}, not {_short(expected[n])}" for n, v in bad.items())
        )
    return Seen(agreed=True, words=", ".join(expected))


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str, sort_keys=True)
    return text if len(text) <= 200 else f"{text[:200]}…"


def logical_id_of(value: dict[str, Any]) -> str:
    """Return the logical id that a Ref or a GetAtt names."""
    if "Ref" in value:
        return str(value["Ref"])
    named = value["Fn::GetAtt"]
    return str(named if isinstance(named, str) else named[0]).partition(".")[0]


class Checker:
    """Asks AWS about a stack.

    Parameters
    ----------
    stack
        The stack.
    tell
        Called with each finding as it is made.
    """

    def __init__(self, stack: Deployed, tell: Callable[[Finding], None]) -> None:
        self.stack = stack
        self.findings: list[Finding] = []
        self._tell = tell
        self._template = read_template(ROOT / "template.yaml")
        self._clients: dict[str, Any] = {}
        self._own = uuid.uuid4().hex[:8]
        self._name = f"{FOLDER}/{self._own}/line"
        self._report: dict[str, Any] = {}
        self._told: list[str] = []

    # ------------------------------------------------------------------ plumbing
    def run(self) -> None:
        """Ask everything; raises `AtWorkError` before anything was changed."""
        self._refuse_at_work()
        for name in READ_BACK:
            self.ask(name)
        with self._pair():
            for name in FOLLOWED:
                self.ask(name)

    def ask(self, name: str) -> Finding:
        """Ask about one statement; what AWS refuses to say is not seen."""
        words, look = (READ_BACK | FOLLOWED)[name]
        try:
            seen = look(self)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            missing = code.startswith("NoSuch") or "NotFound" in code
            seen = Seen(agreed=False if missing else None, words=str(error))
        except BotoCoreError as error:
            seen = Seen(None, str(error))
        except (LookupError, TypeError, ValueError) as error:  # an answer of a form that nobody has seen yet
            seen = Seen(None, f"the answer is not to be understood: {error!r}")
        verdict = {True: Verdict.AGREED, False: Verdict.DIFFERS, None: Verdict.NOT_SEEN}[seen.agreed]
        finding = Finding(name, words, verdict, seen.words)
        self.findings.append(finding)
        self._tell(finding)
        return finding

    def client(self, service: str) -> Any:
        """Return a client, made once."""
        if service not in self._clients:
            self._clients[service] = self.stack.client(service)
        return self._clients[service]

    def _of_type(self, kind: str) -> dict[str, dict[str, Any]]:
        return {
            name: each.get("Properties", {})
            for name, each in self._template["Resources"].items()
            if each["Type"] == kind and name in self.stack.resources
        }

    def _functions(self) -> dict[str, dict[str, Any]]:
        return {name: self._configuration(name) for name in resources(self._template, "Function")}

    def _configuration(self, function: str) -> dict[str, Any]:
        found: dict[str, Any] = self.client("lambda").get_function_configuration(
            FunctionName=self.stack.resources[function]
        )
        return found

    def _queue(self, name: str) -> dict[str, str]:
        found: dict[str, str] = self.client("sqs").get_queue_attributes(
            QueueUrl=self.stack.resources[name], AttributeNames=["All"]
        )["Attributes"]
        return found

    def _role_arn(self, name: str) -> str:
        return str(self.client("iam").get_role(RoleName=self.stack.resources[name])["Role"]["Arn"])

    def _may(self, role: str, action: str, arn: str) -> bool:
        answer = self.client("iam").simulate_principal_policy(
            PolicySourceArn=self._role_arn(role), ActionNames=[action], ResourceArns=[arn]
        )
        return bool(answer["EvaluationResults"][0]["EvalDecision"] == "allowed")

    def _wait(self, look: Callable[[], Any], seconds: float = WAIT_SECONDS) -> Any:
        """Return what a look gives once it gives something; None when it never does."""
        deadline = time.monotonic() + seconds
        while not (found := look()):
            if time.monotonic() > deadline:
                return None
            time.sleep(0.5 if self.stack.is_local else 2)
        return found

    # ------------------------------------------------------------------ functions and mappings
    def recursion(self) -> Seen:
        """Ask Lambda for each function's recursion setting."""
        functions = resources(self._template, "Function")
        expected = {name: properties.get("RecursiveLoop", "Terminate") for name, properties in functions.items()}
        found = {
            name: self.client("lambda").get_function_recursion_config(FunctionName=self.stack.resources[name])[
                "RecursiveLoop"
            ]
            for name in functions
        }
        return all_same(expected, found)

    def loops(self) -> Seen:
        """Ask CloudWatch whether Lambda has dropped messages of submit."""
        return self._count("AWS/Lambda", "RecursiveInvocationsDropped", "SubmitFunction")

    def _count(self, namespace: str, metric: str, function: str) -> Seen:
        points = self.client("cloudwatch").get_metric_statistics(
            Namespace=namespace, MetricName=metric, Statistics=["Sum"], Period=86_400,
            Dimensions=[{"Name": "FunctionName", "Value": self.stack.resources[function]}],
            StartTime=time.time() - 14 * 86_400, EndTime=time.time(),
        )["Datapoints"]  # fmt: skip
        total = sum(point["Sum"] for point in points)
        return Seen(agreed=total == 0, words=f"{total:g} in 14 days")

    def environment(self) -> Seen:
        """Ask for variables that the template names without a value."""
        everywhere = self._template["Globals"]["Function"]["Environment"]["Variables"]
        bad = []
        for name, configuration in self._functions().items():
            own = resources(self._template, "Function")[name].get("Environment", {}).get("Variables", {})
            absent = {key for key, value in (everywhere | own).items() if value == {"Ref": "AWS::NoValue"}}
            there = absent & set(configuration["Environment"]["Variables"])
            bad += [f"{name} has {key}" for key in sorted(there)]
        return Seen(agreed=not bad, words="; ".join(bad) or "none is there")

    def settings(self) -> Seen:
        """Compare limits, runtime, processor, tracing and layers of each function."""
        usual = self._template["Globals"]["Function"]
        expected, found = {}, {}
        for name, configuration in self._functions().items():
            properties = usual | resources(self._template, "Function")[name]
            layers = len(usual["Layers"]) + (
                len(properties["Layers"]) if properties["Layers"] != usual["Layers"] else 0
            )
            expected[name] = [
                self._chosen(properties["Timeout"]), properties["MemorySize"],
                properties.get("EphemeralStorage", {}).get("Size", 512), "Active", layers,
            ]  # fmt: skip
            found[name] = [
                configuration["Timeout"], configuration["MemorySize"],
                configuration.get("EphemeralStorage", {}).get("Size", 512),
                configuration.get("TracingConfig", {}).get("Mode"), len(configuration.get("Layers", [])),
            ]  # fmt: skip
        if self.stack.is_local:  # local/package.py lays the layers beside the code
            expected, found = ({n: v[:-1] for n, v in each.items()} for each in (expected, found))
        return all_same(expected, found)

    def _chosen(self, value: Any) -> Any:
        """Return what an Fn::If of the template comes to with the stack's parameters; anything else as it is."""
        if not (isinstance(value, dict) and "Fn::If" in value):
            return value
        condition, holds, fails = value["Fn::If"]
        parameter, wanted = self._template["Conditions"][condition]["Fn::Equals"]
        return holds if self.stack.parameters.get(parameter["Ref"]) == wanted else fails

    def _mappings(self) -> dict[str, dict[str, Any]]:
        """Return the mappings by their function and queue."""
        names = self._of_type("AWS::SQS::Queue")
        queues = {self.stack.resources[name].rpartition("/")[2]: name for name in names}
        found: dict[str, dict[str, Any]] = {}
        for name in resources(self._template, "Function"):
            listed = self.client("lambda").list_event_source_mappings(FunctionName=self.stack.resources[name])
            for each in listed["EventSourceMappings"]:
                found[f"{name} {queues[each['EventSourceArn'].rpartition(':')[2]]}"] = each
        return found

    def mappings(self) -> Seen:
        """Compare the queues' mappings."""
        expected = {
            f"{name} {logical_id_of(event['Properties']['Queue'])}":
                  ["Enabled", event["Properties"]["BatchSize"], event["Properties"]["FunctionResponseTypes"],
                   event["Properties"]["ScalingConfig"]["MaximumConcurrency"]]
            for name, properties in resources(self._template, "Function").items()
            for event in properties.get("Events", {}).values() if event["Type"] == "SQS"
        }  # fmt: skip
        found = {
            name: [each["State"], each["BatchSize"], each.get("FunctionResponseTypes"),
                   (each.get("ScalingConfig") or {}).get("MaximumConcurrency")]
            for name, each in self._mappings().items()
        }  # fmt: skip
        return all_same(expected, found)

    def mapping_tags(self) -> Seen:
        """Ask for a mapping's tags."""
        tags = {}
        for name, each in self._mappings().items():
            if "EventSourceMappingArn" not in each:
                return Seen(None, "no mapping says its ARN")
            tags[name] = self.client("lambda").list_tags(Resource=each["EventSourceMappingArn"])["Tags"]
        bare = [name for name, its in tags.items() if not its]
        return Seen(agreed=not bare, words=f"without: {', '.join(bare)}" if bare else _short(tags))

    # ------------------------------------------------------------------ roles
    def link_trust(self) -> Seen:
        """Read LinkRole's trust policy back."""
        role = self.client("iam").get_role(RoleName=self.stack.resources["LinkRole"])["Role"]
        statements = role["AssumeRolePolicyDocument"]["Statement"]
        conditions = [each.get("Condition") for each in statements]
        return same([{"ArnEquals": {"aws:PrincipalArn": self._role_arn("SubmitRole")}}], conditions)

    def link_refused(self) -> Seen:
        """Try to take LinkRole with the rights of whoever asks."""
        try:
            self.client("sts").assume_role(RoleArn=self._role_arn("LinkRole"), RoleSessionName=FOLDER)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            return Seen(agreed=code in REFUSED, words=code)
        return Seen(agreed=False, words="it was given")

    def link_rights(self) -> Seen:
        """Simulate who may take LinkRole, and what it may."""
        link = self._role_arn("LinkRole")
        takers = [role for role in ROLES if self._may(role, "sts:AssumeRole", link)]
        file = f"arn:{link.split(':')[1]}:s3:::{self.stack.outputs['UploadBucket']}/x"
        actions = ("GetObject", "GetObjectVersion", "PutObject", "DeleteObject", "DeleteObjectVersion")
        may = [action for action in actions if self._may("LinkRole", f"s3:{action}", file)]
        return same([["SubmitRole"], ["GetObject", "GetObjectVersion"]], [takers, may])

    def no_deletions(self) -> Seen:
        """Simulate what no function may do."""
        partition = self._role_arn("LinkRole").split(":")[1]
        bad = [
            f"{role}: {action} {bucket}"
            for bucket in ("UploadBucket", "ResultsBucket")
            for action in ("s3:DeleteObject", "s3:DeleteObjectVersion", "s3:DeleteBucket")
            for role in ROLES
            if self._may(role, action, f"arn:{partition}:s3:::{self.stack.outputs[bucket]}/x")
        ]
        return Seen(agreed=not bad, words="; ".join(bad) or "none may")

    def customer_key(self) -> Seen:
        """Simulate who may decrypt."""
        key = self.stack.parameters.get("CustomerKeyArn")
        if not key:
            return Seen(None, "the stack has no CustomerKeyArn")
        without = [role for role in (*ROLES, "LinkRole") if not self._may(role, "kms:Decrypt", key)]
        return Seen(agreed=not without, words=f"may not: {', '.join(without)}" if without else "all may")

    # ------------------------------------------------------------------ queues, rules, topics
    def redrive_policies(self) -> Seen:
        """Compare where messages go in the end."""
        expected, found = {}, {}
        for name, properties in self._of_type("AWS::SQS::Queue").items():
            policy = properties.get("RedrivePolicy")
            target = self._queue(policy["deadLetterTargetArn"]["Fn::GetAtt"][0])["QueueArn"] if policy else None
            expected[name] = [target, policy["maxReceiveCount"]] if policy else None
            there = json.loads(self._queue(name).get("RedrivePolicy") or "null")
            found[name] = [there["deadLetterTargetArn"], int(there["maxReceiveCount"])] if there else None
        return all_same(expected, found)

    def queue_settings(self) -> Seen:
        """Compare times and encryption of every queue."""
        expected, found = {}, {}
        for name, properties in self._of_type("AWS::SQS::Queue").items():
            there = self._queue(name)
            hidden = self._chosen(properties.get("VisibilityTimeout", 30))
            expected[name] = [hidden, properties["MessageRetentionPeriod"], "true"]
            found[name] = [int(there["VisibilityTimeout"]), int(there["MessageRetentionPeriod"]),
                           there.get("SqsManagedSseEnabled", "").lower()]  # fmt: skip
        return all_same(expected, found)

    def rules(self) -> Seen:
        """Compare the rules and their targets."""
        events = self.client("events")
        expected, found = {}, {}
        for name, properties in self._of_type("AWS::Events::Rule").items():
            rule = self.stack.resources[name].rpartition("|")[2]
            targets = events.list_targets_by_rule(Rule=rule)["Targets"]
            expected[name] = ["ENABLED", [["DeadLetterConfig" in each] for each in properties["Targets"]]]
            found[name] = [events.describe_rule(Name=rule)["State"], [["DeadLetterConfig" in each] for each in targets]]
        return all_same(expected, found)

    def topics(self) -> Seen:
        """Compare the topics' encryption; see whether e-mail addresses are confirmed."""
        sns = self.client("sns")
        for name, properties in self._of_type("AWS::SNS::Topic").items():
            there = sns.get_topic_attributes(TopicArn=self.stack.resources[name])["Attributes"]
            if (there.get("KmsMasterKeyId") or None) != properties.get("KmsMasterKeyId"):
                return Seen(agreed=False, words=f"{name}: {there.get('KmsMasterKeyId')}")
            listed = sns.list_subscriptions_by_topic(TopicArn=self.stack.resources[name])["Subscriptions"]
            if any(each["SubscriptionArn"] == "PendingConfirmation" for each in listed):
                return Seen(agreed=False, words=f"{name}: an address has not been confirmed")
        return Seen(agreed=True, words="as the template has them")

    def asynchronous(self) -> Seen:
        """Ask how often deliver is tried, and where its failures go."""
        there = self.client("lambda").get_function_event_invoke_config(
            FunctionName=self.stack.resources["DeliverFunction"], Qualifier="$LATEST"
        )
        goes_to = there.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination")
        return same([2, self._queue("DeliverDeadLetterQueue")["QueueArn"]], [there["MaximumRetryAttempts"], goes_to])

    # ------------------------------------------------------------------ buckets, table, secret
    def encryption(self) -> Seen:
        """Compare each bucket's encryption."""
        key = self.stack.parameters.get("CustomerKeyArn") or None
        expected = ["aws:kms", key] if key else ["AES256", None]
        found: dict[str, Any] = {}
        for name in self._of_type("AWS::S3::Bucket"):
            answer = self.client("s3").get_bucket_encryption(Bucket=self.stack.resources[name])
            default = answer["ServerSideEncryptionConfiguration"]["Rules"][0]["ApplyServerSideEncryptionByDefault"]
            found[name] = [default["SSEAlgorithm"], default.get("KMSMasterKeyID")]
        return all_same(dict.fromkeys(found, expected), found)

    def private(self) -> Seen:
        """Ask whether each bucket is closed to the public, and to plain HTTP."""
        s3, found = self.client("s3"), {}
        for name in self._of_type("AWS::S3::Bucket"):
            bucket = self.stack.resources[name]
            block = s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
            policy = json.loads(s3.get_bucket_policy(Bucket=bucket)["Policy"])
            denied = [each.get("Condition") for each in policy["Statement"] if each["Effect"] == "Deny"]
            found[name] = [all(block.values()), denied]
        closed = [True, [{"Bool": {"aws:SecureTransport": "false"}}]]
        return all_same(dict.fromkeys(found, closed), found)

    def lifecycle(self) -> Seen:
        """Compare what expires."""
        expected, found = {}, {}
        for name, properties in self._of_type("AWS::S3::Bucket").items():
            rules = self.client("s3").get_bucket_lifecycle_configuration(Bucket=self.stack.resources[name])["Rules"]
            expected[name] = [_expiry(each) for each in properties["LifecycleConfiguration"]["Rules"]]
            found[name] = [_expiry(each) for each in rules]
        return all_same(expected, found)

    def versioning(self) -> Seen:
        """Compare the buckets' versioning."""
        expected, found = {}, {}
        for name, properties in self._of_type("AWS::S3::Bucket").items():
            expected[name] = properties.get("VersioningConfiguration", {}).get("Status")
            found[name] = self.client("s3").get_bucket_versioning(Bucket=self.stack.resources[name]).get("Status")
        return all_same(expected, found)

    def notifications(self) -> Seen:
        """Ask where the upload bucket's events go."""
        there = self.client("s3").get_bucket_notification_configuration(Bucket=self.stack.outputs["UploadBucket"])
        found = sorted([each["QueueArn"], each["Events"]] for each in there.get("QueueConfigurations", []))
        queue = self._queue("UploadsQueue")["QueueArn"]
        return same([[queue, ["s3:ObjectCreated:*"]], [queue, ["s3:ObjectRemoved:*"]]], found)

    def table(self) -> Seen:
        """Compare the table."""
        client, name = self.client("dynamodb"), self.stack.outputs["TableName"]
        there = client.describe_table(TableName=name)["Table"]
        ttl = client.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
        backups = client.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]
        found = {
            "billing": there.get("BillingModeSummary", {}).get("BillingMode"),
            "indexes": [
                [each["IndexName"], each.get("IndexStatus")] for each in there.get("GlobalSecondaryIndexes", [])
            ],
            "time to live": [ttl.get("TimeToLiveStatus"), ttl.get("AttributeName")],
            "recovery": backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"],
            "key": there.get("SSEDescription", {}).get("SSEType"),  # absent: a key of DynamoDB's own
        }
        expected: dict[str, Any] = {
            "billing": "PAY_PER_REQUEST", "indexes": [["open", "ACTIVE"]], "time to live": ["ENABLED", "expires"],
            "recovery": "ENABLED", "key": None,
        }  # fmt: skip
        return all_same(expected, found)

    def secret(self) -> Seen:
        """Ask for the secret's encryption key."""
        there = self.client("secretsmanager").describe_secret(SecretId=self.stack.outputs["ApiKeySecretArn"])
        return same(self.stack.parameters.get("CustomerKeyArn") or None, there.get("KmsKeyId"))

    # ------------------------------------------------------------------ machine, logs, alarms
    def machine(self) -> Seen:
        """Compare the state machine's definition with the template's, name by name."""
        there = self.client("stepfunctions").describe_state_machine(
            stateMachineArn=self.stack.outputs["StateMachineArn"]
        )
        found = json.loads(there["definition"])
        wanted = self._template["Resources"]["StateMachine"]["Properties"]["Definition"]
        expected: dict[str, Any] = {name: _flow(state) for name, state in wanted["States"].items()}
        states = {name: _flow(state) for name, state in found["States"].items()}
        expected |= {"type": "STANDARD", "TimeoutSeconds": wanted["TimeoutSeconds"]}
        return all_same(expected, states | {"type": there["type"], "TimeoutSeconds": found.get("TimeoutSeconds")})

    def log_groups(self) -> Seen:
        """Compare how long logs are kept."""
        expected, found = {}, {}
        for name, properties in self._of_type("AWS::Logs::LogGroup").items():
            group = self.stack.resources[name]
            listed = self.client("logs").describe_log_groups(logGroupNamePrefix=group)["logGroups"]
            expected[name] = properties["RetentionInDays"]
            found[name] = next((each.get("retentionInDays") for each in listed if each["logGroupName"] == group), None)
        return all_same(expected, found)

    def queries(self) -> Seen:
        """Run the saved queries over the last hour."""
        logs = self.client("logs")
        saved = logs.describe_query_definitions(queryDefinitionNamePrefix=f"{self.stack.name}/")["queryDefinitions"]
        if len(saved) != len(self._of_type("AWS::Logs::QueryDefinition")):
            return Seen(agreed=False, words=f"{len(saved)} are there")
        now = int(time.time())
        for query in saved:
            groups, text = query["logGroupNames"], query["queryString"]
            begun = logs.start_query(logGroupNames=groups, queryString=text, startTime=now - 3600, endTime=now)
            ended = self._wait(partial(self._query_status, begun["queryId"]))
            if ended != "Complete":
                return Seen(agreed=False, words=f"{query['name']}: {ended}")
        return Seen(agreed=True, words=", ".join(query["name"] for query in saved))

    def _query_status(self, query: str) -> str | None:
        status = str(self.client("logs").get_query_results(queryId=query)["status"])
        return None if status in {"Running", "Scheduled"} else status

    def alarms(self) -> Seen:
        """Compare the alarms, and say their states."""
        names = {self.stack.resources[name]: name for name in self._of_type("AWS::CloudWatch::Alarm")}
        listed = self.client("cloudwatch").describe_alarms(AlarmNames=list(names))["MetricAlarms"]
        found = {names[each["AlarmName"]]: each for each in listed}
        topic = self.stack.outputs["OperatorTopicArn"]
        missing = set(names.values()) - set(found)
        bad = [f"{name} is not there" for name in sorted(missing)]
        bad += [f"{name} tells nobody" for name, each in found.items() if each["AlarmActions"] != [topic]]
        bad += [f"{name} is off" for name, each in found.items() if not each.get("ActionsEnabled", True)]
        bad += [f"{name}: ALARM" for name, each in found.items() if each["StateValue"] == "ALARM"]
        states = sorted({each["StateValue"] for each in listed})
        return Seen(agreed=not bad, words="; ".join(bad) or f"{len(found)} alarms: {', '.join(states)}")

    def dashboard(self) -> Seen:
        """Read the dashboard back."""
        body = json.loads(self.client("cloudwatch").get_dashboard(DashboardName=self.stack.name)["DashboardBody"])
        wanted = self._template["Resources"]["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
        titles = [[each["properties"]["title"] for each in board["widgets"]] for board in (json.loads(wanted), body)]
        return same(*titles)

    def sweeps(self) -> Seen:
        """Ask for the sweep's own metric."""
        points = self.client("cloudwatch").get_metric_statistics(
            Namespace="Portraitcast", MetricName="Sweeps", Statistics=["Sum"], Period=3600,
            Dimensions=[{"Name": "service", "Value": self.stack.name}],
            StartTime=time.time() - 7200, EndTime=time.time() + 60,
        )["Datapoints"]  # fmt: skip
        total = sum(point["Sum"] for point in points)
        return Seen(agreed=True, words=f"{total:g}") if total else Seen(None, "none yet: ask again after SweepMinutes")

    # ------------------------------------------------------------------ the pair
    def _refuse_at_work(self) -> None:
        """Raise AtWorkError while jobs are open: their polls would meet the wrong key."""
        answer = self.client("dynamodb").query(
            TableName=self.stack.outputs["TableName"], IndexName="open", KeyConditionExpression="#o = :o",
            ExpressionAttributeNames={"#o": "open"}, ExpressionAttributeValues={":o": {"S": "open"}},
        )  # fmt: skip
        jobs = [each for each in answer["Items"] if each["pk"]["S"].startswith("JOB#")]
        if jobs:
            raise AtWorkError(
                f"{len(jobs)} jobs are open: `make pause`, and wait until nothing is queued or rendering."
            )

    @contextlib.contextmanager
    def _pair(self) -> Iterator[None]:
        """Have the pair in the stack meanwhile, and listeners; take all of it away afterwards."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._wrong_key())
            stack.callback(self._take_away)
            self._listen(stack)
            for kind, sample in (("png", "portrait.png"), ("mp3", "voice.mp3")):
                body = (SAMPLES / sample).read_bytes()
                self.client("s3").put_object(
                    Bucket=self.stack.outputs["UploadBucket"], Key=f"{self._name}.{kind}", Body=body
                )
            yield

    @contextlib.contextmanager
    def _wrong_key(self) -> Iterator[None]:
        """Have a wrong key be the current version of the secret meanwhile; the right one is never shown."""
        client, secret = self.client("secretsmanager"), self.stack.outputs["ApiKeySecretArn"]
        before = client.get_secret_value(SecretId=secret)
        wrong = client.put_secret_value(SecretId=secret, SecretString=WRONG_KEY)["VersionId"]
        try:
            if before["SecretString"] not in {NO_KEY, WRONG_KEY}:
                time.sleep(KEY_SECONDS)  # until no function remembers the right one
            yield
        finally:
            client.update_secret_version_stage(
                SecretId=secret, VersionStage="AWSCURRENT", MoveToVersionId=before["VersionId"],
                RemoveFromVersionId=wrong,
            )  # fmt: skip

    def _listen(self, stack: contextlib.ExitStack) -> None:
        """Have a queue get what bus and operators' topic tell."""
        sqs, events, sns = self.client("sqs"), self.client("events"), self.client("sns")
        name, bus = f"{FOLDER}-{self._own}", self.stack.outputs["EventBusName"]
        self._inbox = sqs.create_queue(QueueName=name)["QueueUrl"]
        stack.callback(sqs.delete_queue, QueueUrl=self._inbox)
        arn = sqs.get_queue_attributes(QueueUrl=self._inbox, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        rule = events.put_rule(Name=name, EventBusName=bus, EventPattern=json.dumps({"source": ["portraitcast"]}))
        stack.callback(events.delete_rule, Name=name, EventBusName=bus)
        topic = self.stack.outputs["OperatorTopicArn"]
        senders = {"events.amazonaws.com": rule["RuleArn"], "sns.amazonaws.com": topic}
        allowed = [
            {"Effect": "Allow", "Principal": {"Service": who}, "Action": "sqs:SendMessage", "Resource": arn,
             "Condition": {"ArnEquals": {"aws:SourceArn": source}}}
            for who, source in senders.items()
        ]  # fmt: skip
        policy = json.dumps({"Version": "2012-10-17", "Statement": allowed})
        sqs.set_queue_attributes(QueueUrl=self._inbox, Attributes={"Policy": policy})
        events.put_targets(Rule=name, EventBusName=bus, Targets=[{"Id": "check", "Arn": arn}])
        stack.callback(events.remove_targets, Rule=name, EventBusName=bus, Ids=["check"])
        subscribed = sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, ReturnSubscriptionArn=True)
        stack.callback(sns.unsubscribe, SubscriptionArn=subscribed["SubscriptionArn"])

    def _take_away(self) -> None:
        """Delete the pair, what came of it, and what the table knows of it."""
        s3, table = self.client("s3"), self.client("dynamodb")
        prefix = self._name.removesuffix("line")
        for key in (f"{self._name}.mp3", f"{self._name}.png"):
            s3.delete_object(Bucket=self.stack.outputs["UploadBucket"], Key=key)
        if self._report:
            self._wait(lambda: self._read_report().get("status") == "withdrawn")
        for bucket in ("UploadBucket", "ResultsBucket"):
            listed = s3.list_object_versions(Bucket=self.stack.outputs[bucket], Prefix=prefix)
            for each in [*listed.get("Versions", []), *listed.get("DeleteMarkers", [])]:
                s3.delete_object(Bucket=self.stack.outputs[bucket], Key=each["Key"], VersionId=each["VersionId"])
        self._wait(lambda: self._is_drained() and self._is_drained())
        # What an event leaves there that comes later still is a mark of a deletion, and expires by itself.
        name = self.stack.outputs["TableName"]
        wanted = f"{FOLDER}/{self._own}"
        for page in table.get_paginator("scan").paginate(TableName=name):
            for item in page["Items"]:
                job = self._report.get("job", "-")
                if wanted in json.dumps(item) or job in item["pk"]["S"] or job in item["sk"]["S"]:
                    table.delete_item(TableName=name, Key={"pk": item["pk"], "sk": item["sk"]})

    def _is_drained(self) -> bool:
        time.sleep(1 if self.stack.is_local else 5)  # S3's events take a moment to come
        counts = [
            self._queue(name)[count] for name in ("UploadsQueue", "MediaQueue", "AnswersQueue") for count in COUNTS
        ]
        return all(count == "0" for count in counts)

    def _read_report(self) -> dict[str, Any]:
        try:
            body = self.client("s3").get_object(Bucket=self.stack.outputs["ResultsBucket"], Key=f"{self._name}.json")
        except ClientError as error:
            if error.response["Error"]["Code"] in NOT_THERE:
                return {}
            raise
        found: dict[str, Any] = json.loads(body["Body"].read())
        return found

    def report(self) -> Seen:
        """Wait for the report of a job that is held."""

        def held() -> dict[str, Any] | None:
            self._report = self._read_report()
            return self._report if (self._report.get("queue") or {}).get("held") == "account" else None

        if self._wait(held):
            return Seen(agreed=True, words="queued, held: account")
        if not self._report:
            return Seen(agreed=False, words="no report came: look at submit's log")
        return Seen(agreed=False, words=f"{self._report['status']}: {self._report['message']}")

    def facts(self) -> Seen:
        """See what prepare found in the pair."""
        inputs = self._report.get("inputs") or {}
        voice, picture = inputs.get("voice") or {}, inputs.get("portrait") or {}
        words = f"{voice.get('seconds')} s, {picture.get('width')} by {picture.get('height')}"
        return Seen(agreed=bool(voice.get("seconds") and picture.get("width")), words=words)

    def unpaid(self) -> Seen:
        """See that no task was made and nothing paid."""
        ever = (self._report.get("cost_cny") or {}).get("ever")
        return same([None, 0], [self._report.get("task"), ever or 0])

    def event(self) -> Seen:
        """Wait for the job's event."""
        return self._wait_for("event", lambda said: said.get("detail", {}).get("name") == self._name)

    def notice(self) -> Seen:
        """Wait for the operators' notice; there is none where the account was held before."""
        seen = self._wait_for("notice", lambda said: "account is held" in said.get("Subject", ""), 30)
        return seen if seen.agreed else Seen(None, "none came: the account may have been held before")

    def _wait_for(self, what: str, wanted: Callable[[dict[str, Any]], bool], seconds: float = WAIT_SECONDS) -> Seen:
        sqs = self.client("sqs")

        def come() -> bool:
            answer = sqs.receive_message(QueueUrl=self._inbox, MaxNumberOfMessages=10, WaitTimeSeconds=1)
            for message in answer.get("Messages", []):
                sqs.delete_message(QueueUrl=self._inbox, ReceiptHandle=message["ReceiptHandle"])
                self._told.append(message["Body"])
            return any(wanted(json.loads(body)) for body in self._told)

        return Seen(agreed=bool(self._wait(come, seconds)), words=f"{what}: {len(self._told)} messages came")

    # ------------------------------------------------------------------ links
    def link_of_version(self) -> Seen:
        """Fetch a link of a version, with another type than the object's."""
        bucket, key = self.stack.outputs["UploadBucket"], f"{self._name}.png"
        version = self.client("s3").head_object(Bucket=bucket, Key=key).get("VersionId")
        if not version:
            return Seen(agreed=False, words="the upload has no version")
        return self._fetch(Bucket=bucket, Key=key, VersionId=version)

    def link_suspended(self) -> Seen:
        """Fetch a link without a version in a bucket whose versioning is suspended."""
        return self._in_a_bucket("Suspended", "null")

    def link_unversioned(self) -> Seen:
        """Fetch a link in a bucket that never had versions."""
        return self._in_a_bucket(None, None)

    def _in_a_bucket(self, status: str | None, version: str | None) -> Seen:
        s3, bucket = self.client("s3"), f"{FOLDER}-{self._own}-{(status or 'plain').lower()}"
        region = s3.meta.region_name
        where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        s3.create_bucket(Bucket=bucket, **where)
        try:
            if status:
                for each in ("Enabled", status):
                    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": each})
            s3.put_object(Bucket=bucket, Key="x", Body=b"x")
            found = s3.list_object_versions(Bucket=bucket)["Versions"][0]["VersionId"]
            fetched = self._fetch(Bucket=bucket, Key="x")
            told = s3.head_object(Bucket=bucket, Key="x").get("VersionId")
            agreed = fetched.agreed and found == "null" and told in {version, "null" if status else None}
            return Seen(agreed=agreed, words=f"{fetched.words}, version {found}, HEAD says {told}")
        finally:
            with contextlib.suppress(ClientError):
                s3.delete_object(Bucket=bucket, Key="x", **({"VersionId": "null"} if status else {}))
            s3.delete_bucket(Bucket=bucket)

    def _fetch(self, **wanted: str) -> Seen:
        link = self.client("s3").generate_presigned_url("get_object", Params=wanted, ExpiresIn=60)
        try:
            with urllib.request.urlopen(link, timeout=30) as answer:  # noqa: S310 - S3's own address
                return Seen(agreed=answer.status == 200, words=f"HTTP {answer.status}")
        except urllib.error.HTTPError as error:
            return Seen(agreed=False, words=f"HTTP {error.code}")
        except OSError as error:
            return Seen(None, f"could not be fetched: {error}")

    # ------------------------------------------------------------------ executions and dead letters
    def execution(self) -> Seen:
        """Run an execution of a job that isn't there round the loop, count its events, and stop it."""
        client, name = self.client("stepfunctions"), f"check-{uuid.uuid4().hex}"
        state = json.loads((ROOT / "events" / "status-poll.json").read_text("utf-8"))
        state |= {"job": uuid.uuid4().hex, "task": str(uuid.uuid4()), "sent_at": time.time(), "wait_seconds": 1}
        arn = client.start_execution(
            stateMachineArn=self.stack.outputs["StateMachineArn"], name=name, input=json.dumps(state)
        )["executionArn"]
        self._stopped = time.time()

        def once_round() -> list[str] | None:
            types = [each["type"] for each in client.get_execution_history(executionArn=arn, maxResults=100)["events"]]
            return types if types.count("WaitStateEntered") > 1 or "ExecutionFailed" in types else None

        try:
            types = self._wait(once_round)
        finally:
            client.stop_execution(executionArn=arn, cause="make check-aws has seen it")
        if not types:
            return Seen(agreed=False, words="it did not come round")
        first = types.index("WaitStateEntered")
        count = types[first + 1 :].index("WaitStateEntered") + 1
        return Seen(agreed=count <= EVENTS_A_POLL, words=f"{count} events")

    def bad_end(self) -> Seen:
        """Wait until deliver was called for the execution that was stopped."""
        group = self.stack.resources["DeliverLogs"]
        since = int(self._stopped * 1000)

        def called() -> bool:
            answer = self.client("logs").filter_log_events(logGroupName=group, startTime=since, limit=50)
            return bool(answer["events"])

        return Seen(agreed=bool(self._wait(called)), words="deliver's log since then")

    def dead_letter(self) -> Seen:
        """Lay a harmless message among the dead letters; SQS can't say where it came from, the redrive can."""
        sqs, queue = self.client("sqs"), self.stack.resources["DeadLetterQueue"]
        there = self._queue("DeadLetterQueue")
        if there["ApproximateNumberOfMessages"] != "0":
            return Seen(None, "there are dead letters: look at them first")
        sqs.send_message(QueueUrl=queue, MessageBody='{"wake": true}')
        sqs.start_message_move_task(SourceArn=there["QueueArn"])

        def ended() -> Any:
            (task,) = sqs.list_message_move_tasks(SourceArn=there["QueueArn"], MaxResults=1)["Results"]
            return task if task["Status"] != "RUNNING" else None

        return same("CouldNotDetermineMessageSource", (self._wait(ended) or {}).get("FailureReason"))

    def redriven(self) -> Seen:
        """Redrive it as `make redrive` does."""
        done = redrive(self.stack, "uploads")
        return Seen(agreed=(done.moved, done.trouble) == (1, ""), words=done.line())


ROLES: Final = ("SubmitRole", "PrepareRole", "StatusRole", "DeliverRole")
# Name → what is taken for granted, and how it is looked at; first what is only read.
Statements = dict[str, tuple[str, "Callable[[Checker], Seen]"]]
READ_BACK: Final[Statements] = {
    "recursion": ("submit alone may invoke itself through its queue", Checker.recursion),
    "loops": ("Lambda has dropped no message of submit as a loop", Checker.loops),
    "environment": ("a variable without a value (AWS::NoValue) is not there", Checker.environment),
    "settings": ("functions have their limits, tracing and layers", Checker.settings),
    "mappings": ("the queues' mappings are enabled, bounded, and answer for each message", Checker.mappings),
    "mapping-tags": ("CloudFormation has tagged the mappings", Checker.mapping_tags),
    "link-trust": ("LinkRole's trust names submit's role by a condition", Checker.link_trust),
    "link-refused": ("whoever runs this can't take LinkRole", Checker.link_refused),
    "link-rights": ("submit alone may take LinkRole, and it only reads uploads", Checker.link_rights),
    "no-deletions": ("no function may delete people's files", Checker.no_deletions),
    "customer-key": ("functions and links may decrypt under CustomerKeyArn", Checker.customer_key),
    "redrive-policies": ("each queue's messages die into dead letters of its own", Checker.redrive_policies),
    "queue-settings": ("queues have their times, and SSE-SQS", Checker.queue_settings),
    "rules": ("the sweep's rule and the bad ends' rule are enabled, with their targets", Checker.rules),
    "asynchronous": ("deliver's asynchronous failures become dead letters after two more tries", Checker.asynchronous),
    "topics": ("topics are encrypted but the operators', and addresses are confirmed", Checker.topics),
    "encryption": ("buckets are encrypted under the chosen key", Checker.encryption),
    "private": ("buckets are closed to the public and to plain HTTP", Checker.private),
    "versioning": ("upload and results buckets keep versions, the work bucket none", Checker.versioning),
    "lifecycle": ("old versions, assets and parts expire", Checker.lifecycle),
    "notifications": ("the upload bucket tells the uploads queue", Checker.notifications),
    "table": ("the table has its index, expiry, recovery, and DynamoDB's own key", Checker.table),
    "secret": ("the secret lies under the chosen key", Checker.secret),
    "machine": ("the state machine is the template's, with its Retry and Catch", Checker.machine),
    "log-groups": ("logs are kept for 90 days", Checker.log_groups),
    "queries": ("the saved queries find their log groups", Checker.queries),
    "alarms": ("alarms are there, on, tell the operators, and none rings", Checker.alarms),
    "dashboard": ("the dashboard is the template's", Checker.dashboard),
    "sweeps": ("the sweep comes", Checker.sweeps),
}
FOLLOWED: Final[Statements] = {
    "report": ("a pair with a wrong key becomes a report: queued, held for the account", Checker.report),
    "facts": ("prepare has read voice and portrait", Checker.facts),
    "unpaid": ("no task was made, and nothing paid", Checker.unpaid),
    "event": ("an event reaches a queue whose policy lets the rule send", Checker.event),
    "notice": ("operators are told that the account is held", Checker.notice),
    "link-version": ("a link of a version opens", Checker.link_of_version),
    "link-suspended": ("in a suspended bucket a file has the version null, and its link opens", Checker.link_suspended),
    "link-unversioned": ("in a bucket without versions a link opens without one", Checker.link_unversioned),
    "execution": (f"a poll is at most {EVENTS_A_POLL} events of an execution's 25,000", Checker.execution),
    "bad-end": ("an execution that is stopped reaches deliver", Checker.bad_end),
    "dead-letter": ("a dead letter that came from no queue needs a destination", Checker.dead_letter),
    "redrive": ("`make redrive` sends a dead letter back", Checker.redriven),
}


def _expiry(rule: dict[str, Any]) -> list[Any]:
    """Return a lifecycle rule's days, however it is written."""
    expiration = rule.get("Expiration", {})
    return [
        rule.get("Prefix") or rule.get("Filter", {}).get("Prefix") or "",
        rule.get("ExpirationInDays", expiration.get("Days")),
        rule.get("NoncurrentVersionExpiration", {}).get("NoncurrentDays"),
        rule.get("AbortIncompleteMultipartUpload", {}).get("DaysAfterInitiation"),
    ]


def _flow(state: dict[str, Any]) -> list[Any]:
    """Return what of a state doesn't depend on names of resources."""
    return [state.get(name) for name in ("Type", "Next", "Default", "Choices", "Retry", "Catch", "TimeoutSeconds")]


def show(finding: Finding) -> None:
    """Print a finding for people."""
    print(f"{finding.verdict:9} {finding.words}\n{'':9} {finding.seen}", flush=True)


def main() -> int:
    """Check the stack that STACK names, else the one that runs here; return the exit code."""
    as_json = os.environ.get("JSON", "") not in {"", "0"}
    try:
        with ended_by_signals():
            checker = Checker(find_stack(os.environ), (lambda _: None) if as_json else show)
            if not as_json:
                print(f"Asking AWS about {checker.stack.words}. No video is ordered; nothing is paid.\n", flush=True)
            checker.run()
    except Ended as end:
        say_last(f"{end}: ended; what was made for the check has been taken away.")
        return 130
    except (NoStackError, AtWorkError, BotoCoreError, ClientError) as error:
        print(f"make check-aws: {error}", file=sys.stderr)
        return 2
    if as_json:
        print(json.dumps([vars(finding) for finding in checker.findings], indent=2))
    counts = {verdict: sum(each.verdict is verdict for each in checker.findings) for verdict in Verdict}
    if not as_json:
        print("\n" + ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count) + ".")
    return 1 if counts[Verdict.DIFFERS] else 0


if __name__ == "__main__":
    sys.exit(main())
