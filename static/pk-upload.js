/* Upload with checks before sending: magic bytes and size first, then resumable tus pieces of 8 MiB. */
const PIECE = 8 * 1024 * 1024;
const MIB = 1024 * 1024;
const begins = (bytes, ...expected) => expected.every((value, index) => bytes[index] === value);

function kindOf(bytes) {
  const text = new TextDecoder("latin1").decode(bytes);
  if (begins(bytes, 0x50, 0x4b, 0x03, 0x04)) {
    if (text.includes("data.pkl") || text.includes(".pkl")) return "torch";
    return text.includes(".npy") ? "npz" : "zip";
  }
  if (begins(bytes, 0x80) && bytes[1] >= 2 && bytes[1] <= 5) return "pickle";
  if (text.startsWith("GGUF")) return "gguf";
  if (text.startsWith("\u0089HDF")) return "hdf5";
  if (text.startsWith("<?xml") || text.startsWith("<net")) return "xml";
  if (text.slice(4, 8) === "TFL3") return "tflite";
  if (text.slice(8, 9) === "{" && bytes[7] === 0) return "safetensors";
  if (begins(bytes, 0x08) && bytes[1] > 0 && bytes[1] < 0x20) return "onnx";
  return "unknown";
}

const EXPORT = "Export it to ONNX first: torch.onnx.export(model, example, \"model.onnx\", dynamo=True)";
const REFUSED = {
  pickle: `This is a Python pickle; it can run code when loaded. ${EXPORT}.`,
  torch: `This is a PyTorch file (zip with a pickle inside); it can run code when loaded. ${EXPORT}.`,
  hdf5: "This is an HDF5 (Keras) file. Convert it to ONNX with tf2onnx first.",
  tflite: "This is a TensorFlow Lite file. Convert it to ONNX with tflite2onnx or tf2onnx first.",
  gguf: "This is a GGUF file; this server reads ONNX so far.",
  safetensors: "These are bare weights (safetensors). Put them into one .zip with their config.json and tokenizer files, or export the model to ONNX.",
  xml: "An OpenVINO model is two files. Put the .xml and its .bin into one .zip and choose that.",
};

function size(bytes) {
  if (bytes >= 1024 * MIB) return `${(bytes / MIB / 1024).toFixed(2)} GiB`;
  return bytes >= MIB ? `${(bytes / MIB).toFixed(1)} MiB` : `${Math.max(1, Math.round(bytes / 1024))} KiB`;
}

class PkUpload extends HTMLElement {
  connectedCallback() {
    this.input = this.querySelector('input[type="file"]');
    this.zone = this.querySelector(".pk-drop-zone");
    this.form = this.querySelector("form");
    if (!this.input || !window.tus) return;
    this.input.addEventListener("change", () => this.offer(this.input.files[0]));
    for (const kind of ["dragenter", "dragover"]) this.zone.addEventListener(kind, (event) => { event.preventDefault(); this.zone.dataset.over = ""; });
    for (const kind of ["dragleave", "drop"]) this.zone.addEventListener(kind, () => delete this.zone.dataset.over);
    this.zone.addEventListener("drop", (event) => { event.preventDefault(); this.offer(event.dataTransfer.files[0]); });
    this.form.addEventListener("submit", (event) => { if (!this.done) event.preventDefault(); });
    this.part("remove")?.addEventListener("click", () => this.remove());
    window.addEventListener("offline", () => { if (this.upload) this.say("Paused, will resume when the network is back"); });
    window.addEventListener("online", () => { if (this.upload && !this.done) this.upload.start(); });
    this.form.querySelector('button[type="submit"]').disabled = true;
    this.offer(this.input.files[0]); // chosen before this script ran, or kept by the browser over a reload
  }

  part(name) { return this.querySelector(`[data-part="${name}"]`); }

  say(words) { this.part("state").textContent = words; }

  refuse(words) {
    this.part("problem").textContent = words;
    this.part("problem-box").hidden = false;
    this.part("file").hidden = true;
    this.zone.hidden = false;
    this.input.value = "";
    this.input.setAttribute("aria-invalid", "true");
    this.input.focus();
    window.pk?.announce(words);
  }

  async offer(file) {
    if (!file) return;
    this.part("problem-box").hidden = true;
    this.input.removeAttribute("aria-invalid");
    const limit = Number(this.dataset.limit);
    if (file.size === 0) return this.refuse(`${file.name} is empty. Choose the exported file.`);
    if (file.size > limit) return this.refuse(`${file.name} has ${size(file.size)}; the limit is ${size(limit)}.`);
    const kind = kindOf(new Uint8Array(await file.slice(0, 4096).arrayBuffer()));
    const wanted = this.dataset.accepts.split(" ");
    if (!wanted.includes(kind)) return this.refuse(REFUSED[kind] ?? `${file.name} does not look like ${this.dataset.wants}. Choose another file.`);
    this.begin(file, kind);
  }

  begin(file, kind) {
    this.zone.hidden = true;
    this.part("file").hidden = false;
    this.part("name").textContent = file.name;
    this.part("size").textContent = size(file.size);
    this.part("looks").textContent = { onnx: "looks like ONNX", zip: "a zip; the server will look for the model in it", npz: "looks like NumPy arrays" }[kind];
    this.suggest(file.name);
    this.started = performance.now();
    this.upload = new tus.Upload(file, {
      endpoint: this.dataset.endpoint,
      chunkSize: PIECE,
      retryDelays: [0, 1000, 3000, 5000, 10000, 20000],
      headers: { "X-CSRFToken": window.pk.csrf(), ...JSON.parse(this.dataset.headers || "{}") },
      metadata: { filename: file.name, role: this.dataset.role },
      removeFingerprintOnSuccess: true,
      onProgress: (sent, total) => this.progress(sent, total),
      onError: (error) => this.failed(error),
      onSuccess: () => this.finish(file),
    });
    this.upload.findPreviousUploads().then((earlier) => {
      if (earlier.length) this.upload.resumeFromPreviousUpload(earlier[0]);
      this.upload.start();
    });
    this.say("Uploading");
  }

  suggest(name) {
    const field = this.form.querySelector('input[name="name"]');
    if (field && !field.value) field.value = name.replace(/\.(onnx|zip|npz)$/i, "");
  }

  progress(sent, total) {
    const seconds = (performance.now() - this.started) / 1000;
    const rate = sent / Math.max(seconds, 0.001);
    const bar = this.part("bar");
    bar.max = total;
    bar.value = sent;
    const left = rate > 0 ? Math.ceil((total - sent) / rate) : 0;
    const share = Math.floor((sent / total) * 100);
    this.say(sent === total ? "Verifying checksum" : `${share}%, ${size(rate)}/s, ${left} s left`);
  }

  failed(error) {
    let words = "The upload stopped. Choose the file again; it continues where it was.";
    try { words = JSON.parse(error.originalResponse.getBody()).detail ?? words; } catch { /* no problem document: the sentence above stands */ }
    this.upload = null;
    this.refuse(words);
  }

  finish() {
    this.done = true;
    this.form.querySelector('input[name="upload"]').value = this.upload.url.replace(/\/$/, "").split("/").pop();
    this.input.disabled = true;
    const bar = this.part("bar");
    bar.value = bar.max;
    this.say("Uploaded");
    window.pk?.announce("Uploaded. Save to let the server read it.");
    const button = this.form.querySelector('button[type="submit"]');
    button.disabled = false;
    button.focus();
  }

  remove() {
    this.upload?.abort(true).catch(() => {});
    this.upload = null;
    this.done = false;
    this.input.disabled = false;
    this.input.value = "";
    this.form.querySelector('input[name="upload"]').value = "";
    this.form.querySelector('button[type="submit"]').disabled = true;
    this.part("file").hidden = true;
    this.zone.hidden = false;
    this.input.focus();
  }
}
customElements.define("pk-upload", PkUpload);
