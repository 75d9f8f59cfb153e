"""Random templates and variables: every construct of the language, and now and then a broken one."""

import random

NAMES = ["a", "b", "name", "items", "user", "o", "n", "[x y]", "zero", "none"]
TEXTS = ["x", " ", "  ", "\n", "\r\n", "\n  ", "  \n", "<b>", "é", "\t", "y & z", "\\", "a\n\nb", " \n \n "]
LITERALS = ['"s"', "'it\\'s'", '"<&>"', "1", "-2.50", "0", "true", "false", "null", "undefined", '""', '"a"']
DATA = ["@index", "@key", "@first", "@last", "@root.name", "@../index", "@root"]
BLOCKS = ["if", "if", "unless", "each", "each", "with", "ifEquals", "ifNotEquals", "section", "section", "inverse"]
DAMAGE = ["{", "}", "{{", "}}", "~", "/", "#", "else", "|", '"', "(", ")", "=", ".", "@", "\\", " ", "^", "!", "--"]


class Templates:
    """The templates that belong to a seed."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.parameters = []

    def template(self):
        source = "".join(self.body(self.random.randint(1, 4)) for _ in range(2))
        if self.random.random() < 0.15:
            at = self.random.randrange(len(source) + 1)
            gone = self.random.randint(0, 2)
            source = source[:at] + self.random.choice([*DAMAGE, ""]) + source[at + gone :]
        return source

    def variables(self, depth=0):
        keys = [name.strip("[]") for name in NAMES]
        return {key: self.value(depth + 1) for key in keys if self.random.random() < 0.7}

    def value(self, depth):
        kind = self.random.random()
        if kind < 0.15 and depth < 4:
            return self.variables(depth)
        if kind < 0.4 and depth < 4:
            return [self.value(depth + 1) for _ in range(self.random.randint(0, 3))]
        scalars = ["", "text", "<a href='x'>", 'a`="&', "ß", 0, 1, 7, -3, 2.5, 1e21, 1e-7, 0.1, True, False, None]
        return self.random.choice(scalars)

    def body(self, depth):
        return "".join(self.statement(depth) for _ in range(self.random.randint(0, 4)))

    def statement(self, depth):
        kind = self.random.random()
        if kind < 0.4:
            return "".join(self.random.choices(TEXTS, k=self.random.randint(1, 3)))
        if kind < 0.65 or depth <= 0:
            return self.output()
        if kind < 0.7:
            return self.random.choice(["{{! note }}", "{{!-- a }} b --}}", "{{~! x ~}}", "{{!--~}}", "{{!}}"])
        if kind < 0.73:
            return self.random.choice(["\\{{a}}", "\\\\{{a}}", "\\{{ b \\{{c}}"])
        return self.block(depth)

    def tilde(self):
        return "~" if self.random.random() < 0.1 else ""

    def output(self):
        """A tag. One without escaping has text before it: handlebars.js adds up two numbers at the start of a block."""
        inner = self.random.choice([self.path, self.path, self.path, self.call])()
        if self.random.random() < 0.1:
            return f",{{{{{self.tilde()}&{inner}{self.tilde()}}}}}"
        if self.random.random() < 0.15:
            return f",{{{{{self.tilde()}{{{inner}}}{self.tilde()}}}}}"
        return f"{{{{{self.tilde()}{inner}{self.tilde()}}}}}"

    def path(self):
        kind = self.random.random()
        if kind < 0.12:
            return self.random.choice(["this", ".", "..", "../..", "this.name", "./a", "../name", "../../a"])
        if kind < 0.24:
            return self.random.choice(DATA)
        if kind < 0.36 and self.parameters:
            return self.random.choice(self.parameters) + self.random.choice(["", "", ".a", ".name"])
        parts = self.random.choices(NAMES, k=self.random.choice([1, 1, 1, 2, 3]))
        if self.random.random() < 0.1:
            parts.append(self.random.choice(["[0]", "[1]", "length", "[00]", "[]"]))
        return self.random.choice([".", "/"]).join(parts)

    def argument(self):
        kind = self.random.random()
        if kind < 0.25:
            return self.random.choice(LITERALS)
        return f"({self.call()})" if kind < 0.35 else self.path()

    def call(self):
        name = self.random.choice(["uppercase", "lowercase", "capitalize", "default", "lookup", "formatDate"])
        if name == "formatDate":
            pattern = self.random.choice(["", ' "YYYY-MM-DD"', ' "MM/DD/YYYY"', ' "x"'])
            return f'{name} "2026-03-07T10:00:00Z"{pattern}'
        count = 2 if name in ("default", "lookup") else 1
        return " ".join([name, *(self.argument() for _ in range(count))])

    def block(self, depth):
        kind = self.random.choice(BLOCKS)
        opening, closing = self.opening(kind)
        open_tag = f"{{{{{self.tilde()}{'^' if kind == 'inverse' else '#'}{opening}{{}}{self.tilde()}}}}}"
        bound = self.bind(kind)
        names = f" as |{' '.join(bound)}|" if bound else ""
        self.parameters.extend(bound)
        text = self.line(open_tag.replace("{}", names, 1) if "{}" in open_tag else open_tag) + self.body(depth - 1)
        del self.parameters[len(self.parameters) - len(bound) :]
        while kind != "inverse" and self.random.random() < 0.2:
            chained = self.random.choice(["if", "unless", "each", "with", "ifEquals"])
            text += self.line(f"{{{{{self.tilde()}else {self.opening(chained)[0]}{self.tilde()}}}}}") + self.body(
                depth - 1
            )
        if self.random.random() < 0.4:
            tag = self.random.choice(["else", " else ", "^"])
            text += self.line(f"{{{{{self.tilde()}{tag}{self.tilde()}}}}}") + self.body(depth - 1)
        return text + self.line(f"{{{{{self.tilde()}/{closing}{self.tilde()}}}}}")

    def opening(self, kind):
        if kind in ("section", "inverse"):
            path = self.path()
            return path, path.replace("[", "").replace("]", "") if path != "[]" else path
        if kind in ("ifEquals", "ifNotEquals"):
            return f"{kind} {self.argument()} {self.argument()}", kind
        zero = f" includeZero={self.random.choice(['true', 'false', 'a'])}" if self.random.random() < 0.1 else ""
        return f"{kind} {self.argument()}{zero if kind in ('if', 'unless') else ''}", kind

    def bind(self, kind):
        if kind not in ("each", "with") or self.random.random() < 0.7:
            return []
        return self.random.sample(["p", "q", "r"], 2 if kind == "each" else 1)

    def line(self, tag):
        """A tag, often on a line of its own."""
        return self.random.choice(["{}", "{}", "\n{}\n", "  {}\n", "\n  {}  \n", "\r\n{}\r\n"]).replace("{}", tag)
