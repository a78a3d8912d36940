"""template.yaml keeps its promises: parameters, rights, encryption, dead letters, people's files, operators' views."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from package import read_template
from portraitcast.adapters.download import listed_origins
from portraitcast.domain.account import Account
from portraitcast.domain.job import TASK_LIFE_SECONDS
from portraitcast.domain.metrics import UNITS, account_metrics
from portraitcast.domain.models import StackModels
from portraitcast.domain.uploads import ASSET_FRESH_SECONDS
from portraitcast.errors import ParameterError, TryLaterError
from run import OUTPUTS, function_names
from storage import FRESH_DAYS

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent.parent
TEMPLATE = read_template(ROOT / "template.yaml")
RESOURCES: dict[str, dict[str, Any]] = TEMPLATE["Resources"]


def of_type(kind: str) -> dict[str, dict[str, Any]]:
    """Return logical id → properties of all resources of a type."""
    found = {name: resource.get("Properties", {}) for name, resource in RESOURCES.items() if resource["Type"] == kind}
    assert found, f"no {kind} in the template"
    return found


def referred(value: object) -> str | None:
    """Return the logical id that a ``Ref`` or ``GetAtt`` names."""
    match value:
        case {"Ref": str() as name} | {"Fn::GetAtt": [str() as name, *_]}:
            return name
    return None


def in_case(condition: str, value: Any, *, holds: bool) -> Any:
    """Return what a value is where a condition of the template holds, or doesn't."""
    match value:
        case {"Fn::If": [name, yes, no]} if name == condition:
            return yes if holds else no
    return value


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


FUNCTION_RESOURCES = of_type("AWS::Serverless::Function")
BUCKETS = of_type("AWS::S3::Bucket")
QUEUES = of_type("AWS::SQS::Queue")
TOPICS = of_type("AWS::SNS::Topic")
ALARMS = of_type("AWS::CloudWatch::Alarm")
RULES = of_type("AWS::Events::Rule")
KEPT_BUCKETS = ["UploadBucket", "ResultsBucket"]  # what lies in the others can all be made again
NAMESPACE = "Portraitcast"  # of the product's own metrics

# ---------------------------------------------------------------- parameters and outputs

# Default and least value, as the product promises them; None where there is no least value.
PARAMETERS: dict[str, tuple[object, int | None]] = {
    "Architecture": ("arm64", None),
    "MaxTasksInFlight": (2, 1),
    "MinPollSeconds": (15, 1),
    "MaxPollSeconds": (120, 1),
    "PairSeconds": (3, 0),
    "SettleSeconds": (15, 0),
    "ReconcileSeconds": (60, 1),
    "BreakerSeconds": (60, 1),
    "SweepMinutes": (5, 1),
    "DailyBudgetCny": (0, 0),
    "ApproveAboveCny": (0, 0),
    "MaxVoiceSeconds": (600, 1),
    "NotificationEmail": ("", None),
    "CustomerKeyArn": ("", None),
    "FormerKeyArns": ("", None),
    "DashScopeBaseUrl": ("https://dashscope.aliyuncs.com/api/v1", None),
    "ExtraVideoHosts": ("", None),
    "DefaultModel": ("emo-v1", None),
    "ModelDeployments": ("", None),
    "InputTransfer": ("links", None),
    "ExistingUploadBucket": ("", None),
    "UploadPrefix": ("", None),
    "ExistingResultsBucket": ("", None),
    "ResultsPrefix": ("", None),
}


def test_the_stack_has_the_promised_parameters_with_their_defaults_and_least_values() -> None:
    found = {name: (p["Default"], p.get("MinValue")) for name, p in TEMPLATE["Parameters"].items()}
    assert found == PARAMETERS


def test_every_parameter_is_described_and_shown_in_one_group_of_the_console() -> None:
    groups = TEMPLATE["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    assert sorted(name for group in groups for name in group["Parameters"]) == sorted(PARAMETERS)
    assert [name for name, p in TEMPLATE["Parameters"].items() if not p.get("Description")] == []


def test_no_timer_can_be_set_longer_than_a_message_can_be_delayed() -> None:
    """900 s at most (Amazon SQS, "Message timers"); the list is read again at five times ReconcileSeconds."""
    most = {name: p.get("MaxValue") for name, p in TEMPLATE["Parameters"].items()}
    assert all(most[name] <= 900 for name in ("PairSeconds", "SettleSeconds", "BreakerSeconds"))
    assert most["ReconcileSeconds"] * 5 <= 900


def test_the_outputs_name_everything_that_the_local_run_and_the_pages_use() -> None:
    outputs = TEMPLATE["Outputs"]
    assert set(outputs) == {*OUTPUTS.values(), *(f"{name}Name" for name in function_names(TEMPLATE).values())}
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    used = {name for page in pages for name in re.findall(r"\bstack ([A-Z]\w+)\)", page.read_text("utf-8"))}
    assert used
    assert used <= set(outputs)


def test_every_output_is_a_part_of_the_stack() -> None:
    """Buckets are, where the stack makes them."""
    values = {name: output["Value"] for name, output in TEMPLATE["Outputs"].items()}
    made = {name: value.get("Fn::If", [None, value])[1] for name, value in values.items()}
    assert [name for name, value in made.items() if referred(value) not in RESOURCES] == []


# ---------------------------------------------------------------- logs


@pytest.mark.parametrize("function", FUNCTION_RESOURCES)
def test_a_function_logs_into_a_group_of_its_own_that_forgets_in_time(function: str) -> None:
    group = referred(FUNCTION_RESOURCES[function]["LoggingConfig"]["LogGroup"])
    assert group
    assert RESOURCES[group]["Type"] == "AWS::Logs::LogGroup"
    assert RESOURCES[group]["Properties"]["RetentionInDays"] == 90
    users = [f for f, p in FUNCTION_RESOURCES.items() if referred(p["LoggingConfig"]["LogGroup"]) == group]
    assert users == [function]


@pytest.mark.parametrize("query", of_type("AWS::Logs::QueryDefinition"))
def test_a_saved_query_looks_through_the_logs_of_all_functions(query: str) -> None:
    groups = {referred(group) for group in RESOURCES[query]["Properties"]["LogGroupNames"]}
    assert groups == {referred(p["LoggingConfig"]["LogGroup"]) for p in FUNCTION_RESOURCES.values()}


# ---------------------------------------------------------------- encryption and TLS


@pytest.mark.parametrize("bucket", BUCKETS)
def test_a_bucket_is_encrypted_private_and_versioned(bucket: str) -> None:
    properties = BUCKETS[bucket]
    (rule,) = properties["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    condition, theirs, ours = rule["ServerSideEncryptionByDefault"]["Fn::If"]
    assert condition == "HasCustomerKey"
    assert theirs == {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": {"Ref": "CustomerKeyArn"}}
    assert ours == {"SSEAlgorithm": "AES256"}
    assert properties["PublicAccessBlockConfiguration"] == dict.fromkeys(
        ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"), True
    )
    if bucket in KEPT_BUCKETS:
        assert properties["VersioningConfiguration"] == {"Status": "Enabled"}


@pytest.mark.parametrize("queue", QUEUES)
def test_a_queue_is_encrypted(queue: str) -> None:
    assert QUEUES[queue]["SqsManagedSseEnabled"] is True


# CloudWatch alarms can't publish to a topic under alias/aws/sns, whose key policy nobody can change (Amazon CloudWatch,
# "Notifying users on alarm changes"), and what operators are told holds no one's files.
NOT_ENCRYPTED = {"OperatorTopic"}


@pytest.mark.parametrize("topic", TOPICS)
def test_a_topic_is_encrypted_unless_alarms_must_reach_it(topic: str) -> None:
    alarmed = {referred(action) for alarm in ALARMS.values() for action in alarm["AlarmActions"]}
    assert alarmed == NOT_ENCRYPTED
    assert bool(TOPICS[topic].get("KmsMasterKeyId")) is (topic not in NOT_ENCRYPTED)


def test_the_table_is_encrypted_with_dynamodbs_own_key() -> None:
    """Which it is where nothing is said (Amazon DynamoDB, "Encryption at rest")."""
    (table,) = of_type("AWS::DynamoDB::Table").values()
    assert "SSESpecification" not in table


# Resource type → (type of its policy, the policy's list of what it holds for, what nobody may do without TLS).
TLS = {
    "AWS::S3::Bucket": ("AWS::S3::BucketPolicy", "Bucket", "s3:*"),
    "AWS::SQS::Queue": ("AWS::SQS::QueuePolicy", "Queues", "sqs:*"),
    "AWS::SNS::Topic": ("AWS::SNS::TopicPolicy", "Topics", "sns:Publish"),
}
GUARDED = [(kind, name) for kind in TLS for name in of_type(kind)]


@pytest.mark.parametrize(("kind", "name"), GUARDED)
def test_nobody_reaches_it_without_tls(kind: str, name: str) -> None:
    policy_kind, holds_for, action = TLS[kind]
    policies = [p for p in of_type(policy_kind).values() if name in map(referred, listed(p[holds_for]))]
    (policy,) = policies
    (deny,) = [s for s in policy["PolicyDocument"]["Statement"] if s["Effect"] == "Deny"]
    assert deny["Principal"] == "*"
    assert deny["Action"] == action
    assert deny["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    own = {"Ref": name} if kind == "AWS::SNS::Topic" else {"Fn::GetAtt": [name, "Arn"]}
    assert own in listed(deny["Resource"])
    if kind == "AWS::S3::Bucket":
        assert {"Fn::Sub": f"${{{name}.Arn}}/*"} in deny["Resource"]


# ---------------------------------------------------------------- dead letters

DEAD_LETTERS = sorted(name for name in QUEUES if name.endswith("DeadLetterQueue"))


def redrives() -> dict[str, tuple[str | None, int]]:
    """Return queue → where its messages go in the end, and after how many receives."""
    policies = {name: queue["RedrivePolicy"] for name, queue in QUEUES.items() if name not in DEAD_LETTERS}
    return {name: (referred(p["deadLetterTargetArn"]), p["maxReceiveCount"]) for name, p in policies.items()}


def test_messages_that_fail_are_dead_in_the_end() -> None:
    """Prepare itself answers a file that has killed its process three times; only then may its message die."""
    assert redrives() == {
        "UploadsQueue": ("DeadLetterQueue", 5),
        "MediaQueue": ("MediaDeadLetterQueue", 6),
        "AnswersQueue": ("AnswersDeadLetterQueue", 5),
    }


def dead_letters_of_rules() -> list[str | None]:
    return [
        referred(target.get("DeadLetterConfig", {}).get("Arn"))
        for name, rule in RULES.items()
        if "ScheduleExpression" not in rule  # the next sweep makes up for a lost one
        and name != "ExistingUploadsRule"  # as S3's own notifications: a scan makes up for a lost one
        for target in rule["Targets"]
    ]


def dead_letters_of_functions() -> dict[str | None, str | None]:
    return {
        referred(config["FunctionName"]): referred(config["DestinationConfig"]["OnFailure"]["Destination"])
        for config in of_type("AWS::Lambda::EventInvokeConfig").values()
    }


def test_each_source_has_dead_letters_of_its_own() -> None:
    """A queue that holds those of several can't be redriven (Amazon SQS, "dead-letter queue redrive")."""
    used = [
        *(target for target, _ in redrives().values()),
        *dead_letters_of_rules(),
        *dead_letters_of_functions().values(),
    ]
    assert sorted(map(str, used)) == DEAD_LETTERS


def test_dead_letters_of_every_source_raise_an_alarm() -> None:
    alarms = [a for a in ALARMS.values() if a["MetricName"] == "ApproximateNumberOfMessagesVisible"]
    assert sorted(str(referred(a["Dimensions"][0]["Value"])) for a in alarms) == DEAD_LETTERS


def mappings() -> dict[str, tuple[str, dict[str, Any]]]:
    """Return queue → the function that it invokes, and the event that says so."""
    return {
        str(referred(event["Properties"]["Queue"])): (name, event["Properties"])
        for name, function in FUNCTION_RESOURCES.items()
        for event in function.get("Events", {}).values()
        if event["Type"] == "SQS"
    }


def test_every_queue_but_dead_letters_invokes_a_function() -> None:
    assert sorted(mappings()) == sorted(set(QUEUES) - set(DEAD_LETTERS))


@pytest.mark.parametrize("queue", mappings())
def test_a_message_stays_hidden_for_six_time_limits(queue: str) -> None:
    """So AWS advises ("Using Lambda with Amazon SQS"): else a batch comes again while it is still being handled."""
    function, _ = mappings()[queue]
    for uploads in (False, True):
        hidden, most = (
            in_case("UploadsInputs", value, holds=uploads)
            for value in (QUEUES[queue]["VisibilityTimeout"], FUNCTION_RESOURCES[function]["Timeout"])
        )
        assert hidden >= 6 * most


def test_a_chain_of_submits_is_not_taken_for_a_loop() -> None:
    """Lambda would stop it after some 16 invocations ("Use Lambda recursive loop detection …"); submit has a limit."""
    allowed = {name for name, function in FUNCTION_RESOURCES.items() if function.get("RecursiveLoop") == "Allow"}
    assert allowed == {"SubmitFunction"}


@pytest.mark.parametrize("queue", DEAD_LETTERS)
def test_dead_letters_are_kept_as_long_as_a_queue_can(queue: str) -> None:
    """14 days (Amazon SQS, "Amazon SQS message quotas")."""
    assert QUEUES[queue]["MessageRetentionPeriod"] == 14 * 24 * 3600


def test_a_function_that_a_rule_invokes_has_dead_letters() -> None:
    """Lambda invokes it asynchronously, twice more after a failure, and then gives the event up."""
    targets = {referred(target["Arn"]) for rule in RULES.values() for target in rule["Targets"]}
    assert set(dead_letters_of_functions()) == targets & set(FUNCTION_RESOURCES)


def test_a_mapping_leaves_others_their_concurrency() -> None:
    """A queue's mapping may else take what the account has (AWS Lambda, "Configuring scaling behavior for SQS")."""
    assert all(mapping["ScalingConfig"]["MaximumConcurrency"] <= 5 for _, mapping in mappings().values())


@pytest.mark.parametrize("queue", mappings())
def test_only_failed_messages_of_a_batch_come_again(queue: str) -> None:
    assert mappings()[queue][1]["FunctionResponseTypes"] == ["ReportBatchItemFailures"]


# ---------------------------------------------------------------- the work bucket


def test_no_asset_expires_before_its_link_is_used() -> None:
    """Facts are taken for fresh for a while, of an asset that may have been a few days old, by a task that lives a day.

    S3 expires at the midnight after (Amazon S3, "Lifecycle rules: based on an object's age"), never sooner.
    """
    rules = RESOURCES["WorkBucket"]["Properties"]["LifecycleConfiguration"]["Rules"]
    days = {rule["Prefix"]: rule["ExpirationInDays"] for rule in rules}
    assert days == {"assets/": 30, "parts/": 7}
    needed = FRESH_DAYS * 86_400 + ASSET_FRESH_SECONDS + TASK_LIFE_SECONDS
    assert needed + TEMPLATE["Parameters"]["MaxPollSeconds"]["MaxValue"] <= days["assets/"] * 86_400


# ---------------------------------------------------------------- what each function carries


def test_only_prepare_carries_the_decoders() -> None:
    shared = TEMPLATE["Globals"]["Function"]["Layers"]
    assert list(map(referred, shared)) == ["Layer"]
    others = {name: list(map(referred, p.get("Layers", []))) for name, p in FUNCTION_RESOURCES.items()}
    assert others == {
        "SubmitFunction": [],
        "PrepareFunction": ["MediaLayer"],
        "StatusFunction": [],
        "DeliverFunction": [],
    }
    carried = (ROOT / "layers" / "portraitcast" / "requirements.txt").read_text("utf-8")
    assert not re.search(r"^(av|pillow|pi-heif|numpy)==", carried, re.M)


# ---------------------------------------------------------------- rights


def statements() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every allowing statement of every role's policies, with the role's name."""
    for name, properties in of_type("AWS::IAM::Role").items():
        for policy in properties["Policies"]:
            yield from ((name, s) for s in policy["PolicyDocument"]["Statement"] if s["Effect"] == "Allow")
    for name, properties in of_type("AWS::IAM::Policy").items():
        yield from ((name, s) for s in properties["PolicyDocument"]["Statement"] if s["Effect"] == "Allow")


ALLOWED = list(statements())


def test_no_right_is_on_everything_but_what_x_ray_gives_no_resources_for() -> None:
    everything = {action for _, s in ALLOWED if "*" in listed(s["Resource"]) for action in listed(s["Action"])}
    assert everything == {
        "xray:PutTraceSegments",
        "xray:PutTelemetryRecords",
        "xray:GetSamplingRules",
        "xray:GetSamplingTargets",
    }


def test_a_right_on_everything_has_its_reason_beside_it() -> None:
    lines = [line for line in (ROOT / "template.yaml").read_text("utf-8").splitlines() if 'Resource: "*"' in line]
    assert lines
    assert [line for line in lines if not re.search(r'"\*" # \w+', line)] == []


def test_no_right_is_a_group_of_actions() -> None:
    assert [action for _, s in ALLOWED for action in listed(s["Action"]) if "*" in action] == []


def test_no_function_may_delete_people_s_files_or_change_uploads() -> None:
    actions = {action for _, s in ALLOWED for action in listed(s["Action"]) if action.startswith("s3:")}
    assert not {action for action in actions if "Delete" in action}
    for _, s in ALLOWED:
        if any(action.startswith("s3:Put") for action in listed(s["Action"])):
            assert "UploadBucket" not in json.dumps(s["Resource"])


def test_arns_hold_in_every_partition() -> None:
    text = (ROOT / "template.yaml").read_text("utf-8")
    assert [line for line in text.splitlines() if "arn:aws:" in line] == []


def test_the_key_is_in_no_functions_environment() -> None:
    variables = [
        TEMPLATE["Globals"]["Function"]["Environment"]["Variables"],
        *(f.get("Environment", {}).get("Variables", {}) for f in FUNCTION_RESOURCES.values()),
    ]
    no_value = {"Ref": "AWS::NoValue"}
    named = {name for each in variables for name, value in each.items() if "KEY" in name and value != no_value}
    assert named == {"API_KEY_SECRET_ARN"}


def test_prepare_knows_nothing_of_the_provider() -> None:
    """Strangers' bytes are decoded there."""
    own = FUNCTION_RESOURCES["PrepareFunction"]["Environment"]["Variables"]
    none = {name for name, value in own.items() if value == {"Ref": "AWS::NoValue"}}
    assert none == {"API_KEY_SECRET_ARN", "DASHSCOPE_BASE_URL", "MIN_POLL_SECONDS", "MAX_POLL_SECONDS"}
    services = {
        action.partition(":")[0] for name, s in ALLOWED if name == "PrepareRole" for action in listed(s["Action"])
    }
    assert services == {"logs", "s3", "sqs", "xray"}


def test_names_that_lambda_sets_itself_have_no_value() -> None:
    """They are named for `sam local invoke --env-vars`; a value would make Lambda refuse the function."""
    variables = TEMPLATE["Globals"]["Function"]["Environment"]["Variables"]
    reserved = {name: value for name, value in variables.items() if name.startswith("AWS_")}
    assert {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION"} <= set(reserved)
    assert all(value == {"Ref": "AWS::NoValue"} for value in reserved.values())


def test_one_processor_goes_through_functions_and_layers() -> None:
    chosen = {"Ref": "Architecture"}
    assert TEMPLATE["Globals"]["Function"]["Architectures"] == [chosen]
    assert [f for f in FUNCTION_RESOURCES.values() if "Architectures" in f] == []
    for name, layer in of_type("AWS::Serverless::LayerVersion").items():
        assert layer["CompatibleArchitectures"] == [chosen]
        assert RESOURCES[name]["Metadata"]["BuildArchitecture"] == chosen


# Longest names (each service's API reference); what isn't named here is named by CloudFormation, which makes it fit.
NAME_LIMITS = {
    ("AWS::Events::EventBus", "Name"): 256,
    ("AWS::CloudWatch::Dashboard", "DashboardName"): 255,
    ("AWS::Logs::QueryDefinition", "Name"): 255,
    ("AWS::Serverless::LayerVersion", "LayerName"): 140,
}
STACK_NAME = "${AWS::StackName}"
LONGEST_STACK_NAME = "x" * 128  # CloudFormation API, "CreateStack"


def test_names_fit_behind_the_longest_stack_name() -> None:
    found = {
        (resource["Type"], name): value.get("Fn::Sub", STACK_NAME)
        for resource in RESOURCES.values()
        for name, value in resource.get("Properties", {}).items()
        if name.endswith("Name") and "AWS::StackName" in json.dumps(value)
    }
    assert set(found) == set(NAME_LIMITS)
    for kind, text in found.items():
        assert len(text.replace(STACK_NAME, LONGEST_STACK_NAME)) <= NAME_LIMITS[kind], kind


# ---------------------------------------------------------------- people's files


@pytest.mark.parametrize("name", [*KEPT_BUCKETS, *of_type("AWS::DynamoDB::Table")])
def test_files_and_the_memory_of_what_was_paid_outlive_the_stack(name: str) -> None:
    policies = RESOURCES[name]["DeletionPolicy"], RESOURCES[name]["UpdateReplacePolicy"]
    assert policies == ("RetainExceptOnCreate", "Retain")


def test_what_is_made_again_expires_by_itself() -> None:
    (work,) = set(BUCKETS) - set(KEPT_BUCKETS)
    rules = BUCKETS[work]["LifecycleConfiguration"]["Rules"]
    assert {rule["Prefix"]: rule["ExpirationInDays"] for rule in rules} == {"assets/": 30, "parts/": 7}


@pytest.mark.parametrize("bucket", KEPT_BUCKETS)
def test_old_versions_go_after_30_days_and_current_ones_never(bucket: str) -> None:
    for rule in BUCKETS[bucket]["LifecycleConfiguration"]["Rules"]:
        assert rule["NoncurrentVersionExpiration"] == {"NoncurrentDays": 30}
        assert not {"ExpirationInDays", "ExpirationDate", "Transitions", "Transition"} & set(rule)


# ---------------------------------------------------------------- the wait loop

MACHINE = of_type("AWS::Serverless::StateMachine")["StateMachine"]["Definition"]
STATES: dict[str, dict[str, Any]] = MACHINE["States"]
TASKS = {name: state for name, state in STATES.items() if state["Type"] == "Task"}
# AWS Step Functions, "Best practices: handle transient Lambda service exceptions"; and what a cold or busy Lambda does.
LAMBDAS_OWN_TROUBLES = {
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "Lambda.ClientExecutionTimeoutException",
    "Lambda.TooManyRequestsException",
    "Lambda.Unknown",
    "Sandbox.Timedout",
    "Runtime.ExitError",
    "States.Timeout",
}


def way(polls: list[bool], deliveries: list[bool]) -> list[str]:
    """Return the states that an execution goes through, by what polls (ended?) and deliveries (published?) answer."""
    answers = {"Poll": iter(polls), "Deliver": iter(deliveries)}
    fields = {"Poll": "ended", "Deliver": "published"}
    state: dict[str, bool] = {}
    name, gone = MACHINE["StartAt"], []
    while True:
        gone.append(name)
        current = STATES[name]
        match current["Type"]:
            case "Succeed":
                return gone
            case "Task":
                state = {fields[name]: next(answers[name])}
                name = current["Next"]
            case "Choice":
                met = (c for c in current["Choices"] if state[c["Variable"].removeprefix("$.")] is c["BooleanEquals"])
                name = next(met, {"Next": current["Default"]})["Next"]
            case _:
                name = current["Next"]


def test_the_machine_waits_polls_and_delivers() -> None:
    poll = ["Wait", "Poll", "HasItEnded"]
    assert way([True], [True]) == [*poll, "Deliver", "IsItPublished", "Done"]
    assert way([False, False, True], [True]) == [*poll, *poll, *poll, "Deliver", "IsItPublished", "Done"]


def test_what_is_not_published_goes_back_into_the_wait() -> None:
    assert way([True, True], [False, True])[3:6] == ["Deliver", "IsItPublished", "Wait"]
    assert way([True, True], [False, True])[-1] == "Done"


def test_the_machine_waits_as_long_as_the_last_answer_says() -> None:
    assert STATES["Wait"]["SecondsPath"] == "$.wait_seconds"


@pytest.mark.parametrize("task", TASKS)
def test_a_task_state_outwaits_its_function_and_no_longer(task: str) -> None:
    function = referred(TASKS[task]["Parameters"]["FunctionName"])
    assert function
    limit = FUNCTION_RESOURCES[function]["Timeout"]
    assert limit < TASKS[task]["TimeoutSeconds"] <= 1.5 * limit


@pytest.mark.parametrize("task", TASKS)
def test_passing_troubles_of_aws_are_tried_again_with_full_jitter_and_no_others(task: str) -> None:
    (retry,) = TASKS[task]["Retry"]
    assert set(retry["ErrorEquals"]) == {*LAMBDAS_OWN_TROUBLES, TryLaterError.__name__}
    assert retry["JitterStrategy"] == "FULL"
    assert retry["MaxAttempts"] >= 3


def test_a_broken_poll_is_handed_to_deliver() -> None:
    assert STATES["Poll"]["Catch"] == [{"ErrorEquals": ["States.ALL"], "ResultPath": "$.error", "Next": "Deliver"}]


def test_a_failed_execution_has_published_nothing() -> None:
    assert "Catch" not in STATES["Deliver"]
    assert [name for name, state in STATES.items() if state["Type"] == "Fail"] == []
    pattern = RULES["BadEndRule"]["EventPattern"]
    assert pattern["detail"]["status"] == ["FAILED", "TIMED_OUT", "ABORTED"]
    assert pattern["detail"]["stateMachineArn"] == [{"Ref": "StateMachine"}]


def test_an_execution_outlives_the_24_hours_of_a_task() -> None:
    assert MACHINE["TimeoutSeconds"] > 24 * 3600


# ---------------------------------------------------------------- dashboard and alarms

# What AWS publishes for its services: metric → the dimensions that are used here.
SQS_METRICS = {  # Amazon SQS Developer Guide, "Available CloudWatch metrics for Amazon SQS"
    ("AWS/SQS", name): {"QueueName"}
    for name in (
        "ApproximateAgeOfOldestMessage", "ApproximateNumberOfMessagesDelayed", "ApproximateNumberOfMessagesNotVisible",
        "ApproximateNumberOfMessagesVisible", "NumberOfEmptyReceives", "NumberOfMessagesDeleted",
        "NumberOfMessagesReceived", "NumberOfMessagesSent", "SentMessageSize",
    )
}  # fmt: skip
LAMBDA_METRICS = {  # AWS Lambda Developer Guide, "Types of metrics for Lambda functions"
    ("AWS/Lambda", name): {"FunctionName"}
    for name in (
        "Invocations", "Errors", "DeadLetterErrors", "Throttles", "Duration", "ConcurrentExecutions",
        "RecursiveInvocationsDropped",
    )
}  # fmt: skip
STATES_METRICS = {  # AWS Step Functions Developer Guide, "Monitoring Step Functions metrics using Amazon CloudWatch"
    ("AWS/States", name): {"StateMachineArn"}
    for name in (
        "ExecutionTime", "ExecutionThrottled", "ExecutionsAborted", "ExecutionsFailed", "ExecutionsStarted",
        "ExecutionsSucceeded", "ExecutionsTimedOut",
    )
}  # fmt: skip
PUBLISHED = SQS_METRICS | LAMBDA_METRICS | STATES_METRICS
OF_A_DIMENSION = {
    "QueueName": "AWS::SQS::Queue",
    "FunctionName": "AWS::Serverless::Function",
    "StateMachineArn": "AWS::Serverless::StateMachine",
}
Metric = tuple[str, str, tuple[tuple[str, str], ...]]  # namespace, name, (dimension, value)…


def spelled_out(rows: list[list[Any]]) -> Iterator[Metric]:
    """Yield a widget's metrics with their shorthand written out.

    ``.`` repeats the word at its place in the row above, ``...`` all of them (Amazon CloudWatch, "Dashboard body
    structure and syntax").
    """
    above: list[str] = []
    for row in rows:
        words = [word for word in row if isinstance(word, str)]
        if words == ["..."]:
            words = above
        words = [above[place] if word == "." else word for place, word in enumerate(words)]
        above = words
        namespace, name, *dimensions = words
        yield namespace, name, tuple(zip(dimensions[::2], dimensions[1::2], strict=True))


def widgets() -> list[dict[str, Any]]:
    (dashboard,) = of_type("AWS::CloudWatch::Dashboard").values()
    body: list[dict[str, Any]] = json.loads(dashboard["DashboardBody"]["Fn::Sub"])["widgets"]
    return body


def shown() -> list[Metric]:
    return [metric for widget in widgets() for metric in spelled_out(widget["properties"]["metrics"])]


def alarmed() -> list[Metric]:
    """Return what the alarms watch, dimensions' values as the dashboard writes them."""

    def written(value: dict[str, Any]) -> str:
        return "${" + (value.get("Ref") or ".".join(value["Fn::GetAtt"])) + "}"

    return [
        (a["Namespace"], a["MetricName"], tuple((d["Name"], written(d["Value"])) for d in a["Dimensions"]))
        for a in ALARMS.values()
    ]


METRICS = sorted({*shown(), *alarmed()})


@pytest.mark.parametrize("metric", METRICS, ids=lambda m: f"{m[0]}/{m[1]}/{m[2][0][1]}")
def test_a_metric_of_dashboard_or_alarm_exists_with_just_these_dimensions(metric: Metric) -> None:
    namespace, name, dimensions = metric
    if namespace == NAMESPACE:
        assert name in UNITS
        assert dimensions == (("service", STACK_NAME),)  # test_metrics.py sees the code emit just that
        return
    assert {dimension for dimension, _ in dimensions} == PUBLISHED[namespace, name]
    for dimension, value in dimensions:
        logical = value.strip("${}").partition(".")[0]
        assert RESOURCES[logical]["Type"] == OF_A_DIMENSION[dimension]
        if dimension == "QueueName":
            assert value.endswith(".QueueName}")  # a queue's Ref is its address


def test_the_functions_measure_under_the_stacks_name() -> None:
    variables = TEMPLATE["Globals"]["Function"]["Environment"]["Variables"]
    assert variables["POWERTOOLS_SERVICE_NAME"] == {"Ref": "AWS::StackName"}
    assert variables["POWERTOOLS_METRICS_NAMESPACE"] == NAMESPACE


def test_everything_that_is_measured_is_shown() -> None:
    assert {name for namespace, name, _ in shown() if namespace == NAMESPACE} == set(UNITS)


def test_the_dashboard_shows_the_business_first_and_errors_after_it() -> None:
    places = [(w["y"], w["x"], {m[0] for m in spelled_out(w["properties"]["metrics"])}) for w in widgets()]
    namespaces = [kind for _, _, kind in sorted(places, key=lambda place: place[:2])]
    business = namespaces.index(next(kind for kind in namespaces if kind != {NAMESPACE}))
    assert business >= 5
    assert all(NAMESPACE not in kind for kind in namespaces[business:])


def test_no_two_widgets_of_the_dashboard_overlap() -> None:
    taken = [
        (x, y)
        for w in widgets()
        for x in range(w["x"], w["x"] + w["width"])
        for y in range(w["y"], w["y"] + w["height"])
    ]
    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) < 24  # a dashboard's columns


@pytest.mark.parametrize("alarm", ALARMS)
def test_an_alarm_tells_the_operators(alarm: str) -> None:
    assert ALARMS[alarm]["AlarmActions"] == [{"Ref": "OperatorTopic"}]


@pytest.mark.parametrize("alarm", ALARMS)
def test_a_missing_measurement_means_what_it_should(alarm: str) -> None:
    """Between two sweeps the last one holds; no sweep at all is an alarm; other metrics are silent when all is well."""
    metric = ALARMS[alarm]["MetricName"]
    swept = "ignore" if metric in account_metrics(Account(), 0, 0.0) else "notBreaching"
    assert ALARMS[alarm]["TreatMissingData"] == ("breaching" if metric == "Sweeps" else swept)


def test_two_sweeps_at_the_least_fall_into_the_alarms_time() -> None:
    alarm, most = ALARMS["NoSweepAlarm"], TEMPLATE["Parameters"]["SweepMinutes"]["MaxValue"]
    assert alarm["Period"] * alarm["EvaluationPeriods"] >= 2 * 60 * most


def test_what_operators_must_know_has_an_alarm() -> None:
    metrics = {alarm["MetricName"] for alarm in ALARMS.values()}
    jobs = {"JobsFailed", "AccountHeld", "OldestQueued"}
    still = {"Errors", "Throttles", "RecursiveInvocationsDropped", "ApproximateAgeOfOldestMessage", "Sweeps"}
    assert metrics == {"ApproximateNumberOfMessagesVisible", *jobs, *still}


@pytest.mark.parametrize("alarm", ALARMS)
def test_an_alarm_names_the_chapter_of_the_runbook_that_says_what_to_do(alarm: str) -> None:
    chapter = re.search(r'\(docs/operations\.md, "(.+)"\)', ALARMS[alarm]["AlarmDescription"])
    assert chapter
    assert re.search(rf"^##+ {re.escape(chapter[1])}$", (ROOT / "docs" / "operations.md").read_text("utf-8"), re.M)


def test_cloudwatch_may_publish_to_the_operators_topic_for_this_account_only() -> None:
    (policy,) = [p for p in of_type("AWS::SNS::TopicPolicy").values() if {"Ref": "OperatorTopic"} in p["Topics"]]
    (alarms,) = [
        s for s in policy["PolicyDocument"]["Statement"] if s["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    ]
    assert alarms["Action"] == "sns:Publish"
    assert alarms["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}


@pytest.mark.parametrize("topic", TOPICS)
def test_the_e_mail_address_is_subscribed_to_the_topic_where_one_is_given(topic: str) -> None:
    (name,) = [n for n, p in of_type("AWS::SNS::Subscription").items() if p["TopicArn"] == {"Ref": topic}]
    assert RESOURCES[name]["Condition"] == "HasEmail"
    assert RESOURCES[name]["Properties"]["Endpoint"] == {"Ref": "NotificationEmail"}


# ---------------------------------------------------------------- traces


def test_every_function_and_the_machine_are_traced_by_their_services_and_no_sdk_is_imported() -> None:
    assert TEMPLATE["Globals"]["Function"]["Tracing"] == "Active"
    assert of_type("AWS::Serverless::StateMachine")["StateMachine"]["Tracing"] == {"Enabled": True}
    assert "aws-xray-sdk" not in (ROOT / "layers" / "portraitcast" / "requirements.txt").read_text("utf-8")
    traced = {name for name, s in ALLOWED if "xray:PutTraceSegments" in listed(s["Action"])}
    assert traced == {"SubmitRole", "StatusRole", "DeliverRole", "PrepareRole", "StateMachineRole"}


@pytest.mark.parametrize("name", of_type("AWS::Serverless::LayerVersion"))
def test_a_layer_is_made_by_its_own_makefile(name: str) -> None:
    folder = ROOT / RESOURCES[name]["Properties"]["ContentUri"]
    assert RESOURCES[name]["Metadata"]["BuildMethod"] == "makefile"
    assert f"build-{name}:" in (folder / "Makefile").read_text("utf-8").splitlines()  # the target that SAM CLI makes
    (runtime,) = RESOURCES[name]["Properties"]["CompatibleRuntimes"]
    assert f"RUNTIME_PYTHON ?= {runtime}" in (folder / "Makefile").read_text("utf-8").splitlines()


# ---------------------------------------------------------------- parameters


@pytest.mark.parametrize(
    "deployments", ["", "my-emo=emo-v1", "my-emo=emo-v1, fast_2=liveportrait", " a.b = wan2.2-s2v ,c=emo-v1"]
)
def test_deployments_are_accepted(deployments: str) -> None:
    """By the template, and by submit."""
    assert re.fullmatch(TEMPLATE["Parameters"]["ModelDeployments"]["AllowedPattern"], deployments)
    found = StackModels.read("emo-v1", deployments).deployments
    assert len(found) == len([entry for entry in deployments.split(",") if entry.strip()])
    for name in found:
        assert re.fullmatch(TEMPLATE["Parameters"]["DefaultModel"]["AllowedPattern"], name)
        assert StackModels.read(name, deployments).default == name


@pytest.mark.parametrize("deployments", ["my-emo", "my-emo=emo-v9", "=emo-v1", "my emo=emo-v1", "my-emo=", "-a=emo-v1"])
def test_what_is_no_deployment_is_refused(deployments: str) -> None:
    """At deployment, and by submit, with the way to write it."""
    assert not re.fullmatch(TEMPLATE["Parameters"]["ModelDeployments"]["AllowedPattern"], deployments)
    with pytest.raises(ValueError, match=r"ModelDeployments holds .*name=model"):
        StackModels.read("emo-v1", deployments)


@pytest.mark.parametrize(
    ("default", "deployments", "words"),
    [
        ("emo-v2", "", r"DefaultModel is 'emo-v2'\. Write one of emo-v1, liveportrait, wan2\.2-s2v;"),
        ("my-emo", "other=emo-v1", r"wan2\.2-s2v, other;"),
        ("emo-v1", "liveportrait=emo-v1", "liveportrait is a model's own name"),
        ("emo-v1", "a=emo-v1,a=liveportrait", "a stands there twice"),
    ],
)
def test_what_only_submit_can_see_is_refused(default: str, deployments: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        StackModels.read(default, deployments)


EXTRA_VIDEO_HOSTS = TEMPLATE["Parameters"]["ExtraVideoHosts"]


@pytest.mark.parametrize(
    "hosts",
    [
        "",
        "https://videos.example",
        "http://127.0.0.1:8080",
        "https://a.example:8443, http://b.example/",
        "http://[::1]:9000",
    ],
)
def test_origins_of_extra_video_hosts_are_accepted_by_the_template_and_by_deliver(hosts: str) -> None:
    assert re.fullmatch(EXTRA_VIDEO_HOSTS["AllowedPattern"], hosts)
    listed_origins(hosts)


@pytest.mark.parametrize(
    "hosts",
    [
        "videos.example",
        "ftp://videos.example",
        "https://user@videos.example",
        "https://a.example/videos",
    ],
)
def test_what_is_no_origin_is_refused_at_deployment_and_by_deliver(hosts: str) -> None:
    assert not re.fullmatch(EXTRA_VIDEO_HOSTS["AllowedPattern"], hosts)
    assert "scheme://host:port" in EXTRA_VIDEO_HOSTS["ConstraintDescription"]
    with pytest.raises(ParameterError, match=r"ExtraVideoHosts.*scheme://host:port"):
        listed_origins(hosts)
