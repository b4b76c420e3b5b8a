"""Why a file of some kind is not taken, and what to do instead; codes are those of security.md 3.2."""

from __future__ import annotations

from collections.abc import Mapping

from optimizer.errors import InputError

EXPORT = "export it to ONNX (torch.onnx.export, tf2onnx or optimum-cli export onnx) and upload that"
REFUSALS: Mapping[str, tuple[str, str]] = {
    "safetensors": ("format.not_yet", f"safetensors weights say nothing of the network around them; zip them with their config.json, or {EXPORT}."),
    "gguf": ("format.not_yet", f"GGUF models are not supported yet; {EXPORT}."),
    "openvino_ir": ("format.not_yet", "OpenVINO IR is not supported yet; upload the ONNX model it was converted from."),
    "hugging_face": ("format.not_dataset", "This is a Hugging Face model; upload it as a model, not as a dataset."),
    "ort": ("format.not_yet", "Models in ORT format are not supported yet; upload the .onnx it was made from."),
    "tflite": ("format.not_yet", "TensorFlow Lite models are not supported yet; convert with 'python -m tf2onnx.convert --tflite MODEL'."),
    "saved_model": ("format.not_yet", "TensorFlow SavedModels are not supported yet; convert with 'python -m tf2onnx.convert --saved-model DIR'."),
    "coreml": ("format.not_yet", "CoreML models are not supported yet; export the original network to ONNX."),
    "npz": ("format.not_model", "This is an .npz of arrays; upload it as a dataset, not as a model."),
    "npy": ("format.not_model", "This is a single numpy array; pack arrays named after the model's inputs with numpy.savez and upload a dataset."),
    "onnx": ("format.not_dataset", "This is an ONNX model; upload it as a model, not as a dataset."),
    "zip": ("format.not_dataset", "This zip holds no arrays; write datasets with numpy.savez(path, **arrays)."),
    "torch": ("model.code_disabled", f"PyTorch files run code when opened and are not taken; {EXPORT}: torch.onnx.export(model, inputs, 'model.onnx')."),
    "keras": ("format.keras", "Keras and HDF5 files are not taken because they can run code when opened; convert with tf2onnx and upload the .onnx."),
    "pickle": ("format.pickle", f"The file is a Python pickle, which runs code when opened, whatever its name; {EXPORT}."),
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
    return InputError(code, sentence)
