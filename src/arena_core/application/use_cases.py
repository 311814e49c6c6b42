"""Everything that one caller can do, in one place."""

from collections.abc import Callable

from attrs import field, frozen

from arena_core.application.agents import Agents
from arena_core.application.audit import Audit
from arena_core.application.deployments import Deployments
from arena_core.application.experiments import Experiments
from arena_core.application.imports import Imports
from arena_core.application.invitations import Invitations
from arena_core.application.keys import DeploymentKeys
from arena_core.application.measurements import Measurements
from arena_core.application.metering import Metering
from arena_core.application.monitoring import Monitoring
from arena_core.application.organisations import Organisations
from arena_core.application.pipelines import Pipelines
from arena_core.application.polling import Polls
from arena_core.application.progress import Progress
from arena_core.application.projects import Projects
from arena_core.application.serving import Registry
from arena_core.application.session import Core, Session
from arena_core.application.sign_ins import SignIns, new_polls
from arena_core.application.tallies import LogTally
from arena_core.application.telemetry import Telemetry
from arena_core.application.tokens import Tokens
from arena_core.application.training import Training
from arena_core.application.users import Users
from arena_core.domain.values import Caller


@frozen
class Application:
    """The ports and policies of one process, from which use cases are made."""

    core: Core
    registry: Registry
    keys: DeploymentKeys
    random_bytes: Callable[[int], bytes] = field(repr=False)
    progress: Progress = field(factory=Progress, repr=False)
    metering: Metering = field(kw_only=True, repr=False)
    tally: LogTally = field(kw_only=True, repr=False)
    polls: Polls = field(factory=new_polls, kw_only=True, repr=False)

    @property
    def telemetry(self) -> Telemetry:
        """What this process counts of its own work."""
        return self.metering.telemetry

    def on_behalf_of(self, caller: Caller, *, as_of: int | None = None) -> "UseCases":
        """Return what `caller` can do, now or looking at a position of the past."""
        return UseCases(self, Session(self.core, caller, as_of))


@frozen
class UseCases:
    _application: Application
    session: Session

    @property
    def projects(self) -> Projects:
        return Projects(self.session)

    @property
    def experiments(self) -> Experiments:
        return Experiments(self.session)

    @property
    def measurements(self) -> Measurements:
        return Measurements(self.session)

    @property
    def set_aside(self) -> int:
        """How many stages and trainings wait, for something is wrong with them."""
        return self._application.metering.set_aside()

    @property
    def training(self) -> Training:
        return Training(self.session)

    @property
    def pipelines(self) -> Pipelines:
        return Pipelines(self.session)

    @property
    def imports(self) -> Imports:
        return Imports(self.session, self._application.progress)

    @property
    def agents(self) -> Agents:
        return Agents(self.session, self._application.registry, self._application.keys)

    @property
    def deployments(self) -> Deployments:
        return Deployments(self.session, self.agents)

    @property
    def tokens(self) -> Tokens:
        return Tokens(self.session, self._application.random_bytes)

    @property
    def sign_ins(self) -> SignIns:
        application = self._application
        return SignIns(self.session, application.random_bytes, application.polls)

    @property
    def users(self) -> Users:
        return Users(self.session)

    @property
    def organisations(self) -> Organisations:
        return Organisations(self.session)

    @property
    def invitations(self) -> Invitations:
        return Invitations(self.session, self._application.random_bytes)

    @property
    def monitoring(self) -> Monitoring:
        application = self._application
        return Monitoring(self.session, application.metering, application.tally)

    @property
    def audit(self) -> Audit:
        return Audit(self.session)
