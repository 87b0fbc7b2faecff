"""Random template snippets for comparing the template interpreter with jinja2.

Expressions come from a grammar over small values, so that most of them mean something and the rest are errors of every
kind. Everything is derived from the seed.
"""

import random

STRINGS = ["''", "'a'", "'Ab c'", "'x,y,,z'", "' pad '", "'\\u00e9\\u00df\\u0130'", "'line\\nnext\\r\\n'", "'12'", "'-3.5'",
           "'<|im_start|>'", "'\\u65e5\\u672c\\u8a9e'", "'it\\'s'", "'%s|%d'", "'{}-{}'", "'\U0001f600x'", "bos_token",
           "messages[0].content", "messages[1].role"]
NUMBERS = ["0", "1", "2", "-1", "3", "7", "10", "1.5", "-2.5", "0.1", "1e16", "100", "true", "false", "2.0"]
LISTS = ["[]", "[1, 2, 3]", "['b', 'A', 'c']", "[3, 1, 2, 1]", "(1, 'x')", "[[1, 2], [3]]", "[none, 0, '', 'z']",
         "range(4)", "messages", "[{'k': 2, 'v': 'x'}, {'k': 1, 'v': 'Y'}, {'k': 2}]", "'abc'.split('b')",
         "{'a': 1, 'b': 2}.items()", "[1.5, 2, true]"]
DICTS = ["{}", "{'a': 1}", "{'b': [1, 2], 'a': {'c': none}}", "messages[0]", "{1: 'x', 'y': 2.5}",
         "{'items': 3, 'get': 4}"]
OTHERS = ["none", "missing", "missing.x", "namespace(a=1)", "joiner('-')", "dict(a=2)"]

VALUE_FILTERS = ["upper", "lower", "trim", "title", "capitalize", "length", "string", "int", "float", "list", "first", "last",
                 "sort", "unique|list", "reverse|list", "reverse", "join", "join(', ')", "sum", "max", "min", "abs", "round",
                 "round(1)", "tojson", "tojson(indent=2)", "items|list", "dictsort", "default('d')", "default('d', true)",
                 "e", "indent", "indent(2, true)", "wordcount", "replace('a', 'bb')", "replace('', '-')", "truncate(4)",
                 "truncate(3, true, '.')", "center(9)", "batch(2)|list", "slice(2)|list", "map('upper')|list",
                 "map('string')|join('/')", "map(attribute='k')|list", "map(attribute='k', default=0)|list",
                 "select|list", "reject|list", "select('string')|list", "select('gt', 1)|list", "reject('none')|list",
                 "selectattr('k')|list", "selectattr('k', 'equalto', 2)|list", "rejectattr('v', 'defined')|list",
                 "groupby('k')", "sort(attribute='k')", "sort(reverse=true)", "sort(case_sensitive=true)",
                 "unique(attribute='k')|list", "format('p', 5)", "trim('ab ')", "string|length", "attr('k')", "count",
                 "map('int')|list", "map('default', 'q')|list", "map('length')|list", "tojson(separators=(',', ':'))",
                 "map(attribute=0)|list", "map('first')|list", "safe", "forceescape", "map('tojson')|join(' ')"]
METHODS = [".upper()", ".lower()", ".strip()", ".strip('a ')", ".lstrip()", ".rstrip('z')", ".title()", ".capitalize()",
           ".split()", ".split(',')", ".split('a', 1)", ".rsplit(',', 1)", ".splitlines()", ".startswith('a')",
           ".endswith(('c', 'z'))", ".replace('a', '')", ".find('b')", ".rfind('a')", ".index('a')", ".count('a')",
           ".join(['x', 'y'])", ".format(1, 2)", ".isdigit()", ".isalpha()", ".isspace()", ".isupper()", ".zfill(5)",
           ".removeprefix('A')", ".removesuffix('c')", ".items()|list", ".keys()|list", ".values()|list", ".get('a')",
           ".get('zz', 9)", ".index(1)", ".count(1)", ".append(1)", ".pop()", ".partition('b')", ".center(7, '*')",
           ".ljust(4)~'|'", ".swapcase()", ".a", ".content", ".k", ".role.upper()", ".islower()", ".expandtabs(2)",
           ".istitle()", ".rpartition(',')", ".update({})", ".nothing", "['a']", "[0]", "[-1]", "[1:]", "[:-1]", "[::-1]",
           "[::2]", "[5]", "[1:3]", "[-2:]", "[none:2]", "['items']"]
TESTS = ["defined", "undefined", "none", "string", "number", "integer", "float", "boolean", "mapping", "iterable", "sequence",
         "odd", "even", "true", "false", "divisibleby(2)", "eq(1)", "ne('a')", "lt(2)", "ge(1)", "in([1, 'a'])",
         "sameas(none)", "lower", "upper", "callable", "escaped", "equalto('a')", "greaterthan(0)"]
BINARY = ["+", "-", "*", "/", "//", "%", "~", "==", "!=", "<", "<=", ">", ">=", "in", "not in", "and", "or", "+", "~"]


class Generator:
    def __init__(self, seed):
        self.r = random.Random(seed)

    def atom(self):
        return self.r.choice(self.r.choice([STRINGS, STRINGS, NUMBERS, LISTS, DICTS, OTHERS] + [["x", "y", "i"]]))

    def expression(self, depth):
        r = self.r
        if depth <= 0:
            return self.atom()
        kind = r.random()
        if kind < 0.30:
            return f"{self.primary(depth)}|{r.choice(VALUE_FILTERS)}"
        if kind < 0.50:
            return f"{self.primary(depth)}{r.choice(METHODS)}"
        if kind < 0.68:
            return f"{self.primary(depth)} {r.choice(BINARY)} {self.primary(depth)}"
        if kind < 0.76:
            return f"{self.primary(depth)} is {r.choice(['', '', 'not '])}{r.choice(TESTS)}"
        if kind < 0.81:
            other = "" if r.random() < 0.2 else f" else {self.expression(depth - 1)}"
            return f"{self.expression(depth - 1)} if {self.expression(depth - 1)}{other}"
        if kind < 0.84:
            return f"not {self.primary(depth)}"
        if kind < 0.87:
            return f"-{self.primary(depth)}"
        if kind < 0.92:
            return f"[{self.expression(depth - 1)}, {self.expression(depth - 1)}]"
        if kind < 0.95:
            return f"{{'p': {self.expression(depth - 1)}, 'q': {self.expression(depth - 1)}}}"
        if kind < 0.97:
            return f"{self.primary(depth)}[{self.expression(depth - 1)}]"
        return f"{self.primary(depth)}|{r.choice(VALUE_FILTERS)}|{r.choice(VALUE_FILTERS)}"

    def primary(self, depth):
        inner = self.expression(depth - 1 - self.r.randrange(2))
        return inner if inner.replace("_", "a").isalnum() else f"({inner})"

    def space(self):
        return self.r.choice(["", "", " ", "\n", "\n  ", "  \n"])

    def tag(self, text):
        r = self.r
        return "{%" + r.choice(["", "", "-", "+"]) + f" {text} " + r.choice(["", "", "-"]) + "%}"

    def statement(self, depth):
        r = self.r
        kind = r.random()
        if depth <= 0 or kind < 0.35:
            sign = r.choice(["", "", "-"])
            return f"{{{{{sign} {self.expression(2)} {r.choice(['', '', '-'])}}}}}"
        body = lambda: self.space().join(self.statement(depth - 1) for _ in range(r.randrange(1, 3)))
        s = self.space
        if kind < 0.50:
            rest = f"{self.tag('else')}{body()}" if r.random() < 0.5 else ""
            rest = f"{self.tag('elif ' + self.expression(1))}{body()}{rest}" if r.random() < 0.3 else rest
            return f"{self.tag('if ' + self.expression(1))}{s()}{body()}{rest}{s()}{self.tag('endif')}"
        if kind < 0.68:
            where = f" if {self.expression(1)}" if r.random() < 0.25 else ""
            loop = r.choice(["", "{{ loop.index }}", "{{ loop.last }}{{ loop.nextitem }}", "{{ loop.length }}{{ loop.first }}",
                             "{{ loop.revindex0 }}{{ loop.previtem }}", "{% if loop.index0 == 1 %}{% break %}{% endif %}",
                             "{% if loop.first %}{% continue %}{% endif %}", "{{ loop.cycle(1, 2) }}{{ loop.changed(x) }}"])
            rest = f"{self.tag('else')}{body()}" if r.random() < 0.3 else ""
            target = r.choice(["x", "i", "x, y", "y"])
            return f"{self.tag(f'for {target} in {self.expression(1)}{where}')}{s()}{loop}{body()}{rest}{self.tag('endfor')}"
        if kind < 0.80:
            return self.tag(f"set {r.choice(['x', 'y', 'i', 'x, y'])} = {self.expression(2)}")
        if kind < 0.86:
            filters = r.choice(["", " | upper", " | trim | length"])
            return f"{self.tag(f'set x{filters}')}{s()}{body()}{self.tag('endset')}"
        if kind < 0.92:
            name = r.choice(["f", "g"])
            call = r.choice([f"{{{{ {name}({self.expression(1)}) }}}}", f"{{{{ {name}(y=1) }}}}", f"{{{{ {name}() ~ 'm' }}}}",
                             f"{{% call {name}(2) %}}{{{{ x }}}}c{{% endcall %}}"])
            inner = r.choice(["", "{{ caller() if caller else '-' }}", "{{ varargs }}"])
            return f"{self.tag(f'macro {name}(x, y={self.expression(1)})')}{inner}{body()}{self.tag('endmacro')}{call}"
        if kind < 0.95:
            return f"{self.tag('with x = ' + self.expression(1))}{body()}{self.tag('endwith')}"
        if kind < 0.98:
            return f"{self.tag('filter ' + r.choice(['upper', 'trim', 'indent(2)', 'replace(1, 2)']))}{body()}{self.tag('endfilter')}"
        return r.choice(["{# note #}", "{% raw %}{{ x }}{% endraw %}", "{%- generation -%} g {% endgeneration %}", "  \n"])

    def template(self):
        if self.r.random() < 0.6:
            return "{{ " + self.expression(3) + " }}"
        return self.space().join(self.statement(2) for _ in range(self.r.randrange(1, 4))) + self.space()
