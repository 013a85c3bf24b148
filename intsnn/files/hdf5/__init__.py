"""How do arrays get in and out of HDF5 files without trusting the file?"""

from ...support.faces import attach

__all__, __getattr__, __dir__ = attach(
    __name__,
    {
        "child": "MAX_NAME MAX_OBJECTS MAX_TEXT",
        "read": "Tree read_tree read_tree_bytes",
        "stream": "RecordWriter open_record",
        "write": "storage write_tree",
    },
)
