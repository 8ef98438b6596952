"""One self-contained HTML page of a run: opens offline, holds everything inside."""

import base64
from html import escape
from pathlib import Path
from string import Template

from scarce_cxr.images.atomic import written_whole
from scarce_cxr.images.splits import patients_of
from scarce_cxr.images.store import Store
from scarce_cxr.monitor.reconstruction import MASKED_ERROR
from scarce_cxr.training.run_folder import RunFolder, read_metrics, series

_PAGE = Template(
    """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>$name</title>
<style>
:root { color-scheme: light dark; --ink: #16202b; --quiet: #5a6775; --paper: #fbfbf9; --card: #fff; --line: #dfe3e8;
        --accent: #0b62a4; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6ebf0; --quiet: #9aa7b4; --paper: #0e1318; --card: #161d25; --line: #2a3540; --accent: #6cb8f0; } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 1100px; padding: 2rem 1.2rem 4rem; background: var(--paper); color: var(--ink);
       font: 16px/1.55 system-ui, sans-serif }
h1 { margin: 0; font-size: 1.7rem } h2 { margin: 2.6rem 0 .4rem; font-size: 1.2rem }
p { margin: .3rem 0 .8rem; color: var(--quiet); max-width: 46rem }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .7rem; margin: 1.4rem 0 }
.facts div { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: .7rem .9rem }
.facts b { display: block; font-size: 1.35rem } .facts span { color: var(--quiet); font-size: .85rem }
img { display: block; width: 100%; height: auto; border-radius: .6rem; border: 1px solid var(--line) }
figure { margin: 0 } figcaption { color: var(--quiet); font-size: .85rem; padding: .3rem 0 }
input[type=range] { width: 100%; accent-color: var(--accent); margin: .8rem 0 .2rem }
pre { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: 1rem; overflow-x: auto;
      font-size: .82rem }
.warn { border-left: 4px solid #d9822b; padding: .2rem .8rem; color: var(--quiet) }
@media print { input { display: none } }
</style></head><body>
<h1>$name</h1>
<p>$method pretrained on $films films without labels. $held_out were held out, whole patients at a time.</p>
<p class="warn">Research use only: not a medical device.</p>
<div class="facts">$facts</div>
$sections
<h2>Recipe</h2><p>With this text and the store (fingerprint $store) the run can be repeated.</p>
<details><summary>Every setting</summary><pre>$recipe</pre></details>
<script>
for (const slider of document.querySelectorAll('input[type=range]')) {
  const pictures = slider.parentElement.querySelectorAll('figure');
  const show = () => pictures.forEach((picture, index) => { picture.hidden = index != slider.value });
  slider.addEventListener('input', show); show();
}
</script></body></html>
"""
)


def write_page(run: RunFolder, store_path: Path) -> Path:
    """Writes `report.html` into a run's folder: what was trained, what it paints and how that sharpened.

    Args:
        run: a run with figures and metrics.
        store_path: the store that it was trained on.

    Returns:
        The page's path.
    """
    state, store = run.read_state(), Store.open(store_path)
    rows = read_metrics(run.metrics)
    _, errors = series(rows, MASKED_ERROR, "watch")
    facts = {
        "steps": f"{state['step']:,}",
        "minutes of training": f"{state['seconds'] / 60:.1f}",
        "films in the store": f"{len(store):,}",
        "patients": f"{len(set(patients_of(store.table))):,}",
    }
    if errors:
        facts[f"masked error, {state['held_out']} held-out films (1 = only the mean)"] = f"{errors[-1]:.3f}"
    panels = sorted(run.figures.glob("reconstruction-*.png"))
    sections = []
    if panels:
        figures = "".join(_figure(path, f"Step {int(path.stem.split('-')[1])}") for path in panels)
        slider = (
            f'<input type="range" min="0" max="{len(panels) - 1}" value="{len(panels) - 1}" aria-label="training step">'
        )
        words = "Films of patients that were never trained on. Move the slider through the training to see it sharpen."
        sections.append(f"<h2>What it imagines behind the mask</h2><p>{words}</p><div>{slider}{figures}</div>")
    for file, heading, words in (
        ("curves.png", "Curves", "Loss of the training batches, and masked error on the held-out patients."),
        ("views.png", "Views", "What the recipe makes of films before the network sees them."),
    ):
        if (run.figures / file).is_file():
            sections.append(f"<h2>{heading}</h2><p>{words}</p>{_figure(run.figures / file, '')}")
    recipe = run.recipe.read_text()
    page = _PAGE.substitute(
        name=escape(f"Run {run.path.resolve().name}"),
        method=escape(state["method"]),
        films=f"{state['films']:,}",
        held_out=f"{state['held_out']:,}",
        facts="".join(f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>" for name, value in facts.items()),
        sections="\n".join(sections),
        store=store.fingerprint[:16],
        recipe=escape(recipe),
    )
    path = run.path / "report.html"
    with written_whole(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def _figure(path: Path, caption: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure><img alt="{escape(caption or path.stem)}" src="data:image/png;base64,{data}">{below}</figure>'
