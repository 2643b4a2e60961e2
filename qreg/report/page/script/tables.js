// Tables: a click on a heading sorts the rows, and a button saves them as CSV.

const WORDS = { equal: Infinity, exact: Infinity, yes: 1, no: 0 };

/** What a text is sorted by: its first number if it begins with one, or else the text. */
function sortKey(text) {
  if (text in WORDS) return WORDS[text];
  const number = /^[<>]?(-?[\d,]*\.?\d+(?:e[+-]?\d+)?)/.exec(text);
  return number ? Number(number[1].replaceAll(",", "")) : text;
}

function compared(one, other) {
  if (typeof one === typeof other && one !== "" && other !== "") {
    return typeof one === "number" ? one - other : one.localeCompare(other);
  }
  return typeof one === "number" ? -1 : typeof other === "number" ? 1 : one === "" ? 1 : -1;
}

/** The rows, each with the remarks below it. */
function rowsOf(table) {
  const found = [];
  for (const row of table.tBodies[0].rows) {
    if (row.classList.contains("remark")) found.at(-1).push(row);
    else found.push([row]);
  }
  return found;
}

/** Sorts by a column; a second time, the other way around. What is empty stays below. */
function sort(heading) {
  const table = heading.closest("table");
  const column = [...heading.parentElement.children].indexOf(heading);
  const down = heading.getAttribute("aria-sort") === "ascending";
  for (const each of heading.parentElement.children) each.setAttribute("aria-sort", "none");
  heading.setAttribute("aria-sort", down ? "descending" : "ascending");
  const keyed = rowsOf(table).map((rows) => [sortKey(rows[0].cells[column].textContent), rows]);
  keyed.sort(([one], [other]) => {
    const empty = (one === "") - (other === "");
    return empty || compared(one, other) * (down ? -1 : 1);
  });
  table.tBodies[0].append(...keyed.flatMap(([, rows]) => rows));
}

/** A cell of CSV; a spreadsheet must not take the text of a model for a formula. */
function quoted(text) {
  const safe = /^[=+@\t\r]|^-(?![\d.])/.test(text) ? `'${text}` : text;
  return `"${safe.replaceAll('"', '""')}"`;
}

function csvOf(table) {
  const heads = [...table.tHead.rows[0].cells].map((each) => each.textContent);
  const lines = rowsOf(table).map(([row, ...remarks]) => [
    ...[...row.cells].map((each) => each.textContent),
    remarks.map((each) => each.textContent).join(" "),
  ]);
  if (lines.some((line) => line.at(-1))) heads.push("remarks");
  else lines.forEach((line) => line.pop());
  return [heads, ...lines].map((line) => line.map(quoted).join(",")).join("\r\n") + "\r\n";
}

function saveCsv(button) {
  const table = button.closest(".sheet").querySelector("table");
  const link = element("a", { download: button.dataset.csv });
  link.href = URL.createObjectURL(new Blob([csvOf(table)], { type: "text/csv" }));
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

document.addEventListener("click", (event) => {
  const heading = event.target.closest("th");
  const button = event.target.closest("[data-csv]");
  if (heading) sort(heading);
  if (button) saveCsv(button);
});
