/* Regions that scroll sideways on a narrow screen can be reached and scrolled with the keyboard. */
document.addEventListener("DOMContentLoaded", () => {
  const wide = ".pst-scrollable-table-container, div.cell_output .text_html, div.math, div.highlight pre, .cell_output pre";
  const mark = () => {
    for (const box of document.querySelectorAll(wide))
      if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
  };
  mark();
  window.addEventListener("resize", mark);
  window.addEventListener("load", () => setTimeout(mark, 200));
});
