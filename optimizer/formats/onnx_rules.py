"""Which ONNX versions and operator domains are taken (security.md 3.2)."""

from __future__ import annotations

from optimizer.errors import InputError
from optimizer.formats.onnx_facts import ModelFacts

# What the oldest supported onnxruntime (pyproject.toml) loads; a test asks the installed one.
MAX_IR_VERSION = 14
MAX_OPSET = {"": 28, "ai.onnx.ml": 5, "com.microsoft": 1}
OLDEST_GUARANTEED_OPSET = 7
FORBIDDEN = frozenset({("com.microsoft", "EPContext")})
ALIAS = {"ai.onnx": ""}


def plain_domain(domain: str) -> str:
    """``ai.onnx`` is another spelling of the default domain."""
    return ALIAS.get(domain, domain)


def check_rules(facts: ModelFacts) -> None:
    """Raises InputError ``onnx.opset`` (too new, or not declared), ``onnx.op_domain`` (custom operators)."""
    if not 1 <= facts.ir_version <= MAX_IR_VERSION:
        raise InputError(
            "onnx.opset",
            f"The file is written in ONNX IR version {facts.ir_version}; 1 to {MAX_IR_VERSION} are supported. "
            "Export with an older onnx package, or set model.ir_version.",
        )
    opsets = {plain_domain(domain): version for domain, version in facts.opsets.items()}
    if len(opsets) < len(facts.opsets):
        raise InputError("onnx.opset", "The file imports the domains '' and 'ai.onnx', which are the same; export it again.")
    for domain, highest in MAX_OPSET.items():
        _check_version(domain, opsets.get(domain, 1), highest)
    for function in facts.functions:
        for domain, version in function.opsets.items():
            _check_version(domain, version, MAX_OPSET.get(plain_domain(domain), version))
    _check_domains(facts, opsets)


def _check_version(domain: str, version: int, highest: int) -> None:
    if not 1 <= version <= highest:
        raise InputError(
            "onnx.opset",
            f"The model uses opset {version} of {domain or 'ai.onnx'!r}; 1 to {highest} are supported. "
            f"Export it with opset_version={highest}, or convert it with onnx.version_converter.",
        )


def _check_domains(facts: ModelFacts, opsets: dict[str, int]) -> None:
    defined = {(function.domain, function.name) for function in facts.functions}
    bodies = {function.body for function in facts.functions}
    for index, graph in enumerate(facts.graphs):
        for node in graph.nodes:
            domain = plain_domain(node.domain)
            if (domain, node.op_type) in FORBIDDEN:
                raise InputError(
                    "onnx.op_domain",
                    f"Node {node.name[:80]!r} holds a program compiled for one device ({node.op_type}); upload the model as it was before "
                    "that compilation.",
                )
            if (node.domain, node.op_type) in defined:
                continue
            if domain not in MAX_OPSET:
                raise InputError(
                    "onnx.op_domain",
                    f"Node {node.name[:80]!r} uses the custom operator {node.op_type[:80]!r} of domain {domain[:80]!r}. Custom operator "
                    "libraries are not loaded; export with standard operators or define it as a function in the model.",
                )
            if domain not in opsets and index not in bodies and graph.depth == 0:
                raise InputError(
                    "onnx.opset", f"The model uses operators of {domain or 'ai.onnx'!r} but imports no version of it; export it again."
                )


def rule_warnings(facts: ModelFacts) -> list[str]:
    """Sentences on what is taken but may not run."""
    opset = facts.opsets.get("", facts.opsets.get("ai.onnx", 0))
    if 0 < opset < OLDEST_GUARANTEED_OPSET:
        return [f"Opset {opset} is older than {OLDEST_GUARANTEED_OPSET}, the oldest that ONNX Runtime guarantees."]
    return []
