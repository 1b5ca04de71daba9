/* Small repairs to what the page generator writes, so that every page works from a folder and with a keyboard. */
// A page opened from a folder may not fetch its neighbours: search then lists titles without excerpts.
if (location.protocol === "file:" && typeof DOCUMENTATION_OPTIONS !== "undefined")
  DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;

// A figure's link is copied where the browser allows it, and leads there everywhere.
document.addEventListener("click", async ({ target }) => {
  const link = target.closest?.("a.copy-link");
  const say = (words) => { link.textContent = words; };
  const copied = () => { say("link copied"); setTimeout(say, 2000, "copy link"); };
  if (link) await navigator.clipboard?.writeText(link.href).then(copied, () => {});
});

document.addEventListener("DOMContentLoaded", () => {
  // Bibliography entries have a role of their own, which a list may not contain.
  for (const list of document.querySelectorAll(".citation-list[role=list]")) list.removeAttribute("role");

  // Regions that scroll sideways on a narrow screen can be reached and scrolled with the keyboard.
  const wide = ".pst-scrollable-table-container, div.cell_output .text_html, div.math, .bd-article pre, table.claim-runs, .wide-figure";
  const mark = () => {
    // On a phone a figure of several panels keeps a legible size and scrolls in its own frame.
    for (const img of document.querySelectorAll(".bd-article figure img")) {
      if (img.naturalWidth <= 1000 || img.closest(".wide-figure")) continue;
      let frame = img.closest("a");
      if (!frame) img.replaceWith(frame = document.createElement("div")), frame.append(img);
      frame.classList.add("wide-figure");
    }
    for (const box of document.querySelectorAll(wide)) {
      if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
  };
  const observer = new ResizeObserver(mark);
  observer.observe(document.body);
  window.addEventListener("load", mark);

  // The table of claims can be cut down to a verdict, a project or a word; without a script it is simply whole.
  const tables = [...document.querySelectorAll("table.claims")];
  if (tables.length) {
    const rows = tables.flatMap((table) => [...table.tBodies[0].rows]);
    const verdict = (row) => row.querySelector(".verdict").textContent;
    const choice = (name, values) => {
      const select = document.createElement("select");
      for (const value of ["all", ...new Set(values)]) select.add(new Option(value));
      return [name, select];
    };
    const text = Object.assign(document.createElement("input"), { type: "search", size: 16 });
    const fields = [choice("verdict", rows.map(verdict)), choice("project", rows.map((row) => row.id.split("-")[0])), ["word", text]];
    const bar = Object.assign(document.createElement("div"), { className: "claim-filters" });
    const said = Object.assign(document.createElement("span"), { role: "status" });
    for (const [name, field] of fields) {
      const label = document.createElement("label");
      label.append(name, field);
      bar.append(label);
    }
    bar.append(said);
    bar.addEventListener("input", () => {
      const [word, project] = [fields[0][1].value, fields[1][1].value];
      const kept = (row) => (word === "all" || verdict(row) === word) && (project === "all" || row.id.startsWith(project + "-"))
        && row.textContent.toLowerCase().includes(text.value.trim().toLowerCase());
      for (const row of rows) row.hidden = !kept(row);
      for (const table of tables) {
        table.hidden = ![...table.tBodies[0].rows].some((row) => !row.hidden);
        for (const before of table.closest("section").querySelectorAll(":scope > h3, :scope > p")) before.hidden = table.hidden;
      }
      said.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} claims`;
    });
    (tables[0].closest("section").parentElement.querySelector("p") ?? tables[0]).after(bar);
  }
});
