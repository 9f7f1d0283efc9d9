"""Causal graphs as text: edges such as ``z -> t; z <-> y``, the DOT language, and that of dagitty."""

import re
from collections.abc import Iterator
from itertools import product
from typing import Literal, NamedTuple, NoReturn, get_args

import networkx as nx

from contrastkit.errors import UserError

EDGES = 1_000_000  # maximum number: a few letters of DOT can mean very many
DEPTH = 50  # of braces within braces
Role = Literal["exposure", "outcome", "latent", "adjusted"]
ROLES: dict[str, Role] = {role: role for role in get_args(Role)} | {"unobserved": "latent"}
KINDS = ("digraph", "dag", "graph", "pdag", "mag", "pag")  # of DOT and dagitty; an edge without direction is refused

_QUOTED = r'"(?:[^"\\]|\\.)*"'
_TOKEN = re.compile(
    rf"""(?P<blank>[^\S\n]+ | //[^\n]* | \#[^\n]* | /\*.*?\*/)
    | (?P<end>[\n;,])
    | (?P<arrow><-> | -> | <- | --)
    | (?P<attributes>\[(?:{_QUOTED} | [^\]"])*\])
    | (?P<quoted>{_QUOTED})
    | (?P<name>[\w.:+]+(?:-[\w.:+]+)*)  # hyphens within: a-b -> c
    | (?P<mark>[{{}}=])""",
    re.DOTALL | re.VERBOSE,
)
_UNCLOSED = {"[": "]", "/*": "*/", '"': '"'}


class Token(NamedTuple):
    kind: str
    text: str
    at: int  # of its first character in the whole text


def parse(text: str) -> nx.DiGraph:
    """The graph of a text.

    Edges are ``a -> b``, ``a <- b`` and ``a <-> b``, a hidden common cause; they form chains, end at ``;``, commas and
    new lines, and an end may be a group, ``a -> {b c}``. A single name is a variable. Names of several words, or with
    other characters than letters, digits and ``_-.:+``, may be quoted. The text may also be a graph in DOT, or in the
    language of dagitty (Textor et al. 2016), where new lines do not end an edge and names of several words must be
    quoted; how it is drawn is ignored.

    Returns:
        A graph whose nodes have the attribute ``roles``, a subset of exposure, outcome, latent and adjusted: what
        dagitty writes in brackets behind a name. The hidden common cause of ``a <-> b`` is the latent node ``a <-> b``.

    Raises:
        UserError: the text is not a list of edges, has more than a million, or an edge without direction.
    """
    return _Parser(text).graph


class _Parser:
    """Recursive descent: a graph is a list of statements, a statement a chain of ends, an end a name or a group."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = list(self._tokens())
        self.place, self.depth, self.edges = 0, 0, 0
        self.graph = nx.DiGraph()
        self.braced = self._header()
        self._statements()
        if self.braced:
            self._take("}")
            self._skip("end")
        if self._next().kind != "stop":
            self._refuse()

    def _tokens(self) -> Iterator[Token]:
        at = 0
        while at < len(self.text):
            found = _TOKEN.match(self.text, at)
            if found is None:
                start = next((mark for mark in _UNCLOSED if self.text.startswith(mark, at)), "")
                self._refuse(at, f"it is not closed: write {_UNCLOSED[start]} behind it" if start else "")
            if found.lastgroup != "blank":
                yield Token(str(found.lastgroup), found[0], at)
            at = found.end()
        yield Token("stop", "", at)

    def _refuse(self, at: int | None = None, why: str = "") -> NoReturn:
        at = min(self._next().at if at is None else at, len(self.text.rstrip()))
        number = self.text.count("\n", 0, at) + 1
        line = " ".join(self.text.splitlines()[number - 1].split()) if self.text.strip() else ""
        line = line if len(line) <= 60 else f"{line[:57]}..."
        raise UserError(f"line {number}: '{line}' is not an edge: {why or 'write a -> b; b -> c'}")

    # ------------------------------------------------------------------------------------------------------- tokens

    def _next(self, ahead: int = 0) -> Token:
        return self.tokens[min(self.place + ahead, len(self.tokens) - 1)]

    def _take(self, text: str) -> None:
        if self._next().text != text:
            self._refuse()
        self.place += 1

    def _skip(self, *kinds: str) -> None:
        while self._next().kind in kinds:
            self.place += 1

    # ------------------------------------------------------------------------------------------------------ grammar

    def _header(self) -> bool:
        """Skip ``strict digraph NAME {`` or ``dag {``; whether there is one."""
        self._skip("end")
        start = self.place
        self.place += self._next().text == "strict"
        if self._next().text in KINDS:
            self.place += 1
            self._skip("name", "quoted", "end")
            if self._next().text == "{":
                self.place += 1
                return True
        self.place = start
        return False

    def _statements(self) -> list[str]:
        """The names in all statements up to a closing brace or the stop."""
        names: list[str] = []
        while self._next().kind != "stop" and self._next().text != "}":
            if self._next().kind == "end":
                self.place += 1
            elif self.braced and self._next().text in ("graph", "node", "edge") and self._next(1).kind == "attributes":
                self.place += 2  # how it is drawn, as is NAME=VALUE
            elif self.braced and self._next(1).text == "=":
                self.place += 3
            else:
                names += self._chain()
        return names

    def _chain(self) -> list[str]:
        names = end = self._end()
        if self._next().kind == "attributes":
            self._mark(end, self._next().text)
        self._skip("attributes")
        while self._next().kind == "arrow":
            arrow = self._next()
            self.place += 1
            if self.braced:
                self._skip("end")
            other = self._end()
            self._connect(end, arrow, other)
            names, end = names + other, other
            self._skip("attributes")
        if not (self.braced or self.depth) and self._next().kind not in ("end", "stop"):
            self._refuse()
        return names

    def _end(self) -> list[str]:
        """The names of one end of an edge."""
        if self.braced and self._next().text == "subgraph":
            self.place += 1
            self._skip("name", "quoted")
        token = self._next()
        if token.text == "{":
            self.place += 1
            self.depth += 1
            if self.depth > DEPTH:
                self._refuse(why=f"braces are nested more than {DEPTH} deep")
            names = self._statements()
            self._take("}")
            self.depth -= 1
            return names
        if token.kind not in ("name", "quoted"):
            self._refuse()
        self.place += 1
        name = re.sub(r"\\(.)", r"\1", token.text[1:-1]) if token.kind == "quoted" else token.text
        while token.kind == "name" == self._next().kind and not (self.braced or self.depth):
            name += f" {self._next().text}"
            self.place += 1
        if not name.strip():
            self._refuse(token.at)
        self._add(name)
        return [name]

    # -------------------------------------------------------------------------------------------------------- graph

    def _add(self, name: str, *roles: str) -> None:
        if name not in self.graph:
            self.graph.add_node(name, roles=set())
        self.graph.nodes[name]["roles"].update(roles)

    def _mark(self, names: list[str], attributes: str) -> None:
        """Give the names the roles among attributes such as ``[exposure, pos="0,1"]``."""
        words = re.split(r"[\s,;]+", re.sub(_QUOTED, "", attributes[1:-1]))
        for name in names:
            self._add(name, *(ROLES[word] for word in words if word in ROLES))

    def _connect(self, left: list[str], arrow: Token, right: list[str]) -> None:
        self.edges += len(left) * len(right)
        if self.edges > EDGES:
            self._refuse(arrow.at, f"with it there are more than {EDGES:,} edges; leave variables out")
        if arrow.text == "--":
            self._refuse(arrow.at, "it has no direction; write ->, or <-> for a hidden common cause")
        if arrow.text == "->":
            self.graph.add_edges_from(product(left, right))
        elif arrow.text == "<-":
            self.graph.add_edges_from(product(right, left))
        else:
            for a, b in product(left, right):
                if a == b:
                    self._refuse(arrow.at, "it joins a variable with itself")
                cause = " <-> ".join(sorted((a, b)))
                self._add(cause, "latent")
                self.graph.add_edges_from(((cause, a), (cause, b)))
