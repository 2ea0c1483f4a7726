"""How the page looks and what it does."""

from experiments.comparing.pictures.inks import INKS


def _variables(which: int) -> str:
    return " ".join(f"--{name}: {inks[which]};" for name, inks in INKS.items())


_RULES = """
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.55 -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans",
    "Liberation Sans", Arial, sans-serif;
  -webkit-text-size-adjust: 100%;
}
main { max-width: 76rem; margin: 0 auto; padding: 2.5rem 2rem 4rem; }
h1, h2, h3 { line-height: 1.25; overflow-wrap: anywhere; text-wrap: balance; }
h1 { font-size: 1.9rem; font-weight: 650; margin: 0; letter-spacing: -0.01em; }
h2 { font-size: 1.3rem; font-weight: 650; margin: 3rem 0 0.8rem; }
h3 { font-size: 1rem; font-weight: 600; margin: 1.6rem 0 0.5rem; }
p, li { overflow-wrap: anywhere; }
p, ul { max-width: 46rem; }
header p { margin: 0.3rem 0 0; }
header p, .notes, figcaption, .reading { color: var(--soft); font-size: 0.875rem; }
ul { margin: 0.8rem 0; padding-left: 1.2rem; }
.answer, .notes { list-style: none; padding: 0; }
.answer { font-size: 1.0625rem; }
.answer li { margin: 0.5rem 0; }
.warnings {
  list-style: none; margin: 1.2rem 0 0; padding: 0.6rem 1rem;
  border-left: 3px solid var(--red);
}
.box { overflow-x: auto; max-width: 100%; margin: 0.4rem 0; }
:focus-visible { outline: 2px solid var(--blue); outline-offset: 2px; }
table {
  border-collapse: separate; border-spacing: 0; font-size: 0.875rem;
  font-variant-numeric: tabular-nums;
}
th, td {
  padding: 0.36rem 0.7rem; text-align: left; vertical-align: baseline;
  border-bottom: 1px solid var(--faint); white-space: nowrap; font-weight: 400;
}
thead th, thead td { border-bottom-color: var(--soft); vertical-align: bottom; }
thead th { font-weight: 600; }
thead tr:first-child:not(:last-child) > * { border-bottom: 0; padding-bottom: 0; }
.group {
  color: var(--soft);
  background: linear-gradient(var(--faint), var(--faint)) bottom no-repeat;
  background-size: calc(100% - 1.4rem) 1px;
}
th:last-child, td:last-child { padding-right: 0.2rem; }
.number { text-align: right; }
.soft { color: var(--soft); }
th:first-child, thead td:first-child {
  position: sticky; left: 0; z-index: 1; background: var(--ground); padding-left: 0;
}
tbody th {
  min-width: 8rem; max-width: 20rem; white-space: normal; overflow-wrap: break-word;
}
tbody tr:hover > * { background: color-mix(in srgb, var(--faint) 45%, var(--ground)); }
.pair .box { max-height: 44rem; overflow-y: auto; }
.pair thead { position: sticky; top: 0; z-index: 2; background: var(--ground); }
th button {
  all: unset; cursor: pointer; position: relative; white-space: nowrap;
}
th button::after {
  content: "\\2195"; color: var(--soft); opacity: 0.45; font-weight: 400;
  display: inline-block; width: 1em; text-align: right;
}
th[aria-sort="ascending"] button::after { content: "\\2191"; opacity: 1; }
th[aria-sort="descending"] button::after { content: "\\2193"; opacity: 1; }
th button:hover { text-decoration: underline; text-underline-offset: 0.2em; }
th button:focus-visible { outline: 2px solid var(--blue); outline-offset: 2px; }
.pair { display: grid; gap: 0.5rem 2.5rem; align-items: start; }
.pictures { display: grid; gap: 2rem 2.5rem; align-items: start; }
.pair > *, .pictures > * { min-width: 0; }
figure { margin: 0; max-width: 40rem; }
figure h3 { margin-top: 0; }
figcaption { margin-top: 0.3rem; overflow-wrap: anywhere; }
.picture svg {
  display: block; width: 100%; height: auto;
  stroke-linejoin: round; stroke-linecap: butt;
}
details { border-bottom: 1px solid var(--faint); }
summary { cursor: pointer; padding: 0.6rem 0; font-weight: 600;
  overflow-wrap: anywhere; }
pre {
  margin: 0; padding: 0.9rem 1.1rem; border: 1px solid var(--faint);
  border-radius: 6px; white-space: pre-wrap; overflow-wrap: anywhere;
  font: 0.8125rem/1.6 ui-monospace, "Liberation Mono", monospace;
}
pre span { display: inline-block; max-width: 100%; }
@media (min-width: 60rem) {
  .pair { grid-template-columns: minmax(0, 3fr) minmax(0, 2fr); }
  .pair td:last-child { white-space: normal; min-width: 9.5rem; }
  .pictures { grid-template-columns: repeat(2, minmax(0, 1fr)); }
}
@media (max-width: 40rem) {
  main { padding: 1.25rem 1rem 3rem; }
  h1 { font-size: 1.5rem; }
  h2 { margin-top: 2.2rem; }
  th, td { padding: 0.36rem 0.5rem; }
  tbody th { min-width: 7.5rem; max-width: 10rem; }
}
@media print { .box { overflow: visible; max-height: none !important; } }
"""

STYLE = (
    f":root {{ color-scheme: light dark; {_variables(0)} }}\n"
    "@media screen and (prefers-color-scheme: dark) "
    f"{{ :root {{ {_variables(1)} }} }}{_RULES}"
)

# A click on a head sorts by its column; what is unknown stays last.
SCRIPT = """
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  heads.forEach((head, column) => {
    const numbers = head.classList.contains("number");
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const now = head.getAttribute("aria-sort");
      const descending = now ? now === "ascending" : numbers;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const sign = descending ? -1 : 1;
      const value = (row) => row.cells[column].dataset.value;
      const order = (a, b) => {
        const [x, y] = [value(a), value(b)];
        if (x === undefined || y === undefined)
          return (x === undefined) - (y === undefined);
        return sign * (numbers ? x - y : x.localeCompare(y, "en", { numeric: true }));
      };
      body.append(...[...body.rows].sort(order));
    });
  });
}
"""
