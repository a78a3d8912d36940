"""What AWS refuses or stops, and the engine too: on an engine of its own, with stacks of a few lines."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from package import Build, package, read_template, uploader
from run import ROOT, Engine, Process, engine
from stack import StackError, deploy
from stacks import own_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

GUARD_SECONDS = 60  # against hanging only
HOPS = 16  # "approximately 16 times" (Lambda Developer Guide); the engine counts exactly
LAST = 40  # where the loop of the template below ends by itself

LOOP = """
Transform: AWS::Serverless-2016-10-31
Parameters: {RecursiveLoop: {Type: String}}
Globals: {Function: {Runtime: python3.13, Handler: app.handler}}
Resources:
  Work:
    Type: AWS::SQS::Queue
    Properties: {RedrivePolicy: {deadLetterTargetArn: !GetAtt Dead.Arn, maxReceiveCount: 3}}
  Dead: {Type: AWS::SQS::Queue}
  Done: {Type: AWS::SQS::Queue}
  Loop:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: loop/
      RecursiveLoop: !Ref RecursiveLoop
      Environment: {Variables: {WORK: !Ref Work, DONE: !Ref Done}}
      Policies:
        - Statement: [{Effect: Allow, Action: "sqs:*", Resource: "*"}]
      Events:
        Work: {Type: SQS, Properties: {Queue: !GetAtt Work.Arn, BatchSize: 10}}
  Query:
    Type: AWS::Logs::QueryDefinition
    Properties: {Name: loop/all, QueryString: fields @message, LogGroupNames: [/aws/lambda/loop]}
Outputs:
  Work: {Value: !Ref Work}
  Dead: {Value: !Ref Dead}
  Done: {Value: !Ref Done}
  Loop: {Value: !Ref Loop}
"""
HANDLER = """
import json, os, boto3
sqs = boto3.client("sqs")
METRICS = {"Namespace": "Loop", "Dimensions": [["chain"]], "Metrics": [{"Name": "Hop", "Unit": "Count"}]}
def handler(event, context):
    for record in event["Records"]:
        said = json.loads(record["body"])
        print(json.dumps({"_aws": {"CloudWatchMetrics": [METRICS]}, "chain": said["chain"], "Hop": said["hop"]}))
        queue = os.environ["WORK" if said["hop"] < LAST else "DONE"]
        sqs.send_message(QueueUrl=queue, MessageBody=json.dumps({**said, "hop": said["hop"] + 1}))
""".replace("LAST", str(LAST))


class Aws:
    """An engine that runs, and queues of its own."""

    def __init__(self, engine: Engine, work: Path) -> None:
        self.engine, self.work = engine, work
        self.sqs, self.events, self.s3 = engine.client("sqs"), engine.client("events"), engine.client("s3")

    def deploy_loop(self, name: str, choice: str) -> dict[str, str]:
        code = self.work / "loop"
        code.mkdir(exist_ok=True)
        (code / "app.py").write_text(HANDLER)
        (self.work / "template.yaml").write_text(LOOP)
        with contextlib.suppress(self.s3.exceptions.BucketAlreadyOwnedByYou):
            self.s3.create_bucket(Bucket="code")
        upload = uploader(self.s3, "code")
        built = Build(read_template(self.work / "template.yaml"), {"Loop": [code]}, "")
        packaged = package(built, ROOT / ".venv" / "runtime" / "bin" / "python", upload)
        address = upload(json.dumps(packaged).encode(), ".json").removeprefix("s3://")
        cloudformation = self.engine.client("cloudformation")
        return deploy(cloudformation, name, f"{self.engine.endpoint_url}/{address}", {"RecursiveLoop": choice})

    def queue(self, name: str, **attributes: str) -> tuple[str, str]:
        url = self.sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        return url, self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]

    def allow(self, url: str, arn: str, service: str) -> None:
        statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sqs:SendMessage", "Resource": arn}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        self.sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})

    def receive(self, url: str, seconds: int = 0) -> list[dict[str, Any]]:
        answer = self.sqs.receive_message(
            QueueUrl=url, WaitTimeSeconds=seconds, MaxNumberOfMessages=10, AttributeNames=["All"],
            MessageAttributeNames=["All"],
        )  # fmt: skip
        return answer.get("Messages", [])

    def waiting(self, url: str) -> int:
        name = "ApproximateNumberOfMessages"
        return int(self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[name])["Attributes"][name])


@pytest.fixture(scope="module")
def aws() -> Iterator[Aws]:
    processes: list[Process] = []
    with own_folder() as work:
        with contextlib.ExitStack() as stack:
            yield Aws(engine(work, stack, processes), work)
        shutil.rmtree(work)


def until(happened: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + GUARD_SECONDS
    while not (result := happened()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {GUARD_SECONDS} s: {what}")
        time.sleep(0.05)
    return result


# ---------------------------------------------------------------- recursive loops


@pytest.fixture(scope="module")
def deployed(aws: Aws) -> dict[str, str]:
    return aws.deploy_loop("stopped", "Terminate")


@pytest.fixture
def stopped(aws: Aws, deployed: dict[str, str]) -> dict[str, str]:
    aws.sqs.purge_queue(QueueUrl=deployed["Dead"])
    return deployed


def say(aws: Aws, queue: str, chain: str, delay: int = 0) -> None:
    aws.sqs.send_message(QueueUrl=queue, MessageBody=json.dumps({"chain": chain, "hop": 1}), DelaySeconds=delay)


def test_a_loop_is_stopped(aws: Aws, stopped: dict[str, str]) -> None:
    """16 hops run; the 17th goes to the dead letters, whatever the delay of the message that began it."""
    say(aws, stopped["Work"], "one", delay=1)

    (dead,) = until(lambda: aws.receive(stopped["Dead"]), "the chain is stopped")
    assert json.loads(dead["Body"]) == {"chain": "one", "hop": HOPS + 1}
    dropped = aws.engine.client("cloudwatch").get_metric_statistics(
        Namespace="AWS/Lambda", MetricName="RecursiveInvocationsDropped", Statistics=["Sum"], Period=3600,
        Dimensions=[{"Name": "FunctionName", "Value": stopped["Loop"]}],
        StartTime=time.time() - 3600, EndTime=time.time() + 60,
    )["Datapoints"]  # fmt: skip
    assert [each["Sum"] for each in dropped] == [1]


def test_chains_that_meet_are_counted_together(aws: Aws, stopped: dict[str, str]) -> None:
    """What an invocation sends carries the highest count among its batch: no chain runs longer for company."""
    for number in range(20):
        say(aws, stopped["Work"], f"chain {number}")

    until(lambda: aws.waiting(stopped["Dead"]) == 20, "all chains are stopped")

    dead = [json.loads(message["Body"]) for _ in range(2) for message in aws.receive(stopped["Dead"])]
    assert all(said["hop"] <= HOPS + 1 for said in dead)
    assert aws.receive(stopped["Done"]) == []


def test_a_loop_may_be_allowed(aws: Aws) -> None:
    """`RecursiveLoop: Allow` of the template is obeyed."""
    allowed = aws.deploy_loop("allowed", "Allow")
    function = aws.engine.client("lambda")
    assert function.get_function_recursion_config(FunctionName=allowed["Loop"])["RecursiveLoop"] == "Allow"

    say(aws, allowed["Work"], "one")

    (end,) = aws.receive(allowed["Done"], 20)
    assert json.loads(end["Body"]) == {"chain": "one", "hop": LAST + 1}
    assert aws.receive(allowed["Dead"]) == []


def test_an_invoke_counts_on(aws: Aws, stopped: dict[str, str]) -> None:
    """The header of a direct Invoke counts as the one of a message does."""
    client = aws.engine.client("lambda")
    headers: dict[str, str] = {}
    client.meta.events.register("before-call.lambda.Invoke", lambda params, **_: params["headers"].update(headers))
    body = json.dumps({"chain": "invoked", "hop": HOPS})
    event = json.dumps({"Records": [{"body": body}]})
    client.invoke(FunctionName=stopped["Loop"], Payload=event)
    dead = until(lambda: aws.receive(stopped["Dead"]), "a chain that began with Invoke is stopped")
    assert json.loads(dead[0]["Body"])["hop"] == 2 * HOPS

    headers["X-Amzn-Trace-Id"] = dead[0]["Attributes"]["AWSTraceHeader"]
    with pytest.raises(ClientError, match="RecursiveInvocationException"):
        client.invoke(FunctionName=stopped["Loop"], Payload=event)


# ---------------------------------------------------------------- roles

TRUSTING = """
Resources:
  First:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument:
        Statement: [{Effect: Allow, Principal: {Service: lambda.amazonaws.com}, Action: sts:AssumeRole}]
  Second:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument:
        Statement: [{Effect: Allow, Principal: {AWS: PRINCIPAL}, Action: sts:AssumeRole, Condition: CONDITION}]
"""


def deploy_roles(aws: Aws, name: str, principal: str, condition: str) -> None:
    with contextlib.suppress(aws.s3.exceptions.BucketAlreadyOwnedByYou):
        aws.s3.create_bucket(Bucket="roles")
    body = TRUSTING.replace("PRINCIPAL", principal).replace("CONDITION", condition)
    aws.s3.put_object(Bucket="roles", Key=name, Body=body.encode())
    deploy(aws.engine.client("cloudformation"), name, f"{aws.engine.endpoint_url}/roles/{name}", {})


def test_a_role_made_a_moment_before_is_no_principal(aws: Aws) -> None:
    """A condition may name it."""
    with pytest.raises(StackError, match="Invalid principal in policy"):
        deploy_roles(aws, "by-principal", "!GetAtt First.Arn", "{}")
    condition = "{ArnEquals: {aws:PrincipalArn: !GetAtt First.Arn}}"
    deploy_roles(aws, "by-condition", '!Sub "arn:aws:iam::${AWS::AccountId}:root"', condition)


# ---------------------------------------------------------------- queue policies


def put_rule(aws: Aws, name: str, target: dict[str, Any]) -> None:
    aws.events.put_rule(Name=name, EventPattern=json.dumps({"source": [name]}))
    aws.events.put_targets(Rule=name, Targets=[{"Id": "queue", **target}])


def put_event(aws: Aws, source: str) -> None:
    aws.events.put_events(Entries=[{"Source": source, "DetailType": "Said", "Detail": '{"n": 1}'}])


def test_a_rule_needs_the_queues_policy(aws: Aws) -> None:
    (url, arn), (dead_url, dead_arn) = aws.queue("target"), aws.queue("undelivered")
    put_rule(aws, "test.rule", {"Arn": arn, "DeadLetterConfig": {"Arn": dead_arn}})

    put_event(aws, "test.rule")
    assert aws.receive(url) == []
    assert aws.receive(dead_url) == []  # they would have to allow it as well

    aws.allow(dead_url, dead_arn, "events.amazonaws.com")
    put_event(aws, "test.rule")
    (dead,) = aws.receive(dead_url, 10)
    assert dead["MessageAttributes"]["ERROR_CODE"]["StringValue"] == "NO_PERMISSIONS"
    assert json.loads(dead["Body"])["detail"] == {"n": 1}

    aws.allow(url, arn, "events.amazonaws.com")
    put_event(aws, "test.rule")
    (message,) = aws.receive(url, 10)
    assert json.loads(message["Body"])["source"] == "test.rule"


def test_a_topic_needs_the_queues_policy(aws: Aws) -> None:
    sns, (url, arn) = aws.engine.client("sns"), aws.queue("subscriber")
    topic = sns.create_topic(Name="topic")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)

    sns.publish(TopicArn=topic, Message="refused")
    assert aws.receive(url) == []

    aws.allow(url, arn, "sns.amazonaws.com")
    sns.publish(TopicArn=topic, Message="allowed")
    (message,) = aws.receive(url, 10)
    assert json.loads(message["Body"])["Message"] == "allowed"


def test_a_bucket_tells_eventbridge(aws: Aws) -> None:
    url, arn = aws.queue("uploads")
    aws.allow(url, arn, "events.amazonaws.com")
    aws.events.put_rule(Name="uploads", EventPattern=json.dumps({"source": ["aws.s3"]}))
    aws.events.put_targets(Rule="uploads", Targets=[{"Id": "queue", "Arn": arn}])
    aws.s3.create_bucket(Bucket="theirs")
    aws.s3.put_bucket_notification_configuration(
        Bucket="theirs", NotificationConfiguration={"EventBridgeConfiguration": {}}
    )

    aws.s3.put_object(Bucket="theirs", Key="a b/+é.mp3", Body=b"x")

    (message,) = aws.receive(url, 10)
    event = json.loads(message["Body"])
    assert "version-id" not in event["detail"]["object"]
    assert event["detail-type"] == "Object Created"
    assert event["detail"]["bucket"]["name"] == "theirs"
    assert event["detail"]["object"]["key"] == "a b/+é.mp3"  # not encoded, as it is in S3's own notifications


def test_a_versioned_bucket_tells_the_version(aws: Aws) -> None:
    url, arn = aws.queue("versions")
    aws.allow(url, arn, "events.amazonaws.com")
    pattern = {"source": ["aws.s3"], "detail": {"bucket": {"name": ["versioned"]}}}
    aws.events.put_rule(Name="versions", EventPattern=json.dumps(pattern))
    aws.events.put_targets(Rule="versions", Targets=[{"Id": "queue", "Arn": arn}])
    aws.s3.create_bucket(Bucket="versioned")
    aws.s3.put_bucket_versioning(Bucket="versioned", VersioningConfiguration={"Status": "Enabled"})
    configuration: Any = {"EventBridgeConfiguration": {}}
    aws.s3.put_bucket_notification_configuration(Bucket="versioned", NotificationConfiguration=configuration)

    version = aws.s3.put_object(Bucket="versioned", Key="a.mp3", Body=b"x")["VersionId"]

    (message,) = aws.receive(url, 10)
    assert json.loads(message["Body"])["detail"]["object"]["version-id"] == version


# ---------------------------------------------------------------- visibility and redrive


def redrive_policy(dead_arn: str) -> str:
    return json.dumps({"deadLetterTargetArn": dead_arn, "maxReceiveCount": 1})


def test_a_message_may_come_back_sooner(aws: Aws) -> None:
    url, _ = aws.queue("slow", VisibilityTimeout="600")
    aws.sqs.send_message(QueueUrl=url, MessageBody="again")
    (first,) = aws.receive(url)
    assert aws.receive(url) == []

    aws.sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=first["ReceiptHandle"], VisibilityTimeout=0)

    (second,) = aws.receive(url)
    assert second["Attributes"]["ApproximateReceiveCount"] == "2"


def test_dead_letters_go_back_to_their_queues(aws: Aws) -> None:
    dead_url, dead_arn = aws.queue("dead")
    urls = [aws.queue(f"from-{n}", RedrivePolicy=redrive_policy(dead_arn), VisibilityTimeout="0")[0] for n in (1, 2)]
    for url in urls:
        aws.sqs.send_message(QueueUrl=url, MessageBody=url)
        aws.receive(url)
        assert aws.receive(url) == []  # the second receive would be one too many: it is a dead letter now
    assert aws.waiting(dead_url) == 2

    aws.sqs.start_message_move_task(SourceArn=dead_arn)

    (task,) = aws.sqs.list_message_move_tasks(SourceArn=dead_arn)["Results"]
    assert (task["Status"], task["ApproximateNumberOfMessagesMoved"]) == ("COMPLETED", 2)
    assert aws.waiting(dead_url) == 0
    for url in urls:
        (back,) = aws.receive(url)
        assert (back["Body"], back["Attributes"]["ApproximateReceiveCount"]) == (url, "1")


def test_dead_letters_of_no_queue_need_a_destination(aws: Aws) -> None:
    dead_url, dead_arn = aws.queue("dead-of-several")
    source_url, source_arn = aws.queue("one-of-several", RedrivePolicy=redrive_policy(dead_arn), VisibilityTimeout="0")
    aws.sqs.send_message(QueueUrl=dead_url, MessageBody="sent by a rule")

    aws.sqs.start_message_move_task(SourceArn=dead_arn)

    (task,) = aws.sqs.list_message_move_tasks(SourceArn=dead_arn)["Results"]
    assert (task["Status"], task["FailureReason"]) == ("FAILED", "CouldNotDetermineMessageSource")
    assert aws.waiting(dead_url) == 1
    aws.sqs.start_message_move_task(SourceArn=dead_arn, DestinationArn=source_arn)
    assert [message["Body"] for message in aws.receive(source_url)] == ["sent by a rule"]


def test_a_queue_of_no_dead_letters_is_not_redriven(aws: Aws) -> None:
    _, arn = aws.queue("plain")
    with pytest.raises(ClientError, match="must be configured as a Dead Letter Queue"):
        aws.sqs.start_message_move_task(SourceArn=arn)
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        aws.sqs.start_message_move_task(SourceArn=arn.replace("plain", "nobodys"))


# ---------------------------------------------------------------- logs


def test_saved_queries_can_be_read_back(aws: Aws, stopped: dict[str, str]) -> None:
    answer = aws.engine.client("logs").describe_query_definitions(queryDefinitionNamePrefix="loop/")
    (query, *_) = answer["queryDefinitions"]
    assert (query["name"], query["queryString"]) == ("loop/all", "fields @message")
    assert query["logGroupNames"] == ["/aws/lambda/loop"]


def test_logged_metrics_become_metrics(aws: Aws, stopped: dict[str, str]) -> None:
    say(aws, stopped["Work"], "measured")

    def highest() -> float:
        points = aws.engine.client("cloudwatch").get_metric_statistics(
            Namespace="Loop", MetricName="Hop", Dimensions=[{"Name": "chain", "Value": "measured"}],
            Statistics=["Maximum"], Period=3600, StartTime=time.time() - 3600, EndTime=time.time() + 60,
        )["Datapoints"]  # fmt: skip
        return max((float(point["Maximum"]) for point in points), default=0)

    until(lambda: highest() == HOPS, "the last hop is measured")
