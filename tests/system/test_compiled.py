"""``@compiled``: where the compiled code is kept."""

from pathlib import Path

import numba

import utils.system.compiled as compiled_module
from utils.system.compiled import compiled


def plus_one(number: int) -> int:
    return number + 1


def test_the_cache_lies_beside_the_sources_and_is_named_after_them() -> None:
    function = compiled(plus_one)
    assert function(2) == 3
    package = Path(compiled_module.__file__).parent
    folder = package / "__pycache__" / f"numba-{compiled_module._digest_of_sources()}"
    assert Path(function.stats.cache_path).is_relative_to(folder)
    assert numba.config.CACHE_DIR == ""


def test_a_change_of_any_compiled_source_makes_another_cache(tmp_path, monkeypatch) -> None:
    (tmp_path / "helper.py").write_text("@compiled\n")
    (tmp_path / "unrelated.py").write_text("\n")
    monkeypatch.setattr(compiled_module, "_PACKAGE", tmp_path)
    before = compiled_module._digest_of_sources()
    (tmp_path / "unrelated.py").write_text("pass\n")
    assert compiled_module._digest_of_sources() == before
    (tmp_path / "helper.py").write_text("@compiled  # changed\n")
    assert compiled_module._digest_of_sources() != before


def test_the_users_cache_folder_is_respected(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    assert Path(compiled(plus_one).stats.cache_path).is_relative_to(tmp_path)


def test_functions_compile_where_nothing_can_be_written(monkeypatch) -> None:
    njit = numba.njit

    def njit_that_cannot_write(*, cache=False, **options):
        def refuse(_):
            raise RuntimeError("cannot cache function: no locator available")

        return refuse if cache else njit(**options)

    monkeypatch.setattr(numba, "njit", njit_that_cannot_write)
    assert compiled(plus_one)(2) == 3
