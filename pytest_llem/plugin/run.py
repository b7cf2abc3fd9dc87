"""What a pytest session knows of its measurements; one object, made for the first of them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Hashable
from pathlib import Path

import pytest

from pytest_llem.demands import Arm
from pytest_llem.errors import ResultsError
from pytest_llem.plugin.arrivals import away
from pytest_llem.plugin.naming import SESSION_NAME
from pytest_llem.plugin.options import longest_wait_s
from pytest_llem.plugin.rest import Rests
from pytest_llem.plugin.session import KEY, results_folder
from pytest_llem.plugin.wires import wire_of
from pytest_llem.reports import files
from pytest_llem.results.journal import Journal, read
from pytest_llem.results.outcome import Outcome
from pytest_llem.results.sessions import POINTER, pointer
from pytest_llem.results.stopping import Stopping
from pytest_llem.runners.beside import HostMeters
from pytest_llem.runners.devices import Devices
from pytest_llem.runners.workers import Workers
from pytest_llem.study.load import Study
from pytest_llem.wire import from_dict

__all__ = ["Run", "of"]

_NOTES = "notes"


class Run:
    """Journal, gaps and outcomes of one pytest process.

    Attributes:
        config: pytest's.
        rests: gaps between measurements.
        strict: whatever isn't a clean pass fails.
        allow_estimated: gates judge estimates.
        carbon: what a joule costs here, by the user's own settings.
        outcomes: (study file, experiment, arm) to cycle to what became of it.
        unwritable: why results can't be kept any more, should that be so.
        host: ``host``, where this isn't the controller's.
        stops: study file to what it allows.
    """

    def __init__(self, config: pytest.Config) -> None:
        """Read the options."""
        self.config = config
        self.rests = Rests(config)
        settings = config.stash[KEY].choices.user.settings
        self.carbon = settings.carbon
        self.strict = bool(config.getoption("llem_strict"))
        self.allow_estimated = bool(config.getoption("llem_allow_estimated"))
        self.outcomes: dict[tuple[Path, str, Arm | None], dict[int, Outcome]] = {}
        self.unwritable: ResultsError | None = None
        name = away(config)
        self.host = {} if name is None else {"host": name}
        self.stops: dict[Path, Stopping] = {}
        self._journal: Journal | None = None
        self._notes: Journal | None = None
        self._workers: Workers | None = None

    @property
    def journal(self) -> Journal:
        """The journal of this process, begun at first use.

        Raises:
            ResultsError: when it can't be written.
        """
        if self._journal is None:
            folder = results_folder(self.config)
            self._journal = Journal(folder, self._writer)
            if resumes := self.config.stash[KEY].resumes:
                files.write(folder / POINTER, pointer(resumes, folder.parent))
        return self._journal

    @property
    def workers(self) -> Workers:
        """The workers of this process."""
        if self._workers is None:
            log = self.journal.folder / "logs" / f"host-meters.{self._writer}.log"
            name, limit_s = self.config.stash[SESSION_NAME], longest_wait_s(self.config)
            devices = Devices(session=name, limit_s=limit_s)
            notice = self.config.stash[KEY].notice
            self._workers = Workers(HostMeters(log), devices, notice=notice)
        return self._workers

    def stopping(self, study: Study) -> Stopping:
        """What a study allows, its time counted from the first call."""
        if study.path not in self.stops:
            said = study.execution
            self.stops[study.path] = Stopping(said.max_failures, said.time_budget_s)
        self.stops[study.path].begin()
        return self.stops[study.path]

    @property
    def _writer(self) -> str:
        return str(getattr(self.config, "workerinput", {}).get("workerid", "main"))

    def keep_engine_for(self, key: Hashable) -> None:
        """Unload an engine that is kept, unless what comes next has use for it."""
        if self._workers is not None:
            self._workers.keep_for(key)

    def keep(self, path: Path, outcome: Outcome) -> None:
        """Remember an outcome for the gate of its experiment."""
        self.known(path, outcome.experiment, outcome.arm)[outcome.cycle] = outcome

    def known(self, path: Path, experiment: str, arm: Arm | None) -> dict[int, Outcome]:
        """What became of an experiment's cycles, as far as this process knows."""
        return self.outcomes.setdefault((path, experiment, arm), {})

    def note(self, outcome: Outcome) -> None:
        """Tell a gate in another process of what didn't get as far as the journal."""
        if self.is_left_to_xdist:
            with contextlib.suppress(ResultsError):
                if self._notes is None:
                    folder = results_folder(self.config)
                    self._notes = Journal(folder, self._writer, kind=_NOTES)
                self._notes.append(outcome)

    @property
    def is_left_to_xdist(self) -> bool:
        """Whether the cycles of an experiment may be anybody's."""
        off = self.config.getoption("llem_dist") == "off"
        return off and hasattr(self.config, "workerinput")

    def elsewhere(
        self, file: str, experiment: str, digest: str, arm: Arm | None
    ) -> dict[int, Outcome]:
        """An experiment's cycles as other processes of the session have them: in their journals."""
        wanted = (file, experiment, digest, arm)
        folder = results_folder(self.config)
        outcomes = [o for kind in ("journal", _NOTES) for o in read(folder, kind)[0]]
        wire = wire_of(self.config)
        for text in () if wire is None else wire.known:
            outcomes += [from_dict(Outcome, data) for data in json.loads(text)]
        found = [o for o in outcomes if (o.file, o.experiment, o.digest, o.arm) == wanted]
        # Of a cycle that was run again the last counts, as it does within a process.
        return {o.cycle: o for o in sorted(found, key=lambda o: o.finished)}

    def close(self) -> None:
        """End the workers, and close the journal."""
        if self._workers:
            self._workers.close()
        for journal in (self._journal, self._notes):
            if journal:
                journal.close()


_KEY = pytest.StashKey[Run]()


def of(config: pytest.Config) -> Run:
    """That of this process."""
    if _KEY not in config.stash:
        config.stash[_KEY] = Run(config)
    return config.stash[_KEY]
