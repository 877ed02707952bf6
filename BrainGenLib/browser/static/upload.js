// Files go over HTTP, not over the websocket: they stream to disk, and the page stays responsive.
window.braingenUpload = async (input, kind) => {
  const form = new FormData();
  for (const file of input.files) form.append("file", file, file.name);
  input.value = "";
  await fetch(`upload?kind=${kind}`, { method: "POST", body: form });
};
