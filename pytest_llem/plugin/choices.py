"""Who decides what: command line, environment, study, ini file, the user's own settings."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Mapping

import pytest

from pytest_llem.demands import RunnerSpec
from pytest_llem.errors import RunnerError
from pytest_llem.experiment import Experiment
from pytest_llem.extensions import RUNNERS, WELL_KNOWN, known_backends, names
from pytest_llem.plugin.naming import shown_path
from pytest_llem.runners import images, resolve
from pytest_llem.runners.detect import Detected, detect
from pytest_llem.runners.interpreters import located
from pytest_llem.study import user_config
from pytest_llem.study.header import Surroundings
from pytest_llem.study.keys import DockerSettings, Gaps, UserConfig
from pytest_llem.study.load import Study
from pytest_llem.study.schema import nearest
from pytest_llem.wire import to_dict

__all__ = ["Choices"]

_BUILT_IN = ("local", "docker")


class Choices:
    """Everything that is set outside of studies, read when first asked for.

    Attributes:
        config: pytest's.
    """

    def __init__(self, config: pytest.Config) -> None:
        """Take pytest's options and settings."""
        self.config = config

    @functools.cached_property
    def other_runners(self) -> tuple[str, ...]:
        """Runners that other packages bring."""
        return tuple(name for name in names(RUNNERS) if name not in _BUILT_IN)

    @functools.cached_property
    def user(self) -> user_config.Found:
        """The user's own settings."""
        path = user_config.find(self.config.rootpath, os.environ)
        if path is None:
            return user_config.Found(UserConfig())
        shown = shown_path(self.config, path)
        return user_config.load(path, shown, known_backends(), self.other_runners)

    @functools.cached_property
    def detected(self) -> Detected:
        """What the file system says of Docker; looked for once."""
        given = self.config.hook.pytest_llem_detect(config=self.config)
        return given if isinstance(given, Detected) else detect()

    @functools.cached_property
    def surroundings(self) -> Surroundings:
        """What holds for every study: defaults below it, and options above it."""
        settings = self.user.settings
        option = self.config.getoption
        over = {"cycles": option("llem_cycles"), "gaps": option("llem_gaps")}
        warmup = option("llem_warmup")
        given = settings.warmup
        return Surroundings(
            backend=settings.default_backend,
            execution={} if settings.cycles is None else {"cycles": settings.cycles},
            warmup=given if given is None or isinstance(given, str) else to_dict(given),
            gaps=Gaps(
                between_experiments=settings.thermal_gaps.between_experiments,
                between_cycles=settings.thermal_gaps.between_cycles,
            ),
            over_execution={key: value for key, value in over.items() if value is not None},
            over_warmup={"prompts": warmup} if isinstance(warmup, int) else warmup,
            runners=self.other_runners,
        )

    # --- containers -------------------------------------------------------------------------

    def containers(self, study: Study) -> tuple[DockerSettings, ...]:
        """Who says how a study's containers are run, highest first."""
        above = DockerSettings(pull=self.config.getoption("llem_pull"))
        return above, study.docker, self.user.settings.docker

    def skips_preflight(self, study: Study) -> str | None:
        """Who says that a study's containers are started without looking first; None for nobody."""
        if self.config.getoption("llem_skip_preflight"):
            return "command line"
        sources = {
            "execution.skip_preflight": study.execution.skip_preflight,
            "docker.skip_preflight": study.docker.skip_preflight,
            ".lem-config.yaml": self.user.settings.docker.skip_preflight,
        }
        said = ((source, value) for source, value in sources.items() if value is not None)
        source, skips = next(said, ("", False))
        return source if skips else None

    # --- runners and images ----------------------------------------------------------------

    def runner(self, study: Study, experiment: Experiment) -> RunnerSpec:
        """Where an experiment runs, in which image.

        Raises:
            RunnerError: when the winning source names no runner, or a setting can't be read.
        """
        backend = experiment.backend
        sources = {**self._above("runner"), "study": study.runners, **self._below("runner")}
        spec = resolve.resolve(backend, sources, self.detected, self.other_runners)
        spec = self._with_python(spec, study)
        image, source = self._image(spec, study, experiment)
        if spec.mode == "docker" and image is None and not spec.chosen:
            # Nobody asked for a container, and there is none to be had for this backend.
            return RunnerSpec(mode="local", source="default")
        return _with(spec, image, source, backend)

    def with_image(self, spec: RunnerSpec, study: Study, experiment: Experiment) -> RunnerSpec:
        """A runner with the image of its containers.

        Raises:
            RunnerError: when there is no image for the backend.
        """
        return _with(spec, *self._image(spec, study, experiment), experiment.backend)

    def _image(
        self, spec: RunnerSpec, study: Study, experiment: Experiment
    ) -> tuple[str | None, str | None]:
        """The image of an experiment's containers, and who said so."""
        if spec.mode != "docker":
            return None, None
        backend = experiment.backend
        variable = {"env": {backend: os.environ.get(f"LLEM_IMAGE_{backend.upper()}", "")}}
        sources = {**variable, "study": study.images, **self._below("image")}
        return images.choose(backend, spec, experiment.image, sources)

    def _with_python(self, spec: RunnerSpec, study: Study) -> RunnerSpec:
        """A local runner with the absolute path of its interpreter, should it name one."""
        if spec.mode != "local" or spec.argument is None:
            return spec
        folders = {"study": study.path.parent, "cli": self.config.invocation_params.dir}
        try:
            python = located(spec.argument, folders.get(spec.source, self.config.rootpath))
        except RunnerError as error:
            raise RunnerError(f"{spec.source}: {error}") from None
        return dataclasses.replace(spec, argument=python)

    @functools.cached_property
    def _cli(self) -> dict[str, str]:
        """Both spellings of the command line's choice; the specific one wins."""
        found = resolve.parse_pairs(self.config.getoption("llem_runner") or [], "--llem-runner")
        for backend in WELL_KNOWN:
            if value := self.config.getoption(f"llem_runner_{backend}"):
                found[backend] = value
        self._refuse_unknown("cli", found)
        return found

    def _ini(self, name: str) -> dict[str, str]:
        found = resolve.parse_pairs(self.config.getini(name), f"ini {name}")
        self._refuse_unknown(f"ini {name}", found)
        return found

    def _refuse_unknown(self, source: str, found: Mapping[str, str]) -> None:
        """A backend that nobody knows is a typo, and never ignored."""
        for name in found:
            if name not in known_backends():
                hint = nearest(name, known_backends())
                raise RunnerError(f"{source}: unknown backend {name!r}; {hint}")

    def _above(self, what: str) -> dict[str, Mapping[str, str]]:
        """What beats a study."""
        variables = {
            backend: os.environ.get(f"LLEM_{what.upper()}_{backend.upper()}", "")
            for backend in known_backends()
        }
        return {"cli": self._cli, "env": variables}

    def _below(self, what: str) -> dict[str, Mapping[str, str]]:
        """What a study beats."""
        settings = self.user.settings
        own = settings.runners if what == "runner" else settings.images
        return {"ini": self._ini(f"llem_{what}s"), "user_config": own}


def _with(spec: RunnerSpec, image: str | None, source: str | None, backend: str) -> RunnerSpec:
    """A runner with its image, which a container can't be without."""
    if spec.mode == "docker" and image is None:
        raise RunnerError(
            f"{spec.source}: docker: there is no image for backend {backend};"
            f" name one, for example --llem-runner {backend}=docker:<image>"
        )
    return dataclasses.replace(spec, image=image, image_source=source)
