"""Files are read by the strict JSON reader alone; every other parser of JSON is listed here with its reason."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
OTHERS = {
    "ladder/data/jsonl_stream.py": "lines that the filter stage has checked and written itself",
    "ladder/filters/guard_models.py": "a key of its own cache",
    "ladder/filters/judged.py": "a key of its own cache",
    "ladder/filters/passes.py": "lines that the filter stage has checked and written itself",
    "ladder/filters/row_io.py": "orjson, and the strict reader for all that orjson might read otherwise",
    "ladder/filters/stats.py": "lines that the filter stage has checked and written itself",
    "ladder/chat/encode.py": "the state of a tokenizer in memory",
    "ladder/ship/gguf_file.py": "the state of a tokenizer in memory",
    "ladder/inference/http.py": "bodies of servers, which may hold NaN",
    "ladder/inference/request_cache.py": "bodies of servers, which may hold NaN",
    "ladder/inference/server_errors.py": "bodies of servers, which may hold NaN",
    "ladder/training/trl_rollouts.py": "rows in memory as text",
    "ladder/pipeline/snapshot.py": "its own record of an unchanged tree; a damaged one is ignored",
    "ladder/pipeline/yaml_cache.py": "texts that it has parsed itself",
    "ladder/report/params_schema.py": "a value in memory as text",
    "ladder/verifiers/constraints.py": "IFEval's own check of an answer",
}


def test_json_is_parsed_by_the_strict_reader():
    found = set()
    for folder in ("ladder", "stages", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                parses = isinstance(node, ast.Attribute) and node.attr in ("loads", "load", "JSONDecoder")
                if parses and isinstance(node.value, ast.Name) and node.value.id in ("json", "orjson"):
                    found.add(path.relative_to(ROOT).as_posix())
    assert found - {"ladder/data/strict_json.py"} <= OTHERS.keys()
