"""An agent in a line: its status, and which checkpoint it has."""

from arena_core.application.resources import AgentView


def status(agent: AgentView) -> str:
    """Return the status of the agent's deployment: Undeployed where it has none."""
    return "Undeployed" if agent.deployment is None else agent.deployment.status.value


def line(agent: AgentView) -> str:
    chosen = agent.checkpoint
    return (
        f"{agent.name}: {status(agent)}, {chosen.type.value} at step {chosen.step} "
        f"({chosen.digest[:12]})"
    )
