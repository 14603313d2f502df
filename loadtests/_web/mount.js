// Puts the panel below Locust's table while its tab is open, and says beside the form what is being prepared.
import { show } from "./panel.js";

const USUAL = new URL(import.meta.url).searchParams.get("user");
const base = new URL("..", import.meta.url).pathname.replace(/\/$/, "");
const panel = document.createElement("section");
const notice = document.createElement("p");
notice.className = "tb-notice";
notice.id = "trackbench-notice";
notice.setAttribute("role", "status");
notice.hidden = true;
panel.id = "trackbench";
panel.hidden = true;
show(panel, base, {
  table: false,
  told: (state) => {
    notice.hidden = state.stage !== "preparing";
    notice.textContent = `Trackbench prepares the test … ${state.lines.at(-1) ?? ""}`;
  },
});
document.body.prepend(notice);

// Locust draws its page anew whenever it likes: the panel is put where it belongs whenever it is elsewhere.
const place = () => {
  const selected = document.querySelector('[role="tab"][aria-selected="true"]');
  const open = selected?.textContent.trim().toLowerCase() === "trackbench";
  if (open) {
    const content = selected.closest(".MuiContainer-root") ?? document.body;
    if (content.lastElementChild !== panel) content.append(panel);
  }
  if (panel.hidden === open) panel.hidden = !open;
};

// Locust's form begins with every user class ticked, but a test has one: ours begins with the usual one.
let chosen = false;
const choose = () => {
  const boxes = [...document.querySelectorAll('tr input[type="checkbox"]')];
  const named = (box) => [...box.closest("tr").cells].some((cell) => cell.textContent.trim() === USUAL);
  const usual = boxes.find(named);
  if (chosen || !usual || !boxes.every((box) => box.checked)) return;
  chosen = true;
  for (const box of boxes) if (box !== usual && box.closest("tr").textContent.trim()) box.click();
};

new MutationObserver(() => { place(); choose(); }).observe(document.getElementById("root"), { childList: true, subtree: true, attributes: true });
place();
choose();
