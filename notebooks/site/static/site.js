// A browser lets no page read its neighbours on disk, so results found there come without their excerpts.
if (location.protocol === "file:") {
  DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
}

// What scrolls sideways shows that there is more to the right.
const mark = box => box.classList.toggle("more", box.scrollWidth - box.clientWidth - box.scrollLeft > 4);

addEventListener("load", () => {
  const boxes = document.querySelectorAll(".table-box, .cell_output a:has(> img), .formula");
  const sized = new ResizeObserver(entries => entries.forEach(({target}) => mark(target)));
  for (const box of boxes) {
    sized.observe(box);
    box.addEventListener("scroll", () => mark(box), {passive: true});
  }
});
