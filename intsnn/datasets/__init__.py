"""Where do data come from? Images and event recordings by name, and files of the user."""

from ..support.faces import attach

__all__, __getattr__, __dir__ = attach(
    __name__,
    {
        "binned": "EventInputs event_inputs",
        "camera": "CAMERA EVENT Camera pixel_table place stream stream_frames trajectory",
        "catalogue": "NAMES Dataset full_scale load",
        "decoders": "decode_jpeg read_cifar_binary read_cifar_pickle read_idx read_npy read_npz",
        "event_files": "checked_events contents event_stream event_table five_bytes stream_sensor",
        "events": "EventSet is_event_data load_events",
        "framing": "check_binning frame_set frame_shape frames warn_if_empty",
        "overlap": "Overlap check_overlap digests unseen",
        "segments": "BACKGROUND compose",
        "splitmix": "shuffled words",
    },
)
