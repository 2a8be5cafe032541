import json
from pathlib import Path

import pytest

from ladder.verifiers.answer_program import before, called, code, continuation, defines

FUNCTION = "def f(x):\n    return x\n"
DOCSTRING = 'def f(x):\n    """Text.\n    ```\n    f(1)\n    ```\n    """\n    return x\n'
SHAPES = [json.loads(line) for line in (Path(__file__).parents[2] / "cases/code_blocks.jsonl").open()]
ADD = 'def add(x: int, y: int):\n    """Add two numbers x and y\n    >>> add(2, 3)\n    5\n    """\n'
DRAFT = ADD_ONE = "def add(x: int, y: int):\n    return x - y\n"
RIGHT = "def add(x: int, y: int):\n    return x + y\n"
QUOTED = RIGHT.replace("\n", "\n> ").removesuffix("> ")


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (FUNCTION, FUNCTION),
        (f"Sure:\n\n```python\n{FUNCTION}```\nDone.\n```python\nf(1)\n```", FUNCTION),
        (f"```\n{FUNCTION}```", FUNCTION),
        (f"```Python\r\n{FUNCTION}```", FUNCTION),
        (f"```python\n{FUNCTION}", FUNCTION),  # truncated at the token limit
        (f"```bash\npip install f\n```\nThen:\n```python\n{FUNCTION}```", FUNCTION),
        (f"```python\nimport os\n```\nThen:\n```python\n{FUNCTION}```", FUNCTION),
        ("1. So:\n   ```python\n   def f(x):\n       return x\n   ```\n", FUNCTION),
        ("```python\ndef f(x):\n    return x```\nDone.", "def f(x):\n    return x"),
        (f"~~~python\n{FUNCTION}~~~\n", FUNCTION),
        (f"```python\n{DOCSTRING}```\n", DOCSTRING),
        (f"{FUNCTION}```\nThis returns x.\n", FUNCTION),  # the fence was opened by the prompt
        ("    return x\n```\n\nIt returns x.\n```python\nf(1)\n```", "    return x\n"),
        ("```python\n    return x\n```", "    return x\n"),
        ("```java\nint f;\n```", "int f;\n"),
        ("I cannot.", "I cannot."),
        ("", ""),
    ],
)
def test_the_code_of_an_answer(answer: str, found: str) -> None:
    assert code(answer, "f") == found


def ran(answer: str, prompt: str = ADD) -> bool:
    """Whether the program of an answer adds, assembled as HumanEval does. The answers are made up here."""
    body = continuation(code(answer, "add", prompt), "add")
    namespace: dict[str, object] = {}
    try:
        exec(f"{before(prompt, body, 'add')}{body}\nassert add(2, 3) == 5\nassert add(-1, 1) == 0", namespace)
    except (SyntaxError, NameError, AssertionError, TypeError):
        return False
    return True


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape["name"])
def test_the_program_of_every_shape_is_right(shape: dict[str, str]) -> None:
    assert ran(shape["text"])


@pytest.mark.parametrize(
    "answer",
    [
        f"```python\r\n{RIGHT}```\r\n".replace("\n", "\r\n"),
        f"~~~~\n{RIGHT}~~~~",
        f"````python\n{RIGHT}````",
        f"- Code:\n  - so:\n    ```py\n{'    '}{RIGHT.replace(chr(10), chr(10) + '    ').rstrip()}\n    ```\n",
        f"- ```python\n  {RIGHT.replace(chr(10), chr(10) + '  ').rstrip()}\n  ```\n",
        f"1. First\n\n    ```python\n    {RIGHT.replace(chr(10), chr(10) + '    ').rstrip()}\n    ```\n",
        f"> ```python\n> {QUOTED}> ```\n",
        f"Here is the code: ```python\n{RIGHT}```",
        f"Here is the code:```\n{RIGHT}```\nDone.",
        "```def add(x: int, y: int):\n    return x + y\n```",
        "```python def add(x, y): return x + y```",
        "Use `def add(x, y): return x + y`.",
        f"```{{python}}\n{RIGHT}```",
        f'```python title="add.py"\n{RIGHT}```',
        f"[PYTHON]\n{RIGHT}",
        f"[CODE]{RIGHT}[/CODE]",
        f"<code>\n{RIGHT}</code>",
        f"<pre><code>{RIGHT}</code></pre>",
        f'<code class="language-python">\n{RIGHT}</code>',
        f"[BEGIN]\n{RIGHT}[DONE]",
        f"<python>\n{RIGHT}</python>",
        f"<answer>\n```python\n{RIGHT}```\n</answer>",
        f"\\begin{{lstlisting}}[language=Python]\n{RIGHT}\\end{{lstlisting}}",
        f"```markdown\n# Answer\n```python\n{RIGHT}```\n```",
        f"````markdown\n# Answer\n```python\n{RIGHT}```\n````",
        f"```python\n{DRAFT}\nWait.\n```python\n{RIGHT}```",  # the draft's fence is never closed
        f"```python\n{DRAFT}```\n```python\n{RIGHT}```\n```python\nassert add(1, 2) == 3\n```",
        f"```python\n{RIGHT}```\nIts signature is\n```python\ndef add(x: int, y: int):\n    ...\n```",
        f"```python\n{RIGHT}```\nOutput:\n```\n5\n```",
        f"```python\n{RIGHT}```\nIn C++:\n```cpp\nint add(int x, int y);\n```",
        f"First:\n\n{DRAFT}\nThat subtracts. Corrected:\n\n{RIGHT}\nThis works.",
        f"Here is the function:\n\n{RIGHT}\nExplanation: it adds.\n\nDone",
        f"{RIGHT}\nThis function adds its two arguments.",
        "Here is the function:\n\nfrom operator import add as plus\n\ndef add(x, y):\n    return plus(x, y)\n",
        "```python\ndef add(x, y):\n    return plus(x, y)\n```\n\n```python\ndef plus(x, y):\n    return x + y\n```",
        "```python\nimport operator\n```\n```python\ndef add(x, y):\n    return operator.add(x, y)\n```",
        "```python\nclass Solution:\n    @staticmethod\n    def add(x, y):\n        return x + y\n```",
        "```python\nclass Solution:\n    def __init__(self):\n        self.z = 0\n\n    def add(self, x, y):\n"
        "        return x + y + self.z\n```\nUse:\n```python\nprint(Solution().add(1, 2))\n```",
        ">>> def add(x, y):\n...     return x + y\n...\n>>> add(1, 2)\n3".join(["```pycon\n", "\n```"]),
        "```python\nadd = lambda x, y: x + y\n```",
        "```python\nadd: object = lambda x, y: x + y\n```",
        # bodies
        "    return x + y",
        "    z = x\n    return z + y\n\nIt adds.",
        "z = x\n    return z + y",
        "z = x\nreturn z + y",
        "for z in (y,):\n    x += z\nreturn x",
        "if True:\n        return x + y",
        "```python\nreturn x + y\n```",
        "```python\nz = x\nreturn z + y\n```",
        "The body is:\n\n    return x + y\n",
        "The body is:\n\nz = x\nreturn z + y\n\nThat is all.",
        "```python\nreturn x - y\n```\nNo:\n```python\nreturn x + y\n```",
        # reasoning
        f"```python\n{DRAFT}```\nNo.\n</think>\n```python\n{RIGHT}```",
        f"[THINK]```python\n{DRAFT}```[/THINK]{RIGHT}",
    ],
)
def test_the_final_program_is_found(answer: str) -> None:
    assert ran(answer)


@pytest.mark.parametrize(
    "answer",
    [
        f"```python\n{DRAFT}```",
        "I cannot.",
        f"<think>\n```python\n{RIGHT}```\n",
        f"```python\n{RIGHT}```\nNo, it subtracts:\n```python\n{DRAFT}```",
        "```python\nclass Solution:\n    def __init__(self, z):\n        self.z = z\n\n    def add(self, x, y):\n"
        "        return x + y\n```",
        "```python\nprint(5)\n```",
    ],
)
def test_what_is_wrong_stays_wrong(answer: str) -> None:
    assert not ran(answer)


def test_a_prompt_without_a_docstring_takes_the_whole_function() -> None:
    assert ran(f"```python\n{RIGHT}```", "def add(x: int, y: int):\n")


def test_what_defines_a_function() -> None:
    for text in (FUNCTION, "import a\n\nasync def f():", "f = lambda x: x", "class f:", "f: int = 1"):
        assert defines(text, "f")
    for text in ("def ff(x):", "    def f(x):", "f(1)", "f == 1", "undef f"):
        assert not defines(text, "f")


def test_a_continuation_gets_back_the_indent_that_a_strip_took() -> None:
    assert continuation("a = 1\n    return a", "f") == "    a = 1\n    return a"
    assert continuation("\n    return 1", "f") == "\n    return 1"
    assert continuation(FUNCTION, "f") == FUNCTION


def test_the_function_that_tests_call() -> None:
    assert (
        called(["assert set(similar((3, 4), (5, 4))) == set((4, 5))", "assert similar((1,), (2,)) == ()"]) == "similar"
    )
    assert called(["import math\nassert math.isclose(area(2), 3.1)"]) == "area"
    assert called(["def check(candidate):\n    assert candidate(1)\n"]) == ""
    assert called(["assert sum(10, 15) == 6"]) == "sum"
    assert called(["assert 1"]) == called(["not python"]) == called([]) == ""


def test_an_answer_that_python_cannot_read_is_no_error() -> None:
    for answer in ("(" * 5000, "```python\n" + "x = [" * 3000 + "\n```", "def f(\0):", "```\n" * 500, "`" * 999):
        assert isinstance(code(answer, "f"), str)
