"""The style sheet of a report: light and dark, screen and paper."""

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --faint: #5b6470; --ground: #ffffff; --card: #f5f6f8;
  --line: #dfe3e8; --accent: #0a6c8f; --best: #e3f3ee; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --faint: #a2abb6; --ground: #14171b;
  --card: #1e2329;
  --line: #343b44; --accent: #6cc3e0; --best: #14382f; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 40px 24px 72px; }
header p, section > p { max-width: 46em; margin: 0 0 .8em; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 .5em; letter-spacing: -.01em; }
h2 { font-size: 1.25rem; margin: 2.4em 0 .6em; padding-top: .9em; border-top: 1px solid var(--line); }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(172px, 1fr)); gap: 12px;
  list-style: none;
  margin: 1.6em 0 0; padding: 0; }
.facts li { background: var(--card); border-radius: 10px; padding: 14px 16px; color: var(--faint);
  font-size: .88rem;
  line-height: 1.35; }
.facts b { display: block; white-space: nowrap; color: var(--ink); font-size: 1.55rem; line-height: 1.25;
  font-variant-numeric: tabular-nums;
  letter-spacing: -.01em; }
.wide { overflow-x: auto; margin: 0 0 1.2em; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; }
th, td { padding: 7px 14px 7px 0; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
thead th { color: var(--faint); font-weight: 600; vertical-align: bottom;
  white-space: normal; line-height: 1.25; }
tbody th { font-weight: 600; }
td.best { font-weight: 700;
  background: linear-gradient(var(--best), var(--best)) right / calc(100% - 8px) 100% no-repeat; }
td { padding-left: 8px; }
table.text td { text-align: left; white-space: normal; vertical-align: top; }
table.text th { text-align: left; }
table.made { table-layout: fixed; width: 100%; }
table.made th { width: 13em; color: var(--faint); font-weight: 400; text-align: left; vertical-align: top;
  white-space: normal; }
table.made td { text-align: left; white-space: normal; overflow-wrap: anywhere;
  font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: .84rem; }
figure { margin: 0 0 1.6em; }
figure img { display: block; max-width: 100%; height: auto; background: #ffffff;
  border: 1px solid var(--line);
  border-radius: 8px; padding: 10px; }
figcaption { color: var(--faint); font-size: .88rem; margin-top: .45em; max-width: 52em; }
details { margin: 0 0 .8em; }
summary { cursor: pointer; color: var(--accent); }
pre { overflow-x: auto; background: var(--card); border-radius: 8px; padding: 12px 14px; font-size: .82rem;
  line-height: 1.45; }
@media print {
  :root { --ink: #000000; --faint: #444444; --ground: #ffffff; --card: #f3f3f3; --line: #cccccc;
  --best: #e6e6e6; }
  main { max-width: none; padding: 0; }
  figure, table, .facts li { break-inside: avoid; }
  h2 { break-after: avoid; }
}
"""
