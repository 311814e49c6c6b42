"""How the picture of a pipeline looks: colours for light and dark, and two icons."""

from arena_core.domain.stage_settings import StageType

ICONS = {
    # A curve that climbs, over its axes.
    StageType.EXPERIMENT: "M8 7v17h17M11 20l5 -6l4 3l5 -8",
    # A rocket that lifts off.
    StageType.DEPLOYMENT: "M16 6c5 4 5 9 3 14h-6c-2 -5 -2 -10 3 -14zM13 20l-3 4M19 20"
    "l3 4M16 20v5M14.5 13a1.5 1.5 0 1 0 3 0a1.5 1.5 0 1 0 -3 0",
}
"""By type of the stage, drawn in a square of 32."""

STYLE = """
.pipeline {
  --paper: #ffffff; --box: #f8fafc; --edge: #d5dce5; --ink: #16202c; --dim: #5a6878;
  --Pending: #8a5a00; --Running: #0b62c4; --Stopping: #8a5a00; --Stopped: #6d3fa8;
  --NotStarted: #5a6878; --Succeeded: #12733b; --Failed: #b3261e;
  --warn: #ffe4a8; --warn-ink: #6b4300;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  font-size: 13px;
}
@media (prefers-color-scheme: dark) {
  .pipeline {
    --paper: #10161d; --box: #18212b; --edge: #334150; --ink: #e8eef4; --dim: #9aa9b8;
    --Pending: #f0b955; --Running: #6cb2ff; --Stopping: #f0b955; --Stopped: #c3a2f5;
    --NotStarted: #9aa9b8; --Succeeded: #58cf8b; --Failed: #ff8a80;
    --warn: #4d3800; --warn-ink: #ffd98a;
  }
}
.NotStarted { --state: var(--NotStarted) } .Pending { --state: var(--Pending) }
.Running { --state: var(--Running) } .Stopping { --state: var(--Stopping) }
.Stopped { --state: var(--Stopped) } .Succeeded { --state: var(--Succeeded) }
.Failed { --state: var(--Failed) }
.canvas { fill: var(--paper) }
.box { fill: var(--box); stroke: var(--edge) }
.Running .box { stroke: var(--state); stroke-width: 1.5 }
.NotStarted .box { stroke-dasharray: 4 4 }
.bar, .dot, .done { fill: var(--state) }
.NotStarted .bar { fill-opacity: 0 }
.NotStarted .dot { fill: none; stroke: var(--state); stroke-width: 1.5 }
.course { fill: var(--edge) }
.pill { fill: var(--state); fill-opacity: 0.12 }
.tile { fill: var(--state); fill-opacity: 0.12 }
.glyph {
  fill: none; stroke: var(--state); stroke-width: 1.8;
  stroke-linecap: round; stroke-linejoin: round
}
text { fill: var(--ink) }
.heading { font-size: 19px; font-weight: 650 }
.name { font-size: 14px; font-weight: 600 }
.muted { fill: var(--dim); font-size: 12px }
.status { fill: var(--state); font-size: 12px; font-weight: 600 }
.stale { fill: var(--warn) }
.stale-word { fill: var(--warn-ink); font-size: 12px; font-weight: 600 }
.fact { font-size: 12px; fill: var(--dim); font-variant-numeric: tabular-nums }
.line { fill: none; stroke: var(--dim); stroke-width: 1.6 }
.manual .line { stroke-dasharray: 5 4 }
.point { fill: var(--dim) }
.label { fill: var(--dim); font-size: 11px }
"""
"""Of the whole picture.  What has a status takes the colour of that name."""
