if __name__ != "intsnn.models":
    raise ImportError("import intsnn.models, not models")
