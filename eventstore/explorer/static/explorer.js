"use strict";
// The pages work without this: it keeps what is newest up to date, and gives keys to those who like them.
const live = document.getElementById("live");
if (live) {
    const look = async () => {
        if (!document.hidden && !live.matches(":focus-within")) {
            try {
                const answer = await fetch(live.dataset.source, { credentials: "same-origin" });
                live.innerHTML = await answer.text();
            } catch {
                // The server is away; the next look follows.
            }
        }
        setTimeout(look, pause);
    };
    const pause = 1000 * Number(live.dataset.seconds);
    setTimeout(look, pause);
}
for (const form of document.querySelectorAll("form[data-submit]")) {
    form.addEventListener("change", () => form.requestSubmit());
}
let goes = false;
document.addEventListener("keydown", (pressed) => {
    if (pressed.ctrlKey || pressed.metaKey || pressed.altKey || pressed.target.matches("input")) return;
    const link = goes && document.querySelector(`nav a[data-key="${CSS.escape(pressed.key)}"]`);
    goes = pressed.key === "g";
    if (link) link.click();
    else if (pressed.key === "n") document.querySelector("a[rel=next]")?.click();
    else if (pressed.key === "/") {
        const search = document.querySelector("[data-search]");
        if (search) { pressed.preventDefault(); search.focus(); }
    }
});
