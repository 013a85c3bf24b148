"""What does the page of a report look like, and how do its tables sort? Style and script, both inside the page."""

from __future__ import annotations

import base64
import hashlib

from .style import ROLES

__all__ = ["SCRIPT", "document", "policy"]

STYLE = """
:root { color-scheme: light dark;
  --text: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  --mono: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; %(light)s }
@media (prefers-color-scheme: dark) { :root { %(dark)s } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%%; text-size-adjust: 100%%; scroll-padding-top: 1rem; }
body { margin: 0 auto; max-width: 74rem; padding: 1.5rem clamp(1rem, 3vw, 2.5rem) 4rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.55 var(--text); overflow-wrap: break-word; }
h1 { font-size: clamp(1.45rem, 1.1rem + 1.6vw, 2.1rem); line-height: 1.2; letter-spacing: -0.015em;
  margin: 0.5rem 0 0.35rem; }
h2 { font-size: 1.22rem; line-height: 1.3; margin: 3.2rem 0 0.3rem; padding-top: 0.9rem;
  border-top: 2px solid var(--ink); }
h3 { font-size: 1rem; margin: 1.8rem 0 0.4rem; }
p { margin: 0.4rem 0 0.8rem; max-width: 46rem; }
.lead, .note, figcaption { color: var(--muted); }
.note, figcaption { font-size: 0.86rem; }
a { color: var(--series-1); text-underline-offset: 0.15em; }
code { font: 0.88em var(--mono); overflow-wrap: anywhere; }
pre { font: 0.86rem/1.5 var(--mono); white-space: pre-wrap; overflow-wrap: anywhere; background: var(--band);
  padding: 0.7rem 0.9rem; border-radius: 4px; margin: 0.4rem 0 1rem; }
nav ul { display: flex; flex-wrap: wrap; gap: 0.25rem 1.1rem; list-style: none; padding: 0; margin: 1rem 0 0;
  font-size: 0.92rem; }
.facts { display: flex; flex-wrap: wrap; gap: 0.9rem 2.4rem; margin: 1.3rem 0 0; padding: 0; }
.facts div { min-width: 6rem; }
.facts dt { color: var(--muted); font-size: 0.82rem; }
.facts dd { margin: 0; font-size: 1.35rem; font-weight: 600; font-variant-numeric: tabular-nums; line-height: 1.3; }
.facts dd.bad { color: var(--series-2); }
.warning { border-left: 4px solid var(--series-2); background: var(--band); padding: 0.55rem 0.9rem;
  margin: 0.6rem 0; max-width: none; }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%%, 25rem), 1fr)); gap: 1.6rem 2.2rem;
  margin: 1rem 0 0; align-items: start; }
.small { grid-template-columns: repeat(auto-fill, minmax(min(100%%, 20.5rem), 1fr)); gap: 1.3rem 1.3rem; }
figure { margin: 0; min-width: 0; }
figure svg { display: block; width: 100%%; height: auto; overflow: hidden; }
svg * { stroke-linejoin: round; stroke-linecap: butt; }
figcaption { margin-top: 0.15rem; font-size: 0.8rem; }
.box { overflow: auto; width: fit-content; max-width: 100%%; max-height: 78vh; border: 1px solid var(--grid);
  border-radius: 4px; margin: 0.6rem 0 0.4rem; }
.box:focus-visible { outline: 2px solid var(--series-1); outline-offset: 2px; }
table { border-collapse: separate; border-spacing: 0; font-size: 0.86rem; line-height: 1.35;
  font-variant-numeric: tabular-nums; }
th, td { padding: 0.32rem 0.6rem; text-align: left; vertical-align: top; white-space: nowrap;
  border-bottom: 1px solid var(--grid); }
thead th { position: sticky; top: 0; z-index: 1; background: var(--band); font-weight: 600; vertical-align: bottom; }
tbody tr:last-child > * { border-bottom: 0; }
tbody th { font-weight: 600; }
td.n, th.n { text-align: right; }
td.wide { white-space: normal; min-width: 16rem; max-width: 40rem; overflow-wrap: anywhere; }
td.name, th.name { max-width: 18rem; overflow-wrap: anywhere; white-space: normal; min-width: 8.5rem; }
tr.failed > * { background: var(--band); }
.bad { color: var(--series-2); font-weight: 600; }
th button { all: unset; cursor: pointer; font-weight: 600; }
th button:focus-visible { outline: 2px solid var(--series-1); }
th button::after { content: " \\2195"; color: var(--muted); font-weight: 400; }
th[aria-sort=ascending] button::after { content: " \\2191"; color: inherit; }
th[aria-sort=descending] button::after { content: " \\2193"; color: inherit; }
.filter { display: block; margin: 0.8rem 0 0; font-size: 0.86rem; color: var(--muted); }
.filter input { font: inherit; color: var(--ink); background: var(--paper); border: 1px solid var(--muted);
  border-radius: 4px;
  padding: 0.3rem 0.6rem; width: min(100%%, 22rem); margin: 0 0.5rem 0 0; }
details { margin: 0.5rem 0; }
summary { cursor: pointer; font-weight: 600; overflow-wrap: anywhere; }
@media print { .box { max-height: none; overflow: visible; } nav, .filter { display: none;
  } figure { break-inside: avoid; } }
"""

SCRIPT = """
"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = row => row.cells[column].dataset.v ?? row.cells[column].textContent;
      const compare = (a, b) => {
        const x = value(a), y = value(b), empty = v => v === "" || v === "\\u2013";
        if (empty(x) || empty(y)) return empty(x) - empty(y);
        const order = isNaN(x) || isNaN(y) ? x.localeCompare(y, undefined, {numeric: true}) : x - y;
        return down ? -order : order;
      };
      body.append(...[...body.rows].sort(compare));
    });
  });
  if (body.rows.length > 12) {
    const [label, input, said] = ["label", "input", "span"].map(name => document.createElement(name));
    label.className = "filter";
    input.type = "search";
    input.placeholder = "words that a row must have";
    input.setAttribute("aria-label", "Show only rows with these words");
    said.setAttribute("role", "status");
    label.append(input, said);
    table.parentElement.before(label);
    const texts = [...body.rows].map(row => [row, row.textContent.toLowerCase()]);
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\\s+/).filter(Boolean);
      let shown = 0;
      for (const [row, text] of texts) {
        row.hidden = !words.every(word => text.includes(word));
        shown += !row.hidden;
      }
      said.textContent = words.length ? `${shown} of ${texts.length} rows` : "";
    });
  }
}
"""


def policy() -> str:
    """What the page may load and run: its own style, this one script, nothing else."""
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def document(title: str, body: str) -> str:
    """A whole page; `title` and `body` are markup."""
    light, dark = ("; ".join(f"--{role}: {pair[side]}" for role, pair in ROLES.items()) + ";" for side in (0, 1))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy()}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n<link rel="icon" href="data:,">\n'
        f"<title>{title}</title>\n<style>{STYLE % {'light': light, 'dark': dark}}</style>\n</head>\n"
        f"<body>\n{body}\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )
