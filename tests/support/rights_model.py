"""What a caller may do, once more: written from docs/decisions/0001 and docs/permissions.md, sharing no code with the
server. Tests ask both and compare."""

import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SYSTEM = "00000000-0000-0000-0000-000000000000"
WS, FLEET, SYS = 1, 2, 3
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z")
ENVIRONMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}\Z")


def permission_table():
    """{permission: the kinds of accounts that can have it}, from the documentation."""
    table = {}
    for line in (ROOT / "docs" / "permissions.md").read_text().splitlines():
        row = re.match(r"\| `([a-z:_]+)` \|[^|]*\|([^|]*)\|([^|]*)\|([^|]*)\|", line)
        if row:
            table[row[1]] = {kind for kind in (WS, FLEET, SYS) if row[kind + 1].strip() == "yes"}
    return table


PERMISSIONS = permission_table()


class Rule:
    """An empty list of environments, names or workspaces means all."""

    def __init__(self, permissions, environments=(), names=(), workspaces=()):
        self.permissions, self.environments = list(permissions), list(environments)
        self.names, self.workspaces = list(names), list(workspaces)

    def __repr__(self):
        return str(self.message())

    def message(self):
        """As a coffer.v1.Rule."""
        return {"permissions": self.permissions, "environments": self.environments, "names": self.names,
                "workspaces": self.workspaces}

    def permits(self, permission, workspace, environment, name):
        return (permission in self.permissions and (not self.workspaces or workspace in self.workspaces)
                and matches(self.environments, environment) and matches(self.names, name))


def matches(patterns, text):
    def one(pattern):
        return text.startswith(pattern[:-1]) if pattern.endswith("*") else text == pattern
    return not patterns or any(one(pattern) for pattern in patterns)


def acceptable(rules, kind):
    """Whether an account of this kind can have the rules at all."""
    return all(kind in PERMISSIONS[permission] for rule in rules for permission in rule.permissions) and \
        (kind == FLEET or not any(rule.workspaces for rule in rules))


def permits(grants, restrictions, *right):
    """Grants add up; a token's restrictions, if it has some, only take away."""
    return any(rule.permits(*right) for rule in grants) and \
        (not restrictions or any(rule.permits(*right) for rule in restrictions))


def caveats_permit(narrowings, permission, workspace, environment, name):
    """A narrowed token resolves only, and everything that it was narrowed to must hold (docs/decisions/0013)."""
    return not narrowings or permission == "resolve" and all(
        workspace == wishes.get("workspace", workspace) and matches(wishes.get("environments"), environment)
        and matches(wishes.get("names"), name) for wishes in narrowings)


def decide(kind, own, grants, restrictions, permission, workspace, environment, name, narrowings=()):
    """The answer to a request for one secret: OK or the reason of the refusal."""
    environment = environment or "default"
    if not ENVIRONMENT.match(environment) or name and not NAME.match(name):
        return "FIELD_INVALID"
    if not name:
        return "FIELD_REQUIRED"
    if workspace and not UUID.match(workspace):
        return "FIELD_INVALID"
    home = next((wishes["workspace"] for wishes in narrowings if "workspace" in wishes), own if kind == WS else "")
    if not workspace and not home:
        return "WORKSPACE_REQUIRED"
    workspace = workspace or home
    reaches = {WS: workspace == own, FLEET: workspace != SYSTEM, SYS: True}[kind]
    right = (permission, workspace, environment, name)
    if reaches and permits(grants, restrictions, *right) and caveats_permit(narrowings, *right):
        return "OK"
    return "PERMISSION_DENIED"


class Universe:
    """Random rules and requests over few enough names that they meet often."""

    ENVIRONMENTS = ["default", "dev", "dev1", "dev1-eu", "prod", "prod.eu", "p", "d", "012345678901"]
    NAMES = ["slack", "slack_bot", "aws", "aws.prod", "a", "_x", "github", "git", "S"]

    def __init__(self, random, workspaces):
        self.random, self.workspaces = random, workspaces

    def pattern(self, names):
        name = self.random.choice(names)
        if self.random.random() < 0.5:
            return name
        return name[:self.random.randint(0, len(name))] + "*"

    def some(self, make, most):
        return [make() for _ in range(self.random.randint(1, most))] if self.random.random() < 0.7 else []

    def rule(self, kind, permissions):
        usable = [p for p in permissions if kind in PERMISSIONS[p]]
        listed = self.some(lambda: self.random.choice(self.workspaces), 3) if kind == FLEET else []
        return Rule(self.random.sample(usable, self.random.randint(1, min(3, len(usable)))),
                    self.some(lambda: self.pattern(self.ENVIRONMENTS), 3),
                    self.some(lambda: self.pattern(self.NAMES), 3), listed)

    def rules(self, kind, permissions, least=0):
        return [self.rule(kind, permissions) for _ in range(self.random.randint(least, 4))]

    def narrowing(self):
        """What a token is narrowed to once, in places; at least one of them."""
        wishes = {"workspace": self.random.choice([*self.workspaces, None, None, None]),
                  "environments": self.some(lambda: self.pattern(self.ENVIRONMENTS), 3),
                  "names": self.some(lambda: self.pattern(self.NAMES), 3)}
        return {key: wish for key, wish in wishes.items() if wish} or {"names": ["*"]}

    def request(self):
        """(workspace, environment, name), now and then one that is not well-formed."""
        return (self.random.choice(["", *self.workspaces] * 8 + [SYSTEM, "x", self.workspaces[0].upper() + "F"]),
                self.random.choice(["", *self.ENVIRONMENTS] * 8 + ["-a", "a b"]),
                self.random.choice(self.NAMES * 8 + ["", ".a", "a/b", "unknown"]))
