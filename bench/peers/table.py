"""What was measured beside what was wanted, as Markdown."""

import statistics
from collections.abc import Iterator, Sequence

from peers.catalogue import PEERS
from peers.comparing import Findings
from peers.windows import Comparison

CONNECTIONS = (1, 16, 64)
CNN_CONNECTIONS = (16, 64)
LABELS = {peer.name: peer.label for peer in PEERS}


def goals(findings: Findings) -> str:
    """Return the table of the goals."""
    lines = [_line("what", "goal", "measured"), _line("---", "---", "---")]
    return "\n".join(lines + [_line(*row) for row in _rows(findings)])


def _rows(found: Findings) -> Iterator[tuple[str, str, str]]:
    yield (
        "requests/s over a bare Starlette echo under uvicorn, 1 / 16 / 64",
        "at least 0.70 / 1.0 / 1.1",
        over(found, "echo"),
    )
    yield (
        "CPU per request at 64 over the echo's; p50 at 1 connection over the echo's",
        "at most 1.0; at most 1.5",
        f"{_echo(found, 64, 'cpu_us')}; {_echo(found, 1, 'p50_ms')}",
    )
    yield (
        "over LitServe; BentoML; MLServer (best mode of each)",
        "at least 5 / 10 / 10",
        "; ".join(over(found, peer) for peer in ("litserve", "bentoml", "mlserver")),
    )
    yield (
        "over Ray Serve with HAProxy; over FastAPI with the same codec",
        "at least 3 / 4 / 4; 2.5 / 4 / 4.5",
        f"{over(found, 'ray')}; {over(found, 'fastapi')}",
    )
    yield ("over PyTriton", "at least 10 / 5 / 2.5", over(found, "pytriton"))
    yield (
        "over mosec (better of its modes)",
        "at least 1.3 / 1.8 / 1.0",
        over(found, "mosec"),
    )
    yield (
        "NatureCNN 84x84x4, 16 / 64: micro-batch over inline; mosec; LitServe",
        "at least 1.7; 1.2; 4",
        "; ".join(over(found, name, "CNN") for name in ("inline", "mosec", "litserve")),
    )
    yield (
        "resident memory over LitServe's; cold start to first 200 over the echo's",
        "at most 0.5; at most 3",
        f"{_memory(found)}; {_cold(found)}",
    )
    yield (
        "p99 under half of the load that both can take, over the echo's",
        "",
        _half_load(found),
    )


def over(findings: Findings, peer: str, workload: str = "MLP") -> str:
    """Return ours over the best mode of `peer`, for each number of connections."""
    counts = CONNECTIONS if workload == "MLP" else CNN_CONNECTIONS
    modes = [findings.of(workload, peer, count) for count in counts]
    failed = findings.failures(workload, peer)
    if not all(modes):
        return f"{LABELS.get(peer, peer)} did not run" if failed else "not measured"
    text = " / ".join(_number(min(c.ratio("rate") for c in found)) for found in modes)
    refused = sum(c.failures[1] for found in modes for c in found)
    notes = [f"{refused} of its answers not 200"] if refused else []
    notes += ["not all of its modes ran"] if failed else []
    return f"{text} ({'; '.join(notes)})" if notes else text


def _echo(findings: Findings, connections: int, figure: str) -> str:
    found = findings.of("MLP", "echo", connections)
    return _number(found[0].ratio(figure)) if found else "not measured"


def _half_load(findings: Findings) -> str:
    taken = findings.half_load
    return _number(taken[0].ratio("p99_ms")) if taken else "not measured"


def _memory(findings: Findings) -> str:
    ours = findings.memory.get("MLP ours")
    theirs = [
        memory.megabytes
        for label, memory in findings.memory.items()
        if label.startswith("MLP litserve")
    ]
    if ours is None or not theirs:
        return "not measured"
    return _number(ours.megabytes / min(theirs))


def _cold(findings: Findings) -> str:
    ours, echo = (findings.cold_s.get(f"MLP {name}") for name in ("ours", "echo"))
    if not ours or not echo:
        return "not measured"
    pairs = zip(ours, echo, strict=False)
    return _number(statistics.median(mine / its for mine, its in pairs))


def modes(findings: Findings) -> str:
    """Return the table of every mode of every server, beside ours."""
    head = (
        "server, mode",
        "ours over it, by connections",
        "its p50 ms",
        "its p99 ms",
        "us CPU",
        "ours",
        "cold s",
        "MB (processes)",
    )
    lines = [_line(*head), _line(*["---"] * len(head))]
    seen = dict.fromkeys((c.workload, c.second) for c in findings.comparisons)
    return "\n".join(lines + [_mode(findings, *server) for server in seen])


def _mode(findings: Findings, workload: str, server: str) -> str:
    found = [
        comparison
        for comparison in findings.comparisons
        if (comparison.workload, comparison.second) == (workload, server)
    ]
    label = f"{workload} {server}"
    memory = findings.memory[label]
    cpu_ours, cpu_its = found[-1].medians("cpu_us")
    cold = statistics.median(findings.cold_s[label])
    return _line(
        label,
        " / ".join(f"{c.connections}: {_number(c.ratio('rate'))}" for c in found),
        _its(found, "p50_ms"),
        _its(found, "p99_ms"),
        f"{cpu_its:.0f}",
        f"{cpu_ours:.0f}",
        f"{cold:.2f}",
        f"{memory.megabytes:.0f} ({memory.processes})",
    )


def _its(found: Sequence[Comparison], figure: str) -> str:
    return " / ".join(f"{comparison.medians(figure)[1]:.2f}" for comparison in found)


def _number(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}"


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
