"""docs/deployer/ gives a deployer the rights that template.yaml asks for, on its names, and no more."""

from __future__ import annotations

import json
import re
import tomllib
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from package import read_template

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs" / "deploying.md").read_text("utf-8")
TEMPLATE = read_template(ROOT / "template.yaml")
STACK = tomllib.loads((ROOT / "samconfig.toml").read_text("utf-8"))["default"]["global"]["parameters"]["stack_name"]
TEXTS = [
    (ROOT / "docs" / "deployer" / f"{name}.json").read_text("utf-8") for name in ("sam-cli", "cloudformation", "tags")
]
POLICIES: list[dict[str, Any]] = [json.loads(text) for text in TEXTS]


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


STATEMENTS: list[dict[str, Any]] = [statement for policy in POLICIES for statement in policy["Statement"]]
# The first policy is what SAM CLI needs.
FOR_CLOUDFORMATION: list[dict[str, Any]] = [statement for policy in POLICIES[1:] for statement in policy["Statement"]]
ACTIONS = {action for statement in STATEMENTS for action in listed(statement["Action"])}


def allowed(action: str, arn: str | None) -> bool:
    """Say whether CloudFormation may do `action`, to `arn` if one is given; conditions are tested by themselves."""
    return any(
        action in listed(statement["Action"])
        and (arn is None or any(fnmatchcase(arn, pattern) for pattern in listed(statement["Resource"])))
        for statement in FOR_CLOUDFORMATION
    )


# ---------------------------------------------------------------- what each type of resource asks for


class Rights(NamedTuple):
    """What making and deleting a resource asks for, and on what; ``{}`` is its name, None: it has no ARN of its own."""

    create: set[str]
    delete: set[str]
    arn: str | None = None

    def missing(self, actions: set[str], name: str) -> set[str]:
        """Return those of `actions` that the page doesn't allow on a resource of this name."""
        arn = self.arn and self.arn.format(name)
        return {action for action in actions if not allowed(action, arn)}


HERE = "ap-southeast-1:111122223333"
# The actions without which the handlers of CloudFormation's resource schemas can't create or delete one.
RIGHTS = {
    "AWS::CloudWatch::Alarm": Rights(
        {"cloudwatch:PutMetricAlarm"}, {"cloudwatch:DeleteAlarms"}, f"arn:aws:cloudwatch:{HERE}:alarm:{{}}"
    ),
    "AWS::CloudWatch::Dashboard": Rights(
        {"cloudwatch:PutDashboard", "cloudwatch:GetDashboard"},
        {"cloudwatch:DeleteDashboards"},
        "arn:aws:cloudwatch::111122223333:dashboard/{}",
    ),
    "AWS::DynamoDB::Table": Rights(
        {
            "dynamodb:CreateTable",
            "dynamodb:DescribeTable",
            "dynamodb:UpdateTimeToLive",
            "dynamodb:UpdateContinuousBackups",
        },
        {"dynamodb:DeleteTable"},
        f"arn:aws:dynamodb:{HERE}:table/{{}}",
    ),
    "AWS::Events::EventBus": Rights(
        {"events:CreateEventBus", "events:DescribeEventBus"},
        {"events:DeleteEventBus"},
        f"arn:aws:events:{HERE}:event-bus/{{}}",
    ),
    "AWS::Events::Rule": Rights(
        {"events:PutRule", "events:PutTargets", "events:DescribeRule"},
        {"events:RemoveTargets", "events:DeleteRule"},
        f"arn:aws:events:{HERE}:rule/{{}}",
    ),
    "AWS::IAM::Policy": Rights({"iam:PutRolePolicy", "iam:GetRolePolicy"}, {"iam:DeleteRolePolicy"}),
    "AWS::IAM::Role": Rights(
        {"iam:CreateRole", "iam:GetRole", "iam:PutRolePolicy"},
        {"iam:DeleteRole", "iam:DeleteRolePolicy", "iam:ListRolePolicies", "iam:ListAttachedRolePolicies"},
        "arn:aws:iam::111122223333:role/{}",
    ),
    "AWS::Lambda::EventInvokeConfig": Rights(
        {"lambda:PutFunctionEventInvokeConfig"}, {"lambda:DeleteFunctionEventInvokeConfig"}
    ),
    "AWS::Lambda::EventSourceMapping": Rights(
        {"lambda:CreateEventSourceMapping", "lambda:GetEventSourceMapping"}, {"lambda:DeleteEventSourceMapping"}
    ),
    "AWS::Lambda::Function": Rights(
        # SAM tags what it makes; RecursiveLoop is put by a call of its own.
        {"lambda:CreateFunction", "lambda:GetFunction", "lambda:TagResource", "lambda:PutFunctionRecursionConfig"},
        {"lambda:DeleteFunction"},
        f"arn:aws:lambda:{HERE}:function:{{}}",
    ),
    "AWS::Lambda::LayerVersion": Rights(
        {"lambda:PublishLayerVersion"}, {"lambda:DeleteLayerVersion"}, f"arn:aws:lambda:{HERE}:layer:{{}}"
    ),
    "AWS::Lambda::Permission": Rights({"lambda:AddPermission"}, {"lambda:RemovePermission"}),
    "AWS::Logs::LogGroup": Rights(
        {"logs:CreateLogGroup", "logs:PutRetentionPolicy"},
        {"logs:DeleteLogGroup"},
        f"arn:aws:logs:{HERE}:log-group:{{}}",
    ),
    "AWS::Logs::QueryDefinition": Rights({"logs:PutQueryDefinition"}, {"logs:DeleteQueryDefinition"}),
    "AWS::S3::Bucket": Rights(
        {
            "s3:CreateBucket",
            "s3:PutBucketNotification",
            "s3:PutBucketOwnershipControls",
            "s3:PutBucketPublicAccessBlock",
            "s3:PutBucketVersioning",
            "s3:PutEncryptionConfiguration",
            "s3:PutLifecycleConfiguration",
        },
        {"s3:DeleteBucket"},
        "arn:aws:s3:::{}",
    ),
    "AWS::S3::BucketPolicy": Rights({"s3:PutBucketPolicy", "s3:GetBucketPolicy"}, {"s3:DeleteBucketPolicy"}),
    "AWS::SNS::Subscription": Rights({"sns:Subscribe"}, {"sns:Unsubscribe"}),
    "AWS::SNS::Topic": Rights(
        {"sns:CreateTopic", "sns:GetTopicAttributes"}, {"sns:DeleteTopic"}, f"arn:aws:sns:{HERE}:{{}}"
    ),
    "AWS::SNS::TopicPolicy": Rights({"sns:SetTopicAttributes"}, {"sns:SetTopicAttributes"}),
    "AWS::SQS::Queue": Rights(
        {"sqs:CreateQueue", "sqs:GetQueueAttributes"}, {"sqs:DeleteQueue"}, f"arn:aws:sqs:{HERE}:{{}}"
    ),
    "AWS::SQS::QueuePolicy": Rights({"sqs:SetQueueAttributes"}, {"sqs:SetQueueAttributes"}),
    "AWS::SecretsManager::Secret": Rights(
        {"secretsmanager:CreateSecret", "secretsmanager:DescribeSecret"},
        {"secretsmanager:DeleteSecret"},
        f"arn:aws:secretsmanager:{HERE}:secret:{{}}",
    ),
    "AWS::StepFunctions::StateMachine": Rights(
        {"states:CreateStateMachine", "states:DescribeStateMachine", "states:TagResource"},
        {"states:DeleteStateMachine"},
        f"arn:aws:states:{HERE}:stateMachine:{{}}",
    ),
}
MAPPING = f"arn:aws:lambda:{HERE}:event-source-mapping:1a2b3c4d-0000-0000-0000-000000000000"
# `tagging.permissions` of the resource schemas: CloudFormation tags what it makes with the stack's name and tags.
TAGS = {
    "AWS::CloudWatch::Alarm": ("cloudwatch:TagResource", "cloudwatch:UntagResource", "cloudwatch:ListTagsForResource"),
    "AWS::CloudWatch::Dashboard": (
        "cloudwatch:TagResource",
        "cloudwatch:UntagResource",
        "cloudwatch:ListTagsForResource",
    ),
    "AWS::DynamoDB::Table": ("dynamodb:TagResource", "dynamodb:UntagResource", "dynamodb:ListTagsOfResource"),
    "AWS::Events::EventBus": ("events:TagResource", "events:UntagResource", "events:ListTagsForResource"),
    "AWS::Events::Rule": ("events:TagResource", "events:UntagResource", "events:ListTagsForResource"),
    "AWS::IAM::Role": ("iam:TagRole", "iam:UntagRole", "iam:ListRoleTags"),
    "AWS::Lambda::EventSourceMapping": ("lambda:TagResource", "lambda:UntagResource", "lambda:ListTags"),
    "AWS::Lambda::Function": ("lambda:TagResource", "lambda:UntagResource", "lambda:ListTags"),
    "AWS::Logs::LogGroup": ("logs:TagResource", "logs:UntagResource", "logs:ListTagsForResource"),
    "AWS::S3::Bucket": (
        "s3:PutBucketTagging",
        "s3:GetBucketTagging",
        "s3:DeleteBucketTagging",
        "s3:TagResource",
        "s3:UntagResource",
        "s3:ListTagsForResource",
    ),
    "AWS::SNS::Topic": ("sns:TagResource", "sns:UntagResource", "sns:ListTagsForResource"),
    "AWS::SQS::Queue": ("sqs:TagQueue", "sqs:UntagQueue", "sqs:ListQueueTags"),
    "AWS::SecretsManager::Secret": ("secretsmanager:TagResource", "secretsmanager:UntagResource"),
    "AWS::StepFunctions::StateMachine": ("states:TagResource", "states:UntagResource", "states:ListTagsForResource"),
}
# Where a resource's own name stands in its properties; without it CloudFormation makes one of stack and logical id.
NAMED_BY = {
    "AWS::Lambda::LayerVersion": "LayerName",
    "AWS::CloudWatch::Dashboard": "DashboardName",
    "AWS::Events::EventBus": "Name",
}
# CloudFormation makes their names of the logical id alone.
NAMED_WITHOUT_STACK = {"AWS::SecretsManager::Secret", "AWS::StepFunctions::StateMachine"}


class Made(NamedTuple):
    """A resource that a stack makes."""

    kind: str
    name: str
    kept: bool


def physical_name(logical_id: str, kind: str, properties: dict[str, Any]) -> str:
    """Return a name as CloudFormation gives it."""
    given = properties.get(NAMED_BY.get(kind, ""))
    if given:
        text = given["Fn::Sub"] if "Fn::Sub" in given else f"${{{given['Ref']}}}"
        return str(text).replace("${AWS::StackName}", STACK)
    name = f"{logical_id}-1A2B3C4D5E6F" if kind in NAMED_WITHOUT_STACK else f"{STACK}-{logical_id}-1A2B3C4D5E6F"
    return name.lower() if kind == "AWS::S3::Bucket" else name


def made_by(template: dict[str, Any]) -> list[Made]:
    """Return what a template's stack makes: SAM's types are what its transform makes of them."""
    made = []
    for logical_id, resource in template["Resources"].items():
        properties = resource.get("Properties", {})
        match resource["Type"]:
            case "AWS::Serverless::Function":
                kinds = ["AWS::Lambda::Function", *([] if "Role" in properties else ["AWS::IAM::Role"])]
                kinds += [
                    {"SQS": "AWS::Lambda::EventSourceMapping"}[event["Type"]]
                    for event in properties.get("Events", {}).values()
                ]
            case "AWS::Serverless::LayerVersion":
                kinds = ["AWS::Lambda::LayerVersion"]
            case "AWS::Serverless::StateMachine":
                kinds = ["AWS::StepFunctions::StateMachine", *([] if "Role" in properties else ["AWS::IAM::Role"])]
            case kind:
                kinds = [kind]
        kept = resource.get("DeletionPolicy") in {"Retain", "RetainExceptOnCreate"}
        made += [Made(kind, physical_name(logical_id, kind, properties), kept) for kind in kinds]
    return made


MADE = made_by(TEMPLATE)


@pytest.mark.parametrize("made", MADE, ids=lambda made: f"{made.kind} {made.name}")
def test_a_deployer_may_make_each_resource_of_the_template_under_its_name(made: Made) -> None:
    rights = RIGHTS[made.kind]  # a type that isn't there needs rights on the page, and its line here
    assert not rights.missing(rights.create, made.name)


@pytest.mark.parametrize("made", [made for made in MADE if not made.kept], ids=lambda made: f"{made.kind} {made.name}")
def test_a_deployer_may_delete_what_goes_with_the_stack(made: Made) -> None:
    rights = RIGHTS[made.kind]
    assert not rights.missing(rights.delete, made.name)


def test_a_deployer_may_not_delete_what_outlives_the_stack() -> None:
    kept = [made for made in MADE if made.kept]
    assert {made.kind for made in kept} == {"AWS::S3::Bucket", "AWS::DynamoDB::Table"}
    assert not [made for made in kept if RIGHTS[made.kind].missing(RIGHTS[made.kind].delete, made.name) == set()]


@pytest.mark.parametrize("kind", TAGS)
def test_a_deployer_may_tag_what_cloudformation_tags(kind: str) -> None:
    names = [made.name for made in MADE if made.kind == kind]
    assert names
    arn = RIGHTS[kind].arn or MAPPING
    assert [(name, action) for name in names for action in TAGS[kind] if not allowed(action, arn.format(name))] == []


def test_a_resource_of_an_unknown_type_is_missed() -> None:
    grown = {"Resources": {**TEMPLATE["Resources"], "Stream": {"Type": "AWS::Kinesis::Stream"}}}
    assert {made.kind for made in made_by(grown)} - set(RIGHTS) == {"AWS::Kinesis::Stream"}


def test_no_rights_are_listed_here_for_types_that_the_template_lacks() -> None:
    assert set(RIGHTS) == {made.kind for made in MADE}


# ---------------------------------------------------------------- and no more


def test_iam_takes_each_policy() -> None:
    """6,144 characters without spaces at most (AWS IAM, "IAM and AWS STS quotas")."""
    assert [policy["Version"] for policy in POLICIES] == ["2012-10-17"] * 3
    assert max(len(re.sub(r"\s", "", text)) for text in TEXTS) <= 6144
    assert all(set(s) <= {"Sid", "Effect", "Action", "Resource", "Condition"} for s in STATEMENTS)
    assert {s["Effect"] for s in STATEMENTS} == {"Allow"}
    sids = [s["Sid"] for s in STATEMENTS]
    assert len(sids) == len(set(sids))


def test_no_right_of_a_deployer_is_a_group_of_actions() -> None:
    assert [action for action in ACTIONS if not re.fullmatch(r"[a-z0-9]+:[A-Z]\w+", action)] == []


def test_only_what_the_page_calls_unbound_is_on_everything_and_then_under_a_condition() -> None:
    everything = [s for s in STATEMENTS if "*" in listed(s["Resource"])]
    assert [(s["Sid"], list(s["Condition"])) for s in everything] == [
        ("QueueToFunction", ["ArnLike"]),
        ("Unbound", ["StringEquals"]),
    ]
    assert "the actions of `Unbound`" in PAGE


def test_every_other_right_is_bound_to_a_name() -> None:
    """That of the stack, of SAM CLI's stack, of SAM's transform, or a logical id where names are made of it alone."""
    names = (rf"\b{STACK}\b", r"\baws-sam-cli-managed-default\b", r"transform/Serverless-2016-10-31$")
    without_stack = (r":layer:Layer(:\*)?$", r":secret:ApiKeySecret-\*$", r":stateMachine:StateMachine-\*$")
    unnamed = ("*", f"arn:aws:lambda:{HERE}:event-source-mapping:*")  # mappings have ids, and no names
    arns = [arn for s in STATEMENTS for arn in listed(s["Resource"]) if arn not in unnamed]
    assert [arn for arn in arns if not any(re.search(name, arn) for name in (*names, *without_stack))] == []


def test_roles_are_passed_only_to_the_services_that_the_template_s_roles_trust() -> None:
    trusted = {
        statement["Principal"]["Service"]
        for resource in TEMPLATE["Resources"].values()
        if resource["Type"] == "AWS::IAM::Role"
        for statement in resource["Properties"]["AssumeRolePolicyDocument"]["Statement"]
        if "Service" in statement["Principal"]
    }
    (passing,) = [s for s in STATEMENTS if "iam:PassRole" in listed(s["Action"])]
    assert set(passing["Condition"]["StringEquals"]["iam:PassedToService"]) == trusted


def test_a_deployer_reads_neither_people_s_files_nor_the_key_nor_the_jobs() -> None:
    objects = [s for s in STATEMENTS if any(re.match(r"s3:\w+Object", action) for action in listed(s["Action"]))]
    assert {arn for s in objects for arn in listed(s["Resource"])} == {"arn:aws:s3:::aws-sam-cli-managed-default-*/*"}
    assert "secretsmanager:GetSecretValue" not in ACTIONS
    assert not {a for a in ACTIONS if re.match(r"dynamodb:(Get|BatchGet|Query|Scan|Put|Delete)(Item)?$", a)}


def test_a_deployer_gives_roles_no_policies_that_aws_manages() -> None:
    assert not {"iam:AttachRolePolicy", "iam:PutUserPolicy", "iam:CreatePolicy", "iam:CreateUser"} & ACTIONS
