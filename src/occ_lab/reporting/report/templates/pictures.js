"use strict";
// Pictures: a click, Enter or the space bar shows one large; the arrow keys walk, Escape closes.
{
  const $ = (id) => document.getElementById(id);
  const buttons = [...document.querySelectorAll(".pictures button")];
  const image = $("sheet").querySelector("img");
  let at = 0;

  function show(index) {
    if (index < 0 || index >= buttons.length) return;
    at = index;
    const { title, about } = buttons[at].dataset;
    const small = document.createElement("small");
    small.textContent = about;
    $("enlarged-title").replaceChildren(`${title} `, small);
    image.src = buttons[at].querySelector("img").src;
    image.alt = title;
    $("previous").disabled = at === 0;
    $("next").disabled = at === buttons.length - 1;
    $("sheet").scrollTo(0, 0);
    if (!$("enlarged").open) $("enlarged").showModal();
  }

  buttons.forEach((button, index) => button.addEventListener("click", () => show(index)));
  $("previous").addEventListener("click", () => show(at - 1));
  $("next").addEventListener("click", () => show(at + 1));
  $("close").addEventListener("click", () => $("enlarged").close());
  $("enlarged").addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const scrolls = event.target === $("sheet") && $("sheet").scrollWidth > $("sheet").clientWidth;
    if (move && !scrolls) show(at + move);
  });
  $("enlarged").addEventListener("close", () => {
    buttons[at]?.scrollIntoView({ block: "nearest" });
    buttons[at]?.focus();
  });
}
