#!/usr/bin/env python3
"""Roles are assumed at an STS that others wrote: moto's server. Its credentials are good there, and name their role."""

import unittest

import botocore.session
from botocore.config import Config

import context
from cofferd import references, values
from moto_server import Moto

SECRET = context.SECRET
DIRECT = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
PARTITIONS = {"aws": "eu-west-1", "aws-us-gov": "us-gov-west-1", "aws-cn": "cn-north-1"}


class AwsMoto(context.AccessTest):
    @classmethod
    def setUpClass(cls):
        cls.moto = Moto()
        cls.SETTINGS = {"COFFERD_AWS__STS_ENDPOINT": cls.moto.url, "COFFERD_AWS__PRINCIPAL_ARN": "arn:aws:iam::210987654321:role/coffer",
                        "AWS_ACCESS_KEY_ID": "AKIASERVER", "AWS_SECRET_ACCESS_KEY": "server-secret-key", "AWS_SESSION_TOKEN": ""}
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.moto.close()

    def role(self, environment, partition="aws"):
        answer = self.call(SECRET + "ImportSecrets", {"mode": "IMPORT_MODE_FAIL", "secrets": [{
            "name": "aws", "environment": environment, "values": values(
                AWS_ROLE_ARN=f"arn:{partition}:iam::123456789012:role/team/{environment}".encode(),
                AWS_REGION=PARTITIONS[partition].encode())}]})
        self.assertEqual(answer.code, 0, answer)

    def session(self, environment, run="run-1"):
        answer = self.call(context.RESOLVE, {"items": [{
            "environments": [environment], "references": references(*(f"aws.{key}" for key in DIRECT)), "run": {"run_id": run}}]})
        self.assertEqual(answer.code, 0, answer)
        result = answer.message["results"][0]
        self.assertEqual(result["status"]["outcome"], "OUTCOME_RESOLVED", result)
        return [self.value(result, "aws", key).decode() for key in DIRECT]

    def test_role_of_every_partition_is_assumed_and_its_credentials_are_that_role_s(self):
        for partition, region in PARTITIONS.items():
            self.role(partition, partition)
            access_key, secret_key, token = self.session(partition)
            client = botocore.session.Session().create_client(
                "sts", region_name=region, endpoint_url=self.moto.url, aws_access_key_id=access_key,
                aws_secret_access_key=secret_key, aws_session_token=token, config=Config(retries={"max_attempts": 0}))
            identity = client.get_caller_identity()
            self.assertEqual(identity["Account"], "123456789012")
            self.assertIn(f":assumed-role/{partition}/", identity["Arn"])

    def test_session_is_asked_for_once_in_a_run(self):
        self.role("once")
        before = self.moto.requests()
        sessions = [self.session("once", run) for run in ("a", "a", "b")]
        self.assertEqual(self.moto.requests() - before, 2)
        self.assertEqual(sessions[0], sessions[1])
        self.assertNotEqual(sessions[0], sessions[2])

    def test_role_that_asks_for_no_external_id_is_open(self):
        self.role("open")
        answer = self.call("coffer.v1.AwsService/TestRole", {"name": "aws", "environment": "open"})
        self.assertEqual(answer.code, 0, answer)
        self.assertIn("OPEN", str(answer.message["secret"]["facts"]["aws_role_test"]))
        self.assertTrue(answer.message["warnings"], answer)


if __name__ == "__main__":
    unittest.main(verbosity=2)
