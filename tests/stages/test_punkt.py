import zipfile

import pytest

from ladder.pipeline.stage import UserError
from stages.punkt import FILES, Params, main


def test_the_english_model_is_unpacked_where_nltk_looks(tmp_path):
    with zipfile.ZipFile(tmp_path / "punkt_tab.zip", "w") as packed:
        for name in FILES:
            packed.writestr(f"punkt_tab/english/{name}", name)
            packed.writestr(f"punkt_tab/danish/{name}", name)
    main(Params(source=str(tmp_path / "punkt_tab.zip"), sha256=None), tmp_path / "punkt")
    found = {str(path.relative_to(tmp_path / "punkt")) for path in (tmp_path / "punkt").rglob("*.t*")}
    assert found == {f"tokenizers/punkt_tab/english/{name}" for name in FILES}


def test_another_file_is_refused(tmp_path):
    (tmp_path / "punkt_tab.zip").write_text("not a zip")
    with pytest.raises(UserError, match="expected NLTK's punkt_tab.zip: File is not a zip file"):
        main(Params(source=str(tmp_path / "punkt_tab.zip"), sha256=None), tmp_path / "punkt")
    assert not (tmp_path / "punkt").exists()
