"use strict";
// Sort by a column's numbers, or by its text where it has none; rows without a number stay at the end.
for (const table of document.querySelectorAll("table.board")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, at) => head.firstChild.addEventListener("click", () => {
    const falls = head.getAttribute("aria-sort") !== "descending" && at > 0 || head.getAttribute("aria-sort") === "ascending";
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", falls ? "descending" : "ascending");
    const value = (row) => row.cells[at].dataset.value;
    const compare = (a, b) => value(a) !== undefined || value(b) !== undefined
      ? (value(a) === undefined) - (value(b) === undefined) || (falls ? value(b) - value(a) : value(a) - value(b))
      : (falls ? -1 : 1) * row_text(a, at).localeCompare(row_text(b, at));
    const body = table.tBodies[0];
    body.append(...[...body.rows].sort(compare));
  }));
}
function row_text(row, at) { return row.cells[at].textContent; }
for (const input of document.querySelectorAll("input[type=search]")) {
  const rows = input.closest("section").querySelector("table.board").tBodies[0].rows;
  input.addEventListener("input", () => {
    for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(input.value.toLowerCase());
  });
}
