#!/usr/bin/env python3
"""The expression language a second time, from docs/expressions.md and by other means than the library's scanner.

  expressions_model.py FILE     checks that every case of FILE says what this model says

It is written for being read, not for speed: tokens come from a regular expression, and the grammar is a regular
expression over one letter for each token.
"""

import json
import re
import sys

TEXT_MAX, EXPRESSION_MAX, REFERENCES_MAX = 1 << 20, 8192, 1000

SPACE = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
LETTER = rf"(?:[A-Za-z_]|[^\x00-\x7f{SPACE}])"
LITERAL = r"'[^'\r\n]*'|\"[^\"\r\n]*\""
TOKEN = re.compile(rf"(?P<space>[{SPACE}]+)|(?P<literal>{LITERAL})|(?P<word>{LETTER}(?:{LETTER}|[0-9])*)"
                   rf"|(?P<number>[0-9](?:{LETTER}|[0-9.])*)|(?P<or>\|\|)|(?P<sign>[.\[\]])|(?P<other>.)", re.S)
UNQUOTED = re.compile(TOKEN.pattern.replace(rf"(?P<literal>{LITERAL})|", ""), re.S)
# As far as a template goes without an end: literals, and anything but quotes and closing braces.
INSIDE = re.compile(rf"(?:{LITERAL}|(?!\}}\}}|['\"]).)*", re.S)
NAMES = [re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}"), re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")]
PART = r"(?:\.[SNW]|\[L\])"
OPERAND = rf"(?:S{PART}{PART}|L|N)"
EVALUATED = re.compile(rf"{OPERAND}(?:\|{OPERAND})*")


class Invalid(Exception):
    """At a character of the text."""

    def __init__(self, at, reason="EXPRESSION_INVALID"):
        super().__init__(at)
        self.at, self.reason = at, reason


class Tokens:
    """The tokens of a template's inside: a letter, a text and a place for each."""

    def __init__(self, text, start, end, quoted_until=None):
        self.letters, self.texts, self.places = "", [], []
        while start < end:
            pattern = TOKEN if quoted_until is None or start < quoted_until else UNQUOTED
            match = pattern.match(text, start, end)
            if match.lastgroup != "space":
                self.letters += self.letter(match)
                self.texts.append(match.group())
                self.places.append(start)
            start = match.end()
        self.places.append(end)

    @staticmethod
    def letter(match):
        if match.lastgroup == "word":
            return {"SECRETS": "S", "None": "N"}.get(match.group(), "W")
        return {"literal": "L", "or": "|", "sign": match.group()}.get(match.lastgroup, "x")

    def references(self):
        """Indexes of the SECRETS that begin references."""
        return [m.start() for m in re.finditer(r"(?<!\.)S", self.letters)]

    def part(self, index, number):
        """(name, index behind it) of a part; raises at the token that is wrong."""
        match = re.compile(PART).match(self.letters, index)
        if not match:
            begun = re.compile(r"\[L|\[|\.|").match(self.letters, index)
            raise Invalid(self.places[begun.end()])
        bracket = match.group().startswith("[")
        name = self.texts[index + 1][1:-1] if bracket else self.texts[index + 1]
        if not NAMES[number].fullmatch(name):
            raise Invalid(self.places[index + 1])
        return name, match.end()

    def reference(self, index):
        name, behind = self.part(index + 1, 0)
        key, behind = self.part(behind, 1)
        if self.letters[behind:behind + 1] in (".", "["):
            raise Invalid(self.places[behind])
        return name, key, behind


class Template:
    def __init__(self, text, start, end):
        self.start, self.end = start, end
        tokens = Tokens(text, start + 3, end - 2)
        found = {index: tokens.reference(index) for index in tokens.references()}
        self.evaluated = EVALUATED.fullmatch(tokens.letters) is not None
        self.operands = []
        index = 0
        while index < len(tokens.letters):
            if index in found:
                name, key, behind = found[index]
                self.operands.append(("reference", (name, key), tokens.places[index]))
                index = behind
                continue
            if self.evaluated and tokens.letters[index] in "LN":
                literal = tokens.texts[index][1:-1] if tokens.letters[index] == "L" else None
                self.operands.append(("literal", literal, tokens.places[index]))
            index += 1


def holds_reference(text, start, end, quoted_until):
    return bool(Tokens(text, start, end, quoted_until).references())


def read_template(text, start):
    """(template or None, where to go on); raises Invalid with `behind` set."""
    stop = INSIDE.match(text, start + 3).end()
    closed = text.startswith("}}", stop)
    quote = None if closed or stop == len(text) else stop
    end = stop if closed else text.find("}}", stop) if quote is not None else -1
    behind = len(text) if end < 0 else end + 2
    quoted_until = start if end < 0 else quote
    if not holds_reference(text, start + 3, len(text) if end < 0 else end, quoted_until):
        return None, behind
    try:
        if end < 0:
            raise Invalid(start)
        if len(text[start:behind].encode()) > EXPRESSION_MAX:
            raise Invalid(start, "EXPRESSION_TOO_LONG")
        if quote is not None:
            raise Invalid(quote)
        bare = re.sub(LITERAL, lambda m: " " * len(m.group()), text[start + 3:end])
        if "${{" in bare:
            raise Invalid(start + 3 + bare.index("${{"))
        return Template(text, start, behind), behind
    except Invalid as invalid:
        invalid.behind = behind
        raise


def scan(text):
    """(templates, [Invalid])"""
    templates, errors, at = [], [], 0
    if len(text.encode()) > TEXT_MAX:
        return [], [Invalid(0, "TEXT_TOO_LARGE")]
    while (at := text.find("${{", at)) >= 0:
        try:
            template, at = read_template(text, at)
            templates += [template] if template else []
        except Invalid as invalid:
            errors.append(invalid)
            at = invalid.behind
    return templates, errors


def references(templates):
    """{(name, key): required}, in the order of first mention"""
    found = {}
    for template in templates:
        for number, (kind, what, _) in enumerate(template.operands):
            if kind == "reference":
                needed = not template.evaluated or number + 1 == len(template.operands)
                found[what] = found.get(what, False) or needed
    return found


NOT_FOUND = ("SECRET_NOT_FOUND", "KEY_NOT_FOUND", "CONNECTION_NOT_FOUND")


def value_of(template, given):
    """Text or None; raises Invalid."""
    for number, (kind, what, at) in enumerate(template.operands):
        last = number + 1 == len(template.operands)
        outcome, value = given.get(what, ("SECRET_NOT_FOUND", None)) if kind == "reference" else ("RESOLVED", what)
        if outcome in NOT_FOUND and not last:
            continue
        if outcome not in ("RESOLVED", "ABSENT"):
            raise Invalid(at, outcome)
        if value or last:
            return value
    raise AssertionError("a template has operands")


def expand(text, templates, given):
    """(text or None, [Invalid])"""
    pieces, errors, at = [], [], 0
    for template in templates:
        if not template.evaluated:
            errors += [Invalid(place, given.get(what, ("SECRET_NOT_FOUND",))[0])
                       for kind, what, place in template.operands
                       if given.get(what, ("SECRET_NOT_FOUND",))[0] not in ("RESOLVED", "ABSENT")]
            continue
        around = text[:template.start] + text[template.end:]
        try:
            value = value_of(template, given)
            if re.fullmatch(f"[{SPACE}]*", around):
                return value, errors
            if value is None:
                raise Invalid(template.start, "VALUE_ABSENT")
            pieces += [text[at:template.start], value]
            at = template.end
        except Invalid as invalid:
            errors.append(invalid)
    return "".join([*pieces, text[at:]]), errors


def place(text, at):
    """[offset in bytes, line, column in characters]"""
    lines = re.split(r"\r\n|\r|\n", text[:at])
    return [len(text[:at].encode()), len(lines), len(lines[-1]) + 1]


def told(text, errors):
    return [[error.reason, *place(text, error.at)] for error in errors]


def text_of(case):
    """Long texts are written as pieces with a count."""
    return case["text"] if isinstance(case["text"], str) else "".join(piece * count for piece, count in case["text"])


def expected(case):
    """What the case must say besides its name and its text."""
    text = text_of(case)
    templates, errors = scan(text)
    spans = [[*place(text, t.start)[:1], len(text[t.start:t.end].encode()), t.evaluated] for t in templates]
    answer = {"templates": spans, "references": [[*what, needed] for what, needed in references(templates).items()],
              "errors": told(text, errors)}
    if "given" in case:
        given = {(name, key): (outcome, *value) if value else (outcome, None)
                 for name, key, outcome, *value in case["given"]}
        value, faults = expand(text, templates, given)
        faults = sorted(errors + faults, key=lambda fault: (fault.at, fault.reason))
        answer |= {"faults": told(text, faults)} if faults else {"value": value}
    return answer


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        cases = json.load(file)["cases"]
    wrong = 0
    for case in cases:
        answer = expected(case)
        said = {key: value for key, value in case.items() if key not in ("name", "text", "given")}
        if said != answer:
            wrong += 1
            print(f"{case['name']}: the file says {said}, the model {answer}")
    names = [case["name"] for case in cases]
    wrong += len(names) - len(set(names))
    assert len(cases) >= 300, f"only {len(cases)} cases"
    print(f"{len(cases)} cases, {wrong} wrong")
    return wrong != 0


if __name__ == "__main__":
    sys.exit(main())
