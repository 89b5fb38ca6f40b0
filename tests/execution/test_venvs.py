from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
from datetime import UTC, datetime, timedelta

import pytest
from wheels import only_index

from airflow_mlpipe.errors import EnvironmentBuildError, StepStoppedError
from airflow_mlpipe.execution import core, resolution, venvs
from airflow_mlpipe.execution.resolution import Locks
from airflow_mlpipe.execution.venv_garbage import built_environments, collect_environments
from airflow_mlpipe.execution.venvs import Venvs, site_packages
from airflow_mlpipe.model.environment import EnvironmentSpec
from airflow_mlpipe.storage.datastore import LocalStore

SPEC = EnvironmentSpec(name="mine", pip_packages=("tool>=1",))
NEVER = timedelta(0)


@pytest.fixture
def index(tmp_path, monkeypatch):
    """The only index of this machine; the core of this package is one small package from it."""
    index = only_index(tmp_path, monkeypatch, "core-need")
    index.add("base", "1")
    index.add("tool", "1", ["base"])
    return index


@pytest.fixture
def store(tmp_path):
    return LocalStore("blob", tmp_path / "store")


@pytest.fixture
def built(tmp_path):
    return Venvs(tmp_path / "environments")


def lock_of(store, spec=SPEC, **options):
    return Locks(store).of(spec, **options)


def printed(venv, code):
    done = subprocess.run([venv.python, "-c", code], capture_output=True, text=True, env={}, cwd="/")
    return done.stdout.strip() or done.stderr


def folders(built):
    return sorted(path for path in built.root.iterdir() if path.is_dir())


class TestLocks:
    def test_a_new_release_changes_nothing_until_it_is_asked_for(self, index, store):
        first = lock_of(store)
        assert first.packages == ("base==1", "tool==1")
        assert first.identity == {"python": first.python, "implementation": "cpython", "base": "1", "tool": "1"}
        index.add("tool", "2")
        assert lock_of(store) == first
        assert first.core == ("core-need==1", "pip==1")
        assert lock_of(store, renew=True).packages == ("tool==2",)
        assert lock_of(store).packages == ("tool==2",)

    def test_one_object_answers_the_same_for_its_life(self, index, store):
        locks = Locks(store)
        first = locks.of(SPEC)
        index.add("tool", "2")
        lock_of(store, renew=True)
        assert locks.of(SPEC) is first

    def test_a_plan_leaves_no_trace(self, index, store):
        assert Locks(store, keep=False).of(SPEC).packages == ("base==1", "tool==1")
        assert not store.listed("manifests/environments")

    def test_name_variables_and_image_do_not_matter(self, index, store):
        first = lock_of(store)
        index.add("tool", "2")
        other = SPEC.model_copy(update={"name": "other", "variables": {"A": "1"}, "docker_image": "image"})
        assert lock_of(store, other) == first

    def test_another_definition_is_resolved_anew(self, index, store):
        lock_of(store)
        index.add("tool", "2")
        assert lock_of(store, EnvironmentSpec(pip_packages=("tool>1",))).packages == ("tool==2",)

    @pytest.mark.parametrize("text", [b"", b"{", b"{}"])
    def test_a_damaged_one_is_made_again(self, index, store, text):
        first = lock_of(store)
        (path,) = store.listed("manifests/environments")
        store.write_bytes(path.path, text)
        assert lock_of(store) == first

    def test_what_does_not_resolve_says_what_the_resolver_says(self, index, store):
        with pytest.raises(EnvironmentBuildError) as error:
            lock_of(store, EnvironmentSpec(name="mine", pip_packages=("tool>=9",)))
        assert error.value.message.startswith("environment 'mine' cannot be resolved: ")
        assert "only tool<=1 is available" in error.value.message or "tool>=9" in error.value.message
        assert "\n" not in error.value.message
        assert not store.listed("manifests/environments")

    def test_a_package_that_does_not_go_with_ours_says_so(self, index, store, monkeypatch):
        index.add("needy", "1", ["core-need<1"])
        index.add("core-need", "0.5")
        monkeypatch.setattr(resolution, "core_requirements", lambda: ("core-need>=1",))
        with pytest.raises(
            EnvironmentBuildError, match=r"do not go together with what airflow_mlpipe needs.*core-need"
        ):
            lock_of(store, EnvironmentSpec(name="mine", pip_packages=("needy",)))

    def test_notes_are_kept_and_said(self, index, store):
        said = []
        lock = lock_of(
            store,
            EnvironmentSpec(name="mine", python_version="3.11", pip_packages=("tool", "azureml-core")),
            say=said.append,
        )
        assert lock.notes == ("package 'azureml-core' is left out: airflow_mlpipe takes its place",)
        assert f"note: environment 'mine': {lock.notes[0]}" in said

    def test_nothing_asked_is_the_current_interpreter(self, index, store):
        assert lock_of(store, EnvironmentSpec()) is None
        assert lock_of(store, EnvironmentSpec(pip_packages=("azureml-defaults",))) is None
        assert lock_of(store, EnvironmentSpec(user_managed=True, pip_packages=("tool",))) is None


class TestVenvs:
    def test_it_has_the_packages_the_core_and_nothing_of_ours(self, index, store, built):
        venv = built.provide(lock_of(store), "mine")
        assert venv.built
        assert printed(venv, "import tool, base, core_need; print(tool.__version__)") == "1"
        where = printed(venv, "import os, airflow_mlpipe; print(os.path.realpath(airflow_mlpipe.__file__))")
        assert where == str(core.PACKAGE / "__init__.py")
        assert "No module named 'pytest'" in printed(venv, "import pytest")

    def test_it_is_built_once_and_shared(self, index, store, built):
        lock = lock_of(store)
        first = built.provide(lock, "mine")
        shutil.rmtree(index.root)
        second = Venvs(built.root).provide(lock, "other name")
        assert (second.folder, second.built) == (first.folder, False)

    @pytest.mark.parametrize(
        "damage", ["module", "package", "metadata", "interpreter", "core", "all", "record", "extra"]
    )
    def test_a_damaged_one_is_built_anew_beside_the_old_one(self, index, store, built, damage):
        lock = lock_of(store)
        first = built.provide(lock, "mine")
        site = site_packages(first.folder)
        match damage:
            case "module":
                (site / "tool" / "part.py").unlink()
            case "package":
                shutil.rmtree(site / "tool")
            case "metadata":
                shutil.rmtree(site / "tool-1.dist-info")
            case "interpreter":
                first.python.unlink()
                first.python.symlink_to("/nowhere/python")
            case "core":
                (site / "airflow_mlpipe").unlink()
            case "all":
                shutil.rmtree(first.folder)
            case "record":
                (built.root / f"{built.key(lock)}.json").write_text("{")
            case "extra":
                (site / "injected-1.dist-info").mkdir()
        second = built.provide(lock, "mine")
        assert second.built
        assert second.folder != first.folder
        assert printed(second, "import tool.part, airflow_mlpipe") == ""

    def test_compiled_files_and_caches_of_packages_are_no_damage(self, index, store, built):
        lock = lock_of(store)
        venv = built.provide(lock, "mine")
        printed(venv, "import tool.part")
        (site_packages(venv.folder) / "tool" / "cache.bin").write_text("x")
        assert not built.provide(lock, "mine").built

    def test_a_lock_of_another_release_gets_what_this_one_needs(self, index, store, built):
        lock = lock_of(store).model_copy(update={"core": ("core-need==0",), "core_of": "b3:0"})
        assert printed(built.provide(lock, "mine"), "import tool, core_need; print(core_need.__version__)") == "1"

    def test_what_both_need_belongs_to_the_user_s_packages(self, index, store):
        index.add("shared", "1")
        index.add("core-need", "2", ["shared"])
        index.add("tool", "2", ["shared"])
        lock = lock_of(store)
        assert (lock.packages, lock.core) == (("shared==1", "tool==2"), ("core-need==2", "pip==1"))

    def test_a_failed_build_leaves_nothing(self, index, store, built):
        lock = lock_of(store)
        shutil.rmtree(index.root / "core-need")
        with pytest.raises(EnvironmentBuildError, match=r"environment 'mine' cannot be built: .*core-need"):
            built.provide(lock, "mine")
        assert folders(built) == []

    def test_a_build_ends_when_its_step_is_to_end(self, index, store, built, monkeypatch, tmp_path):
        lock = lock_of(store)
        slow = tmp_path / "uv"
        slow.write_text("#!/bin/sh\nexec sleep 600\n")
        slow.chmod(0o755)
        monkeypatch.setattr(venvs, "find_uv", lambda: str(slow))
        with pytest.raises(StepStoppedError, match="cancelled by me"):
            built.provide(lock, "mine", stop=lambda: "cancelled by me")
        assert folders(built) == []

    def test_two_processes_at_once_build_once(self, index, store, built):
        lock = lock_of(store)
        fork = multiprocessing.get_context("fork")
        answers = fork.Queue()

        def ask() -> None:
            venv = built.provide(lock, "mine")
            answers.put((venv.built, str(venv.folder)))

        processes = [fork.Process(target=ask) for _ in range(3)]
        for process in processes:
            process.start()
        found = [answers.get(timeout=60) for _ in processes]
        for process in processes:
            process.join()
        assert sorted(is_built for is_built, _ in found) == [False, False, True]
        assert len({folder for _, folder in found}) == 1

    def test_a_builder_that_is_killed_leaves_the_right_to_build(self, index, store, built, monkeypatch, tmp_path):
        lock = lock_of(store)
        started = tmp_path / "started"
        os.mkfifo(started)
        slow = tmp_path / "uv"
        slow.write_text(f'#!/bin/sh\nmkdir -p "$5"; echo x > {started}; exec sleep 600\n')
        slow.chmod(0o755)
        real = venvs.find_uv
        monkeypatch.setattr(venvs, "find_uv", lambda: str(slow))
        process = multiprocessing.get_context("fork").Process(target=built.provide, args=(lock, "mine"))
        process.start()
        started.read_text()
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        (left,) = folders(built)
        monkeypatch.setattr(venvs, "find_uv", real)
        assert built.provide(lock, "mine").built
        assert left in folders(built)
        long_after = datetime.now(UTC) + timedelta(hours=2)
        found, _ = collect_environments(built.root, timedelta(hours=1), delete=True, now=long_after)
        assert left in [each.folder for each in found]
        assert not left.exists()


class TestGarbage:
    def test_one_in_use_stays(self, index, store, built):
        venv = built.provide(lock_of(store), "mine")
        later = datetime.now(UTC) + timedelta(days=400)
        (only,) = built_environments(built.root)
        assert (only.name, only.in_use, only.packages) == ("mine", True, 4)
        assert collect_environments(built.root, NEVER, delete=True, now=later)[0] == []
        venv.close()
        found, kept = collect_environments(built.root, NEVER, delete=False, now=later)
        assert ([each.name for each in found], kept) == (["mine"], [])
        assert venv.folder.exists()
        collect_environments(built.root, NEVER, delete=True, now=later)
        assert not venv.folder.exists()
        assert built_environments(built.root) == []
        assert built.provide(lock_of(store), "mine").built

    def test_what_was_used_lately_stays(self, index, store, built):
        built.provide(lock_of(store), "mine").close()
        now = datetime.now(UTC)
        assert collect_environments(built.root, timedelta(days=1), delete=True, now=now)[0] == []
        record = built.root / f"{built.key(lock_of(store))}.json"
        old = now.timestamp() - 2 * 86_400
        os.utime(record, (old, old))
        built.provide(lock_of(store), "mine").close()
        assert collect_environments(built.root, timedelta(days=1), delete=True, now=datetime.now(UTC))[0] == []

    def test_a_folder_that_is_not_there_holds_nothing(self, tmp_path):
        assert built_environments(tmp_path / "nowhere") == []
