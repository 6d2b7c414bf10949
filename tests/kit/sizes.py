"""``make house``: the sizes of modules and functions, for people to look at; nothing fails.

Comfortable is 100-250 lines a module and under 25 a function (docstring not counted).
"""

import ast
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent.parent


def functions(tree: ast.AST) -> list[tuple[int, str]]:
    """Every function as (lines without its docstring, name)."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            told = ast.get_docstring(node) is not None
            skipped = (first.end_lineno or 0) - first.lineno + 1 if told else 0
            found.append(((node.end_lineno or 0) - node.lineno + 1 - skipped, node.name))
    return found


def table() -> str:
    """One line per module: lines, functions, the longest one."""
    lines = []
    for path in sorted([*(ROOT / "gateway").rglob("*.py"), *(ROOT / "chaos").rglob("*.py")]):
        text = path.read_text()
        sizes = sorted(functions(ast.parse(text)), reverse=True)
        longest = f"{sizes[0][0]:4} {sizes[0][1]}" if sizes else ""
        name = path.relative_to(ROOT).as_posix()
        lines.append(f"{len(text.splitlines()):5}  {len(sizes):3}  {longest:34}  {name}")
    return "\n".join(["lines  fns  longest function                    module", *lines]) + "\n"


if __name__ == "__main__":
    sys.stdout.write(table())
