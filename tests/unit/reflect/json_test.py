#!/usr/bin/env python3
"""Messages by descriptors, as `coffer rpc` has them, judged by protobuf's own library for Python.

Arguments: the program that asks the client's functions (json_driver.c), and the descriptors that cofferd tells.
"""

import json
import os
import pathlib
import random
import string
import subprocess
import sys
import tempfile
import unittest

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

DESCRIPTORS = pathlib.Path(sys.argv.pop())
DRIVER = sys.argv.pop()
HERE = pathlib.Path(__file__).resolve().parent
SEED = int(os.environ.get("TEST_SEED") or int.from_bytes(os.urandom(4), "big"))
COUNT = 5000 if os.environ.get("TEST_FULL") else 250
EVERY = "coffer.test.Every"
WHOLE = {  # ranges of whole numbers by the type's number in FieldDescriptorProto
    3: (-2**63, 2**63 - 1), 4: (0, 2**64 - 1), 5: (-2**31, 2**31 - 1), 6: (0, 2**64 - 1), 7: (0, 2**32 - 1),
    13: (0, 2**32 - 1), 15: (-2**31, 2**31 - 1), 16: (-2**63, 2**63 - 1), 17: (-2**31, 2**31 - 1), 18: (-2**63, 2**63 - 1)}
DOUBLE, FLOAT, BOOL, STRING, MESSAGE, BYTES, ENUM = 1, 2, 8, 9, 11, 12, 14


class Answer:
    def __init__(self, line):
        kind, *columns = line.split("\t")
        self.ok = kind == "OK"
        self.bytes = bytes.fromhex(columns[0]) if self.ok else b""
        self.reason, self.field, self.message = ("", "", "") if self.ok else columns

    @property
    def text(self):
        return self.bytes.decode()


class Reflect(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        print(f"TEST_SEED={SEED}", flush=True)
        cls.random = random.Random(SEED)
        cls.folder = tempfile.TemporaryDirectory(prefix="coffer-test-")
        cls.set_file = pathlib.Path(cls.folder.name) / "every.binpb"
        subprocess.run(["protoc", f"-I{HERE}", "--include_imports", "--include_source_info",
                        f"--descriptor_set_out={cls.set_file}", "every.proto"], check=True)
        cls.set = descriptor_pb2.FileDescriptorSet.FromString(cls.set_file.read_bytes())
        pool = descriptor_pool.DescriptorPool()
        for file in cls.set.file:
            pool.Add(file)
        cls.Every = message_factory.MessageFactory(pool).GetPrototype(pool.FindMessageTypeByName(EVERY))

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    # --- Questions

    def ask_all(self, lines, file=None):
        out = subprocess.run([DRIVER, file or self.set_file], input="".join(line + "\n" for line in lines),
                             stdout=subprocess.PIPE, text=True, check=True).stdout
        answers = [Answer(line) for line in out.splitlines()]
        self.assertEqual(len(answers), len(lines))
        return answers

    def pack(self, text):
        return self.ask_all([f"pack {EVERY} {text.encode().hex()}"])[0]

    def packed(self, text):
        answer = self.pack(text)
        self.assertTrue(answer.ok, answer.message)
        return self.Every.FromString(answer.bytes)

    def printed(self, data):
        return self.ask_all([f"print {EVERY} {data.hex()}"])[0]

    def refused(self, text, field, *words, reason="FIELD_INVALID"):
        answer = self.pack(text)
        self.assertEqual((answer.ok, answer.reason, answer.field), (False, reason, field), (text, answer.message))
        for word in words:
            self.assertIn(word, answer.message)

    # --- Random messages

    def text(self):
        letters = string.printable + "äß€😀\u0085\u2028"
        return "".join(self.random.choice(letters) for _ in range(self.random.choice((0, 1, 5, 40))))

    def scalar(self, field):
        choose = self.random
        if field.type in WHOLE:
            low, high = WHOLE[field.type]
            return choose.choice((low, high, 1, choose.randint(low, high), choose.randint(0, 200)))
        if field.type == DOUBLE:
            return choose.choice((1.5, 0.1, -1e300, 5e-324, float("inf"), choose.uniform(-1e6, 1e6), float("-inf")))
        if field.type == FLOAT:
            return choose.choice((1.5, 0.1, -3e38, 2.5e-30, float("-inf"), choose.uniform(-100, 100)))
        if field.type == BOOL:
            return choose.choice((True, False))
        if field.type == STRING:
            return self.text()
        if field.type == BYTES:
            return choose.randbytes(choose.choice((0, 1, 2, 3, 100)))
        return choose.choice([value.number for value in field.enum_type.values])

    def fill_message(self, message, depth):
        name = message.DESCRIPTOR.full_name
        if name == "google.protobuf.Timestamp":
            message.seconds = self.random.choice((-62135596800, 253402300799, 0, 951782400, self.random.randint(-10**10, 10**10)))
            message.nanos = self.random.choice((0, 500000000, 123456000, 1, 999999999))
        elif name == "google.protobuf.Duration":
            sign = self.random.choice((-1, 1))
            message.seconds = sign * self.random.choice((0, 1, 315576000000, self.random.randint(0, 10**9)))
            message.nanos = sign * self.random.choice((0, 500000000, 1000, 7))
        elif name == "google.protobuf.FieldMask":
            message.paths.extend(self.random.sample(("a", "update_mask", "a.b_c", "long_name.other_name"), 2))
        else:
            self.fill(message, depth + 1)

    def fill_entry(self, message, field, depth):
        key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
        for _ in range(self.random.randint(0, 3)):
            entries = getattr(message, field.name)
            if value.type == MESSAGE:
                self.fill_message(entries[self.scalar(key)], depth)
            else:
                entries[self.scalar(key)] = self.scalar(value)

    def fill_field(self, message, field, depth):
        repeated = field.label == field.LABEL_REPEATED
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            self.fill_entry(message, field, depth)
        elif field.type == MESSAGE and repeated:
            for _ in range(self.random.randint(0, 2)):
                self.fill_message(getattr(message, field.name).add(), depth)
        elif field.type == MESSAGE:
            getattr(message, field.name).SetInParent()
            self.fill_message(getattr(message, field.name), depth)
        elif repeated:
            getattr(message, field.name).extend(self.scalar(field) for _ in range(self.random.randint(0, 4)))
        else:
            setattr(message, field.name, self.scalar(field))

    def fill(self, message, depth):
        for field in message.DESCRIPTOR.fields:
            deep = field.type == MESSAGE and depth >= 3
            if not deep and self.random.random() < (0.4 if depth == 0 else 0.1):
                self.fill_field(message, field, depth)

    def messages(self):
        for _ in range(COUNT):
            message = self.Every()
            self.fill(message, 0)
            yield message

    def test_random_messages_are_printed_as_protobufs_own_library_prints_them(self):
        messages = list(self.messages())
        answers = self.ask_all([f"print {EVERY} {message.SerializeToString().hex()}" for message in messages])
        for message, answer in zip(messages, answers):
            self.assertTrue(answer.ok, answer.message)
            self.assertEqual(json.loads(answer.text), json.loads(json_format.MessageToJson(message)))
            self.assertEqual(json_format.Parse(answer.text, self.Every()), message)

    def test_random_messages_are_read_from_the_json_of_protobufs_own_library(self):
        messages = list(self.messages())
        texts = [json_format.MessageToJson(message, preserving_proto_field_name=self.random.random() < 0.5,
                                           use_integers_for_enums=self.random.random() < 0.5,
                                           ensure_ascii=self.random.random() < 0.5)
                 for message in messages]
        answers = self.ask_all([f"pack {EVERY} {text.encode().hex()}" for text in texts])
        for message, text, answer in zip(messages, texts, answers):
            self.assertTrue(answer.ok, (answer.message, text))
            self.assertEqual(self.Every.FromString(answer.bytes), message)

    # --- JSON that people write

    def test_numbers_are_taken_in_all_forms_of_the_mapping(self):
        for text, number in (("7", 7), ('"7"', 7), ("7.0", 7), ("7e2", 700), ("-2147483648", -2**31), ("-0", 0)):
            self.assertEqual(self.packed(f'{{"anInt32": {text}}}').an_int32, number)
        self.assertEqual(self.packed('{"aUint64": "18446744073709551615"}').a_uint64, 2**64 - 1)
        self.assertEqual(self.packed('{"aDouble": "-Infinity"}').a_double, float("-inf"))
        self.assertEqual(str(self.packed('{"aDouble": "NaN"}').a_double), "nan")

    def test_bytes_are_taken_in_both_alphabets_with_and_without_padding(self):
        for text in ("-_8=", "+/8=", "-_8", "+/8"):
            self.assertEqual(self.packed(f'{{"someBytes": "{text}"}}').some_bytes, b"\xfb\xff")

    def test_null_is_the_same_as_nothing_and_names_of_both_forms_are_taken(self):
        self.assertEqual(self.packed('{"aString": null, "a_leaf": null, "strings": null}'), self.Every())
        self.assertEqual(self.packed('{"chosenText": null, "chosenNumber": 0}').WhichOneof("choice"), "chosen_number")
        self.assertEqual(self.packed('{"otherName": "x"}'), self.packed('{"renamed": "x"}'))

    def test_time_with_an_offset_is_the_same_moment(self):
        self.assertEqual(self.packed('{"aTime": "2027-01-31T14:00:00.25+02:00"}'),
                         self.packed('{"aTime": "2027-01-31T12:00:00.250Z"}'))

    def test_what_does_not_fit_is_refused_with_its_path_and_without_its_value(self):
        planted = "planted-value"
        for text, field, words in (
                ('{"nothing": 1}', "", ('no field "nothing"', EVERY, "column 2")),
                ('{"aString": 1}', "aString", ("a text",)),
                (f'{{"anInt32": "{planted}"}}', "anInt32", ("a whole number from -2147483648 to 2147483647",)),
                ('{"anInt32": 2147483648}', "anInt32", ("a whole number",)),
                ('{"aUint32": -1}', "aUint32", ("a whole number from 0",)),
                ('{"aUint64": 18446744073709551616}', "aUint64", ("a whole number",)),
                ('{"anInt64": 1.5}', "anInt64", ("a whole number",)),
                ('{"anInt64": " 1"}', "anInt64", ("a whole number",)),
                ('{"anInt64": true}', "anInt64", ("a number",)),
                ('{"aFloat": 1e39}', "aFloat", ("a float",)),
                ('{"aDouble": "0x1"}', "aDouble", ("a double",)),
                ('{"aDouble": 1e999}', "aDouble", ("a double",)),
                ('{"aBool": "true"}', "aBool", ("true or false",)),
                (f'{{"someBytes": "{planted}!"}}', "someBytes", ("base64",)),
                (f'{{"aColor": "{planted}"}}', "aColor", ("coffer.test.Color", "describe")),
                (f'{{"aTime": "{planted}"}}', "aTime", ("a time such as",)),
                ('{"aTime": "2027-02-29T00:00:00Z"}', "aTime", ("a time",)),
                ('{"aTime": "2027-01-01T00:00:00"}', "aTime", ("a time",)),
                ('{"aDuration": "1"}', "aDuration", ("a duration",)),
                ('{"aMask": "snake_case"}', "aMask", ("lowerCamelCase",)),
                ('{"aLeaf": []}', "aLeaf", ("an object",)),
                ('{"strings": {}}', "strings", ("an array",)),
                ('{"texts": []}', "texts", ("an object",)),
                ('{"strings": ["a", null]}', "strings[1]", ("a text",)),
                ('{"leaves": [{"below": [{}, {"leaves": [{"text": 1}]}]}]}', "leaves[0].below[1].leaves[0].text", ("a text",)),
                ('{"aString": "a", "a_string": "b"}', "aString", ("twice",)),
                ('{"chosenText": "a", "chosenNumber": 1}', "chosenNumber", ("only one of chosenText and chosenNumber",)),
                ('{"bytesOf": {"yes": ""}}', "bytesOf.key", ("true or false",)),
                ('{"leafOf": {"x": {}}}', "leafOf.key", ("a whole number",)),
                ('{"texts": {"x": 1}}', "texts.value", ("a text",)),
                ('{"aString": "\\ud800"}', "aString", ("surrogate",)),
                ("[]", "", ("an object with the fields of",))):
            with self.subTest(text):
                self.refused(text, field, *words)
                self.assertNotIn(planted, self.pack(text).message)

    def test_what_is_no_json_is_refused_at_its_place(self):
        for text, words in (("", "a value is missing"), ("{", "key"), ('{"aString": "x"', "comma"),
                            ('{"aString": "x"} {}', "behind the document's end"), ('{"anInt32": 01}', "comma")):
            self.refused(text, "", "line 1", words, reason="DOCUMENT_INVALID")
        deep = '{"leaves":[{"below":[' * 40
        self.assertEqual(self.pack(deep).reason, "DOCUMENT_TOO_DEEP")

    def test_request_that_no_server_takes_is_refused(self):
        text = json.dumps({"strings": ["x" * 1000] * 1100})
        self.refused(text, "", "1048576 bytes", reason="LIMIT_EXCEEDED")

    # --- Messages that servers send

    def test_message_that_is_cut_or_of_another_type_is_refused(self):
        message = self.Every(a_string="text", chosen_number=7, strings=["a"])
        message.a_leaf.text = "x"
        whole = message.SerializeToString()
        wrong = [whole[:length] for length in range(1, len(whole))] + [b"\x4a\x01\xff", b"\x48\x01", b"\x0b", b"\xfa\x01\x03\0\0\0"]
        answers = self.ask_all([f"print {EVERY} {data.hex()}" for data in wrong])
        for data, answer in zip(wrong, answers):
            try:
                self.Every.FromString(data)
                readable = data not in (b"\x48\x01",)
            except Exception:  # protobuf has several for what is no message
                readable = False
            self.assertEqual(answer.ok, readable, (data, answer.message))
            self.assertIn(answer.reason, ("", "REPLY_INVALID"))

    def test_fields_that_the_schema_does_not_have_are_left_out(self):
        self.assertEqual(json.loads(self.printed(b"\x4a\x01x\xc2\x3e\x01y\xc8\x3e\x05").text), {"aString": "x"})

    def test_last_of_several_is_meant_and_messages_are_merged(self):
        self.assertEqual(json.loads(self.printed(b"\x4a\x01x\x4a\x01y").text), {"aString": "y"})
        parts = [self.Every(a_leaf={"text": "a"}), self.Every(a_leaf={"below": [{}]})]
        answer = self.printed(b"".join(part.SerializeToString() for part in parts))
        self.assertEqual(json.loads(answer.text), {"aLeaf": {"text": "a", "below": [{}]}})
        parts = [self.Every(chosen_text="a"), self.Every(chosen_number=0)]
        answer = self.printed(b"".join(part.SerializeToString() for part in parts))
        self.assertEqual(json.loads(answer.text), {"chosenNumber": 0})

    def test_message_that_nests_deeper_than_the_limit_is_refused(self):
        message = self.Every()
        for _ in range(60):
            message = self.Every(leaves=[{"below": [message]}])
        self.assertEqual(self.printed(message.SerializeToString()).reason, "REPLY_INVALID")

    def test_nothing_is_printed_that_a_terminal_obeys(self):
        message = self.Every(strings=["".join(map(chr, range(1, 0xb0)))])
        text = self.printed(message.SerializeToString()).text
        self.assertFalse([letter for letter in text if letter != "\n" and (letter < " " or 0x7f <= ord(letter) < 0xa0)])
        self.assertEqual(json.loads(text)["strings"], list(message.strings))

    # --- Descriptors

    def describe(self, name, file=None):
        return self.ask_all([f"describe {name}"], file)[0].text

    def test_entries_are_described_as_they_stand_in_the_proto_file(self):
        text = self.describe("Every")
        for part in ("// Every has a field of every kind.\nmessage Every {\n", "  coffer.test.Every.Leaf a_leaf = 11;\n",
                     "  // The text.\n  // It has two lines.\n  string a_string = 9;\n", "  map<int32, coffer.test.Every.Leaf> leaf_of = 61;\n",
                     "  // One of them.\n  oneof choice {\n    string chosen_text = 70;\n", "  optional int32 maybe_number = 80;\n",
                     "  repeated google.protobuf.Timestamp times = 50;\n"):
            self.assertIn(part, text)
        self.assertIn("  // Like blood.\n  COLOR_RED = 1;\n  COLOR_FAR = -2;\n", self.describe("coffer.test.Color"))
        self.assertIn("// Paint paints. It takes a while.\nrpc Paint(coffer.test.Every) returns (coffer.test.Every.Leaf);",
                      self.describe("Painter/Paint"))
        self.assertEqual(self.describe("Paint"), self.describe("coffer.test.Painter/Paint"))
        self.assertIn("service Painter {", self.describe("Painter"))
        self.assertEqual(self.describe("Paintr"), "near coffer.test.Painter")
        self.assertEqual(self.describe("xyzzyxyzzy"), "near ")

    def test_descriptors_of_the_server_are_described_back_to_what_protoc_understands(self):
        """What is described of every message is put into a file, which protoc compiles to the same fields."""
        whole = descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTORS.read_bytes())
        for file in whole.file:
            if not file.name.startswith("coffer/v1/") or not file.message_type:
                continue
            names = [f"{file.package}.{message.name}" for message in [*file.message_type, *file.enum_type]]
            texts = [answer.text for answer in self.ask_all([f"describe {name}" for name in names], DESCRIPTORS)]
            source = pathlib.Path(self.folder.name) / "described.proto"
            imports = "".join(f'import "{name}";\n' for name in file.dependency)
            source.write_text(f'syntax = "proto3";\npackage {file.package};\n{imports}' + "\n".join(texts))
            made = pathlib.Path(self.folder.name) / "described.binpb"
            subprocess.run(["protoc", f"-I{self.folder.name}", f"-I{HERE.parent.parent.parent / 'proto'}", "-I/usr/include",
                            f"--descriptor_set_out={made}", "described.proto"], check=True, capture_output=True)
            again = descriptor_pb2.FileDescriptorSet.FromString(made.read_bytes()).file[0]
            for before, after in zip(file.message_type, again.message_type):
                del before.nested_type[:]
                self.assertEqual(before, after)

    def test_damaged_descriptors_are_refused_or_read_but_never_more(self):
        whole = self.set_file.read_bytes()
        damaged = [whole[:self.random.randrange(len(whole))] for _ in range(60)]
        for _ in range(400):
            data = bytearray(whole)
            for _ in range(self.random.randint(1, 4)):
                data[self.random.randrange(len(data))] = self.random.randrange(256)
            damaged.append(bytes(data))
        for answer in self.ask_all([f"schema {data.hex()}" for data in damaged]):
            self.assertIn(answer.reason, ("", "REPLY_INVALID"))

    def test_descriptors_that_contradict_themselves_are_refused_by_name_of_the_contradiction(self):
        def broken(change):
            copy = descriptor_pb2.FileDescriptorSet.FromString(self.set.SerializeToString())
            change(copy.file[-1])
            return self.ask_all([f"schema {copy.SerializeToString().hex()}"])[0]

        def rename(file):
            file.message_type[0].name = "x y"

        def lose_type(file):
            file.message_type[0].field[9].type_name = ".coffer.test.Nothing"

        def wrong_oneof(file):
            file.message_type[0].field[0].oneof_index = 99

        def double(file):
            file.enum_type.add().CopyFrom(file.enum_type[0])

        def strange(file):
            file.syntax = "proto9"

        def group(file):
            file.message_type[0].field[0].type = 10

        def json_name(file):
            file.message_type[0].field[0].json_name = 'a"\n'
        for change, words in ((rename, "a name that is none"), (lose_type, "a type that is not there"),
                              (wrong_oneof, "a oneof that is not there"), (double, "the same name"), (strange, "a syntax"),
                              (group, "a type that is not known"), (json_name, "no name for JSON")):
            answer = broken(change)
            self.assertEqual(answer.reason, "REPLY_INVALID")
            self.assertIn(words, answer.message)


if __name__ == "__main__":
    unittest.main(verbosity=2)
