"use strict";
const box = document.querySelector(".compare"), range = box.querySelector("input"), over = box.querySelector(".over");
const first = over.src, name = box.querySelector("em:last-of-type"), buttons = document.querySelectorAll(".tabs button");
const move = () => box.style.setProperty("--at", range.value / 10 + "%");
range.addEventListener("input", move);
// A pointer that only hovers moves the edge too; a finger drags it.
box.addEventListener("pointermove", (e) => {
  if (e.pointerType !== "mouse") return;
  const r = box.getBoundingClientRect();
  range.value = Math.round(1000 * (e.clientX - r.left) / r.width);
  move();
});
for (const b of buttons) b.addEventListener("click", () => {
  for (const other of buttons) other.setAttribute("aria-pressed", String(other === b));
  over.src = b.dataset.from ? document.getElementById(b.dataset.from).src : first;
  name.textContent = b.textContent;
});
move();
