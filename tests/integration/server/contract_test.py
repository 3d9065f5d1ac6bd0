#!/usr/bin/env python3
"""A client that knows only the contract, in plain Python, does everything that there is, over TCP and over IPC."""

import pathlib
import re
import tempfile
import unittest
import urllib.parse

import context
from cofferd import ROOT, values
from oauth_host import SERVER, Host
from sp_client import SCHEMA, encode, uuid7, wire_fields
from sts import Sts

GOLDEN = ROOT / "tests" / "golden" / "frames.txt"


def described_methods(data):
    """The methods of a serialized FileDescriptorSet."""
    def fields(message, number):
        return [value for found, value in wire_fields(message) if found == number]

    methods = set()
    for file in fields(data, 1):
        package, = fields(file, 2)
        for service in fields(file, 6):
            name, = fields(service, 1)
            methods |= {f"{package.decode()}.{name.decode()}/{fields(method, 1)[0].decode()}"
                        for method in fields(service, 2)}
    return methods


class Contract(context.ServerTest):
    @classmethod
    def setUpClass(cls):
        cls.sts = Sts()
        cls.folder = tempfile.TemporaryDirectory(prefix="coffer-contract-", dir="/tmp")
        cls.host = Host(pathlib.Path(cls.folder.name))
        cls.host.site.json(SERVER, cls.host.server(cls.host.origin, registration_endpoint=f"{cls.host.origin}/register",
                                                           device_authorization_endpoint=f"{cls.host.origin}/device"))
        cls.host.site.json("device", {"device_code": "code", "user_code": "WDJB-MJHT", "expires_in": 600,
                                      "verification_uri": "https://acme.example/device"})
        cls.host.site.json("register", {"client_id": "registered", "client_secret": "secret"})
        cls.host.site.json("token", {"access_token": "access", "expires_in": 3600})
        cls.SETTINGS = {"COFFERD_AWS__PRINCIPAL_ARN": "arn:aws:iam::123456789012:role/coffer", **cls.sts.settings(),
                        **cls.host.settings}
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.sts.close()
        cls.host.rude.close()
        cls.folder.cleanup()

    def authorize(self, call, place):
        """Somebody authorises a connection on a page of the caller's."""
        started = call("ConnectionService/StartAuthorization", {**place, "redirect_uri": "https://platform.example/"})
        uid = started["authorization"]["uid"]
        asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(started["url"]).query))
        completed = call("ConnectionService/CompleteAuthorization", {
            "authorization": uid, "query": f"code=code&state={asked['state']}".encode()})
        self.assertEqual(completed["connection"]["status"], "CONNECTION_STATUS_CONNECTED")
        shown = call("ConnectionService/GetAuthorization", {"authorization": uid})
        self.assertEqual(shown["authorization"]["state"], "AUTHORIZATION_STATE_CONNECTED")

    def all_methods(self):
        rows = re.findall(r'METHOD\("([\w.]+)",\s*"(\w+)"', (ROOT / "common" / "method.def").read_text())
        return {f"{service}/{method}" for service, method in rows}

    def do_everything(self, connection, environment):
        """Calls every method once, successfully; the calls that were made."""
        made = set()

        def call(method, request=None, token=self.dev.admin, package="coffer.v1."):
            made.add(package + method)
            answer = connection.call(package + method, request, token=token)
            self.assertEqual(answer.code, 0, (method, answer))
            return answer.message
        call("Health/Check", {}, None, "grpc.health.v1.")
        call("ServerService/GetServerInfo", {}, None, "coffer.rpc.v1.")
        described = call("ReflectionService/GetFileDescriptorSet", {}, package="coffer.rpc.v1.")["file_descriptor_set"]
        self.assertEqual(described_methods(described), self.all_methods())
        uid = call("WorkspaceService/CreateWorkspace", {"name": environment}, self.dev.system)["workspace"]["uid"]
        self.assertEqual(call("WorkspaceService/GetWorkspace", {"workspace": uid}, self.dev.system)["workspace"]["uid"], uid)
        call("WorkspaceService/ListWorkspaces", {}, self.dev.system)
        call("WorkspaceService/UpdateWorkspace", {"workspace": uid, "update_mask": {"paths": ["display_name", "disabled"]},
                                                  "display_name": "n", "disabled": True}, self.dev.system)
        call("WorkspaceService/DeleteWorkspace", {"workspace": uid}, self.dev.system)
        call("WorkspaceService/RestoreWorkspace", {"workspace": uid}, self.dev.system)
        place = {"environment": environment, "name": "s"}
        call("EnvironmentService/CreateEnvironment", {"name": environment})
        call("SecretService/CreateSecret", {**place, "values": values(KEY=b"\0\xff")})
        call("SecretService/GetSecret", place)
        call("SecretService/UpdateSecretValues", {**place, "patch": {"set": values(OTHER=b"")}})
        self.assertEqual(len(call("SecretService/ListSecrets", {"environments": [environment]})["secrets"]), 1)
        call("SecretService/UpdateSecret", {**place, "update_mask": {"paths": ["tags"]}, "tags": ["t"]})
        begun = call("SecretService/WatchSecrets")
        call("SecretService/RenameSecret", {**place, "new_name": "renamed"})
        told, = call("SecretService/WatchSecrets", {"resume_token": begun["resume_token"]})["changes"]
        self.assertEqual((told["old_name"], told["name"]), ("s", "renamed"))
        call("SecretService/RenameSecret", {**place, "name": "renamed", "new_name": "s"})
        call("SecretService/RollBackSecret", {**place, "version": 1})
        self.assertEqual(len(call("SecretService/ListSecretVersions", place)["versions"]), 3)
        compared = call("SecretService/CompareVersions", {**place, "version": 2, "other_version": 3})
        self.assertEqual((compared["difference"], compared["keys"]), (
            "DIFFERENCE_CHANGED", [{"key": "KEY", "difference": "DIFFERENCE_SAME"}, {"key": "OTHER", "difference": "DIFFERENCE_ONLY_HERE"}]))
        call("SecretService/DestroySecretVersion", {**place, "version": 2})
        self.assertEqual(call("SecretService/RevealSecret", place)["values"], [{"key": "KEY", "value": b"\0\xff"}])
        call("SecretService/CopySecret", {**place, "target_environment": environment, "target_name": "copy"})
        call("SecretService/CompareEnvironments", {"environment": environment, "other_environment": "other"})
        exported = call("SecretService/ExportSecrets", {"environments": [environment], "name_patterns": ["s", "cop*"]})
        self.assertEqual([s["secret"]["name"] for s in exported["secrets"]], ["copy", "s"])
        imported = call("SecretService/ImportSecrets", {"mode": "IMPORT_MODE_PATCH", "secrets": [
            {**place, "values": values(KEY=b"\0\xff"), "metadata": {"tags": ["t"]}}]})
        self.assertEqual((imported["secrets"][0]["action"], imported["written"]), ("IMPORT_ACTION_UNCHANGED", True))
        result = call("ResolveService/Resolve", {"items": [{
            "environments": [environment], "references": [{"name": "s", "key": "KEY"}]}]}, self.dev.executor)["results"][0]
        self.assertEqual(self.value(result, "s", "KEY"), b"\0\xff")
        registered = call("IntegrationService/RegisterActions", {"actions": [
            {"name": f"tools.{environment}", "declarations": {"secrets": [{"name": "s", "keys": ["KEY"]}]}}]})
        self.assertEqual((registered["written"], registered["created"]), (True, 1))
        call("IntegrationService/GetAction", {"name": f"tools.{environment}"})
        self.assertEqual(len(call("IntegrationService/ListActions")["actions"]), 1)
        self.assertEqual([d["name"] for d in call("IntegrationService/ListDefinitions", {"used_only": True})["definitions"]], ["s"])
        external_id = call("AwsService/GetAssumeRoleAccess")["external_id"]
        self.sts.trust["arn:aws:iam::210987654321:role/r"] = external_id
        call("SecretService/CreateSecret", {"name": "aws", "environment": environment + "-aws",
                                            "values": values(AWS_ROLE_ARN=b"arn:aws:iam::210987654321:role/r")})
        tested = call("AwsService/TestRole", {"name": "aws", "environment": environment + "-aws"})["secret"]["facts"]["aws_role_test"]
        self.assertEqual(tested["verdict"], "AWS_ROLE_VERDICT_REFUSES")
        call("IntegrationService/DeleteAction", {"name": f"tools.{environment}"})
        oauth = {"environment": environment, "provider": "github", "connection_class": "CONNECTION_CLASS_USER"}
        configured = call("ConnectionService/ConfigureConnection", {**context.CONFIGURED, "environment": environment})
        call("ConnectionService/GetConnection", oauth)
        call("ConnectionService/ListConnections", {"environments": [environment]})
        call("ConnectionService/RotateClientCredential", {**oauth, "credential": {"client_secret": b"next"}})
        self.assertEqual(call("ConnectionService/TestConnection", oauth)["result"], "REFRESH_RESULT_NOT_CONNECTED")
        self.assertEqual(call("ConnectionService/RefreshConnection", oauth)["result"], "REFRESH_RESULT_NOT_CONNECTED")
        connected = call("ConnectionService/SetConnectionTokens", {
            "environment": environment, "provider": "github", "refresh_token": b"refresh-token"})
        self.assertEqual(connected["connection"]["uid"], configured["connection"]["uid"])
        call("ConnectionService/DisconnectConnection", oauth)
        call("ConnectionService/DeleteConnection", oauth)
        provider = call("ProviderService/CreateProvider", {"name": environment, "definition": context.DEFINITION})["provider"]
        self.assertEqual(provider["id"], f"custom_{environment}".replace("-", "_"))
        self.assertEqual(call("ProviderService/GetProvider", {"id": provider["id"]})["provider"], provider)
        self.assertEqual(call("ProviderService/ListProviders", {"own_only": True})["providers"], [provider])
        call("ProviderService/UpdateProvider", {"id": provider["id"], "name": "Renamed", "update_mask": {"paths": ["name"]}})
        call("ProviderService/DeleteProvider", {"id": provider["id"]})
        discovered = call("ProviderService/DiscoverProvider", {"url": self.host.origin, "name": f"found {environment}"})
        self.assertEqual(discovered["discovery"]["issuer"], self.host.origin)
        found = {"provider": discovered["provider"]["id"], "environment": environment}
        registered = call("ConnectionService/RegisterClient", {**found, "grant": "CONNECTION_GRANT_AUTHORIZATION_CODE",
                                                               "redirect_uris": ["https://coffer.example/"]})
        self.assertEqual(registered["connection"]["client_id"], "registered")
        self.authorize(call, found)
        call("ConnectionService/RegisterClient", {**found, "grant": "CONNECTION_GRANT_DEVICE_CODE"})
        started = call("ConnectionService/StartDeviceAuthorization", found)
        polled = call("ConnectionService/PollDeviceAuthorization", {"authorization": started["authorization"]["uid"]})
        self.assertEqual(polled["authorization"]["state"], "AUTHORIZATION_STATE_PENDING")
        call("ConnectionService/DeleteConnection", {**found, "connection_class": "CONNECTION_CLASS_USER"})
        call("ProviderService/DeleteProvider", {"id": found["provider"]})
        account = {"name": environment, "grants": [{"permissions": ["resolve"]}]}
        call("ServiceAccountService/CreateServiceAccount", account)
        call("ServiceAccountService/GetServiceAccount", {"name": environment})
        call("ServiceAccountService/ListServiceAccounts")
        call("ServiceAccountService/UpdateServiceAccount", {
            "name": environment, "update_mask": {"paths": ["description"]}, "description": "changed"})
        token = call("TokenService/IssueToken", {"service_account": environment})
        self.assertEqual(len(call("TokenService/ListTokens", {"service_account": environment})["tokens"]), 1)
        call("TokenService/GetCaller", {}, token["secret_text"])
        call("TokenService/RotateToken", {"token_uid": token["token"]["uid"], "overlap": {"seconds": 60}})
        call("TokenService/RevokeToken", {"token_uid": token["token"]["uid"]})
        call("ServiceAccountService/DeleteServiceAccount", {"name": environment})
        call("SecretService/DeleteSecret", {**place, "name": "copy"})
        call("SecretService/DeleteSecret", place)
        call("SecretService/RestoreSecret", place)
        call("SecretService/DeleteSecret", place)
        call("EnvironmentService/DeleteEnvironment", {"name": environment})
        call("EnvironmentService/ListEnvironments")
        return made

    def test_every_method_is_called_over_tcp_and_over_ipc(self):
        for name, address in (("by-tcp", self.dev.tcp), ("by-ipc", self.dev.ipc)):
            with self.dev.connect(address) as connection:
                self.assertEqual(self.do_everything(connection, name), self.all_methods(), name)

    def test_answer_has_the_requests_id_and_the_servers_time(self):
        for method, request, token in (("grpc.health.v1.Health/Check", {}, None),
                                       ("coffer.v1.SecretService/ListSecrets", {}, self.dev.admin),
                                       ("coffer.v1.SecretService/GetSecret", {"name": "none"}, self.dev.admin)):
            request_id = uuid7()
            answer = self.connection.call(method, request, token=token, request_id=request_id)
            self.assertEqual(answer.request_id, request_id)
            self.assertGreaterEqual(answer.server_time_us, 0)
        self.assertGreater(answer.server_time_us, 0, "a look into the database takes time")
        self.assertEqual(self.connection.call("grpc.health.v1.Health/Check", {}, request_id=b"").request_id, b"")

    def test_golden_request_frames_are_answered(self):
        """The bytes of the golden file go out as they are; the answer's frame has the request's ID."""
        for line in GOLDEN.read_text().splitlines():
            if not line.startswith("request "):
                continue
            _, name, data = line.split()
            raw = bytes.fromhex(data)
            fields = dict(wire_fields(raw))
            answer = self.connection.receive(self.connection.send_message(raw))
            self.assertEqual(answer.request_id, fields.get(5, b""), name)
            self.assertIn(answer.reason, ("", "TOKEN_MALFORMED", "REQUEST_ID_EXPIRED"), name)

    def test_golden_request_frames_are_written_by_this_client_too(self):
        first = next(line.split()[2] for line in GOLDEN.read_text().splitlines() if line.startswith("request health "))
        frame = encode("coffer.rpc.v1.RequestFrame", {
            "revision": 1, "method": "grpc.health.v1.Health/Check",
            "request_id": bytes.fromhex("019ab2c3d4e57000800000000000beef")})
        self.assertEqual(frame.hex(), first)
        self.assertIn("coffer.rpc.v1.RequestFrame", SCHEMA.messages)


if __name__ == "__main__":
    unittest.main(verbosity=2)
