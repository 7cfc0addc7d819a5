"use strict";
// Sort by a column's numbers, those that a cell begins with where it names none, or else by its text; cells without a
// number stay at the end.
for (const table of document.querySelectorAll("table.board")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, at) => head.firstChild.addEventListener("click", () => {
    const falls = head.getAttribute("aria-sort") !== "descending" && at > 0 || head.getAttribute("aria-sort") === "ascending";
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", falls ? "descending" : "ascending");
    const compare = (a, b) => {
      const [x, y] = [number(a.cells[at]), number(b.cells[at])], way = falls ? -1 : 1;
      if (x !== null || y !== null) return (x === null) - (y === null) || way * (x - y);
      return way * a.cells[at].textContent.localeCompare(b.cells[at].textContent, undefined, {numeric: true});
    };
    const body = table.tBodies[0];
    body.append(...[...body.rows].sort(compare));
  }));
}
function number(cell) {
  const said = cell.dataset.value ?? /^-?[\d,]*\.?\d+/.exec(cell.textContent)?.[0].replaceAll(",", "");
  return said === undefined ? null : Number(said);
}
// What is folded away is not searched: it has numbers of its own.
function shown(row) {
  return [...row.cells].map((cell) => (cell.querySelector("summary") ?? cell).textContent).join(" ").toLowerCase();
}
for (const input of document.querySelectorAll("input[type=search]")) {
  const rows = input.closest("section").querySelector("table.board").tBodies[0].rows;
  input.addEventListener("input", () => {
    for (const row of rows) row.hidden = !shown(row).includes(input.value.toLowerCase());
  });
}
