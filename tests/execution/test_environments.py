from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version

import pytest

from airflow_mlpipe.execution.environments import describe_environment, installed_packages


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder of packages, the only one of a pretended interpreter."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.setattr(sys, "path", [str(folder)])
    return folder


def install(site, name, number, modules=(), requires=(), **files):
    info = site / f"{name.replace('-', '_')}-{number}.dist-info"
    info.mkdir()
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {number}", *(f"Requires-Dist: {r}" for r in requires)]
    (info / "METADATA").write_text("\n".join(lines) + "\n")
    (info / "RECORD").write_text("".join(f"{path},,\n" for path in modules))
    for file, text in files.items():
        (info / file.replace("_json", ".json").replace("_txt", ".txt")).write_text(text)
    return info


def test_it_describes_this_interpreter():
    described = describe_environment(frozenset({"pydantic", "os", "airflow_mlpipe", "no_such_module"}))
    assert described["python"] == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert described["implementation"] == "cpython"
    assert described["pydantic"] == version("pydantic")
    # What pydantic needs decides about results as well.
    assert described["pydantic-core"] == version("pydantic-core")
    assert "pytest" not in described
    assert "airflow-mlpipe" not in described
    json.dumps(described)


def test_no_imports_mean_the_bare_interpreter():
    assert set(describe_environment(frozenset())) == {"python", "implementation"}


def test_requirements_are_followed_without_extras(site):
    install(
        site, "Top.Level", "1", ["top/__init__.py"], ["base>=1 ; python_version < '3'", "test-kit ; extra == 'test'"]
    )
    install(site, "base", "2", ["base.py"], ["deep_er[fast]~=3", "absent"])
    install(site, "deep-er", "3", ["deeper.cpython-311-x86_64-linux-gnu.so"], ["base"])
    install(site, "test-kit", "4", ["kit.py"])
    names = set(describe_environment(frozenset({"top"}))) - {"python", "implementation"}
    assert names == {"top-level", "base", "deep-er"}
    assert describe_environment(frozenset({"deeper"}))["deep-er"] == "3"


def test_a_module_of_several_distributions_counts_all(site):
    install(site, "ns-one", "1", ["ns/one.py"])
    install(site, "ns-two", "2", ["ns/two.py"])
    assert {"ns-one", "ns-two"} <= set(describe_environment(frozenset({"ns"})))


def test_the_first_on_the_path_counts(site, tmp_path, monkeypatch):
    install(site, "tool", "1", ["tool.py"])
    later = tmp_path / "later"
    later.mkdir()
    install(later, "tool", "9", ["tool.py"])
    monkeypatch.setattr(sys, "path", [str(site), str(later)])
    assert describe_environment(frozenset({"tool"}))["tool"] == "1"


def test_an_editable_installation_is_known_by_its_files(site, tmp_path):
    source = tmp_path / "project"
    (source / "src" / "mine").mkdir(parents=True)
    (source / "src" / "mine" / "__init__.py").write_text("A = 1")
    direct = json.dumps({"url": source.as_uri(), "dir_info": {"editable": True}})
    install(site, "mine-dist", "0.1", ["__editable__.mine.pth"], direct_url_json=direct)
    first = describe_environment(frozenset({"mine"}))["mine-dist"]
    assert first.startswith("0.1+")
    assert describe_environment(frozenset({"mine"}))["mine-dist"] == first
    (source / "src" / "mine" / "__init__.py").write_text("A = 22")
    assert describe_environment(frozenset({"mine"}))["mine-dist"] != first


class TestCache:
    def test_it_is_used_while_nothing_changes(self, site, tmp_path):
        cache = tmp_path / "environment.json"
        install(site, "tool", "1", ["tool.py"])
        assert installed_packages(cache).versions == {"tool": "1"}
        document = json.loads(cache.read_text())
        document["installed"]["versions"]["tool"] = "from the cache"
        cache.write_text(json.dumps(document))
        assert describe_environment(frozenset({"tool"}), cache)["tool"] == "from the cache"

    def test_a_user_s_own_modules_do_not_disturb_it(self, site, tmp_path):
        cache = tmp_path / "environment.json"
        install(site, "tool", "1", ["tool.py"])
        installed_packages(cache)
        before = cache.read_text()
        (site / "notes.txt").write_text("x")
        installed_packages(cache)
        assert cache.read_text() == before

    def test_a_new_distribution_is_seen(self, site, tmp_path):
        cache = tmp_path / "environment.json"
        install(site, "tool", "1", ["tool.py"])
        installed_packages(cache)
        install(site, "other", "1", ["other.py"])
        assert set(installed_packages(cache).versions) == {"tool", "other"}

    def test_an_upgrade_is_seen(self, site, tmp_path):
        cache = tmp_path / "environment.json"
        old = install(site, "tool", "1", ["tool.py"])
        installed_packages(cache)
        old.rename(site / "gone")
        install(site, "tool", "2", ["tool.py"])
        assert installed_packages(cache).versions == {"tool": "2"}

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"signature": [], "installed": {}}'])
    def test_a_damaged_one_is_made_anew(self, site, tmp_path, text):
        cache = tmp_path / "environment.json"
        cache.write_text(text)
        install(site, "tool", "1", ["tool.py"])
        assert installed_packages(cache).versions == {"tool": "1"}
        assert json.loads(cache.read_text())["installed"]["versions"] == {"tool": "1"}

    def test_a_place_that_cannot_be_written_only_costs_time(self, site, tmp_path):
        install(site, "tool", "1", ["tool.py"])
        assert installed_packages(tmp_path / "gone" / "environment.json").versions == {"tool": "1"}


def test_the_backport_of_importlib_metadata_changes_nothing(tmp_path):
    code = (
        "import sys, json\n"
        "if sys.argv[1:]: import importlib_metadata\n"
        "from airflow_mlpipe.execution.environments import describe_environment\n"
        "print(json.dumps(describe_environment(frozenset({'pydantic', 'pytest', 'rich'}))))\n"
    )
    pytest.importorskip("importlib_metadata", reason="the backport comes with apache-airflow, which is not installed")
    answers = {
        subprocess.run([sys.executable, "-c", code, *more], capture_output=True, text=True, check=True).stdout
        for more in ([], ["backport"])
    }
    assert len(answers) == 1
