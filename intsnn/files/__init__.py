"""How is a network kept? Files of ours, checked before memory is taken."""

from ..support.faces import attach

__all__, __getattr__, __dir__ = attach(
    __name__,
    {
        "network_file": (
            "FileInfo SCHEMA component from_tree info_from_tree is_ours load network_digest read_info save stored_bytes"
        ),
        "nodes": "FLOAT_NODES LAYERS QUANTISED read_layer stored_fields write_layer",
        "npy": "BUDGET Header read_array read_exactly read_header",
        "recording": "LENGTHS Recording RecordingWriter stored_type",
        "arrays": "FLOATS INTEGERS PLACES float_weights get_weights narrowest put_weights",
        "record": "NONE PACKED Budget Record code_of refusal",
        "values": (
            "BOOL CODECS Codec FIXED FLOAT FORMAT INT JSON PADDING PAIR RANGE SCALE SIZES TEXT TEXTS mode plain_text"
        ),
        "hdf5.read": "Tree read_tree read_tree_bytes",
        "hdf5.stream": "RecordWriter open_record",
        "hdf5.write": "storage write_tree",
    },
)
