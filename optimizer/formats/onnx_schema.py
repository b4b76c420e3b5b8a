"""Field numbers of ``onnx.proto`` as far as the reader looks (a test compares them with the installed onnx package)."""

from __future__ import annotations

from optimizer.formats.protobuf import Field, Kind

MAX_NODES = 250_000
MAX_TENSORS = 100_000
MAX_RANK = 16

INT, TEXT, DATA, MESSAGE, FLOAT, DOUBLE = Kind.INT, Kind.TEXT, Kind.DATA, Kind.MESSAGE, Kind.FLOAT, Kind.DOUBLE


def _many(name: str, kind: Kind = MESSAGE, most: int = 1_000_000) -> Field:
    return Field(name, kind, repeated=True, most=most)


MODEL = {
    1: Field("ir_version", INT),
    2: Field("producer_name", TEXT),
    3: Field("producer_version", TEXT),
    4: Field("domain", TEXT),
    5: Field("model_version", INT),
    6: Field("doc_string", TEXT),
    7: Field("graph", MESSAGE),
    8: _many("opset_import", most=1_000),
    14: _many("metadata_props", most=1_000),
    20: _many("training_info", most=16),
    25: _many("functions", most=10_000),
}
GRAPH = {
    1: _many("node", most=MAX_NODES),
    2: Field("name", TEXT),
    5: _many("initializer", most=MAX_TENSORS),
    10: Field("doc_string", TEXT),
    11: _many("input", most=MAX_TENSORS),
    12: _many("output", most=MAX_TENSORS),
    13: _many("value_info"),
    15: _many("sparse_initializer", most=MAX_TENSORS),
}
NODE = {
    1: _many("input", TEXT, 10_000),
    2: _many("output", TEXT, 10_000),
    3: Field("name", TEXT),
    4: Field("op_type", TEXT),
    5: _many("attribute", most=10_000),
    6: Field("doc_string", TEXT),
    7: Field("domain", TEXT),
    8: Field("overload", TEXT),
}
ATTRIBUTE = {
    1: Field("name", TEXT),
    2: Field("f", FLOAT),
    3: Field("i", INT),
    4: Field("s", DATA),
    5: Field("t", MESSAGE),
    6: Field("g", MESSAGE),
    7: _many("floats", FLOAT),
    8: _many("ints", INT),
    9: _many("strings", DATA),
    10: _many("tensors", most=MAX_TENSORS),
    11: _many("graphs", most=1_000),
    13: Field("doc_string", TEXT),
    14: Field("tp", MESSAGE),
    15: _many("type_protos", most=1_000),
    20: Field("type", INT),
    21: Field("ref_attr_name", TEXT),
    22: Field("sparse_tensor", MESSAGE),
    23: _many("sparse_tensors", most=MAX_TENSORS),
}
TENSOR = {
    1: _many("dims", INT, MAX_RANK),
    2: Field("data_type", INT),
    3: Field("segment", MESSAGE),
    4: _many("float_data", FLOAT),
    5: _many("int32_data", INT),
    6: _many("string_data", DATA),
    7: _many("int64_data", INT),
    8: Field("name", TEXT),
    9: Field("raw_data", DATA),
    10: _many("double_data", DOUBLE),
    11: _many("uint64_data", INT),
    12: Field("doc_string", TEXT),
    13: _many("external_data", most=16),
    14: Field("data_location", INT),
}
SPARSE_TENSOR = {1: Field("values", MESSAGE), 2: Field("indices", MESSAGE), 3: _many("dims", INT, MAX_RANK)}
VALUE_INFO = {1: Field("name", TEXT), 2: Field("type", MESSAGE), 3: Field("doc_string", TEXT)}
TYPE = {
    1: Field("tensor_type", MESSAGE),
    4: Field("sequence_type", MESSAGE),
    5: Field("map_type", MESSAGE),
    6: Field("denotation", TEXT),
    7: Field("opaque_type", MESSAGE),
    8: Field("sparse_tensor_type", MESSAGE),
    9: Field("optional_type", MESSAGE),
}
TENSOR_TYPE = {1: Field("elem_type", INT), 2: Field("shape", MESSAGE)}
SEQUENCE_TYPE = {1: Field("elem_type", MESSAGE)}
OPTIONAL_TYPE = {1: Field("elem_type", MESSAGE)}
MAP_TYPE = {1: Field("key_type", INT), 2: Field("value_type", MESSAGE)}
SHAPE = {1: _many("dim", most=MAX_RANK)}
DIMENSION = {1: Field("dim_value", INT), 2: Field("dim_param", TEXT), 3: Field("denotation", TEXT)}
OPERATOR_SET = {1: Field("domain", TEXT), 2: Field("version", INT)}
KEY_VALUE = {1: Field("key", TEXT), 2: Field("value", TEXT)}
FUNCTION = {
    1: Field("name", TEXT),
    4: _many("input", TEXT, 10_000),
    5: _many("output", TEXT, 10_000),
    6: _many("attribute", TEXT, 10_000),
    7: _many("node", most=MAX_NODES),
    8: Field("doc_string", TEXT),
    9: _many("opset_import", most=1_000),
    10: Field("domain", TEXT),
    11: _many("attribute_proto", most=10_000),
    12: _many("value_info"),
    13: Field("overload", TEXT),
}
TRAINING_INFO = {1: Field("initialization", MESSAGE), 2: Field("algorithm", MESSAGE)}


# Bits of one element; the names are numpy's (ml_dtypes for the narrow ones).
DTYPES: dict[int, tuple[str, int]] = {
    1: ("float32", 32),
    2: ("uint8", 8),
    3: ("int8", 8),
    4: ("uint16", 16),
    5: ("int16", 16),
    6: ("int32", 32),
    7: ("int64", 64),
    8: ("string", 0),
    9: ("bool", 8),
    10: ("float16", 16),
    11: ("float64", 64),
    12: ("uint32", 32),
    13: ("uint64", 64),
    14: ("complex64", 64),
    15: ("complex128", 128),
    16: ("bfloat16", 16),
    17: ("float8_e4m3fn", 8),
    18: ("float8_e4m3fnuz", 8),
    19: ("float8_e5m2", 8),
    20: ("float8_e5m2fnuz", 8),
    21: ("uint4", 4),
    22: ("int4", 4),
    23: ("float4_e2m1fn", 4),
    24: ("float8_e8m0fnu", 8),
    25: ("uint2", 2),
    26: ("int2", 2),
    27: ("float6_e2m3fn", 6),
    28: ("float6_e3m2fn", 6),
}
