// Files go over HTTP, not over the websocket: they stream to disk, and the page stays responsive.
window.braingenUpload = async (input, kind) => {
  const form = new FormData();
  for (const file of input.files) form.append("file", file, file.name);
  input.value = "";
  await fetch(`upload?kind=${kind}`, { method: "POST", body: form });
};

// Another arrangement of views builds the page anew; the panel stays where it was.
(() => {
  const find = () => document.getElementById("braingen-panel");
  let panel = null, place = 0;
  document.addEventListener("scroll", (event) => { if (event.target === panel) place = panel.scrollTop; }, true);
  new MutationObserver(() => {
    if (find() === panel) return;
    panel = find();
    const wanted = place;
    // Its sections unfold some moments after it is there.
    for (const wait of [0, 100, 400]) setTimeout(() => { if (panel) panel.scrollTop = wanted; }, wait);
  }).observe(document.documentElement, { childList: true, subtree: true });
})();

// The connection has ended: come back once the server answers. One that was started anew has another token.
(() => {
  const find = () => document.getElementById("braingen-gone");
  let asking = null;
  const ask = async () => {
    const answer = await fetch("index.html", { cache: "no-store" }).catch(() => null);
    if (answer?.ok) location.reload();
    if (answer?.status !== 403 || !find()) return;
    clearInterval(asking);
    for (const part of find().children) part.hidden = !part.hidden;
  };
  new MutationObserver(() => {
    if (find()) asking ??= setInterval(ask, 1000);
  }).observe(document.documentElement, { childList: true, subtree: true });
})();
