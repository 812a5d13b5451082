// Draws a page's charts again whenever width, colours or medium change.
"use strict";
const redraw = (draw, folded) => {
  let pending = 0;
  const later = () => { cancelAnimationFrame(pending); pending = requestAnimationFrame(draw); };
  window.addEventListener("resize", later);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", later);

  // On paper the style sheet is light and narrow and nothing can be unfolded: draw for it, then for the screen again.
  let unfolded = [];
  const paper = () => {
    unfolded = unfolded.length ? unfolded : [...document.querySelectorAll(folded)];
    for (const one of unfolded) one.open = true;
    draw();
  };
  const screen = () => {
    for (const one of unfolded) one.open = false;
    unfolded = [];
    draw();
  };
  window.matchMedia("print").addEventListener("change", (event) => (event.matches ? paper() : screen()));
  window.addEventListener("beforeprint", paper);
  window.addEventListener("afterprint", screen);
};
