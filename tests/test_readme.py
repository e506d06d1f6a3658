"""The README says what the code says."""

import re

from reinforcement_learning.settings.command_line import options_as_markdown
from utils.system.files import PROJECT_ROOT

README = PROJECT_ROOT / "README.md"
OPTIONS = re.compile(r"<!-- options -->\n\n(.*)\n<!-- end of options -->", re.DOTALL)


def test_options_section_is_made_from_the_table_of_options() -> None:
    section = OPTIONS.search(README.read_text())
    assert section is not None
    assert section[1] == options_as_markdown(), (
        "put what reinforcement_learning.settings.command_line.options_as_markdown() returns between the two markers"
    )


def test_files_that_the_readme_names_exist() -> None:
    names = re.findall(r"\b(?:reinforcement_learning|utils|benchmarks)/[a-z_/]*\w+\.(?:py|png)", README.read_text())
    assert names
    assert [name for name in names if not (README.parent / name).exists()] == []
