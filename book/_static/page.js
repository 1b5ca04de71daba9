/* Small repairs to what the page generator writes, so that every page works from a folder and with a keyboard. */
// A page opened from a folder may not fetch its neighbours: search then lists titles without excerpts.
if (location.protocol === "file:" && typeof DOCUMENTATION_OPTIONS !== "undefined")
  DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;

document.addEventListener("DOMContentLoaded", () => {
  // Bibliography entries have a role of their own, which a list may not contain.
  for (const list of document.querySelectorAll(".citation-list[role=list]")) list.removeAttribute("role");

  // Regions that scroll sideways on a narrow screen can be reached and scrolled with the keyboard.
  const wide = ".pst-scrollable-table-container, div.cell_output .text_html, div.math, .bd-article pre";
  const mark = () => {
    for (const box of document.querySelectorAll(wide)) {
      if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
  };
  const observer = new ResizeObserver(mark);
  observer.observe(document.body);
  window.addEventListener("load", mark);
});
