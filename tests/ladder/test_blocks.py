import pytest

from ladder.blocks import code, continuation, defines

FUNCTION = "def f(x):\n    return x\n"
DOCSTRING = 'def f(x):\n    """Text.\n    ```\n    f(1)\n    ```\n    """\n    return x\n'


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (FUNCTION, FUNCTION),
        (f"Sure:\n\n```python\n{FUNCTION}```\nDone.\n```python\nf(1)\n```", FUNCTION),
        (f"```\n{FUNCTION}```", FUNCTION),
        (f"```Python\r\n{FUNCTION}```", FUNCTION),
        (f"```python\n{FUNCTION}", FUNCTION),  # cut at the limit of tokens
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


def test_what_defines_a_function() -> None:
    for text in (FUNCTION, "import a\n\nasync def f():", "f = lambda x: x", "class f:"):
        assert defines(text, "f")
    for text in ("def ff(x):", "    def f(x):", "f(1)", "f == 1", "undef f"):
        assert not defines(text, "f")


def test_a_continuation_gets_back_the_indent_that_a_strip_took() -> None:
    assert continuation("a = 1\n    return a", "f") == "    a = 1\n    return a"
    assert continuation("\n    return 1", "f") == "\n    return 1"
    assert continuation(FUNCTION, "f") == FUNCTION
