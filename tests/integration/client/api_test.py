#!/usr/bin/env python3
"""Fills a server with the secrets that api.c asks for, and runs its tests, each in a process of its own."""

import os
import pathlib
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "server"))

import context
from cofferd import values

PROGRAM = os.environ["COFFER_API"]
LARGE, BIG_KEYS, BIG_VALUE = 24, 4, 50000  # as in api.c


class ApiTest(context.ServerTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        secrets = [("prod", "a", values(K=b"value-a", EMPTY=b"")), ("prod", "b", values(K=b"value-b")),
                   ("prod", "twin", values(K=b"value-a"))]
        for number in range(LARGE):
            value = bytes([ord("a") + number]) * BIG_VALUE
            secrets.append((f"large-{number}", "big", values(**{f"K{key}": value for key in range(BIG_KEYS)})))
        for environment, name, pairs in secrets:
            answer = cls.connection.call(context.SECRET + "CreateSecret",
                                         {"name": name, "environment": environment, "values": pairs}, token=cls.dev.admin)
            assert answer.code == 0, answer

    def check(self, name):
        variables = {**os.environ, "COFFER_ADDR": self.dev.ipc, "COFFER_TOKEN": self.dev.executor.decode()}
        for variable in ("COFFER_TOKEN_FILE", "COFFER_WORKSPACE", "COFFER_ENVIRONMENT", "COFFER_TIMEOUT"):
            variables.pop(variable, None)
        run = subprocess.run([PROGRAM, name], env=variables, stdout=subprocess.PIPE, text=True, timeout=400, check=False)
        self.assertEqual((run.returncode, run.stdout.split()), (0, ["ok", name]))

    def test_declarations_of_several_actions_are_taken_together(self):
        self.check("declarations_of_several_actions_are_taken_together")

    def test_what_one_declaration_requires_is_required(self):
        self.check("what_one_declaration_requires_is_required")

    def test_declared_type_is_demanded(self):
        self.check("declared_type_is_demanded")

    def test_operands_that_fell_through_are_no_failure(self):
        self.check("operands_that_fell_through_are_no_failure")

    def test_wrong_expression_is_told_with_its_place(self):
        self.check("wrong_expression_is_told_with_its_place")

    def test_conflict_of_variables_is_told_by_server_and_view_alike(self):
        self.check("conflict_of_variables_is_told_by_server_and_view_alike")

    def test_variables_of_an_item_that_was_checked_are_its_values(self):
        self.check("variables_of_an_item_that_was_checked_are_its_values")

    def test_results_that_have_no_room_in_one_answer_all_come(self):
        self.check("results_that_have_no_room_in_one_answer_all_come")

    def test_document_of_a_mebibyte_is_expanded(self):
        self.check("document_of_a_mebibyte_is_expanded")

    def test_document_is_nested_as_deep_as_the_limit(self):
        self.check("document_is_nested_as_deep_as_the_limit")

    def test_faults_of_a_document_stand_with_their_places_in_the_order_of_the_document(self):
        self.check("faults_of_a_document_stand_with_their_places_in_the_order_of_the_document")

    def test_preflight_of_choices_follows_the_rules_of_the_language(self):
        self.check("preflight_of_choices_follows_the_rules_of_the_language")

    def test_result_gives_the_token_that_a_later_request_demands(self):
        self.check("result_gives_the_token_that_a_later_request_demands")


if __name__ == "__main__":
    unittest.main()
