"""Why a file of some kind is not taken, and what to do instead; codes are those of security.md 3.2."""

from __future__ import annotations

from collections.abc import Mapping

from optimizer.errors import InputError
from optimizer.formats.openvino_rules import WEIGHTS_SUFFIX, description_missing

EXPORT = "export it to ONNX, with PyTorch by torch.onnx.export(model, (example,), 'model.onnx', dynamo=True), and upload the .onnx"
HUGGING_FACE = "run 'optimum-cli export onnx --model MODEL_ID out' on the original Hugging Face model and upload out/model.onnx"
DECLARE = "an architecture.json that declares their layers"
REFUSALS: Mapping[str, tuple[str, str]] = {
    "safetensors": ("format.not_yet", f"safetensors weights say nothing of the network around them; zip them with their config.json or {DECLARE}, or {HUGGING_FACE}."),
    "gguf": ("format.not_yet", f"GGUF models are not supported yet; {HUGGING_FACE}."),
    "openvino_ir": ("format.not_dataset", "This is an OpenVINO model; upload it as a model, not as a dataset."),
    "hugging_face": ("format.not_dataset", "This is a Hugging Face model; upload it as a model, not as a dataset."),
    "declared_layers": ("format.not_dataset", "These are weights with their architecture; upload them as a model, not as a dataset."),
    "ort": ("format.not_yet", "Models in ORT format are not supported yet; upload the .onnx it was made from."),
    "tflite": ("format.not_yet", "TensorFlow Lite models are not supported yet; run 'python -m tf2onnx.convert --tflite model.tflite --output model.onnx' and upload the .onnx."),
    "saved_model": ("format.not_yet", "TensorFlow SavedModels are not supported yet; run 'python -m tf2onnx.convert --saved-model DIR --output model.onnx' and upload the .onnx."),
    "frozen_graph": ("format.not_yet", "Frozen TensorFlow graphs are not supported yet; run 'python -m tf2onnx.convert --graphdef graph.pb --inputs INPUT:0 --outputs OUTPUT:0 --output model.onnx' and upload the .onnx."),
    "coreml": ("format.not_yet", f"Core ML models are compiled for one vendor's devices and give no ONNX; take the network they were made from, {EXPORT}."),
    "npz": ("format.not_model", "This is an .npz of arrays; upload it as a dataset, not as a model."),
    "npy": ("format.not_model", "This is a single numpy array; pack arrays named after the model's inputs with numpy.savez and upload a dataset."),
    "onnx": ("format.not_dataset", "This is an ONNX model; upload it as a model, not as a dataset."),
    "zip": ("format.not_dataset", "This zip holds no arrays; write datasets with numpy.savez(path, **arrays)."),
    "torch": ("model.code_disabled", f"PyTorch files run code when opened and are not taken alone; zip torch.save(model.state_dict(), ...) with {DECLARE}, or load it yourself, {EXPORT}."),
    "torchscript": ("model.code_disabled", "TorchScript files run code when opened and are not taken; run torch.onnx.export(torch.jit.load('model.pt'), (example,), 'model.onnx', dynamo=False) and upload the .onnx."),
    "torch_export": ("model.code_disabled", "PyTorch .pt2 programs run code when opened and are not taken; run torch.onnx.export(torch.export.load('model.pt2'), (), 'model.onnx', dynamo=True) and upload the .onnx."),
    "keras": ("format.keras", "Keras and HDF5 files are not taken because they can run code when opened; run keras.saving.load_model('model.keras').export('model.onnx', format='onnx') and upload the .onnx."),
    "pickle": ("format.pickle", f"The file is a Python pickle (joblib writes them too), which runs code when opened, whatever its name; load it yourself and {EXPORT}, or with scikit-learn skl2onnx.to_onnx(model, X[:1]) and onnx.save."),
    "archive": ("format.archive", "tar, gzip and other archives are not taken; upload the .onnx itself or a plain .zip."),
    "native_code": ("format.native_code", "The file is compiled code or an engine built for one device; upload the ONNX model it was built from."),
    "image": ("format.unknown", "The file is a picture or document, not a model; upload an .onnx or a .zip that holds one."),
    "lfs_pointer": ("format.unknown", "The file is a Git LFS pointer, not the model; run 'git lfs pull' and upload the file it then becomes."),
    "web_page": ("format.unknown", "The file is a web page, not a model; the download probably needed a login. Download the model again."),
    "text": ("format.unknown", "The file is text, not a model; upload an .onnx or a .zip that holds one."),
    "unknown": ("format.unknown", f"The file is none of the known model formats; {EXPORT}."),
}  # fmt: skip


def refusal(kind: str, file_name: str) -> InputError:
    """The refusal of a file of that kind."""
    code, sentence = REFUSALS[kind]
    if code == "format.unknown" and kind == "unknown" and file_name.lower().endswith(".onnx"):
        return InputError("onnx.malformed", f"{file_name[-120:]!r} does not start as an ONNX model; export or download it again.")
    if kind == "unknown" and file_name.lower().endswith(WEIGHTS_SUFFIX):
        return description_missing(file_name)
    return InputError(code, sentence)
