"use strict";
// Sorts and filters the table; what it leaves out fades in the figures. Without it all is shown.
const table = document.querySelector("table.main");
if (table) {
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const marks = new Map();
  for (const mark of document.querySelectorAll("a.mark")) {
    const key = mark.getAttribute("href").slice(1);
    marks.set(key, [...(marks.get(key) || []), mark]);
  }

  const value = (row, column) => {
    const text = row.cells[column].dataset.v ?? row.cells[column].textContent.trim();
    return text === "" || Number.isNaN(Number(text)) ? text.toLowerCase() : Number(text);
  };
  const order = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), undefined, { numeric: true });
  };
  const sort = (head) => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const keyed = rows.map((row, index) => ({ row, index, key: value(row, head.cellIndex) }));
    keyed.sort((a, b) => {
      // What is missing stands last, whichever way.
      if (a.key === "" || b.key === "") return (a.key === "") - (b.key === "") || a.index - b.index;
      return (up ? 1 : -1) * order(a.key, b.key) || a.index - b.index;
    });
    body.append(...keyed.map((each) => each.row));
  };
  for (const head of table.tHead.rows[0].cells) {
    const button = head.querySelector("button");
    if (button) button.addEventListener("click", () => sort(head));
  }

  const words = document.getElementById("words");
  const chosen = Array.from(document.querySelectorAll(".tools select"));
  const shown = document.getElementById("shown");
  const filter = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of rows) {
      const fits =
        wanted.every((word) => row.dataset.words.includes(word)) &&
        chosen.every((each) => !each.value || row.dataset[each.name] === each.value);
      row.hidden = !fits;
      count += fits;
      const key = row.dataset.key;
      for (const mark of marks.get(key) || []) mark.classList.toggle("off", !fits);
      document.getElementById(key)?.classList.toggle("off", !fits);
    }
    shown.textContent = `${count} of ${rows.length}`;
  };
  words.addEventListener("input", filter);
  for (const each of chosen) each.addEventListener("change", filter);
  document.querySelector(".tools").hidden = false;
}

// A link to an experiment opens it.
const open = () => {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  if (target instanceof HTMLDetailsElement) {
    target.classList.remove("off");
    target.open = true;
    target.scrollIntoView();
  }
};
window.addEventListener("hashchange", open);
open();
