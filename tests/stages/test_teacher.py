import pytest

from ladder.rows import write_rows
from ladder.run import Refused
from stages.teacher import Params, main


def test_rows_that_do_not_fit_are_refused(tmp_path, base, rows):
    write_rows(tmp_path / "rows.jsonl", rows)
    params = Params(model="base", data="filter", top_k=4, max_length=3)
    with pytest.raises(Refused, match="rows.jsonl: none of 12 rows fits teacher max_length 3"):
        main(params, tmp_path / "rows.jsonl", base, base, tmp_path / "small.safetensors")
