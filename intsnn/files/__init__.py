"""How is a network kept? Files of ours, checked before memory is taken."""

from ..support.faces import attach

__all__, __getattr__, __dir__ = attach(
    __name__,
    {
        "network_file": (
            "FileInfo SCHEMA component from_tree info_from_tree is_ours load network_digest read_info save stored_bytes"
        ),
        "nodes": "LAYERS QUANTISED read_layer stored_fields write_layer",
        "npy": "BUDGET Header read_array read_exactly read_header",
        "recording": "LENGTHS Recording RecordingWriter stored_type",
        "values": (
            "NONE PACKED Budget Record code_of get_bool get_fixed get_float get_floats get_format "
            "get_int get_integers get_json get_padding get_pair get_range get_scale get_sizes get_text "
            "get_texts get_weights mode_getter narrowest plain_text put_bool put_float put_floats "
            "put_format put_int put_integers put_json put_mode put_padding put_pair put_range put_scale "
            "put_sizes put_text put_texts put_weights refusal"
        ),
        "hdf5.read": "Tree read_tree read_tree_bytes",
        "hdf5.stream": "RecordWriter open_record",
        "hdf5.write": "storage write_tree",
    },
)
